//! Rows times a few tokens: a slice of 32 rows is unpacked to first-level cache and meets all tokens
//! at once, in the order that [`table`](crate::table) defines. Sums of the eight lanes are kept
//! meanwhile.

use super::blocks::words;
use super::dots::prefetch_line;
use super::panel::{LANES, ROWS};
use super::slices::{Half, Sixteen, Slice, Sliced};
use super::whole;
use crate::act::{ActGroup, BLOCKS, GROUP, Q8Acts};
use crate::blocks::{LONGEST, padded};
use crate::table::Rows;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Most tokens at once.
pub(super) const MOST: usize = 48;
/// Most tokens of a tile, where it is the only one.
const TILE: usize = 8;
/// Most tokens of one of several tiles. (As measured.)
const TILE_OF_MANY: usize = 6;
/// Most tiles.
const MOST_TILES: usize = MOST / TILE_OF_MANY;

/// Sums of 32 rows with one token.
type Two = [__m512; 2];

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn few<B: Sliced>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    let (n_rows, n) = (rows.n(), acts.n());
    let n_groups = rows.k.div_ceil(GROUP);
    let (bounds, n_tiles) = tiles(n);
    // Of each tile, of each lane of blocks, of its tokens.
    let mut sums = [const { MaybeUninit::<Two>::uninit() }; BLOCKS * MOST];
    let mut slice = Slice::zero();
    for first in (0..n_rows).step_by(ROWS) {
        for sums in &mut sums[..BLOCKS * n] {
            sums.write([_mm512_setzero_ps(); 2]);
        }
        // SAFETY: they were just written.
        let sums = unsafe { sums[..BLOCKS * n].assume_init_mut() };
        let next = rows.bytes.as_ptr().wrapping_add((first + ROWS) * rows.row_bytes);
        let mut ahead = Ahead::new(next, ROWS * B::BYTES, n, n_tiles);
        for g in 0..n_groups {
            for r in 0..2 {
                ahead.fetch(ahead.unpacked);
                if first == 0 {
                    // Nothing asked for the first rows.
                    fetch_rows::<B>(rows, r * LANES, g + 1);
                }
                unpack::<B>(rows, (first + r * LANES, g), &mut slice, r);
            }
            for i in 0..n_tiles {
                let (from, to) = (bounds[i], bounds[i + 1]);
                let sums = &mut sums[BLOCKS * from..BLOCKS * to];
                match to - from {
                    1 => group::<B, 1>(&slice, acts, (from, g), &mut ahead, sums),
                    2 => group::<B, 2>(&slice, acts, (from, g), &mut ahead, sums),
                    3 => group::<B, 3>(&slice, acts, (from, g), &mut ahead, sums),
                    4 => group::<B, 4>(&slice, acts, (from, g), &mut ahead, sums),
                    5 => group::<B, 5>(&slice, acts, (from, g), &mut ahead, sums),
                    6 => group::<B, 6>(&slice, acts, (from, g), &mut ahead, sums),
                    7 => group::<B, 7>(&slice, acts, (from, g), &mut ahead, sums),
                    _ => group::<B, TILE>(&slice, acts, (from, g), &mut ahead, sums),
                }
            }
        }
        for i in 0..n_tiles {
            let (from, to) = (bounds[i], bounds[i + 1]);
            let sums = &sums[BLOCKS * from..BLOCKS * to];
            for c in 0..to - from {
                let total = add_lanes(sums, to - from, c);
                let here = (n_rows - first).min(ROWS);
                put(&total, &mut out[(from + c) * n_rows + first..][..here]);
            }
        }
    }
}

/// Where tiles of nearly equal size begin, and where the last one ends; how many.
#[inline(always)]
fn tiles(n: usize) -> ([usize; MOST_TILES + 1], usize) {
    let n_tiles = if n <= TILE { 1 } else { n.div_ceil(TILE_OF_MANY) };
    let mut bounds = [0; MOST_TILES + 1];
    for (i, bound) in bounds[..=n_tiles].iter_mut().enumerate() {
        *bound = i * n / n_tiles;
    }
    (bounds, n_tiles)
}

