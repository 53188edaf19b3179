//! Types stored in blocks, unpacked in registers of a tier: written once, for tiers that implement
//! [`Vectors`].
//!
//! All functions are inlined into ones compiled for a tier; they use no closures around a tier's
//! methods, which might not be.

pub(crate) mod dots;
mod k_quants;
mod lookup;
mod nonlinear;
mod simple;

use crate::act::{ActGroup, WholeGroup};
use crate::lanes::Ops;
use crate::table::{BlockKernels, NumberKernels, TypeKernels, is_multiplied};
use oprel_quant::QuantType;

/// What a tier does with 32 bytes and with eight f32, beyond [`Ops`]. Words have their lowest byte
/// first.
pub(crate) trait Vectors: Ops {
    /// 32 bytes.
    type B: Copy;

    /// 32 bytes at `at`.
    fn load32(self, bytes: &[u8], at: usize) -> Self::B;
    /// Four words of eight bytes.
    fn four_words(self, words: [u64; 4]) -> Self::B;
    /// Eight words of four bytes.
    fn eight_words(self, words: [u32; 8]) -> Self::B;
    /// One byte 32 times.
    fn splat_byte(self, x: i8) -> Self::B;
    /// 32 nibbles of the 16 bytes at `at`: the low ones, then the high ones.
    fn nibbles(self, bytes: &[u8], at: usize) -> Self::B;
    /// 32 bits as 32 bytes: all ones where set.
    fn spread_bits(self, bits: u32) -> Self::B;
    /// `a & b`.
    fn and(self, a: Self::B, b: Self::B) -> Self::B;
    /// `a | b`.
    fn or(self, a: Self::B, b: Self::B) -> Self::B;
    /// `a ^ b`.
    fn xor(self, a: Self::B, b: Self::B) -> Self::B;
    /// `a + b` by bytes.
    fn add_bytes(self, a: Self::B, b: Self::B) -> Self::B;
    /// `a - b` by bytes.
    fn sub_bytes(self, a: Self::B, b: Self::B) -> Self::B;
    /// Bytes shifted up; the lowest bits may come from the byte below.
    fn shift_up<const SHIFT: i32>(self, x: Self::B) -> Self::B;
    /// Bytes shifted down; the highest bits may come from the byte above.
    fn shift_down<const SHIFT: i32>(self, x: Self::B) -> Self::B;
    /// All ones in the bytes that have the one bit of `mask`.
    fn test(self, x: Self::B, mask: Self::B) -> Self::B;
    /// All ones in the bytes that are, unsigned, at least `least`.
    fn at_least(self, x: Self::B, least: u8) -> Self::B;
    /// What each byte below 16 stands for.
    fn values(self, table: &[i8; 16], indices: Self::B) -> Self::B;

    /// `-x`.
    fn negate(self, x: Self::V) -> Self::V;
    /// The half-precision number of these bits, eight times.
    fn splat_f16(self, bits: u16) -> Self::V;
    /// Four half-precision numbers, twice.
    fn four_f16(self, bits: u64) -> Self::V;
    /// Eight signed bytes.
    fn eight_bytes(self, bytes: u64) -> Self::V;
    /// Eight signed bytes: those at even places, then those at odd ones.
    fn bytes_of_runs(self, bytes: u64) -> Self::V;
    /// Eight integers.
    fn integers(self, x: &[i32; 8]) -> Self::V;
    /// The first four lanes of `a`, then those of `b`.
    fn firsts(self, a: Self::V, b: Self::V) -> Self::V;
    /// The last four lanes of `a`, then those of `b`.
    fn seconds(self, a: Self::V, b: Self::V) -> Self::V;
    /// The sum of eight lanes, as [`lanes::sum`](crate::lanes::sum).
    fn sum(self, x: Self::V) -> f32;

    /// Sums of the products of eight blocks of codes with activations: of first halves and of
    /// second ones, or, where a block has one scale, of blocks and of blocks again.
    fn products<K: Block>(self, codes: &[Self::B; 8], act: &ActGroup) -> [Self::V; 2];
    /// The products of a [`Block::WHOLE`] group, and its minima times sums of activations; the latter
    /// only of types with minima.
    fn whole<K: Block>(self, w: &Wide<Self>, act: &WholeGroup) -> [i32; 2];
    /// Whether both take codes as [`Block::group`] gives them, [`Block::ABOVE`] the real ones.
    const ABOVE: bool;
    /// Asks for a cache line that will be read soon; any address will do.
    fn prefetch(self, at: *const u8);
    /// The same to the second cache, for what will be read later.
    fn prefetch_far(self, at: *const u8);
}

