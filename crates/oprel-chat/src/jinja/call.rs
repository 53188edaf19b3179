//! Calling things: arguments, global functions, macros, loops.

use super::dict::Dict;
use super::eval::Machine;
use super::methods;
use super::ops::equal;
use super::scope::Scope;
use super::text::str_of;
use super::tree::{MacroDef, Name};
use super::value::{Function, LoopState, Macro, Missing, Range, Value};
use crate::{Error, Result};
use std::rc::Rc;

/// Longest range that the sandbox lets through.
const MOST_RANGE: i128 = 100_000;
/// Most pairs that `dict()` takes: keys that are no strings are compared one by one.
const MOST_PAIRS: usize = 10_000;

/// Arguments of a call.
#[derive(Debug, Default)]
pub(super) struct Args {
    pub(super) plain: Vec<Value>,
    pub(super) named: Vec<(Name, Value)>,
}

impl Args {
    /// The arguments in the order of these parameters.
    ///
    /// # Errors
    /// [`Error::Failed`] for more arguments than parameters, or a name that is none of them.
    pub(super) fn bind<const N: usize>(
        self,
        of: &str,
        params: [&str; N],
    ) -> Result<[Option<Value>; N]> {
        let given = self.plain.len();
        if given > N {
            let message = format!("{of}() takes at most {N} arguments ({given} given)");
            return Err(Error::failed(message));
        }
        let mut bound = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(self.plain) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            match params.iter().position(|param| *param == &*name) {
                Some(at) if bound[at].is_none() => bound[at] = Some(value),
                Some(_) => {
                    let message = format!("{of}() got multiple values for argument '{name}'");
                    return Err(Error::failed(message));
                }
                None => {
                    let message = format!("{of}() got an unexpected keyword argument '{name}'");
                    return Err(Error::failed(message));
                }
            }
        }
        Ok(bound)
    }

    /// What it costs to walk through them.
    pub(super) fn weight(&self) -> u64 {
        let named = self.named.iter().map(|(_, value)| value);
        self.plain.iter().chain(named).map(|value| value.size().weight).sum()
    }
}

