//! A registry that speaks Ollama's protocol: manifests by name, blobs by digest, and proving who asks.

mod push;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use oprel_api::ollama::ModelName;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, Url};
use tokio::sync::Mutex;

use crate::Digest;
use crate::http::{self, Auth, Client, Reached};

use super::error::{Error, Result};
use super::key::Key;
use super::link::{Later, Link, Locate, one_byte};
use super::settings::Settings;

/// Media type of manifests.
pub(crate) const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Bytes of a manifest.
const MOST_BYTES: usize = 4 << 20;

/// One model of a registry. Cheap to clone; clones share what was proved.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    client: Client,
    settings: Arc<Settings>,
    base: Url,
    name: ModelName,
    auth: Arc<Mutex<Option<Auth>>>,
}

/// Finds links to a blob.
#[derive(Debug)]
pub(crate) struct InRegistry {
    registry: Registry,
    digest: Digest,
}

impl Registry {
    /// Of a model's name. `insecure` is the user's word that a registry without TLS is well.
    ///
    /// # Errors
    /// If it has no TLS and nobody said so, or the name is none.
    pub(crate) fn new(
        client: Client,
        settings: Arc<Settings>,
        name: &ModelName,
        insecure: bool,
    ) -> Result<Registry> {
        let is_http = name.scheme.as_deref() == Some("http");
        if is_http && !insecure {
            return Err(Error::Insecure { host: name.host.clone() });
        }
        // As Ollama has it: who says that no security is well means http.
        let scheme =
            if insecure && name.scheme.as_deref() != Some("https") { "http" } else { "https" };
        let text = format!("{scheme}://{}/v2/{}/{}/", name.host, name.namespace, name.model);
        let base = text.parse().map_err(|_| Error::Malformed(format!("no registry: {text}")))?;
        Ok(Registry { client, settings, base, name: name.clone(), auth: Arc::default() })
    }

    /// The bytes of the manifest, as they are: their digest is the model's.
    ///
    /// # Errors
    /// If there is no such model, or no answer.
    pub(crate) async fn manifest(&self) -> Result<Vec<u8>> {
        let url = self.url(&format!("manifests/{}", self.name.tag))?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFEST));
        match self.ask(Method::GET, &url, &headers, false).await? {
            Reached::Answer(answer, at) if answer.status().is_success() => {
                http::body(answer, &at, MOST_BYTES).await
            }
            Reached::Answer(answer, _) if answer.status() == 404 => {
                Err(Error::NoModel { name: self.name.to_string() })
            }
            Reached::Answer(answer, at) => Err(http::refused(answer, &at).await),
            Reached::Elsewhere(..) => Err(Error::Stopped),
        }
    }

    /// Where a blob's bytes are found.
    pub(crate) fn source(&self, digest: Digest) -> InRegistry {
        InRegistry { registry: self.clone(), digest }
    }

    fn url(&self, tail: &str) -> Result<Url> {
        let wrong = |_| Error::Malformed(format!("no address: {tail}"));
        let url = self.base.join(tail).map_err(wrong)?;
        // A name is checked where it is read; should one ever lead out of its place, it stops here.
        match url.as_str().starts_with(self.base.as_str()) {
            true => Ok(url),
            false => Err(Error::Malformed(format!("'{tail}' leads out of {}", self.base))),
        }
    }

    /// Asks, and asks again with a proof if one is wanted.
    async fn ask(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        stay: bool,
    ) -> Result<Reached> {
        let auth = self.auth.lock().await.clone();
        let found = self.client.insist(method.clone(), url, headers, auth.as_ref(), stay).await?;
        let answer = match found {
            Reached::Answer(answer, at)
                if answer.status() == 401 && http::origin(&at) == http::origin(url) =>
            {
                answer
            }
            other => return Ok(other),
        };
        let auth = self.prove(&answer).await?;
        self.client.insist(method, url, headers, Some(&auth), stay).await
    }

    /// Answers a registry's challenge: a token for who signs with a key.
    async fn prove(&self, refused: &Response) -> Result<Auth> {
        let mut known = self.auth.lock().await;
        let challenge =
            refused.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let challenge =
            challenge.ok_or_else(|| self.closed("it does not say how to prove who we are"))?;
        let url = self.realm(challenge)?;
        let key = Key::find_or_make(&self.settings.keys)?;
        let proof = key.prove(&format!("GET,{url},{}", BASE64.encode(Digest::of(b"").hex())));
        let auth = Auth::new(&url, &proof)?;
        let (text, _) = self.client.document(&url, Some(&auth), MOST_BYTES).await.map_err(
            |error| match error {
                Error::Status { status: 401 | 403, message, .. } => {
                    self.closed(&format!("it does not know our key ({}) {message}", key.public()))
                }
                error => error,
            },
        )?;
        let answer: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let token = answer["token"].as_str().filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| self.closed("it gives no token"))?;
        let auth = Auth::bearer(&self.base, token)?;
        *known = Some(auth.clone());
        Ok(auth)
    }

    /// Where a challenge wants the proof; on the registry itself and nowhere else.
    fn realm(&self, challenge: &str) -> Result<Url> {
        let fields = challenge.trim().strip_prefix("Bearer ").map(fields).unwrap_or_default();
        let of =
            |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, v)| v.as_str());
        let realm = of("realm").and_then(|realm| realm.parse::<Url>().ok());
        let mut url = realm.ok_or_else(|| self.closed("its challenge makes no sense"))?;
        if url.host_str() != self.base.host_str() || url.scheme() != self.base.scheme() {
            return Err(self.closed(&format!("it wants the proof sent to {}", http::host(&url))));
        }
        let seconds =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut nonce = [0; 16];
        let wrong = |error: getrandom::Error| Error::Malformed(format!("no random bytes: {error}"));
        getrandom::fill(&mut nonce).map_err(wrong)?;
        let nonce = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(nonce);
        let mut pairs = url.query_pairs_mut();
        if let Some(service) = of("service") {
            pairs.append_pair("service", service);
        }
        for scope in of("scope").unwrap_or_default().split_whitespace() {
            pairs.append_pair("scope", scope);
        }
        pairs.append_pair("ts", &seconds.to_string()).append_pair("nonce", &nonce);
        drop(pairs);
        Ok(url)
    }

    fn closed(&self, why: &str) -> Error {
        Error::Unauthorized { host: self.name.host.clone(), why: why.into() }
    }
}

