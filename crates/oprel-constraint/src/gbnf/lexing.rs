//! Where reading the longest terminal would shut out a text that the grammar has, terminals are
//! cut into smaller ones.
//!
//! Terminals `a` and `b` clash where both may come, a text of `a` goes on to be the beginning of
//! one of `b`, and what may follow `a` begins with the same character: llguidance goes on with `b`
//! alone. Single characters never clash, so cutting comes to an end.

use std::collections::{HashMap, HashSet};

use super::regular::{Grammar, Part, is_nullable, terminal};
use super::{Chars, Node, Regular};
use crate::{Error, Result};

/// Most steps that comparing terminals may take.
const MOST_STEPS: usize = 3_000_000;

/// Most terminals, and most rules over them.
const MOST_TERMINALS: usize = 1000;

/// Cuts terminals until none clash.
///
/// # Errors
/// [`Error::TooComplex`] if it cannot be told in time which do.
pub(super) fn make_exact(grammar: &mut Grammar) -> Result<()> {
    let mut steps = MOST_STEPS;
    loop {
        let Some(clashing) = clashing(grammar, &mut steps) else {
            let reason = "its terminals are too many to compare".into();
            return Err(Error::TooComplex { reason });
        };
        if clashing.is_empty() {
            return Ok(());
        }
        for rule in &mut grammar.rules {
            cut(rule, &clashing);
        }
    }
}

/// Takes `n` from the steps that are left.
fn spend(steps: &mut usize, n: usize) -> Option<()> {
    *steps = steps.checked_sub(n)?;
    Some(())
}

/// Replaces terminals by their parts.
fn cut(part: &mut Part, clashing: &[Regular]) {
    match part {
        Part::Terminal(expression) if clashing.contains(expression) => *part = pieces(expression),
        Part::Terminal(_) | Part::Rule(_) => {}
        Part::Seq(parts) | Part::Alt(parts) => parts.iter_mut().for_each(|p| cut(p, clashing)),
        Part::Repeat(inner, ..) => cut(inner, clashing),
    }
}

fn pieces(expression: &Regular) -> Part {
    let all = |nodes: &[Regular]| nodes.iter().cloned().map(terminal).collect();
    match expression {
        Node::Class(_) => Part::Terminal(expression.clone()),
        Node::Rule(never) => never.never(),
        Node::Seq(nodes) => Part::Seq(all(nodes)),
        Node::Alt(nodes) => Part::Alt(all(nodes)),
        // An inner one that may be empty makes up for any that are missing.
        Node::Repeat(node, least, most) => {
            let least = if is_nullable(node) { 0 } else { *least };
            Part::Repeat(Box::new(Part::Terminal((**node).clone())), least, *most)
        }
    }
}

/// The terminals that clash with one another, those of one character aside; none if there are no
/// steps left to tell.
fn clashing(grammar: &Grammar, steps: &mut usize) -> Option<Vec<Regular>> {
    let neighbours = Neighbours::of(grammar, steps)?;
    let terminals = &neighbours.terminals;
    let places: Vec<Places> = terminals.iter().map(Places::of).collect();
    spend(steps, places.iter().map(Places::n_links).sum())?;
    let after: Vec<Chars> = (0..terminals.len())
        .map(|t| {
            let next = neighbours.next[t].iter();
            next.fold(Chars::default(), |chars, &n| chars.union(&places[n].first_chars()))
        })
        .collect();
    let together = together(&neighbours, &places, steps)?;
    let mut found = HashSet::new();
    for (a, b) in together {
        if places[b].is_one_char() || !clash(&places[a], &places[b], &after[a], steps)? {
            continue;
        }
        found.extend([a, b].into_iter().filter(|&t| !places[t].is_one_char()));
    }
    Some(found.into_iter().map(|t| terminals[t].clone()).collect())
}

/// The pairs of terminals that may both come at one place: those that may begin a text, and those
/// that follow a pair which one text matches.
fn together(
    neighbours: &Neighbours,
    places: &[Places],
    steps: &mut usize,
) -> Option<HashSet<(usize, usize)>> {
    let mut pairs = HashSet::new();
    let mut pending = vec![(&neighbours.start, &neighbours.start)];
    while let Some((some, others)) = pending.pop() {
        spend(steps, 1 + some.len() * others.len())?;
        for (&a, &b) in some.iter().flat_map(|a| others.iter().map(move |b| (a, b))) {
            if pairs.insert((a, b)) && (a == b || share_a_text(&places[a], &places[b], steps)?) {
                pending.push((&neighbours.next[a], &neighbours.next[b]));
            }
        }
    }
    Some(pairs)
}

