//! Most tokens that a model may think: then its thinking is closed for it, and it answers.

use std::sync::Arc;

use oprel_engine::{Constraint, Guide};

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
    let tokens = |tag: &str| {
        facts.tokenizer.tokenize(
            tag,
            oprel_tokenizer::TokenizeOptions { add_special: false, parse_special: true },
        )
    };
    let (open, close) = (tokens(&tags.open), tokens(&tags.close));
    if open.is_empty() || close.is_empty() {
        return guide;
    }
    Some(Guide(Box::new(Budget {
        inner: guide.map(|guide| guide.0),
        tags: Arc::new(Tags { open, close }),
        left: most,
        place: if tags.left_open_by(prompt) { Place::Inside(0) } else { Place::Outside(0) },
        mask: vec![0; (facts.n_vocab as usize).div_ceil(32)],
    })))
}

/// The tags of thinking, as tokens.
struct Tags {
    open: Vec<u32>,
    close: Vec<u32>,
}

/// Where it is, with how many tokens of the tag that would lead out of there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Outside(usize),
    Inside(usize),
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
    /// What of the closing tag must come now.
    fn due(&self) -> &[u32] {
        match self.place {
            Place::Inside(at) if self.left == 0 => &self.tags.close[at..],
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
        self.inner.as_mut().map_or(Ok(None), |inner| inner.allowed())
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        if let Some(inner) = &mut self.inner {
            inner.accept(token)?;
        }
        self.place = match self.place {
            Place::Outside(at) => match follow(&self.tags.open, at, token) {
                n if n == self.tags.open.len() => Place::Inside(0),
                n => Place::Outside(n),
            },
            Place::Inside(at) => {
                self.left = self.left.saturating_sub(1);
                match follow(&self.tags.close, at, token) {
                    n if n == self.tags.close.len() => Place::Outside(0),
                    n => Place::Inside(n),
                }
            }
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
        let tags = Arc::new(Tags { open: vec![5], close: vec![40, 7] });
        Budget { inner: None, tags, left, place, mask: vec![0; 2] }
    }

    #[test]
    fn thinking_is_closed_when_its_tokens_are_used_up() {
        let mut budget = budget(Place::Outside(0), 2);
        for token in [1, 5, 1] {
            assert_eq!(budget.allowed(), Ok(None));
            budget.accept(token).unwrap();
        }
        assert_eq!(budget.forced(), []);
        budget.accept(2).unwrap();
        assert_eq!(budget.forced(), [40, 7]);
        assert_eq!(budget.allowed(), Ok(Some(&[0, 1 << 8][..])));
        budget.accept(40).unwrap();
        assert_eq!(budget.fork().forced(), [7]);
        assert_eq!(budget.allowed(), Ok(Some(&[1 << 7, 0][..])));
        budget.accept(7).unwrap();
        assert_eq!((budget.allowed(), budget.place), (Ok(None), Place::Outside(0)));
    }

    #[test]
    fn thinking_that_ends_in_time_is_left_alone() {
        let mut budget = budget(Place::Inside(0), 9);
        for token in [40, 40, 7, 1, 1, 1, 1, 1, 1, 1] {
            budget.accept(token).unwrap();
        }
        assert_eq!((budget.forced(), budget.left), (vec![], 6));
    }
}
