//! From a name to a model in a store: all files, checked, and the manifest last.

mod from_address;
mod from_hub;
mod layers;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use oprel_api::ollama::ModelName;
use oprel_telemetry::Disk;
use serde::{Serialize, Serializer};

use crate::Digest;

use super::error::{Error, Result};
use super::fetcher::Fetcher;
use super::link::Locate;
use super::registry::Registry;
use super::transfer::{Fetched, Job};

use layers::Layers;

/// How often it is said how far a file is.
const TOLD_EVERY: Duration = Duration::from_millis(60);

/// Where a model goes.
pub trait Sink: Send + Sync {
    /// Where the file of this digest is kept.
    fn blob_path(&self, digest: &Digest) -> PathBuf;

    /// Where it is read: another place may have it, which is never written to.
    fn found_path(&self, digest: &Digest) -> PathBuf {
        self.blob_path(digest)
    }

    /// Where files are until they are whole: on the same disk.
    fn part_folder(&self) -> PathBuf;

    /// Names a model, all of whose files are there. The bytes are kept as they are.
    ///
    /// # Errors
    /// What the system says.
    fn put_manifest(&self, name: &ModelName, manifest: &[u8]) -> io::Result<()>;
}

/// What is being done, as Ollama's clients read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// In words.
    pub status: String,
    /// Of which file.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "in_words")]
    pub digest: Option<Digest>,
    /// The file's bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// How many of them are there.
    #[serde(skip_serializing_if = "is_zero")]
    pub completed: u64,
}

/// Who is told what is being done.
pub type Tell<'a> = &'a (dyn Fn(Status) + Send + Sync);

/// A file that a manifest names.
#[derive(Debug)]
struct Blob {
    source: std::sync::Arc<dyn Locate>,
    digest: Digest,
    size: u64,
    commit: Option<String>,
}

impl Blob {
    /// Whether it need not be fetched.
    fn is_in(&self, sink: &dyn Sink) -> bool {
        let there = sink.found_path(&self.digest).metadata();
        there.is_ok_and(|metadata| metadata.is_file() && metadata.len() == self.size)
    }
}

impl Status {
    /// Words alone.
    pub fn of(status: impl Into<String>) -> Status {
        Status { status: status.into(), ..Status::default() }
    }

    /// How far a file is: `pulling` and the first digits of its digest.
    fn file(verb: &str, digest: Digest, total: u64, completed: u64) -> Status {
        let status = format!("{verb} {}", &digest.hex()[..12]);
        Status { status, digest: Some(digest), total, completed }
    }
}

impl Fetcher {
    /// Fetches a model into a store. A name on `hf.co` or `huggingface.co` is a repository of the hub, with a quant or
    /// a file as its tag; any other is asked from its registry. `insecure` is the user's word that a registry without
    /// TLS is well.
    ///
    /// # Errors
    /// If it cannot be had whole and right; what has come is kept.
    pub async fn pull(
        &self,
        name: &ModelName,
        insecure: bool,
        sink: &dyn Sink,
        tell: Tell<'_>,
    ) -> Result<()> {
        if is_hub(&name.host) {
            let repository = format!("{}/{}", name.namespace, name.model);
            return self.pull_repository(name, &repository, &name.tag, sink, tell).await;
        }
        self.online(&name.to_string())?;
        tell(Status::of("pulling manifest"));
        let manifest = self.pull_from_registry(name, insecure, sink, tell).await?;
        keep(name, &manifest, sink, tell)
    }

    /// Fetches a model of a repository of the hub into a store, where it gets a name of its own. What is picked is a
    /// quant, a file's name or path, a pattern with `*` for either, or `latest`.
    ///
    /// # Errors
    /// As [`Fetcher::pull`].
    pub async fn pull_repository(
        &self,
        name: &ModelName,
        repository: &str,
        pick: &str,
        sink: &dyn Sink,
        tell: Tell<'_>,
    ) -> Result<()> {
        self.online(&name.to_string())?;
        tell(Status::of("pulling manifest"));
        let manifest = self.pull_from_hub(repository, pick, sink, tell).await?;
        keep(name, &manifest, sink, tell)
    }

