//! The hub: repositories, their files, and links to where these are.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, LINK};
use axum::http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::bytes::{self, plain};
use crate::{Content, Fault, Inner, Role, Seen, TOKEN, lock};

/// Files from this size on are not kept in the repository itself.
const LARGE: u64 = 4096;

/// A repository.
#[derive(Clone, Debug)]
pub struct Repo {
    /// The commit that `main` is.
    pub commit: String,
    /// Its files by path.
    pub files: BTreeMap<String, Content>,
    /// Who may have them.
    pub gate: Gate,
    /// Whether large files are in the hub's other storage.
    pub is_xet: bool,
    /// What the hub read from its GGUF files.
    pub gguf: Value,
}

/// Who may have the files of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Everybody.
    Open,
    /// Who shows the hub's token.
    Token,
    /// Nobody who has asked so far.
    Closed,
    /// Only those who know the token may know of it.
    Private,
}

impl Default for Repo {
    fn default() -> Repo {
        Repo {
            commit: "c0ffee00".repeat(5),
            files: BTreeMap::new(),
            gate: Gate::Open,
            is_xet: false,
            gguf: json!({"total": 1_000_000, "architecture": "llama", "context_length": 2048}),
        }
    }
}

impl Repo {
    /// With a file.
    #[must_use]
    pub fn with(mut self, path: &str, content: Content) -> Repo {
        self.files.insert(path.into(), content);
        self
    }
}

pub(crate) fn answer(inner: &Inner, seen: &Seen, fault: Option<Fault>) -> Response<Body> {
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let path = decoded(path);
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["api", "models"] => search(inner, query),
        ["api", "models", owner, name, rest @ ..] => {
            let repo = format!("{owner}/{name}");
            match (found(inner, seen, &repo), rest) {
                (Err(refused), _) => *refused,
                (Ok(found), [] | ["revision", "main"]) => json(info(&repo, &found)),
                (Ok(found), ["revision", revision]) if *revision == found.commit => {
                    json(info(&repo, &found))
                }
                (Ok(found), ["tree", revision, ..]) if is_revision(&found, revision) => {
                    tree(inner, &repo, &found, revision, query)
                }
                _ => coded(StatusCode::NOT_FOUND, "RevisionNotFound", "Invalid rev id"),
            }
        }
        [owner, name, "resolve", revision, path @ ..] => {
            let repo = format!("{owner}/{name}");
            match found(inner, seen, &repo).and_then(|found| may(&found, seen).map(|()| found)) {
                Err(refused) => *refused,
                Ok(found) if !is_revision(&found, revision) => {
                    coded(StatusCode::NOT_FOUND, "RevisionNotFound", "Invalid rev id")
                }
                Ok(found) => resolve(inner, seen, &found, &path.join("/"), fault),
            }
        }
        _ => plain(StatusCode::NOT_FOUND, ""),
    }
}

fn is_revision(repo: &Repo, revision: &str) -> bool {
    revision == "main" || revision == repo.commit
}

fn has_token(seen: &Seen) -> bool {
    seen.headers.get(AUTHORIZATION).is_some_and(|value| value == &format!("Bearer {TOKEN}"))
}

/// The repository, if the caller may know of it.
fn found(inner: &Inner, seen: &Seen, name: &str) -> Result<Repo, Box<Response<Body>>> {
    let repo = lock(&inner.repos).get(name).cloned();
    let is_known = has_token(seen);
    match repo.filter(|repo| repo.gate != Gate::Private || is_known) {
        Some(repo) => Ok(repo),
        // The hub does not tell strangers what is not there from what is private.
        None if !is_known => {
            let said = "Invalid username or password.";
            Err(Box::new(coded(StatusCode::UNAUTHORIZED, "RepoNotFound", said)))
        }
        None => Err(Box::new(coded(StatusCode::NOT_FOUND, "RepoNotFound", "Repository not found"))),
    }
}

/// Nothing, if the caller may have files.
fn may(repo: &Repo, seen: &Seen) -> Result<(), Box<Response<Body>>> {
    let gated =
        |status| Err(Box::new(coded(status, "GatedRepo", "Access to this model is restricted")));
    match repo.gate {
        Gate::Token if !has_token(seen) => gated(StatusCode::UNAUTHORIZED),
        Gate::Closed if !has_token(seen) => gated(StatusCode::UNAUTHORIZED),
        Gate::Closed => gated(StatusCode::FORBIDDEN),
        _ => Ok(()),
    }
}

