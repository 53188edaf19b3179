//! What a step gives back: logits, chosen logits, hidden states, pooled vectors.

use std::cmp::Ordering;

use oprel_cpu::{Parts, activation};

use super::arena::{Buf, zeroed};
use super::classifier::Classifier;
use super::compile::{Compiler, unsupported};
use super::linear::Linear;
use super::norm::Norm;
use super::run::{CHUNK, Run};
use crate::Result;
use crate::batch::{Pooling, Tap, Want, What};
use crate::describe::HeadKind;
use crate::exec::{Got, Limits};

/// Rows whose logits are computed at once where not all of them are given back.
const ROWS: usize = 4;

/// The language-model head and the norm before it.
#[derive(Debug)]
pub(super) struct Head {
    norm: Option<Norm>,
    out: Option<Linear>,
    scale: f32,
    soft_cap: Option<f32>,
    classifier: Option<Classifier>,
    /// Wanted rows of the residual, side by side.
    picked: Buf,
    logit_rows: usize,
}

/// Memory of the head.
#[derive(Debug)]
pub(super) struct HeadScratch {
    /// Indices of wanted rows.
    pub(super) rows: Vec<u32>,
    /// Logits of a few rows; empty without an output matrix.
    logits: Vec<f32>,
    /// Token ids, being sorted.
    order: Vec<u32>,
}

impl HeadScratch {
    pub(super) fn new(head: &Head, limits: &Limits) -> Result<HeadScratch> {
        let n_vocab = head.out.as_ref().map_or(0, Linear::rows);
        let logits = zeroed(ROWS.min(head.logit_rows) * n_vocab, "logits")?.into_vec();
        let rows = Vec::with_capacity(limits.tokens as usize);
        Ok(HeadScratch { rows, logits, order: Vec::with_capacity(n_vocab) })
    }

    /// Bytes that [`HeadScratch::new`] takes.
    pub(super) fn bytes_of(head: &Head, limits: &Limits) -> u64 {
        let n_vocab = head.out.as_ref().map_or(0, Linear::rows) as u64;
        let logits = n_vocab * ROWS.min(head.logit_rows) as u64;
        (u64::from(limits.tokens) + logits + n_vocab) * 4
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.rows.capacity() + self.logits.capacity() + self.order.capacity()) as u64 * 4
    }
}

impl Head {
    pub(super) fn compile(c: &mut Compiler<'_>) -> Result<Head> {
        let [head] = c.decoder.heads.as_slice() else {
            return Err(unsupported(format!("{} heads", c.decoder.heads.len())));
        };
        if head.kind != HeadKind::LanguageModel {
            return Err(unsupported(format!("a head of kind {:?}", head.kind)));
        }
        let out = head.out.as_ref().map(|out| c.linear(out, c.width)).transpose()?;
        let mark = c.layout.mark();
        let picked = c.layout.buf(c.width)?;
        c.layout.release(mark);
        Ok(Head {
            norm: head.norm.as_ref().map(|n| c.norm(n, c.width)).transpose()?,
            out,
            scale: head.scale,
            soft_cap: head.soft_cap,
            classifier: Classifier::compile(c)?,
            picked,
            logit_rows: c.limits.logit_rows as usize,
        })
    }

    /// Gives the hidden states that are wanted before a layer.
    pub(super) fn tap_layer(&self, run: &mut Run<'_>, x: Buf, layer_idx: u32) -> Result<()> {
        self.give_hidden(run, x, Tap::Layer(layer_idx))
    }

    fn give_hidden(&self, run: &mut Run<'_>, x: Buf, tap: Tap) -> Result<()> {
        let batch = run.batch;
        for (i, want) in batch.want.iter().enumerate() {
            if want.what == What::Hidden(tap) {
                want.of.resolve(batch, &mut run.mem.head.rows)?;
                let rows = run.mem.arena.row(run.n, x);
                gather(rows, x.cols, &run.mem.head.rows, &mut run.out.got[i].values);
                run.out.got[i].rows = run.mem.head.rows.len();
            }
        }
        Ok(())
    }

    /// Gives everything that is wanted after the last layer.
    pub(super) fn run(&self, run: &mut Run<'_>, residual: Buf) -> Result<()> {
        self.give_hidden(run, residual, Tap::Last)?;
        let batch = run.batch;
        for (i, want) in batch.want.iter().enumerate() {
            if matches!(want.what, What::Hidden(Tap::Layer(_) | Tap::Last)) {
                continue;
            }
            let rows = self.pick(run, want, residual)?;
            let mut got = std::mem::take(&mut run.out.got[i]);
            self.give(run, &want.what, rows, &mut got);
            run.out.got[i] = got;
        }
        Ok(())
    }

    /// Copies the wanted rows of the residual side by side, normalized.
    fn pick(&self, run: &mut Run<'_>, want: &Want, residual: Buf) -> Result<usize> {
        want.of.resolve(run.batch, &mut run.mem.head.rows)?;
        let width = residual.cols;
        let [from, to] = run.mem.arena.rows(run.n, [residual, self.picked]);
        for (to, &row) in to.chunks_exact_mut(width).zip(&run.mem.head.rows) {
            to.copy_from_slice(&from[row as usize * width..][..width]);
        }
        let rows = run.mem.head.rows.len();
        if let Some(norm) = &self.norm {
            norm.in_place_rows(run, self.picked, rows);
        }
        Ok(rows)
    }

