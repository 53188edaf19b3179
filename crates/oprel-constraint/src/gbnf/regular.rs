//! Finds what of a grammar is regular, and makes terminals of it.

use super::{Never, Node, Regular, Rules};
use crate::compile::LONGEST_FORCED;
use crate::{Error, Result};

/// Largest regular expression that a rule is written out to, in characters of the grammar.
const MOST_NODES: usize = 8000;

/// What a part that may be missing counts: from every place in a text it is looked past.
const OPTIONAL_NODE: usize = 16;

/// Most characters of the grammar that writing out may make, all rules together.
const MOST_NODES_IN_ALL: usize = 200_000;

/// Most rounds in which the shortest texts of rules are found from those of others.
const MOST_ROUNDS: usize = 50;

/// A grammar over terminals.
pub(super) struct Grammar {
    pub(super) rules: Vec<Part>,
}

/// A piece of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// What this expression matches, the empty text aside.
    Terminal(Regular),
    Rule(usize),
    Seq(Vec<Part>),
    Alt(Vec<Part>),
    Repeat(Box<Part>, u32, Option<u32>),
}

/// Writes out rules that are regular, and joins what stands beside each other to terminals.
pub(super) fn regularize(rules: &Rules) -> Result<Grammar> {
    let rules: Rules = rules.iter().enumerate().map(|(id, body)| without_tail(id, body)).collect();
    let order = callees_first(&rules);
    let mut regular: Vec<Option<Regular>> = vec![None; rules.len()];
    let mut room = MOST_NODES_IN_ALL;
    for id in order {
        regular[id] = within(&mut room, &rules[id], &regular);
    }
    let mut parts = Vec::with_capacity(rules.len());
    for (id, body) in rules.iter().enumerate() {
        parts.push(match &regular[id] {
            Some(expression) => terminal(expression.clone()),
            None => part(body, &regular, &mut room),
        });
    }
    let grammar = Grammar { rules: parts };
    check_shortest(&grammar)?;
    Ok(grammar)
}

/// Rules in an order in which a rule comes after those that it names, as far as there is one.
fn callees_first(rules: &Rules) -> Vec<usize> {
    let mut order = Vec::new();
    let mut seen = vec![false; rules.len()];
    for start in 0..rules.len() {
        // A rule is left the second time it comes up.
        let mut stack = vec![(start, false)];
        while let Some((id, leaves)) = stack.pop() {
            if leaves {
                order.push(id);
            } else if !std::mem::replace(&mut seen[id], true) {
                stack.push((id, true));
                named(&rules[id], &mut |callee| stack.push((callee, false)));
            }
        }
    }
    order
}

fn named(node: &Node<usize>, tell: &mut impl FnMut(usize)) {
    match node {
        Node::Class(_) => {}
        Node::Rule(id) => tell(*id),
        Node::Seq(nodes) | Node::Alt(nodes) => nodes.iter().for_each(|node| named(node, tell)),
        Node::Repeat(node, ..) => named(node, tell),
    }
}

/// The node without rules, if all that it names are regular and it does not grow too large.
fn written_out(
    node: &Node<usize>,
    regular: &[Option<Regular>],
    left: &mut usize,
) -> Option<Regular> {
    *left = left.checked_sub(1)?;
    let mut all = |nodes: &[Node<usize>]| {
        nodes.iter().map(|node| written_out(node, regular, left)).collect::<Option<Vec<_>>>()
    };
    match node {
        Node::Class(chars) => Some(Node::Class(chars.clone())),
        Node::Rule(id) => {
            let expression = regular[*id].as_ref()?;
            *left = left.checked_sub(size(expression))?;
            Some(expression.clone())
        }
        Node::Seq(nodes) => all(nodes).map(Node::Seq),
        Node::Alt(nodes) => all(nodes).map(Node::Alt),
        Node::Repeat(node, least, most) => {
            if *least == 0 {
                *left = left.checked_sub(OPTIONAL_NODE)?;
            }
            let inner = written_out(node, regular, left)?;
            Some(Node::Repeat(Box::new(inner), *least, *most))
        }
    }
}

