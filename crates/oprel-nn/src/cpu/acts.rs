//! Memory of quantized activations: those of a block's input, which all its operations share, and
//! those of rows inside an operation. Besides, memory of rows turned for weights stored as numbers.

use oprel_cpu::act::{ActFormat, Q8Acts, Q8Mut, Share, q8_words, quantize_acts, quantized};
use oprel_cpu::{Acts, F32Acts, Isa, Kernels, Pool};

use super::arena::{Buf, zeroed};
use super::linear::Linear;
use crate::Result;

/// How readers of rows want them quantized: with some of [`Share::ALL`], or not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Shares([bool; 2]);

impl Shares {
    /// What these readers want.
    pub(super) fn of<'r>(readers: impl Iterator<Item = &'r Linear>) -> Shares {
        let mut shares = Shares::default();
        for reader in readers {
            if let ActFormat::Q8(share) = reader.act_format() {
                shares.0[share as usize] = true;
            }
        }
        shares
    }

    /// Those whose count has grown.
    pub(super) fn grown(before: [usize; 2], now: [usize; 2]) -> Shares {
        Shares([now[0] > before[0], now[1] > before[1]])
    }

    /// Whether there is one.
    pub(super) fn any(self) -> bool {
        self != Shares::default()
    }

    fn covers(self, others: Shares) -> bool {
        (0..2).all(|i| self.0[i] || !others.0[i])
    }

    /// Each, and its part of `memory` for rows (n, k).
    fn parts<M: Memory>(self, mut memory: M, n: usize, k: usize) -> [Option<(Share, M)>; 2] {
        Share::ALL.map(|share| {
            let words = if self.0[share as usize] { q8_words(share, n, k) } else { return None };
            let (mine, rest) = memory.take().cut(words);
            memory = rest;
            Some((share, mine))
        })
    }
}

impl Shares {
    /// Room in `memory` for rows (n, k) in each way.
    pub(super) fn to_fill(self, memory: &mut [f32], n: usize, k: usize) -> [Option<Q8Mut<'_>>; 2] {
        let parts = self.parts(memory, n, k);
        parts.map(|part| part.map(|(share, memory)| Q8Mut::new(share, memory, n, k)))
    }
}

/// f32 words, to read or to fill.
trait Memory: Default + Sized {
    fn take(&mut self) -> Self {
        std::mem::take(self)
    }
    fn cut(self, words: usize) -> (Self, Self);
}

impl Memory for &[f32] {
    fn cut(self, words: usize) -> (Self, Self) {
        self.split_at(words)
    }
}

impl Memory for &mut [f32] {
    fn cut(self, words: usize) -> (Self, Self) {
        self.split_at_mut(words)
    }
}

/// The same rows quantized, for those who want them with scales of blocks, and of groups.
#[derive(Clone, Copy, Default)]
struct Quantized<'a>([Option<Q8Acts<'a>>; 2]);

impl<'a> Quantized<'a> {
    /// Rows of `k` elements, quantized into `memory`.
    fn fill(
        pool: &mut Pool,
        isa: Isa,
        shares: Shares,
        (rows, k): (&[f32], usize),
        memory: &'a mut [f32],
    ) -> Quantized<'a> {
        let parts = shares.parts(memory, rows.len() / k, k);
        Quantized(parts.map(|part| {
            part.map(|(share, memory)| quantize_acts(pool, isa, share, rows, k, memory))
        }))
    }

    /// Rows (n, k) that stand in `memory`.
    fn there(shares: Shares, memory: &'a [f32], n: usize, k: usize) -> Quantized<'a> {
        let parts = shares.parts(memory, n, k);
        Quantized(parts.map(|part| part.map(|(share, memory)| quantized(share, memory, n, k))))
    }
}

