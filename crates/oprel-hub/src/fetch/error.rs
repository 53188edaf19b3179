//! Why something was not fetched, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Digest;

/// Why something was not fetched. Cheap to clone: all who wait for one file hear of it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The user wants no connections.
    #[error("{what} is not on this machine, and connections are switched off")]
    Offline {
        /// What was wanted.
        what: String,
    },
    /// A host cannot be reached.
    #[error("cannot reach {host}: {why}")]
    Unreachable {
        /// The host.
        host: String,
        /// Innermost reason.
        why: String,
    },
    /// A host does not prove who it is.
    #[error("no secure connection to {host}: {why}")]
    Tls {
        /// The host.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// A host answers, but not in TLS.
    #[error("{host} speaks no TLS")]
    NoTls {
        /// The host.
        host: String,
    },
    /// The proxy does not let it through.
    #[error("the proxy lets nothing through to {host}: {why}")]
    Proxy {
        /// Where it was to go.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// TLS or a proxy cannot be set up as they are configured.
    #[error("connections cannot be set up: {why}")]
    Setup {
        /// What is wrong.
        why: String,
        /// What to do.
        hint: Option<&'static str>,
    },
    /// A server answered with a status that says no.
    #[error("{host} answered {status} for {path}{}", said(message))]
    Status {
        /// The server.
        host: String,
        /// What was asked for.
        path: String,
        /// The status.
        status: u16,
        /// What the server says about it.
        message: String,
    },
    /// What a server sends makes no sense.
    #[error("{host} {why}")]
    Protocol {
        /// The server.
        host: String,
        /// What is wrong with its answer: `sent ...`.
        why: String,
    },
    /// A server sends to another place, and that is not followed.
    #[error("{host} sends to {to}, which is not followed: {why}")]
    Redirect {
        /// Who sends.
        host: String,
        /// Where to.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// Nothing came for too long.
    #[error("{host} sent nothing for too long")]
    Stalled {
        /// The server.
        host: String,
    },
    /// The connection ended before the file did.
    #[error("the connection to {host} broke: {why}")]
    Broken {
        /// The server.
        host: String,
        /// Innermost reason.
        why: String,
    },
    /// The file became another one while it was fetched, again and again.
    #[error("the file on {host} keeps changing while it is fetched")]
    Changed {
        /// The server.
        host: String,
    },
    /// The bytes are not those that were asked for.
    #[error("digest mismatch, file must be downloaded again: expected {expected}, got {got}")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        got: Digest,
    },
    /// A hub has no such repository.
    #[error("{hub} has no repository '{repo}' that can be seen from here")]
    NoRepository {
        /// The hub.
        hub: String,
        /// The repository.
        repo: String,
        /// Whether a token was shown.
        token: bool,
    },
    /// A repository has no such commit, branch or tag.
    #[error("'{repo}' has no revision '{revision}'")]
    NoRevision {
        /// The repository.
        repo: String,
        /// The revision.
        revision: String,
    },
    /// A repository has no file for a tag.
    #[error("'{repo}' has no file for '{tag}'")]
    NoVariant {
        /// The repository.
        repo: String,
        /// What was asked for.
        tag: String,
        /// What is there, the nearest first.
        there: Vec<String>,
    },
    /// A repository is open only to those who asked for it.
    #[error("'{repo}' is gated: its owner decides who may fetch it")]
    Gated {
        /// The repository.
        repo: String,
        /// Where to ask.
        page: String,
        /// Whether a token was shown.
        token: bool,
    },
    /// A registry has no such model.
    #[error("pull model manifest: file does not exist")]
    NoModel {
        /// The model.
        name: String,
    },
    /// A registry wants to know who asks.
    #[error("{host} does not let us in: {why}")]
    Unauthorized {
        /// The registry.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// A registry without TLS, and nobody said that this is well.
    #[error("insecure protocol http: {host} would be spoken to without TLS")]
    Insecure {
        /// The registry.
        host: String,
    },
    /// The disk is too small.
    #[error(
        "not enough space in {}: {} MB are needed, {} MB are free",
        folder.display(), needed_bytes.div_ceil(1_000_000), free_bytes / 1_000_000
    )]
    NoSpace {
        /// The folder.
        folder: PathBuf,
        /// What is needed, with what should stay free.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// A name, an address or a key makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// Nobody waits for it any more.
    #[error("the download was stopped; what has come is kept")]
    Stopped,
}

/// Result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Error {
    /// What the system says about a file.
    pub fn file(path: &Path, source: io::Error) -> Error {
        Error::File { path: path.into(), source: Arc::new(source) }
    }

    /// Whether the disk is full: trying again does not help.
    pub fn is_full(&self) -> bool {
        match self {
            Error::NoSpace { .. } => true,
            Error::File { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }

    /// What to do now, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Offline { .. } => "unset HF_HUB_OFFLINE and OPREL_OFFLINE, or fetch it on another machine".into(),
            Error::Unreachable { .. } => {
                "check the connection; behind a proxy set HTTPS_PROXY, with a mirror set HF_ENDPOINT".into()
            }
            Error::Tls { .. } => "if your network has an authority of its own, name its certificate: \
                OPREL_TLS_CA=authority.pem; also check this machine's clock"
                .into(),
            Error::Proxy { .. } => "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY".into(),
            Error::Setup { hint, .. } => (*hint)?.into(),
            Error::Status { status: 429, .. } => "it is asked too often; try again later, or with a token".into(),
            Error::Status { status: 500.., .. } => "the server has a problem; try again later".into(),
            Error::Stalled { .. } | Error::Broken { .. } | Error::Stopped => {
                "run the same command again: it goes on where it stopped".into()
            }
            Error::Digest { .. } => "what came was thrown away; try again, and another mirror if that repeats".into(),
            Error::NoRepository { token: false, .. } => {
                "check the spelling; if it is private, set HF_TOKEN to a token that may read it".into()
            }
            Error::NoRepository { .. } => "check the spelling, and whether your token may read it".into(),
            Error::NoVariant { there, .. } if there.is_empty() => "the repository has no GGUF files".into(),
            Error::NoVariant { there, .. } => format!("there are: {}", there.join(", ")),
            Error::Gated { page, token: false, .. } => {
                format!("ask for access at {page}, then set HF_TOKEN to a token of that account")
            }
            Error::Gated { page, .. } => {
                format!("ask for access at {page} with the account that your token belongs to")
            }
            Error::NoModel { name } => format!("check the spelling of {name}; `oprel search` finds names"),
            Error::NoTls { .. } | Error::Insecure { .. } => {
                "if it is one that you trust: `oprel pull NAME --insecure`, and `push` likewise".into()
            }
            Error::NoSpace { .. } => {
                "remove models with `oprel rm`, or set OPREL_MODELS to a folder on a larger disk".into()
            }
            Error::File { .. } if self.is_full() => "the disk is full; remove models with `oprel rm`".into(),
            Error::File { .. } => {
                "check that this user may write there, or set OPREL_MODELS to another folder".into()
            }
            _ => return None,
        };
        Some(hint)
    }
}

impl From<Error> for oprel_api::Failure {
    fn from(error: Error) -> oprel_api::Failure {
        let kind = match &error {
            Error::Malformed(_) | Error::Insecure { .. } => oprel_api::ErrorKind::Validation,
            _ => oprel_api::ErrorKind::Download,
        };
        let hint = error.hint();
        oprel_api::Failure { hint, ..oprel_api::Failure::new(kind, error.to_string()) }
    }
}
