//! Multi-head latent attention.

use candle_core::Tensor;

use super::check::unsupported;
use super::pass::Pass;
use crate::Result;
use crate::describe::Mla;

impl Pass<'_> {
    /// Latent attention on `x` (n, width).
    pub(super) fn mla(&mut self, _mla: &Mla, _x: &Tensor) -> Result<Tensor> {
        Err(unsupported("multi-head latent attention"))
    }
}