fn info(name: &str, repo: &Repo) -> Value {
    let siblings: Vec<_> = repo.files.keys().map(|path| json!({"rfilename": path})).collect();
    json!({
        "_id": "0123456789abcdef01234567", "id": name, "modelId": name, "sha": repo.commit,
        "private": repo.gate == Gate::Private,
        "gated": if matches!(repo.gate, Gate::Token | Gate::Closed) { json!("manual") } else { json!(false) },
        "lastModified": "2026-11-01T00:00:00.000Z", "createdAt": "2026-10-01T00:00:00.000Z",
        "disabled": false, "downloads": 12, "likes": 3, "tags": ["gguf"], "siblings": siblings,
        "gguf": repo.gguf, "usedStorage": 0, "author": name.split('/').next(),
    })
}

fn tree(inner: &Inner, name: &str, repo: &Repo, revision: &str, query: &str) -> Response<Body> {
    let page = inner.page.load(Ordering::Relaxed);
    let cursor = query.split('&').find_map(|pair| pair.strip_prefix("cursor="));
    let from: usize = cursor.and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let entries: Vec<_> = repo.files.iter().skip(from).take(page).map(entry).collect();
    let mut answer = json(Value::Array(entries));
    if from + page < repo.files.len() {
        let hub = inner.url(Role::Hub);
        let next =
            format!("<{hub}/api/models/{name}/tree/{revision}?recursive=1&cursor={}>", from + page);
        let next = HeaderValue::from_str(&format!("{next}; rel=\"next\"")).expect("a header");
        answer.headers_mut().insert(LINK, next);
    }
    answer
}

fn entry((path, content): (&String, &Content)) -> Value {
    let mut entry = json!({
        "type": "file", "oid": small_name(content), "size": content.size(), "path": path,
    });
    if content.size() >= LARGE {
        entry["lfs"] = json!({"oid": content.digest(), "size": content.size(), "pointerSize": 134});
    }
    entry
}

/// As the hub names what is in a repository itself: 40 digits.
fn small_name(content: &Content) -> String {
    content.digest()[..40].to_owned()
}

fn resolve(
    inner: &Inner,
    seen: &Seen,
    repo: &Repo,
    path: &str,
    fault: Option<Fault>,
) -> Response<Body> {
    let Some(content) = repo.files.get(path) else {
        return coded(StatusCode::NOT_FOUND, "EntryNotFound", "Entry not found");
    };
    let with_body = seen.method != Method::HEAD;
    let mut answer = if content.size() >= LARGE {
        let role = if repo.is_xet { Role::Bridge } else { Role::Cdn };
        let mut answer = bytes::to(StatusCode::FOUND, &inner.link(role, content.digest(), path));
        let headers = answer.headers_mut();
        let linked = format!("\"{}\"", content.digest()).parse().expect("a header");
        headers.insert("x-linked-etag", linked);
        headers.insert("x-linked-size", content.size().into());
        if repo.is_xet {
            headers.insert("x-xet-hash", content.digest().parse().expect("a header"));
        }
        answer
    } else {
        let etag = format!("\"{}\"", small_name(content));
        let sent = seen.sent.clone();
        bytes::answer(content, &etag, &seen.headers, fault, 0, with_body, sent)
    };
    if answer.status() == StatusCode::FOUND {
        let etag = format!("\"{}\"", small_name(content)).parse().expect("a header");
        answer.headers_mut().insert(ETAG, etag);
    }
    answer.headers_mut().insert("x-repo-commit", repo.commit.parse().expect("a header"));
    answer
}

fn search(inner: &Inner, query: &str) -> Response<Body> {
    let of = |name: &str| {
        query.split('&').find_map(|pair| pair.strip_prefix(name)).map(decoded).unwrap_or_default()
    };
    let words = of("search=").to_lowercase();
    let limit = of("limit=").parse().unwrap_or(20);
    let repos = lock(&inner.repos);
    let hits = repos
        .iter()
        .filter(|(name, repo)| repo.gate != Gate::Private && name.to_lowercase().contains(&words));
    json(Value::Array(hits.take(limit).map(|(name, repo)| info(name, repo)).collect()))
}

/// An error as the hub says it: with its code in a header.
fn coded(status: StatusCode, code: &'static str, message: &'static str) -> Response<Body> {
    let mut answer = plain(status, &json!({"error": message}).to_string());
    answer.headers_mut().insert("x-error-code", HeaderValue::from_static(code));
    answer.headers_mut().insert("x-error-message", HeaderValue::from_static(message));
    answer
}

pub(crate) fn json(value: Value) -> Response<Body> {
    let mut answer = plain(StatusCode::OK, &value.to_string());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Without `%20` and `+`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        match (first, code.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
