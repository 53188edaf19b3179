//! One part: asked for, checked, poured into the file, and asked for again from where it broke.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE,
};
use reqwest::{Response, StatusCode, Url};

use crate::fetch::error::{Error, Result};
use crate::http::{self, is_busy, retry_after};

use super::{Stop, Transfer, blocking, tell};

/// Why an answer is of no use.
#[derive(Debug)]
enum Trouble {
    /// For all parts.
    Stop(Stop),
    /// For now.
    Again { error: Error, after: Option<Duration> },
    /// The link of this number is not good any more.
    Expired(u64),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        match error {
            Error::Broken { .. }
            | Error::Stalled { .. }
            | Error::Unreachable { .. }
            | Error::Protocol { .. } => Trouble::Again { error, after: None },
            error => Trouble::Stop(Stop::Failed(error)),
        }
    }
}

impl Transfer {
    /// Fetches a range, with as many answers as that takes.
    pub(super) async fn range(&self, range: Range<u64>) -> Result<(), Stop> {
        let generation = self.part.generation();
        let (mut at, mut failures) = (range.start, 0);
        while at < range.end {
            let before = at;
            let found = match self.ask(at..range.end).await {
                Ok((answer, url)) => self.pour(answer, &url, &mut at, range.end, generation).await,
                Err(trouble) => Err(trouble),
            };
            if at > before {
                failures = 0;
            }
            if let Err(trouble) = found {
                failures += 1;
                self.bear(trouble, failures).await?;
            }
        }
        Ok(())
    }

    /// Fetches the file from the beginning to the end, from a server that can do nothing else.
    pub(super) async fn single(&self) -> Result<(), Stop> {
        let mut failures = 0;
        loop {
            self.part.empty().and_then(|()| self.part.allocate()).map_err(Stop::Failed)?;
            let generation = self.part.generation();
            let mut at = 0;
            let found = match self.ask_whole().await {
                Ok((answer, url)) => {
                    self.pour(answer, &url, &mut at, self.part.size(), generation).await
                }
                Err(trouble) => Err(trouble),
            };
            let Err(trouble) = found else { return Ok(()) };
            failures += 1;
            self.bear(trouble, failures).await?;
        }
    }

    /// Waits for another try, or says why there is none.
    async fn bear(&self, trouble: Trouble, failures: u32) -> Result<(), Stop> {
        let client = &self.tools.client;
        match trouble {
            Trouble::Stop(stop) => Err(stop),
            Trouble::Expired(number) => {
                self.links.refresh(number, client).await.map_err(Stop::Failed)
            }
            Trouble::Again { error, .. } if failures > self.tools.limits.tries => {
                Err(Stop::Failed(error))
            }
            Trouble::Again { after, .. } => {
                tokio::time::sleep(after.unwrap_or(client.backoff_of(failures))).await;
                Ok(())
            }
        }
    }

