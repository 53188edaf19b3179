//! Activation functions, alone or gating another slice; elementwise, in place.

use crate::lanes::{Ops, tiers};
use crate::math::{erfc, exp, sigmoid, softplus, tanh};

/// A function of one number, and how it gates a second one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// x.
    Identity,
    /// x * sigmoid(x).
    Silu,
    /// GELU by the tanh formula, ggml's `gelu`.
    GeluTanh,
    /// GELU by the error function.
    GeluErf,
    /// x * sigmoid(1.702 x).
    GeluQuick,
    /// max(x, 0).
    Relu,
    /// max(x, 0)^2.
    ReluSquared,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// ln(1 + e^x).
    Softplus,
    /// tanh x.
    Tanh,
    /// e^x.
    Exp,
    /// g = min(gate, limit), u = clamp(up, limit): g * sigmoid(alpha g) * (u + 1) (gpt-oss).
    SwigluOai {
        /// Slope of the sigmoid.
        alpha: f32,
        /// Where values are cut.
        limit: f32,
    },
    /// silu(gate) at most `limit`, times up within `[-limit, limit]`.
    SiluClamped {
        /// Where values are cut.
        limit: f32,
        /// The gate is cut before silu instead of after it.
        cap_before: bool,
    },
    /// xIELU: `p x^2 + b x` above zero, `n (e^min(x, eps) - 1 - x) + b x` below.
    Xielu {
        /// p.
        alpha_p: f32,
        /// n.
        alpha_n: f32,
        /// b.
        beta: f32,
        /// Largest exponent.
        eps: f32,
    },
    /// `beta tanh(g / beta) sigmoid(g)` times `linear_beta tanh(up / linear_beta)`.
    Situ {
        /// Bound of the gate.
        beta: f32,
        /// Bound of up; 0 for none.
        linear_beta: f32,
    },
}

tiers! {
    /// `x[i] = f(x[i])`. For functions that treat `up` in a way of their own, `up` is 1
    /// ([`Activation::SwigluOai`]: 0).
    pub fn activate(f: Activation, x: &mut [f32]) = activate_lanes;
    /// `gate[i] = f(gate[i]) * up[i]`.
    pub fn activate_gated(f: Activation, gate: &mut [f32], up: &[f32]) = activate_gated_lanes;
    /// `x[i] = cap * tanh(x[i] / cap)`.
    pub fn soft_cap(x: &mut [f32], cap: f32) = soft_cap_lanes;
    /// `x[i] += y[i]`.
    pub fn add(x: &mut [f32], y: &[f32]) = add_lanes;
    /// `x[i] += factor * y[i]`, rounded twice.
    pub fn add_times(x: &mut [f32], y: &[f32], factor: f32) = add_times_lanes;
    /// `x[i] = factor * y[i]`.
    pub fn set_times(x: &mut [f32], y: &[f32], factor: f32) = set_times_lanes;
    /// `x[i] *= y[i]`.
    pub fn mul(x: &mut [f32], y: &[f32]) = mul_lanes;
    /// `x[i] *= scale`.
    pub fn scale(x: &mut [f32], scale: f32) = scale_lanes;
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + tanh(SQRT_2_OVER_PI * x * (1.0 + 0.044_715 * x * x)))
}

#[inline(always)]
fn gelu_erf(x: f32) -> f32 {
    0.5 * x * erfc(x * -std::f32::consts::FRAC_1_SQRT_2)
}

#[inline(always)]
fn map(x: &mut [f32], f: impl Fn(f32) -> f32) {
    for v in x {
        *v = f(*v);
    }
}

#[inline(always)]
fn zip(x: &mut [f32], y: &[f32], f: impl Fn(f32, f32) -> f32) {
    assert_eq!(x.len(), y.len(), "slices of one length");
    for (v, w) in x.iter_mut().zip(y) {
        *v = f(*v, *w);
    }
}

