//! Runs a compiled template.

use super::call::{Args, check_attr};
use super::dict::Dict;
use super::index;
use super::ops::{binary, negate};
use super::scope::Scope;
use super::text::str_of;
use super::tree::{Arg, BinOp, Const, Expr, Name, Stmt, StmtKind, Target, Tree};
use super::value::{Function, LoopState, Macro, Missing, Value};
use crate::wanted::is_wanted;
use crate::{Error, LocalTime, Result};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Steps between two times that it is asked whether the rendering is still wanted.
const BETWEEN_ASKING: u64 = 1 << 14;

/// How much a template may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Steps: one for each node that is evaluated, more for what walks through large values.
    pub(crate) steps: u64,
    /// Bytes of output.
    pub(crate) output: usize,
    /// Nesting of expressions, blocks and macro calls.
    pub(crate) depth: u32,
}

/// What a statement does to the loop around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// One rendering in progress.
pub(crate) struct Machine<'t> {
    pub(super) tree: &'t Tree,
    pub(super) now: LocalTime,
    /// The text of the innermost block that is being written.
    pub(super) out: String,
    /// The text of the block that a filter is being applied to.
    block_text: Option<Value>,
    limits: Limits,
    steps_left: u64,
    depth: u32,
    /// What may hold itself, to be emptied at the end.
    macro_scopes: Vec<Rc<Scope>>,
    namespaces: Vec<Rc<RefCell<Dict>>>,
}

impl<'t> Machine<'t> {
    pub(crate) fn new(tree: &'t Tree, limits: Limits, now: LocalTime) -> Machine<'t> {
        Machine {
            tree,
            now,
            out: String::new(),
            block_text: None,
            limits,
            steps_left: limits.steps,
            depth: 0,
            macro_scopes: Vec::new(),
            namespaces: Vec::new(),
        }
    }

    /// Renders the template with these variables.
    ///
    /// # Errors
    /// Every [`Error`] but those of compiling.
    pub(crate) fn render(mut self, variables: Vec<(Name, Value)>) -> Result<String> {
        let globals = Rc::new(Scope::default());
        for (name, function) in [
            ("range", Function::Range),
            ("dict", Function::Dict),
            ("namespace", Function::Namespace),
            ("raise_exception", Function::RaiseException),
            ("strftime_now", Function::StrftimeNow),
        ] {
            globals.set(name.into(), Value::Function(function));
        }
        // Blocks are written where they stand, so `self` has none to offer.
        globals.set("self".into(), self.namespace(Dict::default()));
        for (name, value) in variables {
            globals.set(name, value);
        }
        let tree = self.tree;
        let root = Scope::inside(&globals);
        let result = self.block(&tree.body, &root);
        self.macro_scopes.iter().for_each(|scope| scope.clear());
        self.namespaces.iter().for_each(|names| drop(names.take()));
        result.map(|_| self.out)
    }

    /// Takes steps.
    pub(super) fn charge(&mut self, steps: u64) -> Result<()> {
        match self.steps_left.checked_sub(steps.saturating_add(1)) {
            Some(left) => {
                let asks = left / BETWEEN_ASKING != self.steps_left / BETWEEN_ASKING;
                self.steps_left = left;
                if asks && !is_wanted() { Err(Error::Unwanted) } else { Ok(()) }
            }
            None => Err(Error::OutOfFuel { most: self.limits.steps }),
        }
    }

    pub(super) fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > self.limits.depth {
            return Err(Error::TooDeep { most: self.limits.depth });
        }
        Ok(())
    }

    /// Comes back up. An error ends the rendering, so it need not.
    pub(super) fn shallower(&mut self) {
        self.depth -= 1;
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if self.out.len() + text.len() > self.limits.output {
            return Err(Error::OutputTooLong { most: self.limits.output });
        }
        self.out.push_str(text);
        Ok(())
    }

    pub(super) fn namespace(&mut self, names: Dict) -> Value {
        let names = Rc::new(RefCell::new(names));
        self.namespaces.push(names.clone());
        Value::Namespace(names)
    }

    /// The text that a block writes.
    pub(super) fn capture(&mut self, body: &[Stmt], scope: &Rc<Scope>) -> Result<String> {
        let saved = std::mem::take(&mut self.out);
        let result = self.block(body, scope);
        let text = std::mem::replace(&mut self.out, saved);
        self.charge(text.len() as u64 / 16)?;
        result.map(|_| text)
    }

