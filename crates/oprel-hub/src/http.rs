//! Asking servers over HTTP: who is told a secret, which redirects are followed, what a failure means.
//!
//! Redirects are followed by hand, because a secret goes to the host that it is for and to no other.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};

use crate::fetch::{Error, Result};

/// Redirects that are followed for one request.
const MOST_REDIRECTS: usize = 10;
/// Times that a small request is tried.
const TRIES: u32 = 5;
/// The longest that a server may have us wait.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// Bytes of an error's explanation that are read.
const MOST_EXPLANATION: usize = 64 << 10;

/// Connections to servers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    small: reqwest::Client,
    bulk: reqwest::Client,
    backoff: Duration,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Until a connection is there, and between two pieces of an answer.
    pub(crate) stall: Duration,
    /// Before a second try; doubled for each further one.
    pub(crate) backoff: Duration,
}

/// A secret, and the only server that may see it.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    origin: String,
    header: HeaderValue,
}

/// What a chain of redirects led to.
#[derive(Debug)]
pub(crate) enum Reached {
    /// An answer, and the address that gave it.
    Answer(Response, Url),
    /// An address on another server, which was not asked, and what the one that sends there says.
    Elsewhere(Url, HeaderMap),
}

impl Auth {
    /// `Bearer` with a token, for the server of this address.
    ///
    /// # Errors
    /// If the token has characters that no header may have.
    pub(crate) fn bearer(url: &Url, token: &str) -> Result<Auth> {
        Auth::new(url, &format!("Bearer {token}"))
    }

    /// A value for the server of this address.
    pub(crate) fn new(url: &Url, value: &str) -> Result<Auth> {
        let mut header = HeaderValue::from_str(value).map_err(|_| {
            Error::Malformed(
                "the token has characters that a token cannot have: set HF_TOKEN anew".into(),
            )
        })?;
        header.set_sensitive(true);
        Ok(Auth { origin: origin(url), header })
    }

    /// The header's value, if this address is on the server that it is for.
    pub(crate) fn for_url(&self, url: &Url) -> Option<&HeaderValue> {
        (origin(url) == self.origin).then_some(&self.header)
    }
}

impl Client {
    /// Trusts `authorities` besides the usual ones. Proxies are those of the environment.
    ///
    /// # Errors
    /// If TLS or a proxy cannot be set up as they are configured.
    pub(crate) fn new(authorities: Option<&Path>, patience: Patience) -> Result<Client> {
        let build = |protocols: &[&[u8]], only_http1: bool| {
            let tls = oprel_tls::client_config(authorities, protocols)
                .map_err(|error| Error::Setup { why: error.to_string(), hint: error.hint() })?;
            let mut builder = reqwest::Client::builder()
                .use_preconfigured_tls(tls)
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(patience.stall)
                .read_timeout(patience.stall)
                .tcp_nodelay(true)
                .pool_idle_timeout(Duration::from_secs(20))
                .user_agent(concat!("oprel/", env!("CARGO_PKG_VERSION")));
            if only_http1 {
                builder = builder.http1_only();
            }
            let setup = |error: reqwest::Error| Error::Setup { why: innermost(&error), hint: None };
            builder.build().map_err(setup)
        };
        Ok(Client {
            small: build(oprel_tls::HTTP, false)?,
            // Each part has a connection of its own: streams of one would share its window.
            bulk: build(&[b"http/1.1"], true)?,
            backoff: patience.backoff,
        })
    }

    /// Asks once, and follows redirects: all of them, or those on the same server.
    ///
    /// # Errors
    /// If there is no answer, or a redirect leads where none should.
    pub(crate) async fn reach(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        auth: Option<&Auth>,
        stay: bool,
    ) -> Result<Reached> {
        let mut at = url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let mut request =
                self.small.request(method.clone(), at.clone()).headers(headers.clone());
            if let Some(value) = auth.and_then(|auth| auth.for_url(&at)) {
                request = request.header(AUTHORIZATION, value);
            }
            let answer = request.send().await.map_err(|error| failed(&at, &error))?;
            let Some(to) = redirect(&answer, &at)? else { return Ok(Reached::Answer(answer, at)) };
            if stay && origin(&to) != origin(url) {
                return Ok(Reached::Elsewhere(to, answer.headers().clone()));
            }
            at = to;
        }
        let why = "there is no end of redirects";
        Err(Error::Redirect { host: host(url), to: shown(&at), why })
    }

    /// Asks for bytes of a file. Redirects are followed without any secret.
    ///
    /// # Errors
    /// As [`Client::reach`].
    pub(crate) async fn bytes_of(
        &self,
        url: &Url,
        headers: &HeaderMap,
        auth: Option<&Auth>,
    ) -> Result<Response> {
        let mut at = url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.bulk.get(at.clone()).headers(headers.clone());
            if let Some(value) = auth.and_then(|auth| auth.for_url(&at)) {
                request = request.header(AUTHORIZATION, value);
            }
            let answer = request.send().await.map_err(|error| failed(&at, &error))?;
            match redirect(&answer, &at)? {
                Some(to) => at = to,
                None => return Ok(answer),
            }
        }
        let why = "there is no end of redirects";
        Err(Error::Redirect { host: host(url), to: shown(&at), why })
    }

    /// As [`Client::reach`], again where a server is busy or a connection breaks.
    ///
    /// # Errors
    /// As [`Client::reach`]; also once all tries are used up.
    pub(crate) async fn insist(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        auth: Option<&Auth>,
        stay: bool,
    ) -> Result<Reached> {
        for tried in 1.. {
            let found = self.reach(method.clone(), url, headers, auth, stay).await;
            let (wait, tries) = match &found {
                Ok(Reached::Answer(answer, _)) if is_busy(answer.status()) => {
                    (retry_after(answer), TRIES)
                }
                Err(Error::Broken { .. } | Error::Stalled { .. }) => (None, TRIES),
                // Without a network nobody should wait long to hear of it.
                Err(Error::Unreachable { .. }) => (None, 2),
                _ => return found,
            };
            if tried >= tries {
                return found;
            }
            tokio::time::sleep(wait.unwrap_or(self.backoff_of(tried))).await;
        }
        Err(Error::Stopped)
    }

    /// A small document, and the headers that came with it.
    ///
    /// # Errors
    /// If the server says no, or the document has more than `most` bytes.
    pub(crate) async fn document(
        &self,
        url: &Url,
        auth: Option<&Auth>,
        most: usize,
    ) -> Result<(Vec<u8>, HeaderMap)> {
        let found = self.insist(Method::GET, url, &HeaderMap::new(), auth, false).await?;
        let Reached::Answer(answer, at) = found else { return Err(Error::Stopped) };
        if !answer.status().is_success() {
            return Err(refused(answer, &at).await);
        }
        let headers = answer.headers().clone();
        Ok((body(answer, &at, most).await?, headers))
    }

    /// How long to wait after so many tries.
    pub(crate) fn backoff_of(&self, tried: u32) -> Duration {
        (self.backoff * (1 << tried.min(7).saturating_sub(1))).min(LONGEST_WAIT)
    }

    /// For requests that nothing here has a form for.
    pub(crate) fn raw(&self) -> &reqwest::Client {
        &self.small
    }
}

