//! The cache of the hub's own clients: `models--USER--REPOSITORY/snapshots/COMMIT/FILE`, links to `blobs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oprel_api::ollama::{ModelName, Place};

use crate::Digest;
use crate::quant::{part_of, quant_of, without_part};

/// The host under which models of the hub are kept.
pub(super) const HOST: &str = "hf.co";
/// How deep in a repository files are looked for.
const DEPTH: u32 = 3;

/// A cache of the hub.
#[derive(Clone, Debug)]
pub(super) struct HubCache {
    path: PathBuf,
}

/// A model in a cache: a GGUF file with all its parts.
#[derive(Clone, Debug)]
pub(super) struct Cached {
    pub(super) name: ModelName,
    pub(super) files: Vec<PathBuf>,
    pub(super) projectors: Vec<PathBuf>,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

impl HubCache {
    pub(super) fn new(path: PathBuf) -> HubCache {
        HubCache { path }
    }

    pub(super) fn has(&self, repository: &str) -> bool {
        let wanted = format!("models--{}", repository.replace('/', "--"));
        self.repositories().iter().any(|(folder, _)| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.eq_ignore_ascii_case(&wanted) && !self.models_of(folder, "x/x").is_empty()
        })
    }

    /// All GGUF models.
    pub(super) fn models(&self) -> Vec<Cached> {
        let repositories = self.repositories();
        repositories.iter().flat_map(|(folder, name)| self.models_of(folder, name)).collect()
    }

    /// The file of these bytes.
    pub(super) fn blob(&self, digest: &Digest) -> Option<PathBuf> {
        let folders = self.repositories().into_iter().map(|(folder, _)| folder.join("blobs"));
        let mut paths = folders.map(|folder| folder.join(digest.hex()));
        // A link would lead anywhere.
        paths.find(|path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()))
    }

    /// Blobs whose names are the SHA-256 of their bytes.
    pub(super) fn blobs(&self) -> Vec<PathBuf> {
        let folders = self.repositories().into_iter().map(|(folder, _)| folder.join("blobs"));
        let entries =
            folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
        let files = entries.map(|entry| entry.path()).filter(|path| path.is_file());
        files.filter(|p| p.file_name().is_some_and(|n| n.len() == 64)).collect()
    }

    fn repositories(&self) -> Vec<(PathBuf, String)> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let named = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (user, repository) = name.strip_prefix("models--")?.split_once("--")?;
            Some((entry.path(), format!("{user}/{repository}")))
        });
        let mut all: Vec<_> = named.filter(|(path, _)| path.is_dir()).collect();
        all.sort();
        all
    }

    fn models_of(&self, folder: &Path, repository: &str) -> Vec<Cached> {
        let Some(snapshot) = newest_snapshot(folder) else { return Vec::new() };
        let mut files = Vec::new();
        gguf_files(&snapshot, DEPTH, &mut files);
        // A link leads to a blob of this repository or of this cache, or it is none of the cache's.
        let Ok(root) = self.path.canonicalize() else { return Vec::new() };
        files.retain(|path| path.canonicalize().is_ok_and(|p| p.is_file() && p.starts_with(&root)));
        files.sort();
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_projector = |path: &PathBuf| name(path).to_ascii_lowercase().contains("mmproj");
        let (projectors, files): (Vec<_>, Vec<_>) = files.into_iter().partition(is_projector);
        let mut groups: Vec<(String, Vec<PathBuf>)> = Vec::new();
        for path in files {
            let stem = without_part(&name(&path)).to_owned();
            match groups.iter_mut().find(|(known, _)| *known == stem) {
                Some((_, parts)) => parts.push(path),
                None => groups.push((stem, vec![path])),
            }
        }
        let made = groups.into_iter().filter(|(_, parts)| is_whole(parts));
        made.filter_map(|(stem, parts)| cached(repository, &stem, parts, &projectors)).collect()
    }
}

/// Whether no part is missing.
fn is_whole(parts: &[PathBuf]) -> bool {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match parts.first().map(name).as_deref().and_then(part_of) {
        Some((_, _, count)) => parts.len() == count as usize,
        None => parts.len() == 1,
    }
}

fn cached(
    repository: &str,
    stem: &str,
    files: Vec<PathBuf>,
    projectors: &[PathBuf],
) -> Option<Cached> {
    let tag = quant_of(stem).unwrap_or_else(|| stem.to_owned());
    let (user, model) = repository.split_once('/')?;
    let name = ModelName {
        scheme: None,
        host: HOST.into(),
        namespace: user.into(),
        model: model.into(),
        tag,
        place: Place::Unsaid,
    };
    let all: Vec<_> = files.iter().chain(projectors).filter_map(|p| fs::metadata(p).ok()).collect();
    let modified = all.iter().filter_map(|m| m.modified().ok()).max();
    name.is_valid().then(|| Cached {
        name,
        projectors: projectors.to_vec(),
        size: all.iter().map(fs::Metadata::len).sum(),
        modified: modified.unwrap_or(SystemTime::UNIX_EPOCH),
        files,
    })
}

/// The commit that `refs/main` names, else the newest.
fn newest_snapshot(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.join("snapshots");
    let main = fs::read_to_string(folder.join("refs/main")).unwrap_or_default();
    let commit = main.trim();
    let plain = !commit.is_empty() && commit.bytes().all(|b| b.is_ascii_hexdigit());
    let named = plain.then(|| snapshots.join(commit)).filter(|path| path.is_dir());
    let newest = || {
        let entries = fs::read_dir(&snapshots).ok()?.flatten().map(|entry| entry.path());
        let changed = |path: &PathBuf| fs::metadata(path).and_then(|m| m.modified()).ok();
        entries.filter(|path| path.is_dir()).max_by_key(changed)
    };
    named.or_else(newest)
}

fn gguf_files(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if path.is_dir() && !is_link && depth > 0 {
            gguf_files(&path, depth - 1, found);
        } else if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf")) {
            found.push(path);
        }
    }
}