impl Locate for InRegistry {
    fn locate<'a>(&'a self, _: &'a Client) -> Later<'a, Result<Link>> {
        Box::pin(self.find())
    }
}

impl InRegistry {
    /// Asks for the size, then where the bytes are; parts are asked from there without any secret.
    async fn find(&self) -> Result<Link> {
        let registry = &self.registry;
        let url = registry.url(&format!("blobs/{}", self.digest))?;
        let size = match registry.ask(Method::HEAD, &url, &HeaderMap::new(), true).await? {
            Reached::Answer(answer, _) if answer.status().is_success() => {
                answer.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok())
            }
            Reached::Answer(answer, at) => return Err(http::refused(answer, &at).await),
            Reached::Elsewhere(..) => None,
        };
        match registry.ask(Method::GET, &url, &one_byte(), true).await? {
            Reached::Elsewhere(url, _) => Ok(Link { url, auth: None, size }),
            Reached::Answer(answer, url) if answer.status().is_success() => {
                let auth = registry.auth.lock().await.clone();
                Ok(Link { url, auth, size })
            }
            Reached::Answer(answer, at) => Err(http::refused(answer, &at).await),
        }
    }
}

/// `a="b",c="d"` as pairs.
fn fields(text: &str) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let mut rest = text;
    while let Some((name, behind)) = rest.split_once("=\"") {
        let Some((value, next)) = behind.split_once('"') else { break };
        fields.push((name.trim_matches([',', ' ']).to_ascii_lowercase(), value.to_owned()));
        rest = next;
    }
    fields
}

/// A header's value with a secret in it.
fn secret(auth: &Auth, url: &Url, headers: &mut HeaderMap) {
    if let Some(value) = auth.for_url(url) {
        headers.insert(AUTHORIZATION, value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_taken_apart() {
        let all = fields("realm=\"https://r/token\",service=\"s\", scope=\"a:b:pull,push c\"");
        let all: Vec<_> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let scope = ("scope", "a:b:pull,push c");
        assert_eq!(all, [("realm", "https://r/token"), ("service", "s"), scope]);
        for odd in ["", "realm", "realm=", "realm=\"", "=\"\"", "\"\"\""] {
            let _ = fields(odd);
        }
    }
}
