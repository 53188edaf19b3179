//! What is in a store: its models, and all that is needed to run one.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oprel_api::ollama::{Details, ModelName, Tag};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Store;
use super::hub_cache::Cached;
use super::root::{Root, Site, read_most};
use crate::error::{Error, Result};
use crate::quant::USUAL;
use crate::{Config, Digest, Layer, LayerKind, Manifest};

/// The most bytes of a text that belongs to a model.
const MOST_TEXT: u64 = 16 << 20;

/// Where a model is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// In the store.
    Own,
    /// In a store that is only read.
    Beside(PathBuf),
    /// In a cache of the hub.
    HubCache,
}

/// A model of a store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name as it is stored.
    pub name: ModelName,
    /// Where it is kept.
    pub kept: Kept,
    /// Its manifest; a model of a cache has none.
    pub manifest: Option<Manifest>,
    /// Bytes of all its files.
    pub size: u64,
    /// When it was changed last.
    pub modified: SystemTime,
    path: PathBuf,
}

/// A manifest that cannot be read.
#[derive(Debug)]
pub struct Broken {
    /// The name that its path spells, if it spells one.
    pub name: Option<ModelName>,
    /// The manifest.
    pub path: PathBuf,
    /// Why.
    pub why: Error,
}

/// All models of a store.
#[derive(Debug, Default)]
pub struct Listing {
    /// Models, those first that were changed last.
    pub models: Vec<Entry>,
    /// What cannot be read.
    pub broken: Vec<Broken>,
}

/// All that is needed to run a model of a store.
#[derive(Clone, Debug)]
pub struct StoredModel {
    /// What it is.
    pub entry: Entry,
    /// What its config blob says.
    pub config: Config,
    /// The GGUF file, or all parts of a split one in their order.
    pub files: Vec<PathBuf>,
    /// What turns images or sound into vectors.
    pub projectors: Vec<PathBuf>,
    /// LoRA adapters.
    pub adapters: Vec<PathBuf>,
    /// A smaller model that proposes tokens, with all its parts.
    pub draft: Vec<PathBuf>,
    /// Chat template in the language of Go.
    pub template: Option<String>,
    /// System message.
    pub system: Option<String>,
    /// Default options.
    pub params: Map<String, Value>,
    /// Messages that stand before every conversation.
    pub messages: Vec<StoredMessage>,
    /// Licences.
    pub licenses: Vec<String>,
}

/// A message that stands before every conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What it says.
    pub content: String,
}

impl Entry {
    /// The SHA-256 of the manifest; a model of a cache has none.
    pub fn digest(&self) -> Option<Digest> {
        self.manifest.as_ref().map(Manifest::digest)
    }

