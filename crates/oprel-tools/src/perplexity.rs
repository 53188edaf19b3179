//! How well a model foretells a text, and how far it is from the model that it was made from: the numbers of
//! llama.cpp's tool, computed the same way.

mod base;
mod row;

use std::ops::ControlFlow;
use std::path::Path;

use oprel_gguf::Gguf;

use crate::error::{Error, Result};
use crate::windows::{Runner, Text, WindowOptions};
use base::{BaseReader, BaseWriter};
use row::{Row, over_rows};

/// How far a measurement is.
#[derive(Clone, Copy, Debug)]
pub struct MeasureProgress {
    /// Windows that were run.
    pub done: usize,
    /// All windows.
    pub of: usize,
    /// Perplexity so far.
    pub perplexity: f64,
}

/// A mean and its standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// The value.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

/// How well a model foretells a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// `e` to the mean of what each token's surprise is, in nats.
    pub perplexity: Measured,
    /// Tokens that were scored.
    pub n_tokens: usize,
}

/// How far a model's predictions are from those of its base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divergence {
    /// Perplexity of the model.
    pub perplexity: Measured,
    /// Perplexity of the base, from the file.
    pub base_perplexity: Measured,
    /// Logarithm of their quotient.
    pub ln_ratio: Measured,
    /// Kullback-Leibler divergence of the model's distribution from the base's, in nats.
    pub kl: Measured,
    /// Half of all tokens are below.
    pub kl_median: f64,
    /// 90 % of all tokens are below.
    pub kl_90: f64,
    /// 99 % of all tokens are below.
    pub kl_99: f64,
    /// The largest.
    pub kl_max: f64,
    /// Share of tokens at which both have the same likeliest token.
    pub same_top: Measured,
    /// Root mean square of what the probability of the right token differs by.
    pub p_difference_rms: f64,
    /// Mean of what it differs by.
    pub p_difference: Measured,
    /// Tokens that were scored.
    pub n_tokens: usize,
}

/// Measures perplexity on a text, of which each window's second half is scored. With `save_base`, the
/// distributions are written to a file (llama.cpp's format) for [`divergence`].
///
/// # Errors
/// If the model cannot be run or is an embedder, the text has less than two windows, the file cannot be written, or
/// `progress` says to stop: then no file is left.
pub fn perplexity(
    file: &Gguf,
    text: &str,
    options: &WindowOptions,
    save_base: Option<&Path>,
    progress: &mut dyn FnMut(MeasureProgress) -> ControlFlow<()>,
) -> Result<Perplexity> {
    let mut runner = Runner::new(file, options)?;
    let text = Text::read(file, text, options, 2)?;
    let n_vocab = runner.n_vocab();
    let mut base = save_base.map(|path| BaseWriter::create(path, &text, n_vocab)).transpose()?;
    let mut surprise = Sums::default();
    for window in 0..text.n_windows {
        runner.score(&text, window, &mut |first, logits| {
            let rows = over_rows(logits, n_vocab, |i, row| {
                Row::of(row).surprise(row, text.next(window, first + i))
            });
            rows.into_iter().for_each(|nats| surprise.add(nats));
            match &mut base {
                Some(base) => base.append(logits, n_vocab),
                None => Ok(()),
            }
        })?;
        file.check()?;
        let (done, of) = (window + 1, text.n_windows);
        let progress = progress(MeasureProgress { done, of, perplexity: surprise.mean().exp() });
        if progress.is_break() {
            return Err(Error::Stopped);
        }
    }
    if let Some(base) = base {
        base.finish()?;
    }
    Ok(Perplexity { perplexity: surprise.exponential(), n_tokens: surprise.n })
}

