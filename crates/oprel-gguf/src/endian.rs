//! The bytes of tensors in big-endian files.
//!
//! A big-endian file has what ggml writes on a big-endian machine: each number of a block that is wider than
//! a byte is swapped, and bytes are not. Which numbers those are is how ggml writes them: `qh` of Q5_0 is one
//! `u32`, though declared as four bytes. `gguf_convert_endian.py` of llama.cpp knows eight of these types;
//! for them this agrees with it. (The writer of the `gguf` Python package leaves blocks unswapped: what it writes
//! as big-endian is readable on no machine unless its tensors are plain numbers.)

use oprel_quant::QuantType;

/// Widths and counts of the numbers of one block, in order.
type Runs = &'static [(usize, usize)];

#[rustfmt::skip]
fn runs(ty: QuantType) -> Runs {
    use QuantType::*;
    match ty {
        F32 | I32 => &[(4, 1)],
        F16 | BF16 | I16 => &[(2, 1)],
        F64 | I64 => &[(8, 1)],
        I8 => &[(1, 1)],
        Q4_0 => &[(2, 1), (1, 16)],
        Q4_1 => &[(2, 2), (1, 16)],
        Q5_0 => &[(2, 1), (4, 1), (1, 16)],
        Q5_1 => &[(2, 2), (4, 1), (1, 16)],
        Q8_0 => &[(2, 1), (1, 32)],
        Q8_1 => &[(2, 2), (1, 32)],
        Q2_K => &[(1, 80), (2, 2)],
        Q3_K => &[(1, 108), (2, 1)],
        Q4_K => &[(2, 2), (1, 140)],
        Q5_K => &[(2, 2), (1, 172)],
        Q6_K => &[(1, 208), (2, 1)],
        Q8_K => &[(4, 1), (1, 256), (2, 16)],
        IQ2_XXS => &[(2, 1), (4, 16)],
        IQ2_XS => &[(2, 33), (1, 8)],
        IQ2_S => &[(2, 1), (1, 80)],
        IQ3_XXS => &[(2, 1), (1, 64), (4, 8)],
        IQ3_S => &[(2, 1), (1, 108)],
        IQ1_S => &[(2, 1), (1, 32), (2, 8)],
        IQ1_M => &[(1, 48), (2, 4)],
        IQ4_NL => &[(2, 1), (1, 16)],
        IQ4_XS => &[(2, 2), (1, 132)],
        TQ1_0 => &[(1, 52), (2, 1)],
        TQ2_0 => &[(1, 64), (2, 1)],
        MXFP4 => &[(1, 17)],
        NVFP4 => &[(1, 36)],
        Q1_0 => &[(2, 1), (1, 16)],
        _ => &[], // a test fails for a type that is missing here
    }
}

/// Big-endian bytes of this type are not the little-endian ones.
pub(crate) fn differs(ty: QuantType) -> bool {
    runs(ty).iter().any(|(width, _)| *width > 1)
}

/// Swaps whole blocks, in place: little-endian to big-endian or back.
pub(crate) fn swap(ty: QuantType, bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        let mut rest = block;
        for (width, count) in runs(ty) {
            let n = width.saturating_mul(*count).min(rest.len());
            let (run, after) = rest.split_at_mut(n);
            if *width > 1 {
                run.chunks_exact_mut(*width).for_each(<[u8]>::reverse);
            }
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_each_type_fill_its_block() {
        for ty in QuantType::all() {
            let bytes: usize = runs(ty).iter().map(|(width, count)| width * count).sum();
            assert_eq!(bytes, ty.block_bytes(), "{ty}");
        }
    }

    #[test]
    fn a_q8_k_block_swaps_its_scale_and_its_sums() {
        let block: Vec<u8> = (0..292u32).map(|i| i as u8).collect();
        let mut swapped = block.clone();
        swap(QuantType::Q8_K, &mut swapped);
        assert_eq!(swapped[..4], [3, 2, 1, 0]);
        assert_eq!(swapped[4..260], block[4..260]);
        assert_eq!(swapped[260..264], [5, 4, 7, 6]);
    }

    #[test]
    fn swapping_twice_changes_nothing() {
        for ty in QuantType::all() {
            let bytes: Vec<u8> = (0..3 * ty.block_bytes()).map(|i| (i * 7) as u8).collect();
            let mut twice = bytes.clone();
            swap(ty, &mut twice);
            assert_eq!(twice != bytes, differs(ty), "{ty}");
            swap(ty, &mut twice);
            assert_eq!(twice, bytes, "{ty}");
        }
    }
}
