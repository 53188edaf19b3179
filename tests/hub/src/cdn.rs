//! The delivery network: bytes for who has a link that is still good.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Method, Response, StatusCode};

use crate::bytes::{self, plain};
use crate::{Fault, Inner, Seen, lock};

pub(crate) fn answer(inner: &Inner, seen: &Seen, fault: Option<Fault>) -> Response<Body> {
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let time = inner.time.load(Ordering::Relaxed);
    if query != format!("Expires={time}&Signature=stand-in") {
        return plain(StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>");
    }
    let digest = path.split('/').nth(1).unwrap_or_default();
    let Some(content) = lock(&inner.files).get(digest).cloned() else {
        return plain(StatusCode::NOT_FOUND, "");
    };
    let with_body = seen.method != Method::HEAD;
    let rate = inner.bytes_per_second.load(Ordering::Relaxed);
    // As a network names contents: neither by the file's digest nor by the hub's name.
    let etag = format!("\"{}-9\"", &digest[..32]);
    bytes::answer(&content, &etag, &seen.headers, fault, rate, with_body, seen.sent.clone())
}
