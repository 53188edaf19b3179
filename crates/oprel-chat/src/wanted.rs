//! Giving up what nobody waits for: whoever asks for a rendering can say meanwhile that it is no longer wanted.

use std::cell::RefCell;

type Wanted = Box<dyn Fn() -> bool>;

thread_local! {
    /// Asks whether what this thread renders is wanted.
    static WANTED: RefCell<Option<Wanted>> = const { RefCell::new(None) };
}

/// Puts back what was there before, also after a panic.
struct Before(Option<Wanted>);

impl Drop for Before {
    fn drop(&mut self) {
        WANTED.set(self.0.take());
    }
}

/// Does this work; what it renders ends with [`Error::Unwanted`](crate::Error::Unwanted) soon after `wanted` says no.
pub fn while_wanted<T>(wanted: impl Fn() -> bool + 'static, work: impl FnOnce() -> T) -> T {
    let _before = Before(WANTED.replace(Some(Box::new(wanted))));
    work()
}

/// Whether what this thread renders is wanted.
pub(crate) fn is_wanted() -> bool {
    WANTED.with_borrow(|wanted| wanted.as_ref().is_none_or(|wanted| wanted()))
}
