//! Ctrl-C for work that leaves nothing half done.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use crate::outcome::INTERRUPTED;

static PRESSED: AtomicBool = AtomicBool::new(false);

/// From now on the first press asks the work to stop, and the second ends the program.
pub(crate) fn watch() -> anyhow::Result<()> {
    let press = || {
        if PRESSED.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
    };
    ctrlc::set_handler(press).context("cannot watch for Ctrl-C")
}

/// Whether it was pressed.
pub(crate) fn is_pressed() -> bool {
    PRESSED.load(Ordering::Relaxed)
}

/// Whether the work goes on.
pub(crate) fn flow() -> ControlFlow<()> {
    if is_pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
