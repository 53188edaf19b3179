//! A hub that speaks Hugging Face's protocol: which commit a name is, what files it has, where their bytes are.

mod choose;
mod search;

use reqwest::header::{HeaderMap, LINK};
use reqwest::{Method, Url};
use serde_json::Value;

use crate::Digest;
use crate::http::{self, Auth, Client, Reached};

use super::error::{Error, Result};
use super::link::{Later, Link, Locate};
use super::settings::Settings;

pub use choose::{Choice, File, choose, variants};
pub use search::{Found, Variant};

/// Bytes of a document that lists things.
const MOST_LISTED: usize = 32 << 20;
/// Documents that a list may be spread over.
const MOST_PAGES: usize = 200;

/// A hub. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    client: Client,
    endpoint: Url,
    auth: Option<Auth>,
}

/// A repository at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Owner and name, as the hub writes them.
    pub(crate) repo: String,
    /// What a branch or tag was when it was asked for.
    pub(crate) commit: String,
    /// What the hub read from the repository's GGUF files.
    pub(crate) gguf: Value,
}

/// Finds links to a file of a hub.
#[derive(Debug)]
pub(crate) struct OnHub {
    hub: Hub,
    repo: String,
    commit: String,
    file: File,
}

impl Hub {
    /// As the settings say.
    ///
    /// # Errors
    /// If the token has characters that no token has.
    pub(crate) fn new(client: Client, settings: &Settings) -> Result<Hub> {
        let endpoint = settings.endpoint.clone();
        let auth =
            settings.token.as_ref().map(|token| Auth::bearer(&endpoint, token)).transpose()?;
        Ok(Hub { client, endpoint, auth })
    }

    /// The hub's name, to be shown.
    pub(crate) fn name(&self) -> String {
        http::host(&self.endpoint)
    }

    /// The repository's page.
    pub(crate) fn page(&self, repo: &str) -> String {
        format!("{}{repo}", self.endpoint)
    }

    /// Which commit a branch or tag is.
    ///
    /// # Errors
    /// If there is no such repository or revision that can be seen.
    pub(crate) async fn commit(&self, repo: &str, revision: &str) -> Result<Commit> {
        let url = self.url(&["api", "models"], repo, &["revision", revision]);
        let (value, _) = self.json(&url, repo, revision).await?;
        let commit = value["sha"].as_str().filter(|sha| is_commit(sha));
        let commit = commit.ok_or_else(|| self.nonsense("says of no commit what it is"))?;
        let name = value["id"].as_str().unwrap_or(repo);
        Ok(Commit { repo: name.into(), commit: commit.into(), gguf: value["gguf"].clone() })
    }

    /// All files of a commit.
    ///
    /// # Errors
    /// If they are not told, or a name makes no sense.
    pub(crate) async fn files(&self, repo: &str, commit: &str) -> Result<Vec<File>> {
        let mut url = self.url(&["api", "models"], repo, &["tree", commit]);
        url.set_query(Some("recursive=1"));
        let mut files = Vec::new();
        for _ in 0..MOST_PAGES {
            let (value, headers) = self.json(&url, repo, commit).await?;
            let entries = value.as_array().ok_or_else(|| self.nonsense("lists no files"))?;
            for entry in entries.iter().filter(|entry| entry["type"] == "file") {
                files.push(self.file_of(entry)?);
            }
            let Some(next) = next_page(&headers, &url) else { return Ok(files) };
            // Of the address only what tells the page counts: a mirror may name the hub that it mirrors.
            url.set_query(next.query());
        }
        Err(self.nonsense("has no end of its list"))
    }

    fn file_of(&self, entry: &Value) -> Result<File> {
        let path = entry["path"].as_str().filter(|path| is_below(path));
        let path = path.ok_or_else(|| self.nonsense("lists a file whose name leads elsewhere"))?;
        let lfs = &entry["lfs"];
        let size = lfs["size"].as_u64().or_else(|| entry["size"].as_u64());
        let size = size.ok_or_else(|| self.nonsense("lists a file without a size"))?;
        let digest = match lfs["oid"].as_str() {
            None => None,
            Some(oid) => Some(
                oid.parse::<Digest>()
                    .map_err(|_| self.nonsense("lists a file whose digest is none"))?,
            ),
        };
        Ok(File { path: path.into(), size, digest })
    }

    /// Where a file's bytes are found.
    pub(crate) fn source(&self, commit: &Commit, file: &File) -> OnHub {
        OnHub {
            hub: self.clone(),
            repo: commit.repo.clone(),
            commit: commit.commit.clone(),
            file: file.clone(),
        }
    }

    /// All of a small file.
    ///
    /// # Errors
    /// If it has more than `most` bytes, or is not what the list of files says.
    pub(crate) async fn read(&self, commit: &Commit, file: &File, most: usize) -> Result<Vec<u8>> {
        let url = self.resolve_url(&commit.repo, &commit.commit, &file.path);
        let found = self.client.document(&url, self.auth.as_ref(), most).await;
        let (bytes, _) = found.map_err(|e| self.meaning(e, &commit.repo, &commit.commit, None))?;
        match file.digest {
            Some(expected) if Digest::of(&bytes) != expected => {
                Err(Error::Digest { expected, got: Digest::of(&bytes) })
            }
            _ => Ok(bytes),
        }
    }

