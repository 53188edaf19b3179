//! llama.cpp's notation of grammars, GBNF, translated to Lark's.
//!
//! GBNF describes a text character by character; llguidance reads terminals first, each as long as
//! it goes, and rules over them. What of a grammar is regular becomes terminals, which are fast to
//! search; where reading the longest one could shut out a text that the grammar has, they are cut
//! into smaller ones, down to characters. So the language stays the same.

mod chars;
mod lexing;
mod parse;
mod regular;
mod write;

use crate::Result;

pub(crate) use chars::Chars;

/// A piece of a grammar; `R` is how it names a rule.
#[derive(Clone, Debug, PartialEq)]
enum Node<R> {
    /// One character of these.
    Class(Chars),
    Rule(R),
    Seq(Vec<Node<R>>),
    Alt(Vec<Node<R>>),
    /// So many times, without a bound where there is none.
    Repeat(Box<Node<R>>, u32, Option<u32>),
}

/// What names no rule: a regular expression.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Never {}

type Regular = Node<Never>;

/// The rules of a grammar, the first is `root`.
type Rules = Vec<Node<usize>>;

/// The Lark grammar of the same texts.
///
/// # Errors
/// [`crate::Error::Grammar`] with the line.
pub(crate) fn to_lark(text: &str) -> Result<String> {
    let rules = parse::parse(text)?;
    let mut grammar = regular::regularize(&rules)?;
    lexing::make_exact(&mut grammar)?;
    Ok(write::lark(&grammar))
}

impl<R> Node<R> {
    fn empty() -> Node<R> {
        Node::Seq(Vec::new())
    }

    fn literal(text: &str) -> Node<R> {
        let chars = text.chars().map(|c| Node::Class(Chars::one(c as u32)));
        Node::Seq(chars.collect())
    }
}

#[cfg(test)]
mod tests;
