//! How fast a model serves several sequences at a time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use oprel_api::{Event, Input, Request, Sampling, Usage};

use crate::engine_thread::Generate;
use crate::events::way;
use crate::speaker::Speaker;
use crate::{Error, Events, Native, Result};

/// Most sequences that are submitted at once.
const MOST_SEQUENCES: u32 = 4096;

/// What to measure: sequences that are submitted at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParallelOptions {
    /// How many.
    pub sequences: u32,
    /// Tokens of each prompt.
    pub prompt_tokens: u32,
    /// How many of these all prompts begin with.
    pub shared_prefix: u32,
    /// Tokens to make of each.
    pub gen_tokens: u32,
    /// A text whose beginning is the prompt and whose rest is the answer, whatever the model says.
    pub replay: Option<Vec<u32>>,
    /// Whether tokens are proposed and checked several at a time.
    pub speculate: bool,
}

/// A middle and an end of something measured many times, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The median.
    pub p50: f64,
    /// The value that one in a hundred exceeds.
    pub p99: f64,
    /// The largest.
    pub most: f64,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parallel {
    /// From submission to the last token of the last sequence, in seconds.
    pub total_s: f64,
    /// Prompt tokens a second, found ones too, until the last sequence had its first token.
    pub prefill_tok_s: f64,
    /// Tokens made a second, of all sequences together, from then on.
    pub decode_tok_s: f64,
    /// From submission to a sequence's first token.
    pub first_token: Spread,
    /// Between two tokens of a sequence.
    pub gap: Spread,
    /// Prompt tokens that were found in the cache.
    pub cached_tokens: u64,
    /// Tokens that were proposed.
    pub drafted_tokens: u64,
    /// Of these, taken.
    pub accepted_tokens: u64,
}

impl ParallelOptions {
    /// Context length that the measurement needs.
    pub fn context(&self) -> u32 {
        self.prompt_tokens.saturating_add(self.gen_tokens).saturating_add(8)
    }
}

/// When the tokens of one sequence were made, and what it took.
struct Times {
    ticks: Vec<Duration>,
    usage: Usage,
}

impl Native {
    /// Measures sequences that are submitted at once. Nothing of earlier measurements is used.
    ///
    /// # Errors
    /// If counts are zero or beyond the context, the text to replay is too short, or the engine fails.
    pub fn bench_parallel(&self, options: &ParallelOptions) -> Result<Parallel> {
        self.check_parallel(options)?;
        let salt = format!("parallel {:?}", Instant::now());
        let start = Instant::now();
        let begin = |i| {
            let (sender, ticks) = channel();
            let prompt = self.prompt_of(options, i);
            let mut request = Request::new(Input::Tokens(prompt.clone()));
            request.sampling = Sampling::greedy();
            request.limits.max_tokens = Some(options.gen_tokens);
            request.ignore_end = true;
            request.speculate = options.speculate;
            request.cache.salt = Some(salt.clone());
            let mut ask = self.ask(&request, prompt);
            let answer = |all: &Vec<u32>| Arc::from(&all[options.prompt_tokens as usize..]);
            ask.replay = options.replay.as_ref().map(answer);
            let speaker = Speaker::new(self.facts(), &request, None);
            let (mouth, events) = way();
            let (listener, ticks_to) = (Box::new(mouth), Some(sender));
            self.start(Generate { ask, speaker, listener, submitted: start, ticks: ticks_to })?;
            Ok((events, ticks))
        };
        let open: Vec<(Events, Receiver<Instant>)> =
            (0..options.sequences).map(begin).collect::<Result<_>>()?;
        let times: Vec<Times> =
            open.into_iter().map(|(e, t)| finish(e, &t, start)).collect::<Result<_>>()?;
        Ok(summary(options, &times))
    }

