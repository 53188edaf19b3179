//! File types: which mix of quant types a file has, by the names and numbers of the field.

use std::fmt;

use crate::QuantType;

/// The mix of a file. Names and numbers are those of llama.cpp (`general.file_type`).
#[allow(non_camel_case_types)]
#[allow(missing_docs)] // each variant is the name the field uses
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[rustfmt::skip]
pub enum FileType {
    F32, F16, BF16,
    Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q1_0,
    Q2_K, Q2_K_S, Q3_K_S, Q3_K_M, Q3_K_L, Q4_K_S, Q4_K_M, Q5_K_S, Q5_K_M, Q6_K,
    IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ2_M, IQ3_XXS, IQ3_XS, IQ3_S, IQ3_M, IQ4_NL, IQ4_XS,
    TQ1_0, TQ2_0, MXFP4_MOE, NVFP4,
}

/// One row of the table: mix, name, number in a file, the type of most tensors.
type Row = (FileType, &'static str, u32, QuantType);

#[rustfmt::skip]
const TABLE: &[Row] = {
    use {FileType as F, QuantType as Q};
    &[
        (F::F32, "F32", 0, Q::F32), (F::F16, "F16", 1, Q::F16), (F::BF16, "BF16", 32, Q::BF16),
        (F::Q4_0, "Q4_0", 2, Q::Q4_0), (F::Q4_1, "Q4_1", 3, Q::Q4_1), (F::Q5_0, "Q5_0", 8, Q::Q5_0),
        (F::Q5_1, "Q5_1", 9, Q::Q5_1), (F::Q8_0, "Q8_0", 7, Q::Q8_0), (F::Q1_0, "Q1_0", 40, Q::Q1_0),
        (F::Q2_K, "Q2_K", 10, Q::Q2_K), (F::Q2_K_S, "Q2_K_S", 21, Q::Q2_K),
        (F::Q3_K_S, "Q3_K_S", 11, Q::Q3_K), (F::Q3_K_M, "Q3_K_M", 12, Q::Q3_K), (F::Q3_K_L, "Q3_K_L", 13, Q::Q3_K),
        (F::Q4_K_S, "Q4_K_S", 14, Q::Q4_K), (F::Q4_K_M, "Q4_K_M", 15, Q::Q4_K),
        (F::Q5_K_S, "Q5_K_S", 16, Q::Q5_K), (F::Q5_K_M, "Q5_K_M", 17, Q::Q5_K), (F::Q6_K, "Q6_K", 18, Q::Q6_K),
        (F::IQ1_S, "IQ1_S", 24, Q::IQ1_S), (F::IQ1_M, "IQ1_M", 31, Q::IQ1_M),
        (F::IQ2_XXS, "IQ2_XXS", 19, Q::IQ2_XXS), (F::IQ2_XS, "IQ2_XS", 20, Q::IQ2_XS),
        (F::IQ2_S, "IQ2_S", 28, Q::IQ2_XS), (F::IQ2_M, "IQ2_M", 29, Q::IQ2_S),
        (F::IQ3_XXS, "IQ3_XXS", 23, Q::IQ3_XXS), (F::IQ3_XS, "IQ3_XS", 22, Q::IQ3_S),
        (F::IQ3_S, "IQ3_S", 26, Q::IQ3_S), (F::IQ3_M, "IQ3_M", 27, Q::IQ3_S),
        (F::IQ4_NL, "IQ4_NL", 25, Q::IQ4_NL), (F::IQ4_XS, "IQ4_XS", 30, Q::IQ4_XS),
        (F::TQ1_0, "TQ1_0", 36, Q::TQ1_0), (F::TQ2_0, "TQ2_0", 37, Q::TQ2_0),
        (F::MXFP4_MOE, "MXFP4_MOE", 38, Q::MXFP4), (F::NVFP4, "NVFP4", 39, Q::NVFP4),
    ]
};

/// Other names that are used for a mix.
const ALIASES: &[(&str, FileType)] =
    &[("Q3_K", FileType::Q3_K_M), ("Q4_K", FileType::Q4_K_M), ("Q5_K", FileType::Q5_K_M)];

impl FileType {
    /// Every mix, in the order of declaration.
    pub fn all() -> impl Iterator<Item = FileType> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static Row {
        // The table is in declaration order; a test holds it.
        &TABLE[self as usize]
    }

    /// The mix of this name, whatever its case: `Q4_K_M`, `q4_k_m`, `Q4_K`.
    pub fn parse(name: &str) -> Option<FileType> {
        let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
        let named = || TABLE.iter().find(|row| row.1.eq_ignore_ascii_case(name)).map(|row| row.0);
        alias.map(|(_, ty)| *ty).or_else(named)
    }

    /// The mix with this number in a file.
    pub fn from_gguf(number: u32) -> Option<FileType> {
        TABLE.iter().find(|row| row.2 == number).map(|row| row.0)
    }

    /// The name the field uses: `Q4_K_M`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The number of this mix in a file.
    pub fn gguf_number(self) -> u32 {
        self.row().2
    }

    /// The type of most tensors.
    pub fn main_type(self) -> QuantType {
        self.row().3
    }

    /// The mix that is called after a type: the first whose tensors are mostly `ty`.
    pub fn mostly(ty: QuantType) -> Option<FileType> {
        use FileType::*;
        let plain = |row: &&Row| row.3 == ty && !matches!(row.0, Q2_K_S | IQ2_S | IQ3_XS);
        TABLE.iter().find(plain).map(|row| row.0)
    }
}

impl fmt::Display for FileType {
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
            assert_eq!(row.0 as usize, i, "{}", row.1);
            assert_eq!(FileType::parse(&row.1.to_lowercase()).unwrap(), row.0);
            assert_eq!(FileType::from_gguf(row.2), Some(row.0));
        }
        assert_eq!(FileType::parse("q4_k").unwrap(), FileType::Q4_K_M);
        assert_eq!(FileType::parse("Q9"), None);
    }
}