/// Methods of [`Vectors`] or the like by intrinsics: each is inlined, and its body unsafe.
macro_rules! intrinsics {
    ($($(#[$meta:meta])* fn $name:ident$(<const $n:ident: i32>)?(
        $self:ident $(, $arg:ident: $ty:ty)* $(,)?
    ) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[inline(always)]
        fn $name$(<const $n: i32>)?($self $(, $arg: $ty)*) $(-> $ret)? {
            // SAFETY: `self` proves the features; what is read or written are arrays, or slices cut
            // to that size.
            unsafe { $body }
        }
    )*};
}
pub(crate) use intrinsics;

/// 128 weights: codes in order, [`Block::ABOVE`] the real ones; scales and minima of the first halves of the four blocks, then of
/// the second halves.
#[derive(Clone, Copy)]
pub(crate) struct Group<O: Vectors> {
    codes: [O::B; 4],
    scales: O::V,
    /// Read only where the type has minima.
    mins: O::V,
}

/// A type stored in blocks.
pub(crate) trait Block: 'static {
    /// Bytes of a span: as many whole blocks as fill whole groups.
    const SPAN_BYTES: usize;
    /// Groups of a span.
    const GROUPS: usize;
    /// Whether weights have a minimum; then codes are not negative.
    const MINS: bool = false;
    /// Bits that hold every code: unsigned with minima, else in two's complement. At least 4.
    const BITS: u32;
    /// How much the codes of [`Block::group`] are above the real ones, 0 or a power of two; then
    /// they are not negative.
    const ABOVE: i8 = 0;
    /// Whether eight codes of [`Block::group`] times an activation each fit 16 bits together.
    #[cfg_attr(target_arch = "aarch64", expect(dead_code, reason = "products take any byte"))]
    const SMALL: bool = Self::BITS <= if Self::ABOVE == 0 { 6 } else { 5 };
    /// Whether halves of blocks have scales of their own.
    const HALVES: bool = false;
    /// Whether a span is 256 weights whose scales are integers: then those of a [`Group`] are these, and
    /// [`Block::numbers`] says what they are multiplied by.
    const WHOLE: bool = false;

    /// What scales and minima are multiplied by, as bits of half-precision numbers; minima are
    /// subtracted. Only of types that are [`Block::WHOLE`].
    #[inline(always)]
    fn numbers(_span: &[u8]) -> [u16; 2] {
        unreachable!("asked of types with integer scales alone")
    }

    /// Unpacks group `g` of a span of [`Block::SPAN_BYTES`].
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O>;
}

/// 256 weights in registers.
#[derive(Clone, Copy)]
pub(crate) struct Wide<O: Vectors> {
    pub(crate) codes: [O::B; 8],
    /// By half, then by block.
    pub(crate) scales: [O::V; 2],
    pub(crate) mins: [O::V; 2],
}

/// Bytes that 256 weights take at most, for a last group that is cut short.
pub(crate) const LONGEST: usize = 8 * 34;

/// Bytes of 256 weights.
const fn wide_bytes<B: Block>() -> usize {
    B::SPAN_BYTES * 2 / B::GROUPS
}

/// Unpacks [`wide_bytes`].
#[inline(always)]
fn unpack<O: Vectors, B: Block>(ops: O, bytes: &[u8]) -> Wide<O> {
    let mut wide = unpack_above::<O, B>(ops, bytes);
    if B::ABOVE != 0 {
        for codes in &mut wide.codes {
            *codes = ops.sub_bytes(*codes, ops.splat_byte(B::ABOVE));
        }
    }
    wide
}

/// The same without a look at [`Block::ABOVE`].
#[inline(always)]
fn unpack_above<O: Vectors, B: Block>(ops: O, bytes: &[u8]) -> Wide<O> {
    let (first, second) = match B::GROUPS {
        1 => bytes.split_at(B::SPAN_BYTES),
        _ => (bytes, bytes),
    };
    let (a, b) = (B::group(ops, first, 0), B::group(ops, second, B::GROUPS - 1));
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a.codes, b.codes);
    Wide {
        codes: [a0, a1, a2, a3, b0, b1, b2, b3],
        scales: [ops.firsts(a.scales, b.scales), ops.seconds(a.scales, b.scales)],
        mins: [ops.firsts(a.mins, b.mins), ops.seconds(a.mins, b.mins)],
    }
}

/// Unpacks group `g` of a row, and asks for what comes later.
#[inline(always)]
pub(crate) fn unpack_group<O: Vectors, B: Block>(ops: O, row: &[u8], g: usize) -> Wide<O> {
    let from = g * wide_bytes::<B>();
    let whole;
    let bytes = match row.get(from..from + wide_bytes::<B>()) {
        Some(bytes) => bytes,
        None => {
            whole = padded(&row[from..]);
            &whole[..wide_bytes::<B>()]
        }
    };
    dots::prefetch_span(ops, bytes);
    unpack::<O, B>(ops, bytes)
}