    fn give(&self, run: &mut Run<'_>, what: &What, rows: usize, got: &mut Got) {
        got.rows = rows;
        match what {
            What::Logits => self.logits(run, 0..rows, &mut got.values),
            What::LogitsOf(ids) => self.few(run, rows, |logits, _| {
                got.values.extend(ids.iter().map(|&id| logits[id as usize]));
            }),
            What::TopK(k) => self.few(run, rows, |logits, order| {
                largest(logits, *k as usize, order);
                got.ids.extend_from_slice(order);
                got.values.extend(order.iter().map(|&id| logits[id as usize]));
            }),
            What::Hidden(_) => {
                got.values.extend_from_slice(run.mem.arena.row(rows, self.picked));
            }
            What::Pool(pooling) => {
                got.rows = 1;
                let values = run.mem.arena.row(rows, self.picked);
                pool(values, self.picked.cols, *pooling, &mut got.values);
            }
            What::Class => {
                got.rows = 1;
                if let Some(classifier) = &self.classifier {
                    classifier.run(run, rows, self.picked, &mut got.values);
                }
            }
        }
    }

    /// Logits of some picked rows, into memory of the caller's that keeps its size from step to step.
    fn logits(&self, run: &mut Run<'_>, rows: std::ops::Range<usize>, out: &mut Vec<f32>) {
        let Some(linear) = &self.out else { return };
        out.resize(rows.len() * linear.rows(), 0.0);
        run.project_rows(linear, self.picked, rows, out);
        let (isa, scale, cap) = (run.kernels.isa(), self.scale, self.soft_cap);
        if scale == 1.0 && cap.is_none() {
            return;
        }
        run.pool.run_parts(Parts::new(out, CHUNK), |_, logits, _| {
            if scale != 1.0 {
                activation::scale(isa, logits, scale);
            }
            if let Some(cap) = cap {
                activation::soft_cap(isa, logits, cap);
            }
        });
    }

    /// Logits of picked rows, a few rows at a time; `each` is given one row and memory for ids.
    fn few(&self, run: &mut Run<'_>, rows: usize, mut each: impl FnMut(&[f32], &mut Vec<u32>)) {
        let mut logits = std::mem::take(&mut run.mem.head.logits);
        let n_vocab = self.out.as_ref().map_or(1, Linear::rows);
        let most = (logits.capacity() / n_vocab).max(1);
        for start in (0..rows).step_by(most) {
            self.logits(run, start..rows.min(start + most), &mut logits);
            for row in logits.chunks_exact(n_vocab) {
                each(row, &mut run.mem.head.order);
            }
        }
        run.mem.head.logits = logits;
    }
}

fn gather(rows: &[f32], width: usize, which: &[u32], out: &mut Vec<f32>) {
    for &row in which {
        out.extend_from_slice(&rows[row as usize * width..][..width]);
    }
}

/// Ids of the `k` largest logits, the largest first; of equal ones the lower id first.
fn largest(logits: &[f32], k: usize, order: &mut Vec<u32>) {
    let by_logit = |a: &u32, b: &u32| -> Ordering {
        logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b))
    };
    order.clear();
    order.extend(0..logits.len() as u32);
    if k > 0 && k < order.len() {
        order.select_nth_unstable_by(k - 1, by_logit);
    }
    order.truncate(k);
    order.sort_unstable_by(by_logit);
}

/// The vector of rows (n, width), appended to `out`.
pub(super) fn pool(rows: &[f32], width: usize, pooling: Pooling, out: &mut Vec<f32>) {
    let n = rows.len() / width;
    match pooling {
        Pooling::Cls => out.extend_from_slice(&rows[..width]),
        Pooling::Last => out.extend_from_slice(&rows[(n - 1) * width..]),
        Pooling::Mean => {
            let start = out.len();
            out.resize(start + width, 0.0);
            let out = &mut out[start..];
            for row in rows.chunks_exact(width) {
                out.iter_mut().zip(row).for_each(|(y, x)| *y += x);
            }
            out.iter_mut().for_each(|y| *y /= n as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_and_equals_by_id() {
        let mut order = Vec::new();
        largest(&[1.0, 3.0, 2.0, 3.0, -1.0], 3, &mut order);
        assert_eq!(order, [1, 3, 2]);
        largest(&[1.0, 2.0], 2, &mut order);
        assert_eq!(order, [1, 0]);
        largest(&[1.0, 2.0], 0, &mut order);
        assert!(order.is_empty());
    }

    #[test]
    fn pooling_takes_the_mean_the_first_or_the_last_row() {
        let rows = [1.0, 2.0, 3.0, 4.0];
        let of = |pooling| {
            let mut out = Vec::new();
            pool(&rows, 2, pooling, &mut out);
            out
        };
        assert_eq!(of(Pooling::Mean), [2.0, 3.0]);
        assert_eq!(of(Pooling::Cls), [1.0, 2.0]);
        assert_eq!(of(Pooling::Last), [3.0, 4.0]);
    }
}
