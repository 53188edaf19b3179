//! Manifests: the list of files that a model is made of, and the config blob beside them.
//!
//! The bytes of a manifest are kept as they came, because their SHA-256 is the model's digest. A manifest
//! names files by digest alone; nothing in it is ever used as a path.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Digest;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LIST: &str = "application/vnd.ollama.manifest.list.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const IMAGE: &str = "application/vnd.ollama.image.";
/// Which member of a list of manifests is taken, best first. Others need other programs.
const RUNNERS: [&str; 3] = ["ollama", "llamacpp", ""];

/// The list of files that a model is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    bytes: Vec<u8>,
    config: Option<Layer>,
    layers: Vec<Layer>,
    reachable: Vec<Digest>,
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What it is, as a media type.
    pub media_type: String,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// The file or model that it was made from.
    pub from: Option<String>,
    /// Its own name: of one tensor, or of one part of a split GGUF.
    pub name: Option<String>,
}

/// What a file of a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayerKind {
    /// A GGUF file, or one part of a split one.
    Model,
    /// What turns images or sound into vectors.
    Projector,
    /// A LoRA adapter.
    Adapter,
    /// A smaller model that proposes tokens.
    Draft,
    /// One tensor of a model that is no GGUF.
    Tensor,
    /// A JSON file of a model that is no GGUF.
    Json,
    /// The chat template, in the language of Go.
    Template,
    /// The system message.
    System,
    /// Default options, JSON.
    Params,
    /// Messages that stand before every conversation, JSON.
    Messages,
    /// A licence.
    License,
    /// The config blob.
    Config,
    /// Something else; kept, never read.
    Other,
}

impl LayerKind {
    /// The media type; `None` for [`LayerKind::Other`].
    pub fn media_type(self) -> Option<String> {
        let word = match self {
            LayerKind::Model => "model",
            LayerKind::Projector => "projector",
            LayerKind::Adapter => "adapter",
            LayerKind::Draft => "draft",
            LayerKind::Tensor => "tensor",
            LayerKind::Json => "json",
            LayerKind::Template => "template",
            LayerKind::System => "system",
            LayerKind::Params => "params",
            LayerKind::Messages => "messages",
            LayerKind::License => "license",
            LayerKind::Config => return Some(CONFIG.into()),
            LayerKind::Other => return None,
        };
        Some(format!("{IMAGE}{word}"))
    }

    fn of(media_type: &str) -> LayerKind {
        if media_type == CONFIG {
            return LayerKind::Config;
        }
        match media_type.strip_prefix(IMAGE) {
            Some("model") => LayerKind::Model,
            Some("projector") => LayerKind::Projector,
            Some("adapter") => LayerKind::Adapter,
            Some("draft") => LayerKind::Draft,
            Some("tensor") => LayerKind::Tensor,
            Some("json") => LayerKind::Json,
            // `prompt` is the template's old name.
            Some("template" | "prompt") => LayerKind::Template,
            Some("system") => LayerKind::System,
            Some("params") => LayerKind::Params,
            Some("messages") => LayerKind::Messages,
            Some("license") => LayerKind::License,
            _ => LayerKind::Other,
        }
    }
}

impl Layer {
    /// A layer of a known kind.
    pub fn new(kind: LayerKind, digest: Digest, size: u64) -> Layer {
        let media_type = kind.media_type().unwrap_or_default();
        Layer { media_type, digest, size, from: None, name: None }
    }

    /// What it is.
    pub fn kind(&self) -> LayerKind {
        LayerKind::of(&self.media_type)
    }
}

/// A manifest as it stands in JSON; in a list also its members, whole or by digest.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<RawLayer>,
    #[serde(default)]
    layers: Option<Vec<RawLayer>>,
    #[serde(default, skip_serializing)]
    manifests: Vec<Raw>,
    #[serde(default, skip_serializing)]
    runner: String,
    #[serde(default, skip_serializing)]
    digest: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLayer {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    size: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    from: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(bytes: Vec<u8>) -> Result<Manifest, String> {
        Manifest::parse_with(bytes, &|digest| Err(format!("{digest} is not at hand")))
    }

    /// Reads a manifest; `blob` gives the members that a list names by digest.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse_with(
        bytes: Vec<u8>,
        blob: &dyn Fn(&Digest) -> Result<Vec<u8>, String>,
    ) -> Result<Manifest, String> {
        let raw: Raw = serde_json::from_slice(&bytes).map_err(|why| why.to_string())?;
        let mut reachable = Vec::new();
        let chosen = match raw.media_type == LIST {
            false => raw,
            true => choose(raw.manifests, blob, &mut reachable)?,
        };
        let (config, layers) = files(chosen)?;
        reachable.extend(config.iter().chain(&layers).map(|layer| layer.digest));
        reachable.sort_unstable();
        reachable.dedup();
        Ok(Manifest { bytes, config, layers, reachable })
    }

    /// A new manifest of these files, with the bytes that Ollama would write.
    pub fn new(config: Layer, layers: Vec<Layer>) -> Manifest {
        let raw = Raw {
            schema_version: 2,
            media_type: MANIFEST.into(),
            config: Some(raw_layer(&config)),
            layers: Some(layers.iter().map(raw_layer).collect()),
            manifests: Vec::new(),
            runner: String::new(),
            digest: String::new(),
        };
        // Strings and numbers alone: there is nothing that JSON cannot say.
        let mut bytes = serde_json::to_vec(&raw).unwrap_or_default();
        bytes.push(b'\n');
        let mut reachable: Vec<_> = layers.iter().chain([&config]).map(|l| l.digest).collect();
        reachable.sort_unstable();
        reachable.dedup();
        Manifest { bytes, config: Some(config), layers, reachable }
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The model's digest: the SHA-256 of the bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The config blob; nearly every manifest has one.
    pub fn config(&self) -> Option<&Layer> {
        self.config.as_ref()
    }

    /// The files, in order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The files of one kind, in order.
    pub fn of_kind(&self, kind: LayerKind) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(move |layer| layer.kind() == kind)
    }

    /// Config and layers.
    pub fn files(&self) -> impl Iterator<Item = &Layer> {
        self.config.iter().chain(&self.layers)
    }

    /// Every blob that must stay for this manifest, each once; of a list those of all its members.
    pub fn reachable(&self) -> &[Digest] {
        &self.reachable
    }

    /// Bytes of config and layers.
    pub fn size(&self) -> u64 {
        self.files().fold(0, |sum, layer| sum.saturating_add(layer.size))
    }
}