impl Machine<'_> {
    /// Calls a value.
    ///
    /// # Errors
    /// [`Error::Failed`] if it cannot be called, or what the call gives.
    pub(super) fn call(&mut self, callee: &Value, args: Args) -> Result<Value> {
        match callee {
            Value::Function(function) => self.call_function(*function, args),
            Value::Method(method) => {
                self.charge(method.0.size().weight + args.weight())?;
                methods::call(&method.0, &method.1, args)
            }
            Value::Macro(m) => self.call_macro(m, args),
            Value::Loop(state) => {
                let [items] = args.bind("loop", ["iterable"])?;
                let items = items.ok_or_else(|| Error::failed("loop() takes one argument"))?;
                self.recurse(state, &items)
            }
            Value::Undefined(missing) => Err(missing.error()),
            other => Err(Error::failed(format!("'{}' object is not callable", other.type_name()))),
        }
    }

    fn call_function(&mut self, function: Function, args: Args) -> Result<Value> {
        match function {
            Function::Range => range(args),
            Function::Dict => make_dict(args).map(Value::dict),
            Function::Namespace => {
                let names = make_dict(args)?;
                for key in names.keys() {
                    check_attr(key.as_str().map_or("", |key| key))?;
                }
                Ok(self.namespace(names))
            }
            Function::RaiseException => {
                let [message] = args.bind("raise_exception", ["message"])?;
                let message = str_of(&message.unwrap_or(Value::None))?.to_string();
                Err(Error::Raised { message })
            }
            Function::StrftimeNow => {
                let [format] = args.bind("strftime_now", ["format"])?;
                match format.as_ref().and_then(Value::as_str) {
                    Some(format) => Ok(Value::str(self.now.strftime(format))),
                    None => Err(Error::failed("strftime() argument 1 must be str")),
                }
            }
        }
    }

    fn call_macro(&mut self, m: &Rc<Macro>, args: Args) -> Result<Value> {
        let tree = self.tree;
        let Some(def) = tree.macros.get(m.def) else { return Ok(Value::None) };
        self.deeper()?;
        let scope = Scope::inside(&m.scope);
        self.bind_macro(def, args, &scope)?;
        let text = self.capture(&def.body, &scope)?;
        self.shallower();
        Ok(Value::str(text))
    }

    fn bind_macro(&mut self, def: &MacroDef, args: Args, scope: &Rc<Scope>) -> Result<()> {
        let Args { plain, mut named } = args;
        let mut plain = plain.into_iter();
        let without_default = def.params.len() - def.defaults.len().min(def.params.len());
        for (i, param) in def.params.iter().enumerate() {
            let given = plain.next().or_else(|| take(&mut named, param));
            let value = match given {
                Some(value) => value,
                None => match i.checked_sub(without_default).and_then(|d| def.defaults.get(d)) {
                    Some(default) => self.eval(default, scope)?,
                    None => {
                        let words = format!("parameter '{param}' was not provided");
                        Value::Undefined(Missing::Said(words.into()))
                    }
                },
            };
            scope.set(param.clone(), value);
        }
        if def.takes_caller && !def.params.iter().any(|param| &**param == "caller") {
            let caller = take(&mut named, "caller");
            let missing = || Value::Undefined(Missing::Said("No caller defined".into()));
            scope.set("caller".into(), caller.unwrap_or_else(missing));
        }
        self.bind_rest(def, plain.collect(), named, scope)
    }

    fn bind_rest(
        &mut self,
        def: &MacroDef,
        plain: Vec<Value>,
        named: Vec<(Name, Value)>,
        scope: &Rc<Scope>,
    ) -> Result<()> {
        if def.takes_kwargs {
            let pairs = named.into_iter().map(|(name, value)| (Value::Str(name), value));
            scope.set("kwargs".into(), Value::dict(pairs.collect()));
        } else if let Some((name, _)) = named.first() {
            let message = format!("macro '{}' takes no keyword argument '{name}'", def.name);
            return Err(Error::failed(message));
        }
        if def.takes_varargs {
            scope.set("varargs".into(), Value::tuple(plain));
        } else if !plain.is_empty() {
            let n = def.params.len();
            let message = format!("macro '{}' takes not more than {n} argument(s)", def.name);
            return Err(Error::failed(message));
        }
        Ok(())
    }

    /// `loop(items)`: the text of the same loop over other items.
    fn recurse(&mut self, state: &Rc<LoopState>, items: &Value) -> Result<Value> {
        let tree = self.tree;
        match tree.loops.get(state.def) {
            Some(def) if def.recursive => {
                self.deeper()?;
                let saved = std::mem::take(&mut self.out);
                let result = self.run_loop(state.def, items, &state.scope, state.depth0 + 1);
                let text = std::mem::replace(&mut self.out, saved);
                result?;
                self.shallower();
                Ok(Value::str(text))
            }
            _ => Err(Error::failed(
                "The loop must have the 'recursive' marker to be called recursively.",
            )),
        }
    }
}

/// Refuses the names that namespaces of chat templates refuse.
pub(super) fn check_attr(name: &str) -> Result<()> {
    if !name.starts_with('_') {
        return Ok(());
    }
    Err(Error::failed(format!(
        "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '{name}'."
    )))
}

fn take(named: &mut Vec<(Name, Value)>, name: &str) -> Option<Value> {
    let at = named.iter().position(|(n, _)| &**n == name)?;
    Some(named.remove(at).1)
}