/// The same, as far as there is room for it.
fn within(room: &mut usize, node: &Node<usize>, regular: &[Option<Regular>]) -> Option<Regular> {
    let granted = MOST_NODES.min(*room);
    let mut left = granted;
    let expression = written_out(node, regular, &mut left);
    *room -= granted - left;
    expression
}

fn size<R>(node: &Node<R>) -> usize {
    match node {
        Node::Class(_) | Node::Rule(_) => 1,
        Node::Seq(nodes) | Node::Alt(nodes) => 1 + nodes.iter().map(size).sum::<usize>(),
        Node::Repeat(node, 0, _) => OPTIONAL_NODE + 1 + size(node),
        Node::Repeat(node, ..) => 1 + size(node),
    }
}

/// `a ::= x a | y` as `x* y`: a rule that names itself at its end alone repeats.
fn without_tail(id: usize, body: &Node<usize>) -> Node<usize> {
    let mut ways = Vec::new();
    alternatives(id, body, &mut ways);
    let (mut again, mut last) = (Vec::new(), Vec::new());
    for way in ways {
        let mut items = match way {
            Node::Seq(items) => items,
            other => vec![other],
        };
        if items.last() == Some(&Node::Rule(id)) {
            items.pop();
            again.push(Node::Seq(items));
        } else {
            last.push(Node::Seq(items));
        }
    }
    let mut names_itself = false;
    again.iter().chain(&last).for_each(|n| named(n, &mut |callee| names_itself |= callee == id));
    if again.is_empty() || last.is_empty() || names_itself {
        return body.clone();
    }
    Node::Seq(vec![Node::Repeat(Box::new(Node::Alt(again)), 0, None), Node::Alt(last)])
}

/// The ways that a node offers, as far as they differ in whether rule `id` stands at their end.
fn alternatives(id: usize, node: &Node<usize>, out: &mut Vec<Node<usize>>) {
    let mut names_it = false;
    named(node, &mut |callee| names_it |= callee == id);
    match node {
        _ if !names_it => out.push(node.clone()),
        Node::Alt(nodes) => nodes.iter().for_each(|node| alternatives(id, node, out)),
        Node::Repeat(node, 0, Some(1)) => {
            alternatives(id, node, out);
            out.push(Node::empty());
        }
        Node::Seq(nodes) => {
            let Some((end, begin)) = nodes.split_last() else { return };
            let mut ends = Vec::new();
            alternatives(id, end, &mut ends);
            out.extend(ends.into_iter().map(|end| {
                let end = match end {
                    Node::Seq(nodes) => nodes,
                    other => vec![other],
                };
                Node::Seq(begin.iter().cloned().chain(end).collect())
            }));
        }
        other => out.push(other.clone()),
    }
}

/// A rule's body over terminals: as much as is regular in each.
fn part(node: &Node<usize>, regular: &[Option<Regular>], room: &mut usize) -> Part {
    if let Some(expression) = within(room, node, regular) {
        return terminal(expression);
    }
    match node {
        Node::Class(chars) => Part::Terminal(Node::Class(chars.clone())),
        Node::Rule(id) => Part::Rule(*id),
        Node::Alt(nodes) => Part::Alt(nodes.iter().map(|node| part(node, regular, room)).collect()),
        Node::Repeat(node, least, most) => {
            Part::Repeat(Box::new(part(node, regular, room)), *least, *most)
        }
        Node::Seq(nodes) => {
            let (mut parts, mut joined) = (Vec::new(), Vec::new());
            for node in nodes {
                match within(room, node, regular) {
                    Some(expression) => joined.push(expression),
                    None => {
                        parts.extend(join(&mut joined));
                        parts.push(part(node, regular, room));
                    }
                }
            }
            parts.extend(join(&mut joined));
            Part::Seq(parts)
        }
    }
}

fn join(joined: &mut Vec<Regular>) -> Option<Part> {
    let expressions = std::mem::take(joined);
    (!expressions.is_empty()).then(|| terminal(Node::Seq(expressions)))
}

