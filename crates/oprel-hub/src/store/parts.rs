//! A path for a model of several files: blobs have names that do not say which part they are.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Store, StoredModel, disk};
use crate::error::{Error, Result};
use crate::platform;

/// The folder of links, beside `blobs` and `manifests`.
const FOLDER: &str = "parts";

impl Store {
    /// The path under which a model is opened: its file; or, where it has several that are blobs, a link to the
    /// first of them beside links to the others, with the names that parts have.
    ///
    /// # Errors
    /// If the model has no file, or the links cannot be made.
    pub fn runnable(&self, model: &StoredModel) -> Result<PathBuf> {
        let name = model.entry.name.to_string();
        let without = || Error::Part { name, what: "the model", why: "it has no weights".into() };
        let first = model.files.first().ok_or_else(without)?;
        let are_blobs =
            first.file_name().is_some_and(|n| n.to_string_lossy().starts_with("sha256-"));
        let Some(digest) = model.entry.digest().filter(|_| are_blobs && model.files.len() > 1)
        else {
            return Ok(first.clone());
        };
        let folder = self.own.path.join(FOLDER).join(digest.file_name());
        fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        let count = model.files.len();
        let mut paths = Vec::new();
        for (i, file) in model.files.iter().enumerate() {
            let path = folder.join(format!("model-{:05}-of-{count:05}.gguf", i + 1));
            link(file, &path)?;
            paths.push(path);
        }
        Ok(paths.swap_remove(0))
    }
}

/// A link that leads to this file, whatever was there before.
fn link(file: &Path, path: &Path) -> Result<()> {
    let same = |path: &Path| {
        path.canonicalize().is_ok_and(|real| file.canonicalize().is_ok_and(|f| f == real))
    };
    if same(path) {
        return Ok(());
    }
    let temporary = disk::fresh_name(path.parent().unwrap_or(path));
    let made = platform::lead_to(file, &temporary);
    made.and_then(|()| fs::rename(&temporary, path)).map_err(Error::io("make", path))
}
