//! Items to a tree.

use super::lex::{Item, Token, TokenKind, What, items};
use super::tree::{Branch, Kind, Node, Pipe, Program, Sets, Term};
use crate::{Error, Result};

/// Longer than any real template.
const MOST_BYTES: usize = 1 << 20;
/// Deeper than any real template.
const MOST_DEPTH: u32 = 100;

/// Reads a template.
pub(super) fn program(source: &str) -> Result<Program> {
    if source.len() > MOST_BYTES {
        return Err(Error::TemplateTooLarge { bytes: source.len(), most: MOST_BYTES });
    }
    let mut parser = Parser {
        items: items(source)?.into_iter(),
        fields: Vec::new(),
        answer: None,
        depth: 0,
        ranges: 0,
    };
    let (nodes, end) = parser.list()?;
    if let Some(end) = end {
        return Err(Error::Syntax { line: end.line, message: "`{{ end }}` ends nothing".into() });
    }
    let Parser { fields, answer, .. } = parser;
    Ok(Program { nodes, fields, answer })
}

struct Parser {
    items: std::vec::IntoIter<Item>,
    fields: Vec<String>,
    answer: Option<usize>,
    depth: u32,
    /// How many ranges are open.
    ranges: u32,
}

/// What ends a list: `end` has no tokens left, `else` has those of what follows it.
struct End {
    line: usize,
    at: usize,
    /// `None` for `end`.
    other: Option<Vec<Token>>,
}

impl Parser {
    /// Nodes up to `end` or `else`, or to the end of the text.
    fn list(&mut self) -> Result<(Vec<Node>, Option<End>)> {
        self.deeper()?;
        let mut nodes = Vec::new();
        while let Some(Item { at, line, what }) = self.items.next() {
            let tokens = match what {
                What::Text(text) => {
                    nodes.push(Node { at, line, kind: Kind::Text(text) });
                    continue;
                }
                What::Action(tokens) => tokens,
            };
            let rest = tokens.get(1..).unwrap_or_default().to_vec();
            let wrong = |message: &str| Error::Syntax { line, message: message.into() };
            let kind = match tokens.first().map(|t| &t.kind) {
                Some(TokenKind::Word(word)) => match word.as_str() {
                    "end" | "else" => {
                        self.depth -= 1;
                        let other = (word == "else").then_some(rest);
                        return Ok((nodes, Some(End { line, at, other })));
                    }
                    "if" => Kind::If(self.branch(rest, line, false)?),
                    "with" => Kind::With(self.branch(rest, line, false)?),
                    "range" => Kind::Range(self.branch(rest, line, true)?),
                    "break" | "continue" if self.ranges == 0 => {
                        return Err(wrong("`break` or `continue` outside of a range"));
                    }
                    "break" => Kind::Break,
                    "continue" => Kind::Continue,
                    "define" | "template" | "block" => {
                        return Err(Error::Unsupported { line, what: format!("`{word}`") });
                    }
                    _ => self.action(tokens, at, line)?,
                },
                Some(_) => self.action(tokens, at, line)?,
                None => return Err(wrong("an action is empty")),
            };
            nodes.push(Node { at, line, kind });
        }
        self.depth -= 1;
        Ok((nodes, None))
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MOST_DEPTH { Err(Error::TooDeep { most: MOST_DEPTH }) } else { Ok(()) }
    }

    fn action(&mut self, tokens: Vec<Token>, at: usize, line: usize) -> Result<Kind> {
        let before = self.fields.len();
        let pipe = self.pipe(tokens, line, false)?;
        if self.answer.is_none() && self.fields[before..].iter().any(|f| f == "Response") {
            self.answer = Some(at);
        }
        Ok(Kind::Action(pipe))
    }

    /// The rest of `if`, `with` or `range`, with all up to its `end`.
    fn branch(&mut self, tokens: Vec<Token>, line: usize, ranges: bool) -> Result<Branch> {
        let pipe = self.pipe(tokens, line, ranges)?;
        self.ranges += u32::from(ranges);
        let (then, end) = self.list()?;
        self.ranges -= u32::from(ranges);
        let open = || Error::Syntax { line, message: "what begins here has no `{{ end }}`".into() };
        let end = end.ok_or_else(open)?;
        let Some(rest) = end.other else { return Ok(Branch { pipe, then, other: Vec::new() }) };
        let other = match rest.first().map(|t| &t.kind) {
            None => {
                let (nodes, last) = self.list()?;
                match last.ok_or_else(open)? {
                    End { other: None, .. } => nodes,
                    End { line, .. } => {
                        let message = "a second `{{ else }}`".into();
                        return Err(Error::Syntax { line, message });
                    }
                }
            }
            // `else if` is an `if` in the `else`, whose `end` ends both.
            Some(TokenKind::Word(word)) if !ranges && matches!(word.as_str(), "if" | "with") => {
                let is_if = word == "if";
                self.deeper()?;
                let inner = self.branch(rest[1..].to_vec(), end.line, false)?;
                self.depth -= 1;
                let kind = if is_if { Kind::If(inner) } else { Kind::With(inner) };
                vec![Node { at: end.at, line: end.line, kind }]
            }
            Some(_) => {
                let message = "`else` is followed by nothing, `if` or `with`".into();
                return Err(Error::Syntax { line: end.line, message });
            }
        };
        Ok(Branch { pipe, then, other })
    }

