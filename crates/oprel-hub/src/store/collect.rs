//! Garbage: files that nothing names.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Store, disk};
use crate::{Digest, Freed, Result};

/// How old garbage has to be. What is younger may belong to a model that is just being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// Blobs that nothing names, and files that were being written.
    pub blobs: Duration,
    /// Pieces of downloads, which may be resumed days later.
    pub partials: Duration,
}

impl Default for Grace {
    fn default() -> Grace {
        Grace { blobs: Duration::from_secs(3600), partials: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// What a collection did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collected {
    /// Garbage is gone.
    Done(Freed),
    /// Nothing was touched: pruning is turned off.
    TurnedOff,
    /// Nothing was touched: these manifests cannot be read, and may name any file.
    Unreadable(Vec<PathBuf>),
}

impl Store {
    /// Removes files that no manifest names, and folders of manifests that are empty.
    ///
    /// # Errors
    /// [`Busy`](crate::Error::Busy); what the system says of a file that cannot be removed.
    pub fn collect(&self, grace: Grace) -> Result<Collected> {
        if !self.prune {
            return Ok(Collected::TurnedOff);
        }
        let _lock = self.lock()?;
        let unreadable = self.unreadable();
        let Some(named) = self.named() else { return Ok(Collected::Unreadable(unreadable)) };
        let mut freed = Freed::default();
        for (path, digest) in self.files()? {
            let is_named = digest.is_some_and(|digest| named.contains(&digest));
            if is_named || !is_older(&path, &grace) {
                continue;
            }
            let bytes = fs::symlink_metadata(&path).map_or(0, |metadata| metadata.len());
            disk::remove(&path)?;
            freed.files += 1;
            freed.bytes += bytes;
        }
        for copy in self.own.stale_copies()? {
            disk::remove(&copy)?;
        }
        for folder in ["manifests", "manifests-v2", "oprel/manifests"] {
            remove_empty_below(&self.own.path.join(folder));
        }
        Ok(Collected::Done(freed))
    }

    /// Every digest that a manifest of the store names; `None` if one of them cannot be read.
    pub(super) fn named(&self) -> Option<HashSet<Digest>> {
        let mut named = HashSet::new();
        for site in self.own.every_site().ok()? {
            let manifest = self.own.read(&site.path).ok()?;
            named.extend(manifest.reachable().iter().copied());
            // In the newer layout manifests are blobs themselves.
            named.insert(manifest.digest());
        }
        Some(named)
    }

    fn unreadable(&self) -> Vec<PathBuf> {
        let sites = self.own.every_site().unwrap_or_default().into_iter();
        sites.filter(|site| self.own.read(&site.path).is_err()).map(|site| site.path).collect()
    }

    /// Files that may be garbage; blobs with their digest.
    pub(super) fn files(&self) -> Result<Vec<(PathBuf, Option<Digest>)>> {
        let mut files = Vec::new();
        for folder in [self.own.blobs(), self.own.private()] {
            let in_blobs = folder == self.own.blobs();
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(why) if why.kind() == std::io::ErrorKind::NotFound => continue,
                Err(why) => return Err(crate::Error::io("read", &folder)(why)),
            };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let is_file = !entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_file && (in_blobs || name.ends_with(".tmp")) {
                    files.push((entry.path(), name.parse().ok()));
                }
            }
        }
        Ok(files)
    }
}

/// Whether a file is old enough to go. One from the future is not.
fn is_older(path: &Path, grace: &Grace) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // What writes a model beside a name of ours has an ending of its own until that is whole.
    let own = name.parse::<Digest>().is_ok() || name.contains(".tmp");
    let grace = if own { grace.blobs } else { grace.partials };
    let changed = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let age = changed.ok().and_then(|time| SystemTime::now().duration_since(time).ok());
    age.is_some_and(|age| age >= grace)
}

fn remove_empty_below(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty_below(&entry.path());
            disk::remove_empty(&entry.path(), folder);
        }
    }
}
