//! Which instructions kernels may use: detected once, or forced by name.
//!
//! An [`Isa`] is a proof: no value exists for instructions that this CPU lacks, so a kernel that
//! is handed one may use them. This file reads no environment; the caller passes the name.

use crate::Error;
#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;
use std::fmt;

/// A tier of kernels, from the plainest up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Tier {
    /// Portable code.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// x86-64 with AVX-VNNI, besides what AVX2 has.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// x86-64 with AVX-512 (F, BW, DQ, VL, VNNI), besides what AVX2 has.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The same with AVX512-BF16, by which BF16 weights meet activations rounded to bf16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// aarch64 with NEON, as all have it.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// aarch64 with FEAT_DotProd: sums of four products of bytes.
    #[cfg(target_arch = "aarch64")]
    DotProd,
    /// aarch64 with FEAT_I8MM, besides FEAT_DotProd: products of small matrices of bytes.
    #[cfg(target_arch = "aarch64")]
    I8mm,
}

impl Tier {
    /// Tiers of this architecture, the plainest first.
    pub const ALL: &'static [Tier] = &[
        Tier::Scalar,
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2,
        #[cfg(target_arch = "x86_64")]
        Tier::AvxVnni,
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512,
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512Bf16,
        #[cfg(target_arch = "aarch64")]
        Tier::Neon,
        #[cfg(target_arch = "aarch64")]
        Tier::DotProd,
        #[cfg(target_arch = "aarch64")]
        Tier::I8mm,
    ];

    /// The name by which a user forces the tier.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Tier::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512Bf16 => "avx512bf16",
            #[cfg(target_arch = "aarch64")]
            Tier::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Tier::DotProd => "dotprod",
            #[cfg(target_arch = "aarch64")]
            Tier::I8mm => "i8mm",
        }
    }

    fn is_supported(self) -> bool {
        match self {
            Tier::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Tier::AvxVnni => Tier::Avx2.is_supported() && crate::avx2::vnni::is_supported(),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 => {
                Tier::Avx2.is_supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512Bf16 => {
                Tier::Avx512.is_supported() && is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(target_arch = "aarch64")]
            Tier::Neon => is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "aarch64")]
            Tier::DotProd => Tier::Neon.is_supported() && is_aarch64_feature_detected!("dotprod"),
            #[cfg(target_arch = "aarch64")]
            Tier::I8mm => Tier::DotProd.is_supported() && is_aarch64_feature_detected!("i8mm"),
        }
    }
}

/// A tier that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Isa(Tier);

impl Isa {
    /// Portable code, which every CPU has.
    pub const SCALAR: Isa = Isa(Tier::Scalar);

    /// The best tier this CPU has.
    pub fn detect() -> Isa {
        Isa::supported().last().unwrap_or(Isa::SCALAR)
    }

    /// Every tier this CPU has, the plainest first.
    pub fn supported() -> impl Iterator<Item = Isa> {
        Tier::ALL.iter().filter(|tier| tier.is_supported()).map(|tier| Isa(*tier))
    }

    /// The tier called `name` (`scalar`; `avx2`, `avxvnni`, `avx512`, `avx512bf16`; `neon`,
    /// `dotprod`, `i8mm`), in any case.
    ///
    /// # Errors
    /// [`Error::UnknownIsa`] if no tier of this architecture is called so, [`Error::IsaMissing`]
    /// if this CPU lacks it.
    pub fn parse(name: &str) -> Result<Isa, Error> {
        let tier = Tier::ALL.iter().find(|tier| tier.name().eq_ignore_ascii_case(name));
        let Some(tier) = tier else {
            let known: Vec<_> = Tier::ALL.iter().map(|tier| tier.name()).collect();
            return Err(Error::UnknownIsa { name: name.to_owned(), known: known.join(", ") });
        };
        if !tier.is_supported() {
            return Err(Error::IsaMissing { name: tier.name() });
        }
        Ok(Isa(*tier))
    }

    /// The tier.
    pub fn tier(self) -> Tier {
        self.0
    }

    /// The tier's name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_supported_tiers_or_say_why_not() {
        assert_eq!(Isa::parse("SCALAR").unwrap(), Isa::SCALAR);
        assert_eq!(Isa::parse(Isa::detect().name()).unwrap(), Isa::detect());
        let error = Isa::parse("mmx").unwrap_err().to_string();
        assert!(error.contains("mmx") && error.contains("scalar"), "{error}");
    }
}