/// Measures how far a model is from the one whose distributions are in `base`, on the same text.
///
/// # Errors
/// If the model cannot be run or is an embedder, `base` is of another vocabulary or damaged, or `progress` says to stop.
pub fn divergence(
    file: &Gguf,
    base: &Path,
    options: &WindowOptions,
    progress: &mut dyn FnMut(MeasureProgress) -> ControlFlow<()>,
) -> Result<Divergence> {
    let mut base = BaseReader::open(base)?;
    let options = WindowOptions { context: base.context, ..*options };
    let mut runner = Runner::new(file, &options)?;
    let n_vocab = runner.n_vocab();
    base.check(n_vocab)?;
    let mut text = Text::of(file, base.tokens.clone(), base.context as usize)?;
    text.n_windows = options.n_windows.map_or(text.n_windows, |n| n.min(text.n_windows));
    let mut all = Comparison::default();
    for window in 0..text.n_windows {
        runner.score(&text, window, &mut |first, logits| {
            let stored = base.next_rows(logits.len() / n_vocab.max(1))?;
            let rows = over_rows(logits, n_vocab, |i, row| {
                Row::of(row).compare(row, stored.row(i), text.next(window, first + i))
            });
            rows.iter().for_each(|row| all.add(row));
            Ok(())
        })?;
        file.check()?;
        let (done, of) = (window + 1, text.n_windows);
        let progress =
            progress(MeasureProgress { done, of, perplexity: all.surprise.mean().exp() });
        if progress.is_break() {
            return Err(Error::Stopped);
        }
    }
    Ok(all.into_divergence())
}

/// Sums of values and of their squares.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    n: usize,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, x: f64) {
        self.n += 1;
        self.sum += x;
        self.squares += x * x;
    }

    fn mean(&self) -> f64 {
        self.sum / self.n.max(1) as f64
    }

    fn variance(&self) -> f64 {
        (self.squares / self.n.max(1) as f64 - self.mean().powi(2)).max(0.0)
    }

    fn measured(&self) -> Measured {
        let error = (self.variance() / self.n.saturating_sub(1).max(1) as f64).sqrt();
        Measured { value: self.mean(), error }
    }

    /// Of `e` to the mean.
    fn exponential(&self) -> Measured {
        let of = self.measured();
        Measured { value: of.value.exp(), error: of.value.exp() * of.error }
    }
}

/// What one token says of two models.
#[derive(Clone, Copy, Debug, Default)]
struct Compared {
    surprise: f64,
    base_surprise: f64,
    kl: f64,
    p_difference: f64,
    same_top: bool,
}

/// What all tokens say.
#[derive(Default)]
struct Comparison {
    surprise: Sums,
    base_surprise: Sums,
    difference: Sums,
    kl: Sums,
    kls: Vec<f64>,
    p_difference: Sums,
    n_same: usize,
}

impl Comparison {
    fn add(&mut self, row: &Compared) {
        self.surprise.add(row.surprise);
        self.base_surprise.add(row.base_surprise);
        self.difference.add(row.surprise - row.base_surprise);
        self.kl.add(row.kl);
        self.kls.push(row.kl);
        self.p_difference.add(row.p_difference);
        self.n_same += usize::from(row.same_top);
    }

    fn into_divergence(mut self) -> Divergence {
        self.kls.sort_by(f64::total_cmp);
        let n = self.kls.len();
        let share = self.n_same as f64 / n.max(1) as f64;
        let error = (share * (1.0 - share) / n.saturating_sub(1).max(1) as f64).sqrt();
        Divergence {
            perplexity: self.surprise.exponential(),
            base_perplexity: self.base_surprise.exponential(),
            ln_ratio: self.difference.measured(),
            kl: self.kl.measured(),
            kl_median: percentile(&self.kls, 0.5),
            kl_90: percentile(&self.kls, 0.9),
            kl_99: percentile(&self.kls, 0.99),
            kl_max: self.kls.last().copied().unwrap_or(0.0),
            same_top: Measured { value: share, error },
            p_difference_rms: (self.p_difference.squares / n.max(1) as f64).sqrt(),
            p_difference: self.p_difference.measured(),
            n_tokens: n,
        }
    }
}

/// The value below which a share of sorted values lies, between the two nearest.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let at = |i: usize| sorted.get(i).or(sorted.last()).copied().unwrap_or(0.0);
    let (below, part) = (place as usize, place.fract());
    (1.0 - part) * at(below) + part * at(below + 1)
}

fn base_error(path: &Path, problem: impl Into<String>) -> Error {
    Error::Base { path: path.to_owned(), problem: problem.into() }
}

#[cfg(test)]
mod tests;
