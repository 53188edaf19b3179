//! Rows times one token or a few, in the order that [`table`](crate::table) defines: 256 weights
//! at a time, a lane for each of their blocks.

use super::blocks::Block;
use super::turned::{Turned, add_group, unpack};
use crate::act::{ActRow, Q8Acts};
use crate::avx2::Avx2Ops;
use crate::blocks::{Vectors, padded};
use crate::table::Rows;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// Groups of at least so many bytes are large.
const LARGE_BYTES: usize = 192;

/// How a CPU wants to be asked for rows ahead of their use. (Measured on Zen 4 and Zen 5; `benches/` has
/// the kernels by type.)
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetching {
    /// How far ahead, in bytes: enough to cover the latency of memory at full bandwidth.
    ahead: usize,
    /// Whether one line is enough of a large group that meets one token. Its arithmetic leaves time in
    /// which the processor's own fetching goes on, if it is kept going; asking for every line fills all
    /// places for missing ones. (Zen 4. Zen 5 reads at half its rate so, and at all of it line by line.)
    one_line: bool,
}

impl Fetching {
    /// What suits this CPU.
    pub(super) fn detect() -> Fetching {
        static FOUND: OnceLock<Fetching> = OnceLock::new();
        *FOUND.get_or_init(|| match is_zen_5() {
            true => Fetching { ahead: 8 << 10, one_line: false },
            false => Fetching { ahead: 4 << 10, one_line: true },
        })
    }

    /// Asks for the bytes that lie ahead of these, which `N` tokens meet.
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn prefetch<const N: usize>(self, bytes: &[u8]) {
        let ahead = bytes.as_ptr().wrapping_add(self.ahead).cast::<i8>();
        if N == 1 && bytes.len() >= LARGE_BYTES && self.one_line {
            _mm_prefetch::<_MM_HINT_T1>(ahead);
            return;
        }
        for line in (0..bytes.len()).step_by(64) {
            _mm_prefetch::<_MM_HINT_NTA>(ahead.wrapping_add(line));
        }
    }
}

/// Whether this is AMD's Zen 5 or one of those after it.
fn is_zen_5() -> bool {
    let vendor = __cpuid(0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
    let version = __cpuid(1).eax;
    let family = (version >> 8 & 0xf) + (version >> 20 & 0xff);
    name.as_flattened() == b"AuthenticAMD" && family >= 0x1a
}

/// Asks for a line that is used soon, but not next.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn prefetch_line(at: *const u8) {
    _mm_prefetch::<_MM_HINT_T1>(at.cast());
}

/// Groups of activations that are put in order at once, of all tokens together: what the first cache
/// holds, and all of most rows. Longer ones are taken in parts.
const ORDERED: usize = 64;
/// Rows whose sums are kept meanwhile.
const KEPT: usize = 16;

/// Rows with `N` tokens, of which the first `n` are asked for: `out[t * rows + r]`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn rows_with<B: Block, const N: usize>(
    rows: Rows<'_>,
    acts: [ActRow<'_>; N],
    n: usize,
    out: &mut [f32],
) {
    let n_rows = rows.n();
    let n_groups = acts[0].len();
    let at_once = ORDERED / N;
    let fetching = Fetching::detect();
    let mut ordered = [const { MaybeUninit::<Turned>::uninit() }; ORDERED];
    let mut sums = [[_mm256_setzero_ps(); N]; KEPT];
    for first in (0..n_rows).step_by(KEPT) {
        let end = (first + KEPT).min(n_rows);
        for from in (0..n_groups).step_by(at_once) {
            let here = at_once.min(n_groups - from);
            if first == 0 || n_groups > at_once {
                for g in 0..here {
                    for t in 0..N {
                        let turned = Turned::of::<B, N>(&acts[t][from + g]);
                        ordered[g * N + t].write(turned);
                    }
                }
            }
            // SAFETY: so many were written, now or before the first rows.
            let turned = unsafe { ordered[..here * N].assume_init_ref() };
            let (turned, _) = turned.as_chunks::<N>();
            for r in first..end {
                let row = &rows.bytes[r * rows.row_bytes..][..rows.row_bytes];
                let row = &row[from * B::BYTES..];
                let acc = &mut sums[r - first];
                if from == 0 {
                    *acc = [_mm256_setzero_ps(); N];
                }
                add_row::<B, N>(acc, row, turned, fetching);
            }
        }
        for r in first..end {
            for t in 0..n {
                out[t * n_rows + r] = Avx2Ops::new().sum(sums[r - first][t]);
            }
        }
    }
}

/// Adds the products of as many groups of a row, from its first byte on, as there are of the
/// activations. A group is unpacked before the one ahead of it is multiplied: neither waits for the
/// other.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_row<B: Block, const N: usize>(
    sums: &mut [__m256; N],
    row: &[u8],
    turned: &[[Turned; N]],
    fetching: Fetching,
) {
    let row = &row[..row.len().min(turned.len() * B::BYTES)];
    let mut acc = *sums;
    let mut groups = row.chunks_exact(B::BYTES);
    let tail = groups.remainder();
    let mut n = 0;
    if let Some(bytes) = groups.next() {
        fetching.prefetch::<N>(bytes);
        let mut w = unpack::<B, N, 0>(bytes);
        for (bytes, act) in groups.zip(turned) {
            fetching.prefetch::<N>(bytes);
            let next = unpack::<B, N, 1>(bytes);
            add_group::<B, N>(&mut acc, &w, act);
            w = next;
            n += 1;
        }
        add_group::<B, N>(&mut acc, &w, &turned[n]);
        n += 1;
    }
    if !tail.is_empty() {
        let w = unpack::<B, N, 2>(&padded(tail)[..B::BYTES]);
        add_group::<B, N>(&mut acc, &w, &turned[n]);
    }
    *sums = acc;
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn dot<B: Block>(rows: Rows<'_>, act: ActRow<'_>, out: &mut [f32]) {
    rows_with::<B, 1>(rows, [act], 1, out);
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn dot_n<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    match acts.n() {
        0 => {}
        1 => rows_with::<B, 1>(rows, first(&acts), 1, out),
        2 => rows_with::<B, 2>(rows, first(&acts), 2, out),
        3 => rows_with::<B, 3>(rows, first(&acts), 3, out),
        4 => rows_with::<B, 4>(rows, first(&acts), 4, out),
        n @ 5..=6 => rows_with::<B, 6>(rows, first(&acts), n, out),
        n @ 7..=8 => rows_with::<B, 8>(rows, first(&acts), n, out),
        n => unreachable!("{n} tokens at once"),
    }
}

/// The first `N` tokens; where there are fewer, the last one again.
fn first<'a, const N: usize>(acts: &Q8Acts<'a>) -> [ActRow<'a>; N] {
    std::array::from_fn(|t| acts.row(t.min(acts.n() - 1)))
}
