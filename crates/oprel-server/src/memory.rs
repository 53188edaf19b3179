//! Whether there is memory for a model that is to come.

use oprel_backend::{LoadOptions, ModelSource, has_room, needed_bytes};

/// What a model needs besides its file, at least: one that the native engine does not run.
const BESIDE: u64 = 256 << 20;

/// Bytes that a model of a file of so many bytes needs.
pub(crate) async fn needed(source: ModelSource, options: LoadOptions, file_bytes: u64) -> u64 {
    let count = move || needed_bytes(&source, &options);
    match tokio::task::spawn_blocking(count).await {
        Ok(Ok(bytes)) => bytes,
        _ => file_bytes.saturating_add(BESIDE),
    }
}

/// Whether a model that needs so much fits beside what is there.
pub(crate) fn fits(needed_bytes: u64) -> bool {
    has_room(needed_bytes)
}
