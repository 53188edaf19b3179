//! A compiled template: what the parser read, owned, with every name resolved to shared text.

use std::sync::Arc;

/// A name or a text that many nodes share.
pub(super) type Name = Arc<str>;

/// A compiled template.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(super) body: Vec<Stmt>,
    pub(super) loops: Vec<Loop>,
    pub(super) macros: Vec<MacroDef>,
    /// Every variable name that is read anywhere.
    pub(super) reads: Vec<Name>,
}

impl Tree {
    /// Whether a variable of this name is read anywhere.
    pub(crate) fn reads(&self, name: &str) -> bool {
        self.reads.iter().any(|read| &**read == name)
    }
}

/// A statement and its line.
#[derive(Debug)]
pub(super) struct Stmt {
    pub(super) line: usize,
    pub(super) kind: StmtKind,
}

#[derive(Debug)]
pub(super) enum StmtKind {
    Text(Name),
    Emit(Expr),
    /// Index into [`Tree::loops`].
    For(usize),
    If {
        test: Expr,
        then: Vec<Stmt>,
        otherwise: Vec<Stmt>,
    },
    With {
        assign: Vec<(Target, Expr)>,
        body: Vec<Stmt>,
    },
    Set {
        target: Target,
        value: Expr,
    },
    SetBlock {
        target: Target,
        filter: Option<Expr>,
        body: Vec<Stmt>,
    },
    /// The filter's innermost input is absent: it is the body's text.
    FilterBlock {
        filter: Expr,
        body: Vec<Stmt>,
    },
    /// Index into [`Tree::macros`].
    Macro(usize),
    /// A call, and the macro that it gets as `caller`.
    CallBlock {
        call: Expr,
        body: usize,
    },
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct Loop {
    pub(super) target: Target,
    pub(super) over: Expr,
    pub(super) only_if: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Vec<Stmt>,
    pub(super) otherwise: Vec<Stmt>,
}

#[derive(Debug)]
pub(super) struct MacroDef {
    pub(super) name: Name,
    pub(super) params: Vec<Name>,
    /// Defaults of the last parameters.
    pub(super) defaults: Vec<Expr>,
    pub(super) body: Vec<Stmt>,
    /// Whether the body reads `varargs`, `kwargs`, `caller`.
    pub(super) takes_varargs: bool,
    pub(super) takes_kwargs: bool,
    pub(super) takes_caller: bool,
}

/// What is assigned to.
#[derive(Debug)]
pub(super) enum Target {
    Name(Name),
    /// An attribute of a namespace.
    Attr(Name, Name),
    Tuple(Vec<Target>),
}

#[derive(Clone, Debug)]
pub(super) enum Const {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Name),
}

#[derive(Debug)]
pub(super) enum Expr {
    Const(Const),
    Var(Name),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attr(Box<Expr>, Name),
    Item(Box<(Expr, Expr)>),
    Slice(Box<SliceOf>),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    /// Operators that are applied from left to right.
    Chain(Box<Expr>, Vec<(BinOp, Expr)>),
    /// `a < b < c`.
    Compare(Box<Expr>, Vec<(BinOp, Expr)>),
    If(Box<IfExpr>),
    Filter(Box<Filter>),
    Test(Box<Filter>),
    Call(Box<Call>),
    /// The text of the block that a filter is applied to.
    BlockText,
}

#[derive(Debug)]
pub(super) struct SliceOf {
    pub(super) of: Expr,
    pub(super) start: Option<Expr>,
    pub(super) stop: Option<Expr>,
    pub(super) step: Option<Expr>,
}

#[derive(Debug)]
pub(super) struct IfExpr {
    pub(super) test: Expr,
    pub(super) then: Expr,
    pub(super) otherwise: Option<Expr>,
}

/// A filter or a test, its input and arguments.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) name: Name,
    pub(super) input: Expr,
    pub(super) args: Vec<Arg>,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) callee: Expr,
    pub(super) args: Vec<Arg>,
}

#[derive(Debug)]
pub(super) enum Arg {
    Plain(Expr),
    Named(Name, Expr),
    Spread(Expr),
    SpreadNamed(Expr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BinOp {
    And,
    Or,
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Rem,
    Pow,
    Concat,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}