/// A group that is cut short, with zeros behind it. Their scales may mean anything finite: the
/// activations there are zero.
#[inline]
pub(crate) fn padded(tail: &[u8]) -> [u8; LONGEST] {
    let mut bytes = [0; LONGEST];
    bytes[..tail.len()].copy_from_slice(tail);
    bytes
}

/// The u16 at `at`.
#[inline(always)]
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The u32 at `at`.
#[inline(always)]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// The u64 at `at`.
#[inline(always)]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// The half-precision number at `at`, in all lanes.
#[inline(always)]
fn f16_all<O: Vectors>(ops: O, bytes: &[u8], at: usize) -> O::V {
    ops.splat_f16(u16_at(bytes, at))
}

/// Half-precision numbers at `at`, `at + step`, ...: one for each of four blocks, in both halves.
#[inline(always)]
fn f16_of_blocks<O: Vectors>(ops: O, span: &[u8], at: usize, step: usize) -> O::V {
    let bits = |b: usize| u64::from(u16_at(span, at + b * step)) << (16 * b);
    ops.four_f16(bits(0) | bits(1) | bits(2) | bits(3))
}

/// Four bytes below 128, one for each of four blocks, in both halves.
#[inline(always)]
fn bytes_of_blocks<O: Vectors>(ops: O, bytes: u32) -> O::V {
    ops.eight_bytes(u64::from(bytes) | u64::from(bytes) << 32)
}

/// Four numbers, one for each of four blocks, in both halves.
#[inline(always)]
fn of_blocks<O: Vectors>(ops: O, x: [f32; 4]) -> O::V {
    ops.load(&[x[0], x[1], x[2], x[3], x[0], x[1], x[2], x[3]])
}

/// How a tier makes the kernels of a type.
pub(crate) trait Make {
    /// Of types stored as numbers.
    const NUMBERS: NumberKernels;

    /// Of a type stored in blocks.
    fn make<B: Block>() -> BlockKernels;
}

/// A tier's kernels of a type; `None` if such weights cannot be multiplied.
pub(crate) fn kernels_by<M: Make>(ty: QuantType) -> Option<TypeKernels> {
    use QuantType::*;
    if !is_multiplied(ty) {
        return None;
    }
    Some(TypeKernels::Block(match ty {
        Q4_0 => M::make::<simple::Q4_0>(),
        Q4_1 => M::make::<simple::Q4_1>(),
        Q5_0 => M::make::<simple::Q5_0>(),
        Q5_1 => M::make::<simple::Q5_1>(),
        Q8_0 => M::make::<simple::Q8_0>(),
        Q1_0 => M::make::<simple::Q1_0>(),
        Q2_K => M::make::<k_quants::Q2K>(),
        Q3_K => M::make::<k_quants::Q3K>(),
        Q4_K => M::make::<k_quants::Q4K>(),
        Q5_K => M::make::<k_quants::Q5K>(),
        Q6_K => M::make::<k_quants::Q6K>(),
        TQ2_0 => M::make::<k_quants::Tq2>(),
        IQ4_NL => M::make::<nonlinear::Iq4Nl>(),
        IQ4_XS => M::make::<nonlinear::Iq4Xs>(),
        MXFP4 => M::make::<nonlinear::Mxfp4>(),
        NVFP4 => M::make::<nonlinear::Nvfp4>(),
        IQ1_S => M::make::<lookup::Iq1S>(),
        IQ1_M => M::make::<lookup::Iq1M>(),
        IQ2_XXS => M::make::<lookup::Iq2Xxs>(),
        IQ2_XS => M::make::<lookup::Iq2Xs>(),
        IQ2_S => M::make::<lookup::Iq2S>(),
        IQ3_XXS => M::make::<lookup::Iq3Xxs>(),
        IQ3_S => M::make::<lookup::Iq3S>(),
        TQ1_0 => M::make::<lookup::Tq1>(),
        _ => return Some(TypeKernels::Number(M::NUMBERS)),
    }))
}

/// A safe function of the table around one compiled with a tier's features.
macro_rules! entry {
    (
        $features:literal,
        $vis:vis fn $name:ident$(<$param:ident: $bound:path>)?($($arg:ident: $ty:ty),*) = $body:expr
    ) => {
        $vis fn $name$(<$param: $bound>)?($($arg: $ty),*) {
            #[target_feature(enable = $features)]
            fn with_features$(<$param: $bound>)?($($arg: $ty),*) {
                $body
            }
            // SAFETY: this function is reached through the table that `kernels` gives only for
            // an `Isa` of this tier, which exists only where the CPU has the features.
            unsafe { with_features$(::<$param>)?($($arg),*) }
        }
    };
}
pub(crate) use entry;
