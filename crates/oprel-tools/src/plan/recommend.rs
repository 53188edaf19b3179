//! Which of a model's files to take, and how to load it: chosen for a machine, with the reasons.

use oprel_engine::fit::{Bytes, margin};
use oprel_nn::{KvType, KvTypes};
use oprel_telemetry::Host;
use serde::Serialize;

use super::{Plan, PlanOptions, plan};
use crate::error::{Error, Result};

/// A context that most conversations do with.
const GOOD_CONTEXT: u32 = 8192;
/// Longer ones are not chosen unasked: all of it would be set apart.
const LONG_CONTEXT: u32 = 32768;
/// Tokens a second that people read without waiting.
pub(super) const PACE: f64 = 8.0;
/// Bits of a weight that are not felt: fewer are taken before the pace is missed.
pub(super) const FEW_BITS: f64 = 4.0;
/// Bits of a weight beyond which nothing is gained.
pub(super) const MANY_BITS: f64 = 8.6;

/// A file that could be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Its name, or where it is.
    pub name: String,
    /// Its file type: `Q4_K_M`.
    pub quant: String,
    /// Its bytes, all parts together.
    pub bytes: u64,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recommendation {
    /// The file to take, by its place in the list; `None` if none fits.
    pub file: Option<usize>,
    /// Its file type.
    pub quant: String,
    /// Most tokens of a text.
    pub context: u32,
    /// How keys and values are stored.
    pub kv: String,
    /// Threads.
    pub threads: usize,
    /// Layers for an accelerator, by a backend that runs on one; 0 where there is none.
    pub gpu_layers: usize,
    /// What it needs.
    pub needed_bytes: u64,
    /// Why.
    pub reasons: Vec<String>,
}

/// Chooses among files of one model, one of which is at hand: what others need besides their weights is
/// what this one needs. `read` is how many bytes of memory are read in a second, if that was measured.
///
/// # Errors
/// If the file at hand cannot be planned for, or the list is empty.
pub fn recommend(
    candidates: &[Candidate],
    (at_hand, options): (&oprel_gguf::Gguf, &PlanOptions),
    host: &Host,
    read: Option<f64>,
) -> Result<Recommendation> {
    if candidates.is_empty() {
        return Err(Error::Nothing);
    }
    let plan = plan(at_hand, options, host)?;
    let chooser = Chooser { plan: &plan, options, host, read };
    let mut reasons = Vec::new();
    let Some(file) = chooser.file(candidates, &mut reasons) else {
        return Ok(chooser.nothing(candidates, reasons));
    };
    let one = &candidates[file];
    let (context, kv, needed) = chooser.context(one, at_hand, &mut reasons)?;
    let threads = chooser.threads(&mut reasons);
    let gpu_layers = chooser.gpu_layers(one, &mut reasons);
    Ok(Recommendation {
        file: Some(file),
        quant: one.quant.clone(),
        context,
        kv: kv.to_string(),
        threads,
        gpu_layers,
        needed_bytes: needed,
        reasons,
    })
}

struct Chooser<'a> {
    plan: &'a Plan,
    options: &'a PlanOptions,
    host: &'a Host,
    read: Option<f64>,
}

