//! A registry that speaks Ollama's protocol: manifests, blobs behind links, keys that prove who asks, uploads.

use std::sync::atomic::Ordering;

use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, ETAG, WWW_AUTHENTICATE};
use axum::http::{Method, Response, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};

use crate::bytes::{self, plain};
use crate::hub::json;
use crate::{Content, Fault, Inner, Role, Seen, lock};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// What the registry gives out to who has proved who it is.
const TOKEN: &str = "registry-token";
/// More than a test uploads at once.
const MOST_UPLOADED: usize = 256 << 20;

/// A model of the registry.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Media types and contents; the first is the configuration.
    pub layers: Vec<(String, Content)>,
    /// Whether only those may have it who prove who they are.
    pub is_private: bool,
    /// Where to prove it, if that is not the registry itself.
    pub realm: Option<String>,
}

impl Model {
    /// With a configuration.
    pub fn new(config: &str) -> Model {
        let layers = vec![(CONFIG.to_owned(), Content::kept(config.to_owned()))];
        Model { layers, ..Model::default() }
    }

    /// With a layer: `model`, `template`, ...
    #[must_use]
    pub fn with(mut self, kind: &str, content: Content) -> Model {
        self.layers.push((format!("application/vnd.ollama.image.{kind}"), content));
        self
    }

    /// Its manifest.
    pub fn manifest(&self) -> Value {
        let layer = |(kind, content): &(String, Content)| {
            let digest = format!("sha256:{}", content.digest());
            json!({"mediaType": kind, "digest": digest, "size": content.size()})
        };
        let mut layers = self.layers.iter().map(layer);
        let config = layers.next().unwrap_or_default();
        let layers: Vec<_> = layers.collect();
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})
    }
}

pub(crate) async fn answer(
    inner: &Inner,
    seen: &Seen,
    body: Body,
    fault: Option<Fault>,
) -> Response<Body> {
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match (&seen.method, parts.as_slice()) {
        (&Method::GET, ["token"]) => token(inner, seen),
        (_, ["v2", owner, model, ..]) if !may(inner, seen, owner, model) => {
            challenge(inner, owner, model)
        }
        (&Method::GET, ["v2", owner, model, "manifests", tag]) => {
            match lock(&inner.models).get(&format!("{owner}/{model}:{tag}")) {
                Some(found) => json(found.manifest()),
                None => {
                    plain(StatusCode::NOT_FOUND, "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\"}]}")
                }
            }
        }
        (&Method::PUT, ["v2", owner, model, "manifests", tag]) => {
            let text = to_bytes(body, MOST_UPLOADED).await.unwrap_or_default();
            put_manifest(inner, &format!("{owner}/{model}:{tag}"), &text)
        }
        (&Method::GET | &Method::HEAD, ["v2", _, _, "blobs", digest]) => {
            blob(inner, seen, digest.trim_start_matches("sha256:"), fault)
        }
        (&Method::POST, ["v2", owner, model, "blobs", "uploads", ""]) => {
            let number =
                inner.time.load(Ordering::Relaxed) * 1000 + lock(&inner.uploads).len() as u64;
            lock(&inner.uploads).insert(number, Vec::new());
            located(inner, StatusCode::ACCEPTED, owner, model, number)
        }
        (&Method::PATCH, ["v2", owner, model, "blobs", "uploads", number]) => {
            let number = number.parse().unwrap_or(0);
            let bytes = to_bytes(body, MOST_UPLOADED).await.unwrap_or_default();
            lock(&inner.uploads).entry(number).or_default().extend_from_slice(&bytes);
            located(inner, StatusCode::ACCEPTED, owner, model, number)
        }
        (&Method::PUT, ["v2", _, _, "blobs", "uploads", number]) => {
            let bytes =
                lock(&inner.uploads).remove(&number.parse().unwrap_or(0)).unwrap_or_default();
            let content = Content::kept(bytes);
            let digest = query.split('&').find_map(|pair| pair.strip_prefix("digest="));
            let digest = digest.unwrap_or_default().replace("%3A", ":");
            if digest != format!("sha256:{}", content.digest()) {
                return plain(
                    StatusCode::BAD_REQUEST,
                    "{\"errors\":[{\"message\":\"digest invalid\"}]}",
                );
            }
            inner.keep(&content);
            plain(StatusCode::CREATED, "")
        }
        _ => plain(StatusCode::NOT_FOUND, ""),
    }
}

fn located(
    inner: &Inner,
    status: StatusCode,
    owner: &str,
    model: &str,
    number: u64,
) -> Response<Body> {
    let hub = inner.url(Role::Registry);
    bytes::to(status, &format!("{hub}/v2/{owner}/{model}/blobs/uploads/{number}"))
}