fn range(args: Args) -> Result<Value> {
    let [a, b, c] = args.bind("range", ["start", "stop", "step"])?;
    if a.is_none() && b.is_none() {
        return Err(Error::failed("range expected at least 1 argument, got 0"));
    }
    let int = |value: &Option<Value>, default: i128| match value {
        None => Ok(default),
        Some(value) => value.defined()?.as_int().ok_or_else(|| {
            let name = value.type_name();
            Error::failed(format!("'{name}' object cannot be interpreted as an integer"))
        }),
    };
    let (start, stop) = match (&a, &b) {
        (Some(_), None) => (0, int(&a, 0)?),
        _ => (int(&a, 0)?, int(&b, 0)?),
    };
    let step = int(&c, 1)?;
    if step == 0 {
        return Err(Error::failed("range() arg 3 must not be zero"));
    }
    let limit = i128::from(i64::MAX);
    if [start, stop, step].iter().any(|n| n.abs() > limit) {
        return Err(Error::failed("a range's bounds are too large"));
    }
    let range = Range { start, stop, step };
    if range.len() > MOST_RANGE {
        return Err(Error::failed(format!(
            "Range too big. The sandbox blocks ranges larger than MAX_RANGE ({MOST_RANGE})."
        )));
    }
    Ok(Value::Range(Rc::new(range)))
}

/// `dict(mapping or pairs, **named)`.
fn make_dict(args: Args) -> Result<Dict> {
    let Args { plain, named } = args;
    let mut dict = Dict::default();
    match plain.first() {
        None => {}
        Some(Value::Dict(given)) => dict = (**given).clone(),
        Some(Value::Namespace(given)) => dict = given.borrow().clone(),
        Some(pairs) => {
            let pairs = pairs.items()?;
            if pairs.len() > MOST_PAIRS {
                let message = format!("dict() takes at most {MOST_PAIRS} pairs");
                return Err(Error::failed(message));
            }
            for pair in pairs.iter() {
                let pair = pair.items()?;
                let [key, value] = &pair[..] else {
                    let message = "dictionary update sequence element has not length 2";
                    return Err(Error::failed(message));
                };
                super::ops::hashable(key)?;
                dict.set(key.clone(), value.clone());
            }
        }
    }
    for (name, value) in named {
        dict.set(Value::Str(name), value);
    }
    Ok(dict)
}

impl LoopState {
    /// An attribute of `loop`; `this` is the value that holds it.
    pub(super) fn attr(&self, name: &Name, this: &Value) -> Option<Value> {
        let (at, len) = (self.at.get(), self.items.len());
        let int = |n: usize| Value::Int(n as i128);
        Some(match &**name {
            "index" => int(at + 1),
            "index0" => int(at),
            "first" => Value::Bool(at == 0),
            "last" => Value::Bool(at + 1 == len),
            "length" => int(len),
            "revindex" => int(len - at),
            "revindex0" => int(len - at - 1),
            "depth" => int(self.depth0 + 1),
            "depth0" => int(self.depth0),
            "previtem" => match at.checked_sub(1).and_then(|at| self.items.get(at)) {
                Some(item) => item.clone(),
                None => Value::Undefined(Missing::Said("there is no previous item".into())),
            },
            "nextitem" => match self.items.get(at + 1) {
                Some(item) => item.clone(),
                None => Value::Undefined(Missing::Said("there is no next item".into())),
            },
            "cycle" | "changed" => Value::Method(Rc::new((this.clone(), name.clone()))),
            _ => return None,
        })
    }

    /// `loop.cycle(...)` and `loop.changed(...)`.
    pub(super) fn call(&self, name: &str, args: Args) -> Result<Value> {
        if name == "cycle" {
            let n = args.plain.len();
            if n == 0 {
                return Err(Error::failed("no items for cycling given"));
            }
            return Ok(args.plain[self.at.get() % n].clone());
        }
        let mut last = self.last_changed.borrow_mut();
        let same = last.as_ref().is_some_and(|last| {
            last.len() == args.plain.len() && last.iter().zip(&args.plain).all(|(a, b)| equal(a, b))
        });
        if !same {
            *last = Some(args.plain);
        }
        Ok(Value::Bool(!same))
    }
}
