//! One folder with Ollama's layout: where things are in it, and which names it has.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use oprel_api::ollama::{ModelName, Place};

use super::disk;
use crate::error::{Error, Result};
use crate::{Digest, Manifest};

/// The most bytes of a manifest: some name every tensor of a model.
const MOST_MANIFEST: u64 = 64 << 20;
/// Folders of manifests, those first that Ollama takes first.
const MANIFESTS: [&str; 2] = ["manifests-v2", "manifests"];
/// Ollama's registry, as names have it, and as its newer layout has it.
const REGISTRY: &str = "registry.ollama.ai";
const REGISTRY_V2: &str = "ollama.com";

/// A folder with Ollama's layout.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) path: PathBuf,
}

/// A manifest's place.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// `None` if the path spells no name.
    pub(super) name: Option<ModelName>,
    pub(super) path: PathBuf,
}

impl Root {
    pub(super) fn new(path: PathBuf) -> Root {
        Root { path }
    }

    pub(super) fn create(&self) -> Result<()> {
        [self.blobs(), self.manifests(), self.private()]
            .iter()
            .try_for_each(|p| disk::create_folder(p))
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }

    pub(super) fn manifests(&self) -> PathBuf {
        self.path.join("manifests")
    }

    /// What is oprel's alone: the lock, files that come into being, copies of manifests.
    pub(super) fn private(&self) -> PathBuf {
        self.path.join("oprel")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.file_name())
    }

    /// The file of a blob, if it is there.
    pub(super) fn checked_blob(&self, digest: &Digest) -> Result<Option<PathBuf>> {
        let old = self.blobs().join(digest.to_string());
        for path in [self.blob(digest), old] {
            match fs::symlink_metadata(&path) {
                Err(_) => {}
                Ok(metadata) if metadata.is_file() => return Ok(Some(path)),
                Ok(_) => {
                    self.inside(&path)?;
                    return if path.is_file() {
                        Ok(Some(path))
                    } else {
                        Err(Error::NoFile { path })
                    };
                }
            }
        }
        Ok(None)
    }

    /// Where the manifest of a name stands in the layout that every version reads.
    pub(super) fn manifest_path(&self, name: &ModelName) -> Result<PathBuf> {
        below(&self.manifests(), name)
    }

    /// Where the copy of a manifest is kept by which damage to it is found.
    pub(super) fn copy_path(&self, name: &ModelName) -> Result<PathBuf> {
        below(&self.copies(), name)
    }

    /// Every manifest. Where both layouts have a name, only the one that counts.
    pub(super) fn sites(&self) -> Result<Vec<Site>> {
        Ok(self.all_sites()?.0)
    }

    /// Every manifest of all layouts, also those that another one hides.
    pub(super) fn every_site(&self) -> Result<Vec<Site>> {
        let (mut sites, hidden) = self.all_sites()?;
        sites.extend(hidden);
        Ok(sites)
    }

    fn all_sites(&self) -> Result<(Vec<Site>, Vec<Site>)> {
        let (mut sites, mut hidden) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for folder in MANIFESTS {
            let mut found = Vec::new();
            self.walk(&self.path.join(folder), &mut Vec::new(), &mut found)?;
            // Within one folder no name is there twice.
            let mut names = Vec::new();
            for site in found {
                let full = site.name.as_ref().map(ModelName::full);
                let is_hidden = full.as_ref().is_some_and(|full| seen.contains(full));
                if is_hidden {
                    hidden.push(site)
                } else {
                    sites.push(site)
                }
                names.extend(full);
            }
            seen.extend(names);
        }
        Ok((sites, hidden))
    }

    /// Copies of manifests that are no longer where they were written.
    pub(super) fn stale_copies(&self) -> Result<Vec<PathBuf>> {
        let copies = self.copies();
        let mut found = Vec::new();
        self.walk(&copies, &mut Vec::new(), &mut found)?;
        let is_stale = |path: &PathBuf| {
            let below = path.strip_prefix(&copies).ok();
            below.is_some_and(|below| !self.manifests().join(below).exists())
        };
        Ok(found.into_iter().map(|site| site.path).filter(is_stale).collect())
    }

    pub(super) fn copies(&self) -> PathBuf {
        self.private().join("manifests")
    }

    fn walk(&self, folder: &Path, parts: &mut Vec<String>, found: &mut Vec<Site>) -> Result<()> {
        let mut entries: Vec<_> = match fs::read_dir(folder) {
            Ok(entries) => entries.filter_map(|entry| entry.ok()).collect(),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(why) => return Err(Error::io("read", folder)(why)),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            parts.push(entry.file_name().to_string_lossy().into_owned());
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            match (parts.len(), path.is_dir()) {
                // A folder elsewhere holds nothing of this store.
                (1..4, true) if !is_link || self.inside(&path).is_ok() => {
                    self.walk(&path, parts, found)?;
                }
                (4, false) => found.push(Site { name: name_of(parts), path }),
                _ => {}
            }
            parts.pop();
        }
        Ok(())
    }

    /// Reads a manifest, and what it names by digest.
    pub(super) fn read(&self, path: &Path) -> Result<Manifest> {
        self.inside(path)?;
        let bytes = read_most(path, MOST_MANIFEST)?;
        let blob = |digest: &Digest| {
            let path = self.checked_blob(digest).map_err(|why| why.to_string())?;
            let path = path.ok_or_else(|| format!("{digest} is not in the store"))?;
            read_most(&path, MOST_MANIFEST).map_err(|why| why.to_string())
        };
        self.check_linked(path, &bytes)?;
        let wrong = |why| Error::Manifest { path: path.to_owned(), why };
        Manifest::parse_with(bytes, &blob).map_err(wrong)
    }

    /// A link to a blob says by its target's name what the bytes must be.
    fn check_linked(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let Ok(target) = fs::read_link(path) else { return Ok(()) };
        let said = target.file_name().and_then(|name| name.to_str()).and_then(|n| n.parse().ok());
        match said {
            Some(digest) if Digest::of(bytes) == digest => Ok(()),
            Some(digest) => Err(Error::Manifest {
                path: path.to_owned(),
                why: format!("it is damaged: its SHA-256 is not {digest}"),
            }),
            None => Err(Error::Outside { path: path.to_owned() }),
        }
    }

    /// Whether a path, all links followed, is in this folder.
    fn inside(&self, path: &Path) -> Result<()> {
        let root = self.path.canonicalize().map_err(Error::io("read", &self.path))?;
        let real = path.canonicalize().map_err(Error::io("read", path))?;
        if real.starts_with(root) { Ok(()) } else { Err(Error::Outside { path: path.to_owned() }) }
    }
}

fn below(folder: &Path, name: &ModelName) -> Result<PathBuf> {
    if !name.is_valid() {
        return Err(Error::Name { name: name.full() });
    }
    Ok([&name.host, &name.namespace, &name.model, &name.tag]
        .iter()
        .fold(folder.to_owned(), |p, n| p.join(n)))
}

fn name_of(parts: &[String]) -> Option<ModelName> {
    let [host, namespace, model, tag] = parts else { return None };
    let host = if host.eq_ignore_ascii_case(REGISTRY_V2) { REGISTRY } else { host };
    let name = ModelName {
        scheme: None,
        host: host.to_owned(),
        namespace: namespace.clone(),
        model: model.clone(),
        tag: tag.clone(),
        place: Place::Unsaid,
    };
    name.is_valid().then_some(name)
}

/// The bytes of a file that has at most so many.
pub(super) fn read_most(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |why| Error::io("read", path)(why);
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::NoFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 > limit {
        true => Err(Error::TooLarge { path: path.to_owned(), limit }),
        false => Ok(bytes),
    }
}
