//! Server-sent events: one JSON object each.

use serde_json::Value;

/// Content type of a stream of them.
pub(crate) const TYPE: &str = "text/event-stream";

/// An event without a name.
pub(crate) fn data(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}

/// An event whose name is its object's `type`.
pub(crate) fn typed(value: &Value) -> Vec<u8> {
    let name = value["type"].as_str().unwrap_or("message");
    format!("event: {name}\ndata: {value}\n\n").into_bytes()
}
