//! Giving a model to a registry: its blobs in parts, those that are missing there, and the manifest last.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use md5::{Digest as _, Md5};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, Url};

use crate::Digest;
use crate::fetch::error::{Error, Result};
use crate::http::{self, Reached, failed, is_busy, retry_after};

use super::{MANIFEST, Registry, secret};

/// Bytes of a part, which is held in memory while it is sent.
const PART: usize = 32 << 20;
/// Times that a part is sent.
const TRIES: u32 = 6;

impl Registry {
    /// Gives the registry a blob, unless it has it. Tells how many bytes are there.
    ///
    /// # Errors
    /// If the registry does not want it, or the file cannot be read.
    pub(crate) async fn push_blob(
        &self,
        digest: Digest,
        path: &Path,
        tell: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<()> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let found = self.ask(Method::HEAD, &url, &HeaderMap::new(), false).await?;
        if matches!(&found, Reached::Answer(answer, _) if answer.status().is_success()) {
            return Ok(());
        }
        let begin = self.url("blobs/uploads/")?;
        let answer = self.send(Method::POST, &begin, &HeaderMap::new(), Vec::new()).await?;
        if answer.status() == 201 {
            return Ok(());
        }
        let mut at = location(&answer, &begin)?;
        let mut file = File::open(path).map_err(|error| Error::file(path, error))?;
        let (mut sent, mut parts, mut sums) = (0, 0, Md5::new());
        loop {
            let part = next(&mut file).map_err(|error| Error::file(path, error))?;
            if part.is_empty() {
                break;
            }
            sums.update(Md5::digest(&part));
            parts += 1;
            let length = part.len() as u64;
            at = self.push_part(&at, sent, part).await?;
            sent += length;
            tell(sent);
        }
        let sums: String = sums.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        at.query_pairs_mut()
            .append_pair("digest", &digest.to_string())
            .append_pair("etag", &format!("{sums}-{parts}"));
        self.send(Method::PUT, &at, &HeaderMap::new(), Vec::new()).await.map(|_| ())
    }

    /// Gives the registry the manifest, once it has all that it names.
    ///
    /// # Errors
    /// If the registry does not want it.
    pub(crate) async fn push_manifest(&self, manifest: Vec<u8>) -> Result<()> {
        let url = self.url(&format!("manifests/{}", self.name.tag))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MANIFEST));
        self.send(Method::PUT, &url, &headers, manifest).await.map(|_| ())
    }

    /// Sends a part, to where the registry wants it. Says where the next one goes.
    async fn push_part(&self, at: &Url, from: u64, part: Vec<u8>) -> Result<Url> {
        let mut headers = HeaderMap::new();
        let range = format!("{from}-{}", from + part.len() as u64 - 1);
        let wrong = |_| Error::Malformed(range.clone());
        headers.insert(CONTENT_RANGE, HeaderValue::from_str(&range).map_err(wrong)?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert("x-redirect-uploads", HeaderValue::from_static("1"));
        let part = bytes::Bytes::from(part);
        let answer = self.send(Method::PATCH, at, &headers, part.clone()).await?;
        if answer.status() != 307 {
            return location(&answer, at);
        }
        // The bytes go to another server, which is told no secret.
        let to = answer.headers().get(LOCATION).and_then(|to| at.join(to.to_str().ok()?).ok());
        let to = to.filter(|to| to.scheme() == at.scheme() || to.scheme() == "https");
        let to = to.ok_or_else(|| nowhere(at))?;
        let next = answer.headers().get("docker-upload-location").and_then(|v| v.to_str().ok());
        let next = next.and_then(|next| at.join(next).ok());
        let sent = self.client.raw().put(to.clone()).body(part).send().await;
        let sent = sent.map_err(|error| failed(&to, &error))?;
        match sent.status().is_success() {
            true => Ok(next.unwrap_or_else(|| at.clone())),
            false => Err(http::refused(sent, &to).await),
        }
    }

    /// Sends once, with a proof if one is wanted, and again while the registry is busy.
    async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        body: impl Into<bytes::Bytes>,
    ) -> Result<Response> {
        let body = body.into();
        let mut tried = 0;
        loop {
            tried += 1;
            let auth = self.auth.lock().await.clone();
            let mut all = headers.clone();
            if let Some(auth) = &auth {
                secret(auth, url, &mut all);
            }
            let request = self.client.raw().request(method.clone(), url.clone());
            let sent = request.headers(all).body(body.clone()).send().await;
            let wait = match sent.map_err(|error| failed(url, &error)) {
                Ok(answer) if answer.status() == 401 && tried == 1 => {
                    self.prove(&answer).await?;
                    continue;
                }
                Ok(answer) if is_busy(answer.status()) && tried < TRIES => retry_after(&answer),
                Ok(answer) if answer.status().is_success() || answer.status() == 307 => {
                    return Ok(answer);
                }
                Ok(answer) => return Err(http::refused(answer, url).await),
                Err(Error::Broken { .. } | Error::Stalled { .. }) if tried < TRIES => None,
                Err(error) => return Err(error),
            };
            tokio::time::sleep(wait.unwrap_or(self.client.backoff_of(tried))).await;
        }
    }
}

/// Where an upload goes on: on a server of the web.
fn location(answer: &Response, at: &Url) -> Result<Url> {
    let headers = answer.headers();
    let text = headers.get("docker-upload-location").or(headers.get(LOCATION));
    let url = text.and_then(|text| at.join(text.to_str().ok()?).ok());
    let url = url.filter(|url| url.scheme() == at.scheme() || url.scheme() == "https");
    url.ok_or_else(|| nowhere(at))
}

fn nowhere(at: &Url) -> Error {
    Error::Protocol { host: http::host(at), why: "does not say where an upload goes".into() }
}

/// The next part of a file; nothing at its end.
fn next(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut part = Vec::with_capacity(PART);
    file.take(PART as u64).read_to_end(&mut part)?;
    Ok(part)
}
