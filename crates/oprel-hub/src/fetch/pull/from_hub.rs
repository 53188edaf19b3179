//! A repository of the hub as a model of a store: files that a tag means become layers, and what they come from is
//! noted in the configuration.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::Digest;
use crate::fetch::error::{Error, Result};
use crate::fetch::fetcher::Fetcher;
use crate::fetch::hub::Commit;
use crate::fetch::hub::{Choice, File, Hub, choose};
use crate::fetch::registry::MANIFEST;
use crate::fetch::transfer::blocking;

use super::{Blob, Sink, Status, Tell};

/// Media type of configurations.
pub(super) const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.ollama.image.";
/// Bytes of a template, of parameters, of a licence.
const MOST_BYTES: usize = 1 << 20;

impl Fetcher {
    /// Fetches what is picked. The manifest is made here, and the same repository makes the same one.
    pub(super) async fn pull_from_hub(
        &self,
        repository: &str,
        pick: &str,
        sink: &dyn Sink,
        tell: Tell<'_>,
    ) -> Result<Vec<u8>> {
        let hub = self.hub()?;
        let commit = hub.commit(repository, "main").await?;
        let files = hub.files(&commit.repo, &commit.commit).await?;
        let choice = choose(&commit.repo, &files, pick)?;
        if choice.is_second_best {
            tell(Status::of(format!("using {}: the repository has no Q4_K_M", choice.quant)));
        }
        let mut layers = Vec::new();
        let mut blobs = Vec::new();
        for file in &choice.model {
            let mut layer = layer("model", &blob(&hub, &commit, file, &mut blobs)?);
            if choice.model.len() > 1 {
                layer["name"] = base(&file.path).into();
            }
            layers.push(layer);
        }
        if let Some(file) = &choice.projector {
            layers.push(layer("projector", &blob(&hub, &commit, file, &mut blobs)?));
        }
        self.blobs(&blobs, sink, tell).await?;
        for (kind, file) in beside(&files) {
            let text = hub.read(&commit, file, MOST_BYTES).await?;
            layers.push(layer(kind, &put(sink, text).await?));
        }
        let config = config(&hub, &commit, &choice, &layers);
        let config = put(sink, config.to_string().into_bytes()).await?;
        let config = json!({
            "mediaType": CONFIG, "digest": config.0.to_string(), "size": config.1,
        });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        });
        Ok(manifest.to_string().into_bytes())
    }
}

/// A file to be fetched, and what a layer says of it.
fn blob(hub: &Hub, commit: &Commit, file: &File, into: &mut Vec<Blob>) -> Result<(Digest, u64)> {
    let digest = file.digest.ok_or_else(|| Error::Protocol {
        host: hub.name(),
        why: format!("does not say the digest of {}", file.path),
    })?;
    into.push(Blob {
        source: Arc::new(hub.source(commit, file)),
        digest,
        size: file.size,
        commit: Some(commit.commit.clone()),
    });
    Ok((digest, file.size))
}

/// A layer of a manifest.
pub(super) fn layer(kind: &str, (digest, size): &(Digest, u64)) -> Value {
    json!({"mediaType": format!("{LAYER}{kind}"), "digest": digest.to_string(), "size": size})
}

/// Files that say something about the model, with the kind of layer that each becomes.
fn beside(files: &[File]) -> impl Iterator<Item = (&'static str, &File)> {
    files.iter().filter(|file| file.size <= MOST_BYTES as u64).filter_map(|file| {
        let kind = match file.path.as_str() {
            "template" => "template",
            "system" => "system",
            "params" => "params",
            "LICENSE" | "LICENSE.txt" | "LICENSE.md" | "LICENCE" => "license",
            _ => return None,
        };
        Some((kind, file))
    })
}

/// The configuration as Ollama's stores have it, and where the model is from.
fn config(hub: &Hub, commit: &Commit, choice: &Choice, layers: &[Value]) -> Value {
    let digests: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
    let family = commit.gguf["architecture"].as_str().unwrap_or_default();
    let parameters = commit.gguf["total"].as_u64();
    json!({
        "model_format": "gguf",
        "model_family": family,
        "model_families": [family],
        "model_type": parameters.map(count).unwrap_or_default(),
        "file_type": choice.quant,
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": digests},
        "source": {"repository": hub.page(&commit.repo), "commit": commit.commit},
    })
}

/// A number as Ollama prints it: `1.2B`, `135.00M`.
fn count(number: u64) -> String {
    let (unit, letter, digits) = match number {
        1_000_000_000.. => (1e9, "B", 1),
        1_000_000.. => (1e6, "M", 2),
        1_000.. => (1e3, "K", 0),
        _ => return number.to_string(),
    };
    let value = number as f64 / unit;
    let digits = if value.fract() == 0.0 { 0 } else { digits };
    format!("{value:.digits$}{letter}")
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Puts a small file into the store: whole or not at all.
pub(super) async fn put(sink: &dyn Sink, bytes: Vec<u8>) -> Result<(Digest, u64)> {
    let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
    if sink.found_path(&digest).metadata().is_ok_and(|metadata| metadata.len() == size) {
        return Ok((digest, size));
    }
    let to = sink.blob_path(&digest);
    let name = format!("{}.{}.new", digest.file_name(), std::process::id());
    let new = sink.part_folder().join(name);
    blocking(move || {
        write(&new, &to, &bytes).map_err(|error| Error::file(&to, error))?;
        Ok((digest, size))
    })
    .await
}

fn write(new: &Path, to: &Path, bytes: &[u8]) -> std::io::Result<()> {
    for folder in [new.parent(), to.parent()].into_iter().flatten() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = std::fs::File::create(new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(new, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_counted_as_ollama_prints_them() {
        let printed = [8_030_261_248, 7_000_000_000, 134_515_008, 135_000_000, 1_500, 999];
        let printed = printed.map(count);
        assert_eq!(printed, ["8.0B", "7B", "134.52M", "135M", "2K", "999"]);
    }
}
