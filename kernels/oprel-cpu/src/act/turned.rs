//! Activations turned to the order in which panels of weights stored as numbers meet them, where a
//! tier wants that: done once for all panels and matrices that read a token.
//!
//! A word is what meets a word of a row in one instruction: an f32 number, or a pair of numbers
//! rounded to bf16. Words of one lane, which are each eighth, stand one after the other.

use super::{F32Acts, Rows, TOKENS};
use crate::table::{Kernels, TypeKernels};
use crate::{Parts, Pool};
use oprel_quant::QuantType;

/// Words to whose multiple a token is padded with zeros: two for each lane.
const PADDED: usize = 16;
/// Words between tokens, so that the same words of several tokens are not where a cache has room
/// for few.
const APART: usize = 16;
/// Most elements of a word.
const MOST_ELEMENTS: usize = 2;

/// Turned forms of the tokens of activations, by the elements of a word.
pub(super) type Turned<'a> = [Option<&'a [u32]>; MOST_ELEMENTS];

/// How a tier turns a token for the panels of a type.
#[derive(Clone, Copy)]
pub struct Turn {
    /// Elements of a word.
    pub(crate) elements: usize,
    /// Fills `words` ([`turned_len`]) with those of a token.
    pub(crate) run: fn(x: &[f32], words: &mut [u32]),
}

/// Words of a token of `k` elements, padded, of so many elements.
pub(crate) fn turned_len(k: usize, elements: usize) -> usize {
    k.div_ceil(elements).next_multiple_of(PADDED)
}

impl<'a> F32Acts<'a> {
    /// These, turned in `memory` for weights of the types `readers` where `kernels` reads so many
    /// tokens in another order. Without, or where `memory` is shorter than [`Kernels::turned_words`]
    /// of each token, the product is the same but slower.
    pub fn turned(
        mut self,
        pool: &mut Pool,
        kernels: &Kernels,
        readers: impl Iterator<Item = QuantType>,
        mut memory: &'a mut [f32],
    ) -> F32Acts<'a> {
        let (n, k) = (self.n(), self.k);
        for ty in readers.filter(|ty| n > kernels.few(*ty).most) {
            let (Some(turn), Rows::All(_)) = (kernels.turn(ty), self.rows) else { continue };
            let (len, words) = (turned_len(k, turn.elements), turn.words(k));
            if self.are_turned(turn) || memory.len() < n * words {
                continue;
            }
            let (mine, rest) = memory.split_at_mut(n * words);
            memory = rest;
            let all: &mut [u32] = bytemuck::cast_slice_mut(mine);
            pool.run_parts(Parts::new(&mut *all, TOKENS * words), |i, tokens, _| {
                let x = self.x[i * TOKENS * k..].chunks_exact(k);
                for (x, token) in x.zip(tokens.chunks_exact_mut(words)) {
                    (turn.run)(x, &mut token[..len]);
                }
            });
            self.turned[turn.elements - 1] = Some(all);
        }
        self
    }

    /// Whether the tokens have been turned so.
    pub(crate) fn are_turned(&self, turn: Turn) -> bool {
        self.turned[turn.elements - 1].is_some()
    }

    /// Words of token `i`, of so many elements.
    ///
    /// # Panics
    /// If the tokens have not been turned so.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn words(&self, i: usize, elements: usize) -> &'a [u32] {
        let Some(turned) = self.turned[elements - 1] else { panic!("tokens turned for a panel") };
        let len = turned_len(self.k, elements);
        &turned[self.rows.at(i) * (len + APART)..][..len]
    }

    /// What has been turned of tokens `start..end`.
    pub(super) fn turned_range(&self, start: usize, end: usize) -> Turned<'a> {
        let mut elements = 0;
        self.turned.map(|turned| {
            elements += 1;
            let words = turned_len(self.k, elements) + APART;
            turned.map(|turned| &turned[start * words..end * words])
        })
    }
}

impl Turn {
    /// f32 words of memory of a token of `k` elements.
    fn words(self, k: usize) -> usize {
        turned_len(k, self.elements) + APART
    }
}

impl Kernels {
    /// How tokens are turned for panels of `ty`, if they are.
    pub(crate) fn turn(&self, ty: QuantType) -> Option<Turn> {
        match self.of(ty) {
            Some(TypeKernels::Number(of)) => of.turn,
            _ => None,
        }
    }

    /// f32 words that [`F32Acts::turned`] takes for a token of `k` elements; 0 where it does nothing.
    pub fn turned_words(&self, ty: QuantType, k: usize) -> usize {
        self.turn(ty).map_or(0, |turn| turn.words(k))
    }
}