/// Runs `$run` with `$function` standing for the function of one number behind `$f`.
macro_rules! with_function {
    ($f:expr, $function:ident => $run:expr) => {
        with_function!(@arms $f, $function, $run;
            Activation::Identity => |x: f32| x,
            Activation::Silu => silu,
            Activation::GeluTanh => gelu_tanh,
            Activation::GeluErf => gelu_erf,
            Activation::GeluQuick => |x: f32| x * sigmoid(1.702 * x),
            Activation::Relu => |x: f32| x.max(0.0),
            Activation::ReluSquared => |x: f32| x.max(0.0) * x.max(0.0),
            Activation::Sigmoid => sigmoid,
            Activation::Softplus => softplus,
            Activation::Tanh => tanh,
            Activation::Exp => exp,
            Activation::SwigluOai { alpha, limit } => |x: f32| {
                let g = x.min(limit);
                g * sigmoid(alpha * g)
            },
            Activation::SiluClamped { limit, cap_before: true } => |x: f32| silu(x.min(limit)),
            Activation::SiluClamped { limit, cap_before: false } => |x: f32| silu(x).min(limit),
            Activation::Xielu { alpha_p, alpha_n, beta, eps } => |x: f32| {
                let below = (x.min(eps).exp_m1() - x) * alpha_n;
                let above = alpha_p * x * x;
                beta * x + if x > 0.0 { above } else { below }
            },
            Activation::Situ { beta, .. } => |x: f32| beta * tanh(x / beta) * sigmoid(x),
        )
    };
    (@arms $f:expr, $function:ident, $run:expr; $($arm:pat => $of_arm:expr,)*) => {
        match $f {
            $($arm => {
                let $function = $of_arm;
                $run
            })*
        }
    };
}

#[inline(always)]
fn activate_lanes<O: Ops>(_: O, f: Activation, x: &mut [f32]) {
    with_function!(f, function => map(x, function));
}

#[inline(always)]
fn activate_gated_lanes<O: Ops>(_: O, f: Activation, gate: &mut [f32], up: &[f32]) {
    match f {
        Activation::SwigluOai { alpha, limit } => zip(gate, up, |g, u| {
            let g = g.min(limit);
            g * sigmoid(alpha * g) * (u.clamp(-limit, limit) + 1.0)
        }),
        Activation::SiluClamped { limit, cap_before } => zip(gate, up, |g, u| {
            let g = if cap_before { silu(g.min(limit)) } else { silu(g).min(limit) };
            g * u.clamp(-limit, limit)
        }),
        Activation::Situ { beta, linear_beta } if linear_beta != 0.0 => zip(gate, up, |g, u| {
            beta * tanh(g / beta) * sigmoid(g) * (linear_beta * tanh(u / linear_beta))
        }),
        _ => with_function!(f, function => zip(gate, up, |g, u| function(g) * u)),
    }
}

#[inline(always)]
fn soft_cap_lanes<O: Ops>(_: O, x: &mut [f32], cap: f32) {
    map(x, |v| cap * tanh(v / cap));
}

#[inline(always)]
fn add_lanes<O: Ops>(_: O, x: &mut [f32], y: &[f32]) {
    zip(x, y, |a, b| a + b);
}

#[inline(always)]
pub(crate) fn add_times_lanes<O: Ops>(_: O, x: &mut [f32], y: &[f32], factor: f32) {
    if factor == 1.0 {
        zip(x, y, |a, b| a + b);
    } else {
        zip(x, y, |a, b| a + factor * b);
    }
}

#[inline(always)]
fn set_times_lanes<O: Ops>(_: O, x: &mut [f32], y: &[f32], factor: f32) {
    zip(x, y, |_, b| factor * b);
}

#[inline(always)]
fn mul_lanes<O: Ops>(_: O, x: &mut [f32], y: &[f32]) {
    zip(x, y, |a, b| a * b);
}