/// Whether a text of `a` is one of `b` too.
fn share_a_text(a: &Places, b: &Places, steps: &mut usize) -> Option<bool> {
    walk_both(a, b, steps, |p, q| a.last[p] && b.last[q])
}

/// Whether a text of `a` goes on in `b` with one of the characters `after`.
fn clash(a: &Places, b: &Places, after: &Chars, steps: &mut usize) -> Option<bool> {
    let goes_on = |q: usize| b.follow[q].iter().any(|&next| b.chars[next].meets(after));
    walk_both(a, b, steps, |p, q| a.last[p] && goes_on(q))
}

/// Whether one text leads to places in both terminals at which `is_found` holds.
fn walk_both(
    a: &Places,
    b: &Places,
    steps: &mut usize,
    is_found: impl Fn(usize, usize) -> bool,
) -> Option<bool> {
    let mut seen: HashSet<(usize, usize)> = HashSet::new();
    let mut pending: Vec<(&[usize], &[usize])> = vec![(&a.first, &b.first)];
    while let Some((from_a, from_b)) = pending.pop() {
        spend(steps, 1 + from_a.len() * from_b.len())?;
        for (&p, &q) in from_a.iter().flat_map(|p| from_b.iter().map(move |q| (p, q))) {
            if !a.chars[p].meets(&b.chars[q]) || !seen.insert((p, q)) {
                continue;
            }
            if is_found(p, q) {
                return Some(true);
            }
            pending.push((&a.follow[p], &b.follow[q]));
        }
    }
    Some(false)
}

/// The characters of an expression by their places in it, and which may follow which. Bounded
/// repetitions count as unbounded, which finds more clashes, never fewer.
#[derive(Default)]
struct Places {
    chars: Vec<Chars>,
    first: Vec<usize>,
    last: Vec<bool>,
    follow: Vec<Vec<usize>>,
}

/// The places with which a piece begins and ends.
struct Span {
    first: Vec<usize>,
    last: Vec<usize>,
    nullable: bool,
}

impl Places {
    fn of(expression: &Regular) -> Places {
        let mut places = Places::default();
        let span = places.add(expression);
        places.first = span.first;
        places.last = vec![false; places.chars.len()];
        span.last.iter().for_each(|&p| places.last[p] = true);
        places
    }

    fn is_one_char(&self) -> bool {
        self.follow.iter().all(Vec::is_empty)
    }

    fn n_links(&self) -> usize {
        self.follow.iter().map(|next| 1 + next.len()).sum()
    }

    fn first_chars(&self) -> Chars {
        self.first.iter().fold(Chars::default(), |chars, &p| chars.union(&self.chars[p]))
    }

    fn add(&mut self, node: &Regular) -> Span {
        match node {
            Node::Class(chars) => {
                let place = self.chars.len();
                self.chars.push(chars.clone());
                self.follow.push(Vec::new());
                Span { first: vec![place], last: vec![place], nullable: false }
            }
            Node::Rule(never) => never.never(),
            Node::Seq(nodes) => {
                let mut whole = Span { first: vec![], last: vec![], nullable: true };
                for node in nodes {
                    let next = self.add(node);
                    self.link(&whole.last, &next.first);
                    if whole.nullable {
                        whole.first.extend(&next.first);
                    }
                    if next.nullable {
                        whole.last.extend(next.last);
                    } else {
                        whole.last = next.last;
                    }
                    whole.nullable &= next.nullable;
                }
                whole
            }
            Node::Alt(nodes) => {
                let mut whole = Span { first: vec![], last: vec![], nullable: false };
                for node in nodes {
                    let way = self.add(node);
                    whole.first.extend(way.first);
                    whole.last.extend(way.last);
                    whole.nullable |= way.nullable;
                }
                whole
            }
            Node::Repeat(_, _, Some(0)) => Span { first: vec![], last: vec![], nullable: true },
            Node::Repeat(node, least, most) => {
                let mut span = self.add(node);
                if *most != Some(1) {
                    let (last, first) = (span.last.clone(), span.first.clone());
                    self.link(&last, &first);
                }
                span.nullable |= *least == 0;
                span
            }
        }
    }

