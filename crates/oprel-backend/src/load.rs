//! From a file to an engine ready to run.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use oprel_cpu::Isa;
use oprel_engine::{DraftModel, Engine, Options, Scope};
use oprel_gguf::Gguf;
use oprel_models::Model;
use oprel_nn::candle::CandleExec;
use oprel_nn::cpu::{CpuExec, CpuOptions};
use oprel_nn::describe::{Decoder, StateSpec, VDim};
use oprel_nn::{Dev, Exec, KvTypes, Placement};

use crate::disk::Disk;
use crate::{Error, Facts, Result, fingerprint};

/// Context length where neither user nor model asks for less.
const USUAL_CONTEXT: u32 = 4096;
/// Tokens of a prefill step.
const BATCH: u32 = 512;
const MOST_BATCH: u32 = 8192;
/// Sequences that run at a time, where nobody says otherwise; and at most.
const USUAL_SEQUENCES: u32 = 16;
const MOST_SEQUENCES: u32 = 512;
/// The part of free memory that pages for several sequences may take: a fourth.
const PART: u64 = 4;
/// Free memory where the system does not tell.
const USUAL_FREE: u64 = 4 << 30;
/// More threads than any machine has cores.
const MOST_THREADS: usize = 1024;

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// A GGUF file.
    File(PathBuf),
    /// The model that is built into the program.
    Demo,
}

/// Which executor runs the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Executor {
    /// Our CPU kernels over the mapped file.
    #[default]
    Cpu,
    /// candle operations in f32: the reference, slow and large.
    Candle,
}

/// How a model is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Context length; unset, the model's own up to 4096.
    pub context: Option<u32>,
    /// Unset, let the context be as long as the model was trained for and memory allows: pages are
    /// taken as sequences grow.
    pub longest: bool,
    /// Threads of the engine; unset, one for each physical core.
    pub threads: Option<usize>,
    /// Sequences that run at a time; unset, 16.
    pub parallel: Option<u32>,
    /// Most tokens of prompts in one step; unset, 512.
    pub batch: Option<u32>,
    /// Layers that a GPU is to have, -1 for all; unset, as many as fit. Our own engine runs on processors and
    /// has no use for it yet.
    pub gpu_layers: Option<i32>,
    /// How keys and values are stored.
    pub kv: KvTypes,
    /// Where prompts that were read are kept beyond this process; unset, nowhere.
    pub prompt_cache: Option<PromptCache>,
    /// Who runs it.
    pub executor: Executor,
    /// Instruction set of the CPU kernels by name, instead of the best that there is.
    pub isa: Option<String>,
    /// A smaller model of the same vocabulary, which proposes tokens where that pays.
    pub draft: Option<ModelSource>,
}

/// A folder for what prompts computed, so that it is not computed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptCache {
    /// The folder; it may be shared by models and processes.
    pub folder: PathBuf,
    /// Most bytes in it.
    pub most_bytes: u64,
}

/// What kernels run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Instruction set.
    pub isa: Isa,
    /// Threads of the engine.
    pub threads: usize,
}

impl ModelSource {
    /// Opens the file, without looking at its tensors.
    ///
    /// # Errors
    /// If there is no such file or it is no GGUF.
    pub fn open(&self) -> Result<Gguf> {
        match self {
            ModelSource::File(path) if is_missing(path) => {
                Err(Error::NoFile { path: path.display().to_string() })
            }
            ModelSource::File(path) => Ok(Gguf::open(path)?),
            ModelSource::Demo => Ok(oprel_models::demo()?),
        }
    }
}

/// Why the native engine will not run a file although the file is sound: its architecture, or a part of it,
/// is not described here. `None` for all other files.
pub fn why_unsupported(source: &ModelSource) -> Option<String> {
    use oprel_models::Error::{Architecture, Pending, Unsupported};
    match oprel_models::describe(&source.open().ok()?) {
        Err(error @ (Architecture { .. } | Pending { .. } | Unsupported { .. })) => {
            Some(error.to_string())
        }
        _ => None,
    }
}

/// Whether nothing is there. A file that may not be looked at is there: opening it says why not.
fn is_missing(path: &Path) -> bool {
    let missing = [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::InvalidFilename];
    path.metadata().is_err_and(|e| missing.contains(&e.kind()))
}

/// What an engine is made of, as often as that is tried.
struct Parts<'a> {
    model: &'a Model,
    draft: Option<&'a Model>,
    options: &'a LoadOptions,
}

impl Parts<'_> {
    fn make(&self, exec: Box<dyn Exec>, sizes: &Options) -> Result<Engine> {
        let scope = if self.model.causal { Scope::Causal } else { Scope::Bidirectional };
        let place = |model: &Model| Placement::all_on(Dev(0), model.decoder.layers().count());
        let (decoder, weights) = (&self.model.decoder, &self.model.weights);
        let engine = Engine::new(exec, decoder, weights, &place(self.model), scope, sizes)?;
        let Some(draft) = self.draft else { return Ok(engine) };
        Ok(engine.with_draft(DraftModel {
            exec: executor(self.options)?.0,
            decoder: &draft.decoder,
            weights: &draft.weights,
            placement: &place(draft),
        })?)
    }

    /// Most tokens of a sequence.
    fn context(&self) -> Result<u32> {
        let trained = self.model.decoder.context_length;
        match self.options.context {
            Some(0) => Err(Error::Option {
                option: "ctx-size",
                value: "0".into(),
                why: "must be 1 or more".into(),
            }),
            // An encoder reads a text whole: beyond what it was trained on it has no positions.
            Some(n) if !self.model.causal => Ok(n.min(trained)),
            Some(n) => Ok(n),
            None if self.options.longest => {
                let usual = trained.min(USUAL_CONTEXT);
                Ok(positions(self.bytes_of_token(), usual, trained).min(trained))
            }
            None => Ok(trained.min(USUAL_CONTEXT)),
        }
    }

    /// Bytes of keys and values of one token, of all models.
    fn bytes_of_token(&self) -> u64 {
        let models = [Some(self.model), self.draft];
        let kv = self.options.kv;
        models.into_iter().flatten().map(|m| bytes_of_token(&m.decoder, kv)).sum()
    }
}