impl Chooser<'_> {
    /// What may be used, some left for all else.
    fn room(&self) -> u64 {
        let room = self.host.memory.free_bytes.map(|free| free.saturating_sub(margin(free)));
        let bounds = room.into_iter().chain(self.options.most_memory);
        bounds.min().unwrap_or(u64::MAX)
    }

    /// What a file needs in place of the one at hand, with a text of so many tokens.
    fn needs(&self, bytes: u64, plan: &Plan, context: u32) -> u64 {
        let others = plan.needs.total(context).saturating_sub(plan.bytes.weights);
        others.saturating_add(self.weights(bytes))
    }

    /// Bytes that are mapped of a file of so many bytes: as large a part of it as of the one at hand.
    fn weights(&self, bytes: u64) -> u64 {
        let part = self.plan.bytes.weights as f64 / self.plan.file_bytes.max(1) as f64;
        (bytes as f64 * part) as u64
    }

    fn bits(&self, bytes: u64) -> f64 {
        8.0 * self.weights(bytes) as f64 / self.plan.work.n_weights.max(1.0)
    }

    /// Tokens a second that memory allows, for a file of so many bytes.
    fn pace(&self, bytes: u64) -> Option<f64> {
        let active = self.plan.work.active_bytes() / self.plan.bytes.weights.max(1) as f64;
        Some(self.read? / (active * self.weights(bytes) as f64).max(1.0))
    }

    /// The text that a file has to have room for: as long as asked for, else a usual one.
    fn usual(&self) -> u32 {
        self.options.context.unwrap_or(self.plan.context.min(4096))
    }

    /// The best file that fits: the largest, unless a smaller one is as good, or that one is slow.
    fn file(&self, candidates: &[Candidate], reasons: &mut Vec<String>) -> Option<usize> {
        let usual = self.usual();
        let fits = |i: &usize| self.needs(candidates[*i].bytes, self.plan, usual) <= self.room();
        let mut by_size: Vec<usize> = (0..candidates.len()).collect();
        by_size.sort_by_key(|&i| std::cmp::Reverse(candidates[i].bytes));
        let fitting: Vec<usize> = by_size.iter().copied().filter(fits).collect();
        let largest = *fitting.first()?;
        if let Some(&beyond) = by_size.iter().find(|i| !fits(i)) {
            let (beyond, room) = (&candidates[beyond], self.room());
            let needed = self.needs(beyond.bytes, self.plan, usual);
            reasons.push(format!(
                "{} needs {}, more than the {} that may be used",
                beyond.quant,
                Bytes(needed),
                Bytes(room)
            ));
        }
        let plain = |i: &usize| self.bits(candidates[*i].bytes) <= MANY_BITS;
        let best = fitting.iter().copied().find(plain).unwrap_or(largest);
        if best != largest {
            reasons.push(format!(
                "{} answers as {} does, in {} less",
                candidates[best].quant,
                candidates[largest].quant,
                Bytes(candidates[largest].bytes - candidates[best].bytes)
            ));
        }
        let chosen = self.fast_enough(candidates, &fitting, best, reasons);
        reasons.push(format!(
            "{} is the best that fits: {} of {}",
            candidates[chosen].quant,
            Bytes(self.needs(candidates[chosen].bytes, self.plan, usual)),
            Bytes(self.room())
        ));
        Some(chosen)
    }

    /// The largest file of at least four bits that keeps the pace; the best one if none does.
    fn fast_enough(
        &self,
        candidates: &[Candidate],
        fitting: &[usize],
        best: usize,
        reasons: &mut Vec<String>,
    ) -> usize {
        let pace = |i: usize| self.pace(candidates[i].bytes);
        if pace(best).is_none_or(|pace| pace >= PACE) {
            return best;
        }
        let smaller = fitting.iter().copied().filter(|&i| {
            let bytes = candidates[i].bytes;
            bytes <= candidates[best].bytes && self.bits(bytes) >= FEW_BITS
        });
        let smaller: Vec<usize> = smaller.collect();
        let fast = smaller.iter().copied().find(|&i| pace(i).is_some_and(|pace| pace >= PACE));
        let Some(chosen) = fast.or(smaller.last().copied()).filter(|&i| i != best) else {
            return best;
        };
        reasons.push(format!(
            "{} would make {:.1} tokens a second, {} makes {:.1}",
            candidates[best].quant,
            pace(best).unwrap_or(0.0),
            candidates[chosen].quant,
            pace(chosen).unwrap_or(0.0)
        ));
        chosen
    }

    /// The context: as asked for, else as long as memory allows, with keys and values in fewer bits where
    /// it would be short otherwise.
    fn context(
        &self,
        file: &Candidate,
        at_hand: &oprel_gguf::Gguf,
        reasons: &mut Vec<String>,
    ) -> Result<(u32, KvTypes, u64)> {
        let most = self.options.context.unwrap_or(self.plan.trained_context.min(LONG_CONTEXT));
        let kv = self.options.kv;
        let longest = |kv: KvTypes| -> Result<(u32, u64)> {
            let options = PlanOptions { context: Some(most), kv, ..self.options.clone() };
            let plan = plan(at_hand, &options, self.host)?;
            let needs = |context: u32| self.needs(file.bytes, &plan, context);
            let steps = (0..8).map(|halvings| most >> halvings).filter(|n| *n >= 512 || *n == most);
            let context = steps.into_iter().find(|&n| needs(n) <= self.room());
            let context = context.unwrap_or(most.min(512));
            Ok((context, needs(context)))
        };
        let (context, needed) = longest(kv)?;
        let small = KvTypes::both(KvType::Q8_0);
        if context < most.min(GOOD_CONTEXT) && kv == KvTypes::default() {
            let (longer, more) = longest(small)?;
            if longer > context {
                reasons.push(format!(
                    "keys and values in q8_0 leave room for {longer} tokens instead of {context}"
                ));
                return Ok((longer, small, more));
            }
        }
        let state = Bytes(self.plan.bytes_of_token * u64::from(context));
        reasons.push(match context == most {
            true => format!("{context} tokens take {state} of keys and values"),
            false => format!("{context} tokens are what memory has room for, of {most}"),
        });
        Ok((context, kv, needed))
    }

    fn threads(&self, reasons: &mut Vec<String>) -> usize {
        let threads = self.options.threads.unwrap_or_else(|| self.host.suited_threads());
        let cpu = &self.host.cpu;
        let why = match (cpu.usable_cores, self.host.groups.cpu_quota) {
            _ if self.options.threads.is_some() => "as asked for".to_string(),
            (_, Some(quota)) if (quota as usize) <= threads => {
                format!("the control group grants {quota:.1} CPUs")
            }
            (Some(cores), _) => format!("one for each of {cores} cores"),
            _ => "one for each CPU that may be used".to_string(),
        };
        reasons.push(format!("{threads} threads: {why}"));
        threads
    }

    /// Layers that an accelerator holds, with what they keep of texts.
    fn gpu_layers(&self, file: &Candidate, reasons: &mut Vec<String>) -> usize {
        let Some(gpu) = self.host.gpus.iter().max_by_key(|gpu| gpu.free_bytes) else { return 0 };
        let name = gpu.name.clone().unwrap_or_else(|| "an accelerator".into());
        let Some(free) = gpu.free_bytes else {
            reasons.push(format!("how much memory {name} has free is not known"));
            return 0;
        };
        let grown = self.weights(file.bytes) as f64 / self.plan.bytes.weights.max(1) as f64;
        let mut room = free.saturating_sub(margin(free) + self.plan.bytes.scratch);
        let mut n = 0;
        for layer in &self.plan.layers {
            let bytes = (layer.weights + layer.experts) as f64 * grown;
            let bytes = bytes as u64 + layer.state_bytes;
            if bytes > room {
                break;
            }
            room -= bytes;
            n += 1;
        }
        reasons.push(format!(
            "{name} has {} free: {n} of {} layers fit, for a backend that runs there",
            Bytes(free),
            self.plan.layers.len()
        ));
        n
    }

    fn nothing(&self, candidates: &[Candidate], mut reasons: Vec<String>) -> Recommendation {
        let usual = self.usual();
        let least = candidates.iter().map(|c| self.needs(c.bytes, self.plan, usual)).min();
        reasons.push(format!(
            "none fits with a text of {usual} tokens: the smallest needs {}, and {} may be used",
            Bytes(least.unwrap_or(0)),
            Bytes(self.room())
        ));
        Recommendation {
            file: None,
            quant: String::new(),
            context: 0,
            kv: self.options.kv.to_string(),
            threads: self.host.suited_threads(),
            gpu_layers: 0,
            needed_bytes: least.unwrap_or(0),
            reasons,
        }
    }
}