/// An expression as a terminal, which is never empty.
pub(super) fn terminal(expression: Regular) -> Part {
    if !can_be_long(&expression) {
        return Part::Seq(Vec::new());
    }
    if is_nullable(&expression) {
        return Part::Repeat(Box::new(Part::Terminal(expression)), 0, Some(1));
    }
    Part::Terminal(expression)
}

/// Whether it matches the empty text.
pub(super) fn is_nullable(node: &Regular) -> bool {
    match node {
        Node::Class(_) => false,
        Node::Rule(never) => never.never(),
        Node::Seq(nodes) => nodes.iter().all(is_nullable),
        Node::Alt(nodes) => nodes.iter().any(is_nullable),
        Node::Repeat(node, least, _) => *least == 0 || is_nullable(node),
    }
}

/// Whether there is a character in it at all.
fn can_be_long(node: &Regular) -> bool {
    match node {
        Node::Class(_) => true,
        Node::Rule(never) => never.never(),
        Node::Seq(nodes) | Node::Alt(nodes) => nodes.iter().any(can_be_long),
        Node::Repeat(node, _, most) => *most != Some(0) && can_be_long(node),
    }
}

/// Refuses rules that never come to an end, and those whose shortest text is so long that too
/// much may come as one step.
fn check_shortest(grammar: &Grammar) -> Result<()> {
    let mut known = vec![usize::MAX; grammar.rules.len()];
    let mut changed = true;
    for _ in 0..MOST_ROUNDS {
        changed = false;
        for id in (0..known.len()).rev().chain(0..known.len()) {
            let found = shortest_of(&grammar.rules[id], &known);
            changed |= found != known[id];
            known[id] = found;
        }
        if !changed {
            break;
        }
    }
    if changed {
        return Err(Error::TooComplex { reason: "its rules depend on too many others".into() });
    }
    let mut reached = vec![false; known.len()];
    let mut pending = vec![0];
    while let Some(id) = pending.pop() {
        if std::mem::replace(&mut reached[id], true) {
            continue;
        }
        rules_in(&grammar.rules[id], &mut pending);
        if known[id] == usize::MAX {
            let reason = "a text that begins a rule of it never comes to an end".into();
            return Err(Error::Grammar { line: None, reason });
        }
        if known[id] > LONGEST_FORCED {
            let (what, found, most) = ("shortest text of a rule", known[id], LONGEST_FORCED);
            return Err(Error::TooLarge { what, found, unit: "characters", most });
        }
    }
    Ok(())
}

fn rules_in(part: &Part, out: &mut Vec<usize>) {
    match part {
        Part::Terminal(_) => {}
        Part::Rule(id) => out.push(*id),
        Part::Seq(parts) | Part::Alt(parts) => parts.iter().for_each(|part| rules_in(part, out)),
        Part::Repeat(part, ..) => rules_in(part, out),
    }
}

/// Characters of a part's shortest text, given those of rules; the largest number for none.
fn shortest_of(part: &Part, known: &[usize]) -> usize {
    match part {
        Part::Terminal(expression) => shortest(expression).max(1),
        Part::Rule(id) => known[*id],
        Part::Seq(parts) => {
            parts.iter().map(|part| shortest_of(part, known)).fold(0, usize::saturating_add)
        }
        Part::Alt(parts) => parts.iter().map(|part| shortest_of(part, known)).min().unwrap_or(0),
        Part::Repeat(_, 0, _) => 0,
        Part::Repeat(part, least, _) => shortest_of(part, known).saturating_mul(*least as usize),
    }
}

fn shortest(node: &Regular) -> usize {
    match node {
        Node::Class(_) => 1,
        Node::Rule(never) => never.never(),
        Node::Seq(nodes) => nodes.iter().map(shortest).fold(0, usize::saturating_add),
        Node::Alt(nodes) => nodes.iter().map(shortest).min().unwrap_or(0),
        Node::Repeat(node, least, _) => shortest(node).saturating_mul(*least as usize),
    }
}

impl Never {
    pub(super) fn never<T>(self) -> T {
        match self {}
    }
}
