//! The logits that a choice is made from: the model's own until something changes them.

use super::Candidate;
use super::allowed::{self, WORD};

/// Logits of a vocabulary (n_vocab), copied where they are first changed.
#[derive(Debug)]
pub(super) struct Board<'a> {
    own: &'a [f32],
    edited: &'a mut Vec<f32>,
    is_edited: bool,
}

impl<'a> Board<'a> {
    /// The model's logits, and room for a copy of them.
    pub(super) fn new(own: &'a [f32], edited: &'a mut Vec<f32>) -> Board<'a> {
        Board { own, edited, is_edited: false }
    }

    pub(super) fn logits(&self) -> &[f32] {
        if self.is_edited { self.edited } else { self.own }
    }

    /// The logits, to be changed.
    pub(super) fn edit(&mut self) -> &mut [f32] {
        if !self.is_edited {
            self.edited.clear();
            self.edited.extend_from_slice(self.own);
            self.is_edited = true;
        }
        self.edited
    }

    /// Takes all but the tokens of a set out of the running.
    pub(super) fn mask(&mut self, words: &[u32]) {
        if !self.is_edited {
            self.edited.clear();
            self.edited.resize(self.own.len(), f32::NEG_INFINITY);
        }
        let own = if self.is_edited { None } else { Some(self.own) };
        for (i, to) in self.edited.chunks_mut(WORD).enumerate() {
            let word = words.get(i).copied().unwrap_or(0);
            if word == 0 {
                to.fill(f32::NEG_INFINITY);
                continue;
            }
            if let Some(own) = own {
                to.copy_from_slice(&own[i * WORD..][..to.len()]);
            }
            if word != u32::MAX {
                allowed::mask(word, to);
            }
        }
        self.is_edited = true;
    }

    /// Takes out of the running what is not to be kept.
    pub(super) fn keep(&mut self, keep: impl Fn(u32, f32) -> bool) {
        let kept = |(id, x): (usize, f32)| if keep(id as u32, x) { x } else { f32::NEG_INFINITY };
        if self.is_edited {
            self.edited.iter_mut().enumerate().for_each(|(id, x)| *x = kept((id, *x)));
        } else {
            self.edited.clear();
            self.edited.extend(self.own.iter().copied().enumerate().map(kept));
            self.is_edited = true;
        }
    }
}

/// Logits that can be changed one by one.
pub(super) trait Logits {
    /// The logit of a token, if it is among them.
    fn logit(&mut self, id: u32) -> Option<&mut f32>;
}

impl Logits for [f32] {
    fn logit(&mut self, id: u32) -> Option<&mut f32> {
        self.get_mut(id as usize)
    }
}

/// In the order of ids.
impl Logits for [Candidate] {
    fn logit(&mut self, id: u32) -> Option<&mut f32> {
        let at = self.binary_search_by_key(&id, |c| c.id).ok()?;
        Some(&mut self[at].logit)
    }
}
