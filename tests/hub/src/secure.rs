//! Listening with TLS.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use oprel_tls::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

/// Connections that speak TLS.
pub(crate) struct Secure {
    listener: TcpListener,
    acceptor: Acceptor,
}

impl Secure {
    pub(crate) fn new(listener: TcpListener, cert: &Path, key: &Path) -> Secure {
        Secure { listener, acceptor: Acceptor::load(cert, key).expect("a certificate and its key") }
    }
}

impl axum::serve::Listener for Secure {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((io, address)) = self.listener.accept().await else { continue };
            // Who does not trust us goes away here.
            if let Ok(io) = self.acceptor.accept(io).await {
                return (io, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
