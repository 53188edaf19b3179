//! Dense feed-forward.

use candle_core::Tensor;

use super::ops::activate;
use super::pass::Pass;
use crate::Result;
use crate::describe::Ffn;
use crate::exec::Dev;

impl Pass<'_> {
    /// `down(act(gate x) * up x)` of `x` (n, width), on `dev`.
    pub(super) fn feed_forward(&mut self, f: &Ffn, x: &Tensor, dev: Dev) -> Result<Tensor> {
        let gate = f.gate.as_ref().map(|g| self.linear(g, x, dev)).transpose()?;
        let up = self.linear(&f.up, x, dev)?;
        let mut y = activate(f.act, gate.as_ref(), &up)?;
        if let Some(norm) = &f.norm {
            y = self.norm(norm, &y, dev)?;
        }
        self.linear(&f.down, &y, dev)
    }
}
