//! Mixers with a state: causal convolution, Mamba, Mamba-2, the gated delta rule.
//!
//! Each runs the tokens of one sequence in order and leaves the state as it is after the last;
//! cutting a sequence anywhere gives the same bits. Work is split over channels or heads.

use crate::disjoint::Disjoint;
use crate::lanes::{Ops, dot, tiers};
use crate::math::exp;
use crate::{Isa, Parts, Pool};

/// Rows of equal length at equal distances: some columns of a wider matrix.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    data: &'a [f32],
    stride: usize,
    len: usize,
}

impl<'a> Columns<'a> {
    /// Columns `start..start + len` of `data` (n, width).
    ///
    /// # Panics
    /// If they are not columns of it.
    pub fn new(data: &'a [f32], width: usize, start: usize, len: usize) -> Columns<'a> {
        assert!(width > 0 && data.len().is_multiple_of(width), "whole rows");
        assert!(start + len <= width, "columns of the matrix");
        Columns { data: data.get(start..).unwrap_or_default(), stride: width, len }
    }

    /// All of `data` (n, width).
    pub fn all(data: &'a [f32], width: usize) -> Columns<'a> {
        Columns::new(data, width, 0, width)
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.stride..][..self.len]
    }
}

/// A result (n, width) of which a task writes some columns.
struct Out<'a> {
    data: Disjoint<'a, f32>,
    width: usize,
}

impl<'a> Out<'a> {
    fn new(data: &'a mut [f32], n: usize, width: usize) -> Out<'a> {
        assert_eq!(data.len(), n * width, "a result for each token");
        Out { data: Disjoint::new(data), width }
    }

    /// Columns `start..start + len` of row `t`, which belong to the calling task.
    fn part(&self, t: usize, start: usize, len: usize) -> &'a mut [f32] {
        let at = t * self.width + start;
        // SAFETY: each task has columns of its own, and holds one row's part at a time.
        #[expect(unsafe_code, reason = "threads write disjoint columns of one matrix")]
        unsafe {
            self.data.range(at..at + len)
        }
    }
}

/// Channels of one task of [`conv1d`] and [`mamba_scan`].
const CHANNELS: usize = 64;

/// A causal convolution of each channel over time.
#[derive(Clone, Copy, Debug)]
pub struct Conv1d<'a> {
    /// (channels, taps), the oldest tap first.
    pub weight: &'a [f32],
    /// (channels).
    pub bias: Option<&'a [f32]>,
    /// How many inputs, the newest included, make an output.
    pub taps: usize,
}

/// Convolves `x` (n, channels) to `out` (n, channels). `state` (taps - 1, channels) holds the inputs
/// before, oldest first, and then the last ones of `x`.
///
/// # Panics
/// If shapes do not fit each other.
pub fn conv1d(
    pool: &mut Pool,
    isa: Isa,
    conv: &Conv1d<'_>,
    state: &mut [f32],
    n: usize,
    x: Columns<'_>,
    out: &mut [f32],
) {
    let channels = x.len;
    assert_eq!(conv.weight.len(), channels * conv.taps, "taps for each channel");
    assert_eq!(state.len(), channels * (conv.taps - 1), "a state for each channel");
    let out = Out::new(out, n, channels);
    let inputs = Inputs { state, x, channels, past: conv.taps - 1 };
    pool.run(channels.div_ceil(CHANNELS), |task, _| {
        let start = task * CHANNELS;
        let end = (start + CHANNELS).min(channels);
        conv1d_channels(isa, conv, &inputs, n, start, end, &out);
    });
    keep_inputs(state, n, x);
}

/// The inputs of a convolution: those kept, then those of the span.
struct Inputs<'a> {
    state: &'a [f32],
    x: Columns<'a>,
    channels: usize,
    past: usize,
}

impl Inputs<'_> {
    /// All channels of the input `i`, counted from the oldest kept.
    #[inline(always)]
    fn row(&self, i: usize) -> &[f32] {
        match i.checked_sub(self.past) {
            Some(t) => self.x.row(t),
            None => &self.state[i * self.channels..][..self.channels],
        }
    }
}

