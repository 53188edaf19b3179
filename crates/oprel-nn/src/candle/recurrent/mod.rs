//! Mixers with a state of fixed size.

use candle_core::Tensor;

use super::check::unsupported;
use super::pass::Pass;
use crate::Result;
use crate::describe::{Delta, Mamba, Mamba2, ShortConv};

impl Pass<'_> {
    /// Mamba on `x` (n, width).
    pub(super) fn mamba(&mut self, _mamba: &Mamba, _x: &Tensor) -> Result<Tensor> {
        Err(unsupported("Mamba"))
    }

    /// Mamba-2 on `x` (n, width).
    pub(super) fn mamba2(&mut self, _mamba: &Mamba2, _x: &Tensor) -> Result<Tensor> {
        Err(unsupported("Mamba-2"))
    }

    /// The gated delta rule on `x` (n, width).
    pub(super) fn delta(&mut self, _delta: &Delta, _x: &Tensor) -> Result<Tensor> {
        Err(unsupported("the gated delta rule"))
    }

    /// A gated short convolution on `x` (n, width).
    pub(super) fn short_conv(&mut self, _conv: &ShortConv, _x: &Tensor) -> Result<Tensor> {
        Err(unsupported("short convolutions"))
    }
}
