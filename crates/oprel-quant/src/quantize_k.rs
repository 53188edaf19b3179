//! f32 to k-types: which scales and codes lose least.
//!
//! These types leave the choice open; what is chosen here loses no more than what ggml's quantizers choose,
//! with fewer trials, eight runs of weights at a time ([`Lanes`]).

mod affine;
mod block;
mod lanes;
mod pack;
mod symmetric;

pub use lanes::{LANES, Lanes, Portable};

use crate::{Error, QuantType};
use affine::Affine;
use block::Block;
use symmetric::Symmetric;

const Q2_K: Affine =
    Affine { top: 3.0, scale_top: 15.0, first: -0.5, step: 0.1, steps: 16, rounds: 3 };
const Q4_K: Affine =
    Affine { top: 15.0, scale_top: 63.0, first: -1.0, step: 0.1, steps: 20, rounds: 2 };
const Q5_K: Affine =
    Affine { top: 31.0, scale_top: 63.0, first: -0.5, step: 0.1, steps: 16, rounds: 2 };
const Q3_K: Symmetric = Symmetric {
    bottom: 4.0,
    scale_bottom: 32.0,
    first: -0.9,
    step: 0.1,
    steps: 19,
    both_signs: true,
    rounds: 3,
};
const Q6_K: Symmetric = Symmetric {
    bottom: 32.0,
    scale_bottom: 128.0,
    first: -0.9,
    step: 0.1,
    steps: 19,
    both_signs: false,
    rounds: 2,
};

/// Block after block. No function of a closure, which might be compiled without the features of a tier.
macro_rules! each_block {
    ($lanes:ident, $src:ident, $importance:ident, $dst:ident, $block:path) => {{
        let importance = $importance.map(|w| w.as_chunks().0);
        for (i, (x, to)) in $src.as_chunks().0.iter().zip($dst.as_chunks_mut().0).enumerate() {
            $block($lanes, x, importance.map(|w| &w[i % w.len()]), to);
        }
    }};
}
pub(crate) use each_block;

/// Writes the weights `src` (rows, columns) as the k-type `ty` to `dst`, computing in `lanes`. Whatever these
/// are, the bytes are those of [`quantize_weighted`](crate::quantize_weighted).
///
/// # Errors
/// As `quantize_weighted`; [`Error::CannotQuantize`] for all other types.
#[inline(always)]
pub fn quantize_k<L: Lanes>(
    lanes: L,
    ty: QuantType,
    src: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<(), Error> {
    Error::check_length(ty, src.len(), dst.len())?;
    Error::check_importance(ty, src.len(), columns, importance)?;
    match ty {
        QuantType::Q2_K => each_block!(lanes, src, importance, dst, q2_k),
        QuantType::Q3_K => each_block!(lanes, src, importance, dst, q3_k),
        QuantType::Q4_K => each_block!(lanes, src, importance, dst, q4_k),
        QuantType::Q5_K => each_block!(lanes, src, importance, dst, q5_k),
        QuantType::Q6_K => each_block!(lanes, src, importance, dst, q6_k),
        _ => return Err(Error::CannotQuantize { ty }),
    }
    Ok(())
}

#[inline(always)]
fn q2_k<L: Lanes>(lanes: L, x: &[f32; 256], w: Option<&[f32; 256]>, to: &mut [u8; 84]) {
    let block = Block::<16, 2>::new(x, w);
    pack::q2_k(&block, &affine::quantize(lanes, &Q2_K, &block), to);
}

#[inline(always)]
fn q3_k<L: Lanes>(lanes: L, x: &[f32; 256], w: Option<&[f32; 256]>, to: &mut [u8; 110]) {
    let block = Block::<16, 2>::new(x, w);
    pack::q3_k(&block, &symmetric::quantize(lanes, &Q3_K, &block), to);
}

#[inline(always)]
fn q4_k<L: Lanes>(lanes: L, x: &[f32; 256], w: Option<&[f32; 256]>, to: &mut [u8; 144]) {
    let block = Block::<32, 1>::new(x, w);
    pack::q4_k(&block, &affine::quantize(lanes, &Q4_K, &block), to);
}

#[inline(always)]
fn q5_k<L: Lanes>(lanes: L, x: &[f32; 256], w: Option<&[f32; 256]>, to: &mut [u8; 176]) {
    let block = Block::<32, 1>::new(x, w);
    pack::q5_k(&block, &affine::quantize(lanes, &Q5_K, &block), to);
}

#[inline(always)]
fn q6_k<L: Lanes>(lanes: L, x: &[f32; 256], w: Option<&[f32; 256]>, to: &mut [u8; 210]) {
    let block = Block::<16, 2>::new(x, w);
    pack::q6_k(&block, &symmetric::quantize(lanes, &Q6_K, &block), to);
}