    fn check_parallel(&self, options: &ParallelOptions) -> Result<()> {
        self.check_speaks()?;
        let wrong = |option, value: u32, why: String| {
            Err(Error::Option { option, value: value.to_string(), why })
        };
        let counts = [
            ("parallel", options.sequences),
            ("prompt-tokens", options.prompt_tokens),
            ("gen-tokens", options.gen_tokens),
        ];
        if let Some((option, _)) = counts.into_iter().find(|(_, n)| *n == 0) {
            return wrong(option, 0, "must be 1 or more".into());
        }
        if options.sequences > MOST_SEQUENCES {
            let why = format!("must be from 1 to {MOST_SEQUENCES}");
            return wrong("parallel", options.sequences, why);
        }
        if options.shared_prefix > options.prompt_tokens {
            let why = format!("a prompt has {} tokens", options.prompt_tokens);
            return wrong("shared-prefix", options.shared_prefix, why);
        }
        let (needed, context) = (options.context(), self.context());
        if needed > context {
            return wrong("ctx-size", context, format!("this measurement needs {needed}"));
        }
        let needed = (options.prompt_tokens + options.gen_tokens) as usize;
        match options.replay.as_ref().map(Vec::len).filter(|&n| n < needed) {
            Some(n) => wrong("replay", n as u32, format!("tokens; {needed} are needed")),
            None => Ok(()),
        }
    }

    /// The prompt of sequence `i`.
    fn prompt_of(&self, options: &ParallelOptions, i: u32) -> Vec<u32> {
        if let Some(text) = &options.replay {
            return text[..options.prompt_tokens as usize].to_vec();
        }
        let most = self.n_vocab().saturating_sub(1).max(1);
        let own = |p: u32| match p < options.shared_prefix {
            true => u64::from(p) * 7919,
            false => u64::from(p) * 7919 + u64::from(i + 1) * 104_729,
        };
        (0..options.prompt_tokens).map(|p| (own(p) % u64::from(most)) as u32).collect()
    }
}

/// Waits for the end of a sequence.
fn finish(events: Events, ticks: &Receiver<Instant>, start: Instant) -> Result<Times> {
    let mut usage = Usage::default();
    for event in events {
        match event {
            Event::Usage(u) => usage = u,
            Event::Error(failure) => return Err(Error::Failed(failure)),
            _ => {}
        }
    }
    let ticks = ticks.iter().map(|at| at.saturating_duration_since(start)).collect();
    Ok(Times { ticks, usage })
}

fn summary(options: &ParallelOptions, times: &[Times]) -> Parallel {
    let seconds = |d: Duration| d.as_secs_f64();
    let firsts = || times.iter().filter_map(|t| t.ticks.first().copied());
    let all_run = firsts().max().unwrap_or_default();
    let end = times.iter().filter_map(|t| t.ticks.last().copied()).max().unwrap_or_default();
    let after = times.iter().flat_map(|t| &t.ticks).filter(|&&at| at > all_run).count();
    let gaps = times.iter().flat_map(|t| t.ticks.windows(2).map(|w| seconds(w[1] - w[0])));
    let sum = |f: fn(&Usage) -> u32| times.iter().map(|t| u64::from(f(&t.usage))).sum();
    let rate = |n: f64, s: f64| if s > 0.0 { n / s } else { 0.0 };
    Parallel {
        total_s: seconds(end),
        prefill_tok_s: rate(
            f64::from(options.sequences) * f64::from(options.prompt_tokens),
            seconds(all_run),
        ),
        decode_tok_s: rate(after as f64, seconds(end.saturating_sub(all_run))),
        first_token: Spread::of(firsts().map(seconds).collect()),
        gap: Spread::of(gaps.collect()),
        cached_tokens: sum(|u| u.cached_tokens),
        drafted_tokens: sum(|u| u.drafted_tokens),
        accepted_tokens: sum(|u| u.accepted_tokens),
    }
}

impl Spread {
    /// Of some values.
    pub fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let i = (values.len() as f64 * share) as usize;
            values.get(i.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
        };
        Spread { p50: at(0.5), p99: at(0.99), most: at(1.0) }
    }
}