    /// The manifest, or the first file of a model of a cache.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store {
    /// All models, and what cannot be read.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut seen = HashSet::new();
        for root in self.roots() {
            for site in root.sites()? {
                let full = site.name.as_ref().map(ModelName::full);
                if full.is_none_or(|full| seen.insert(full)) {
                    self.add(root, site, &mut listing);
                }
            }
        }
        for cached in self.caches.iter().flat_map(|cache| cache.models()) {
            if seen.insert(cached.name.full()) {
                listing.models.push(entry_of(&cached));
            }
        }
        listing.models.sort_by(|a, b| {
            b.modified.cmp(&a.modified).then_with(|| a.name.full().cmp(&b.name.full()))
        });
        Ok(listing)
    }

    fn add(&self, root: &Root, site: Site, listing: &mut Listing) {
        let made = match &site.name {
            Some(name) => self.entry(root, name.clone(), &site.path),
            None => Err(Error::Name { name: site.path.display().to_string() }),
        };
        match made {
            Ok(entry) => listing.models.push(entry),
            Err(why) => listing.broken.push(Broken { name: site.name, path: site.path, why }),
        }
    }

    /// The model of a name, in whatever case it is written.
    ///
    /// # Errors
    /// If it is there and its manifest cannot be read.
    pub fn find(&self, name: &ModelName) -> Result<Option<Entry>> {
        for root in self.roots() {
            if let Some((stored, path)) = self.site(root, name)? {
                return self.entry(root, stored, &path).map(Some);
            }
        }
        Ok(self.find_cached(name).map(|cached| entry_of(&cached)))
    }

    /// A name as a store has it, whether its manifest can be read or not.
    ///
    /// # Errors
    /// If it is no name, or a folder cannot be read.
    pub fn stored_name(&self, name: &ModelName) -> Result<Option<ModelName>> {
        for root in self.roots() {
            if let Some((stored, _)) = self.site(root, name)? {
                return Ok(Some(stored));
            }
        }
        Ok(self.find_cached(name).map(|cached| cached.name))
    }

    /// Where in one root a name is, as it is stored. The very name comes before one in another case.
    pub(super) fn site(
        &self,
        root: &Root,
        name: &ModelName,
    ) -> Result<Option<(ModelName, PathBuf)>> {
        if !name.is_valid() {
            return Err(Error::Name { name: name.full() });
        }
        let same = |site: Site| {
            let known = site.name.filter(|known| known.key() == name.key())?;
            Some((known, site.path))
        };
        let mut found: Vec<_> = root.sites()?.into_iter().filter_map(same).collect();
        found.sort_by_key(|(known, _)| known.full() != name.full());
        Ok(found.into_iter().next())
    }

    fn find_cached(&self, name: &ModelName) -> Option<Cached> {
        let wanted = name.key();
        let all: Vec<_> = self.caches.iter().flat_map(|cache| cache.models()).collect();
        if let Some(same) = all.iter().find(|cached| cached.name.key() == wanted) {
            return Some(same.clone());
        }
        if !name.tag.eq_ignore_ascii_case("latest") {
            return None;
        }
        let of_repository = |cached: &&Cached| {
            ModelName { tag: name.tag.clone(), ..cached.name.clone() }.key() == wanted
        };
        let mut fit: Vec<&Cached> = all.iter().filter(of_repository).collect();
        let rank = |c: &Cached| USUAL.iter().position(|q| *q == c.name.tag).unwrap_or(USUAL.len());
        fit.sort_by_key(|cached| rank(cached));
        fit.first().map(|cached| (*cached).clone())
    }

    fn entry(&self, root: &Root, name: ModelName, path: &Path) -> Result<Entry> {
        let manifest = root.read(path)?;
        let metadata = fs::metadata(path).map_err(Error::io("read", path))?;
        let kept = match root.path == self.own.path {
            true => Kept::Own,
            false => Kept::Beside(root.path.clone()),
        };
        Ok(Entry {
            name,
            kept,
            size: manifest.size(),
            manifest: Some(manifest),
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            path: path.to_owned(),
        })
    }

    /// All that is needed to run a model.
    ///
    /// # Errors
    /// [`Error::NotFound`] if no store has it; what is missing or damaged of it.
    pub fn model(&self, name: &ModelName) -> Result<StoredModel> {
        let entry = self.find(name)?;
        let entry = entry.ok_or_else(|| Error::NotFound { name: name.to_string() })?;
        match entry.manifest.clone() {
            Some(manifest) => self.open_model(entry, &manifest),
            None => self.cached_model(entry),
        }
    }

    /// What the config blob of a model says; of a model of a cache, what its name does.
    ///
    /// # Errors
    /// If the blob is missing or damaged.
    pub fn config(&self, entry: &Entry) -> Result<Config> {
        let config = entry.manifest.as_ref().map(Manifest::config);
        match config {
            Some(Some(layer)) => self.json(&entry.name.to_string(), "the config", layer),
            Some(None) => Ok(Config::default()),
            None => Ok(Config {
                model_format: "gguf".into(),
                file_type: entry.name.tag.clone(),
                ..Config::default()
            }),
        }
    }

    /// What is told of a model in lists.
    ///
    /// # Errors
    /// As [`Store::config`].
    pub fn tag(&self, entry: &Entry) -> Result<Tag> {
        let config = self.config(entry)?;
        let number = |n: u64| Some(n).filter(|n| *n > 0);
        Ok(Tag {
            name: entry.name.to_string(),
            model: entry.name.to_string(),
            modified_at: entry.modified.into(),
            size: entry.size,
            digest: entry.digest().map(|digest| digest.hex()).unwrap_or_default(),
            details: Details {
                parent_model: String::new(),
                format: config.model_format,
                family: config.model_family,
                families: config.model_families.unwrap_or_default(),
                parameter_size: config.model_type,
                quantization_level: config.file_type,
                context_length: number(config.context_length),
                embedding_length: number(config.embedding_length),
            },
            capabilities: config.capabilities.unwrap_or_default(),
        })
    }

    fn cached_model(&self, entry: Entry) -> Result<StoredModel> {
        let cached = self.find_cached(&entry.name);
        let cached = cached.ok_or_else(|| Error::NotFound { name: entry.name.to_string() })?;
        let mut model = StoredModel::empty(entry);
        model.files = cached.files;
        model.projectors = cached.projectors;
        Ok(model)
    }

    fn open_model(&self, entry: Entry, manifest: &Manifest) -> Result<StoredModel> {
        let mut model = StoredModel::empty(entry);
        let name = model.entry.name.to_string();
        model.config = self.config(&model.entry)?;
        for layer in manifest.layers() {
            let path = || self.blob_of(&name, layer);
            match layer.kind() {
                LayerKind::Model => model.files.push(path()?),
                LayerKind::Projector => model.projectors.push(path()?),
                LayerKind::Adapter => model.adapters.push(path()?),
                LayerKind::Draft => model.draft.push(path()?),
                LayerKind::Template => {
                    model.template = Some(self.text(&name, "the template", layer)?)
                }
                LayerKind::System => {
                    model.system = Some(self.text(&name, "the system message", layer)?)
                }
                LayerKind::License => model.licenses.push(self.text(&name, "a licence", layer)?),
                LayerKind::Params => {
                    let more: Map<String, Value> = self.json(&name, "the parameters", layer)?;
                    model.params.extend(more);
                }
                LayerKind::Messages => model.messages = self.json(&name, "the messages", layer)?,
                _ => {}
            }
        }
        Ok(model)
    }

    /// The file of a layer, which has to be there.
    pub(crate) fn blob_of(&self, name: &str, layer: &Layer) -> Result<PathBuf> {
        let missing = || Error::Missing { name: name.to_owned(), digest: layer.digest };
        self.find_blob(&layer.digest)?.ok_or_else(missing)
    }

    /// A layer that is text.
    pub(crate) fn text(&self, name: &str, what: &'static str, layer: &Layer) -> Result<String> {
        let bytes = read_most(&self.blob_of(name, layer)?, MOST_TEXT)?;
        String::from_utf8(bytes).map_err(|why| part(name, what, why.to_string()))
    }

    /// A layer that is JSON.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        what: &'static str,
        layer: &Layer,
    ) -> Result<T> {
        let bytes = read_most(&self.blob_of(name, layer)?, MOST_TEXT)?;
        serde_json::from_slice(&bytes).map_err(|why| part(name, what, why.to_string()))
    }
}

impl StoredModel {
    fn empty(entry: Entry) -> StoredModel {
        StoredModel {
            entry,
            config: Config::default(),
            files: Vec::new(),
            projectors: Vec::new(),
            adapters: Vec::new(),
            draft: Vec::new(),
            template: None,
            system: None,
            params: Map::new(),
            messages: Vec::new(),
            licenses: Vec::new(),
        }
    }
}

fn part(name: &str, what: &'static str, why: String) -> Error {
    Error::Part { name: name.to_owned(), what, why }
}

fn entry_of(cached: &Cached) -> Entry {
    Entry {
        name: cached.name.clone(),
        kept: Kept::HubCache,
        manifest: None,
        size: cached.size,
        modified: cached.modified,
        path: cached.files.first().cloned().unwrap_or_default(),
    }
}
