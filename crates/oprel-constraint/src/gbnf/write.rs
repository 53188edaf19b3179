//! Writes a grammar over terminals in Lark's notation.

use std::collections::HashMap;
use std::fmt::Write;

use super::regular::{Grammar, Part, is_nullable};
use super::{Node, Regular};

/// The grammar in Lark's notation; only rules that `root` reaches.
pub(super) fn lark(grammar: &Grammar) -> String {
    let mut writer = Writer::default();
    let mut out = String::from("start: r0\n");
    let mut written = vec![false; grammar.rules.len()];
    let mut pending = vec![0];
    while let Some(id) = pending.pop() {
        if std::mem::replace(&mut written[id], true) {
            continue;
        }
        let body = writer.part(&grammar.rules[id], &mut pending);
        // Writing to a text cannot fail.
        let _ = writeln!(out, "r{id}: {body}");
    }
    for (expression, id) in &writer.order {
        let not_empty = if *id { " & /(?s:.+)/" } else { "" };
        let at = writer.names[expression];
        let _ = writeln!(out, "T{at}: /{expression}/{not_empty}");
    }
    out
}

#[derive(Default)]
struct Writer {
    /// Terminals by expression.
    names: HashMap<String, usize>,
    /// Terminals in order, and whether the empty text is to be left out.
    order: Vec<(String, bool)>,
}

impl Writer {
    fn part(&mut self, part: &Part, pending: &mut Vec<usize>) -> String {
        match part {
            Part::Terminal(node) => {
                let text = expression(node);
                let next = self.names.len();
                let id = *self.names.entry(text.clone()).or_insert(next);
                if id == next {
                    self.order.push((text, is_nullable(node)));
                }
                format!("T{id}")
            }
            Part::Rule(id) => {
                pending.push(*id);
                format!("r{id}")
            }
            Part::Seq(parts) if parts.is_empty() => "\"\"".into(),
            Part::Seq(parts) => {
                let parts: Vec<String> = parts.iter().map(|p| self.part(p, pending)).collect();
                format!("({})", parts.join(" "))
            }
            Part::Alt(parts) => {
                let parts: Vec<String> = parts.iter().map(|p| self.part(p, pending)).collect();
                format!("({})", parts.join(" | "))
            }
            Part::Repeat(inner, least, most) => {
                format!("({}){}", self.part(inner, pending), times(*least, *most))
            }
        }
    }
}

fn times(least: u32, most: Option<u32>) -> String {
    match (least, most) {
        (0, None) => "*".into(),
        (1, None) => "+".into(),
        (0, Some(1)) => "?".into(),
        (least, None) => format!("{{{least},}}"),
        (least, Some(most)) => format!("{{{least},{most}}}"),
    }
}

/// A regular expression, in which no slash stands as such.
fn expression(node: &Regular) -> String {
    match node {
        Node::Class(chars) => chars.expression(),
        Node::Rule(never) => never.never(),
        Node::Seq(nodes) => nodes.iter().map(grouped).collect(),
        Node::Alt(nodes) => {
            let ways: Vec<String> = nodes.iter().map(expression).collect();
            format!("(?:{})", ways.join("|"))
        }
        Node::Repeat(node, least, most) => {
            format!("(?:{}){}", expression(node), times(*least, *most))
        }
    }
}

fn grouped(node: &Regular) -> String {
    match node {
        Node::Seq(_) => format!("(?:{})", expression(node)),
        _ => expression(node),
    }
}
