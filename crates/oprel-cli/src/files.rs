//! How many files and connections the system lets this process have open.

use oprel::OprelError;

use crate::platform;

/// What is open besides connections: models, workers, the store, the log.
const BESIDE: u64 = 128;
/// Fewer connections make no server.
const LEAST: u64 = 64;

/// Connections that can be served, at most so many, with the system's limit raised as far as it may be.
///
/// # Errors
/// If there can be too few to be of use.
pub(crate) fn connections(wanted: usize) -> Result<usize, OprelError> {
    let needed = wanted as u64 + BESIDE;
    let Some(n) = platform::open_files(needed).filter(|n| *n < needed) else {
        return Ok(wanted);
    };
    if n < BESIDE + LEAST {
        return Err(OprelError::Validation {
            message: format!("the system lets this process open only {n} files and connections"),
            hint: Some(format!(
                "allow {needed}: `ulimit -n {needed}` in a shell, LimitNOFILE={needed} in a systemd unit"
            )),
            source: None,
        });
    }
    tracing::warn!(
        files = n,
        connections = n - BESIDE,
        "the system allows fewer open files than are needed"
    );
    Ok(usize::try_from(n - BESIDE).unwrap_or(wanted))
}