    fn pipe(&mut self, tokens: Vec<Token>, line: usize, ranges: bool) -> Result<Pipe> {
        let mut tokens = Tokens { tokens: tokens.into_iter().peekable(), line, depth: 0 };
        let pipe = tokens.pipe(ranges, &mut self.fields)?;
        match tokens.tokens.next() {
            None => Ok(pipe),
            Some(_) => tokens.wrong("`)` closes nothing"),
        }
    }
}

/// The tokens of one action.
struct Tokens {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    line: usize,
    depth: u32,
}

impl Tokens {
    fn wrong<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Error::Syntax { line: self.line, message: message.into() })
    }

    /// Up to the end, or to a `)` that is left.
    fn pipe(&mut self, ranges: bool, fields: &mut Vec<String>) -> Result<Pipe> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(Error::TooDeep { most: MOST_DEPTH });
        }
        let sets = self.sets(ranges)?;
        let mut commands = Vec::new();
        loop {
            let mut command = Vec::new();
            let mut goes_on = false;
            while let Some(token) = self.tokens.next_if(|t| t.kind != TokenKind::Close) {
                if token.kind == TokenKind::Bar {
                    goes_on = true;
                    break;
                }
                command.push(self.term(token, fields)?);
            }
            match command[..] {
                [] => return self.wrong("a value or a function is missing"),
                [Term::Nil] => return self.wrong("`nil` alone is nothing to do"),
                _ => {}
            }
            commands.push(command);
            if !goes_on {
                self.depth -= 1;
                return Ok(Pipe { sets, commands });
            }
        }
    }

    /// `$x :=`, `$x =`, and for ranges `$i, $x :=`.
    fn sets(&mut self, ranges: bool) -> Result<Option<Sets>> {
        let mut ahead = self.tokens.clone().map(|t| t.kind);
        let mut names = Vec::new();
        let declares = loop {
            let Some(TokenKind::Variable(name)) = ahead.next() else { return Ok(None) };
            names.push(name);
            match ahead.next() {
                Some(TokenKind::Comma) if ranges && names.len() < 2 => {}
                Some(TokenKind::Declare) => break true,
                Some(TokenKind::Assign) => break false,
                _ => return Ok(None),
            }
        };
        for _ in 0..2 * names.len() {
            self.tokens.next();
        }
        if names.iter().any(String::is_empty) {
            return self.wrong("`$` cannot be set");
        }
        Ok(Some(Sets { names, declares }))
    }

    fn term(&mut self, token: Token, fields: &mut Vec<String>) -> Result<Term> {
        let term = match token.kind {
            TokenKind::Word(word) => match word.as_str() {
                "true" | "false" => Term::Bool(word == "true"),
                "nil" => Term::Nil,
                _ if super::functions::is_known(&word) => Term::Function(word),
                _ => return self.wrong(format!("there is no function '{word}'")),
            },
            TokenKind::Field(name) => {
                fields.push(name.clone());
                let mut path = vec![name];
                path.extend(self.path(fields));
                Term::Field(path)
            }
            TokenKind::Variable(name) => Term::Variable(name, self.path(fields)),
            TokenKind::Dot => Term::Dot,
            TokenKind::Str(text) => Term::Str(text),
            TokenKind::Int(n) => Term::Int(n),
            TokenKind::Float(x) => Term::Float(x),
            TokenKind::Open => {
                let pipe = self.pipe(false, fields)?;
                if self.tokens.next().is_none() {
                    return self.wrong("a `)` is missing");
                }
                Term::Pipe(Box::new(pipe), self.path(fields))
            }
            TokenKind::Bar | TokenKind::Close => return self.wrong("a value is missing"),
            TokenKind::Declare | TokenKind::Assign | TokenKind::Comma => {
                return self.wrong("only a variable can be set, at the beginning");
            }
        };
        Ok(term)
    }

    /// Fields that follow without space.
    fn path(&mut self, fields: &mut Vec<String>) -> Vec<String> {
        let mut path = Vec::new();
        let follows = |t: &Token| !t.spaced && matches!(t.kind, TokenKind::Field(_));
        while let Some(Token { kind: TokenKind::Field(name), .. }) = self.tokens.next_if(follows) {
            fields.push(name.clone());
            path.push(name);
        }
        path
    }
}
