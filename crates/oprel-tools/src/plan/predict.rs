//! How fast a model will be, from rates that were measured on this machine: of reading memory, and of the
//! kernels of each type that the model has.

use oprel_cpu::Isa;
use oprel_telemetry::{Host, KernelRate, Rates};
use serde::Serialize;

use super::{Plan, Work};

/// Seconds that threads take to come together.
const STAGE: f64 = 5e-6;
/// Attention does this part of the operations a second that instructions on bytes could.
const ATTENTION: f64 = 0.18;
/// A step reads weights at this part of the rate of one long product: each begins while the last one ends.
const STREAM: f64 = 0.88;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Speeds {
    /// Of the machine.
    pub rates: Rates,
    /// Of kernels, by type.
    pub kernels: Vec<KernelRate>,
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
    /// Measures what matters to a plan: a second or two. `None` if the system refuses threads or memory.
    pub fn measure(plan: &Plan, host: &Host) -> Option<Speeds> {
        let rates = Rates::measure(plan.threads, host.memory.free_bytes)?;
        let isa = Isa::parse(&plan.isa).unwrap_or_else(|_| Isa::detect());
        // Types of a few weights take no time.
        let all = plan.work.active_bytes();
        let matter = plan.work.weights.iter().filter(|(_, bytes, _)| *bytes > all / 200.0);
        let kernels = matter.filter_map(|(ty, ..)| KernelRate::measure(*ty, plan.threads, isa));
        Some(Speeds { rates, kernels: kernels.collect() })
    }

    /// How fast a plan will be behind `depth` tokens.
    pub fn predict(&self, plan: &Plan, depth: u32) -> Prediction {
        let work = &plan.work;
        let rate = |ty: &str| self.kernels.iter().find(|k| k.ty == ty);
        let (mut one, mut many) = (0.0, 0.0);
        for (ty, bytes, weights) in &work.weights {
            let rate = rate(&ty.to_string());
            // No kernel reads faster than memory is read.
            one += bytes / rate.map_or(self.rates.read, |r| r.one.min(self.rates.read));
            many += rate.map_or(0.0, |r| weights / r.many);
        }
        let state = work.state_bytes(depth) / self.rates.read;
        // While keys and values come from memory, they are multiplied.
        let look = state.max(self.attend(work, f64::from(depth)));
        let decode = one / STREAM + look + work.stages * STAGE;
        let prefill = many + self.attend(work, f64::from(depth) / 2.0);
        Prediction {
            depth,
            decode_tok_s: 1.0 / decode,
            prefill_tok_s: if prefill > 0.0 { 1.0 / prefill } else { 0.0 },
            bytes_of_step: work.active_bytes() + work.state_bytes(depth),
        }
    }

    /// Seconds of products of attention.
    fn attend(&self, work: &Work, depth: f64) -> f64 {
        // Two operations a product.
        2.0 * work.attention(depth) / (self.rates.arithmetic * ATTENTION)
    }
}
