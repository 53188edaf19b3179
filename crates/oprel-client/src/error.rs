//! Why a daemon did not do what it was asked to.

use oprel_api::{ErrorKind, Failure};
use serde_json::Value;

/// Why a daemon did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Where it is cannot be told from what is set.
    #[error(transparent)]
    Settings(#[from] oprel_config::Error),
    /// Nobody answers there.
    #[error("no daemon answers at {endpoint}: {why}")]
    Unreachable {
        /// Where it was looked for.
        endpoint: String,
        /// What the system says.
        why: String,
    },
    /// What answers there is not believed to be the daemon.
    #[error("what answers at {endpoint} is not trusted: {why}")]
    Untrusted {
        /// Where it was looked for.
        endpoint: String,
        /// What TLS says.
        why: String,
    },
    /// There is no program that could be started.
    #[error("no daemon answers, and none can be started: {what}")]
    NoProgram {
        /// What was looked for.
        what: String,
    },
    /// None answers at a place where none can be started.
    #[error("no daemon answers at {endpoint}, and one can be started on this machine alone")]
    Elsewhere {
        /// Where it was looked for.
        endpoint: String,
    },
    /// It was started and does not answer.
    #[error("the daemon did not start: {why}")]
    NotStarted {
        /// What it said.
        why: String,
        /// What it says can be done.
        hint: Option<String>,
    },
    /// It refused.
    #[error("{failure}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it says.
        failure: Failure,
    },
    /// A file that was to be sent cannot be read.
    #[error("the file cannot be read: {why}")]
    File {
        /// What the system says.
        why: String,
    },
    /// Its answer was not what was expected.
    #[error("the daemon's answer cannot be read: {what}")]
    Answer {
        /// What was wrong with it.
        what: String,
    },
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A refusal, as its body says, in our dialect or another.
    pub(crate) fn refused(status: u16, body: &[u8]) -> Error {
        let value = serde_json::from_slice(body);
        // A model that is not there is told of in JSON; a route that is not, in plain words.
        let is_route = status == 404 && value.is_err();
        let value: Value = value.unwrap_or_default();
        let whole = serde_json::from_value(value["failure"].clone()).ok();
        let failure = whole.unwrap_or_else(|| {
            let text = value["error"].as_str().or(value["error"]["message"].as_str());
            let plain = || String::from_utf8_lossy(body).chars().take(500).collect();
            let message = text.map_or_else(plain, str::to_string);
            let kind = match status {
                _ if is_route => {
                    let message = "the daemon does not know this request: is it of this version?";
                    return Failure::new(ErrorKind::Backend, message);
                }
                404 => ErrorKind::ModelNotFound,
                400..500 => ErrorKind::Validation,
                _ => ErrorKind::Backend,
            };
            let message = if message.is_empty() { format!("status {status}") } else { message };
            let hint = value["hint"].as_str().map(str::to_string);
            Failure { hint, ..Failure::new(kind, message) }
        });
        Error::Refused { status, failure }
    }
}

/// What to do where a certificate is not trusted.
pub const DISTRUST: &str =
    "where the certificate is of an authority of your own, name that: OPREL_TLS_CA=authority.pem";

/// The innermost reason of an error: what the system said.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut why = error;
    while let Some(source) = why.source() {
        why = source;
    }
    why.to_string()
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let message = error.to_string();
        let hint = match error {
            Error::Refused { failure, .. } => return failure,
            Error::Settings(error) => {
                let hint = error.hint().map(str::to_owned);
                return Failure { hint, ..Failure::new(ErrorKind::Validation, message) };
            }
            Error::Unreachable { .. } | Error::Elsewhere { .. } => {
                Some("start one with `oprel serve`".to_string())
            }
            Error::Untrusted { .. } => Some(DISTRUST.to_string()),
            Error::NoProgram { .. } => {
                Some("set OPREL_BIN to the program oprel, or put it on PATH".to_string())
            }
            Error::NotStarted { hint, .. } => {
                hint.or_else(|| Some("`oprel serve` says why".to_string()))
            }
            Error::Answer { .. } | Error::File { .. } => None,
        };
        Failure { hint, ..Failure::new(ErrorKind::Backend, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_the_daemon_said() {
        let message = |status, body: &str| Failure::from(Error::refused(status, body.as_bytes()));
        assert_eq!(
            message(404, r#"{"error":"model 'x' not found"}"#).kind,
            ErrorKind::ModelNotFound
        );
        assert_eq!(message(400, r#"{"error":{"message":"bad"}}"#).message, "bad");
        let hinted = message(200, r#"{"error":"gone","hint":"look"}"#);
        assert_eq!((hinted.message.as_str(), hinted.hint.as_deref()), ("gone", Some("look")));
        assert_eq!(message(404, "404 page not found").kind, ErrorKind::Backend);
        assert_eq!(message(502, "").message, "status 502");
        assert_eq!(message(500, "<html>").message, "<html>");
        let whole = r#"{"error":"e","failure":{"kind":"memory","message":"e","hint":"h"}}"#;
        assert_eq!(message(503, whole).hint.as_deref(), Some("h"));
    }
}