    fn resolve_url(&self, repo: &str, commit: &str, path: &str) -> Url {
        let mut tail = vec!["resolve", commit];
        tail.extend(path.split('/'));
        self.url(&[], repo, &tail)
    }

    /// An address of the hub. What is joined cannot lead out of its place.
    fn url(&self, head: &[&str], repo: &str, tail: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(head).extend(repo.split('/')).extend(tail);
        }
        url
    }

    async fn json(&self, url: &Url, repo: &str, revision: &str) -> Result<(Value, HeaderMap)> {
        let none = HeaderMap::new();
        let auth = self.auth.as_ref();
        let found = self.client.insist(Method::GET, url, &none, auth, false).await?;
        let Reached::Answer(answer, at) = found else { return Err(Error::Stopped) };
        if !answer.status().is_success() {
            let code = code_of(answer.headers());
            let error = http::refused(answer, &at).await;
            return Err(self.meaning(error, repo, revision, code.as_deref()));
        }
        let headers = answer.headers().clone();
        let text = http::body(answer, &at, MOST_LISTED).await?;
        let value = serde_json::from_slice(&text);
        Ok((value.map_err(|_| self.nonsense("sent no JSON"))?, headers))
    }

    /// What a refusal means here.
    fn meaning(&self, error: Error, repo: &str, revision: &str, code: Option<&str>) -> Error {
        let token = self.auth.is_some();
        let (repo, hub) = (repo.to_owned(), self.name());
        match (&error, code) {
            (Error::Status { status: 401 | 403, .. }, Some("GatedRepo")) => {
                Error::Gated { page: self.page(&repo), repo, token }
            }
            (Error::Status { status: 404, .. }, Some("RevisionNotFound")) => {
                Error::NoRevision { repo, revision: revision.into() }
            }
            (Error::Status { status: 401 | 404, .. }, Some("RepoNotFound") | None) => {
                Error::NoRepository { hub, repo, token }
            }
            (Error::Status { status: 403, .. }, _) => {
                Error::Gated { page: self.page(&repo), repo, token }
            }
            _ => error,
        }
    }

    fn nonsense(&self, why: &str) -> Error {
        Error::Protocol { host: self.name(), why: why.into() }
    }
}

impl Locate for OnHub {
    fn locate<'a>(&'a self, client: &'a Client) -> Later<'a, Result<Link>> {
        Box::pin(self.find(client))
    }
}

impl OnHub {
    /// Asks the hub for the file's head, and does not follow it to where the bytes are.
    async fn find(&self, client: &Client) -> Result<Link> {
        let (hub, file) = (&self.hub, &self.file);
        let url = hub.resolve_url(&self.repo, &self.commit, &file.path);
        let mut headers = HeaderMap::new();
        let plain = reqwest::header::HeaderValue::from_static("identity");
        headers.insert(reqwest::header::ACCEPT_ENCODING, plain);
        let auth = hub.auth.as_ref();
        match client.insist(Method::HEAD, &url, &headers, auth, true).await? {
            Reached::Elsewhere(to, said) => {
                self.check(&said)?;
                Ok(Link { url: to, auth: None, size: number(&said, "x-linked-size") })
            }
            Reached::Answer(answer, at) if answer.status().is_success() => {
                let said = answer.headers();
                self.check(said)?;
                let size = number(said, "x-linked-size").or(number(said, "content-length"));
                Ok(Link { url: at, auth: hub.auth.clone(), size })
            }
            Reached::Answer(answer, at) => {
                let code = code_of(answer.headers());
                let error = http::refused(answer, &at).await;
                Err(hub.meaning(error, &self.repo, &self.commit, code.as_deref()))
            }
        }
    }

    /// Whether the hub still means the same file.
    fn check(&self, said: &HeaderMap) -> Result<()> {
        let text = |name: &str| said.get(name).and_then(|value| value.to_str().ok());
        if text("x-repo-commit").is_some_and(|commit| commit != self.commit) {
            return Err(self.hub.nonsense("answers for another commit than was asked for"));
        }
        let linked =
            text("x-linked-etag").map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
        match (linked.and_then(|linked| linked.parse::<Digest>().ok()), self.file.digest) {
            (Some(got), Some(expected)) if got != expected => Err(Error::Digest { expected, got }),
            _ => Ok(()),
        }
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// The hub's own word for what is wrong.
fn code_of(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("x-error-code")?.to_str().ok()?.to_owned())
}

/// The address in `Link: <address>; rel="next"`.
fn next_page(headers: &HeaderMap, at: &Url) -> Option<Url> {
    let text = headers.get(LINK)?.to_str().ok()?;
    let next = text.split(',').find(|link| link.contains("rel=\"next\""))?;
    at.join(next.trim().strip_prefix('<')?.split_once('>')?.0).ok()
}

fn is_commit(text: &str) -> bool {
    (40..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a name stays within its repository.
fn is_below(path: &str) -> bool {
    !path.contains('\\') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