/// The member of a list that is for programs like this one. Notes what all members need.
fn choose(
    members: Vec<Raw>,
    blob: &dyn Fn(&Digest) -> Result<Vec<u8>, String>,
    reachable: &mut Vec<Digest>,
) -> Result<Raw, String> {
    let mut best: Option<(usize, Raw)> = None;
    for mut member in members {
        if member.media_type == LIST {
            return Err("a list of manifests is in a list".into());
        }
        let runner = member.runner.to_ascii_lowercase();
        if member.config.is_none() && member.layers.is_none() && !member.digest.is_empty() {
            let digest: Digest = member.digest.parse().map_err(|why| format!("{why}"))?;
            reachable.push(digest);
            member = serde_json::from_slice(&blob(&digest)?).map_err(|why| why.to_string())?;
        }
        for layer in member.config.iter().chain(member.layers.iter().flatten()) {
            reachable.extend(layer.digest.parse::<Digest>().ok());
        }
        let Some(rank) = RUNNERS.iter().position(|known| *known == runner) else { continue };
        if best.as_ref().is_none_or(|(of_best, _)| rank < *of_best) {
            best = Some((rank, member));
        }
    }
    best.map(|(_, member)| member).ok_or_else(|| "no member of the list is a GGUF model".into())
}

fn files(raw: Raw) -> Result<(Option<Layer>, Vec<Layer>), String> {
    let config = match raw.config {
        Some(config) if !config.digest.is_empty() => Some(layer(config)?),
        _ => None,
    };
    let layers = raw.layers.unwrap_or_default();
    if config.is_none() && layers.is_empty() {
        return Err("it names no files".into());
    }
    // Empty digests stand for layers that are not there.
    let layers = layers.into_iter().filter(|raw| !raw.digest.is_empty());
    Ok((config, layers.map(layer).collect::<Result<_, _>>()?))
}

fn layer(raw: RawLayer) -> Result<Layer, String> {
    let said = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(Layer {
        digest: raw.digest.parse().map_err(|why| format!("{why}"))?,
        media_type: raw.media_type,
        size: raw.size,
        from: said(raw.from),
        name: said(raw.name),
    })
}

fn raw_layer(layer: &Layer) -> RawLayer {
    RawLayer {
        media_type: layer.media_type.clone(),
        digest: layer.digest.to_string(),
        size: layer.size,
        from: layer.from.clone().unwrap_or_default(),
        name: layer.name.clone().unwrap_or_default(),
    }
}

/// The config blob: what a model is, in short. Keys that are not known stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// `gguf`.
    pub model_format: String,
    /// Architecture.
    pub model_family: String,
    /// Architectures of all files.
    pub model_families: Option<Vec<String>>,
    /// Number of weights, rounded: `3.2B`.
    pub model_type: String,
    /// File type: `Q4_K_M`.
    pub file_type: String,
    /// Who writes the prompt, if no template does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub renderer: String,
    /// Who reads the answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parser: String,
    /// The version of Ollama that is needed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub requires: String,
    /// Where the model runs, if elsewhere.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_host: String,
    /// What it is called there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_model: String,
    /// What it can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// Context length.
    #[serde(skip_serializing_if = "is_zero")]
    pub context_length: u64,
    /// Numbers of a vector.
    #[serde(skip_serializing_if = "is_zero")]
    pub embedding_length: u64,
    /// What it was made from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub base_name: String,
    /// The smaller model beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<DraftConfig>,
    /// All that else stands there.
    #[serde(flatten)]
    pub further: Map<String, Value>,
}

/// What the config blob says of the smaller model that proposes tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DraftConfig {
    /// `gguf`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model_format: String,
    /// Architecture.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub architecture: String,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Config {
    /// What every config blob of a container image says, and these files.
    pub fn finish(&mut self, layers: &[Layer]) {
        let ids = layers.iter().map(|layer| Value::from(layer.digest.to_string())).collect();
        let layers = [("type", Value::from("layers")), ("diff_ids", Value::Array(ids))];
        let layers = layers.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.further.insert("architecture".into(), "amd64".into());
        self.further.insert("os".into(), "linux".into());
        self.further.insert("rootfs".into(), Value::Object(layers));
    }

    /// The bytes of the blob.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and JSON alone: there is nothing that JSON cannot say.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests;
