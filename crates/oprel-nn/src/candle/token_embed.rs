//! Per-layer token embeddings (gemma3n, gemma4).

use candle_core::Tensor;

use super::ops::activate;
use super::pass::Pass;
use crate::describe::TokenEmbed;
use crate::{Error, Result};

impl Pass<'_> {
    /// `out(act(gate x) * part)`, where the part of this layer is the mean, times the square root of two,
    /// of the table's row and of the projected first residual.
    pub(super) fn token_embed(&mut self, t: &TokenEmbed, x: &Tensor) -> Result<Tensor> {
        let dev = self.place.ffn;
        let (n, dim, at) = (x.dim(0)?, t.dim as usize, (t.layer * t.dim) as usize);
        let Some((first, from)) = self.first.clone() else {
            return Err(Error::Description("token embeddings before any input".into()));
        };
        let first = self.to(&first, from, dev)?;
        let projected = (self.linear(&t.project, &first, dev)? * f64::from(t.project_scale))?;
        let projected = projected.narrow(1, at, dim)?.contiguous()?;
        let projected = self.norm(&t.project_norm, &projected, dev)?;
        let ids = Tensor::new(self.batch.tokens, self.device(dev))?;
        let looked_up = self.matrix(t.table, dev)?.index_select(&ids, 0)?.narrow(1, at, dim)?;
        let part = (projected + (looked_up * f64::from(t.table_scale))?)?;
        let part = (part * f64::from(std::f32::consts::FRAC_1_SQRT_2))?.reshape((n, dim))?;
        let gate = self.linear(&t.gate, x, dev)?;
        let y = activate(t.act, Some(&gate), &part)?;
        self.linear(&t.out, &y, dev)
    }
}
