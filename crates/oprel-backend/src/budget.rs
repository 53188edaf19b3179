//! Most tokens that a model may think: then its thinking is closed for it, and it answers.

use std::sync::Arc;

use oprel_engine::{Constraint, Guide};
use oprel_tokenizer::TokenizeOptions;

use crate::Facts;

/// A guide that closes thinking after so many tokens, in front of the guide that a request has, if any.
pub(crate) fn within(
    guide: Option<Guide>,
    facts: &Facts,
    rendered: Option<&str>,
    most: Option<u32>,
) -> Option<Guide> {
    let (Some(most), Some(tags), Some(prompt)) = (most, &facts.can.think_tags, rendered) else {
        return guide;
    };
    let options = TokenizeOptions { add_special: false, parse_special: true };
    let tokens = |tag: &str| facts.tokenizer.tokenize(tag, options);
    let (open, close) = (tokens(&tags.open), tokens(&tags.close));
    if open.is_empty() || close.is_empty() {
        return guide;
    }
    // Models that write such tags write them on lines of their own.
    let ending = match tags.close.starts_with("</") {
        true => tokens(&format!("\n{}\n\n", tags.close)),
        false => close.clone(),
    };
    let mut budget = Budget {
        inner: guide.map(|guide| guide.0),
        tags: Arc::new(Tags { open, close, ending }),
        left: most,
        place: Place::Outside(0),
        mask: vec![0; (facts.n_vocab as usize).div_ceil(32)],
    };
    if tags.left_open_by(prompt) {
        budget.place = budget.inside(0);
    }
    Some(Guide(Box::new(budget)))
}

/// The tags of thinking, as tokens, and what is said where thinking is closed.
struct Tags {
    open: Vec<u32>,
    close: Vec<u32>,
    ending: Vec<u32>,
}

/// Where it is, with how many tokens of the tag that would lead out of there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Outside(usize),
    Inside(usize),
    /// So much was said of the ending.
    Closing(usize),
    /// Thinking was closed for the model, which must not do so again.
    Closed,
}

struct Budget {
    inner: Option<Box<dyn Constraint>>,
    tags: Arc<Tags>,
    /// Tokens that may still be thought.
    left: u32,
    place: Place,
    mask: Vec<u32>,
}

impl Budget {
    /// Thinking goes on, unless its tokens are used up.
    fn inside(&self, at: usize) -> Place {
        if self.left == 0 && at == 0 { Place::Closing(0) } else { Place::Inside(at) }
    }

    /// What of the ending must come now.
    fn due(&self) -> &[u32] {
        match self.place {
            Place::Closing(at) => &self.tags.ending[at..],
            _ => &[],
        }
    }
}

/// How much of `tag` there is after `token`, when there was `at` of it before.
fn follow(tag: &[u32], at: usize, token: u32) -> usize {
    match (tag[at] == token, tag[0] == token) {
        (true, _) => at + 1,
        (false, true) => 1,
        (false, false) => 0,
    }
}

impl Constraint for Budget {
    fn prepare(&mut self) {
        if let Some(inner) = &mut self.inner {
            inner.prepare();
        }
    }

    fn allowed(&mut self) -> Result<Option<&[u32]>, String> {
        if let Some(&next) = self.due().first() {
            self.mask.fill(0);
            self.mask[next as usize / 32] = 1 << (next % 32);
            return Ok(Some(&self.mask));
        }
        match (&mut self.inner, self.place, &self.tags.close[..]) {
            (Some(inner), ..) => inner.allowed(),
            (None, Place::Closed, &[close]) => {
                self.mask.fill(u32::MAX);
                self.mask[close as usize / 32] &= !(1 << (close % 32));
                Ok(Some(&self.mask))
            }
            _ => Ok(None),
        }
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        if let Some(inner) = &mut self.inner {
            inner.accept(token)?;
        }
        self.place = match self.place {
            Place::Outside(at) => match follow(&self.tags.open, at, token) {
                n if n == self.tags.open.len() => self.inside(0),
                n => Place::Outside(n),
            },
            Place::Inside(at) => {
                self.left = self.left.saturating_sub(1);
                match follow(&self.tags.close, at, token) {
                    n if n == self.tags.close.len() => Place::Outside(0),
                    n => self.inside(n),
                }
            }
            Place::Closing(at) if at + 1 < self.tags.ending.len() => Place::Closing(at + 1),
            Place::Closing(_) | Place::Closed => Place::Closed,
        };
        Ok(())
    }

    fn forced(&mut self) -> Vec<u32> {
        match self.due() {
            [] => self.inner.as_mut().map(|inner| inner.forced()).unwrap_or_default(),
            due => due.to_vec(),
        }
    }

    fn is_complete(&mut self) -> bool {
        self.inner.as_mut().is_some_and(|inner| inner.is_complete())
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(Budget {
            inner: self.inner.as_ref().map(|inner| inner.fork()),
            tags: self.tags.clone(),
            left: self.left,
            place: self.place,
            mask: self.mask.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(place: Place, left: u32) -> Budget {
        let tags = Tags { open: vec![5], close: vec![40], ending: vec![1, 40] };
        Budget { inner: None, tags: Arc::new(tags), left, place, mask: vec![0; 2] }
    }

    #[test]
    fn thinking_is_closed_when_its_tokens_are_used_up() {
        let mut budget = budget(Place::Outside(0), 2);
        for token in [9, 5, 9] {
            assert_eq!((budget.allowed(), budget.forced()), (Ok(None), vec![]));
            budget.accept(token).unwrap();
        }
        budget.accept(9).unwrap();
        assert_eq!(budget.forced(), [1, 40]);
        assert_eq!(budget.allowed(), Ok(Some(&[1 << 1, 0][..])));
        budget.accept(1).unwrap();
        assert_eq!(budget.fork().forced(), [40]);
        assert_eq!(budget.allowed(), Ok(Some(&[0, 1 << 8][..])));
        budget.accept(40).unwrap();
        // Closed for the model, thinking is not closed again.
        assert_eq!(budget.allowed(), Ok(Some(&[u32::MAX, !(1 << 8)][..])));
        assert_eq!(budget.forced(), []);
    }

    #[test]
    fn thinking_that_ends_in_time_is_left_alone() {
        let mut budget = budget(Place::Inside(0), 4);
        for token in [9, 40, 9, 9, 9, 9] {
            budget.accept(token).unwrap();
        }
        assert_eq!((budget.forced(), budget.left), (vec![], 2));
        assert_eq!(budget.allowed(), Ok(None));
    }

    #[test]
    fn a_tag_of_several_tokens_that_was_begun_is_waited_for() {
        let mut budget = budget(Place::Inside(0), 1);
        budget.tags = Arc::new(Tags { open: vec![5], close: vec![6, 7], ending: vec![6, 7] });
        budget.accept(6).unwrap();
        assert_eq!((budget.forced(), budget.place), (vec![], Place::Inside(1)));
        budget.accept(7).unwrap();
        assert_eq!(budget.place, Place::Outside(0));
    }
}
