//! Measuring a model on this machine.

pub use oprel_backend::{BenchOptions, ParallelOptions};

use crate::{Model, Result};

/// What was measured. Serialized, it is what `oprel bench --json` prints.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Bench {
    /// Prompt tokens a second.
    pub prefill_tok_s: f64,
    /// Tokens made a second.
    pub decode_tok_s: f64,
    /// Seconds that loading took.
    pub load_s: f64,
    /// Most memory that this process had resident, if the system tells.
    pub peak_rss_bytes: Option<u64>,
    /// Threads of the engine.
    pub threads: usize,
    /// Instruction set of the kernels.
    pub isa: String,
    /// Bytes a second that the same threads read from memory, in units of 10^9.
    pub raw_read_gb_s: f64,
}

impl Model {
    /// Measures prefill, decode and the machine's read bandwidth, in one run.
    ///
    /// # Errors
    /// If the counts are zero or beyond the context, or the engine fails.
    pub fn bench(&self, options: &BenchOptions) -> Result<Bench> {
        let speeds = self.native()?.bench(options)?;
        let machine = self.native()?.machine();
        Ok(Bench {
            prefill_tok_s: speeds.prefill_tok_s,
            decode_tok_s: speeds.decode_tok_s,
            load_s: self.load_time().as_secs_f64(),
            peak_rss_bytes: peak_rss_bytes(),
            threads: machine.threads,
            isa: machine.isa.name().to_string(),
            raw_read_gb_s: self.native()?.raw_read_bytes_s()? / 1e9,
        })
    }
}

/// How fast a model serves several sequences at a time here. Times are in seconds.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ParallelBench {
    /// Sequences.
    pub parallel: u32,
    /// From submission to the last token of the last sequence.
    pub total_s: f64,
    /// Prompt tokens a second, found ones too, until the last sequence had its first token.
    pub prefill_tok_s: f64,
    /// Tokens made a second, of all sequences together, from then on.
    pub decode_tok_s: f64,
    /// From submission to a sequence's first token: median, 99th percentile.
    pub first_token_s: [f64; 2],
    /// Between two tokens of a sequence: median, 99th percentile.
    pub gap_s: [f64; 2],
    /// Prompt tokens that were found in the cache.
    pub cached_tokens: u64,
    /// Tokens that were proposed.
    pub drafted_tokens: u64,
    /// Of these, taken.
    pub accepted_tokens: u64,
    /// Threads of the engine.
    pub threads: usize,
    /// Instruction set.
    pub isa: String,
}

impl Model {
    /// Measures sequences that are submitted at once.
    ///
    /// # Errors
    /// [`OprelError::Validation`](crate::OprelError) for counts of zero or beyond the context,
    /// `Backend` if the engine fails.
    pub fn bench_parallel(&self, options: &ParallelOptions) -> Result<ParallelBench> {
        let b = self.native()?.bench_parallel(options)?;
        let machine = self.native()?.machine();
        Ok(ParallelBench {
            parallel: options.sequences,
            total_s: b.total_s,
            prefill_tok_s: b.prefill_tok_s,
            decode_tok_s: b.decode_tok_s,
            first_token_s: [b.first_token.p50, b.first_token.p99],
            gap_s: [b.gap.p50, b.gap.p99],
            cached_tokens: b.cached_tokens,
            drafted_tokens: b.drafted_tokens,
            accepted_tokens: b.accepted_tokens,
            threads: machine.threads,
            isa: machine.isa.name().to_string(),
        })
    }
}

/// High-water mark of resident memory, from Linux' process status.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
