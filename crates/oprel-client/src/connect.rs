//! Connections to an endpoint, whatever the address of a request says: for an HTTP client of `hyper`.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use oprel_tls::Connector;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tower::Service;

use crate::{Endpoint, platform};

/// How long a connection may take to be made, greetings of TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// Makes connections.
#[derive(Clone, Debug)]
pub struct Connect {
    endpoint: Endpoint,
    /// Whom to trust, read when it is first needed.
    tls: Arc<OnceLock<Result<Connector, String>>>,
}

/// What bytes go over, of any kind.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection of any kind.
pub struct Stream(TokioIo<Box<dyn Io>>);

impl Connect {
    /// For connections to this endpoint.
    pub fn new(endpoint: Endpoint) -> Connect {
        Connect { endpoint, tls: Arc::default() }
    }

    async fn make(&self) -> io::Result<Stream> {
        let io: Box<dyn Io> = match &self.endpoint {
            Endpoint::Tcp { host, port } => Box::new(tcp(host, *port).await?),
            Endpoint::Tls { host, port } => {
                let tls = self.tls()?;
                Box::new(tls.connect(host, tcp(host, *port).await?).await?)
            }
            Endpoint::Socket(path) => platform::socket(path).await?,
            Endpoint::Pipe(path) => platform::pipe(path, CONNECT).await?,
        };
        Ok(Stream(TokioIo::new(io)))
    }

    /// Whom to trust: the usual authorities, and those in the file that the setting `tls_ca` names.
    fn tls(&self) -> io::Result<Connector> {
        let load = || {
            let own = oprel_config::current().ok().and_then(|set| set.path("tls_ca"));
            Connector::load(own.as_deref(), &[b"http/1.1"]).map_err(|error| {
                let hint = error.hint().map(|hint| format!(" ({hint})"));
                format!("{error}{}", hint.unwrap_or_default())
            })
        };
        self.tls.get_or_init(load).clone().map_err(io::Error::other)
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
        let connect = self.clone();
        Box::pin(async move {
            let made = tokio::time::timeout(CONNECT, connect.make()).await;
            made.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        })
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
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
