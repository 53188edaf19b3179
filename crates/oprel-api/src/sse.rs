//! Server-sent events: one JSON object each.

use serde_json::Value;

/// Content type of a stream of them.
pub(crate) const TYPE: &str = "text/event-stream";

/// An event without a name.
pub(crate) fn data(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}