#[inline(always)]
fn scale_lanes<O: Ops>(_: O, x: &mut [f32], scale: f32) {
    map(x, |v| v * scale);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    const ALL: [Activation; 16] = [
        Activation::Identity,
        Activation::Silu,
        Activation::GeluTanh,
        Activation::GeluErf,
        Activation::GeluQuick,
        Activation::Relu,
        Activation::ReluSquared,
        Activation::Sigmoid,
        Activation::Softplus,
        Activation::Tanh,
        Activation::Exp,
        Activation::SwigluOai { alpha: 1.702, limit: 7.0 },
        Activation::SiluClamped { limit: 2.0, cap_before: true },
        Activation::SiluClamped { limit: 2.0, cap_before: false },
        Activation::Xielu { alpha_p: 0.8, alpha_n: 0.3, beta: 0.5, eps: -1e-6 },
        Activation::Situ { beta: 3.0, linear_beta: 2.0 },
    ];

    fn grid() -> Vec<f32> {
        (-1000..=1000).map(|i| i as f32 * 0.013).collect()
    }

    /// The formula of `f` in f64, by the standard library.
    fn reference(f: Activation, x: f64) -> Option<f64> {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let gelu = |x: f64| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        };
        Some(match f {
            Activation::Identity => x,
            Activation::Silu => x * sigmoid(x),
            Activation::GeluTanh => gelu(x),
            Activation::GeluQuick => x * sigmoid(1.702 * x),
            Activation::Relu => x.max(0.0),
            Activation::ReluSquared => x.max(0.0).powi(2),
            Activation::Sigmoid => sigmoid(x),
            Activation::Softplus => x.exp().ln_1p(),
            Activation::Tanh => x.tanh(),
            Activation::Exp => x.exp(),
            Activation::Situ { .. } => 3.0 * (x / 3.0).tanh() * sigmoid(x),
            _ => return None,
        })
    }

    #[test]
    fn functions_are_their_formulas() {
        for f in ALL {
            let mut y = grid();
            activate(Isa::detect(), f, &mut y);
            for (x, y) in grid().into_iter().zip(y) {
                let Some(expected) = reference(f, f64::from(x)) else { break };
                let tolerance = 1e-6 * expected.abs().max(f64::from(x).abs()).max(1.0);
                assert!((f64::from(y) - expected).abs() <= tolerance, "{f:?} {x}: {y}");
            }
        }
    }

    #[test]
    fn gelu_by_the_error_function_has_its_known_values() {
        let mut x = [-3.0, -1.0, 0.0, 1.0, 3.0];
        activate(Isa::detect(), Activation::GeluErf, &mut x);
        let expected = [-0.004_049_694, -0.158_655_25, 0.0, 0.841_344_8, 2.995_950_3];
        for (y, e) in x.iter().zip(expected) {
            assert!((y - e).abs() < 4e-7, "{y} {e}");
        }
    }

    #[test]
    fn values_beyond_a_limit_are_cut() {
        let isa = Isa::detect();
        let mut gate = [100.0f32, -100.0, 1.0];
        activate_gated(
            isa,
            Activation::SwigluOai { alpha: 1.702, limit: 7.0 },
            &mut gate,
            &[100.0, 1.0, -100.0],
        );
        let g = 1.0 / (1.0 + (-1.702f32).exp());
        assert!((gate[0] - 7.0 * 8.0).abs() < 1e-3, "{gate:?}");
        assert!(gate[1].abs() < 1e-6 && (gate[2] - g * -6.0).abs() < 1e-5, "{gate:?}");
        let mut gate = [100.0f32, 100.0];
        let f = Activation::SiluClamped { limit: 2.0, cap_before: false };
        activate_gated(isa, f, &mut gate, &[5.0, -5.0]);
        assert_eq!(gate, [4.0, -4.0]);
        let mut below = [-2.0f32];
        let f = Activation::Xielu { alpha_p: 0.8, alpha_n: 0.3, beta: 0.5, eps: -1e-6 };
        activate(isa, f, &mut below);
        let expected = ((-2f64).exp_m1() + 2.0) * 0.3 - 1.0;
        assert!((f64::from(below[0]) - expected).abs() < 1e-6);
    }

    #[test]
    fn tiers_agree_to_the_bit_and_gating_multiplies() {
        let mut x = grid();
        x.extend([f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, 1e-40]);
        let up: Vec<f32> = x.iter().rev().map(|x| x.clamp(-3.0, 3.0)).collect();
        let bits = |x: &[f32]| x.iter().map(|x| (x.to_bits(), x.is_nan())).collect::<Vec<_>>();
        for f in ALL {
            let (mut alone, mut gated) = (x.clone(), x.clone());
            activate(Isa::SCALAR, f, &mut alone);
            activate_gated(Isa::SCALAR, f, &mut gated, &up);
            for isa in Isa::supported() {
                let (mut a, mut g) = (x.clone(), x.clone());
                activate(isa, f, &mut a);
                activate_gated(isa, f, &mut g, &up);
                for (ours, scalar) in [(a, &alone), (g, &gated)] {
                    for (o, s) in bits(&ours).into_iter().zip(bits(scalar)) {
                        assert!(o.0 == s.0 || o.1 && s.1, "{f:?} {isa}");
                    }
                }
            }
            if matches!(f, Activation::Silu | Activation::GeluTanh | Activation::ReluSquared) {
                mul(Isa::detect(), &mut alone, &up);
                assert_eq!(bits(&alone), bits(&gated), "{f:?}");
            }
        }
    }
}
