//! Why a program was not installed or removed, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use oprel_api::{ErrorKind, Failure};

use crate::{Digest, fetch};

/// Why a program was not installed or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A list of releases or an archive cannot be had.
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    /// A text that is no version.
    #[error("'{text}' is no version of llama.cpp: those are called b6123")]
    Version {
        /// The text.
        text: String,
    },
    /// A source that programs are not taken from.
    #[error("programs are not taken from {url}: anybody on the way could put another there")]
    Insecure {
        /// The source.
        url: String,
    },
    /// A list of releases that cannot be understood.
    #[error("{url} is no release of llama.cpp: {why}")]
    Release {
        /// Where it is.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A release has nothing for this machine.
    #[error("{version} has no {wanted} for {platform}")]
    NoAsset {
        /// The release.
        version: String,
        /// The variant that was wanted.
        wanted: String,
        /// This machine.
        platform: String,
        /// The variants that there are for it.
        there: Vec<String>,
    },
    /// Nothing says which bytes are right.
    #[error("the list of releases has no SHA-256 of {name}")]
    NoDigest {
        /// The archive.
        name: String,
    },
    /// The list of releases says another digest than the user.
    #[error("{name} should be {wanted}, and the list of releases says {listed}")]
    OtherDigest {
        /// The archive.
        name: String,
        /// What the user wants.
        wanted: Digest,
        /// What the list says.
        listed: Digest,
    },
    /// An archive that is not unpacked.
    #[error("{name} is not unpacked: {why}")]
    Archive {
        /// The archive.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// What was unpacked does not run here.
    #[error("{version} was not installed, because it does not run here: {why}")]
    Useless {
        /// The release.
        version: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such version here.
    #[error("{version} of {program} is not installed")]
    NotInstalled {
        /// The program.
        program: String,
        /// The version.
        version: String,
        /// Those that are.
        there: Vec<String>,
    },
    /// Another process installs or removes.
    #[error("another process installs or removes in {}", folder.display())]
    Busy {
        /// Where.
        folder: PathBuf,
    },
    /// The system refused something.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// What an address of releases looks like.
const ADDRESS: &str = "the setting backend_source, or --source, has to end like \
    https://api.github.com/repos/ggml-org/llama.cpp/releases";

/// A result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What to do now, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Fetch(fetch::Error::Status { status: 404, .. }) => {
                "check the version, and the setting backend_source".into()
            }
            Error::Fetch(fetch::Error::Status { status: 403 | 429, .. }) => {
                "it is asked too often; try again later, or name a mirror with --source".into()
            }
            Error::Fetch(fetch::Error::Offline { .. }) => {
                "switch connections on, or put llama-server on PATH yourself".into()
            }
            Error::Fetch(fetch::Error::Unreachable { .. }) => {
                "check the connection; behind a proxy set HTTPS_PROXY; --source, or the setting backend_source, names a mirror"
                    .into()
            }
            Error::Fetch(fetch::Error::Malformed(_)) => ADDRESS.into(),
            Error::Fetch(error) => error.hint()?,
            Error::Version { .. } => {
                "`oprel backend list` shows what is installed; `oprel backend install` takes the newest".into()
            }
            Error::Insecure { .. } => "name an address that begins with https://".into(),
            Error::Release { .. } => ADDRESS.into(),
            Error::NoAsset { there, .. } if there.is_empty() => {
                "build llama.cpp here, and put llama-server on PATH".into()
            }
            Error::NoAsset { there, .. } => format!("--variant may be: {}", there.join(", ")),
            Error::NoDigest { .. } => "say --sha256 and the digest, if you know it".into(),
            Error::OtherDigest { .. } => "check the digest, and where it comes from".into(),
            Error::Archive { .. } => {
                "it is damaged, or somebody made it to do harm; try another version".into()
            }
            Error::Useless { .. } => {
                "try another --version or --variant, or build llama.cpp here".into()
            }
            Error::NotInstalled { there, .. } if there.is_empty() => {
                "nothing is installed; `oprel backend install` does".into()
            }
            Error::NotInstalled { there, .. } => format!("there are: {}", there.join(", ")),
            Error::Busy { .. } => "wait until it has finished".into(),
            Error::Io { .. } => {
                "check the folder and the disk; OPREL_BACKENDS names another".into()
            }
        })
    }

    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { doing, path, source }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let kind = match &error {
            Error::Fetch(fetch::Error::Malformed(_))
            | Error::Version { .. }
            | Error::Insecure { .. }
            | Error::NoAsset { .. }
            | Error::NoDigest { .. }
            | Error::OtherDigest { .. }
            | Error::NotInstalled { .. } => ErrorKind::Validation,
            Error::Fetch(_) | Error::Release { .. } | Error::Archive { .. } => ErrorKind::Download,
            _ => ErrorKind::Backend,
        };
        let hint = error.hint();
        Failure { hint, ..Failure::new(kind, error.to_string()) }
    }
}
