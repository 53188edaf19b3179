//! What a template says, read.

/// A template. Offsets are those of its text.
#[derive(Debug)]
pub(crate) struct Program {
    pub(super) nodes: Vec<Node>,
    /// The names of all fields that are read.
    pub(super) fields: Vec<String>,
    /// Where the answer is written, by the first action that does.
    pub(super) answer: Option<usize>,
}

impl Program {
    /// Whether a field of this name is read anywhere.
    pub(crate) fn reads(&self, field: &str) -> bool {
        self.fields.iter().any(|f| f == field)
    }
}

/// A piece of a template, and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) line: usize,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Text(String),
    /// Written, unless it sets a variable.
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Break,
    Continue,
}

/// What is done with the pipe's value, and what where there is none.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) then: Vec<Node>,
    pub(super) other: Vec<Node>,
}

/// Commands, each of which gets the value of the one before as its last argument.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) sets: Option<Sets>,
    /// At least one.
    pub(super) commands: Vec<Vec<Term>>,
}

/// The variables that a pipe's value goes to.
#[derive(Debug)]
pub(super) struct Sets {
    /// One; of a range, two may be the key and the element.
    pub(super) names: Vec<String>,
    /// `:=`, not `=`.
    pub(super) declares: bool,
}

#[derive(Debug)]
pub(super) enum Term {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A.B`, or `$`.
    Variable(String, Vec<String>),
    /// `(...)` and fields of it.
    Pipe(Box<Pipe>, Vec<String>),
    Function(String),
}