    fn link(&mut self, from: &[usize], to: &[usize]) {
        for &place in from {
            for &next in to {
                if !self.follow[place].contains(&next) {
                    self.follow[place].push(next);
                }
            }
        }
    }
}

/// Which terminals may stand first, and which may follow which.
struct Neighbours {
    terminals: Vec<Regular>,
    start: HashSet<usize>,
    next: Vec<HashSet<usize>>,
}

/// The terminals with which a piece may begin and end.
#[derive(Clone, Default, PartialEq)]
struct Ends {
    first: HashSet<usize>,
    last: HashSet<usize>,
    nullable: bool,
}

impl Neighbours {
    fn of(grammar: &Grammar, steps: &mut usize) -> Option<Neighbours> {
        let mut ids = Vec::new();
        grammar.rules.iter().for_each(|rule| collect(rule, &mut ids));
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut terminals: Vec<Regular> = Vec::new();
        for terminal in ids {
            known.entry(format!("{terminal:?}")).or_insert_with(|| {
                terminals.push(terminal.clone());
                terminals.len() - 1
            });
        }
        if terminals.len().max(grammar.rules.len()) > MOST_TERMINALS {
            return None;
        }
        let mut next = vec![HashSet::new(); terminals.len()];
        let mut rules = vec![Ends::default(); grammar.rules.len()];
        // To what holds for every rule given what holds for the others.
        loop {
            let before: (usize, Vec<Ends>) = (next.iter().map(HashSet::len).sum(), rules.clone());
            spend(steps, n_sets(&rules) + next.iter().map(HashSet::len).sum::<usize>())?;
            for (id, rule) in grammar.rules.iter().enumerate() {
                rules[id] = ends(rule, &known, &rules, &mut next);
            }
            if before.0 == next.iter().map(HashSet::len).sum::<usize>() && before.1 == rules {
                break;
            }
        }
        Some(Neighbours { terminals, start: rules[0].first.clone(), next })
    }
}

fn n_sets(rules: &[Ends]) -> usize {
    rules.iter().map(|ends| 1 + ends.first.len() + ends.last.len()).sum()
}

fn collect<'a>(part: &'a Part, out: &mut Vec<&'a Regular>) {
    match part {
        Part::Terminal(expression) => out.push(expression),
        Part::Rule(_) => {}
        Part::Seq(parts) | Part::Alt(parts) => parts.iter().for_each(|part| collect(part, out)),
        Part::Repeat(part, ..) => collect(part, out),
    }
}

fn ends(
    part: &Part,
    known: &HashMap<String, usize>,
    rules: &[Ends],
    next: &mut Vec<HashSet<usize>>,
) -> Ends {
    match part {
        Part::Terminal(expression) => {
            let id = HashSet::from([known[&format!("{expression:?}")]]);
            Ends { first: id.clone(), last: id, nullable: false }
        }
        Part::Rule(id) => rules[*id].clone(),
        Part::Seq(parts) => {
            let mut whole = Ends { nullable: true, ..Ends::default() };
            for part in parts {
                let item = ends(part, known, rules, next);
                whole.last.iter().for_each(|&t| next[t].extend(&item.first));
                if whole.nullable {
                    whole.first.extend(&item.first);
                }
                if !item.nullable {
                    whole.last.clear();
                }
                whole.last.extend(&item.last);
                whole.nullable &= item.nullable;
            }
            whole
        }
        Part::Alt(parts) => {
            let mut whole = Ends::default();
            for part in parts {
                let way = ends(part, known, rules, next);
                whole.first.extend(way.first);
                whole.last.extend(way.last);
                whole.nullable |= way.nullable;
            }
            whole
        }
        Part::Repeat(inner, least, most) => {
            let mut whole = ends(inner, known, rules, next);
            if *most != Some(1) {
                whole.last.iter().for_each(|&t| next[t].extend(&whole.first));
            }
            whole.nullable |= *least == 0;
            whole
        }
    }
}
