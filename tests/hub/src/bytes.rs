//! Answers with bytes of a file: whole, in ranges, and wrong in all the ways that are asked for.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_NONE_MATCH, IF_RANGE,
    LOCATION, RANGE, RETRY_AFTER,
};
use axum::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc;

use crate::content::Content;
use crate::fault::Fault;

/// An answer's body, which counts what is taken from it.
struct Counted {
    pieces: mpsc::Receiver<Result<Bytes, std::io::Error>>,
    sent: Arc<AtomicU64>,
}

impl Stream for Counted {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.pieces.poll_recv(cx);
        if let Poll::Ready(Some(Ok(piece))) = &next {
            self.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        next
    }
}

/// How bytes are sent.
struct Sending {
    content: Content,
    from: u64,
    to: u64,
    fault: Option<Fault>,
    bytes_per_second: u64,
}

impl Sending {
    async fn run(self, into: mpsc::Sender<Result<Bytes, std::io::Error>>) {
        let (mut at, started) = (self.from, tokio::time::Instant::now());
        let until = match self.fault {
            Some(Fault::Cut(after) | Fault::Stall(after)) => self.to.min(self.from + after),
            Some(Fault::Short(by)) => self.to.saturating_sub(by).max(self.from),
            _ => self.to,
        };
        let rate = match self.fault {
            Some(Fault::Drip(rate)) => rate,
            _ => self.bytes_per_second,
        };
        while at < until {
            let mut piece = self.content.piece(at, until);
            if let Some(Fault::Flip(place)) = self.fault
                && (at..at + piece.len() as u64).contains(&place)
            {
                let mut bytes = piece.to_vec();
                bytes[(place - at) as usize] ^= 1;
                piece = bytes.into();
            }
            at += piece.len() as u64;
            if into.send(Ok(piece)).await.is_err() {
                return;
            }
            if rate > 0 {
                let due = Duration::from_secs_f64((at - self.from) as f64 / rate as f64);
                tokio::time::sleep_until(started + due).await;
            }
        }
        match self.fault {
            Some(Fault::Cut(_)) => _ = into.send(Err(std::io::Error::other("cut"))).await,
            Some(Fault::Stall(_)) => into.closed().await,
            Some(Fault::Long(by)) => _ = into.send(Ok(vec![0; by as usize].into())).await,
            _ => {}
        }
    }
}

/// What a request for bytes is answered with. `sent` grows with what goes out.
pub(crate) fn answer(
    content: &Content,
    etag: &str,
    asked: &HeaderMap,
    fault: Option<Fault>,
    bytes_per_second: u64,
    with_body: bool,
    sent: Arc<AtomicU64>,
) -> Response<Body> {
    let size = content.size();
    let etag = match &fault {
        Some(Fault::Etag(other)) => other.clone(),
        _ => etag.to_owned(),
    };
    let of = |name| asked.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    if of(IF_NONE_MATCH) == Some(etag.as_str()) {
        return plain(StatusCode::NOT_MODIFIED, "");
    }
    let wanted = of(RANGE).filter(|_| of(IF_RANGE).is_none_or(|name| name == etag));
    let wanted = wanted.filter(|_| fault != Some(Fault::Whole));
    let range = match wanted.map(|text| range(text, size)) {
        Some(None) => {
            let mut refused = plain(StatusCode::RANGE_NOT_SATISFIABLE, "");
            let said = format!("bytes */{size}").parse().expect("a header");
            refused.headers_mut().insert(CONTENT_RANGE, said);
            return refused;
        }
        Some(Some(range)) => Some(range),
        None => None,
    };
    let (mut from, mut to) = range.unwrap_or((0, size));
    if fault == Some(Fault::WrongRange) && range.is_some() {
        (from, to) = if from > 0 { (from - 1, to - 1) } else { (from, to - 1) };
    }
    let mut builder = Response::builder()
        .status(if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK })
        .header(ETAG, etag)
        .header(ACCEPT_RANGES, "bytes");
    if range.is_some() {
        builder = builder.header(CONTENT_RANGE, format!("bytes {from}-{}/{size}", to.max(1) - 1));
    }
    if fault == Some(Fault::Gzip) {
        builder = builder.header(CONTENT_ENCODING, "gzip");
    }
    if !matches!(fault, Some(Fault::Short(_) | Fault::Long(_))) {
        builder = builder.header(CONTENT_LENGTH, to - from);
    }
    let body = if with_body {
        let (into, pieces) = mpsc::channel(1);
        let content = content.clone();
        tokio::spawn(Sending { content, from, to, fault, bytes_per_second }.run(into));
        Body::from_stream(Counted { pieces, sent })
    } else {
        Body::empty()
    };
    builder.body(body).expect("headers are well formed")
}

/// A fault that needs no file.
pub(crate) fn early(fault: Option<&Fault>, path: &str) -> Option<Response<Body>> {
    match fault? {
        Fault::Status(status, after) => {
            let status = StatusCode::from_u16(*status).expect("a status");
            let mut answer = plain(status, "{\"error\":\"as planned\"}");
            answer.headers_mut().insert(ETAG, "\"of-the-error\"".parse().expect("a header"));
            if let Some(seconds) = after {
                answer.headers_mut().insert(RETRY_AFTER, (*seconds).into());
            }
            Some(answer)
        }
        Fault::Loop => Some(to(StatusCode::FOUND, path)),
        Fault::Redirect(elsewhere) => Some(to(StatusCode::FOUND, elsewhere)),
        _ => None,
    }
}

pub(crate) fn to(status: StatusCode, location: &str) -> Response<Body> {
    let mut answer = plain(status, "");
    answer.headers_mut().insert(LOCATION, location.parse().expect("a header"));
    answer
}

pub(crate) fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut answer = Response::new(Body::from(text.to_owned()));
    *answer.status_mut() = status;
    answer
}

/// Start and end of `bytes=a-b`, which may be `bytes=a-` or `bytes=-n`.
fn range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (from.parse::<u64>().ok(), to.parse::<u64>().ok()) {
        (Some(from), Some(to)) => (from, to.saturating_add(1).min(size)),
        (Some(from), None) => (from, size),
        (None, Some(last)) => (size.saturating_sub(last), size),
        (None, None) => return None,
    };
    (from < to).then_some((from, to))
}
