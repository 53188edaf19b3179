//! Mixers with a state of fixed size, from the `ssm.*` metadata and tensors that families share.

use oprel_nn::describe::{
    Conv1d, Decay, DecayForm, Delta, HeadMap, Linear, Mamba, Mamba2, Norm, NormKind, ShortConv,
    SlotId, StateSpec,
};

use crate::source::Source;
use crate::{Hyper, Result};

/// Sizes of a state space or delta rule, as `ssm.*` gives them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ssm {
    /// Elements of x, or of all value heads.
    pub(crate) inner: u32,
    /// Elements of the state of each, or of a key head.
    pub(crate) state: u32,
    /// Rank of the step size (Mamba), or heads.
    pub(crate) dt_rank: u32,
    /// Groups that share B and C, or key heads.
    pub(crate) groups: u32,
    /// Taps of the convolution.
    pub(crate) kernel: u32,
}

impl Ssm {
    /// Reads and checks them; `groups` is 1 for Mamba, which has none.
    pub(crate) fn read(s: &Source<'_>) -> Result<Ssm> {
        let groups = s.u32_or_zero("ssm.group_count")?.max(1);
        Ok(Ssm {
            inner: bounded(s, "ssm.inner_size", 1 << 20)?,
            state: bounded(s, "ssm.state_size", 1 << 14)?,
            dt_rank: bounded(s, "ssm.time_step_rank", 1 << 14)?,
            groups,
            kernel: kernel(s, "ssm.conv_kernel")?,
        })
    }

    /// Checks that heads divide the inner size, and groups the heads.
    pub(crate) fn with_heads(self, s: &Source<'_>) -> Result<Ssm> {
        if !self.inner.is_multiple_of(self.dt_rank) {
            return Err(s.wrong("ssm.time_step_rank", self.dt_rank, "must divide ssm.inner_size"));
        }
        if self.groups > self.dt_rank || !self.dt_rank.is_multiple_of(self.groups) {
            let why = "must divide ssm.time_step_rank";
            return Err(s.wrong("ssm.group_count", self.groups, why));
        }
        Ok(self)
    }
}

fn bounded(s: &Source<'_>, key: &str, most: u32) -> Result<u32> {
    let n = s.u32(key)?;
    if n == 0 || n > most {
        return Err(s.wrong(key, n, "must be positive and of a sane size"));
    }
    Ok(n)
}

/// Taps of a convolution over time.
fn kernel(s: &Source<'_>, key: &str) -> Result<u32> {
    let n = s.u32(key)?;
    if !(2..=64).contains(&n) {
        return Err(s.wrong(key, n, "must be from 2 to 64"));
    }
    Ok(n)
}

/// Convolution `NAME` of `channels`, with its bias where the file has one.
fn conv(s: &mut Source<'_>, name: &str, kernel: u32, channels: u32) -> Result<Conv1d> {
    Ok(Conv1d {
        weight: s.tensor(&format!("{name}.weight"), &[kernel, channels])?,
        bias: s.maybe_tensor(&format!("{name}.bias"), &[channels])?,
        kernel,
        channels,
    })
}

fn slot(s: &mut Source<'_>, state: usize, conv: &Conv1d) -> SlotId {
    let conv = (conv.kernel as usize - 1) * conv.channels as usize;
    s.slot(StateSpec::Recurrent { state, conv })
}

/// Mamba of layer `i`.
pub(crate) fn mamba(s: &mut Source<'_>, h: &Hyper, ssm: &Ssm, i: u32) -> Result<Mamba> {
    let name = |part: &str| format!("blk.{i}.ssm_{part}");
    let &Ssm { inner, state, dt_rank, .. } = ssm;
    let conv = conv(s, &name("conv1d"), ssm.kernel, inner)?;
    let dt_b_c_norm = match s.maybe_norm(&name("dt_norm"), dt_rank, NormKind::Rms, h.eps)? {
        Some(dt) => Some([
            dt,
            s.norm(&name("b_norm"), state, NormKind::Rms, h.eps)?,
            s.norm(&name("c_norm"), state, NormKind::Rms, h.eps)?,
        ]),
        None if s.bool_or("ssm.dt_b_c_rms", false)? => {
            let bare = |eps| Norm { kind: NormKind::Rms, eps, groups: 1, weight: None, bias: None };
            Some([bare(h.eps), bare(h.eps), bare(h.eps)])
        }
        None => None,
    };
    Ok(Mamba {
        inner,
        state,
        dt_rank,
        input: s.linear(&name("in"), h.width, 2 * inner)?,
        conv,
        x: s.linear(&name("x"), inner, dt_rank + 2 * state)?,
        dt: s.linear(&name("dt"), dt_rank, inner)?,
        dt_b_c_norm,
        a: s.tensor(&name("a"), &[state, inner])?,
        d: s.tensor(&name("d"), &[inner])?,
        out: s.linear(&name("out"), inner, h.width)?,
        slot: slot(s, inner as usize * state as usize, &conv),
    })
}

