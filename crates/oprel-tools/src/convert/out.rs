//! A tensor of the GGUF file, described: which rows of which stored tensors it is made of, and how.
//!
//! Describing reads no data. A stored tensor is seen as rows of its last dimension; a vector as rows of one
//! element, so that what reorders a matrix reorders its bias too.

use super::tensors::{Stored, Tensor};
use crate::error::{Error, Result};

/// Rows `first..first + n` of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) tensor: usize,
    pub(super) first: u64,
    pub(super) n: u64,
}

/// What is done to each element.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Nothing,
    Plus(f32),
    Times(f32),
    /// Factors of rows, each up to a row.
    TimesByRow(Vec<(u64, f32)>),
    /// `-e^x`.
    NegExp,
}

/// Where elements come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Rows of stored tensors, all of one type and length.
    Rows {
        stored: Stored,
        runs: Vec<Run>,
        /// Elements of a stored row.
        len: u64,
        /// Which elements of a row, where not all in order.
        columns: Option<Vec<u32>>,
        /// Scales of an FP4 tensor, by the same rows.
        scales: Option<usize>,
    },
    /// Numbers that no tensor holds.
    Values(Vec<f32>),
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub(super) struct Out {
    /// Its GGUF name.
    pub(super) name: String,
    /// The stored tensor that it comes from, for messages.
    pub(super) from: String,
    /// Row-major, slowest first, before transposing.
    pub(super) shape: Vec<u64>,
    pub(super) source: Source,
    pub(super) change: Change,
    /// The last two dimensions are exchanged in the end.
    pub(super) transposed: bool,
}

impl Out {
    /// All of a stored tensor.
    pub(super) fn of(index: usize, tensor: &Tensor, name: String) -> Out {
        let shape = if tensor.shape.is_empty() { vec![1] } else { tensor.shape.clone() };
        let (rows, len) = rows_of(&shape);
        Out {
            name,
            from: tensor.name.clone(),
            shape,
            source: Source::Rows {
                stored: tensor.stored,
                runs: vec![Run { tensor: index, first: 0, n: rows }],
                len,
                columns: None,
                scales: None,
            },
            change: Change::Nothing,
            transposed: false,
        }
    }

    /// A vector of numbers.
    pub(super) fn values(name: &str, values: Vec<f32>) -> Out {
        Out {
            name: name.to_owned(),
            from: name.to_owned(),
            shape: vec![values.len() as u64],
            source: Source::Values(values),
            change: Change::Nothing,
            transposed: false,
        }
    }

    /// The name without the layer: `attn_q.weight`.
    pub(super) fn part(&self) -> &str {
        split_layer(&self.name).1
    }

    /// The layer, if it is of one.
    pub(super) fn layer(&self) -> Option<u32> {
        split_layer(&self.name).0
    }

    /// The same tensor under another name in its layer.
    pub(super) fn named(mut self, part: &str) -> Out {
        self.name = match self.layer() {
            Some(i) => format!("blk.{i}.{part}"),
            None => part.to_owned(),
        };
        self
    }

    pub(super) fn wrong(&self, problem: impl Into<String>) -> Error {
        Error::tensor(&self.from, problem)
    }

    /// Rows, where a row is the last dimension (one element of a vector).
    pub(super) fn n_rows(&self) -> u64 {
        rows_of(&self.shape).0
    }

    pub(super) fn with(mut self, change: Change) -> Out {
        self.change = change;
        self
    }

    /// The same elements in another shape of equal last dimension, or any shape where rows stay whole.
    pub(super) fn reshaped(mut self, shape: Vec<u64>) -> Result<Out> {
        let elements = |s: &[u64]| s.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
        if elements(&shape) != elements(&self.shape) {
            return Err(self.wrong(format!("has shape {:?}, not {shape:?}", self.shape)));
        }
        self.shape = shape;
        Ok(self)
    }

    /// A tensor (experts, rows, blocks, 16 bytes) of FP4 blocks as rows of whole blocks.
    pub(super) fn of_fp4_rows(mut self) -> Result<Out> {
        let wrong = self.wrong("is no tensor of FP4 blocks with scales");
        let &[experts, rows, blocks, 16] = self.shape.as_slice() else { return Err(wrong) };
        let Source::Rows { runs, len, scales: Some(_), .. } = &mut self.source else {
            return Err(wrong);
        };
        for run in runs {
            run.n = experts * rows;
        }
        *len = blocks * 16;
        self.shape = vec![experts, rows, blocks * 32];
        Ok(self)
    }

    /// Without dimensions of one element.
    pub(super) fn squeezed(mut self) -> Out {
        self.shape.retain(|d| *d != 1);
        if self.shape.is_empty() {
            self.shape.push(1);
        }
        self
    }

    pub(super) fn transposed(mut self) -> Out {
        self.transposed = true;
        self
    }

