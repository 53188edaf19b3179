//! What a program has one of: its connections, its settings, the downloads that are under way.

use std::path::Path;
use std::sync::Arc;

use reqwest::Url;

use crate::Digest;
use crate::http::{self, Client, Patience};

use super::downloads::{Download, Downloads};
use super::error::{Error, Result};
use super::hub::{Found, Hub, variants};
use super::journal::with_end;
use super::link::Address;
use super::pace::Pace;
use super::settings::Settings;
use super::transfer::{Job, Limits, Tools};

/// Fetches things. Cheap to clone; clones share downloads. Needs a runtime of tokio.
#[derive(Clone, Debug)]
pub struct Fetcher {
    pub(super) settings: Arc<Settings>,
    pub(super) tools: Tools,
    downloads: Arc<Downloads>,
}

impl Fetcher {
    /// With these settings.
    ///
    /// # Errors
    /// If TLS or a proxy cannot be set up as they are configured.
    pub fn new(settings: Settings) -> Result<Fetcher> {
        let patience = Patience { stall: settings.stall, backoff: settings.backoff };
        let client = Client::new(settings.authorities.as_deref(), patience)?;
        let limits = Limits {
            streams: settings.streams,
            part_bytes: settings.part_bytes,
            ..Limits::default()
        };
        let pace = Arc::new(Pace::new(settings.bytes_per_second));
        let tools = Tools { client, limits, pace };
        Ok(Fetcher { settings: Arc::new(settings), tools, downloads: Arc::default() })
    }

    /// As the environment says.
    ///
    /// # Errors
    /// As [`Settings::from_env`] and [`Fetcher::new`].
    pub fn from_env() -> Result<Fetcher> {
        Fetcher::new(Settings::from_env()?)
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Fetches the file at an address to a path, beside which its parts are until it is whole. A file that is there
    /// with the right size is taken as it is; so is one whose size nobody knows.
    ///
    /// # Errors
    /// If nothing is to be connected to, or the address is none of the web.
    pub fn file(
        &self,
        url: &Url,
        size: Option<u64>,
        digest: Option<Digest>,
        to: &Path,
    ) -> Result<Download> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Malformed(format!(
                "'{}' is no address of the web",
                http::shown(url)
            )));
        }
        self.online(&http::shown(url))?;
        let job = Job {
            source: Arc::new(Address { url: url.clone(), auth: None }),
            size,
            digest,
            commit: None,
            part: with_end(to, ".part"),
            to: to.into(),
        };
        Ok(self.start(job))
    }

    /// A small document at an address: at most `most` bytes.
    ///
    /// # Errors
    /// If nothing is to be connected to, or the server does not give it.
    pub async fn document(&self, url: &Url, most: usize) -> Result<Vec<u8>> {
        self.online(&http::shown(url))?;
        Ok(self.tools.client.document(url, None, most).await?.0)
    }

    /// Repositories of the hub that words are found in, with what each offers.
    ///
    /// # Errors
    /// If the hub does not answer.
    pub async fn search(&self, words: &str, limit: usize) -> Result<Vec<Found>> {
        self.online(&format!("the list of models for '{words}'"))?;
        self.hub()?.search(words, limit).await
    }

    /// The tags that a repository of the hub offers, with their bytes, and its commit.
    ///
    /// # Errors
    /// If there is no such repository that can be seen.
    pub async fn offers(&self, repo: &str) -> Result<(String, Vec<(String, u64)>)> {
        self.online(repo)?;
        let hub = self.hub()?;
        let commit = hub.commit(repo, "main").await?;
        let files = hub.files(&commit.repo, &commit.commit).await?;
        Ok((commit.commit, variants(&files)))
    }

    /// The hub of the settings.
    pub(super) fn hub(&self) -> Result<Hub> {
        Hub::new(self.tools.client.clone(), &self.settings)
    }

    /// Begins a download, or joins one of the same content to the same place.
    pub(super) fn start(&self, job: Job) -> Download {
        self.downloads.start(job.part.display().to_string(), job, self.tools.clone())
    }

    /// Nothing, if connections are wanted.
    pub(super) fn online(&self, what: &str) -> Result<()> {
        match self.settings.is_offline {
            true => Err(Error::Offline { what: what.into() }),
            false => Ok(()),
        }
    }
}
