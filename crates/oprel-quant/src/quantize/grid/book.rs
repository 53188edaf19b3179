//! A codebook made ready for the search of the word nearest to some weights.

use crate::codebook;
use crate::{LANES, Lanes};
use std::sync::LazyLock;

/// Neighbours that are known of each point.
const KNOWN: usize = 32;
/// Marks a point that is itself a word: nothing is nearer.
const EXACT: u16 = 1 << 15;

/// Words of `LEN` (4 or 8) values out of an alphabet of `BETWEEN + 1`, and which of them are near
/// to each point: a sequence of `LEN` values that need not be a word.
pub(super) struct Book<const LEN: usize, const BETWEEN: usize> {
    words: Vec<[f32; LEN]>,
    /// By what all values of a word may be moved.
    pub(super) shifts: &'static [f32],
    /// The alphabet, without negative values.
    pub(super) sizes: Vec<f32>,
    /// Half way between values of the alphabet.
    between: [f32; BETWEEN],
    /// [`KNOWN`] words for each point, nearest first; of a point that is a word, itself marked.
    near: Vec<u16>,
    /// The first of them, unmarked.
    first: Vec<[u16; LANES]>,
    /// Their values, (points, values, words).
    first_values: Vec<[[f32; LANES]; LEN]>,
}

const PLAIN: &[f32] = &[0.0];

pub(super) static IQ2_XXS: LazyLock<Book<8, 2>> =
    LazyLock::new(|| Book::new(&codebook::IQ2_XXS, [8, 25, 43], 1, PLAIN));
pub(super) static IQ2_XS: LazyLock<Book<8, 2>> =
    LazyLock::new(|| Book::new(&codebook::IQ2_XS, [8, 25, 43], 1, PLAIN));
pub(super) static IQ2_S: LazyLock<Book<8, 2>> =
    LazyLock::new(|| Book::new(&codebook::IQ2_S, [8, 25, 43], 1, PLAIN));
pub(super) static IQ3_XXS: LazyLock<Book<4, 7>> =
    LazyLock::new(|| Book::new(&codebook::IQ3_XXS, [4, 12, 20, 28, 36, 44, 52, 62], 1, PLAIN));
pub(super) static IQ3_S: LazyLock<Book<4, 7>> =
    LazyLock::new(|| Book::new(&codebook::IQ3_S, [1, 3, 5, 7, 9, 11, 13, 15], 1, PLAIN));
/// In eighths, as codes of IQ1 are.
pub(super) static IQ1: LazyLock<Book<8, 2>> =
    LazyLock::new(|| Book::new(&codebook::IQ1, [-1, 0, 1], 8, &[1.0, -1.0]));

impl<const LEN: usize, const BETWEEN: usize> Book<LEN, BETWEEN> {
    /// `values` (`BETWEEN + 1`) is the alphabet of `words`; all are multiplied by `unit`.
    fn new<const VALUES: usize>(
        words: &[[i8; LEN]],
        values: [i8; VALUES],
        unit: i8,
        shifts: &'static [f32],
    ) -> Book<LEN, BETWEEN> {
        let value = |v: i8| f32::from(v) * f32::from(unit);
        let between = std::array::from_fn(|i| (value(values[i]) + value(values[i + 1])) * 0.5);
        let sizes = values.iter().filter(|v| **v >= 0).map(|v| value(*v) + shifts[0]).collect();
        let near = near(words, &values);
        let words: Vec<[f32; LEN]> = words.iter().map(|word| word.map(value)).collect();
        let first: Vec<[u16; LANES]> = near
            .chunks_exact(KNOWN)
            .map(|near| std::array::from_fn(|lane| near[lane] & !EXACT))
            .collect();
        let of_lanes = |i: usize, first: &[u16; LANES]| first.map(|w| words[usize::from(w)][i]);
        let first_values =
            first.iter().map(|first| std::array::from_fn(|i| of_lanes(i, first))).collect();
        Book { words, shifts, sizes, between, near, first, first_values }
    }

    /// What each of eight values, those of `8 / LEN` words, counts in the number of a point.
    const PLACES: [f32; LANES] = {
        let mut places = [1.0; LANES];
        let mut i = 1;
        while i < LANES {
            if !i.is_multiple_of(LEN) {
                places[i] = places[i - 1] * (BETWEEN as f32 + 1.0);
            }
            i += 1;
        }
        places
    };

    /// The values of a word.
    #[inline(always)]
    pub(super) fn word(&self, word: u16) -> &[f32; LEN] {
        &self.words[usize::from(word)]
    }

