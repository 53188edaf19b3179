//! The codebooks of IQ1, IQ2 and IQ3: words of eight or four values, expanded when compiling; and
//! what nibbles of IQ4 and FP4 mean.
//!
//! A codebook lists, in ascending order, some of the words over a small alphabet; so one bit a
//! word says it all (`codebook/members.rs`).

mod members;

/// Values of a digit in the IQ2 books.
const IQ2_VALUES: [i8; 3] = [8, 25, 43];
/// Values of a digit in the book of IQ3_XXS.
const IQ3_XXS_VALUES: [i8; 8] = [4, 12, 20, 28, 36, 44, 52, 62];
/// Values of a digit in the book of IQ3_S.
const IQ3_S_VALUES: [i8; 8] = [1, 3, 5, 7, 9, 11, 13, 15];
/// Values of a digit in the book of IQ1.
const IQ1_VALUES: [i8; 3] = [-1, 0, 1];

/// What a nibble of IQ4_NL or IQ4_XS means.
pub const IQ4: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// Twice the E2M1 numbers of MXFP4 and NVFP4; negative zero is zero, as in ggml.
pub const FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Words of IQ2_XXS.
pub static IQ2_XXS: [[i8; 8]; 256] = expand(&members::IQ2_XXS, &IQ2_VALUES);
/// Words of IQ2_XS.
pub static IQ2_XS: [[i8; 8]; 512] = expand(&members::IQ2_XS, &IQ2_VALUES);
/// Words of IQ2_S.
pub static IQ2_S: [[i8; 8]; 1024] = expand(&members::IQ2_S, &IQ2_VALUES);
/// Words of IQ3_XXS.
pub static IQ3_XXS: [[i8; 4]; 256] = expand(&members::IQ3_XXS, &IQ3_XXS_VALUES);
/// Words of IQ3_S.
pub static IQ3_S: [[i8; 4]; 512] = expand(&members::IQ3_S, &IQ3_S_VALUES);
/// Words of IQ1_S and IQ1_M.
pub static IQ1: [[i8; 8]; 2048] = expand(&members::IQ1_S, &IQ1_VALUES);

/// Eight sign bits for each seven that IQ2 and IQ3 store: the eighth makes the number of minus
/// signs even.
pub static EIGHT_SIGNS: [u8; 128] = {
    let mut signs = [0; 128];
    let mut seven = 0;
    while seven < 128 {
        signs[seven] = seven as u8 | ((seven.count_ones() & 1) << 7) as u8;
        seven += 1;
    }
    signs
};

/// The `N` words whose bits are set, digit by digit as `values`.
const fn expand<const LEN: usize, const N: usize>(bits: &[u64], values: &[i8]) -> [[i8; LEN]; N] {
    let mut words = [[0; LEN]; N];
    let (mut found, mut i) = (0, 0);
    while i < bits.len() {
        let mut left = bits[i];
        while left != 0 {
            words[found] = word(i * 64 + left.trailing_zeros() as usize, values);
            found += 1;
            left &= left - 1;
        }
        i += 1;
    }
    assert!(found == N);
    words
}

const fn word<const LEN: usize>(mut number: usize, values: &[i8]) -> [i8; LEN] {
    let mut word = [0; LEN];
    let mut digit = 0;
    while digit < LEN {
        word[digit] = values[number % values.len()];
        number /= values.len();
        digit += 1;
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a over the bytes of a book, as `tests/golden/make_golden.py` prints it.
    fn digest<const LEN: usize>(book: &[[i8; LEN]]) -> u64 {
        book.as_flattened().iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte as u8)).wrapping_mul(0x100_0000_01b3)
        })
    }

    #[test]
    fn the_books_are_those_of_the_format() {
        assert_eq!(digest(&IQ2_XXS), 0xbb4e_e025_b5ac_6e8e);
        assert_eq!(digest(&IQ2_XS), 0xc9b1_ee61_e799_09bd);
        assert_eq!(digest(&IQ2_S), 0x123e_dd38_a3b6_2b90);
        assert_eq!(digest(&IQ3_XXS), 0xdfa5_dc83_d6a1_55d5);
        assert_eq!(digest(&IQ3_S), 0xfa37_020c_25b4_4829);
        assert_eq!(digest(&IQ1), 0x6703_ed86_3501_ae2e);
    }
}