/// Mamba-2 of layer `i`.
pub(crate) fn mamba2(s: &mut Source<'_>, h: &Hyper, ssm: &Ssm, i: u32) -> Result<Mamba2> {
    let name = |part: &str| format!("blk.{i}.ssm_{part}");
    let &Ssm { inner, state, dt_rank: n_heads, groups, .. } = ssm;
    let convolved = inner + 2 * groups * state;
    let conv = conv(s, &name("conv1d"), ssm.kernel, convolved)?;
    let norm = s.maybe_tensor(&name("norm.weight"), &[inner / groups, groups])?;
    Ok(Mamba2 {
        inner,
        state,
        n_heads,
        n_groups: groups,
        input: s.linear(&name("in"), h.width, inner + convolved + n_heads)?,
        conv,
        dt_bias: s.tensor(&name("dt.bias"), &[n_heads])?,
        a: s.tensor(&name("a"), &[1, n_heads])?,
        d: s.tensor(&name("d"), &[1, n_heads])?,
        norm: norm.map(|w| Norm {
            kind: NormKind::Rms,
            eps: h.eps,
            groups,
            weight: Some(w),
            bias: None,
        }),
        out: s.linear(&name("out"), inner, h.width)?,
        slot: slot(s, inner as usize * state as usize, &conv),
    })
}

/// Gated delta rule of layer `i` with one decay a head, over `attn_qkv`, `attn_gate` and separate
/// projections for beta and the decay (Qwen3.5).
pub(crate) fn delta(s: &mut Source<'_>, h: &Hyper, ssm: &Ssm, i: u32) -> Result<Delta> {
    let blk = |part: &str| format!("blk.{i}.{part}");
    let &Ssm { inner, state: dim, dt_rank: n_v_heads, groups: n_k_heads, .. } = ssm;
    let keys = n_k_heads * dim;
    let qkv = s.linear(&blk("attn_qkv"), h.width, 2 * keys + inner)?;
    let conv = conv(s, &blk("ssm_conv1d"), ssm.kernel, 2 * keys + inner)?;
    let norm = s.norm(&blk("ssm_norm"), inner / n_v_heads, NormKind::Rms, h.eps)?;
    Ok(Delta {
        n_k_heads,
        n_v_heads,
        k_dim: dim,
        v_dim: inner / n_v_heads,
        head_map: HeadMap::Tiled,
        qkv: [
            s.part(&qkv, 0..keys),
            s.part(&qkv, keys..2 * keys),
            s.part(&qkv, 2 * keys..2 * keys + inner),
        ],
        conv,
        l2_eps: h.eps,
        decay: Decay {
            form: DecayForm::Softplus,
            f: s.linear(&blk("ssm_alpha"), h.width, n_v_heads)?,
            f_up: None,
            bias: s.tensor(&blk("ssm_dt.bias"), &[n_v_heads])?,
            a: s.tensor(&blk("ssm_a"), &[n_v_heads])?,
            per_channel: false,
        },
        beta: s.linear(&blk("ssm_beta"), h.width, n_v_heads)?,
        gate: s.linear(&blk("attn_gate"), h.width, inner)?,
        gate_up: None,
        gate_sigmoid: false,
        norm: Norm { groups: n_v_heads, ..norm },
        out: s.linear(&blk("ssm_out"), inner, h.width)?,
        slot: slot(s, inner as usize * dim as usize, &conv),
    })
}