    fn block(&mut self, body: &[Stmt], scope: &Rc<Scope>) -> Result<Flow> {
        self.deeper()?;
        for stmt in body {
            let flow = self.stmt(stmt, scope).map_err(|error| error.at(stmt.line))?;
            if flow != Flow::Next {
                self.shallower();
                return Ok(flow);
            }
        }
        self.shallower();
        Ok(Flow::Next)
    }

    fn stmt(&mut self, stmt: &Stmt, scope: &Rc<Scope>) -> Result<Flow> {
        self.charge(0)?;
        match &stmt.kind {
            StmtKind::Text(text) => self.write(text)?,
            StmtKind::Emit(expr) => {
                let value = self.eval(expr, scope)?;
                let text = str_of(&value)?;
                self.charge(text.len() as u64 / 16)?;
                self.write(&text)?;
            }
            StmtKind::For(def) => self.for_loop(*def, scope)?,
            StmtKind::If { test, then, otherwise } => {
                let body = if self.truth(test, scope)? { then } else { otherwise };
                return self.block(body, scope);
            }
            StmtKind::With { assign, body } => return self.with(assign, body, scope),
            StmtKind::Set { target, value } => {
                let value = self.eval(value, scope)?;
                self.assign(target, value, scope)?;
            }
            StmtKind::SetBlock { target, filter, body } => {
                let text = Value::str(self.capture(body, &Scope::inside(scope))?);
                let value = match filter {
                    Some(filter) => self.filter_text(filter, text, scope)?,
                    None => text,
                };
                self.assign(target, value, scope)?;
            }
            StmtKind::FilterBlock { filter, body } => {
                let text = Value::str(self.capture(body, &Scope::inside(scope))?);
                let value = self.filter_text(filter, text, scope)?;
                let text = str_of(&value)?;
                self.write(&text)?;
            }
            StmtKind::Macro(def) => {
                let value = self.make_macro(*def, scope);
                if let Value::Macro(m) = &value {
                    scope.set(m.name.clone(), value.clone());
                }
            }
            StmtKind::CallBlock { call, body } => self.call_block(call, *body, scope)?,
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn with(
        &mut self,
        assign: &[(Target, Expr)],
        body: &[Stmt],
        scope: &Rc<Scope>,
    ) -> Result<Flow> {
        let inner = Scope::inside(scope);
        for (target, value) in assign {
            let value = self.eval(value, scope)?;
            self.assign(target, value, &inner)?;
        }
        self.block(body, &inner)
    }

    fn make_macro(&mut self, def: usize, scope: &Rc<Scope>) -> Value {
        self.macro_scopes.push(scope.clone());
        let name = self.tree.macros[def].name.clone();
        Value::Macro(Rc::new(Macro { def, name, scope: scope.clone() }))
    }

    fn call_block(&mut self, call: &Expr, body: usize, scope: &Rc<Scope>) -> Result<()> {
        let caller = self.make_macro(body, scope);
        let Expr::Call(call) = call else { return Ok(()) };
        let callee = self.eval(&call.callee, scope)?;
        let mut args = self.args(&call.args, scope)?;
        args.named.push(("caller".into(), caller));
        let value = self.call(&callee, args)?;
        let text = str_of(&value)?;
        self.write(&text)
    }

    fn filter_text(&mut self, filter: &Expr, text: Value, scope: &Rc<Scope>) -> Result<Value> {
        let around = self.block_text.replace(text);
        let value = self.eval(filter, scope)?;
        self.block_text = around;
        Ok(value)
    }

    fn for_loop(&mut self, def: usize, scope: &Rc<Scope>) -> Result<()> {
        let tree = self.tree;
        let Some(spec) = tree.loops.get(def) else { return Ok(()) };
        let over = self.eval(&spec.over, scope)?;
        self.run_loop(def, &over, scope, 0)
    }

    /// Runs a loop over items.
    pub(super) fn run_loop(
        &mut self,
        def: usize,
        over: &Value,
        scope: &Rc<Scope>,
        depth0: usize,
    ) -> Result<()> {
        let tree = self.tree;
        let Some(spec) = tree.loops.get(def) else { return Ok(()) };
        self.charge(over.size().weight)?;
        let mut items = over.items()?;
        if let Some(test) = &spec.only_if {
            let mut kept = Vec::new();
            for item in items.iter() {
                let inner = Scope::inside(scope);
                self.assign(&spec.target, item.clone(), &inner)?;
                if self.truth(test, &inner)? {
                    kept.push(item.clone());
                }
            }
            items = Rc::new(kept.into());
        }
        if items.is_empty() {
            self.block(&spec.otherwise, &Scope::inside(scope))?;
            return Ok(());
        }
        let state = Rc::new(LoopState {
            def,
            scope: scope.clone(),
            items: items.clone(),
            at: Cell::new(0),
            depth0,
            last_changed: RefCell::new(None),
        });
        let this = Value::Loop(state.clone()).bounded()?;
        for (at, item) in items.iter().enumerate() {
            state.at.set(at);
            let inner = Scope::inside(scope);
            inner.set("loop".into(), this.clone());
            self.assign(&spec.target, item.clone(), &inner)?;
            if self.block(&spec.body, &inner)? == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    fn assign(&mut self, target: &Target, value: Value, scope: &Rc<Scope>) -> Result<()> {
        match target {
            Target::Name(name) => scope.set(name.clone(), value),
            Target::Attr(of, name) => {
                check_attr(name)?;
                match self.variable(of, scope) {
                    Value::Namespace(names) => {
                        names.borrow_mut().set(Value::Str(name.clone()), value);
                    }
                    Value::Undefined(missing) => return Err(missing.error()),
                    _ => {
                        let message = "cannot assign attribute on non-namespace object";
                        return Err(Error::failed(message));
                    }
                }
            }
            Target::Tuple(targets) => {
                let items = value.items()?;
                if items.len() != targets.len() {
                    let (want, got) = (targets.len(), items.len());
                    let message = if got > want {
                        format!("too many values to unpack (expected {want})")
                    } else {
                        format!("not enough values to unpack (expected {want}, got {got})")
                    };
                    return Err(Error::failed(message));
                }
                for (target, item) in targets.iter().zip(items.iter()) {
                    self.assign(target, item.clone(), scope)?;
                }
            }
        }
        Ok(())
    }

    fn variable(&self, name: &Name, scope: &Rc<Scope>) -> Value {
        scope.find(name).unwrap_or_else(|| Value::Undefined(Missing::Name(name.clone())))
    }

    fn truth(&mut self, expr: &Expr, scope: &Rc<Scope>) -> Result<bool> {
        Ok(self.eval(expr, scope)?.truthy())
    }

    /// The value of an expression.
    pub(super) fn eval(&mut self, expr: &Expr, scope: &Rc<Scope>) -> Result<Value> {
        self.charge(0)?;
        match expr {
            Expr::Const(constant) => Ok(match constant {
                Const::None => Value::None,
                Const::Bool(b) => Value::Bool(*b),
                Const::Int(n) => Value::Int(*n),
                Const::Float(x) => Value::Float(*x),
                Const::Str(text) => Value::Str(text.clone()),
            }),
            Expr::Var(name) => Ok(self.variable(name, scope)),
            Expr::BlockText => Ok(self.block_text.clone().unwrap_or(Value::None)),
            nested => {
                self.deeper()?;
                let value = self.nested(nested, scope)?;
                self.shallower();
                Ok(value)
            }
        }
    }

    fn nested(&mut self, expr: &Expr, scope: &Rc<Scope>) -> Result<Value> {
        match expr {
            Expr::List(items) => Value::list(self.evals(items, scope)?).bounded(),
            Expr::Tuple(items) => Value::tuple(self.evals(items, scope)?).bounded(),
            Expr::Dict(pairs) => self.dict(pairs, scope),
            Expr::Attr(of, name) => {
                let of = self.eval(of, scope)?;
                index::attr(&of, name)
            }
            Expr::Item(pair) => {
                let of = self.eval(&pair.0, scope)?;
                let key = self.eval(&pair.1, scope)?;
                index::item(&of, &key)
            }
            Expr::Slice(slice) => self.slice(slice, scope),
            Expr::Not(of) => Ok(Value::Bool(!self.truth(of, scope)?)),
            Expr::Neg(of) => negate(&self.eval(of, scope)?),
            Expr::Chain(first, rest) => self.chain(first, rest, scope),
            Expr::Compare(first, rest) => self.compare(first, rest, scope),
            Expr::If(choice) => {
                if self.truth(&choice.test, scope)? {
                    return self.eval(&choice.then, scope);
                }
                match &choice.otherwise {
                    Some(otherwise) => self.eval(otherwise, scope),
                    None => {
                        let words = "the inline if-expression evaluated to false and no else \
                                     section was defined.";
                        Ok(Value::Undefined(Missing::Said(words.into())))
                    }
                }
            }
            Expr::Filter(filter) => {
                let input = self.eval(&filter.input, scope)?;
                let args = self.args(&filter.args, scope)?;
                self.filter(&filter.name, input, args)?.bounded()
            }
            Expr::Test(test) => {
                let input = self.eval(&test.input, scope)?;
                let args = self.args(&test.args, scope)?;
                self.test(&test.name, &input, args).map(Value::Bool)
            }
            Expr::Call(call) => {
                let callee = self.eval(&call.callee, scope)?;
                let args = self.args(&call.args, scope)?;
                self.call(&callee, args)?.bounded()
            }
            Expr::Const(_) | Expr::Var(_) | Expr::BlockText => self.eval(expr, scope),
        }
    }

    fn evals(&mut self, exprs: &[Expr], scope: &Rc<Scope>) -> Result<Vec<Value>> {
        exprs.iter().map(|expr| self.eval(expr, scope)).collect()
    }

    fn dict(&mut self, pairs: &[(Expr, Expr)], scope: &Rc<Scope>) -> Result<Value> {
        let mut dict = Dict::default();
        for (key, value) in pairs {
            let key = self.eval(key, scope)?;
            super::ops::hashable(&key)?;
            dict.set(key, self.eval(value, scope)?);
        }
        Value::dict(dict).bounded()
    }

    fn slice(&mut self, slice: &super::tree::SliceOf, scope: &Rc<Scope>) -> Result<Value> {
        let of = self.eval(&slice.of, scope)?;
        let mut bounds = [Value::None, Value::None, Value::None];
        for (bound, expr) in bounds.iter_mut().zip([&slice.start, &slice.stop, &slice.step]) {
            if let Some(expr) = expr {
                *bound = self.eval(expr, scope)?;
            }
        }
        self.charge(of.size().weight)?;
        index::slice(&of, [&bounds[0], &bounds[1], &bounds[2]])
    }

    fn chain(&mut self, first: &Expr, rest: &[(BinOp, Expr)], scope: &Rc<Scope>) -> Result<Value> {
        let mut left = self.eval(first, scope)?;
        for (op, right) in rest {
            left = match op {
                BinOp::And if !left.truthy() => left,
                BinOp::Or if left.truthy() => left,
                BinOp::And | BinOp::Or => self.eval(right, scope)?,
                op => {
                    let right = self.eval(right, scope)?;
                    self.charge(left.size().weight.saturating_add(right.size().weight))?;
                    binary(*op, &left, &right)?.bounded()?
                }
            };
        }
        Ok(left)
    }

    fn compare(
        &mut self,
        first: &Expr,
        rest: &[(BinOp, Expr)],
        scope: &Rc<Scope>,
    ) -> Result<Value> {
        let mut left = self.eval(first, scope)?;
        for (op, right) in rest {
            let right = self.eval(right, scope)?;
            self.charge(left.size().weight.saturating_add(right.size().weight))?;
            if !binary(*op, &left, &right)?.truthy() {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    fn args(&mut self, args: &[Arg], scope: &Rc<Scope>) -> Result<Args> {
        let mut bound = Args::default();
        for arg in args {
            match arg {
                Arg::Plain(expr) => bound.plain.push(self.eval(expr, scope)?),
                Arg::Named(name, expr) => {
                    bound.named.push((name.clone(), self.eval(expr, scope)?));
                }
                Arg::Spread(expr) => {
                    let items = self.eval(expr, scope)?.items()?;
                    bound.plain.extend(items.iter().cloned());
                }
                Arg::SpreadNamed(expr) => match self.eval(expr, scope)? {
                    Value::Dict(dict) => {
                        for (key, value) in dict.iter() {
                            let Some(name) = key.as_str() else {
                                return Err(Error::failed("keywords must be strings"));
                            };
                            bound.named.push((name.clone(), value.clone()));
                        }
                    }
                    _ => return Err(Error::failed("argument after ** must be a mapping")),
                },
            }
        }
        Ok(bound)
    }
}
