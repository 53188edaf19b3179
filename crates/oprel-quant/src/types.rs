//! The list of quant types, with their GGUF numbers and block sizes.

use std::fmt;

/// How the elements of one tensor are stored. Numbers and layouts are those of `ggml_type`.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[rustfmt::skip]
#[allow(missing_docs)] // each variant is the name the field uses
pub enum QuantType {
    F32, F16, BF16, F64, I8, I16, I32, I64,
    Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1,
    Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K,
    IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ1_S, IQ1_M, IQ4_NL, IQ4_XS,
    TQ1_0, TQ2_0, MXFP4, NVFP4, Q1_0,
}

/// One row of the table: type, GGUF number, name, elements of a block, bytes of a block.
type Row = (QuantType, u32, &'static str, usize, usize);

#[rustfmt::skip]
const TABLE: &[Row] = {
    use QuantType::*;
    &[
        (F32, 0, "F32", 1, 4), (F16, 1, "F16", 1, 2), (BF16, 30, "BF16", 1, 2), (F64, 28, "F64", 1, 8),
        (I8, 24, "I8", 1, 1), (I16, 25, "I16", 1, 2), (I32, 26, "I32", 1, 4), (I64, 27, "I64", 1, 8),
        (Q4_0, 2, "Q4_0", 32, 18), (Q4_1, 3, "Q4_1", 32, 20), (Q5_0, 6, "Q5_0", 32, 22),
        (Q5_1, 7, "Q5_1", 32, 24), (Q8_0, 8, "Q8_0", 32, 34), (Q8_1, 9, "Q8_1", 32, 36),
        (Q2_K, 10, "Q2_K", 256, 84), (Q3_K, 11, "Q3_K", 256, 110), (Q4_K, 12, "Q4_K", 256, 144),
        (Q5_K, 13, "Q5_K", 256, 176), (Q6_K, 14, "Q6_K", 256, 210), (Q8_K, 15, "Q8_K", 256, 292),
        (IQ2_XXS, 16, "IQ2_XXS", 256, 66), (IQ2_XS, 17, "IQ2_XS", 256, 74), (IQ2_S, 22, "IQ2_S", 256, 82),
        (IQ3_XXS, 18, "IQ3_XXS", 256, 98), (IQ3_S, 21, "IQ3_S", 256, 110), (IQ1_S, 19, "IQ1_S", 256, 50),
        (IQ1_M, 29, "IQ1_M", 256, 56), (IQ4_NL, 20, "IQ4_NL", 32, 18), (IQ4_XS, 23, "IQ4_XS", 256, 136),
        (TQ1_0, 34, "TQ1_0", 256, 54), (TQ2_0, 35, "TQ2_0", 256, 66), (MXFP4, 39, "MXFP4", 32, 17),
        (NVFP4, 40, "NVFP4", 64, 36), (Q1_0, 41, "Q1_0", 128, 18),
    ]
};

impl QuantType {
    /// Every type, in the order of declaration.
    pub fn all() -> impl Iterator<Item = QuantType> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static Row {
        // The table is in declaration order; a test holds it.
        &TABLE[self as usize]
    }

    /// The type with this number in a GGUF file, `None` if there is none.
    pub fn from_gguf(number: u32) -> Option<QuantType> {
        TABLE.iter().find(|row| row.1 == number).map(|row| row.0)
    }

    /// The number of this type in a GGUF file.
    pub fn gguf_number(self) -> u32 {
        self.row().1
    }

    /// The type of this name, whatever its case: `Q4_K`, `q4_k`.
    pub fn from_name(name: &str) -> Option<QuantType> {
        TABLE.iter().find(|row| row.2.eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    /// The name the field uses: `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Elements that share one block; 1 for plain numbers.
    pub fn block_len(self) -> usize {
        self.row().3
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// Bytes of a row of `n` elements; `None` if `n` is no multiple of the block or overflows.
    pub fn row_bytes(self, n: usize) -> Option<usize> {
        if !n.is_multiple_of(self.block_len()) {
            return None;
        }
        (n / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Stored in blocks with shared scales, not as plain numbers.
    pub fn is_quantized(self) -> bool {
        self.block_len() > 1
    }
}

impl fmt::Display for QuantType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_declaration_order() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i, "{}", row.2);
            assert_eq!(QuantType::from_gguf(row.1), Some(row.0));
        }
    }
}
