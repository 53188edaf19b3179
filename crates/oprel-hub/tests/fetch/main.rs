//! Fetching from a stand-in hub that breaks in every way that it can.

mod backends;
mod faults;
mod hub;
#[cfg(unix)]
mod kill;
mod others;
mod registry;
mod shared;
mod tls;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use oprel_api::ollama::ModelName;
use oprel_hub::Digest;
use oprel_hub::fetch::{Fetched, Fetcher, Result, Settings, Sink, Status};
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
    // Longer than a busy machine lets a test wait.
    settings.stall = Duration::from_secs(10);
    settings.backoff = Duration::from_millis(5);
    settings
}

impl Place {
    pub(crate) fn new(change: impl FnOnce(&mut Settings)) -> Place {
        Place::at(tempfile::tempdir().expect("a folder"), change)
    }

    /// One whose folder has something already.
    pub(crate) fn at(folder: TempDir, change: impl FnOnce(&mut Settings)) -> Place {
        let hub = Hub::start();
        let mut settings = quick();
        settings.endpoint =
            format!("{}/", hub.url(oprel_test_hub::Role::Hub)).parse().expect("URL");
        change(&mut settings);
        Place {
            hub,
            folder,
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

/// The simplest store that there is.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Sink for Folder {
    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.0.join("blobs").join(digest.file_name())
    }

    fn part_folder(&self) -> PathBuf {
        self.0.join("parts")
    }

    fn put_manifest(&self, name: &ModelName, manifest: &[u8]) -> std::io::Result<()> {
        let path = self.manifest_path(name);
        std::fs::create_dir_all(path.parent().expect("it has one"))?;
        std::fs::write(path, manifest)
    }
}

impl Folder {
    pub(crate) fn manifest_path(&self, name: &ModelName) -> PathBuf {
        let ModelName { host, namespace, model, tag, .. } = name;
        self.0.join("manifests").join(host).join(namespace).join(model).join(tag)
    }

    pub(crate) fn manifest(&self, name: &str) -> serde_json::Value {
        let path = self.manifest_path(&ModelName::parse(name).expect("a name"));
        serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("JSON")
    }

    /// What a layer's file has.
    pub(crate) fn layer(&self, layer: &serde_json::Value) -> Vec<u8> {
        let digest = layer["digest"].as_str().expect("a digest").parse().expect("a digest");
        let bytes = std::fs::read(self.blob_path(&digest)).expect("it is there");
        assert_eq!(Digest::of(&bytes), digest);
        assert_eq!(layer["size"], bytes.len());
        bytes
    }
}

impl Place {
    pub(crate) fn store(&self) -> Folder {
        Folder(self.folder.path().into())
    }

    /// Pulls a model, and says what was told meanwhile.
    pub(crate) fn pull(&self, name: &str) -> (Result<()>, Vec<Status>) {
        let told = Mutex::new(Vec::new());
        let name = ModelName::parse(name).expect("a name");
        let insecure = name.scheme.as_deref() == Some("http");
        let tell = |status| told.lock().expect("not poisoned").push(status);
        let store = self.store();
        let found = self.fetcher.pull(&name, insecure, &store, &tell);
        let found = self.runtime.block_on(found);
        (found, told.into_inner().expect("not poisoned"))
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