/// Puts group `g` of 16 rows from `first` on into half `r` of a slice; the last row's where there are
/// no more.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn unpack<B: Sliced>(rows: Rows<'_>, (first, g): (usize, usize), to: &mut Slice, r: usize) {
    let stride = rows.row_bytes;
    let at = first * stride + g * B::BYTES;
    let is_whole = (g + 1) * B::BYTES <= stride;
    match rows.bytes.get(at..at + (LANES - 1) * stride + B::BYTES) {
        // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
        Some(bytes) if is_whole => unsafe {
            B::slice(Sixteen::new(bytes, stride), Half::new(to, r));
        },
        _ => unpack_last::<B>(rows, (first, g), to, r),
    }
}

/// [`unpack`] of fewer than 16 rows, or of a group that is cut short.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
fn unpack_last<B: Sliced>(rows: Rows<'_>, (first, g): (usize, usize), to: &mut Slice, r: usize) {
    let mut copies = [[0; LONGEST]; LANES];
    for (i, copy) in copies.iter_mut().enumerate() {
        let row = (first + i).min(rows.n() - 1) * rows.row_bytes;
        let bytes = &rows.bytes[row..row + rows.row_bytes][g * B::BYTES..];
        *copy = padded(&bytes[..bytes.len().min(B::BYTES)]);
    }
    // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
    unsafe { B::slice(Sixteen::new(copies.as_flattened(), LONGEST), Half::new(to, r)) }
}

/// Memory that is read next, asked for line by line: the rows after these, in the order of memory, as it
/// comes fastest. As evenly as can be, since few lines can be on their way at a time.
pub(super) struct Ahead {
    at: *const u8,
    /// Bytes for each block of products of a tile.
    block: usize,
    /// Bytes for each register of rows unpacked.
    unpacked: usize,
}

/// Cycles that products of a block take for each token, and a slice to be unpacked, or so.
const BLOCK_CYCLES: usize = 22;
const UNPACK_CYCLES: usize = 500;

impl Ahead {
    /// From `at` on, so many `bytes` for each slice that meets `n` tokens in so many tiles.
    fn new(at: *const u8, bytes: usize, n: usize, n_tiles: usize) -> Ahead {
        let products = BLOCKS * BLOCK_CYCLES * n;
        let blocks = BLOCKS * n_tiles;
        let block = bytes * products / (UNPACK_CYCLES + products) / blocks;
        Ahead { at, block, unpacked: (bytes - blocks * block) / 2 }
    }

    /// Asks for what products of a block leave time for.
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn fetch_block(&mut self) {
        self.fetch(self.block);
    }

    /// Asks for the next `bytes`.
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    fn fetch(&mut self, bytes: usize) {
        // Lines that begin in them.
        let end = self.at.wrapping_add(bytes);
        let mut line = self.at.wrapping_add(self.at.addr().wrapping_neg() % 64);
        while line < end {
            prefetch_line(line);
            line = line.wrapping_add(64);
        }
        self.at = end;
    }
}

/// Asks for group `g` of 16 rows from `first` on.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
fn fetch_rows<B: Sliced>(rows: Rows<'_>, first: usize, g: usize) {
    for row in first..first + LANES {
        let at = rows.bytes.as_ptr().wrapping_add(row * rows.row_bytes + g * B::BYTES);
        for byte in (0..B::BYTES).step_by(64) {
            prefetch_line(at.wrapping_add(byte));
        }
    }
}

/// The sum of token `c`'s lanes, of `n` tokens.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_lanes(sums: &[Two], n: usize, c: usize) -> Two {
    let mut total = [_mm512_setzero_ps(); 2];
    for r in 0..2 {
        let lane = |i: usize| sums[i * n + c][r];
        let pair = |i: usize| _mm512_add_ps(lane(i), lane(i + 4));
        let even = _mm512_add_ps(pair(0), pair(2));
        total[r] = _mm512_add_ps(even, _mm512_add_ps(pair(1), pair(3)));
    }
    total
}

/// Writes the first sums of 32.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn put(sums: &Two, to: &mut [f32]) {
    let mut all = [[0.0; LANES]; 2];
    for (to, sums) in all.iter_mut().zip(sums) {
        // SAFETY: an array of 16 is written.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), *sums) };
    }
    to.copy_from_slice(&all.as_flattened()[..to.len()]);
}

/// What a group of tokens' activations adds to the sums of products, made once for all rows of a slice.
struct Beside<const C: usize> {
    /// What makes up for the offset of codes: by blocks, or by their first and second halves.
    starts: [[i32; 2 * BLOCKS]; C],
}

