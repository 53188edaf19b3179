//! How fast a model runs here: prefill, decode, load, memory.

mod parallel;

use oprel_api::{Event, Input, Request, Sampling, Usage};
use oprel_telemetry::{Roots, free_memory, read_bandwidth};

use crate::{Error, Native, Result};

pub use parallel::{Parallel, ParallelOptions, Spread};

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BenchOptions {
    /// Tokens of a prompt.
    pub prompt_tokens: u32,
    /// Tokens to make.
    pub gen_tokens: u32,
    /// Tokens already in the context before either.
    pub depth: u32,
    /// How often; medians are given.
    pub repeat: u32,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bench {
    /// Prompt tokens a second, one batch after another.
    pub prefill_tok_s: f64,
    /// Tokens made a second, one at a time.
    pub decode_tok_s: f64,
}

impl BenchOptions {
    /// Context length that the measurement needs.
    pub fn context(&self) -> u32 {
        self.depth.saturating_add(self.prompt_tokens.max(self.gen_tokens)).saturating_add(8)
    }
}

impl Native {
    /// Measures prefill and decode; a first round warms up and is not counted.
    ///
    /// # Errors
    /// If the counts are zero or beyond the context, or the engine fails.
    pub fn bench(&self, options: &BenchOptions) -> Result<Bench> {
        let zero = [("prompt-tokens", options.prompt_tokens), ("repeat", options.repeat)];
        if let Some((option, _)) = zero.into_iter().find(|(_, n)| *n == 0) {
            let why = "must be 1 or more".into();
            return Err(Error::Option { option, value: "0".into(), why });
        }
        self.check_speaks()?;
        let (needed, context) = (options.context(), self.context());
        if needed > context {
            let why = format!("this measurement needs {needed}");
            return Err(Error::Option { option: "ctx-size", value: context.to_string(), why });
        }
        let (mut prefill, mut decode) = (Vec::new(), Vec::new());
        for round in 0..=options.repeat {
            let speeds = self.round(options, round)?;
            if round > 0 {
                prefill.push(speeds.prefill_tok_s);
                decode.push(speeds.decode_tok_s);
            }
        }
        Ok(Bench { prefill_tok_s: median(prefill), decode_tok_s: median(decode) })
    }

    /// Bytes a second that as many threads as the engine has read from memory. The engine idles.
    ///
    /// # Errors
    /// If the system refuses threads or memory.
    pub fn raw_read_bytes_s(&self) -> Result<f64> {
        let (threads, isa) = (self.machine().threads, self.machine().isa);
        let why = "the system refuses threads or memory to measure how fast it reads";
        read_bandwidth(threads, isa, free_memory(&Roots::default()))
            .ok_or_else(|| Error::Stopped { why: why.into() })
    }

    /// One prefill and one decode, each from a context of `depth` tokens.
    fn round(&self, options: &BenchOptions, round: u32) -> Result<Bench> {
        let ids = self.some_tokens(options.depth + options.prompt_tokens);
        let (depth, prompt) = (options.depth as usize, options.prompt_tokens as usize);
        let salt = |what| format!("{what} {round}");
        if depth > 0 {
            self.timed(&ids[..depth], 1, salt("prefill"))?;
        }
        let prefill = self.timed(&ids[..depth + prompt], 1, salt("prefill"))?;
        let decode = match options.gen_tokens {
            0 => Usage::default(),
            n => self.timed(&ids[..depth.max(1)], n + 1, salt("decode"))?,
        };
        Ok(Bench {
            prefill_tok_s: prefill.prefill_tokens_per_s(),
            decode_tok_s: decode.decode_tokens_per_s(),
        })
    }

    /// One answer. Nothing is shared with others of another salt.
    fn timed(&self, tokens: &[u32], n: u32, salt: String) -> Result<Usage> {
        let mut request = Request::new(Input::Tokens(tokens.to_vec()));
        request.sampling = Sampling::greedy();
        request.limits.max_tokens = Some(n);
        request.ignore_end = true;
        request.speculate = false;
        request.cache.salt = Some(salt);
        let mut usage = Usage::default();
        for event in self.generate(&request)? {
            match event {
                Event::Usage(u) => usage = u,
                Event::Error(failure) => return Err(Error::Stopped { why: failure.message }),
                _ => {}
            }
        }
        Ok(usage)
    }

    /// Token ids that repeat only after the vocabulary, from the same start each time.
    fn some_tokens(&self, n: u32) -> Vec<u32> {
        let most = self.n_vocab().saturating_sub(1).max(1);
        (0..n).map(|i| (u64::from(i) * 7919 % u64::from(most)) as u32).collect()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
