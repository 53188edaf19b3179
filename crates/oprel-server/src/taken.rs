//! Answers that must be taken. A connection of HTTP/2 carries many of them, each held back by its reader alone, so that
//! one that nobody takes never shows in the connection, which goes on to answer pings.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A body that is given up when its reader takes nothing more of it for too long.
pub(crate) struct Taken {
    shared: Arc<Mutex<Shared>>,
    watchman: AbortHandle,
}

struct Shared {
    /// Nothing once it was given up.
    body: Option<Body>,
    /// Since when the reader has a piece and does not ask for the next. Not while it waits for us.
    given: Option<Instant>,
}

impl Taken {
    /// Watches a body whose length is not known. The others are whole already: they hold up nobody.
    pub(crate) fn watch(body: Body, stall: Duration) -> Body {
        if body.size_hint().exact().is_some() {
            return body;
        }
        let given = Some(Instant::now());
        let shared = Arc::new(Mutex::new(Shared { body: Some(body), given }));
        let watched = shared.clone();
        let watchman = tokio::spawn(async move {
            let mut until = Instant::now() + stall;
            loop {
                tokio::time::sleep_until(until).await;
                let mut shared = lock(&watched);
                let now = Instant::now();
                until = shared.given.unwrap_or(now) + stall;
                if until <= now {
                    tracing::info!("an answer was given up: its reader takes nothing of it");
                    shared.body = None;
                    return;
                }
            }
        });
        Body::new(Taken { shared, watchman: watchman.abort_handle() })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.watchman.abort();
    }
}

impl HttpBody for Taken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut shared = lock(&self.shared);
        let Some(body) = &mut shared.body else {
            let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Poll::Ready(Some(Err(axum::Error::new(late))));
        };
        let frame = Pin::new(body).poll_frame(cx);
        shared.given = frame.is_ready().then(Instant::now);
        frame
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.shared).body.as_ref().is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
