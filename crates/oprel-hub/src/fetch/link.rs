//! Where the bytes of a file are to be had just now.
//!
//! A hub answers with a link to another server that is good for minutes. Parts share one; the first that is turned
//! away asks for a new one, and the others find it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, StatusCode, Url};
use tokio::sync::Mutex;

use crate::http::{self, Auth, Client, Reached};

use super::error::{Error, Result};

/// New links in a row that lead to nothing before it is given up.
const MOST_REFRESHES: u32 = 4;

/// A future that may be kept and sent.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An address that bytes may be asked from.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) url: Url,
    /// For the server of `url`, if that is the one that the secret is for.
    pub(crate) auth: Option<Auth>,
    /// Bytes of the file, where they were said.
    pub(crate) size: Option<u64>,
}

/// Finds links to one file.
pub(crate) trait Locate: Send + Sync + fmt::Debug {
    /// A link that is good now.
    fn locate<'a>(&'a self, client: &'a Client) -> Later<'a, Result<Link>>;
}

/// The link that is used now.
#[derive(Debug)]
pub(crate) struct Links {
    source: Arc<dyn Locate>,
    current: Mutex<(u64, Arc<Link>)>,
    in_vain: AtomicU32,
}

impl Links {
    /// Beginning with one that was just found.
    pub(crate) fn new(source: Arc<dyn Locate>, link: Link) -> Links {
        Links { source, current: Mutex::new((0, Arc::new(link))), in_vain: AtomicU32::new(0) }
    }

    /// The link, and its number.
    pub(crate) async fn current(&self) -> (u64, Arc<Link>) {
        self.current.lock().await.clone()
    }

    /// Another link than the one of this number, unless there is another one already.
    ///
    /// # Errors
    /// If none can be found, or too many in a row led to nothing.
    pub(crate) async fn refresh(&self, seen: u64, client: &Client) -> Result<()> {
        let mut current = self.current.lock().await;
        if current.0 != seen {
            return Ok(());
        }
        if self.in_vain.fetch_add(1, Ordering::Relaxed) >= MOST_REFRESHES {
            let why = "gave links one after the other that do not work".to_owned();
            return Err(Error::Protocol { host: http::host(&current.1.url), why });
        }
        let link = self.source.locate(client).await?;
        *current = (seen + 1, Arc::new(link));
        Ok(())
    }

    /// The link is good: bytes came.
    pub(crate) fn worked(&self) {
        self.in_vain.store(0, Ordering::Relaxed);
    }
}

/// A file at an address that is known from the beginning.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) url: Url,
    pub(crate) auth: Option<Auth>,
}

impl Locate for Address {
    fn locate<'a>(&'a self, client: &'a Client) -> Later<'a, Result<Link>> {
        Box::pin(async move {
            let auth = self.auth.as_ref();
            // Where a secret is at stake, another server is not asked but by the parts, which do not tell it.
            let stay = auth.is_some();
            let found = client.insist(Method::GET, &self.url, &one_byte(), auth, stay).await?;
            match found {
                Reached::Elsewhere(url, _) => Ok(Link { url, auth: None, size: None }),
                Reached::Answer(answer, url) => {
                    let size = match answer.status() {
                        StatusCode::PARTIAL_CONTENT => total_of(answer.headers()),
                        StatusCode::OK => answer.content_length(),
                        // An empty file has no first byte.
                        StatusCode::RANGE_NOT_SATISFIABLE
                            if total_of(answer.headers()) == Some(0) =>
                        {
                            Some(0)
                        }
                        _ => return Err(http::refused(answer, &url).await),
                    };
                    Ok(Link { url, auth: self.auth.clone(), size })
                }
            }
        })
    }
}

/// Headers that ask for a file's first byte, as it is.
pub(crate) fn one_byte() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

/// The size of the whole in `Content-Range: bytes 0-0/123`.
fn total_of(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(reqwest::header::CONTENT_RANGE)?.to_str().ok()?;
    range.rsplit_once('/')?.1.parse().ok()
}
