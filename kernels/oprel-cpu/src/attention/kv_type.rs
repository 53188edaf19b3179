//! In which types keys and values are stored.

use super::cells::BLOCK;
use super::wide::LANES;
use crate::Error;
use std::fmt;
use std::str::FromStr;

/// How keys or values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvType {
    /// 4 bytes, exact.
    F32,
    /// 16-bit integers with a scale for each row: more exact than half precision, and the fastest,
    /// since attention is done in integers too. Keys that hold the values are stored as
    /// [`KvType::F16`] instead.
    #[default]
    I16,
    /// 2 bytes; what peers use.
    F16,
    /// 2 bytes, the range of f32.
    Bf16,
    /// Bytes in blocks of 32 elements with a scale, as ggml's q8_0.
    Q8_0,
    /// Half bytes in such blocks, as ggml's q4_0.
    Q4_0,
}

impl KvType {
    /// Every type, the most exact first.
    pub const ALL: [KvType; 6] =
        [KvType::F32, KvType::I16, KvType::F16, KvType::Bf16, KvType::Q8_0, KvType::Q4_0];

    /// Its name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::I16 => "i16",
            KvType::F16 => "f16",
            KvType::Bf16 => "bf16",
            KvType::Q8_0 => "q8_0",
            KvType::Q4_0 => "q4_0",
        }
    }

    /// What stands in for it where attention is not done in integers: the floats of as many bits.
    pub fn in_floats(self) -> KvType {
        match self {
            KvType::I16 => KvType::F16,
            ty => ty,
        }
    }

    /// Elements that are stored together: rows are padded to a multiple.
    pub(super) fn unit(self) -> usize {
        match self {
            KvType::Q8_0 | KvType::Q4_0 => BLOCK,
            _ => LANES,
        }
    }

    /// Bytes of a row of `n` elements, whole units: of a head's key or value.
    pub fn row_bytes(self, n: usize) -> usize {
        let cells = match self {
            KvType::F32 => n * 4,
            KvType::I16 | KvType::F16 | KvType::Bf16 => n * 2,
            KvType::Q8_0 => n,
            KvType::Q4_0 => n / 2,
        };
        cells + self.scale_bytes(n)
    }

    /// How many of them are scales.
    pub(super) fn scale_bytes(self, n: usize) -> usize {
        match self {
            KvType::F32 | KvType::F16 | KvType::Bf16 => 0,
            KvType::I16 => 4,
            KvType::Q8_0 | KvType::Q4_0 => n / BLOCK * 2,
        }
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KvType {
    type Err = Error;

    /// The type of this name, in any case.
    fn from_str(name: &str) -> Result<KvType, Error> {
        let ty = KvType::ALL.into_iter().find(|ty| ty.name().eq_ignore_ascii_case(name));
        ty.ok_or_else(|| Error::UnknownKvType {
            name: name.to_owned(),
            known: KvType::ALL.map(KvType::name).join(", "),
        })
    }
}

/// The types of keys and of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KvTypes {
    /// Of keys, and of values that are part of them.
    pub k: KvType,
    /// Of values.
    pub v: KvType,
}

impl KvTypes {
    /// One type for both.
    pub const fn both(ty: KvType) -> KvTypes {
        KvTypes { k: ty, v: ty }
    }
}

impl From<KvType> for KvTypes {
    fn from(ty: KvType) -> KvTypes {
        KvTypes::both(ty)
    }
}

impl fmt::Display for KvTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvTypes { k, v } if k == v => k.fmt(f),
            KvTypes { k, v } => write!(f, "{k},{v}"),
        }
    }
}

impl FromStr for KvTypes {
    type Err = Error;

    /// One name, or those of keys and of values with a comma between them.
    fn from_str(names: &str) -> Result<KvTypes, Error> {
        match names.split_once(',') {
            Some((k, v)) => Ok(KvTypes { k: k.trim().parse()?, v: v.trim().parse()? }),
            None => Ok(KvTypes::both(names.trim().parse()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_as_they_are_read() {
        for k in KvType::ALL {
            for v in KvType::ALL {
                let types = KvTypes { k, v };
                assert_eq!(types.to_string().parse::<KvTypes>().unwrap(), types);
            }
        }
        assert_eq!("Q8_0".parse::<KvTypes>().unwrap(), KvTypes::both(KvType::Q8_0));
        let mixed = KvTypes { k: KvType::F16, v: KvType::Q8_0 };
        assert_eq!("f16, q8_0".parse::<KvTypes>().unwrap(), mixed);
    }

    #[test]
    fn a_name_that_is_none_is_refused_with_those_that_are() {
        for names in ["q5", "f16,", ",f16", "f16,f16,f16", ""] {
            let error = names.parse::<KvTypes>().unwrap_err().to_string();
            assert!(error.contains("bf16"), "{error}");
        }
    }
}
