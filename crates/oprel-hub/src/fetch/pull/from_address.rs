//! A GGUF file at an address of the web as a model of a store. Nobody says its digest before it is there.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use oprel_api::ollama::ModelName;
use reqwest::Url;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::Digest;
use crate::fetch::error::{Error, Result};
use crate::fetch::fetcher::Fetcher;
use crate::fetch::link::Address;
use crate::fetch::registry::MANIFEST;
use crate::fetch::transfer::{Job, Progress, blocking};
use crate::http;
use crate::quant_of;

use super::from_hub::{CONFIG, layer, put};
use super::{Sink, Status, TOLD_EVERY, Tell, keep, part_path};

impl Fetcher {
    /// Fetches a GGUF file at an address into a store, under a name that the caller chooses.
    ///
    /// # Errors
    /// If it cannot be had whole; what has come is kept.
    pub async fn pull_address(
        &self,
        url: &Url,
        name: &ModelName,
        sink: &dyn Sink,
        tell: Tell<'_>,
    ) -> Result<()> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Malformed(format!(
                "'{}' is no address of the web",
                http::shown(url)
            )));
        }
        self.online(&http::shown(url))?;
        // What an address is signed with changes, and the file does not.
        let key = format!("address-{}", Digest::of(http::shown(url).as_bytes()).hex());
        let job = Job {
            source: Arc::new(Address { url: url.clone(), auth: None }),
            size: None,
            digest: None,
            commit: None,
            part: part_path(sink, &key),
            to: sink.part_folder().join(&key),
        };
        let file = url.path().rsplit('/').next().unwrap_or_default().to_owned();
        let report = |progress: Progress| {
            let Progress { total, completed, .. } = progress;
            tell(Status { status: format!("pulling {file}"), digest: None, total, completed });
        };
        let fetched = self.start(job).watch(TOLD_EVERY, &report).await?;
        tell(Status::of("verifying sha256 digest"));
        let digest = match fetched.digest {
            Some(digest) => digest,
            // It was there: whole, and not yet in its place.
            None => digest_of(fetched.path.clone()).await?,
        };
        let to = sink.blob_path(&digest);
        let wrong = |error| Error::file(&to, error);
        fs::create_dir_all(to.parent().unwrap_or(&to)).map_err(wrong)?;
        fs::rename(&fetched.path, &to).map_err(wrong)?;
        let manifest = manifest(url, digest, fetched.size, sink).await?;
        keep(name, &manifest, sink, tell)
    }
}

/// A manifest of one file, whose configuration says where it is from.
async fn manifest(url: &Url, digest: Digest, size: u64, sink: &dyn Sink) -> Result<Vec<u8>> {
    let model = layer("model", &(digest, size));
    let config = json!({
        "model_format": "gguf", "model_family": "", "model_type": "",
        "file_type": quant_of(url.path()).unwrap_or_else(|| "unknown".into()),
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest.to_string()]},
        "source": {"address": http::shown(url)},
    });
    let (config, size) = put(sink, config.to_string().into_bytes()).await?;
    let config = json!({"mediaType": CONFIG, "digest": config.to_string(), "size": size});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [model],
    });
    Ok(manifest.to_string().into_bytes())
}

async fn digest_of(path: PathBuf) -> Result<Digest> {
    blocking(move || {
        let wrong = |error| Error::file(&path, error);
        let mut file = File::open(&path).map_err(wrong)?;
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer).map_err(wrong)? {
                0 => return Ok(Digest::finish(hasher)),
                count => hasher.update(&buffer[..count]),
            }
        }
    })
    .await
}
