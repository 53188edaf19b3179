//! From the parser's tree, which borrows the text, to ours, which owns it.
//!
//! Mends what the parser reads otherwise than Jinja2: `(a, b)` is a tuple, `-a.b()` negates `a.b()`.
//! Chains of operators become flat, so that evaluating one does not recurse.

use super::source::{WHITESPACE, prepare, syntax};
use super::tree::{
    Arg, BinOp, Call, Const, Expr, Filter, IfExpr, Loop, MacroDef, Name, SliceOf, Stmt, StmtKind,
    Target, Tree,
};
use crate::{Error, Result};
use minijinja::machinery::ast;
use std::collections::BTreeSet;

/// Compiles a template.
///
/// # Errors
/// [`Error::TemplateTooLarge`], [`Error::Syntax`], [`Error::Unsupported`].
pub(crate) fn compile(template: &str) -> Result<Tree> {
    let source = prepare(template)?;
    let parsed = minijinja::machinery::parse(&source, "", Default::default(), WHITESPACE);
    let ast::Stmt::Template(root) = parsed.map_err(syntax)? else {
        return Err(Error::Syntax { line: 0, message: "not a template".into() });
    };
    let mut lower =
        Lower { source: &source, loops: vec![], macros: vec![], reads: BTreeSet::new(), depth: 0 };
    let body = lower.block(&root.children)?;
    let Lower { loops, macros, reads, .. } = lower;
    let loops = loops.into_iter().flatten().collect();
    let macros = macros.into_iter().flatten().collect();
    Ok(Tree { body, loops, macros, reads: reads.into_iter().collect() })
}

struct Lower<'s> {
    source: &'s str,
    /// `None` while the loop's body is being lowered.
    loops: Vec<Option<Loop>>,
    macros: Vec<Option<MacroDef>>,
    reads: BTreeSet<Name>,
    /// How deep the node is that is being lowered.
    depth: u32,
}

/// Deepest nesting of blocks and expressions together; it bounds what every later walk needs of
/// the stack.
const MOST_DEPTH: u32 = 200;

