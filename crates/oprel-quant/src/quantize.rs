//! f32 to stored weights: by a rule where a type has one, else by a search for the least error.

mod fp4;
mod grid;
mod nonlinear;
mod simple;
mod target;
mod ternary;

use crate::quantize_k::each_block;
use crate::{Error, Lanes, Portable, QuantType, quantize_k};
use half::{bf16, f16};

/// Writes the weights `src` as `ty` to `dst`, all of them equally important.
///
/// A block of the simple types (Q4_0 to Q8_0) with a NaN or an infinity has a scale that is NaN or
/// infinite, and codes without meaning; other types take a NaN for 0 and an infinity for a large number.
///
/// # Errors
/// As [`quantize_weighted`].
pub fn quantize(ty: QuantType, src: &[f32], dst: &mut [u8]) -> Result<(), Error> {
    quantize_weighted(ty, src, src.len(), None, dst)
}

/// Writes the weights `src` (rows, columns) as `ty` to `dst`. `importance` (columns) says how much an
/// error in a column matters: the mean square of what it is multiplied by. Types whose codes follow from
/// a plain rule (numbers, Q4_0 to Q8_0) ignore it.
///
/// # Errors
/// [`Error::Length`] if `dst` is not exactly the bytes of `src.len()` weights or a row is no whole number
/// of blocks, [`Error::Importance`] if there is not one finite number, at least 0, for each column,
/// [`Error::CannotQuantize`] for types that only hold intermediate results and for integers.
pub fn quantize_weighted(
    ty: QuantType,
    src: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<(), Error> {
    Error::check_length(ty, src.len(), dst.len())?;
    Error::check_importance(ty, src.len(), columns, importance)?;
    match ty {
        QuantType::F32 => numbers(src, dst, f32::to_le_bytes),
        QuantType::F16 => numbers(src, dst, |x| f16::from_f32(x).to_le_bytes()),
        QuantType::BF16 => numbers(src, dst, |x| bf16::from_f32(x).to_le_bytes()),
        QuantType::Q4_0 => simple::blocks(src, dst, simple::q4_0),
        QuantType::Q4_1 => simple::blocks(src, dst, simple::q4_1),
        QuantType::Q5_0 => simple::blocks(src, dst, simple::q5_0),
        QuantType::Q5_1 => simple::blocks(src, dst, simple::q5_1),
        QuantType::Q8_0 => simple::blocks(src, dst, simple::q8_0),
        QuantType::Q1_0 => by_block(src, columns, importance, dst, simple::q1_0),
        QuantType::TQ1_0 => by_block(src, columns, importance, dst, ternary::tq1_0),
        QuantType::TQ2_0 => by_block(src, columns, importance, dst, ternary::tq2_0),
        QuantType::MXFP4 => by_block(src, columns, importance, dst, fp4::mxfp4),
        QuantType::NVFP4 => by_block(src, columns, importance, dst, fp4::nvfp4),
        _ if is_iq(ty) => return quantize_iq(Portable, ty, src, columns, importance, dst),
        _ => return quantize_k(Portable, ty, src, columns, importance, dst),
    }
    Ok(())
}

/// Whether `ty` is one of those that [`quantize_iq`] knows.
fn is_iq(ty: QuantType) -> bool {
    use QuantType::*;
    matches!(ty, IQ4_NL | IQ4_XS | IQ3_S | IQ3_XXS | IQ2_S | IQ2_XS | IQ2_XXS | IQ1_S | IQ1_M)
}

/// Writes the weights `src` (rows, columns) as `ty`, one of the IQ types, to `dst`, computing in `lanes`.
/// Whatever these are, the bytes are those of [`quantize_weighted`].
///
/// # Errors
/// As `quantize_weighted`; [`Error::CannotQuantize`] for all other types.
#[inline(always)]
pub fn quantize_iq<L: Lanes>(
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
        QuantType::IQ4_NL => each_block!(lanes, src, importance, dst, nonlinear::iq4_nl),
        QuantType::IQ4_XS => each_block!(lanes, src, importance, dst, nonlinear::iq4_xs),
        _ => {
            if let Some(kind) = grid::of_four(ty) {
                kind.quantize::<32, L>(lanes, src, importance, dst);
                return Ok(());
            }
            let kind = grid::of_eight(ty).ok_or(Error::CannotQuantize { ty })?;
            if matches!(ty, QuantType::IQ2_XXS | QuantType::IQ1_S) {
                kind.quantize::<32, L>(lanes, src, importance, dst);
            } else {
                kind.quantize::<16, L>(lanes, src, importance, dst);
            }
        }
    }
    Ok(())
}

fn numbers<const N: usize>(src: &[f32], dst: &mut [u8], write: impl Fn(f32) -> [u8; N]) {
    for (bytes, x) in dst.as_chunks_mut().0.iter_mut().zip(src) {
        *bytes = write(*x);
    }
}

/// Calls `block` with each block of weights, the importance of its columns, and its bytes.
fn by_block<const N: usize, const BYTES: usize>(
    src: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
    block: fn(&[f32; N], Option<&[f32; N]>, &mut [u8; BYTES]),
) {
    let importance = importance.map(|all| all.as_chunks().0);
    let in_row = columns / N;
    let stored = dst.as_chunks_mut().0.iter_mut();
    for (i, (x, bytes)) in src.as_chunks().0.iter().zip(stored).enumerate() {
        let importance = importance.map(|all| &all[i % in_row]);
        // Where no column matters, all do.
        block(x, importance.filter(|w| w.iter().any(|w| *w > 0.0)), bytes);
    }
}
