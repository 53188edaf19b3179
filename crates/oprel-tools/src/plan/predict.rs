//! How fast a model will be, from rates that were measured on this machine: of the kernels of each type that the
//! model has, in its shapes; of its attention; of reading memory.

use std::num::NonZero;

use oprel_cpu::Isa;
use oprel_gguf::{Gguf, TensorInfo};
use oprel_nn::KvTypes;
use oprel_telemetry::{AttentionRate, Host, KernelRate, Look, Matrices, Rates};
use serde::Serialize;

use super::work::LookBack;
use super::{Plan, Work};

/// Seconds of an operation that is no product: threads come together, and some numbers are changed.
const STAGE: f64 = 4e-6;
/// Seconds of a step besides: it is planned, and a token chosen and told.
const STEP: f64 = 60e-6;
/// Attention of a kind that is not measured does this part of the operations a second that instructions on bytes
/// could.
const ATTENTION: f64 = 0.18;
/// Of the time of a prompt, products and attention take this part; the rest are norms, rope, activations.
const PRODUCTS: f64 = 0.93;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Speeds {
    /// Of the machine.
    pub rates: Rates,
    /// Of kernels, by type.
    pub kernels: Vec<KernelRate>,
    /// Of attention, in the order of layers that look back alike.
    pub attention: Vec<Option<AttentionRate>>,
}

/// How fast a model will be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Tokens of the text before the one that is made.
    pub depth: u32,
    /// Tokens a second, of one answer.
    pub decode_tok_s: f64,
    /// Tokens a second of a prompt of this length.
    pub prefill_tok_s: f64,
    /// Bytes that one token reads.
    pub bytes_of_step: f64,
}

impl Speeds {
    /// Measures what matters to the plan of a file, with its own weights: a second or two, and as long as parts of it
    /// take to be read from the disk. `None` if the system refuses threads or memory.
    pub fn measure(plan: &Plan, file: &Gguf, host: &Host) -> Option<Speeds> {
        // More threads than CPUs are no faster; far more could not be started.
        let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = plan.threads.min(cpus);
        let rates = Rates::measure(threads, host.memory.free_bytes)?;
        let isa = Isa::parse(&plan.isa).unwrap_or_else(|_| Isa::detect());
        // Types of a few weights take no time.
        let all = plan.work.active_bytes();
        let matter = plan.work.weights.iter().filter(|alike| alike.bytes > all / 200.0);
        let measure = |of: Matrices| {
            let matrices: Vec<_> = file.tensors().iter().filter(|t| is_one(t, of)).collect();
            let bytes: Vec<_> = matrices.iter().map(|t| file.bytes(t)).collect();
            let bytes: Vec<&[u8]> = bytes.iter().map(|bytes| &bytes[..]).collect();
            KernelRate::measure(of, &bytes, threads, isa)
        };
        let kernels = matter.filter_map(|alike| measure(alike.matrices)).collect();
        let attention = attention(&plan.work, plan.kv_types, (threads, isa));
        Some(Speeds { rates, kernels, attention })
    }

    /// How fast a plan will be behind `depth` tokens.
    pub fn predict(&self, plan: &Plan, depth: u32) -> Prediction {
        let work = &plan.work;
        let (mut one, mut many) = (0.0, 0.0);
        for alike in &work.weights {
            let rate = self.of(&alike.matrices);
            one += alike.bytes / rate.map_or(self.rates.read, |r| r.one);
            many += rate.map_or(0.0, |r| alike.weights / r.many);
        }
        let depth_f = f64::from(depth);
        let looks = || work.looks.iter().enumerate();
        let look: f64 = looks().map(|(i, l)| self.look_one(i, l, depth_f)).sum();
        let recurrent = work.recurrent / self.rates.read;
        let decode = one + look + recurrent + work.stages * STAGE + STEP;
        let looks_many: f64 = looks().map(|(i, l)| self.look_many(i, l, depth_f / 2.0)).sum();
        let prefill = (many + looks_many) / PRODUCTS;
        Prediction {
            depth,
            decode_tok_s: 1.0 / decode,
            prefill_tok_s: if prefill > 0.0 { 1.0 / prefill } else { 0.0 },
            bytes_of_step: work.active_bytes() + work.state_bytes(depth),
        }
    }

    fn of(&self, matrices: &Matrices) -> Option<&KernelRate> {
        let (ty, tokens) = (matrices.ty.to_string(), matrices.tokens);
        self.kernels.iter().find(|rate| rate.ty == ty && rate.tokens == tokens)
    }

    fn attention_of(&self, i: usize) -> Option<&AttentionRate> {
        self.attention.get(i)?.as_ref()
    }

    /// Seconds in which one query looks at what is behind it.
    fn look_one(&self, i: usize, look: &LookBack, depth: f64) -> f64 {
        let seen = look.seen(depth);
        match self.attention_of(i) {
            Some(rate) => look.products * seen / rate.one,
            // While keys and values come from memory, they are multiplied.
            None => (look.bytes * seen / self.rates.read).max(self.guess(look, seen)),
        }
    }

    /// Seconds that a token of a prompt takes for that.
    fn look_many(&self, i: usize, look: &LookBack, depth: f64) -> f64 {
        let seen = look.seen(depth);
        match self.attention_of(i) {
            Some(rate) => look.products * seen / rate.many,
            None => self.guess(look, seen),
        }
    }

    /// Two operations a product.
    fn guess(&self, look: &LookBack, seen: f64) -> f64 {
        2.0 * look.products * seen / (self.rates.arithmetic * ATTENTION)
    }
}

/// Whether a tensor is such a matrix, or several on top of each other.
fn is_one(tensor: &TensorInfo, of: Matrices) -> bool {
    let dim = |i: usize| tensor.shape.get(i).copied().unwrap_or(1);
    tensor.ty == of.ty && dim(0) == of.cols as u64 && dim(1) == of.rows as u64
}

/// Rates of the attentions of a model; each of its shapes is measured once.
fn attention(work: &Work, kv: KvTypes, on: (usize, Isa)) -> Vec<Option<AttentionRate>> {
    let mut measured: Vec<(Look, Option<AttentionRate>)> = Vec::new();
    let mut rate = |look: Look| {
        if let Some((_, rate)) = measured.iter().find(|(of, _)| *of == look) {
            return *rate;
        }
        let rate = AttentionRate::measure(look, kv, on.0, on.1);
        measured.push((look, rate));
        rate
    };
    work.looks.iter().map(|back| back.look.and_then(&mut rate)).collect()
}