/// The engine of a described model, with another one that proposes tokens for it.
pub(crate) fn engine(
    file: &Gguf,
    model: &Model,
    draft: Option<&Model>,
    options: &LoadOptions,
) -> Result<(Engine, Machine)> {
    let parts = Parts { model, draft, options };
    let context = parts.context()?;
    let sequences = options.parallel.unwrap_or(USUAL_SEQUENCES).clamp(1, MOST_SEQUENCES);
    let batch = options.batch.map_or(BATCH, |n| n.clamp(1, MOST_BATCH));
    let (exec, machine) = executor(options)?;
    let mut sizes = Options {
        // A text that is ranked is read at once.
        batch: if model.decoder.classifier.is_some() { context.max(batch) } else { batch },
        sequences,
        positions: match options.executor {
            Executor::Cpu => positions(parts.bytes_of_token(), context, sequences),
            // The reference takes its memory at once.
            Executor::Candle => context,
        },
        kv: options.kv,
        fingerprint: fingerprint::of(file, options.kv, context, machine, options.executor),
        ..Options::new(context)
    };
    let mut engine = match parts.make(exec, &sizes) {
        Err(Error::Engine(oprel_engine::Error::Nn(oprel_nn::Error::Memory { .. })))
            if sizes.positions > context =>
        {
            // A limit that the system does not tell of: one context may still fit.
            sizes.positions = context;
            parts.make(executor(options)?.0, &sizes)
        }
        made => made,
    }?;
    if let Some(cache) = options.prompt_cache.as_ref().filter(|_| model.causal) {
        let disk = Disk::open(&cache.folder, &sizes.fingerprint, cache.most_bytes);
        engine.set_store(Box::new(disk.map_err(|e| Error::Option {
            option: "prompt-cache",
            value: format!("'{}'", cache.folder.display()),
            why: e.to_string(),
        })?));
    }
    Ok((engine, machine))
}

/// Positions that there are pages for: a context for each sequence, while that is a small part of what
/// is free. Pages take no memory before they are used.
fn positions(bytes_of_token: u64, context: u32, sequences: u32) -> u32 {
    let room = free_memory().unwrap_or(USUAL_FREE) / PART / bytes_of_token.max(1);
    let wanted = u64::from(context) * u64::from(sequences);
    wanted.min(room).min(u64::from(u32::MAX / 2)).max(u64::from(context)) as u32
}

/// Bytes of keys and values of one token.
fn bytes_of_token(decoder: &Decoder, kv: KvTypes) -> u64 {
    let of_slot = |slot: &StateSpec| match *slot {
        StateSpec::Kv { heads, k, v, .. } => {
            let v = if let VDim::Own(v) = v { v } else { 0 };
            heads as usize * (kv.k.row_bytes(k as usize) + kv.v.row_bytes(v as usize))
        }
        _ => 0,
    };
    decoder.slots.iter().map(of_slot).sum::<usize>() as u64
}

/// Bytes that the system says are free, from Linux' memory information; `None` where it does not tell.
pub fn free_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes.saturating_mul(1024))
}

/// An executor, and what it runs with: instruction set and threads.
fn executor(options: &LoadOptions) -> Result<(Box<dyn Exec>, Machine)> {
    let threads = options.threads;
    if threads.is_some_and(|n| n == 0 || n > MOST_THREADS) {
        let value = threads.unwrap_or_default().to_string();
        let why = format!("must be from 1 to {MOST_THREADS}");
        return Err(Error::Option { option: "threads", value, why });
    }
    let isa = options.isa.as_deref().map(parse_isa).transpose()?;
    match options.executor {
        Executor::Candle => {
            Ok((Box::new(CandleExec::cpu()), Machine { isa: Isa::detect(), threads: 1 }))
        }
        Executor::Cpu => {
            let exec =
                CpuExec::new(CpuOptions { threads, isa }).map_err(oprel_engine::Error::from)?;
            let machine = Machine { isa: exec.isa(), threads: exec.n_threads() };
            Ok((Box::new(exec), machine))
        }
    }
}

fn parse_isa(name: &str) -> Result<Isa> {
    Isa::parse(name).map_err(|e| Error::Option {
        option: "OPREL_ISA",
        value: name.to_string(),
        why: e.to_string(),
    })
}

/// A file, described: what it is and what can be run of it.
pub(crate) fn describe(source: &ModelSource) -> Result<(Facts, Model)> {
    let file = source.open()?;
    let model = oprel_models::describe(&file)?;
    let facts = Facts::of(file, &model)?;
    Ok((facts, model))
}
