//! From an error to an exit code, a message and a hint.

use std::io::{self, Write};
use std::process::ExitCode;

use oprel::OprelError;

use crate::interrupt;

/// Exit code of a program that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Exit codes: 0 done, 1 the terminal or a file failed, 2 to 6 one for each kind of error, 130 stopped by Ctrl-C.
pub(crate) fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if is_closed_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    explain(&error);
    if interrupt::is_pressed() {
        return ExitCode::from(INTERRUPTED);
    }
    ExitCode::from(match error.downcast_ref::<OprelError>() {
        Some(OprelError::Validation { .. }) => 2,
        Some(OprelError::ModelNotFound { .. }) => 3,
        Some(OprelError::Download { .. }) => 4,
        Some(OprelError::Backend { .. }) => 5,
        Some(OprelError::Memory { .. }) => 6,
        _ => 1,
    })
}

/// What happened and what to do, to standard error.
pub(crate) fn explain(error: &anyhow::Error) {
    tell(&format!("error: {error:#}"));
    let ours = error.downcast_ref::<OprelError>();
    if let Some(hint) = ours.map_or_else(|| of_the_system(error), OprelError::hint) {
        tell(&format!("hint: {hint}"));
    }
}

/// What to do where the system refused a file.
fn of_the_system(error: &anyhow::Error) -> Option<&'static str> {
    use io::ErrorKind::*;
    let refused = error.chain().find_map(|why| why.downcast_ref::<io::Error>())?;
    Some(match refused.kind() {
        NotFound | NotADirectory => "check the path",
        AlreadyExists => "something else is there: name another place",
        PermissionDenied => "give this user access to it, or name another one",
        ReadOnlyFilesystem => "its disk is only read: name a place on another one",
        IsADirectory => "that is a folder: name a file",
        StorageFull | QuotaExceeded => "make room on the disk and try again",
        _ => return None,
    })
}

/// A line to standard error. That nobody can read it changes nothing else, least of all the exit code.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{}", harmless(line));
}

/// Text that may come from a file, without the characters that command a terminal.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && !matches!(c, '\n' | '\t') {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// Whoever read our output has enough: `oprel ... | head`.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