/// Quantized and turned activations of a step.
#[derive(Debug)]
pub(super) struct ActMemory {
    /// Rows that a block's norm gave.
    pub(super) input: Box<[f32]>,
    /// Whose rows stand there, and how; `None` where nobody's do.
    pub(super) of: Option<(Buf, Shares)>,
    /// Rows of any other buffer.
    pub(super) inner: Box<[f32]>,
    /// Rows of any buffer, turned.
    pub(super) turned: Box<[f32]>,
}

/// Rows of a buffer, as linear layers want them.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    wide: F32Acts<'a>,
    quantized: Quantized<'a>,
}

impl ActMemory {
    /// Memory of so many f32 words.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) if it cannot be had.
    pub(super) fn new(input: usize, inner: usize, turned: usize) -> Result<ActMemory> {
        let memory = |words| zeroed(words, "activations");
        let (input, inner, turned) = (memory(input)?, memory(inner)?, memory(turned)?);
        Ok(ActMemory { input, of: None, inner, turned })
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.input.len() + self.inner.len() + self.turned.len()) as u64 * 4
    }

    /// Rows of `k` elements of `x`, quantized if one of `readers` wants that and they are not yet,
    /// and turned as they want.
    pub(super) fn source<'a, 'r>(
        &'a mut self,
        pool: &mut Pool,
        kernels: &Kernels,
        (x, k, rows): (Buf, usize, &'a [f32]),
        readers: impl Iterator<Item = &'r Linear> + Clone,
    ) -> Source<'a> {
        let types = readers.clone().map(Linear::ty);
        let wide = F32Acts::new(rows, k).turned(pool, kernels, types, &mut self.turned);
        let wanted = Shares::of(readers);
        let quantized = match self.of {
            Some((of, shares)) if of == x && shares.covers(wanted) => {
                Quantized::there(shares, &self.input, wide.n(), k)
            }
            _ => Quantized::fill(pool, kernels.isa(), wanted, (rows, k), &mut self.inner),
        };
        Source { wide, quantized }
    }

    /// The same, and memory for quantized results beside it.
    pub(super) fn source_apart<'a, 'r>(
        &'a mut self,
        pool: &mut Pool,
        kernels: &Kernels,
        (x, k, rows): (Buf, usize, &'a [f32]),
        readers: impl Iterator<Item = &'r Linear> + Clone,
    ) -> (Source<'a>, &'a mut [f32]) {
        let types = readers.clone().map(Linear::ty);
        let wide = F32Acts::new(rows, k).turned(pool, kernels, types, &mut self.turned);
        let wanted = Shares::of(readers);
        let shares = match self.of {
            Some((of, shares)) if of == x && shares.covers(wanted) => shares,
            _ if wanted.any() => {
                // These rows are this operation's own: nobody is told of them.
                self.of = None;
                Quantized::fill(pool, kernels.isa(), wanted, (rows, k), &mut self.input);
                wanted
            }
            _ => wanted,
        };
        let quantized = Quantized::there(shares, &self.input, wide.n(), k);
        (Source { wide, quantized }, &mut self.inner)
    }
}

impl<'a> Source<'a> {
    /// Rows that stand quantized; `wide` is where they would stand otherwise.
    pub(super) fn quantized(wide: &'a [f32], acts: Q8Acts<'a>) -> Source<'a> {
        let mut quantized = Quantized::default();
        quantized.0[acts.share() as usize] = Some(acts);
        Source { wide: F32Acts::new(wide, acts.k()), quantized }
    }

    /// What a linear layer reads.
    pub(super) fn acts(&self, linear: &Linear) -> Acts<'a> {
        let quantized = match linear.act_format() {
            ActFormat::Q8(share) => self.quantized.0[share as usize],
            ActFormat::F32 => None,
        };
        quantized.map_or(Acts::F32(self.wide), Acts::Q8)
    }

    /// The same rows, some of them, in this order.
    pub(super) fn select(self, rows: &'a [u32]) -> Source<'a> {
        Source {
            wide: self.wide.select(rows),
            quantized: Quantized(self.quantized.0.map(|acts| acts.map(|acts| acts.select(rows)))),
        }
    }
}
