//! Training: documents from the corpus, packed; a warm-up, a level stretch and a descent of the
//! learning rate; checkpoints that a later run can go on from.

use crate::corpus::{Corpus, held_out};
use crate::model::{CONTEXT, Model, Packed};
use crate::ops::CrossEntropy;
use crate::optim::{Optimizer, Rates};
use crate::random::Random;
use crate::tokens::{Tokens, ids, learn, load, tokens};
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokenizers::Tokenizer;

/// What a run is.
pub struct Plan {
    pub seed: u64,
    pub steps: usize,
    /// Tokens of one step, at least.
    pub batch: usize,
    pub warm_up: usize,
    /// Part of the steps in which the rate goes down to nothing.
    pub descent: f64,
    pub rates: Rates,
    pub checkpoints: PathBuf,
    pub log: PathBuf,
    pub resume: bool,
}

/// Documents from which the vocabulary is learnt.
const VOCABULARY_DOCUMENTS: usize = 15_000;
const LOG_EVERY: usize = 20;
const SAVE_EVERY: usize = 100;

impl Plan {
    /// The learning rates of a step, from 0.
    fn rates(&self, step: usize) -> Rates {
        let rise = (step + 1) as f64 / self.warm_up as f64;
        let left = (self.steps.saturating_sub(step)) as f64;
        let fall = left / (self.descent * self.steps as f64);
        let part = rise.min(fall).min(1.);
        Rates { muon: self.rates.muon * part, adam: self.rates.adam * part, ..self.rates }
    }
}

/// One step's documents; inputs and targets are one token apart.
struct Step {
    packed: Packed,
    targets: Arc<Vec<u32>>,
    weights: Arc<Vec<f32>>,
}

fn pack(documents: &[Tokens]) -> Step {
    let (mut tokens, mut targets, mut weights, mut lengths) = (vec![], vec![], vec![], vec![]);
    for d in documents.iter().filter(|d| d.ids.len() > 1) {
        let n = d.ids.len() - 1;
        tokens.extend(&d.ids[..n]);
        targets.extend(&d.ids[1..]);
        weights.extend(&d.weights[1..]);
        lengths.push(n);
    }
    Step {
        packed: Packed { tokens, lengths: Arc::new(lengths) },
        targets: Arc::new(targets),
        weights: Arc::new(weights),
    }
}

fn loss(model: &Model, step: &Step) -> Result<Tensor> {
    let (targets, weights) = (step.targets.clone(), step.weights.clone());
    Ok(model.logits(&step.packed)?.apply_op1(CrossEntropy { targets, weights })?)
}

/// Trains, from the start or from the last checkpoint.
pub fn train(plan: &Plan) -> Result<()> {
    std::fs::create_dir_all(&plan.checkpoints)?;
    let corpus = Corpus::read()?;
    let tokenizer = vocabulary(plan, &corpus)?;
    let model = Model::new(tokenizer.get_vocab_size(true), plan.seed)?;
    let mut optimizer = Optimizer::new(&model)?;
    let saved = plan.checkpoints.join("last.safetensors");
    let mut log = Log::open(&plan.log, plan.resume)?;
    if plan.resume {
        restore(&model, &mut optimizer, &saved)?;
    }
    log.line(&format!(
        "seed {} steps {} from {} batch {} muon {} adam {} decay {} vocabulary {} parameters {}",
        plan.seed,
        plan.steps,
        optimizer.step,
        plan.batch,
        plan.rates.muon,
        plan.rates.adam,
        plan.rates.decay,
        tokenizer.get_vocab_size(true),
        model.vars.values().map(|v| v.elem_count()).sum::<usize>(),
    ))?;
    let held_out = held_out_steps(&tokenizer, plan.seed)?;
    let start = Instant::now();
    let (mut seen, mut sum, mut summed) = (0, 0f64, 0);
    while optimizer.step < plan.steps {
        let at = optimizer.step;
        let step = step_documents(&corpus, &tokenizer, plan, at)?;
        let loss = loss(&model, &step)?;
        let grads = loss.backward()?;
        let norm = optimizer.step(&model, &grads, plan.rates(at))?;
        sum += f64::from(loss.to_scalar::<f32>()?);
        summed += 1;
        seen += step.packed.tokens.len();
        let (at, last) = (optimizer.step, optimizer.step == plan.steps);
        if at % LOG_EVERY == 0 || last {
            let mut line = String::new();
            let part = plan.rates(at - 1).muon / plan.rates.muon;
            let s = start.elapsed().as_secs();
            write!(
                line,
                "step {at} loss {:.4} norm {norm:.2} rate {part:.3}",
                sum / f64::from(summed)
            )?;
            write!(line, " tokens {seen} seconds {s}")?;
            if at % SAVE_EVERY == 0 || last {
                save(&model, &optimizer, &saved)?;
                write!(line, " held-out {:.4}", held_out_loss(&model, &held_out)?)?;
            }
            log.line(&line)?;
            (sum, summed) = (0., 0);
        }
    }
    Ok(())
}