tiers! {
    fn conv1d_channels(
        conv: &Conv1d<'_>,
        inputs: &Inputs<'_>,
        n: usize,
        start: usize,
        end: usize,
        out: &Out<'_>,
    ) = conv1d_channels_lanes;
}

#[inline(always)]
fn conv1d_channels_lanes<O: Ops>(
    _: O,
    conv: &Conv1d<'_>,
    inputs: &Inputs<'_>,
    n: usize,
    start: usize,
    end: usize,
    out: &Out<'_>,
) {
    for t in 0..n {
        let out = out.part(t, start, end - start);
        match conv.bias {
            Some(bias) => out.copy_from_slice(&bias[start..end]),
            None => out.fill(0.0),
        }
        for tap in 0..conv.taps {
            let x = &inputs.row(t + tap)[start..end];
            let weight = conv.weight[start * conv.taps..].chunks_exact(conv.taps);
            for ((y, x), w) in out.iter_mut().zip(x).zip(weight) {
                *y = x.mul_add(w[tap], *y);
            }
        }
    }
}

/// Moves `n` rows of `x` into the kept inputs.
fn keep_inputs(state: &mut [f32], n: usize, x: Columns<'_>) {
    let past = state.len() / x.len.max(1);
    let moved = n.min(past);
    state.copy_within(moved * x.len.., 0);
    for i in 0..moved {
        state[(past - moved + i) * x.len..][..x.len].copy_from_slice(x.row(n - moved + i));
    }
}

/// What Mamba's scan reads for each token.
#[derive(Clone, Copy, Debug)]
pub struct MambaInputs<'a> {
    /// (n, inner).
    pub x: Columns<'a>,
    /// (n, inner) in Mamba, (n, heads) in Mamba-2: step sizes, after softplus.
    pub dt: Columns<'a>,
    /// (n, state) in Mamba, (n, groups * state) in Mamba-2.
    pub b: Columns<'a>,
    /// As `b`.
    pub c: Columns<'a>,
}

/// Weights of Mamba's scan.
#[derive(Clone, Copy, Debug)]
pub struct MambaWeights<'a> {
    /// (inner, state) in Mamba, (heads) in Mamba-2: negative.
    pub a: &'a [f32],
    /// (inner) in Mamba, (heads) in Mamba-2: how much of x is added to the result.
    pub d: &'a [f32],
}

/// Mamba's selective scan (Gu and Dao, 2023): `h = exp(dt a) h + dt x b`, `y = h . c + d x` for
/// each of the inner elements; `state` (inner, state), `y` (n, inner).
///
/// # Panics
/// If shapes do not fit each other.
pub fn mamba_scan(
    pool: &mut Pool,
    isa: Isa,
    weights: &MambaWeights<'_>,
    state: &mut [f32],
    n: usize,
    inputs: &MambaInputs<'_>,
    y: &mut [f32],
) {
    let (inner, n_state) = (inputs.x.len, inputs.b.len);
    assert_eq!(state.len(), inner * n_state, "a state for each element");
    assert_eq!(weights.a.len(), inner * n_state, "a decay for each element of the state");
    let y = Out::new(y, n, inner);
    pool.run_parts(Parts::new(state, CHANNELS * n_state), |task, state, _| {
        mamba_channels(isa, weights, state, task * CHANNELS, n, inputs, &y);
    });
}

tiers! {
    fn mamba_channels(
        weights: &MambaWeights<'_>,
        state: &mut [f32],
        first: usize,
        n: usize,
        inputs: &MambaInputs<'_>,
        y: &Out<'_>,
    ) = mamba_channels_lanes;
    fn mamba2_head(
        weights: &MambaWeights<'_>,
        state: &mut [f32],
        head: Mamba2Head,
        n: usize,
        inputs: &MambaInputs<'_>,
        y: &Out<'_>,
    ) = mamba2_head_lanes;
    fn delta_head(
        rule: &DeltaRule,
        state: &mut [f32],
        head: usize,
        inputs: &DeltaInputs<'_>,
        seen: &mut [f32],
        y: &Out<'_>,
        n: usize,
    ) = delta_head_lanes;
}

