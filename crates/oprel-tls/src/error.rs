//! Why there is no TLS.

use std::io;
use std::path::PathBuf;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The processor lacks instructions that the cryptography is written in.
    #[error("TLS of this program needs a processor with {lacks}, which this one lacks")]
    Processor {
        /// What it lacks.
        lacks: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file has no certificate.
    #[error("{} has no certificate; PEM is read: -----BEGIN CERTIFICATE-----", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file has no private key.
    #[error("{} has no private key; PEM is read: PKCS#8, PKCS#1 or SEC1, not encrypted", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A file is no proper PEM, or what is in it is malformed.
    #[error("{}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and key do not belong together, or cannot be used.
    #[error("the certificate in {} cannot be used with the key in {}: {why}", cert.display(), key.display())]
    Pair {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The cryptography speaks no version of TLS that is spoken here.
    #[error("no version of TLS can be spoken: {why}")]
    Versions {
        /// What is wrong.
        why: String,
    },
}

impl Error {
    /// What to do now, where there is something to do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Processor { .. } => Some(
                "serve HTTP to a proxy on this machine that speaks TLS, or over the Unix socket",
            ),
            Error::Pair { .. } => {
                Some("give the file with the certificate first and its authorities after it")
            }
            _ => None,
        }
    }
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
