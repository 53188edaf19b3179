//! A byte trie, built once from the tokens of a vocabulary.
//!
//! The children of a node lie side by side in byte order; those of the root are found by index.

/// Texts and the ids they end in.
pub(crate) struct Trie {
    nodes: Vec<Node>,
    bytes: Vec<u8>, // the byte that leads to a node
    root: Box<[u32; 256]>,
}

#[derive(Clone, Copy)]
struct Node {
    first: u32,
    children: u16,
    id: u32,
}

/// Where in a [`Trie`] a prefix leads.
#[derive(Clone, Copy)]
pub(crate) struct At(u32);

const NONE: u32 = u32::MAX;

/// Nodes of one depth with the texts below each.
type Level = Vec<(usize, std::ops::Range<usize>)>;

struct Entry<T> {
    head: u64,
    text: T,
    id: u32,
}

impl<T: AsRef<[u8]>> Entry<T> {
    fn len(&self) -> usize {
        self.text.as_ref().len()
    }

    /// The byte at `i`, which is within the text.
    #[inline]
    fn byte(&self, i: usize) -> u8 {
        if i < 8 { (self.head >> (56 - 8 * i)) as u8 } else { self.text.as_ref()[i] }
    }
}

impl Trie {
    /// Holds `entries`; of equal texts the last one's id. Empty texts are left out.
    pub(crate) fn new<T: AsRef<[u8]>>(entries: impl IntoIterator<Item = (T, u32)>) -> Trie {
        let mut sorted: Vec<Entry<T>> = entries
            .into_iter()
            .map(|(text, id)| Entry { head: head(text.as_ref()), text, id })
            .filter(|entry| entry.len() > 0)
            .collect();
        sorted
            .sort_by(|a, b| a.head.cmp(&b.head).then_with(|| a.text.as_ref().cmp(b.text.as_ref())));
        let mut trie = Trie {
            nodes: vec![Node { first: 0, children: 0, id: NONE }],
            bytes: vec![0],
            root: Box::new([NONE; 256]),
        };
        let mut level = vec![(0, 0..sorted.len())];
        for depth in 0.. {
            level = trie.grow(&sorted, depth, level);
            if level.is_empty() {
                break;
            }
        }
        let root = trie.nodes[0];
        for child in root.first..root.first + u32::from(root.children) {
            trie.root[usize::from(trie.bytes[child as usize])] = child;
        }
        trie
    }

    /// Makes the children of the nodes in `level`, each given with the texts below it, which agree
    /// in their first `depth` bytes. Gives the level of the children.
    fn grow<T: AsRef<[u8]>>(&mut self, sorted: &[Entry<T>], depth: usize, level: Level) -> Level {
        let mut children = Vec::with_capacity(level.len());
        for (node, mut range) in level {
            while !range.is_empty() && sorted[range.start].len() == depth {
                self.nodes[node].id = sorted[range.start].id;
                range.start += 1;
            }
            self.nodes[node].first = self.nodes.len() as u32;
            while !range.is_empty() {
                let byte = sorted[range.start].byte(depth);
                let same = sorted[range.clone()].iter().position(|e| e.byte(depth) != byte);
                let end = same.map_or(range.end, |same| range.start + same);
                children.push((self.nodes.len(), range.start..end));
                self.nodes.push(Node { first: 0, children: 0, id: NONE });
                self.bytes.push(byte);
                self.nodes[node].children += 1;
                range.start = end;
            }
        }
        children
    }

    /// The node of the one-byte prefix `byte`.
    #[inline]
    pub(crate) fn start(&self, byte: u8) -> Option<At> {
        let node = self.root[usize::from(byte)];
        (node != NONE).then_some(At(node))
    }

    /// The node one `byte` further.
    #[inline]
    pub(crate) fn step(&self, at: At, byte: u8) -> Option<At> {
        let node = self.nodes[at.0 as usize];
        let first = node.first as usize;
        let children = &self.bytes[first..first + usize::from(node.children)];
        let i = if children.len() < 9 {
            children.iter().position(|&b| b == byte)?
        } else {
            children.binary_search(&byte).ok()?
        };
        Some(At(node.first + i as u32))
    }

    /// The id of the text that leads here.
    #[inline]
    pub(crate) fn id(&self, at: At) -> Option<u32> {
        let id = self.nodes[at.0 as usize].id;
        (id != NONE).then_some(id)
    }

    /// The longest text that `bytes` begins with: its id and length.
    pub(crate) fn longest(&self, bytes: &[u8]) -> Option<(u32, usize)> {
        let (mut best, mut at) = (None, None);
        for (i, &byte) in bytes.iter().enumerate() {
            at = match at {
                None => self.start(byte),
                Some(at) => self.step(at, byte),
            };
            let Some(here) = at else { break };
            if let Some(id) = self.id(here) {
                best = Some((id, i + 1));
            }
        }
        best
    }

    /// How many bytes of `bytes` the trie follows, whether or not a text ends there.
    pub(crate) fn depth(&self, bytes: &[u8]) -> usize {
        let Some(mut at) = bytes.first().and_then(|&byte| self.start(byte)) else { return 0 };
        for (i, &byte) in bytes.iter().enumerate().skip(1) {
            match self.step(at, byte) {
                Some(next) => at = next,
                None => return i,
            }
        }
        bytes.len()
    }
}

/// The first eight bytes as a number that sorts as they do.
fn head(bytes: &[u8]) -> u64 {
    let mut head = [0; 8];
    let n = bytes.len().min(8);
    head[..n].copy_from_slice(&bytes[..n]);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_text_and_followed_depth() {
        let trie = Trie::new([("a", 1), ("abc", 2), ("", 3), ("b", 4), ("b", 5)]);
        assert_eq!(trie.longest(b"abcd"), Some((2, 3)));
        assert_eq!(trie.longest(b"abd"), Some((1, 1)));
        assert_eq!(trie.longest(b"b"), Some((5, 1)));
        assert_eq!(trie.longest(b"c"), None);
        assert_eq!(trie.depth(b"abd"), 2);
        assert_eq!(trie.depth(b"x"), 0);
    }

    #[test]
    fn a_text_that_another_one_continues_with_zero_is_kept_apart() {
        let trie = Trie::new([("ab", 1), ("ab\0", 2)]);
        assert_eq!(trie.longest(b"ab\0"), Some((2, 3)));
        assert_eq!(trie.longest(b"ab"), Some((1, 2)));
    }
}