/// Where an answer sends to, if it does and may.
fn redirect(answer: &Response, at: &Url) -> Result<Option<Url>> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let to = location.and_then(|location| at.join(location).ok()).ok_or_else(|| {
        Error::Protocol { host: host(at), why: "sent a redirect to nowhere".into() }
    })?;
    let refused = |why| Err(Error::Redirect { host: host(at), to: shown(&to), why });
    match (at.scheme(), to.scheme()) {
        ("https", "http") => refused("it would give up the secure connection"),
        (_, "http" | "https") => Ok(Some(to)),
        _ => refused("it is no address of the web"),
    }
}

/// Reads an answer to its end.
///
/// # Errors
/// If it has more than `most` bytes or breaks off.
pub(crate) async fn body(mut answer: Response, at: &Url, most: usize) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| failed(at, &error))? {
        if all.len() + piece.len() > most {
            let why = format!("sent more than {most} bytes for {}", at.path());
            return Err(Error::Protocol { host: host(at), why });
        }
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

/// What an answer that says no comes to.
pub(crate) async fn refused(answer: Response, at: &Url) -> Error {
    let status = answer.status().as_u16();
    let text = body(answer, at, MOST_EXPLANATION).await.unwrap_or_default();
    Error::Status { host: host(at), path: at.path().into(), status, message: explanation(&text) }
}

/// The sentence in an error's document: a field `error`, or a registry's list of errors.
fn explanation(text: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    let message = value["error"].as_str().or_else(|| value["errors"][0]["message"].as_str());
    message.unwrap_or_default().chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Whether a server may answer otherwise a little later.
pub(crate) fn is_busy(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

/// How long a server asks to wait. Dates are not read: only seconds are sent in practice.
pub(crate) fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// What a request that got no answer, or half of one, comes to.
pub(crate) fn failed(url: &Url, error: &reqwest::Error) -> Error {
    let (host, why) = (host(url), innermost(error));
    if oprel_tls::is_refusal(error) {
        return Error::Tls { host, why };
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if said.contains("tunnel") || said.contains("proxy") {
            return Error::Proxy { host, why };
        }
        cause = inner.source();
    }
    match () {
        // As rustls names an answer that is no TLS.
        () if why.contains("InvalidContentType") => Error::NoTls { host },
        // As the resolver says it, with all that it asked for.
        () if why.contains("no records found") => {
            Error::Unreachable { host, why: "no address is known for this name".into() }
        }
        () if error.is_connect() => Error::Unreachable { host, why },
        () if error.is_timeout() => Error::Stalled { host },
        () => Error::Broken { host, why },
    }
}

/// The reason that has none itself.
fn innermost(error: &reqwest::Error) -> String {
    let mut at: &dyn std::error::Error = error;
    while let Some(inner) = at.source() {
        at = inner;
    }
    at.to_string()
}

/// Scheme, host and port: who is spoken to.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The host and its port, to be shown.
pub(crate) fn host(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or("nowhere"))
}

/// An address to be shown: without what it is signed with.
pub(crate) fn shown(url: &Url) -> String {
    format!("{}{}", origin(url), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_for_one_scheme_host_and_port() {
        let url = |text: &str| text.parse::<Url>().expect("an address");
        let auth = Auth::bearer(&url("https://hub.example/a"), "s").expect("a token");
        assert!(auth.for_url(&url("https://hub.example:443/b?c")).is_some());
        for other in [
            "http://hub.example/a",
            "https://hub.example:444/a",
            "https://hub.example.evil/a",
            "https://a.hub.example/a",
            "https://hub.example@evil.example/a",
        ] {
            assert!(auth.for_url(&url(other)).is_none(), "{other}");
        }
        assert!(Auth::bearer(&url("https://hub.example/a"), "a\nb").is_err());
        assert!(!format!("{auth:?}").contains("Bearer"));
    }

    #[test]
    fn what_is_shown_has_no_signature() {
        let url: Url = "https://cdn.example:8443/x/y?Signature=abc#f".parse().expect("an address");
        assert_eq!(shown(&url), "https://cdn.example:8443/x/y");
        assert_eq!(host(&url), "cdn.example:8443");
    }
}
