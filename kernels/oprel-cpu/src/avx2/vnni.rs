//! The tier of AVX-VNNI: the kernels of AVX2, with an instruction that adds products of four bytes.
//!
//! CPUs with AVX-512 (VL and VNNI) do the same by another encoding, with which this tier runs where
//! the first is lacking.

use super::gemm::{Shape, Shaped, Step, WholeShape, gemm, offset};
use super::{NUMBERS, dot, dot_n, panel};
use crate::act::Q8Acts;
use crate::blocks::{Block, Make, entry, kernels_by};
use crate::isa::Isa;
use crate::table::{BlockKernels, Kernels, NumberKernels, Panel, Rows};
use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::sync::OnceLock;

/// The kernels of this tier.
pub(crate) fn kernels(isa: Isa) -> &'static Kernels {
    // As in the AVX2 tier, the `Isa` is the proof that the functions inside may be called.
    static KERNELS: OnceLock<Kernels> = OnceLock::new();
    KERNELS.get_or_init(|| {
        let of = match is_x86_feature_detected!("avxvnni") {
            true => kernels_by::<Made<Vex>>,
            false => kernels_by::<Made<Evex>>,
        };
        Kernels { of, ..super::table(isa) }
    })
}

/// Whether the CPU has the instruction, in either encoding.
pub(crate) fn is_supported() -> bool {
    is_x86_feature_detected!("avxvnni")
        || is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512vnni")
}

/// Proof that the CPU has AVX-VNNI, besides what AVX2 has.
#[derive(Clone, Copy)]
struct Vex(());

impl Step for Vex {
    const FOURS: bool = true;

    #[inline(always)]
    fn add_fours(self, sums: __m256i, codes: __m256i, act: __m256i) -> __m256i {
        // SAFETY: `self` proves the feature.
        unsafe { _mm256_dpbusd_avx_epi32(sums, codes, act) }
    }
}

/// Proof that the CPU has AVX-512 VL and VNNI, besides what AVX2 has.
#[derive(Clone, Copy)]
struct Evex(());

impl Step for Evex {
    const FOURS: bool = true;

    #[inline(always)]
    fn add_fours(self, sums: __m256i, codes: __m256i, act: __m256i) -> __m256i {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_dpbusd_epi32(sums, codes, act) }
    }
}

/// Functions of the table for one encoding.
trait Encoding: Step {
    fn gemm<S: Shaped>(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32]);
}

impl Encoding for Vex {
    entry!("avx2,fma,f16c,avxvnni",
        fn gemm<S: Shaped>(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32])
        = gemm::<Vex, S>(Vex(()), panel, acts, out));
}

impl Encoding for Evex {
    entry!("avx2,fma,f16c,avx512vl,avx512vnni",
        fn gemm<S: Shaped>(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32])
        = gemm::<Evex, S>(Evex(()), panel, acts, out));
}

entry!("avx2,fma,f16c", fn unpack_panel<B: Block>(rows: Rows<'_>, panel: &mut Panel<'_>)
    = panel::fill::<B>(rows, panel, const { offset(8, B::MINS, true) as u8 as i8 }));

/// Kernels of one encoding.
struct Made<E>(PhantomData<E>);

impl<E: Encoding> Make for Made<E> {
    const NUMBERS: NumberKernels = NUMBERS;

    fn make<B: Block>() -> BlockKernels {
        let gemm = match (B::MINS, B::HALVES) {
            (false, false) if B::WHOLE => E::gemm::<WholeShape<8, false, false>>,
            (false, true) if B::WHOLE => E::gemm::<WholeShape<8, false, true>>,
            (true, false) if B::WHOLE => E::gemm::<WholeShape<8, true, false>>,
            (true, true) => E::gemm::<WholeShape<8, true, true>>,
            (false, false) => E::gemm::<Shape<8, false, false>>,
            (false, true) => E::gemm::<Shape<8, false, true>>,
            (true, false) => E::gemm::<Shape<8, true, false>>,
        };
        BlockKernels { dot: dot::<B>, dot_n: dot_n::<B>, unpack_panel: unpack_panel::<B>, gemm }
    }
}
