//! A bound on how many bytes come in a second, for all that share it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A bound on how many bytes come in a second.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: Option<u64>,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// Nothing, or 0, is no bound.
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Pace {
        let bytes_per_second = bytes_per_second.filter(|rate| *rate > 0);
        Pace { bytes_per_second, next: Mutex::new(None) }
    }

    /// Waits until so many more bytes are due.
    pub(crate) async fn take(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_second else { return };
        let due = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let due = next.map_or_else(Instant::now, |next| next.max(Instant::now()));
            *next = Some(due + Duration::from_secs_f64(bytes as f64 / rate as f64));
            due
        };
        tokio::time::sleep_until(due).await;
    }
}