    /// Gives a model of a store to its registry.
    ///
    /// # Errors
    /// If the registry does not want it, or a file of it cannot be read.
    pub async fn push(
        &self,
        name: &ModelName,
        insecure: bool,
        manifest: &[u8],
        sink: &dyn Sink,
        tell: Tell<'_>,
    ) -> Result<()> {
        self.online(&format!("the registry of {name}"))?;
        tell(Status::of("retrieving manifest"));
        let registry = self.registry(name, insecure)?;
        for layer in Layers::parse(manifest)?.all() {
            let (digest, total) = (layer.digest, layer.size);
            tell(Status::file("pushing", digest, total, 0));
            let report = |sent| tell(Status::file("pushing", digest, total, sent));
            registry.push_blob(digest, &sink.found_path(&digest), &report).await?;
            tell(Status::file("pushing", digest, total, total));
        }
        tell(Status::of("pushing manifest"));
        registry.push_manifest(manifest.to_vec()).await?;
        tell(Status::of("success"));
        Ok(())
    }

    async fn pull_from_registry(
        &self,
        name: &ModelName,
        insecure: bool,
        sink: &dyn Sink,
        tell: Tell<'_>,
    ) -> Result<Vec<u8>> {
        let registry = self.registry(name, insecure)?;
        let manifest = registry.manifest().await?;
        let layers = Layers::parse(&manifest)?;
        let blob = |layer: &layers::Layer| Blob {
            source: std::sync::Arc::new(registry.source(layer.digest)),
            digest: layer.digest,
            size: layer.size,
            commit: None,
        };
        let blobs: Vec<_> = layers.all().map(blob).collect();
        self.blobs(&blobs, sink, tell).await?;
        Ok(manifest)
    }

    fn registry(&self, name: &ModelName, insecure: bool) -> Result<Registry> {
        Registry::new(self.tools.client.clone(), self.settings.clone(), name, insecure)
    }

    /// Fetches files, once it is known that there is room for all of them.
    async fn blobs(&self, blobs: &[Blob], sink: &dyn Sink, tell: Tell<'_>) -> Result<()> {
        let missing = blobs.iter().filter(|blob| !blob.is_in(sink)).map(|blob| blob.size);
        room(sink, missing.fold(0, u64::saturating_add), blobs)?;
        for blob in blobs {
            if blob.is_in(sink) {
                tell(Status::file("pulling", blob.digest, blob.size, blob.size));
                continue;
            }
            self.blob(blob, sink, tell).await?;
        }
        tell(Status::of("verifying sha256 digest"));
        Ok(())
    }

    async fn blob(&self, blob: &Blob, sink: &dyn Sink, tell: Tell<'_>) -> Result<Fetched> {
        let (digest, total) = (blob.digest, blob.size);
        let job = Job {
            source: blob.source.clone(),
            size: Some(total),
            digest: Some(digest),
            commit: blob.commit.clone(),
            part: part_path(sink, &digest.file_name()),
            to: sink.blob_path(&digest),
        };
        let report = |progress: super::transfer::Progress| {
            tell(Status::file("pulling", digest, total, progress.completed));
        };
        self.start(job).watch(TOLD_EVERY, &report).await
    }
}

/// The last step: the model gets its name.
fn keep(name: &ModelName, manifest: &[u8], sink: &dyn Sink, tell: Tell<'_>) -> Result<()> {
    tell(Status::of("writing manifest"));
    let wrong = |source| Error::file(name.full().as_ref(), source);
    sink.put_manifest(name, manifest).map_err(wrong)?;
    tell(Status::of("success"));
    Ok(())
}

/// Whether a host is the hub, whose models are repositories.
fn is_hub(host: &str) -> bool {
    ["hf.co", "huggingface.co"].iter().any(|hub| host.eq_ignore_ascii_case(hub))
}

fn part_path(sink: &dyn Sink, name: &str) -> PathBuf {
    sink.part_folder().join(format!("{name}.part"))
}

/// Whether so many bytes have room, with a twentieth to spare. What is reserved for files that are begun has it.
fn room(sink: &dyn Sink, missing: u64, blobs: &[Blob]) -> Result<()> {
    let folder = sink.part_folder();
    std::fs::create_dir_all(&folder).map_err(|error| Error::file(&folder, error))?;
    let begun = blobs.iter().filter_map(|blob| {
        let part = part_path(sink, &blob.digest.file_name()).metadata().ok()?;
        Some(part.len().min(blob.size))
    });
    let missing = missing.saturating_sub(begun.sum());
    let needed_bytes = missing.saturating_add(missing / 20);
    match Disk::of(&folder).free_bytes.filter(|free| *free < needed_bytes) {
        Some(free_bytes) => Err(Error::NoSpace { folder, needed_bytes, free_bytes }),
        None => Ok(()),
    }
}

fn in_words<S: Serializer>(digest: &Option<Digest>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&digest.map(|digest| digest.to_string()).unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
