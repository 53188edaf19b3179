//! Scales and codes of a block to its bytes; the layouts are in [`k_quants`](crate::k_quants).

use super::affine::AffineBlock;
use super::block::{Block, in_order};
use super::symmetric::SymmetricBlock;

#[inline(always)]
pub(crate) fn q2_k(block: &Block<16, 2>, of: &AffineBlock<16, 2>, to: &mut [u8; 84]) {
    let (scales, mins) = (of.scales.0.as_flattened(), of.mins.0.as_flattened());
    for i in 0..16 {
        to[i] = scales[i] as u8 | (mins[i] as u8) << 4;
    }
    two_bits(&in_order(&of.codes, 0.0), &mut to[16..80]);
    to[80..82].copy_from_slice(&block.stored(of.d));
    to[82..].copy_from_slice(&block.stored(of.d_min));
}

/// 64 bytes of the two lowest bits of each code.
#[inline(always)]
fn two_bits(codes: &[u8; 256], to: &mut [u8]) {
    for (i, byte) in to.iter_mut().enumerate() {
        let first = i / 32 * 128 + i % 32;
        let bits = |quarter: usize| (codes[first + 32 * quarter] & 3) << (2 * quarter);
        *byte = bits(0) | bits(1) | bits(2) | bits(3);
    }
}

#[inline(always)]
pub(crate) fn q3_k(block: &Block<16, 2>, of: &SymmetricBlock, to: &mut [u8; 110]) {
    let codes = in_order(&of.codes, 4.0);
    for (l, byte) in to[..32].iter_mut().enumerate() {
        *byte = (0..8).fold(0, |bits, k| bits | (codes[k * 32 + l] >> 2) << k);
    }
    two_bits(&codes, &mut to[32..96]);
    to[96..108].fill(0);
    for (i, scale) in of.scales.0.as_flattened().iter().enumerate() {
        let scale = (scale + 32.0) as u8;
        to[96 + i % 8] |= (scale & 15) << (i / 8 * 4);
        to[104 + i % 4] |= (scale >> 4) << (i / 4 * 2);
    }
    to[108..].copy_from_slice(&block.stored(of.d));
}

/// The scales and minima of Q4_K and Q5_K: both f16, then 12 bytes.
#[inline(always)]
fn six_bits(block: &Block<32, 1>, of: &AffineBlock<32, 1>, to: &mut [u8]) {
    to[..2].copy_from_slice(&block.stored(of.d));
    to[2..4].copy_from_slice(&block.stored(of.d_min));
    let packed = &mut to[4..16];
    for i in 0..4 {
        let (scale, scale_4) = (of.scales.0[0][i] as u8, of.scales.0[0][i + 4] as u8);
        let (min, min_4) = (of.mins.0[0][i] as u8, of.mins.0[0][i + 4] as u8);
        packed[i] = scale | scale_4 >> 4 << 6;
        packed[i + 4] = min | min_4 >> 4 << 6;
        packed[i + 8] = scale_4 & 15 | (min_4 & 15) << 4;
    }
}

/// 128 bytes of the four lowest bits of each code.
#[inline(always)]
fn nibbles(codes: &[u8; 256], to: &mut [u8]) {
    for (i, byte) in to.iter_mut().enumerate() {
        let first = i / 32 * 64 + i % 32;
        *byte = codes[first] & 15 | (codes[first + 32] & 15) << 4;
    }
}

#[inline(always)]
pub(crate) fn q4_k(block: &Block<32, 1>, of: &AffineBlock<32, 1>, to: &mut [u8; 144]) {
    six_bits(block, of, to);
    nibbles(&in_order(&of.codes, 0.0), &mut to[16..]);
}

#[inline(always)]
pub(crate) fn q5_k(block: &Block<32, 1>, of: &AffineBlock<32, 1>, to: &mut [u8; 176]) {
    six_bits(block, of, to);
    let codes = in_order(&of.codes, 0.0);
    for (l, byte) in to[16..48].iter_mut().enumerate() {
        *byte = (0..8).fold(0, |bits, k| bits | (codes[k * 32 + l] >> 4) << k);
    }
    nibbles(&codes, &mut to[48..]);
}

#[inline(always)]
pub(crate) fn q6_k(block: &Block<16, 2>, of: &SymmetricBlock, to: &mut [u8; 210]) {
    let codes = in_order(&of.codes, 32.0);
    for i in 0..64 {
        let (half, l) = (i / 32, i % 32);
        let code = |quarter: usize| codes[half * 128 + quarter * 32 + l];
        to[half * 64 + l] = code(0) & 15 | (code(2) & 15) << 4;
        to[half * 64 + 32 + l] = code(1) & 15 | (code(3) & 15) << 4;
        let upper = |quarter: usize| code(quarter) >> 4 << (2 * quarter);
        to[128 + half * 32 + l] = upper(0) | upper(1) | upper(2) | upper(3);
    }
    for (byte, scale) in to[192..208].iter_mut().zip(of.scales.0.as_flattened()) {
        *byte = *scale as i8 as u8;
    }
    to[208..].copy_from_slice(&block.stored(of.d));
}
