//! Connections: over TCP, and from this user of this machine alone, with limits on how slow and how many they may
//! be, and an end that lets answers finish.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::Version;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use oprel_tls::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep};
use tower::ServiceExt;

use crate::Given;
use crate::peer::From;
use crate::platform::Local;
use crate::taken::Taken;

/// How a connection of HTTP/2 begins. Until it is told from HTTP/1, nobody else looks at the clock.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Limits on connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// For the head of a request to arrive.
    pub head: Duration,
    /// For a client to take, or to send, anything while it is its turn.
    pub stall: Duration,
    /// For answers to finish when the server stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 4096,
            head: Duration::from_secs(10),
            stall: Duration::from_secs(60),
            grace: Duration::from_secs(30),
        }
    }
}

/// Where a server listens.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Local(Local),
}

impl Listener {
    /// One that listens already.
    pub(crate) fn of(given: Given) -> io::Result<Listener> {
        match given {
            Given::Tcp(tcp) => {
                tcp.set_nonblocking(true)?;
                TcpListener::from_std(tcp).map(Listener::Tcp)
            }
            Given::Local(local) => Local::of(local).map(Listener::Local),
        }
    }
}

/// A connection, of either kind, that is cut when it stalls.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Serves connections of a listener until it is told to stop; then lets those that are open finish.
pub(crate) async fn serve(
    mut listener: Listener,
    app: Router,
    limits: Limits,
    tls: Option<Acceptor>,
    places: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(64 << 10);
    // One that says nothing for long is asked whether it is still there.
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .keep_alive_interval(limits.stall)
        .keep_alive_timeout(limits.head);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&mut listener) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (io, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a client that is already gone.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            drop(io);
            continue;
        };
        let app = app.clone();
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(from);
            // A connection of its own fails with its answer that nobody takes.
            let is_shared = request.version() == Version::HTTP_2;
            let answer = app.clone().oneshot(request);
            async move {
                let answer = answer.await;
                answer.map(|whole| match is_shared {
                    true => whole.map(|body| Taken::watch(body, limits.stall)),
                    false => whole,
                })
            }
        });
        let io = Patient::new(io, limits);
        // What is local is its owner's alone.
        let tls = tls.clone().filter(|_| from != From::Socket);
        let (server, watcher) = (server.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            let Some(io) = greeted(io, tls, limits).await else { return };
            let connection = server.serve_connection_with_upgrades(TokioIo::new(io), service);
            let _ = watcher.watch(connection.into_owned()).await;
        });
    }
    drop(listener);
    let finished = tokio::time::timeout(limits.grace, graceful.shutdown()).await;
    if finished.is_err() {
        tracing::warn!("answers that did not finish in time were cut");
    }
}

/// A connection after TLS's greetings, if it has any; `None` if they fail or take too long.
async fn greeted<T: Io + 'static>(
    io: T,
    tls: Option<Acceptor>,
    limits: Limits,
) -> Option<Box<dyn Io>> {
    let Some(tls) = tls else { return Some(Box::new(io)) };
    match tokio::time::timeout(limits.head, tls.accept(io)).await {
        // What comes under the greetings has its own beginning.
        Ok(Ok(io)) => Some(Box::new(Patient::new(io, limits))),
        Ok(Err(error)) => {
            tracing::info!(%error, "a client was not understood over TLS");
            None
        }
        Err(_) => None,
    }
}

async fn accept(listener: &mut Listener) -> io::Result<(Box<dyn Io>, From)> {
    match listener {
        Listener::Tcp(tcp) => {
            let (stream, address) = tcp.accept().await?;
            // An event is sent when it is made.
            let _ = stream.set_nodelay(true);
            Ok((Box::new(stream), From::Tcp(address)))
        }
        Listener::Local(local) => Ok((Box::new(local.accept().await?), From::Socket)),
    }
}

/// A connection that fails when nothing can be written for too long, or never anything comes.
struct Patient<T> {
    inner: T,
    stall: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Until when it must be known which HTTP it speaks. Later bytes are waited for where they are read.
    first: Option<Pin<Box<Sleep>>>,
    /// Bytes of the preface of HTTP/2 that came.
    greeted: usize,
}

impl<T> Patient<T> {
    fn new(inner: T, limits: Limits) -> Patient<T> {
        let first = Some(Box::pin(tokio::time::sleep(limits.head)));
        Patient { inner, stall: limits.stall, timer: None, first, greeted: 0 }
    }

    /// Looks at bytes that came, as long as they may be a greeting.
    fn hear(&mut self, bytes: &[u8]) {
        let rest = PREFACE.get(self.greeted..).unwrap_or_default();
        self.greeted += bytes.len();
        if bytes.is_empty() || bytes.len() >= rest.len() || !rest.starts_with(bytes) {
            self.first = None;
        }
    }

    /// Passes on what a write gave; one that waits for too long fails.
    fn judge<V>(
        &mut self,
        wrote: Poll<io::Result<V>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<V>> {
        if wrote.is_ready() {
            self.timer = None;
            return wrote;
        }
        let until = Instant::now() + self.stall;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_ready() && self.first.is_some() {
            self.hear(&buf.filled()[before..]);
        }
        match self.first.as_mut().map(|timer| timer.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            _ => read,
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.judge(wrote, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.judge(wrote, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.judge(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