    /// Row `i` of the new rows is row `from(i)` of these; `leading` are the new dimensions before the last.
    pub(super) fn taken(mut self, leading: &[u64], from: impl Fn(u64) -> u64) -> Result<Out> {
        let is_vector = self.shape.len() == 1;
        let (old_rows, _) = rows_of(&self.shape);
        let n = leading.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
        let n = n.filter(|n| *n <= old_rows);
        let Some(n) = n else {
            return Err(self.wrong(format!("has {old_rows} rows, fewer than config.json says")));
        };
        let wrong = self.wrong("cannot be cut as config.json says");
        let Source::Rows { runs, .. } = &mut self.source else { return Err(wrong) };
        let &[Run { tensor, first, .. }] = runs.as_slice() else { return Err(wrong) };
        let mut taken: Vec<Run> = Vec::new();
        for i in 0..n {
            let row = from(i);
            if row >= old_rows {
                return Err(wrong);
            }
            let row = first + row;
            match taken.last_mut() {
                Some(last) if last.first + last.n == row => last.n += 1,
                _ => taken.push(Run { tensor, first: row, n: 1 }),
            }
        }
        *runs = taken;
        let last = self.shape.last().copied().filter(|_| !is_vector);
        self.shape = leading.iter().copied().chain(last).collect();
        Ok(self)
    }

    /// Elements `columns` of each row.
    pub(super) fn columns_taken(mut self, chosen: Vec<u32>) -> Result<Out> {
        let len = self.shape.last().copied().unwrap_or(0);
        if self.shape.len() < 2 || chosen.iter().any(|c| u64::from(*c) >= len) {
            return Err(self.wrong("has fewer columns than config.json says"));
        }
        if let Some(last) = self.shape.last_mut() {
            *last = chosen.len() as u64;
        }
        if let Source::Rows { columns, .. } = &mut self.source {
            *columns = Some(chosen);
        }
        Ok(self)
    }

    /// The halves of each rotated head interleaved, as rope on adjacent pairs wants them.
    pub(super) fn with_pairs(self, heads: u32) -> Result<Out> {
        let (rows, heads) = (self.n_rows(), u64::from(heads));
        let dim = rows.checked_div(heads).unwrap_or(0);
        if dim * heads != rows || dim % 2 != 0 || dim == 0 {
            return Err(self.wrong(format!("has {rows} rows, which are not {heads} heads")));
        }
        self.taken(&[rows], |row| {
            let (head, at) = (row / dim, row % dim);
            head * dim + (at % 2) * (dim / 2) + at / 2
        })
    }

    /// Rows `range` alone.
    pub(super) fn rows(self, start: u64, n: u64) -> Result<Out> {
        self.taken(&[n], |row| start.saturating_add(row))
    }

    /// In each of the leading dimension's parts, the first or the second half of the rows.
    pub(super) fn half(self, part: &str, second: bool) -> Result<Out> {
        let wrong = self.wrong("must hold gate and up, one above the other");
        let (leading, both) = match *self.shape.as_slice() {
            [both, _] => (None, both),
            [experts, both, _] => (Some(experts), both),
            _ => return Err(wrong),
        };
        if both == 0 || both % 2 != 0 {
            return Err(wrong);
        }
        let n = both / 2;
        let offset = if second { n } else { 0 };
        let dims: Vec<u64> = leading.into_iter().chain([n]).collect();
        self.named(part).taken(&dims, |row| row / n * both + offset + row % n)
    }

    /// Every second row, from 0 or from 1 on.
    pub(super) fn every_second(self, part: &str, from: u64) -> Result<Out> {
        let wrong = self.wrong("must hold gate and up, row by row");
        let (leading, both) = match self.shape.as_slice() {
            &[experts, both, _] => (experts, both),
            _ => return Err(wrong),
        };
        if both % 2 != 0 {
            return Err(wrong);
        }
        self.named(part).taken(&[leading, both / 2], |row| 2 * row + from)
    }

    /// Matrices of equal shape one after another.
    pub(super) fn stacked(name: String, parts: Vec<Out>) -> Result<Out> {
        let n = parts.len() as u64;
        let mut parts = parts.into_iter();
        let Some(mut whole) = parts.next() else {
            return Err(Error::tensor(&name, "has no parts"));
        };
        for part in parts {
            let same = part.shape == whole.shape && part.change == whole.change;
            match (&mut whole.source, part.source) {
                (
                    Source::Rows { stored, runs, .. },
                    Source::Rows { stored: other, runs: more, columns: None, .. },
                ) if same && *stored == other => runs.extend(more),
                _ => {
                    return Err(Error::tensor(
                        &part.from,
                        "differs from other experts in shape or type",
                    ));
                }
            }
        }
        whole.shape.insert(0, n);
        whole.name = name;
        Ok(whole)
    }

    /// Dimensions as GGUF lists them, fastest first.
    pub(super) fn gguf_shape(&self) -> Vec<u64> {
        let mut shape = self.shape.clone();
        if self.transposed && shape.len() > 1 {
            let n = shape.len();
            shape.swap(n - 1, n - 2);
        }
        shape.reverse();
        shape
    }
}

/// Rows and elements of a row.
pub(super) fn rows_of(shape: &[u64]) -> (u64, u64) {
    match shape {
        [n] => (*n, 1),
        [leading @ .., len] => (leading.iter().product(), *len),
        [] => (1, 1),
    }
}

/// `blk.3.attn_q.weight` is `attn_q.weight` of layer 3.
fn split_layer(name: &str) -> (Option<u32>, &str) {
    let inner = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    match inner.and_then(|(i, rest)| Some((i.parse().ok()?, rest))) {
        Some((i, rest)) => (Some(i), rest),
        None => (None, name),
    }
}