#[inline(always)]
fn mamba_channels_lanes<O: Ops>(
    ops: O,
    weights: &MambaWeights<'_>,
    state: &mut [f32],
    first: usize,
    n: usize,
    inputs: &MambaInputs<'_>,
    y: &Out<'_>,
) {
    let n_state = inputs.b.len;
    let n_channels = state.len() / n_state;
    for t in 0..n {
        let (x, dt) = (&inputs.x.row(t)[first..], &inputs.dt.row(t)[first..]);
        let (b, c) = (inputs.b.row(t), inputs.c.row(t));
        let y = y.part(t, first, n_channels);
        for (i, h) in state.chunks_exact_mut(n_state).enumerate() {
            let a = &weights.a[(first + i) * n_state..][..n_state];
            let step = dt[i] * x[i];
            for ((h, a), b) in h.iter_mut().zip(a).zip(b) {
                *h = b.mul_add(step, *h * exp(dt[i] * a));
            }
            y[i] = weights.d[first + i].mul_add(x[i], dot(ops, h, c));
        }
    }
}

/// Mamba-2's scan (Dao and Gu, 2024): as [`mamba_scan`] with one decay a head, and b and c shared
/// by `n_groups` groups of heads; `state` (heads, head_dim, state), `y` (n, inner).
///
/// # Panics
/// If shapes do not fit each other.
pub fn mamba2_scan(
    pool: &mut Pool,
    isa: Isa,
    weights: &MambaWeights<'_>,
    n_groups: usize,
    state: &mut [f32],
    n: usize,
    inputs: &MambaInputs<'_>,
    y: &mut [f32],
) {
    let (inner, n_heads) = (inputs.x.len, inputs.dt.len);
    let n_state = inputs.b.len / n_groups;
    assert_eq!(state.len(), inner * n_state, "a state for each element");
    assert!(inner.is_multiple_of(n_heads) && n_heads.is_multiple_of(n_groups), "equal heads");
    let (head_dim, per_group) = (inner / n_heads, n_heads / n_groups);
    let y = Out::new(y, n, inner);
    pool.run_parts(Parts::new(state, head_dim * n_state), |head, state, _| {
        let head = Mamba2Head { head, group: head / per_group, head_dim, n_state };
        mamba2_head(isa, weights, state, head, n, inputs, &y);
    });
}

/// Which head a task computes.
#[derive(Clone, Copy)]
struct Mamba2Head {
    head: usize,
    group: usize,
    head_dim: usize,
    n_state: usize,
}

#[inline(always)]
fn mamba2_head_lanes<O: Ops>(
    ops: O,
    weights: &MambaWeights<'_>,
    state: &mut [f32],
    of: Mamba2Head,
    n: usize,
    inputs: &MambaInputs<'_>,
    y: &Out<'_>,
) {
    let Mamba2Head { head, group, head_dim, n_state } = of;
    for t in 0..n {
        let dt = inputs.dt.row(t)[head];
        let decay = exp(dt * weights.a[head]);
        let x = &inputs.x.row(t)[head * head_dim..][..head_dim];
        let b = &inputs.b.row(t)[group * n_state..][..n_state];
        let c = &inputs.c.row(t)[group * n_state..][..n_state];
        let y = y.part(t, head * head_dim, head_dim);
        for ((h, x), y) in state.chunks_exact_mut(n_state).zip(x).zip(y) {
            let step = dt * x;
            for (h, b) in h.iter_mut().zip(b) {
                *h = b.mul_add(step, *h * decay);
            }
            *y = weights.d[head].mul_add(*x, dot(ops, h, c));
        }
    }
}