    /// Asks for a range; the answer is one to exactly that.
    async fn ask(&self, range: Range<u64>) -> Result<(Response, Url), Trouble> {
        let (number, link) = self.links.current().await;
        let mut headers = plain();
        let asked = format!("bytes={}-{}", range.start, range.end - 1);
        headers.insert(RANGE, value(&asked)?);
        // A weak name says that contents mean the same, not that their bytes are.
        if let Some(etag) = self.part.etag().filter(|etag| etag.starts_with('"')) {
            headers.insert(IF_RANGE, value(&etag)?);
        }
        let answer = self.tools.client.bytes_of(&link.url, &headers, link.auth.as_ref()).await?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT | StatusCode::OK if !self.part.agrees(etag(&answer)) => {
                Err(Trouble::Stop(Stop::Changed))
            }
            StatusCode::PARTIAL_CONTENT => {
                self.check_range(&answer, &link.url, &range)?;
                Ok((answer, link.url.clone()))
            }
            StatusCode::OK => Err(Trouble::Stop(Stop::NoRanges)),
            StatusCode::RANGE_NOT_SATISFIABLE => Err(Trouble::Stop(Stop::Changed)),
            _ => Err(no(answer, &link.url, number).await),
        }
    }

    async fn ask_whole(&self) -> Result<(Response, Url), Trouble> {
        let (number, link) = self.links.current().await;
        let answer = self.tools.client.bytes_of(&link.url, &plain(), link.auth.as_ref()).await?;
        if answer.status() != StatusCode::OK {
            return Err(no(answer, &link.url, number).await);
        }
        check_encoding(&answer, &link.url)?;
        let size = self.part.size();
        match answer.content_length() {
            Some(length) if length != size => {
                let why = format!("sends {length} bytes where {size} should be");
                Err(Error::Protocol { host: http::host(&link.url), why }.into())
            }
            _ => Ok((answer, link.url.clone())),
        }
    }

    /// Whether an answer is what was asked for, byte by byte.
    fn check_range(&self, answer: &Response, url: &Url, range: &Range<u64>) -> Result<()> {
        check_encoding(answer, url)?;
        let expected = format!("bytes {}-{}/", range.start, range.end - 1);
        let said = answer.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
        let total = said.and_then(|said| said.strip_prefix(&expected));
        let is_right = total.is_some_and(|t| t == "*" || t.parse() == Ok(self.part.size()));
        if is_right {
            return Ok(());
        }
        let said = said.unwrap_or("nothing").chars().take(80).collect::<String>();
        let why = format!("was asked for {expected}{} and sends {said}", self.part.size());
        Err(Error::Protocol { host: http::host(url), why })
    }

    /// Pours an answer into the file. `at` is where the file goes on, whatever happens.
    async fn pour(
        &self,
        mut answer: Response,
        url: &Url,
        at: &mut u64,
        end: u64,
        generation: u64,
    ) -> Result<(), Trouble> {
        let mut held = Held::default();
        loop {
            let piece = match answer.chunk().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => {
                    // What came before is good.
                    self.write(&mut held, at, generation).await?;
                    return Err(http::failed(url, &error).into());
                }
            };
            if *at + held.bytes + piece.len() as u64 > end {
                self.write(&mut held, at, generation).await?;
                let why = "sends more bytes than it was asked for".to_owned();
                return Err(Error::Protocol { host: http::host(url), why }.into());
            }
            self.tools.pace.take(piece.len() as u64).await;
            held.add(piece);
            if held.bytes >= self.held_bytes {
                self.write(&mut held, at, generation).await?;
            }
        }
        self.write(&mut held, at, generation).await?;
        if *at < end {
            let why = format!("{} bytes are missing", end - *at);
            return Err(Error::Broken { host: http::host(url), why }.into());
        }
        Ok(())
    }

    async fn write(&self, held: &mut Held, at: &mut u64, generation: u64) -> Result<()> {
        let Held { pieces, bytes } = std::mem::take(held);
        if bytes == 0 {
            return Ok(());
        }
        let (part, from) = (self.part.clone(), *at);
        let done = blocking(move || {
            part.write(from, &pieces, generation)?;
            Ok(part.done())
        });
        let done = done.await?;
        *at += bytes;
        self.links.worked();
        tell(&self.progress, done, self.part.size());
        Ok(())
    }
}

/// Pieces that came and are not written.
#[derive(Default)]
struct Held {
    pieces: Vec<Bytes>,
    bytes: u64,
}

impl Held {
    fn add(&mut self, piece: Bytes) {
        self.bytes += piece.len() as u64;
        self.pieces.push(piece);
    }
}

/// Headers that ask for bytes as they are.
fn plain() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Error::Malformed(format!("no header: {text:?}")))
}

fn etag(answer: &Response) -> Option<&str> {
    answer.headers().get(ETAG)?.to_str().ok()
}

/// Bytes of a file are counted and checked as they are, so no form of compression may be on them.
fn check_encoding(answer: &Response, url: &Url) -> Result<()> {
    let Some(encoding) = answer.headers().get(CONTENT_ENCODING) else { return Ok(()) };
    if encoding == "identity" {
        return Ok(());
    }
    let why = format!("sends the file compressed ({encoding:?}), which was not asked for");
    Err(Error::Protocol { host: http::host(url), why })
}

/// What an answer without bytes comes to.
async fn no(answer: Response, url: &Url, number: u64) -> Trouble {
    match answer.status().as_u16() {
        // Signed links end like this, and so does access; a new link or its refusal tells which.
        401 | 403 | 404 | 410 => Trouble::Expired(number),
        _ if is_busy(answer.status()) => {
            let after = retry_after(&answer);
            Trouble::Again { error: http::refused(answer, url).await, after }
        }
        _ => Trouble::Stop(Stop::Failed(http::refused(answer, url).await)),
    }
}
