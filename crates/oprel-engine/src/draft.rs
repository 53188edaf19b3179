//! Proposals for the next tokens of a sequence, from what its text repeats or from a smaller model.
//!
//! A model that quotes its prompt, corrects a text or writes the same call again repeats runs of tokens;
//! a smaller model of the same vocabulary often says what the larger one is about to say. Whatever is
//! proposed is checked in one step: the choice at each place is the one that would have been made
//! anyway, so the text is the same. Whether a proposal is worth its place in a step is decided from what
//! earlier ones of its source brought and from measured times.

mod lookup;
mod model;
mod record;

pub use model::{DraftModel, why_no_draft};
pub(crate) use model::{Follow, Model, Wish};
pub(crate) use record::{Deal, HOPE};

use lookup::Lookup;
use record::{Manner, Record};

/// Most tokens of a proposal.
pub(crate) const MOST: usize = 15;

/// A text that repeated itself once goes on or does not.
const OF_TEXT: Manner = Manner { follow: 0.25, patience: 1, rehearsals: 0 };
/// A model is right again and again, or seldom; a token of it costs less than to check it.
const OF_MODEL: Manner = Manner { follow: 0.1, patience: 3, rehearsals: 6 };

/// Where proposals come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// What the text repeats.
    #[default]
    Text,
    /// A smaller model.
    Model,
}

/// Decides on proposals for one sequence.
#[derive(Clone, Debug)]
pub(crate) struct Drafter {
    lookup: Lookup,
    of_text: Record,
    of_model: Record,
    /// Tokens proposed.
    pub(crate) drafted: u32,
    /// Of those, taken.
    pub(crate) accepted: u32,
}

impl Drafter {
    /// For a new text; how likely a token of the smaller model was right in others, and how many tell.
    pub(crate) fn new((rate, checked): (f64, u32)) -> Drafter {
        Drafter {
            lookup: Lookup::default(),
            of_text: Record::new(OF_TEXT, HOPE, 0),
            of_model: Record::new(OF_MODEL, rate, checked),
            drafted: 0,
            accepted: 0,
        }
    }

    /// The text is another one.
    pub(crate) fn forget(&mut self) {
        self.lookup.forget();
    }

    pub(crate) fn record(&mut self, source: Source) -> &mut Record {
        match source {
            Source::Text => &mut self.of_text,
            Source::Model => &mut self.of_model,
        }
    }

    /// Whether the smaller model is asked in the next step, if that pays.
    pub(crate) fn asks_model(&self) -> bool {
        !self.of_model.rests()
    }

    /// Up to `most` tokens that followed the latest ones before.
    pub(crate) fn repeated<'a>(&mut self, tokens: &'a [u32], most: usize) -> &'a [u32] {
        self.lookup.find(tokens, most.min(MOST))
    }

    /// What the smaller model would have proposed was right or not.
    pub(crate) fn learn_rehearsal(&mut self, right: bool) {
        self.of_model.learn(1, usize::from(right));
    }

    /// What became of a proposal: so many of its tokens were taken.
    pub(crate) fn learn_outcome(&mut self, source: Source, proposed: usize, taken: usize) {
        self.drafted += proposed as u32;
        self.accepted += taken as u32;
        self.record(source).learn(proposed, taken);
    }
}
