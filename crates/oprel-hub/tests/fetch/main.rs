//! Fetching from a stand-in hub that breaks in every way that it can.

mod faults;
#[cfg(unix)]
mod kill;
mod shared;

use std::path::{Path, PathBuf};
use std::time::Duration;

use oprel_hub::Digest;
use oprel_hub::fetch::{Fetched, Fetcher, Result, Settings};
use oprel_test_hub::{Content, Hub};
use tempfile::TempDir;

/// A hub, a folder, and how to fetch from one into the other.
pub(crate) struct Place {
    pub(crate) hub: Hub,
    pub(crate) folder: TempDir,
    pub(crate) fetcher: Fetcher,
    pub(crate) runtime: tokio::runtime::Runtime,
}

/// Settings without long waits.
pub(crate) fn quick() -> Settings {
    let mut settings = Settings::from_lookup(&|_| None).expect("sensible");
    settings.stall = Duration::from_millis(400);
    settings.backoff = Duration::from_millis(5);
    settings
}

impl Place {
    pub(crate) fn new(change: impl FnOnce(&mut Settings)) -> Place {
        let hub = Hub::start();
        let mut settings = quick();
        settings.endpoint =
            format!("{}/", hub.url(oprel_test_hub::Role::Hub)).parse().expect("URL");
        change(&mut settings);
        Place {
            hub,
            folder: tempfile::tempdir().expect("a folder"),
            fetcher: Fetcher::new(settings).expect("well configured"),
            runtime: runtime(),
        }
    }

    pub(crate) fn to(&self) -> PathBuf {
        self.folder.path().join("file")
    }

    /// Fetches a file by its link.
    pub(crate) fn fetch(&self, content: &Content) -> Result<Fetched> {
        let url = self.hub.link(content, "file").parse().expect("an address");
        self.runtime.block_on(async {
            let to = self.to();
            let digest = Some(digest(content));
            self.fetcher.file(&url, Some(content.size()), digest, &to)?.wait().await
        })
    }

    /// Nothing is left but the file.
    pub(crate) fn assert_whole(&self, content: &Content) {
        assert_file(&self.to(), content);
        let names: Vec<_> = std::fs::read_dir(self.folder.path())
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name())
            .collect();
        assert_eq!(names, ["file"], "nothing else is left");
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runs")
}

pub(crate) fn digest(content: &Content) -> Digest {
    content.digest().parse().expect("a digest")
}

pub(crate) fn assert_file(path: &Path, content: &Content) {
    let bytes = std::fs::read(path).expect("it is there");
    assert_eq!(Digest::of(&bytes), digest(content));
}
