//! All routes, by dialect.

mod compat;
mod exact;
mod ollama;
mod own;
mod store;
mod talk;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use oprel_api::{ErrorKind, Failure};

pub(crate) use talk::Note;

use crate::App;
use crate::answer::Speech;

/// How long what is too long is still taken.
const LINGER: Duration = Duration::from_millis(500);
/// Most bytes that a compressed body may become.
const MOST_UNPACKED: u64 = 64 << 20;

/// All routes, bare.
pub(crate) fn all() -> Router<Arc<App>> {
    Router::new()
        .merge(ollama::router())
        .merge(compat::router())
        .merge(exact::router())
        .merge(own::router())
        .merge(store::router())
        .merge(talk::router())
}

pub(crate) fn router(app: Arc<App>) -> Router {
    all()
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found") })
        .layer(from_fn_with_state(app.clone(), crate::peer::check))
        .layer(from_fn_with_state(app.clone(), record))
        .with_state(app)
}

/// Gives every request an id, counts it and writes it to the log; refuses all when the server stops.
async fn record(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let id = asked_id(request.headers()).unwrap_or_else(crate::id);
    let method = word(request.method());
    let path = request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_string());
    let path = path.unwrap_or_else(|| "<unmatched>".into());
    let is_one = request.version() <= Version::HTTP_11;
    let (request, read) = Watched::watch(request);
    let mut response = match app.stopping.load(Ordering::Relaxed) {
        true => (StatusCode::SERVICE_UNAVAILABLE, "the server is stopping").into_response(),
        false => next.run(request).await,
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    // What nobody read stands between this request and the next: the connection ends, and says so.
    if is_one && !read.load(Ordering::Relaxed) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let code = response.status().as_u16();
    app.metrics.http(&path, method, code);
    let ms = start.elapsed().as_micros() as f64 / 1e3;
    tracing::info!(%id, %method, %path, code, ms, "request");
    response
}

/// A method, of which clients cannot make up new ones: each would be a series of its own for ever.
fn word(method: &Method) -> &'static str {
    let known = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"];
    known.into_iter().find(|word| *word == method.as_str()).unwrap_or("other")
}

/// A body, and whether all of it was read.
struct Watched {
    body: Body,
    read: Arc<AtomicBool>,
}

impl Watched {
    fn watch(request: Request) -> (Request, Arc<AtomicBool>) {
        let read = Arc::new(AtomicBool::new(request.body().is_end_stream()));
        let known = read.clone();
        (request.map(|body| Body::new(Watched { body, read })), known)
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.read.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The id that a client gave its request, if it is harmless.
fn asked_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    (!id.is_empty() && id.len() <= 128 && id.chars().all(plain)).then(|| id.to_string())
}

/// What a dialect makes of the whole body; else the response that says why not.
pub(crate) async fn read<T>(
    app: &App,
    request: Request,
    speech: Speech,
    read: impl FnOnce(&[u8]) -> Result<T, Failure>,
) -> Result<T, Response> {
    let bytes = body(app, request, speech).await?;
    read(&bytes).map_err(|failure| speech.fail(failure))
}

/// The whole body, unpacked if it is packed.
async fn body(app: &App, request: Request, speech: Speech) -> Result<Bytes, Response> {
    let encoding = request.headers().get(header::CONTENT_ENCODING).cloned();
    let wrong = |message: String| speech.fail(Failure::new(ErrorKind::Validation, message));
    let (most, stall) = (app.options.most_body, app.options.limits.stall);
    let bytes = whole(request.into_body(), most, stall).await.map_err(|(status, message)| {
        let mut response = wrong(message);
        *response.status_mut() = status;
        response
    })?;
    match encoding.as_ref().map(|e| e.as_bytes()) {
        None | Some(b"identity") => Ok(bytes),
        Some(b"zstd") => unpack(&bytes).map(Bytes::from).map_err(wrong),
        Some(_) => Err(wrong("content-encoding: zstd or none is understood".into())),
    }
}

/// Takes what a client is still sending, for a moment: one that is cut while it writes does not read why.
async fn drain(mut body: Body) {
    let all = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(LINGER, all).await;
}

/// Reads a body, which must not be longer than `most`, nor let anybody wait longer than `stall`.
async fn whole(
    mut body: Body,
    most: usize,
    stall: Duration,
) -> Result<Bytes, (StatusCode, String)> {
    let long = || {
        let message = format!("the body is longer than {most} bytes");
        (StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    // What is announced need not be waited for.
    if body.size_hint().lower() > most as u64 {
        drain(body).await;
        return Err(long());
    }
    let mut all = Vec::new();
    loop {
        let Ok(frame) = tokio::time::timeout(stall, body.frame()).await else {
            let message = format!("nothing came of the body for {} s", stall.as_secs_f32());
            return Err((StatusCode::REQUEST_TIMEOUT, message));
        };
        let Some(frame) = frame else { return Ok(all.into()) };
        let frame = frame.map_err(|error| {
            (StatusCode::BAD_REQUEST, format!("the body could not be read: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > most {
            drain(body).await;
            return Err(long());
        }
        all.extend_from_slice(&data);
    }
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let decoder = ruzstd::decoding::StreamingDecoder::new(bytes)
        .map_err(|e| format!("the body is no zstd: {e}"))?;
    let mut all = Vec::new();
    decoder
        .take(MOST_UNPACKED + 1)
        .read_to_end(&mut all)
        .map_err(|e| format!("the body is no zstd: {e}"))?;
    match all.len() as u64 > MOST_UNPACKED {
        true => Err(format!("the body unpacks to more than {MOST_UNPACKED} bytes")),
        false => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(body: Body, most: usize) -> Result<Bytes, StatusCode> {
        whole(body, most, Duration::from_millis(10)).await.map_err(|(status, _)| status)
    }

    /// A body that is announced and never comes.
    struct Announced(u64);

    impl HttpBody for Announced {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Pending
        }

        fn size_hint(&self) -> hyper::body::SizeHint {
            hyper::body::SizeHint::with_exact(self.0)
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_or_does_not_come_is_refused() {
        assert_eq!(read(Body::from("abc"), 3).await, Ok("abc".into()));
        assert_eq!(read(Body::from("abcd"), 3).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
        let announced = |n| Body::new(Announced(n));
        assert_eq!(read(announced(4), 3).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(read(announced(3), 3).await, Err(StatusCode::REQUEST_TIMEOUT));
    }
}
