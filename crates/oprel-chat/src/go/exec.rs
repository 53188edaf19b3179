//! Runs a template.

use super::functions;
use super::tree::{Branch, Kind, Node, Pipe, Program, Sets, Term};
use super::value::Value;
use crate::jinja::Limits;
use crate::wanted::is_wanted;
use crate::{Error, LocalTime, Result};

/// Steps between two times that it is asked whether the rendering is still wanted.
const PATIENCE: u64 = 1024;

/// What a template is run with.
pub(super) struct Run {
    pub(super) limits: Limits,
    pub(super) now: LocalTime,
    /// Leave out all that begins behind this offset.
    pub(super) until: Option<usize>,
}

/// The text that a template writes for these data.
///
/// # Errors
/// [`Error::Failed`] where it fails on them, others where it goes beyond the limits.
pub(super) fn run(program: &Program, data: Value, run: Run) -> Result<String> {
    let mut machine = Machine {
        run,
        steps: 0,
        out: String::new(),
        variables: vec![(String::new(), data.clone())],
    };
    machine.nodes(&program.nodes, &data)?;
    Ok(machine.out)
}

struct Machine {
    run: Run,
    steps: u64,
    out: String,
    /// Innermost last; the first is `$`.
    variables: Vec<(String, Value)>,
}

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl Machine {
    fn spend(&mut self, steps: usize) -> Result<()> {
        let before = self.steps / PATIENCE;
        self.steps = self.steps.saturating_add(steps as u64);
        if self.steps > self.run.limits.steps {
            return Err(Error::OutOfFuel { most: self.run.limits.steps });
        }
        let asks = self.steps / PATIENCE > before;
        if asks && !is_wanted() { Err(Error::Unwanted) } else { Ok(()) }
    }

    fn room(&self, bytes: usize) -> Result<()> {
        let most = self.run.limits.output;
        if bytes > most { Err(Error::OutputTooLong { most }) } else { Ok(()) }
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow> {
        for node in nodes {
            if self.run.until.is_some_and(|until| node.at > until) {
                continue;
            }
            self.spend(1)?;
            let flow = self.node(node, dot).map_err(|error| error.at(node.line))?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow> {
        match &node.kind {
            Kind::Text(text) => self.out.push_str(text),
            Kind::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                match &pipe.sets {
                    Some(sets) => self.set(sets, value)?,
                    None => value.write(&mut self.out),
                }
            }
            Kind::If(branch) => return self.choose(branch, dot, false),
            Kind::With(branch) => return self.choose(branch, dot, true),
            Kind::Range(branch) => return self.range(branch, dot),
            Kind::Break => return Ok(Flow::Break),
            Kind::Continue => return Ok(Flow::Continue),
        }
        self.room(self.out.len())?;
        Ok(Flow::On)
    }

    /// `if`, or `with`, which goes on with the value.
    fn choose(&mut self, branch: &Branch, dot: &Value, with: bool) -> Result<Flow> {
        let outside = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let is_true = value.is_true();
        if let Some(sets) = &branch.pipe.sets {
            self.set(sets, value.clone())?;
        }
        let flow = match is_true {
            true => self.nodes(&branch.then, if with { &value } else { dot })?,
            false => self.nodes(&branch.other, dot)?,
        };
        self.variables.truncate(outside);
        Ok(flow)
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result<Flow> {
        let outside = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let mut any = false;
        match &value {
            Value::None => {}
            Value::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    any = true;
                    if !self.round(branch, Value::Int(i as i64), item)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, item) in map.iter() {
                    any = true;
                    if !self.round(branch, Value::str(key), item)? {
                        break;
                    }
                }
            }
            Value::Int(n) => {
                for i in 0..*n {
                    any = true;
                    if !self.round(branch, Value::Int(i), &Value::Int(i))? {
                        break;
                    }
                }
            }
            other => {
                let name = other.type_name();
                return Err(Error::failed(format!("range cannot go over a {name}")));
            }
        }
        let flow = if any { Flow::On } else { self.nodes(&branch.other, dot)? };
        self.variables.truncate(outside);
        Ok(flow)
    }

    /// One element of a range; whether there may be another.
    fn round(&mut self, branch: &Branch, key: Value, item: &Value) -> Result<bool> {
        let outside = self.variables.len();
        self.spend(1)?;
        if let Some(sets) = &branch.pipe.sets {
            let values = match sets.names.len() {
                1 => vec![item.clone()],
                _ => vec![key, item.clone()],
            };
            for (name, value) in sets.names.iter().zip(values) {
                self.set_one(name, value, sets.declares)?;
            }
        }
        let flow = self.nodes(&branch.then, item)?;
        self.variables.truncate(outside);
        Ok(flow != Flow::Break)
    }

    fn set(&mut self, sets: &Sets, value: Value) -> Result<()> {
        match sets.names.first() {
            Some(name) => self.set_one(name, value, sets.declares),
            None => Ok(()),
        }
    }

    fn set_one(&mut self, name: &str, value: Value, declares: bool) -> Result<()> {
        if declares {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        let known = self.variables.iter_mut().rev().find(|(n, _)| n == name);
        let (_, old) = known.ok_or_else(|| undefined(name))?;
        *old = value;
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, last, dot)?);
        }
        Ok(last.unwrap_or(Value::None))
    }

    fn command(&mut self, command: &[Term], piped: Option<Value>, dot: &Value) -> Result<Value> {
        let Some((first, arguments)) = command.split_first() else { return Ok(Value::None) };
        let Term::Function(name) = first else {
            if !arguments.is_empty() || piped.is_some() {
                return Err(Error::failed("only a function can be given arguments"));
            }
            return self.term(first, dot);
        };
        if matches!(name.as_str(), "and" | "or") {
            return self.first_that_decides(name == "or", arguments, piped, dot);
        }
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for term in arguments {
            values.push(self.term(term, dot)?);
        }
        values.extend(piped);
        let value = functions::call(name, &values, self.run.now)?;
        self.spend(match &value {
            Value::Str(text) => text.len() / 16,
            Value::List(items) => items.len() / 8,
            _ => 0,
        })?;
        if let Value::Str(text) = &value {
            self.room(text.len())?;
        }
        Ok(value)
    }

    /// `and` gives the first that is false, `or` the first that is true, else the last. What follows is not
    /// looked at.
    fn first_that_decides(
        &mut self,
        wanted: bool,
        arguments: &[Term],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value> {
        let mut last = None;
        for term in arguments {
            let value = self.term(term, dot)?;
            if value.is_true() == wanted {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).ok_or_else(|| Error::failed("and and or take at least one argument"))
    }

    fn term(&mut self, term: &Term, dot: &Value) -> Result<Value> {
        self.spend(1)?;
        match term {
            Term::Dot => Ok(dot.clone()),
            Term::Nil => Ok(Value::None),
            Term::Bool(b) => Ok(Value::Bool(*b)),
            Term::Int(n) => Ok(Value::Int(*n)),
            Term::Float(x) => Ok(Value::Float(*x)),
            Term::Str(text) => Ok(Value::str(text)),
            Term::Field(path) => fields(dot.clone(), path),
            Term::Variable(name, path) => {
                let known = self.variables.iter().rev().find(|(n, _)| n == name);
                let (_, value) = known.ok_or_else(|| undefined(name))?;
                fields(value.clone(), path)
            }
            Term::Pipe(pipe, path) => fields(self.pipe(pipe, dot)?, path),
            Term::Function(name) => functions::call(name, &[], self.run.now),
        }
    }
}

fn undefined(name: &str) -> Error {
    Error::failed(format!("there is no variable '${name}'"))
}

/// Fields of a value, one of the other. What is not there has none, and is not there either.
fn fields(value: Value, path: &[String]) -> Result<Value> {
    path.iter().try_fold(value, |value, name| match &value {
        Value::None => Ok(Value::None),
        Value::Map(map) => Ok(map.get(name).cloned().unwrap_or(Value::None)),
        Value::Record(record) => {
            let field = record.fields.iter().find(|(n, _)| n == name);
            let known = field.map(|(_, value)| value.clone());
            known.ok_or_else(|| Error::failed(format!("there is no field '{name}' here")))
        }
        other => {
            let name = format!("a {} has no field '{name}'", other.type_name());
            Err(Error::failed(name))
        }
    })
}