impl<const C: usize> Beside<C> {
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    fn of<B: Sliced>(act: &[&ActGroup; C]) -> Beside<C> {
        let mut beside = Beside { starts: [[0; 2 * BLOCKS]; C] };
        for c in 0..C {
            // SAFETY: arrays of their size are read and written.
            unsafe {
                let sums = match B::HALVES {
                    true => _mm512_loadu_si512(act[c].sums.as_ptr().cast()),
                    false => {
                        _mm512_zextsi256_si512(_mm256_loadu_si256(act[c].totals.as_ptr().cast()))
                    }
                };
                if B::OFFSET != 0 {
                    let starts = _mm512_mullo_epi32(sums, words(const { &offsets::<B>() }));
                    _mm512_storeu_si512(beside.starts[c].as_mut_ptr().cast(), starts);
                }
            }
        }
        beside
    }
}

/// What codes of a slice are below the unsigned ones that stand for them, by blocks and by halves.
const fn offsets<B: Sliced>() -> [i32; 2 * BLOCKS] {
    let mut offsets = [0; 2 * BLOCKS];
    let mut i = 0;
    while i < 2 * BLOCKS {
        offsets[i] = -B::OFFSET * B::TIMES[i % BLOCKS];
        i += 1;
    }
    offsets
}

/// Adds the products of a slice with `C` tokens to their sums.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn group<B: Sliced, const C: usize>(
    slice: &Slice,
    acts: Q8Acts<'_>,
    place: (usize, usize),
    ahead: &mut Ahead,
    sums: &mut [Two],
) {
    if B::WHOLE {
        whole::tile::<B, C>(slice, acts, place, ahead, sums);
    } else {
        tile::<B, C>(slice, acts, place, ahead, sums);
    }
}

/// Adds the products of a slice with `C` tokens from `first` on to their sums.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
fn tile<B: Sliced, const C: usize>(
    slice: &Slice,
    acts: Q8Acts<'_>,
    (first, g): (usize, usize),
    ahead: &mut Ahead,
    sums: &mut [Two],
) {
    let mut act = [&acts.row(first)[g]; C];
    for c in 1..C {
        act[c] = &acts.row(first + c)[g];
    }
    let beside = Beside::of::<B>(&act);
    let (sums, _) = sums.as_chunks_mut::<C>();
    for (lane, sums) in sums.iter_mut().enumerate().take(BLOCKS) {
        ahead.fetch_block();
        add_block::<B, C>(slice, &act, &beside, lane, sums);
    }
}

/// The products of one lane's block.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_block<B: Sliced, const C: usize>(
    slice: &Slice,
    act: &[&ActGroup; C],
    beside: &Beside<C>,
    lane: usize,
    to: &mut [Two; C],
) {
    let mut p = [[_mm512_setzero_ps(); 2]; C];
    let halves = if B::HALVES { 2 } else { 1 };
    for half in 0..halves {
        let mut sums = [[_mm512_setzero_si512(); 2]; C];
        if B::OFFSET != 0 {
            for c in 0..C {
                sums[c] = [_mm512_set1_epi32(beside.starts[c][half * BLOCKS + lane]); 2];
            }
        }
        let quarters = if B::HALVES { 4 } else { 8 };
        for q in half * quarters..(half + 1) * quarters {
            // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
            let w = unsafe { B::codes(slice, lane, q) };
            for c in 0..C {
                let (fours, _) = act[c].codes.as_chunks::<4>();
                let four: [i8; 4] = fours[lane * 8 + q];
                let four = _mm512_set1_epi32(bytemuck::cast(four));
                for r in 0..2 {
                    sums[c][r] = _mm512_dpbusd_epi32(sums[c][r], w[r], four);
                }
            }
        }
        let scales = slice.scales[half * BLOCKS + lane];
        for c in 0..C {
            for r in 0..2 {
                let sum = _mm512_cvtepi32_ps(sums[c][r]);
                p[c][r] = match half {
                    0 => _mm512_mul_ps(scales[r], sum),
                    _ => _mm512_fmadd_ps(scales[r], sum, p[c][r]),
                };
            }
        }
    }
    for c in 0..C {
        let scale = _mm512_set1_ps(act[c].scales[lane]);
        for r in 0..2 {
            to[c][r] = _mm512_fmadd_ps(p[c][r], scale, to[c][r]);
        }
    }
}