fn blob(inner: &Inner, seen: &Seen, digest: &str, fault: Option<Fault>) -> Response<Body> {
    let Some(content) = lock(&inner.files).get(digest).cloned() else {
        return plain(StatusCode::NOT_FOUND, "");
    };
    if seen.method == Method::HEAD {
        let mut answer = plain(StatusCode::OK, "");
        answer.headers_mut().insert(CONTENT_LENGTH, content.size().into());
        return answer;
    }
    // Small things are sent at once, large ones are elsewhere.
    if content.size() < 1024 {
        let etag = format!("\"{digest}\"");
        let sent = seen.sent.clone();
        return bytes::answer(&content, &etag, &seen.headers, fault, 0, true, sent);
    }
    let mut answer =
        bytes::to(StatusCode::TEMPORARY_REDIRECT, &inner.link(Role::Cdn, digest, "data"));
    answer.headers_mut().insert(ETAG, format!("\"{digest}\"").parse().expect("a header"));
    answer
}

fn put_manifest(inner: &Inner, name: &str, text: &[u8]) -> Response<Body> {
    let manifest: Value = serde_json::from_slice(text).unwrap_or_default();
    let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
    let mut model = Model::default();
    for layer in [&manifest["config"]].into_iter().chain(&layers) {
        let digest = layer["digest"].as_str().unwrap_or_default().trim_start_matches("sha256:");
        let Some(content) = lock(&inner.files).get(digest).cloned() else {
            return plain(StatusCode::BAD_REQUEST, "{\"errors\":[{\"message\":\"blob unknown\"}]}");
        };
        model.layers.push((layer["mediaType"].as_str().unwrap_or_default().into(), content));
    }
    lock(&inner.models).insert(name.into(), model);
    plain(StatusCode::CREATED, "")
}

/// Whether the caller may do what it wants: to write, one must be known.
fn may(inner: &Inner, seen: &Seen, owner: &str, model: &str) -> bool {
    let begin = format!("{owner}/{model}:");
    let is_private =
        lock(&inner.models).iter().any(|(name, m)| name.starts_with(&begin) && m.is_private);
    let reads = matches!(seen.method, Method::GET | Method::HEAD);
    let is_known = seen.headers.get(AUTHORIZATION).is_some_and(|v| v == &format!("Bearer {TOKEN}"));
    is_known || (reads && !is_private)
}

fn challenge(inner: &Inner, owner: &str, model: &str) -> Response<Body> {
    let begin = format!("{owner}/{model}:");
    let realm = lock(&inner.models)
        .iter()
        .find(|(name, _)| name.starts_with(&begin))
        .and_then(|(_, found)| found.realm.clone())
        .unwrap_or_else(|| format!("{}/token", inner.url(Role::Registry)));
    let said = format!(
        "Bearer realm=\"{realm}\",service=\"stand-in\",scope=\"repository:{owner}/{model}:pull,push\""
    );
    let mut answer = plain(StatusCode::UNAUTHORIZED, "{\"errors\":[{\"code\":\"UNAUTHORIZED\"}]}");
    answer.headers_mut().insert(WWW_AUTHENTICATE, said.parse().expect("a header"));
    answer
}

/// A token for who signs the address with the key that it shows.
fn token(inner: &Inner, seen: &Seen) -> Response<Body> {
    let signed = format!("GET,{}{},{}", inner.url(Role::Registry), seen.path, nothing());
    let proof = seen.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match proof.and_then(|proof| is_signed(proof, &signed)) {
        Some(()) if seen.path.contains("ts=") && seen.path.contains("nonce=") => {
            json(json!({"token": TOKEN}))
        }
        _ => plain(StatusCode::UNAUTHORIZED, "{\"error\":\"signature\"}"),
    }
}

fn is_signed(proof: &str, text: &str) -> Option<()> {
    let (key, signature) = proof.split_once(':')?;
    let key = BASE64.decode(key).ok()?;
    // Two texts, each behind its length: the kind of key and the key.
    let key: [u8; 32] = key.strip_prefix(b"\0\0\0\x0bssh-ed25519\0\0\0 ")?.try_into().ok()?;
    let signature = Signature::from_slice(&BASE64.decode(signature).ok()?).ok()?;
    VerifyingKey::from_bytes(&key).ok()?.verify_strict(text.as_bytes(), &signature).ok()
}

/// The digest of no bytes, in digits, in base 64.
fn nothing() -> String {
    BASE64.encode(Content::kept("").digest())
}
