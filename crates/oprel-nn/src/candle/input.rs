//! The first residual.

use candle_core::Tensor;

use super::check::unsupported;
use super::pass::Pass;
use crate::describe::Input;
use crate::exec::Dev;
use crate::weights::WeightId;
use crate::{Error, Result};

impl Pass<'_> {
    /// The sum of the decoder's inputs (n, width), on `dev`.
    pub(super) fn embed(&mut self, dev: Dev) -> Result<Tensor> {
        let model = self.model;
        let n = self.batch.tokens.len();
        let mut sum: Option<Tensor> = None;
        for input in &model.decoder.inputs {
            let term = match input {
                Input::Token { table, scale } => self.tokens(*table, *scale, dev)?,
                Input::Position { table, offset } => {
                    self.learned_positions(*table, *offset, dev)?
                }
                Input::Row { table, row } => {
                    let row = self.matrix(*table, dev)?.narrow(0, *row as usize, 1)?;
                    row.broadcast_as((n, row.dim(1)?))?.contiguous()?
                }
                Input::NGram { .. } => return Err(unsupported("n-gram embeddings")),
            };
            sum = Some(match sum {
                Some(sum) => (sum + term)?,
                None => term,
            });
        }
        sum.ok_or_else(|| Error::Description("a decoder without inputs".into()))
    }

    /// Scaled rows of the token table, or the rows that the batch gives in their place.
    fn tokens(&self, table: WeightId, scale: f32, dev: Dev) -> Result<Tensor> {
        let ids = Tensor::new(self.batch.tokens, self.device(dev))?;
        let mut rows = self.matrix(table, dev)?.index_select(&ids, 0)?;
        if scale != 1.0 {
            rows = (rows * f64::from(scale))?;
        }
        let width = rows.dim(1)?;
        for given in self.batch.embeds {
            let n = given.rows.len() / width;
            if n > 0 {
                let given_rows = Tensor::from_slice(given.rows, (n, width), self.device(dev))?;
                rows = rows.slice_scatter0(&given_rows, given.at as usize)?;
            }
        }
        Ok(rows)
    }

    fn learned_positions(&self, table: WeightId, offset: u32, dev: Dev) -> Result<Tensor> {
        let table = self.matrix(table, dev)?;
        let mut ids = Vec::with_capacity(self.batch.tokens.len());
        for rows in self.spans() {
            let start = rows.span.cache_start.saturating_add(offset);
            ids.extend((0..rows.span.n).map(|t| start.saturating_add(t)));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= table.dims()[0]) {
            return Err(Error::Batch(format!("position {id} has no learned embedding")));
        }
        Ok(table.index_select(&Tensor::new(ids, self.device(dev))?, 0)?)
    }
}
