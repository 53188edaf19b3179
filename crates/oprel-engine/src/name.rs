//! Names of pages: what they hold, in sixteen bytes.
//!
//! A page's name is a hash of its tokens and of the name of the page before it; the first page follows a
//! root that stands for the model with all that its numbers depend on, and for the tenant. Equal names
//! mean equal bytes in the page, so a page may serve whoever asks for its name.

use std::fmt;

use oprel_nn::PAGE_LEN;
use sha2::{Digest, Sha256};

/// The name of a page, or of the place before the first one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name([u8; 16]);

impl Name {
    /// What comes before the first page. `fingerprint` tells apart whatever makes other numbers of the
    /// same tokens; pages are shared only among those of the same `salt`.
    pub fn root(fingerprint: &[u8], salt: Option<&str>) -> Name {
        let mut hash = Sha256::new();
        hash.update(b"oprel root");
        hash.update((fingerprint.len() as u64).to_le_bytes());
        hash.update(fingerprint);
        if let Some(salt) = salt {
            hash.update(salt.as_bytes());
        }
        // A salt that is empty is a salt.
        hash.update([u8::from(salt.is_some())]);
        Name::of(hash)
    }

    /// The page with these tokens, after this one.
    #[must_use]
    pub fn child(self, tokens: &[u32]) -> Name {
        let mut hash = Sha256::new();
        hash.update(b"oprel page");
        hash.update(self.0);
        for token in tokens {
            hash.update(token.to_le_bytes());
        }
        Name::of(hash)
    }

    /// The bytes.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// A name from its bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Name {
        Name(bytes)
    }

    fn of(hash: Sha256) -> Name {
        let digest = hash.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Name(bytes)
    }
}

/// Names of the whole pages of a text, each made once.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The root first.
    all: Vec<Name>,
}

impl Names {
    /// Those of a text of which nothing was named yet.
    pub(crate) fn new(root: Name) -> Names {
        Names { all: vec![root] }
    }

    /// What comes before the first page.
    pub(crate) fn root(&self) -> Name {
        self.all[0]
    }

    /// The root and the names of all whole pages of these tokens, with which the text begins.
    pub(crate) fn of(&mut self, tokens: &[u32]) -> &[Name] {
        let pages = tokens.chunks_exact(PAGE_LEN);
        let n = 1 + pages.len();
        for page in pages.skip(self.all.len() - 1) {
            self.all.push(self.all[self.all.len() - 1].child(page));
        }
        &self.all[..n]
    }

    /// The text is another one after so many tokens.
    pub(crate) fn forget_after(&mut self, tokens: usize) {
        self.all.truncate(1 + tokens / PAGE_LEN);
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_text_are_those_of_its_pages_also_when_it_changes() {
        let root = Name::root(b"", None);
        let mut text: Vec<u32> = (0..200).collect();
        let plain = |text: &[u32]| {
            let child = |name: &mut Name, page: &[u32]| {
                *name = name.child(page);
                Some(*name)
            };
            let pages = text.chunks_exact(PAGE_LEN).scan(root, child);
            std::iter::once(root).chain(pages).collect::<Vec<_>>()
        };
        let mut names = Names::new(root);
        for n in [0, 63, 64, 200, 130] {
            assert_eq!(names.of(&text[..n]), plain(&text[..n]), "{n}");
        }
        text.drain(70..100);
        names.forget_after(70);
        assert_eq!(names.of(&text), plain(&text));
    }

    #[test]
    fn names_tell_apart_models_tenants_places_and_tokens() {
        let roots = [
            Name::root(b"a", None),
            Name::root(b"b", None),
            Name::root(b"a", Some("")),
            Name::root(b"a", Some("x")),
            Name::root(b"", Some("a")),
        ];
        let children = roots.map(|r| r.child(&[1, 2]));
        let deeper = [children[0].child(&[1, 2]), roots[0].child(&[1, 2, 1, 2])];
        let all = [&roots[..], &children, &deeper, &[roots[0].child(&[2, 1])]].concat();
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b), "{i}");
        }
        assert_eq!(roots[0].child(&[1, 2]), children[0]);
    }
}