    /// What the values nearest to those of `u` count in the numbers of the points to which they
    /// belong.
    #[inline(always)]
    pub(super) fn places<L: Lanes>(&self, lanes: L, u: L::V) -> [f32; LANES] {
        let (zero, places) = (lanes.splat(0.0), lanes.load(&Self::PLACES));
        let mut sum = zero;
        for between in self.between {
            let step = lanes.where_less(lanes.splat(between), u, places, zero);
            sum = lanes.add(sum, step);
        }
        let mut found = [0.0; LANES];
        lanes.store(sum, &mut found);
        found
    }

    /// Of the eight words nearest to `point`, the one nearest to `u` as weighted by `w`, and the
    /// weighted square of the distance.
    #[inline(always)]
    pub(super) fn nearest_of_few<L: Lanes>(
        &self,
        lanes: L,
        point: usize,
        u: &[f32],
        w: &[f32],
    ) -> (u16, f32) {
        let values = &self.first_values[point];
        let mut sums = [lanes.splat(0.0); 2];
        for i in 0..LEN {
            let far = lanes.sub(lanes.splat(u[i]), lanes.load(&values[i]));
            let square = lanes.mul(lanes.splat(w[i]), lanes.mul(far, far));
            sums[i % 2] = lanes.add(sums[i % 2], square);
        }
        let mut far = [0.0; LANES];
        lanes.store(lanes.add(sums[0], sums[1]), &mut far);
        // Numbers from 0 up are ordered as their bits are. The lowest three make room for the lane, so
        // that the least of eight is found without a branch.
        let mut least = u32::MAX;
        for lane in 0..LANES {
            least = least.min(far[lane].to_bits() & !7 | lane as u32);
        }
        (self.first[point][(least & 7) as usize], f32::from_bits(least & !7))
    }

    /// As `nearest_of_few`, of all known words.
    #[inline(always)]
    pub(super) fn nearest<L: Lanes>(
        &self,
        lanes: L,
        point: usize,
        u: &[f32],
        w: &[f32],
    ) -> (u16, f32) {
        let near = &self.near[point * KNOWN..][..KNOWN];
        if near[0] & EXACT != 0 {
            return self.nearest_of_few(lanes, point, u, w);
        }
        let (mut us, mut ws) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            (us[i], ws[i]) = (u[i % LEN], w[i % LEN]);
        }
        let (us, ws) = (lanes.load(&us), lanes.load(&ws));
        let mut best = (0, f32::INFINITY);
        for near in near.chunks_exact(LANES / LEN) {
            let mut values = [0.0; LANES];
            for i in 0..LANES / LEN {
                values[i * LEN..][..LEN].copy_from_slice(self.word(near[i]));
            }
            let far = lanes.sub(us, lanes.load(&values));
            lanes.store(lanes.mul(ws, lanes.mul(far, far)), &mut values);
            for i in 0..LANES / LEN {
                let far = sum::<LEN>(&values[i * LEN..][..LEN]);
                if far < best.1 {
                    best = (near[i], far);
                }
            }
        }
        best
    }
}

/// The sum of `LEN` terms, in a fixed order of halves.
#[inline(always)]
fn sum<const LEN: usize>(terms: &[f32]) -> f32 {
    let mut half = [0.0; 4];
    for i in 0..4 {
        half[i] = if LEN == 8 { terms[i] + terms[i + 4] } else { terms[i] };
    }
    (half[0] + half[2]) + (half[1] + half[3])
}

/// For each sequence of values, the [`KNOWN`] nearest words.
fn near<const LEN: usize>(words: &[[i8; LEN]], values: &[i8]) -> Vec<u16> {
    let n_points = values.len().pow(LEN as u32);
    let mut near = Vec::with_capacity(n_points * KNOWN);
    let mut far: Vec<u32> = vec![0; words.len()];
    for point in 0..n_points {
        let mut rest = point;
        let at: [i8; LEN] = std::array::from_fn(|_| {
            let value = values[rest % values.len()];
            rest /= values.len();
            value
        });
        for (i, (far, word)) in far.iter_mut().zip(words).enumerate() {
            let apart = |(a, b): (&i8, &i8)| (i32::from(*a) - i32::from(*b)).pow(2) as u32;
            // Words have eleven bits; of equally far ones the first is nearer.
            *far = at.iter().zip(word).map(apart).sum::<u32>() << 11 | i as u32;
        }
        let mut known = far.clone();
        known.select_nth_unstable(KNOWN);
        known[..KNOWN].sort_unstable();
        let exact = if known[0] >> 11 == 0 { EXACT } else { 0 };
        near.push((known[0] & 2047) as u16 | exact);
        near.extend(known[1..KNOWN].iter().map(|found| (found & 2047) as u16));
    }
    near
}
