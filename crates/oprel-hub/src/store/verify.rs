//! Whether everything in a store is what it was when it came.
//!
//! A blob is checked by its name. A manifest has nothing that says what it must be, so the store keeps a copy
//! of every manifest that it wrote. Where copy and manifest differ in a few bytes, one of them is damaged; where
//! they differ in many, another program wrote the manifest anew, since a new manifest names other digests.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use oprel_api::ollama::ModelName;

use super::Store;
use super::root::{Root, read_most};
use crate::{Digest, Error, Layer, LayerKind, Manifest, Result};

/// Bytes by which a damaged manifest differs at most from its copy: a digest has 64.
const FEW: usize = 16;
const MOST_COPY: u64 = 64 << 20;

/// Something in a store that is not what it was.
#[derive(Debug)]
pub struct Damage {
    /// The models that it concerns; none for a file that nothing names.
    pub models: Vec<ModelName>,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// It is not there.
    #[error("missing")]
    Missing,
    /// Its bytes are others.
    #[error("altered: its SHA-256 is {found}")]
    Altered {
        /// The SHA-256 of what is there.
        found: Digest,
    },
    /// It has another size than the manifest says.
    #[error("{found} bytes, the manifest says {said}")]
    Size {
        /// Bytes by the manifest.
        said: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// A manifest differs in a few bytes from the copy that was kept of it.
    #[error("altered: {bytes} bytes differ from what was written")]
    AlteredManifest {
        /// How many.
        bytes: usize,
    },
    /// A manifest has a file of a kind that is not known.
    #[error("it names a file of the unknown kind '{media_type}'")]
    Kind {
        /// The media type.
        media_type: String,
    },
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(Error),
}

/// A blob that manifests name.
#[derive(Default)]
struct Wanted {
    models: Vec<ModelName>,
    sizes: Vec<u64>,
}

impl Store {
    /// Reads every byte of the store, of those beside it and of the hub's caches, and tells what is damaged.
    /// `read` is called with the bytes of each file once it was read.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn verify(&self, read: &mut dyn FnMut(u64)) -> Result<Vec<Damage>> {
        let mut damages = Vec::new();
        let mut seen = HashSet::new();
        for root in self.roots() {
            let wanted = self.verify_manifests(root, &mut damages)?;
            self.verify_blobs(root, wanted, &mut seen, &mut damages, read)?;
        }
        for path in self.caches.iter().flat_map(|cache| cache.blobs()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Ok(digest) = name.parse() else { continue };
            if let Some(wrong) = check(&path, &digest, read) {
                damages.push(Damage { models: Vec::new(), path, wrong });
            }
        }
        Ok(damages)
    }

    /// Reads all manifests of a root and gives back what they name.
    fn verify_manifests(
        &self,
        root: &Root,
        damages: &mut Vec<Damage>,
    ) -> Result<BTreeMap<Digest, Wanted>> {
        let mut wanted: BTreeMap<Digest, Wanted> = BTreeMap::new();
        for site in root.every_site()? {
            let models: Vec<_> = site.name.iter().cloned().collect();
            let mut report = |wrong| {
                damages.push(Damage { models: models.clone(), path: site.path.clone(), wrong });
            };
            let manifest = match root.read(&site.path) {
                Ok(manifest) => manifest,
                Err(why) => {
                    report(Wrong::Unreadable(why));
                    continue;
                }
            };
            if let Some(bytes) =
                site.name.as_ref().and_then(|name| differing(root, name, &manifest))
            {
                report(Wrong::AlteredManifest { bytes });
            }
            if let Some(layer) = manifest.layers().iter().find(|layer| !is_known(layer)) {
                report(Wrong::Kind { media_type: layer.media_type.clone() });
            }
            for digest in manifest.reachable() {
                let blob = wanted.entry(*digest).or_default();
                blob.models.extend(models.iter().cloned());
                let sizes = manifest.files().filter(|f| f.digest == *digest).map(|f| f.size);
                blob.sizes.extend(sizes);
            }
        }
        Ok(wanted)
    }

    /// Reads all blobs of a root, and tells which are wanted and nowhere.
    fn verify_blobs(
        &self,
        root: &Root,
        mut wanted: BTreeMap<Digest, Wanted>,
        seen: &mut HashSet<Digest>,
        damages: &mut Vec<Damage>,
        read: &mut dyn FnMut(u64),
    ) -> Result<()> {
        for path in blobs_in(&root.blobs())? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Ok(digest) = name.parse::<Digest>() else { continue };
            let blob = wanted.remove(&digest).unwrap_or_default();
            let wrong = match root.checked_blob(&digest) {
                Err(why) => Some(Wrong::Unreadable(why)),
                Ok(_) => check(&path, &digest, read).or_else(|| wrong_size(&path, &blob)),
            };
            seen.insert(digest);
            if let Some(wrong) = wrong {
                damages.push(Damage { models: blob.models, path, wrong });
            }
        }
        for (digest, blob) in wanted {
            if !seen.contains(&digest) && !self.has(&digest) {
                let path = root.blob(&digest);
                damages.push(Damage { models: blob.models, path, wrong: Wrong::Missing });
            }
        }
        Ok(())
    }
}

fn blobs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let mut all: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            all.sort();
            Ok(all)
        }
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(why) => Err(Error::io("read", folder)(why)),
    }
}

fn check(path: &Path, digest: &Digest, read: &mut dyn FnMut(u64)) -> Option<Wrong> {
    match File::open(path).and_then(Digest::of_reader) {
        Ok((found, bytes)) => {
            read(bytes);
            (found != *digest).then_some(Wrong::Altered { found })
        }
        Err(why) => Some(Wrong::Unreadable(Error::io("read", path)(why))),
    }
}

fn wrong_size(path: &Path, blob: &Wanted) -> Option<Wrong> {
    let found = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let said = *blob.sizes.iter().find(|size| **size != found)?;
    Some(Wrong::Size { said, found })
}

/// In how many bytes a manifest differs from its copy, if that can only be damage.
fn differing(root: &Root, name: &ModelName, manifest: &Manifest) -> Option<usize> {
    let copy = read_most(&root.copy_path(name).ok()?, MOST_COPY).ok()?;
    let bytes = manifest.bytes();
    let differ = bytes.iter().zip(&copy).filter(|(a, b)| a != b).count();
    let n = differ + bytes.len().abs_diff(copy.len());
    (1..=FEW).contains(&n).then_some(n)
}

fn is_known(layer: &Layer) -> bool {
    layer.kind() != LayerKind::Other || layer.media_type == "application/vnd.ollama.image.embed"
}
