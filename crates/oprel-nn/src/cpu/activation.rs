//! Activation functions over whole buffers.

use oprel_cpu::activation as kernel;

use super::arena::Buf;
use super::run::Run;
use crate::describe::Activation;

/// An activation function, as the kernels name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Act(kernel::Activation);

impl Act {
    pub(super) fn new(act: Activation) -> Act {
        Act(match act {
            Activation::Silu => kernel::Activation::Silu,
            Activation::GeluTanh => kernel::Activation::GeluTanh,
            Activation::GeluErf => kernel::Activation::GeluErf,
            Activation::GeluQuick => kernel::Activation::GeluQuick,
            Activation::Relu => kernel::Activation::Relu,
            Activation::ReluSquared => kernel::Activation::ReluSquared,
            Activation::SwigluOai { alpha, limit } => {
                kernel::Activation::SwigluOai { alpha, limit }
            }
            Activation::SiluClamped { limit, cap_before } => {
                kernel::Activation::SiluClamped { limit, cap_before }
            }
            Activation::Xielu { alpha_p, alpha_n, beta, eps } => {
                kernel::Activation::Xielu { alpha_p, alpha_n, beta, eps }
            }
            Activation::Situ { beta, linear_beta } => {
                kernel::Activation::Situ { beta, linear_beta }
            }
        })
    }

    /// `gate = act(gate) * up`.
    pub(super) fn gated(self, run: &mut Run<'_>, gate: Buf, up: Buf) {
        run.gate(self.0, gate, up);
    }

    /// `x = act(x)`.
    pub(super) fn alone(self, run: &mut Run<'_>, x: Buf) {
        run.activate(self.0, x);
    }
}