impl Lower<'_> {
    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MOST_DEPTH { Err(Error::TooDeep { most: MOST_DEPTH }) } else { Ok(()) }
    }

    fn name(&mut self, text: &str) -> Name {
        match self.reads.get(text) {
            Some(name) => name.clone(),
            None => text.into(),
        }
    }

    fn block(&mut self, stmts: &[ast::Stmt<'_>]) -> Result<Vec<Stmt>> {
        self.deeper()?;
        let block = stmts.iter().map(|stmt| self.stmt(stmt)).collect();
        self.depth -= 1;
        block
    }

    fn stmt(&mut self, stmt: &ast::Stmt<'_>) -> Result<Stmt> {
        let (line, kind) = match stmt {
            ast::Stmt::EmitRaw(s) => (s.span(), StmtKind::Text(s.raw.into())),
            ast::Stmt::EmitExpr(s) => (s.span(), StmtKind::Emit(self.expr(&s.expr)?)),
            ast::Stmt::ForLoop(s) => (s.span(), self.for_loop(s)?),
            ast::Stmt::IfCond(s) => (s.span(), self.if_cond(s)?),
            ast::Stmt::WithBlock(s) => (s.span(), self.with_block(s)?),
            ast::Stmt::Set(s) => {
                let value = self.expr(&s.expr)?;
                (s.span(), StmtKind::Set { target: self.target(&s.target)?, value })
            }
            ast::Stmt::SetBlock(s) => (s.span(), self.set_block(s)?),
            ast::Stmt::FilterBlock(s) => {
                let filter = self.expr(&s.filter)?;
                (s.span(), StmtKind::FilterBlock { filter, body: self.block(&s.body)? })
            }
            ast::Stmt::Macro(s) => (s.span(), StmtKind::Macro(self.macro_def(s)?)),
            ast::Stmt::CallBlock(s) => {
                let call = self.call(&s.call)?;
                (s.span(), StmtKind::CallBlock { call, body: self.macro_def(&s.macro_decl)? })
            }
            ast::Stmt::Continue(s) => (s.span(), StmtKind::Continue),
            ast::Stmt::Break(s) => (s.span(), StmtKind::Break),
            ast::Stmt::Block(s) => {
                (s.span(), StmtKind::With { assign: vec![], body: self.block(&s.body)? })
            }
            ast::Stmt::AutoEscape(s) => match &s.enabled {
                ast::Expr::Const(off) if !off.value.is_true() => {
                    (s.span(), StmtKind::With { assign: vec![], body: self.block(&s.body)? })
                }
                _ => return unsupported(s.span(), "autoescape"),
            },
            ast::Stmt::Import(s) => return unsupported(s.span(), "import"),
            ast::Stmt::FromImport(s) => return unsupported(s.span(), "import"),
            ast::Stmt::Extends(s) => return unsupported(s.span(), "extends"),
            ast::Stmt::Include(s) => return unsupported(s.span(), "include"),
            ast::Stmt::Do(s) => return unsupported(s.span(), "do"),
            ast::Stmt::Template(s) => {
                (s.span(), StmtKind::With { assign: vec![], body: self.block(&s.children)? })
            }
        };
        Ok(Stmt { line: line.start_line.into(), kind })
    }

    fn for_loop(&mut self, s: &ast::ForLoop<'_>) -> Result<StmtKind> {
        let over = self.expr(&s.iter)?;
        let target = self.target(&s.target)?;
        let only_if = s.filter_expr.as_ref().map(|e| self.expr(e)).transpose()?;
        let at = self.loops.len();
        self.loops.push(None);
        let body = self.block(&s.body)?;
        let otherwise = self.block(&s.else_body)?;
        let recursive = s.recursive;
        self.loops[at] = Some(Loop { target, over, only_if, recursive, body, otherwise });
        Ok(StmtKind::For(at))
    }

    fn if_cond(&mut self, s: &ast::IfCond<'_>) -> Result<StmtKind> {
        let test = self.expr(&s.expr)?;
        let then = self.block(&s.true_body)?;
        Ok(StmtKind::If { test, then, otherwise: self.block(&s.false_body)? })
    }

    fn with_block(&mut self, s: &ast::WithBlock<'_>) -> Result<StmtKind> {
        let mut assign = Vec::with_capacity(s.assignments.len());
        for (target, value) in &s.assignments {
            let value = self.expr(value)?;
            assign.push((self.target(target)?, value));
        }
        Ok(StmtKind::With { assign, body: self.block(&s.body)? })
    }

    fn set_block(&mut self, s: &ast::SetBlock<'_>) -> Result<StmtKind> {
        let filter = s.filter.as_ref().map(|e| self.expr(e)).transpose()?;
        let body = self.block(&s.body)?;
        Ok(StmtKind::SetBlock { target: self.target(&s.target)?, filter, body })
    }

    /// Lowers a macro. What its body reads is noted apart first, to know whether it takes
    /// `varargs`, `kwargs` and `caller`.
    fn macro_def(&mut self, s: &ast::Macro<'_>) -> Result<usize> {
        let at = self.macros.len();
        self.macros.push(None);
        let outside = std::mem::take(&mut self.reads);
        let params = s.args.iter().map(|arg| self.param(arg)).collect::<Result<Vec<_>>>()?;
        let defaults = s.defaults.iter().map(|e| self.expr(e)).collect::<Result<Vec<_>>>()?;
        let body = self.block(&s.body)?;
        let takes =
            |name: &str| self.reads.contains(name) && !params.iter().any(|param| &**param == name);
        let def = MacroDef {
            name: s.name.into(),
            takes_varargs: takes("varargs"),
            takes_kwargs: takes("kwargs"),
            takes_caller: takes("caller") || params.iter().any(|param| &**param == "caller"),
            params,
            defaults,
            body,
        };
        self.reads.extend(outside);
        self.macros[at] = Some(def);
        Ok(at)
    }

    fn param(&mut self, param: &ast::Expr<'_>) -> Result<Name> {
        match param {
            ast::Expr::Var(var) => Ok(self.name(var.id)),
            other => Err(Error::Syntax {
                line: other.span().start_line.into(),
                message: "a parameter must be a name".into(),
            }),
        }
    }

    fn target(&mut self, target: &ast::Expr<'_>) -> Result<Target> {
        match target {
            ast::Expr::Var(var) => Ok(Target::Name(self.name(var.id))),
            ast::Expr::List(list) => list
                .items
                .iter()
                .map(|item| self.target(item))
                .collect::<Result<_>>()
                .map(Target::Tuple),
            ast::Expr::GetAttr(attr) => match &attr.expr {
                ast::Expr::Var(var) => {
                    let of = self.name(var.id);
                    self.reads.insert(of.clone());
                    Ok(Target::Attr(of, attr.name.into()))
                }
                other => bad_target(other),
            },
            other => bad_target(other),
        }
    }

    fn boxed(&mut self, expr: &ast::Expr<'_>) -> Result<Box<Expr>> {
        Ok(Box::new(self.expr(expr)?))
    }

    fn exprs(&mut self, exprs: &[ast::Expr<'_>]) -> Result<Vec<Expr>> {
        exprs.iter().map(|expr| self.expr(expr)).collect()
    }

    fn optional(&mut self, expr: &Option<ast::Expr<'_>>) -> Result<Option<Expr>> {
        expr.as_ref().map(|expr| self.expr(expr)).transpose()
    }

    fn expr(&mut self, expr: &ast::Expr<'_>) -> Result<Expr> {
        self.deeper()?;
        let lowered = self.nested(expr);
        self.depth -= 1;
        lowered
    }

    fn nested(&mut self, expr: &ast::Expr<'_>) -> Result<Expr> {
        Ok(match expr {
            ast::Expr::Const(e) => Expr::Const(constant(&e.value)),
            ast::Expr::Var(e) => {
                let name = self.name(e.id);
                self.reads.insert(name.clone());
                Expr::Var(name)
            }
            ast::Expr::List(e) => {
                let items = self.exprs(&e.items)?;
                let start = e.span().start_offset as usize;
                match self.source.as_bytes().get(start) {
                    Some(b'[') => Expr::List(items),
                    _ => Expr::Tuple(items),
                }
            }
            ast::Expr::Map(e) => {
                let keys = self.exprs(&e.keys)?;
                Expr::Dict(keys.into_iter().zip(self.exprs(&e.values)?).collect())
            }
            ast::Expr::GetAttr(_)
            | ast::Expr::GetItem(_)
            | ast::Expr::Slice(_)
            | ast::Expr::Call(_) => {
                let (lowered, negated) = self.postfix(expr)?;
                if negated { Expr::Neg(Box::new(lowered)) } else { lowered }
            }
            ast::Expr::UnaryOp(e) => match e.op {
                ast::UnaryOpKind::Not => Expr::Not(self.boxed(&e.expr)?),
                ast::UnaryOpKind::Neg => Expr::Neg(self.boxed(&e.expr)?),
            },
            ast::Expr::BinOp(e) => self.chain(e)?,
            ast::Expr::Compare(e) => {
                let mut rest = Vec::with_capacity(e.ops.len());
                for op in &e.ops {
                    rest.push((compare_op(op.op), self.expr(&op.expr)?));
                }
                Expr::Compare(self.boxed(&e.expr)?, rest)
            }
            ast::Expr::IfExpr(e) => Expr::If(Box::new(IfExpr {
                test: self.expr(&e.test_expr)?,
                then: self.expr(&e.true_expr)?,
                otherwise: self.optional(&e.false_expr)?,
            })),
            ast::Expr::Filter(e) => {
                let input = match &e.expr {
                    Some(input) => self.expr(input)?,
                    None => Expr::BlockText,
                };
                Expr::Filter(Box::new(Filter {
                    name: e.name.into(),
                    input,
                    args: self.args(&e.args)?,
                }))
            }
            ast::Expr::Test(e) => {
                let input = self.expr(&e.expr)?;
                Expr::Test(Box::new(Filter {
                    name: e.name.into(),
                    input,
                    args: self.args(&e.args)?,
                }))
            }
        })
    }

    fn call(&mut self, e: &ast::Call<'_>) -> Result<Expr> {
        let callee = self.expr(&e.expr)?;
        let args = self.args(&e.args)?;
        Ok(Expr::Call(Box::new(Call { callee, args })))
    }

    /// An operand and what follows it: attributes, items, slices, calls. The parser binds a minus
    /// before the operand tighter than these, Jinja2 the other way round: so the operand comes
    /// without its minus, and whether there is one.
    fn postfix(&mut self, expr: &ast::Expr<'_>) -> Result<(Expr, bool)> {
        self.deeper()?;
        let lowered = match expr {
            ast::Expr::GetAttr(e) => {
                let (of, negated) = self.postfix(&e.expr)?;
                (Expr::Attr(Box::new(of), e.name.into()), negated)
            }
            ast::Expr::GetItem(e) => {
                let (of, negated) = self.postfix(&e.expr)?;
                let key = self.expr(&e.subscript_expr)?;
                (Expr::Item(Box::new((of, key))), negated)
            }
            ast::Expr::Slice(e) => {
                let (of, negated) = self.postfix(&e.expr)?;
                let (start, stop) = (self.optional(&e.start)?, self.optional(&e.stop)?);
                let step = self.optional(&e.step)?;
                (Expr::Slice(Box::new(SliceOf { of, start, stop, step })), negated)
            }
            ast::Expr::Call(e) => {
                let (callee, negated) = self.postfix(&e.expr)?;
                let args = self.args(&e.args)?;
                (Expr::Call(Box::new(Call { callee, args })), negated)
            }
            ast::Expr::UnaryOp(e) if matches!(e.op, ast::UnaryOpKind::Neg) => {
                (self.expr(&e.expr)?, true)
            }
            other => (self.nested(other)?, false),
        };
        self.depth -= 1;
        Ok(lowered)
    }

    fn args(&mut self, args: &[ast::CallArg<'_>]) -> Result<Vec<Arg>> {
        args.iter()
            .map(|arg| {
                Ok(match arg {
                    ast::CallArg::Pos(e) => Arg::Plain(self.expr(e)?),
                    ast::CallArg::Kwarg(name, e) => Arg::Named((*name).into(), self.expr(e)?),
                    ast::CallArg::PosSplat(e) => Arg::Spread(self.expr(e)?),
                    ast::CallArg::KwargSplat(e) => Arg::SpreadNamed(self.expr(e)?),
                })
            })
            .collect()
    }

    /// `a + b - c` is `((a + b) - c)`: walks down the left side without recursion.
    fn chain(&mut self, e: &ast::BinOp<'_>) -> Result<Expr> {
        let mut links = vec![(e.op, &e.right)];
        let mut left = &e.left;
        while let ast::Expr::BinOp(inner) = left {
            links.push((inner.op, &inner.right));
            left = &inner.left;
        }
        let first = self.boxed(left)?;
        let mut rest = Vec::with_capacity(links.len());
        for (op, right) in links.into_iter().rev() {
            rest.push((bin_op(op), self.expr(right)?));
        }
        Ok(Expr::Chain(first, rest))
    }
}

fn unsupported<T>(span: minijinja::machinery::Span, what: &str) -> Result<T> {
    Err(Error::Unsupported { line: span.start_line.into(), what: what.to_owned() })
}

fn bad_target<T>(expr: &ast::Expr<'_>) -> Result<T> {
    let message = format!("cannot assign to {}", expr.description());
    Err(Error::Syntax { line: expr.span().start_line.into(), message })
}

fn constant(value: &minijinja::Value) -> Const {
    use minijinja::value::ValueKind;
    match value.kind() {
        ValueKind::Bool => Const::Bool(value.is_true()),
        ValueKind::String => Const::Str(value.as_str().unwrap_or_default().into()),
        ValueKind::Number if value.is_integer() => {
            i128::try_from(value.clone()).map_or(Const::None, Const::Int)
        }
        ValueKind::Number => f64::try_from(value.clone()).map_or(Const::None, Const::Float),
        _ => Const::None,
    }
}

fn bin_op(op: ast::BinOpKind) -> BinOp {
    match op {
        ast::BinOpKind::Eq => BinOp::Eq,
        ast::BinOpKind::Ne => BinOp::Ne,
        ast::BinOpKind::Lt => BinOp::Lt,
        ast::BinOpKind::Lte => BinOp::Le,
        ast::BinOpKind::Gt => BinOp::Gt,
        ast::BinOpKind::Gte => BinOp::Ge,
        ast::BinOpKind::ScAnd => BinOp::And,
        ast::BinOpKind::ScOr => BinOp::Or,
        ast::BinOpKind::Add => BinOp::Add,
        ast::BinOpKind::Sub => BinOp::Sub,
        ast::BinOpKind::Mul => BinOp::Mul,
        ast::BinOpKind::Div => BinOp::Div,
        ast::BinOpKind::FloorDiv => BinOp::FloorDiv,
        ast::BinOpKind::Rem => BinOp::Rem,
        ast::BinOpKind::Pow => BinOp::Pow,
        ast::BinOpKind::Concat => BinOp::Concat,
        ast::BinOpKind::In => BinOp::In,
    }
}

fn compare_op(op: ast::CompareOpKind) -> BinOp {
    match op {
        ast::CompareOpKind::Eq => BinOp::Eq,
        ast::CompareOpKind::Ne => BinOp::Ne,
        ast::CompareOpKind::Lt => BinOp::Lt,
        ast::CompareOpKind::Lte => BinOp::Le,
        ast::CompareOpKind::Gt => BinOp::Gt,
        ast::CompareOpKind::Gte => BinOp::Ge,
        ast::CompareOpKind::In => BinOp::In,
        ast::CompareOpKind::NotIn => BinOp::NotIn,
    }
}
