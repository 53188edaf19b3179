//! Who hears, once, what became of a request, and whether it is still wanted.

use crate::{Result, native};

/// Who hears what became of a request: exactly once, and if nobody tells, that the engine stopped.
pub(crate) struct Hearing<T> {
    tell: Option<Box<dyn FnOnce(Result<T>) + Send>>,
    wanted: Box<dyn Fn() -> bool + Send>,
}

impl<T: 'static> Hearing<T> {
    /// Tells `tell`, if `wanted` still says yes; called on the engine's thread, both must not wait.
    pub(crate) fn new(
        tell: impl FnOnce(Result<T>) + Send + 'static,
        wanted: impl Fn() -> bool + Send + 'static,
    ) -> Hearing<T> {
        Hearing { tell: Some(Box::new(tell)), wanted: Box::new(wanted) }
    }

    /// The outcome.
    pub(crate) fn tell(mut self, outcome: Result<T>) {
        if let Some(tell) = self.tell.take() {
            tell(outcome);
        }
    }

    /// Whether anybody still waits.
    pub(crate) fn is_wanted(&self) -> bool {
        (self.wanted)()
    }

    /// Hears something else, of which this is made.
    pub(crate) fn of<U: 'static>(
        mut self,
        make: impl FnOnce(U) -> T + Send + 'static,
    ) -> Hearing<U> {
        let wanted = std::mem::replace(&mut self.wanted, Box::new(|| false));
        let tell = self.tell.take();
        let made = move |outcome: Result<U>| {
            if let Some(tell) = tell {
                tell(outcome.map(make));
            }
        };
        Hearing { tell: Some(Box::new(made)), wanted }
    }
}

impl<T> Drop for Hearing<T> {
    fn drop(&mut self) {
        if let Some(tell) = self.tell.take() {
            tell(Err(native::stopped()));
        }
    }
}
