//! From a file to an engine ready to run.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use oprel_cpu::Isa;
use oprel_cpu::pool::MOST_THREADS;
use oprel_engine::fit::{self, Needs, Room, TooLarge, Wish};
use oprel_engine::{DraftModel, Engine, Options, Scope};
use oprel_gguf::Gguf;
use oprel_models::Model;
use oprel_nn::candle::CandleExec;
use oprel_nn::cpu::{CpuExec, CpuOptions};
use oprel_nn::{Dev, Exec, KvTypes, Placement};
use oprel_telemetry::{Roots, free_memory, suited_threads};

use crate::disk::Disk;
use crate::{Error, Facts, Result, draft, fingerprint};

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
    /// A chat template instead of the file's own.
    pub template: Option<String>,
    /// A smaller model of the same vocabulary, which proposes tokens where that pays.
    pub draft: Option<ModelSource>,
    /// The same, for whatever model has its vocabulary: others, and those that have one of their own, do without.
    pub usual_draft: Option<ModelSource>,
    /// Load it even if memory does not suffice: parts of the file are then read again and again, and the
    /// system may end this process.
    pub overcommit: bool,
    /// Most bytes that it may need, also where more is free; unset, what is free.
    pub most_memory: Option<u64>,
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
    threads: usize,
}

impl Parts<'_> {
    fn make(&self, exec: Box<dyn Exec>, sizes: &Options) -> Result<Engine> {
        let scope = self.scope();
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

    fn scope(&self) -> Scope {
        if self.model.causal { Scope::Causal } else { Scope::Bidirectional }
    }

    fn wish(&self) -> Wish {
        let LoadOptions { context, longest, parallel, batch, kv, .. } = *self.options;
        Wish { context, longest, parallel, batch, kv }
    }

    /// What both models need for one text of so many tokens; the reference is not counted.
    fn needs(&self, context: u32, kv: KvTypes) -> Result<Needs, oprel_engine::Error> {
        let isa = self.options.isa.as_deref().and_then(|name| Isa::parse(name).ok());
        let machine = (isa.unwrap_or_else(Isa::detect), self.threads);
        let of = |model: &Model, scope, options: &Options| {
            fit::needs((&model.decoder, &model.weights), scope, options, machine)
        };
        let options = Options { kv, ..self.wish().options(&self.model.decoder, context) };
        let needs = of(self.model, self.scope(), &options)?;
        let Some(draft) = self.draft else { return Ok(needs) };
        Ok(needs.and(of(draft, Scope::Causal, &Options { checkpoints: 0, ..options })?))
    }

    /// Bytes of keys and values of one token, of all models.
    fn bytes_of_token(&self) -> u64 {
        let models = [Some(self.model), self.draft];
        let kv = self.options.kv;
        models.into_iter().flatten().map(|m| fit::bytes_of_token(&m.decoder, kv)).sum()
    }

    /// Sizes of an engine that fits.
    fn sizes(&self) -> Result<Options> {
        let (decoder, wish) = (&self.model.decoder, self.wish());
        let LoadOptions { overcommit, most_memory, .. } = *self.options;
        let free = free_memory(&Roots::default());
        if self.options.context == Some(0) {
            let why = "must be 1 or more".into();
            return Err(Error::Option { option: "ctx-size", value: "0".into(), why });
        }
        let counts = self.options.executor == Executor::Cpu;
        // Most of it does not depend on the context.
        let guess = wish.asked((decoder, self.scope()));
        let needs = if counts { Some(self.needs(guess, wish.kv)?) } else { None };
        let sizes = (needs.as_ref().map_or(0, Needs::fixed), self.bytes_of_token());
        let most = Room::of(free, most_memory).map(|room| room.bytes);
        let context = wish.context((decoder, self.scope()), sizes, most);
        // A bound that a user set is kept even then.
        let held = Room::of(free.filter(|_| !overcommit), most_memory);
        if let (Some(needs), Some(room)) = (needs, held) {
            let needs = if context == guess { needs } else { self.needs(context, wish.kv)? };
            self.check(&needs, context, room)?;
        }
        let positions = match self.options.executor {
            Executor::Cpu => wish.positions(context, sizes, most),
            // The reference takes its memory at once.
            Executor::Candle => context,
        };
        Ok(Options { positions, ..wish.options(decoder, context) })
    }

    /// Refuses what cannot fit, and says what could.
    fn check(&self, needs: &Needs, context: u32, room: Room) -> Result<()> {
        if needs.total(context) <= room.bytes {
            return Ok(());
        }
        let asked = (context, self.options.kv);
        let refused = TooLarge::new(asked, room, |context, kv| self.needs(context, kv))?;
        Err(Error::TooLarge(Box::new(refused)))
    }
}

/// What a model needs as it would be loaded, by purpose, and the most tokens of a text.
///
/// # Errors
/// As loading it, save that there may not be so much memory.
pub fn needs(source: &ModelSource, options: &LoadOptions) -> Result<(Needs, u32)> {
    let file = source.open()?;
    let model = oprel_models::describe(&file)?;
    let draft = match (&options.draft, &options.usual_draft) {
        (Some(draft), _) => Some(oprel_models::describe(&draft.open()?)?),
        (None, Some(_)) => draft::choose(source, options, &Facts::of(file, &model, None)?)?.model,
        (None, None) => None,
    };
    let (draft, threads) = (draft.as_ref(), threads(options));
    let parts = Parts { model: &model, draft, options, threads };
    // What is chosen to fit is not what decides whether it does.
    let context = parts.wish().asked((&model.decoder, parts.scope()));
    Ok((parts.needs(context, options.kv)?, context))
}

/// Bytes that a model needs as it would be loaded: for one text as long as the options let it be.
///
/// # Errors
/// As [`needs`].
pub fn needed_bytes(source: &ModelSource, options: &LoadOptions) -> Result<u64> {
    let (needs, context) = needs(source, options)?;
    Ok(needs.total(context))
}

/// Whether so many bytes can be had, with some left for all else.
pub fn has_room(needed_bytes: u64) -> bool {
    let room = |free| needed_bytes.saturating_add(fit::margin(free)) <= free;
    free_memory(&Roots::default()).is_none_or(room)
}

/// The engine of a described model, with another one that proposes tokens for it.
pub(crate) fn engine(
    file: &Gguf,
    model: &Model,
    draft: Option<&Model>,
    options: &LoadOptions,
) -> Result<(Engine, Machine)> {
    let parts = Parts { model, draft, options, threads: threads(options) };
    let (exec, machine) = executor(options)?;
    let mut sizes = parts.sizes()?;
    let context = sizes.context;
    sizes.fingerprint = fingerprint::of(file, options.kv, context, machine, options.executor);
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

/// Threads of an executor: as many as are asked for, else as suit this machine.
fn threads(options: &LoadOptions) -> usize {
    options.threads.unwrap_or_else(|| suited_threads(&Roots::default()).min(MOST_THREADS))
}

/// An executor, and what it runs with: instruction set and threads.
fn executor(options: &LoadOptions) -> Result<(Box<dyn Exec>, Machine)> {
    let threads = threads(options);
    if threads == 0 || threads > MOST_THREADS {
        let value = threads.to_string();
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
pub(crate) fn describe(source: &ModelSource, template: Option<&str>) -> Result<(Facts, Model)> {
    let file = source.open()?;
    let model = oprel_models::describe(&file)?;
    let facts = Facts::of(file, &model, template)?;
    Ok((facts, model))
}
