//! Certificates and keys as PEM.

use std::path::Path;

use rustls::pki_types::pem::{Error as Pem, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{Error, Result};

/// More than any list of authorities has.
const MOST_BYTES: u64 = 8 << 20;

fn read(path: &Path) -> Result<Vec<u8>> {
    let unreadable = |source| Error::Unreadable { path: path.into(), source };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MOST_BYTES {
        let why = format!("it has {length} bytes; at most {MOST_BYTES} are read");
        return Err(Error::Malformed { path: path.into(), why });
    }
    std::fs::read(path).map_err(unreadable)
}

/// All certificates of a file, in order.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(path)?;
    let malformed = |why: Pem| Error::Malformed { path: path.into(), why: why.to_string() };
    let all: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .map(|found| found.map(CertificateDer::into_owned))
        .collect::<Result<_, _>>()
        .map_err(malformed)?;
    match all.is_empty() {
        true => Err(Error::NoCertificate { path: path.into() }),
        false => Ok(all),
    }
}

/// The private key of a file.
pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        Pem::NoItemsFound => Error::NoKey { path: path.into() },
        error => Error::Malformed { path: path.into(), why: error.to_string() },
    })
}
