//! What the prefix cache knows: which tokens lie in which pages, by name.

use std::collections::HashMap;

use oprel_nn::state::PageId;

use crate::name::Name;

/// What is known of a name: a page's tokens, and where its bytes are in each group.
#[derive(Debug)]
pub(crate) struct Node {
    parent: Name,
    /// Of a whole page, or of the beginning of one.
    pub(crate) tokens: Box<[u32]>,
    /// By group; [`PageId::NONE`] where it is not in memory.
    pub(crate) pages: Box<[PageId]>,
}

/// Nodes by name and by parent.
#[derive(Debug)]
pub(crate) struct Index {
    nodes: HashMap<Name, Node>,
    children: HashMap<Name, Vec<Name>>,
    n_groups: usize,
}

impl Index {
    pub(crate) fn new(n_groups: usize) -> Index {
        Index { nodes: HashMap::new(), children: HashMap::new(), n_groups }
    }

    /// The page of a name in a group.
    pub(crate) fn page(&self, name: Name, group: usize) -> Option<PageId> {
        self.nodes.get(&name).map(|node| node.pages[group]).filter(|&page| page != PageId::NONE)
    }

    /// The page before that of a name, and the tokens of its own.
    pub(crate) fn tokens(&self, name: Name) -> Option<(Name, &[u32])> {
        self.nodes.get(&name).map(|node| (node.parent, &*node.tokens))
    }

    /// Notes that a page holds these tokens; if another one does already, that one is returned and
    /// nothing is changed.
    pub(crate) fn add(
        &mut self,
        name: Name,
        (parent, tokens): (Name, &[u32]),
        group: usize,
        page: PageId,
    ) -> Option<PageId> {
        let n_groups = self.n_groups;
        let node = self.nodes.entry(name).or_insert_with(|| {
            self.children.entry(parent).or_default().push(name);
            Node { parent, tokens: tokens.into(), pages: vec![PageId::NONE; n_groups].into() }
        });
        match node.pages[group] {
            PageId::NONE => {
                node.pages[group] = page;
                None
            }
            other => Some(other),
        }
    }

    /// A page does not hold this any more.
    pub(crate) fn remove(&mut self, name: Name, group: usize) {
        let Some(node) = self.nodes.get_mut(&name) else { return };
        node.pages[group] = PageId::NONE;
        if node.pages.iter().any(|&page| page != PageId::NONE) {
            return;
        }
        let parent = node.parent;
        self.nodes.remove(&name);
        if let Some(siblings) = self.children.get_mut(&parent) {
            siblings.retain(|&sibling| sibling != name);
            if siblings.is_empty() {
                self.children.remove(&parent);
            }
        }
    }

    /// The child that begins with most of these tokens, and with how many: of those that `fit`.
    pub(crate) fn best_child(
        &self,
        parent: Name,
        tokens: &[u32],
        fit: impl Fn(&Node) -> bool,
    ) -> Option<(Name, usize)> {
        let children = self.children.get(&parent)?.iter();
        let nodes = children.filter_map(|&name| Some((name, self.nodes.get(&name)?)));
        let alike = nodes.map(|(name, node)| (name, node, same(&node.tokens, tokens)));
        let fitting = alike.filter(|(_, node, n)| *n > 0 && fit(node));
        fitting.max_by_key(|(_, _, n)| *n).map(|(name, _, n)| (name, n))
    }

    /// Children with fewer tokens than a page, all of which these tokens begin with.
    pub(crate) fn beginnings(&self, parent: Name, tokens: &[u32]) -> Vec<Name> {
        let children = self.children.get(&parent).map_or(&[][..], Vec::as_slice);
        let begins = |name: &&Name| {
            let node = self.nodes.get(*name);
            node.is_some_and(|n| n.tokens.len() < tokens.len() && tokens.starts_with(&n.tokens))
        };
        children.iter().filter(begins).copied().collect()
    }

    /// Whether a child begins with all of these tokens and is in memory in every group.
    pub(crate) fn covers(&self, parent: Name, tokens: &[u32]) -> bool {
        let whole = |node: &Node| {
            node.tokens.starts_with(tokens) && node.pages.iter().all(|&p| p != PageId::NONE)
        };
        self.best_child(parent, tokens, whole).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }
}

/// How many tokens two runs begin with alike.
pub(crate) fn same(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