/// Sizes of a delta rule with a decay a channel, as `kda.*` gives them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kda {
    n_heads: u32,
    dim: u32,
    kernel: u32,
    form: DecayForm,
}

impl Kda {
    /// Reads and checks them.
    pub(crate) fn read(s: &Source<'_>, n_heads: u32) -> Result<Kda> {
        let lowest = s.metadata().f32(&s.key("kda.gate_lower_bound"))?;
        let form = match lowest {
            Some(lowest) if lowest.is_finite() => DecayForm::Sigmoid { lowest },
            _ => DecayForm::Softplus,
        };
        let (dim, kernel) = (bounded(s, "kda.head_dim", 1 << 14)?, kernel(s, "ssm.conv_kernel")?);
        Ok(Kda { n_heads, dim, kernel, form })
    }
}

/// Gated delta rule of layer `i` with one decay a channel, over split projections (Kimi-K3).
pub(crate) fn channel_delta(s: &mut Source<'_>, h: &Hyper, kda: &Kda, i: u32) -> Result<Delta> {
    let blk = |part: &str| format!("blk.{i}.{part}");
    let &Kda { n_heads, dim, kernel, form } = kda;
    let inner = n_heads * dim;
    let conv = split_conv(s, i, kernel, inner)?;
    // The reference leaves out the biases that files may have.
    let mut projected = |part: &str| s.linear(&blk(part), h.width, inner).map(without_bias);
    let qkv = [projected("attn_q")?, projected("attn_k")?, projected("attn_v")?];
    let norm = s.norm(&blk("ssm_norm"), dim, NormKind::Rms, h.eps)?;
    Ok(Delta {
        n_k_heads: n_heads,
        n_v_heads: n_heads,
        k_dim: dim,
        v_dim: dim,
        head_map: HeadMap::Tiled,
        qkv,
        conv,
        l2_eps: h.eps,
        decay: Decay {
            form,
            f: s.linear(&blk("ssm_f_a"), h.width, dim)?,
            f_up: Some(s.linear(&blk("ssm_f_b"), dim, inner)?),
            bias: s.tensor(&blk("ssm_dt.bias"), &[inner])?,
            a: s.tensor(&blk("ssm_a"), &[n_heads])?,
            per_channel: true,
        },
        beta: s.linear(&blk("ssm_beta"), h.width, n_heads)?,
        gate: s.linear(&blk("ssm_g"), h.width, inner)?,
        gate_up: None,
        gate_sigmoid: true,
        norm: Norm { groups: n_heads, ..norm },
        out: s.linear(&blk("attn_output"), inner, h.width)?,
        slot: slot(s, inner as usize * dim as usize, &conv),
    })
}

/// The convolution over queries, keys and values side by side, which the file holds apart.
fn split_conv(s: &mut Source<'_>, i: u32, kernel: u32, inner: u32) -> Result<Conv1d> {
    let mut taps = Vec::new();
    for part in ["q", "k", "v"] {
        let name = format!("blk.{i}.ssm_conv1d_{part}.weight");
        let id = s.tensor(&name, &[kernel, 1, inner])?;
        taps.extend_from_slice(&s.weights().vector(id)?);
    }
    let (rows, name) = (3 * inner, format!("blk.{i}.ssm_conv1d"));
    let weight = s.in_memory(&name, (rows, kernel), &taps)?;
    Ok(Conv1d { weight, bias: None, kernel, channels: rows })
}

/// Gated short convolution of layer `i` (LFM2).
pub(crate) fn short_conv(s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<ShortConv> {
    let name = |part: &str| format!("blk.{i}.shortconv.{part}");
    let taps = kernel(s, "shortconv.l_cache")?;
    let conv = conv(s, &name("conv"), taps, h.width)?;
    Ok(ShortConv {
        input: s.linear(&name("in_proj"), h.width, 3 * h.width)?,
        conv,
        out: without_bias(s.linear(&name("out_proj"), h.width, h.width)?),
        slot: slot(s, 0, &conv),
    })
}

/// A projection whose bias the reference implementation leaves out.
pub(crate) fn without_bias(of: Linear) -> Linear {
    Linear { bias: None, ..of }
}
