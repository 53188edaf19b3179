//! TLS without C: rustls, with cryptography in Rust and assembly (graviola). Certificates come from files; nothing
//! here listens or connects.

mod error;
mod files;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error as Refusal, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

pub use error::{Error, Result};

/// What HTTP calls itself over TLS, the version that is liked best first.
pub const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Where systems keep the authorities that they trust. On Windows anybody may make folders of these names.
#[cfg(windows)]
const SYSTEM: &[&str] = &[];
#[cfg(not(windows))]
const SYSTEM: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Answers clients over TLS. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

/// Speaks to servers over TLS. Cheap to clone.
#[derive(Clone)]
pub struct Connector(TlsConnector);

impl Acceptor {
    /// With a certificate, its authorities behind it in the same file, and its key.
    ///
    /// # Errors
    /// If the processor lacks what the cryptography needs, a file cannot be read or has not what it should, or
    /// the two do not belong together.
    pub fn load(cert: &Path, key: &Path) -> Result<Acceptor> {
        let provider = provider()?;
        let certificates = files::certificates(cert)?;
        let secret = files::key(key)?;
        let pair = |why: rustls::Error| Error::Pair {
            cert: cert.into(),
            key: key.into(),
            why: why.to_string(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder.with_no_client_auth().with_single_cert(certificates, secret)
            })
            .map_err(pair)?;
        config.alpn_protocols = HTTP.iter().map(|name| name.to_vec()).collect();
        Ok(Acceptor(TlsAcceptor::from(Arc::new(config))))
    }

    /// Greets a client.
    ///
    /// # Errors
    /// If it speaks no TLS, or none that is understood here.
    pub async fn accept<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: T,
    ) -> io::Result<server::TlsStream<T>> {
        self.0.accept(io).await
    }
}

impl Connector {
    /// Trusts whom [`client_config`] trusts, with the authorities in `more`, and speaks these protocols.
    ///
    /// # Errors
    /// As [`client_config`].
    pub fn load(more: Option<&Path>, protocols: &[&[u8]]) -> Result<Connector> {
        let config = client_config(more, protocols)?;
        Ok(Connector(TlsConnector::from(Arc::new(config))))
    }

    /// Greets the server of this name, which must prove that it has it.
    ///
    /// # Errors
    /// If it does not, or speaks no TLS that is understood here.
    pub async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        io: T,
    ) -> io::Result<client::TlsStream<T>> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        self.0.connect(name, io).await
    }
}

/// Whether one end of a connection refused the other over TLS, as an error or one of its reasons says: its certificate
/// is not believed, or it wants something that cannot be had here.
pub fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(Refusal::InvalidCertificate(_) | Refusal::AlertReceived(_)) =
            error.downcast_ref()
        {
            return true;
        }
        // An error of input and output hides the one that it was made of from those that ask for reasons.
        let made_of = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match made_of {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    false
}

/// What a client of other programs' making is configured with: it trusts the authorities that browsers trust, those
/// of this system where it has a list, and those in `more`.
///
/// # Errors
/// If the processor lacks what the cryptography needs, or a file that was named has no certificates.
pub fn client_config(more: Option<&Path>, protocols: &[&[u8]]) -> Result<ClientConfig> {
    let provider = provider()?;
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let named = std::env::var_os("SSL_CERT_FILE").is_some_and(|path| !path.is_empty());
    match system().map(|path| files::certificates(&path)) {
        Some(Ok(certificates)) => _ = roots.add_parsable_certificates(certificates),
        Some(Err(error)) if named => return Err(error),
        // A list of the system's that cannot be read takes nothing from the list that is built in.
        Some(Err(_)) | None => {}
    }
    if let Some(path) = more {
        let (added, _) = roots.add_parsable_certificates(files::certificates(path)?);
        if added == 0 {
            return Err(Error::NoCertificate { path: path.into() });
        }
    }
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| Error::Versions { why: why.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn system() -> Option<PathBuf> {
    let own = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    own.or_else(|| SYSTEM.iter().map(PathBuf::from).find(|path| path.is_file()))
}

/// The cryptography, which would panic on a processor that it is not written for.
fn provider() -> Result<Arc<CryptoProvider>> {
    match lacking() {
        lacks if lacks.is_empty() => Ok(Arc::new(rustls_graviola::default_provider())),
        lacks => Err(Error::Processor { lacks: lacks.join(", ") }),
    }
}

/// Instructions that are needed and not there.
fn lacking() -> Vec<&'static str> {
    let mut lacks = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! need {
            ($($name:tt)*) => { $(if !is_x86_feature_detected!($name) { lacks.push($name) })* };
        }
        need!("aes" "pclmulqdq" "bmi1" "bmi2" "adx" "avx" "avx2");
    }
    #[cfg(target_arch = "aarch64")]
    {
        macro_rules! need {
            ($($name:tt)*) => {
                $(if !std::arch::is_aarch64_feature_detected!($name) { lacks.push($name) })*
            };
        }
        need!("neon" "aes" "pmull" "sha2");
    }
    lacks.sort_unstable();
    lacks
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}
