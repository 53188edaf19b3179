//! Rotary position embeddings: how they are described, and the angles they give.

use crate::weights::WeightId;

/// How one kind of rope turns positions into rotations. Layers that share it share a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Rotated elements of a head, from its start; the rest passes through.
    pub dims: u32,
    /// Which elements rotate together.
    pub pairing: Pairing,
    /// Base of the frequencies (theta).
    pub base: f32,
    /// Factor on positions: 1 for none, 1/f for linear scaling by f, and yarn's interpolation.
    pub freq_scale: f32,
    /// YaRN's blend of interpolated and extrapolated frequencies.
    pub yarn: Option<Yarn>,
    /// Factor on cosine and sine (`attn_factor`), without what yarn adds.
    pub magnitude: f32,
    /// Divisors of the frequencies, one for each pair (dims / 2): llama3, longrope.
    pub factors: Option<FreqFactors>,
    /// M-RoPE: pairs that each position component turns.
    pub sections: Option<Sections>,
}

/// Which elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// (0, 1), (2, 3), ...: ggml's NORM.
    Adjacent,
    /// (0, d/2), (1, d/2 + 1), ...: ggml's NEOX.
    Halves,
}

/// YaRN (Peng et al., 2023), as `rope_yarn` in ggml.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// Weight of the extrapolated part (`ext_factor`).
    pub extrapolation: f32,
    /// Rotations over the original context above which a frequency is left alone.
    pub beta_fast: f32,
    /// Rotations below which it is fully interpolated.
    pub beta_slow: f32,
    /// Context length the model was first trained with.
    pub original_context: u32,
}

/// Where frequency divisors come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreqFactors {
    /// One list.
    Fixed(WeightId),
    /// Longrope: one list up to the original context length, another for longer contexts.
    ByContext {
        /// For contexts up to `original`.
        short: WeightId,
        /// For longer ones.
        long: WeightId,
        /// Context length the model was first trained with.
        original: u32,
    },
}

/// M-RoPE sections: how many pairs follow time, height, width and the spare component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sections {
    /// Pairs of each component.
    pub pairs: [u32; 4],
    /// Components alternate pair by pair (qwen3-vl) instead of standing in runs (qwen2-vl).
    pub interleaved: bool,
}

/// Angles of a rope, ready for any position.
#[derive(Clone, Debug)]
pub struct Angles {
    /// (dims / 2): angle of pair i at position 1, before yarn's blend: base^(-2i/dims) / factor.
    extrapolated: Vec<f32>,
    /// (dims / 2): weight of the extrapolated angle; 0 everywhere without yarn.
    blend: Vec<f32>,
    freq_scale: f32,
    magnitude: f32,
    /// (dims / 2): which position component turns pair i.
    component: Vec<u8>,
}

impl Angles {
    /// Prepares the angles; `factors` are the resolved frequency divisors (dims / 2).
    ///
    /// # Panics
    /// If `factors` has another length than dims / 2.
    pub fn new(rope: &Rope, factors: Option<&[f32]>) -> Angles {
        let pairs = rope.dims as usize / 2;
        if let Some(f) = factors {
            assert_eq!(f.len(), pairs, "one frequency factor a pair");
        }
        // ggml multiplies theta step by step in f32; the running product is part of its result.
        let step = rope.base.powf(-2.0 / rope.dims as f32);
        let mut theta = 1.0_f32;
        let mut extrapolated = Vec::with_capacity(pairs);
        for i in 0..pairs {
            extrapolated.push(theta / factors.map_or(1.0, |f| f[i]));
            theta *= step;
        }
        let (blend, magnitude) = match rope.yarn {
            Some(yarn) if yarn.extrapolation != 0.0 => {
                let m = rope.magnitude * (1.0 + 0.1 * (1.0 / rope.freq_scale).ln());
                (yarn_blend(rope, &yarn, pairs), m)
            }
            _ => (vec![0.0; pairs], rope.magnitude),
        };
        let component = (0..pairs).map(|i| component_of(rope.sections, i)).collect();
        Angles { extrapolated, blend, freq_scale: rope.freq_scale, magnitude, component }
    }

    /// Cosine and sine of every pair at a position, magnitude included; (dims / 2) each.
    pub fn at(&self, pos: [i32; 4], cos: &mut [f32], sin: &mut [f32]) {
        for i in 0..self.extrapolated.len() {
            let extrapolated = pos[self.component[i] as usize] as f32 * self.extrapolated[i];
            let interpolated = self.freq_scale * extrapolated;
            let theta = interpolated * (1.0 - self.blend[i]) + extrapolated * self.blend[i];
            let (s, c) = theta.sin_cos();
            cos[i] = c * self.magnitude;
            sin[i] = s * self.magnitude;
        }
    }
}

/// Weight of the extrapolated angle of each pair: 1 for fast pairs, 0 for slow ones, a ramp between.
fn yarn_blend(rope: &Rope, yarn: &Yarn, pairs: usize) -> Vec<f32> {
    let dims = rope.dims as f32;
    let pair_with = |rotations: f32| {
        let wavelengths = yarn.original_context as f32 / (rotations * 2.0 * std::f32::consts::PI);
        dims * wavelengths.ln() / (2.0 * rope.base.ln())
    };
    let low = pair_with(yarn.beta_fast).floor().max(0.0);
    let high = pair_with(yarn.beta_slow).ceil().min(dims - 1.0);
    let ramp = |i: usize| {
        let y = (i as f32 - low) / (high - low).max(0.001);
        (1.0 - y.clamp(0.0, 1.0)) * yarn.extrapolation
    };
    (0..pairs).map(ramp).collect()
}

fn component_of(sections: Option<Sections>, pair: usize) -> u8 {
    let Some(Sections { pairs, interleaved }) = sections else { return 0 };
    let total: u32 = pairs.iter().sum();
    if total == 0 {
        return 0;
    }
    let at = pair as u32 % total;
    if interleaved {
        return match at % 3 {
            1 if at < 3 * pairs[1] => 1,
            2 if at < 3 * pairs[2] => 2,
            0 if at < 3 * pairs[0] => 0,
            _ => 3,
        };
    }
    let mut end = 0;
    for (component, n) in pairs.iter().enumerate() {
        end += n;
        if at < end {
            return component as u8;
        }
    }
    3
}

#[cfg(test)]
mod tests;
