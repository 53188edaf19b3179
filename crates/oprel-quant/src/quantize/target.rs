//! What a search is to come near to: the weights of a block and how much each matters.

/// Weights of a block, the farthest from zero of which is 1 or -1.
pub(super) struct Target<const N: usize> {
    /// The weights.
    pub(super) x: [f32; N],
    /// How much the square of an error in each counts.
    pub(super) w: [f32; N],
    /// What 1 stands for.
    pub(super) one: f32,
}

impl<const N: usize> Target<N> {
    /// `None` if all weights are zero. NaN counts as zero, and what half precision has no number
    /// for as its largest.
    pub(super) fn new(x: &[f32; N], importance: Option<&[f32; N]>) -> Option<Target<N>> {
        let limit = half::f16::MAX.to_f32();
        let x = x.map(|v| if v.is_nan() { 0.0 } else { v.clamp(-limit, limit) });
        let one = x.iter().fold(0.0, |far: f32, v| far.max(v.abs()));
        if one == 0.0 {
            return None;
        }
        let x = x.map(|v| v / one);
        let w = importances(importance);
        Some(Target { x, w, one })
    }

    /// Lets errors in large weights count somewhat more. Where errors are small beside the weights this
    /// leaves less divergence than the least squared error does: large ones are few, and errors in them do
    /// not average out.
    #[inline(always)]
    pub(super) fn favour_large(&mut self) {
        let mut mean_square = 0.0;
        for v in &self.x {
            mean_square += v * v / N as f32;
        }
        for i in 0..N {
            self.w[i] *= (mean_square + self.x[i] * self.x[i]).sqrt().sqrt();
        }
    }
}

/// How much an error in each column counts: alike without importance; with it, a column that
/// nothing was seen in still counts a thousandth of the others.
fn importances<const N: usize>(importance: Option<&[f32; N]>) -> [f32; N] {
    let Some(importance) = importance else { return [1.0; N] };
    let most = importance.iter().fold(0.0, |most: f32, v| most.max(*v));
    if most == 0.0 {
        return [1.0; N];
    }
    let w = importance.map(|v| v / most);
    let least = w.iter().sum::<f32>() / N as f32 * 1e-3;
    w.map(|v| v + least)
}

/// A scale in half precision: its bits, and what it is beside a weight of 1.
pub(super) fn half_scale(d: f32, one: f32) -> ([u8; 2], f32) {
    let limit = half::f16::MAX.to_f32();
    let stored = half::f16::from_f32((d * one).clamp(-limit, limit));
    (stored.to_le_bytes(), stored.to_f32() / one)
}
