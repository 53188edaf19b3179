//! Which names mean what.

use super::tree::Name;
use super::value::Value;
use std::cell::RefCell;
use std::rc::Rc;

/// Names of one block, inside those of the block around it.
///
/// A macro keeps the scope that it was made in, and sees what is set there later.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    names: RefCell<Vec<(Name, Value)>>,
    around: Option<Rc<Scope>>,
}

impl Scope {
    pub(super) fn inside(around: &Rc<Scope>) -> Rc<Scope> {
        Rc::new(Scope { names: RefCell::default(), around: Some(around.clone()) })
    }

    pub(super) fn set(&self, name: Name, value: Value) {
        let mut names = self.names.borrow_mut();
        match names.iter_mut().find(|(n, _)| same(n, &name)) {
            Some((_, old)) => *old = value,
            None => names.push((name, value)),
        }
    }

    pub(super) fn find(&self, name: &Name) -> Option<Value> {
        let mut scope = self;
        loop {
            let names = scope.names.borrow();
            if let Some((_, value)) = names.iter().find(|(n, _)| same(n, name)) {
                return Some(value.clone());
            }
            drop(names);
            scope = scope.around.as_deref()?;
        }
    }

    /// Forgets all names: breaks the circle of a scope and a macro in it.
    pub(super) fn clear(&self) {
        self.names.borrow_mut().clear();
    }
}

/// Names are mostly one shared text.
fn same(a: &Name, b: &Name) -> bool {
    std::sync::Arc::ptr_eq(a, b) || a == b
}
