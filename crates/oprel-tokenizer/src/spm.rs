//! SentencePiece's byte-pair encoding: the pair whose joint token has the best score merges first.

use crate::cache::WordCache;
use crate::merge::Merger;
use crate::seam::{Seams, neighbours};
use crate::vocab::Vocab;

/// The part of the model that is not the vocabulary itself.
pub(crate) struct Spm {
    seams: Seams,
    bytes: Vec<Option<u32>>,
}

impl Spm {
    pub(crate) fn new(vocab: &Vocab) -> Spm {
        Spm {
            seams: Seams::new(vocab.texts().flat_map(neighbours)),
            bytes: (0..=255).map(|b| vocab.byte(b)).collect(),
        }
    }

    /// Adds the tokens of `text`, in which no special token is left. `unknown` stands for what has
    /// no token, not even bytes.
    pub(crate) fn tokenize(
        &self,
        vocab: &Vocab,
        text: &str,
        unknown: Option<u32>,
        out: &mut Vec<u32>,
    ) {
        let escaped = text.replace(' ', "▁");
        let (mut cache, mut merger) = (WordCache::for_text(text.len()), Merger::default());
        self.seams.cut(&escaped, |word| {
            cache.get_or(word, out, |out| self.word(vocab, &mut merger, word, unknown, out));
        });
    }

    fn word(
        &self,
        vocab: &Vocab,
        merger: &mut Merger,
        word: &str,
        unknown: Option<u32>,
        out: &mut Vec<u32>,
    ) {
        let rank = |start: usize, _: usize, end: usize| {
            let joint = Some(&word[start..end]).filter(|joint| joint.len() <= vocab.max_len)?;
            vocab.id(joint).map(|id| rank_of(vocab.score(id)))
        };
        merger.merge(word, rank, |symbol| match vocab.id(symbol) {
            Some(id) => out.push(id),
            None => {
                out.extend(symbol.bytes().filter_map(|b| self.bytes[usize::from(b)].or(unknown)));
            }
        });
    }
}

/// A number that is lower the better the score; scores that are not numbers come last.
fn rank_of(score: f32) -> u32 {
    if score.is_nan() {
        return u32::MAX - 1;
    }
    let bits = (score + 0.0).to_bits(); // one zero
    let rising = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    (!rising).min(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_fall_as_scores_rise() {
        let scores = [f32::NEG_INFINITY, -1e30, -3.5, -0.0, 0.0, 1e-40, 2.0, f32::INFINITY];
        for pair in scores.windows(2) {
            assert!(rank_of(pair[0]) >= rank_of(pair[1]), "{pair:?}");
        }
        assert_eq!(rank_of(-0.0), rank_of(0.0));
        assert!(rank_of(f32::NAN) < u32::MAX);
    }
}
