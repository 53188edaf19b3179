//! What a step gives back: logits of the wanted rows, hidden states, pooled vectors.

use candle_core::Tensor;

use super::ops::bounded;
use super::pass::Pass;
use crate::batch::{Pooling, Tap, What};
use crate::describe::{Head, HeadKind, Linear};
use crate::exec::{Got, StepOut};
use crate::{Error, Result};

impl Pass<'_> {
    /// The rows of every want.
    pub(super) fn wanted(&self) -> Result<Vec<Vec<u32>>> {
        let mut all = vec![Vec::new(); self.batch.want.len()];
        for (want, rows) in self.batch.want.iter().zip(&mut all) {
            want.of.resolve(self.batch, rows)?;
        }
        Ok(all)
    }

    /// Whether somebody wants the residual before this layer.
    pub(super) fn is_tapped(&self, layer: u32) -> bool {
        self.batch.want.iter().any(|w| w.what == What::Hidden(Tap::Layer(layer)))
    }

    /// Fills `out` from the last residual (n, width), which is on the head's device.
    pub(super) fn answer(
        &mut self,
        x: &Tensor,
        wanted: &[Vec<u32>],
        out: &mut StepOut,
    ) -> Result<()> {
        out.reset(wanted.len());
        let batch = self.batch;
        for ((want, rows), got) in batch.want.iter().zip(wanted).zip(&mut out.got) {
            if rows.is_empty() {
                continue;
            }
            let value = match &want.what {
                What::Logits => self.logits(x, rows, None)?,
                What::LogitsOf(ids) => self.logits(x, rows, Some(ids))?,
                What::TopK(k) => {
                    let logits = self.logits(x, rows, None)?;
                    top_k(&logits.to_vec2()?, *k as usize, got);
                    continue;
                }
                What::Hidden(Tap::Layer(i)) => self.tapped(*i, rows)?,
                What::Hidden(Tap::Last) => select(x, rows)?,
                What::Hidden(Tap::Normed) => self.normed(x, rows)?,
                What::Pool(pooling) => pool(*pooling, &self.normed(x, rows)?)?,
                What::Class => self.classes(x, rows)?,
            };
            got.rows = value.dim(0)?;
            got.values = value.flatten_all()?.to_vec1()?;
        }
        Ok(())
    }

    fn tapped(&self, layer: u32, rows: &[u32]) -> Result<Tensor> {
        match self.taps.get(&layer) {
            Some(x) => select(x, rows),
            None => Err(Error::Batch(format!("no layer {layer}"))),
        }
    }

    fn head(&self) -> Option<&'_ Head> {
        let is_main = |h: &&Head| h.kind == HeadKind::LanguageModel;
        self.model.decoder.heads.iter().find(is_main)
    }

    /// What the head reads: the rows under its norm.
    fn normed(&self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let x = select(x, rows)?;
        match self.head().and_then(|h| h.norm.as_ref()) {
            Some(norm) => self.norm(norm, &x, self.model.placement.head),
            None => Ok(x),
        }
    }

    /// Logits of rows, of all tokens or of some.
    fn logits(&mut self, x: &Tensor, rows: &[u32], ids: Option<&Vec<u32>>) -> Result<Tensor> {
        let dev = self.model.placement.head;
        let x = self.normed(x, rows)?;
        let model = self.model;
        let is_main = |h: &&Head| h.kind == HeadKind::LanguageModel;
        let head = model.decoder.heads.iter().find(is_main);
        let Some((head, out)) = head.and_then(|h| Some((h, h.out.as_ref()?))) else {
            return Err(Error::Batch("this model gives no logits".into()));
        };
        let mut y = match ids {
            Some(ids) => self.logits_of(out, &x, ids)?,
            None => self.linear(out, &x, dev)?,
        };
        if head.scale != 1.0 {
            y = (y * f64::from(head.scale))?;
        }
        match head.soft_cap {
            Some(cap) => bounded(&y, cap),
            None => Ok(y),
        }
    }

    /// What the classifier makes of the rows of a text.
    fn classes(&mut self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let (model, dev) = (self.model, self.model.placement.head);
        let Some(classifier) = &model.decoder.classifier else {
            return Err(Error::Batch("this model has no classifier".into()));
        };
        let mut y = pool(classifier.pooling, &self.normed(x, rows)?)?;
        if let Some(dense) = &classifier.dense {
            y = self.linear(dense, &y, dev)?.tanh()?;
        }
        if let Some(out) = &classifier.out {
            y = self.linear(out, &y, dev)?;
        }
        if classifier.softmax {
            let of_largest = y.broadcast_sub(&y.max_keepdim(1)?)?.exp()?;
            y = of_largest.broadcast_div(&of_largest.sum_keepdim(1)?)?;
        }
        Ok(y)
    }

    fn logits_of(&mut self, out: &Linear, x: &Tensor, ids: &[u32]) -> Result<Tensor> {
        let dev = self.model.placement.head;
        let all = self.linear(out, x, dev)?;
        Ok(all.index_select(&Tensor::new(ids, self.device(dev))?, 1)?)
    }
}

fn select(x: &Tensor, rows: &[u32]) -> Result<Tensor> {
    Ok(x.index_select(&Tensor::new(rows, x.device())?, 0)?)
}

/// One vector (1, width) of rows (n, width).
fn pool(pooling: Pooling, x: &Tensor) -> Result<Tensor> {
    Ok(match pooling {
        Pooling::Mean => x.mean_keepdim(0)?,
        Pooling::Cls => x.narrow(0, 0, 1)?,
        Pooling::Last => x.narrow(0, x.dim(0)? - 1, 1)?,
    })
}

/// The largest logits of each row with their ids, largest first; of equal ones the smaller id.
fn top_k(logits: &[Vec<f32>], k: usize, got: &mut Got) {
    got.rows = logits.len();
    for row in logits {
        let mut ids: Vec<u32> = (0..row.len() as u32).collect();
        ids.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
        ids.truncate(k);
        got.values.extend(ids.iter().map(|&id| row[id as usize]));
        got.ids.extend(ids);
    }
}