/// Shape of a gated delta rule.
#[derive(Clone, Copy, Debug)]
pub struct DeltaRule {
    /// Query and key heads.
    pub n_k_heads: usize,
    /// Value heads, each with a state.
    pub n_v_heads: usize,
    /// Value head `h` uses key head `h % n_k_heads` instead of the one whose run it is in.
    pub tiled: bool,
    /// Elements of a key.
    pub k_dim: usize,
    /// Elements of a value.
    pub v_dim: usize,
    /// Factor on results: 1 / sqrt(k_dim) where queries are not scaled before.
    pub scale: f32,
}

/// What a gated delta rule reads for each token.
#[derive(Clone, Copy, Debug)]
pub struct DeltaInputs<'a> {
    /// (n, key heads * k_dim).
    pub q: Columns<'a>,
    /// (n, key heads * k_dim).
    pub k: Columns<'a>,
    /// (n, value heads * v_dim).
    pub v: Columns<'a>,
    /// (n, value heads), or (n, value heads * k_dim) for a decay of each element of the key:
    /// natural logarithms of decays.
    pub log_decay: Columns<'a>,
    /// (n, value heads): how much is written.
    pub beta: Columns<'a>,
}

/// The gated delta rule (Yang et al., 2024): `S = decay S`, `S += k (beta (v - S^T k))^T`,
/// `y = scale S^T q` for each value head; `state` (value heads, k_dim, v_dim),
/// `y` (n, value heads * v_dim).
///
/// # Panics
/// If shapes do not fit each other.
pub fn delta_scan(
    pool: &mut Pool,
    isa: Isa,
    rule: &DeltaRule,
    state: &mut [f32],
    n: usize,
    inputs: &DeltaInputs<'_>,
    y: &mut [f32],
) {
    let DeltaRule { n_k_heads, n_v_heads, k_dim, v_dim, .. } = *rule;
    assert_eq!(state.len(), n_v_heads * k_dim * v_dim, "a state for each value head");
    assert!(n_v_heads.is_multiple_of(n_k_heads), "value heads in runs of equal length");
    let y = Out::new(y, n, n_v_heads * v_dim);
    pool.run_parts(Parts::new(state, k_dim * v_dim), |head, state, worker| {
        let seen = &mut worker.scratch()[..v_dim];
        delta_head(isa, rule, state, head, inputs, seen, &y, n);
    });
}

#[inline(always)]
fn delta_head_lanes<O: Ops>(
    _: O,
    rule: &DeltaRule,
    state: &mut [f32],
    head: usize,
    inputs: &DeltaInputs<'_>,
    seen: &mut [f32],
    y: &Out<'_>,
    n: usize,
) {
    let DeltaRule { n_k_heads, n_v_heads, tiled, k_dim, v_dim, scale } = *rule;
    let k_head = if tiled { head % n_k_heads } else { head / (n_v_heads / n_k_heads) };
    let per_channel = inputs.log_decay.len == n_v_heads * k_dim;
    for t in 0..n {
        let q = &inputs.q.row(t)[k_head * k_dim..][..k_dim];
        let k = &inputs.k.row(t)[k_head * k_dim..][..k_dim];
        let v = &inputs.v.row(t)[head * v_dim..][..v_dim];
        let log_decay = inputs.log_decay.row(t);
        let beta = inputs.beta.row(t)[head];
        seen.fill(0.0);
        for (i, row) in state.chunks_exact_mut(v_dim).enumerate() {
            let decay = exp(log_decay[if per_channel { head * k_dim + i } else { head }]);
            for (s, seen) in row.iter_mut().zip(&mut *seen) {
                *s *= decay;
                *seen = k[i].mul_add(*s, *seen);
            }
        }
        for (seen, v) in seen.iter_mut().zip(v) {
            *seen = beta * (v - *seen);
        }
        let y = y.part(t, head * v_dim, v_dim);
        y.fill(0.0);
        for (i, row) in state.chunks_exact_mut(v_dim).enumerate() {
            for ((s, seen), y) in row.iter_mut().zip(&*seen).zip(&mut *y) {
                *s = k[i].mul_add(*seen, *s);
                *y = q[i].mul_add(*s, *y);
            }
        }
        y.iter_mut().for_each(|y| *y *= scale);
    }
}

#[cfg(test)]
mod tests;