fn vocabulary(plan: &Plan, corpus: &Corpus) -> Result<Tokenizer> {
    let path = plan.checkpoints.join("tokenizer.json");
    if plan.resume {
        return load(&path);
    }
    let mut random = Random::new(plan.seed);
    let documents = (0..VOCABULARY_DOCUMENTS).map(|_| corpus.document(&mut random));
    let tokenizer = learn(&documents.collect::<Result<Vec<_>>>()?)?;
    tokenizer.save(&path, false).map_err(|e| anyhow::anyhow!(e))?;
    Ok(tokenizer)
}

/// The documents of a step; they follow from the seed and the step alone.
fn step_documents(corpus: &Corpus, tokenizer: &Tokenizer, plan: &Plan, at: usize) -> Result<Step> {
    let mut random = Random::new(plan.seed.wrapping_mul(1_000_003) ^ (at as u64 + 1));
    let (mut all, mut n) = (Vec::new(), 0);
    while n < plan.batch {
        let d = tokens(tokenizer, &corpus.document(&mut random)?, CONTEXT)?;
        n += d.ids.len();
        all.push(d);
    }
    // Similar lengths side by side change nothing; long documents first share the cores better.
    all.sort_by_key(|d| std::cmp::Reverse(d.ids.len()));
    Ok(pack(&all))
}

fn held_out_steps(tokenizer: &Tokenizer, seed: u64) -> Result<Vec<Step>> {
    let ids = ids(tokenizer, &held_out(seed)?)?;
    let chunk = |c: &[u32]| Tokens { ids: c.to_vec(), weights: vec![1.; c.len()] };
    Ok(ids.chunks(CONTEXT).map(|c| pack(&[chunk(c)])).collect())
}

fn held_out_loss(model: &Model, steps: &[Step]) -> Result<f32> {
    let (mut sum, mut n) = (0., 0.);
    for step in steps {
        let tokens = step.targets.len() as f32;
        sum += loss(model, step)?.to_scalar::<f32>()? * tokens;
        n += tokens;
    }
    Ok(sum / n)
}

fn save(model: &Model, optimizer: &Optimizer, path: &Path) -> Result<()> {
    let mut all: HashMap<String, Tensor> =
        model.vars.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect();
    optimizer.save(&mut all);
    all.insert("step".into(), Tensor::new(&[optimizer.step as u32], &Device::Cpu)?);
    let fresh = path.with_extension("new");
    candle_core::safetensors::save(&all, &fresh)?;
    std::fs::rename(fresh, path)?;
    Ok(())
}

fn restore(model: &Model, optimizer: &mut Optimizer, path: &Path) -> Result<()> {
    let all = candle_core::safetensors::load(path, &Device::Cpu)
        .with_context(|| format!("no checkpoint at {}", path.display()))?;
    for (name, var) in &model.vars {
        var.set(all.get(name).with_context(|| format!("the checkpoint lacks {name}"))?)?;
    }
    let step = all.get("step").context("the checkpoint lacks its step")?.to_vec1::<u32>()?;
    optimizer.restore(&all, step.first().copied().unwrap_or(0) as usize);
    Ok(())
}

/// Lines go to a file and to stdout.
struct Log(std::fs::File);

impl Log {
    fn open(path: &Path, append: bool) -> Result<Self> {
        let mut options = std::fs::OpenOptions::new();
        options.create(true).write(true).append(append).truncate(!append);
        Ok(Self(options.open(path)?))
    }

    fn line(&mut self, text: &str) -> Result<()> {
        println!("{text}");
        writeln!(self.0, "{text}")?;
        Ok(())
    }
}
