//! Connections to an endpoint, whatever the address of a request says.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tower::Service;

use crate::Endpoint;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// Makes connections.
#[derive(Clone, Debug)]
pub(crate) struct Connect(Endpoint);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection of either kind.
pub(crate) struct Stream(TokioIo<Box<dyn Io>>);

impl Connect {
    pub(crate) fn new(endpoint: Endpoint) -> Connect {
        Connect(endpoint)
    }
}

impl Service<Uri> for Connect {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let endpoint = self.0.clone();
        Box::pin(async move {
            let io: Box<dyn Io> = match endpoint {
                Endpoint::Tcp { host, port } => {
                    let host = host.trim_start_matches('[').trim_end_matches(']');
                    let stream = tokio::time::timeout(CONNECT, TcpStream::connect((host, port)));
                    let stream = stream.await.map_err(|_| io::ErrorKind::TimedOut)??;
                    let _ = stream.set_nodelay(true);
                    Box::new(stream)
                }
                #[cfg(unix)]
                Endpoint::Socket(path) => Box::new(tokio::net::UnixStream::connect(path).await?),
                #[cfg(not(unix))]
                Endpoint::Socket(_) => return Err(io::ErrorKind::Unsupported.into()),
            };
            Ok(Stream(TokioIo::new(io)))
        })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
