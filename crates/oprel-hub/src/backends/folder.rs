//! The folder of what was installed of one program.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::release::Version;

/// Says of a version where it came from.
const RECORD: &str = ".oprel.json";
/// More than a record ever has.
const MOST_RECORD: u64 = 16 << 10;

/// What was installed of llama.cpp's server.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// A version that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its version.
    pub version: Version,
    /// Its folder.
    pub folder: PathBuf,
    /// The program.
    pub program: PathBuf,
    /// Where it came from, where that is known.
    pub record: Option<Record>,
}

/// Where a version came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The archive's file name.
    pub asset: String,
    /// The archive's SHA-256.
    pub digest: String,
    /// Where it was fetched from.
    pub url: String,
}

/// Held while something is changed.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Folder {
    /// What programs are called, and the folder of their versions.
    pub const PROGRAM: &str = "llama-server";

    /// In the folder of the setting `backends`.
    pub fn of(backends: &Path) -> Folder {
        Folder { path: backends.join(Folder::PROGRAM) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is installed, the newest first.
    pub fn installed(&self) -> Vec<Installed> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let named = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut all: Vec<Installed> =
            named.filter_map(|name| self.get(name.parse().ok()?)).collect();
        all.sort_by_key(|installed| std::cmp::Reverse(installed.version));
        all
    }

    /// A version, if it is installed.
    pub fn get(&self, version: Version) -> Option<Installed> {
        let folder = self.version(version);
        let program = program_in(&folder)?;
        let record = record_of(&folder);
        Some(Installed { version, folder, program, record })
    }

    /// Removes a version.
    ///
    /// # Errors
    /// If it is not installed, or cannot be removed.
    pub fn remove(&self, version: Version) -> Result<()> {
        let folder = self.version(version);
        if fs::symlink_metadata(&folder).is_err() {
            return Err(Error::NotInstalled {
                program: Folder::PROGRAM.into(),
                version: version.to_string(),
                there: self.installed().iter().map(|found| found.version.to_string()).collect(),
            });
        }
        let _lock = self.lock()?;
        // Once it has another name nobody starts a half of it.
        let old = self.beside(version, "old");
        clear(&old)?;
        fs::rename(&folder, &old).map_err(Error::io("remove", &folder))?;
        clear(&old)
    }

    pub(super) fn version(&self, version: Version) -> PathBuf {
        self.path.join(version.to_string())
    }

    /// A folder that counts for nothing yet, or no more.
    pub(super) fn beside(&self, version: Version, end: &str) -> PathBuf {
        self.path.join(format!("{version}.{end}"))
    }

    /// Keeps other processes from changing it.
    pub(super) fn lock(&self) -> Result<Lock> {
        fs::create_dir_all(&self.path).map_err(Error::io("make the folder", &self.path))?;
        let path = self.path.join(".lock");
        let file = File::create(&path).map_err(Error::io("write", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy { folder: self.path.clone() }),
            Err(TryLockError::Error(source)) => Err(Error::io("lock", &path)(source)),
        }
    }

    /// Puts a folder in the place of a version.
    pub(super) fn put(&self, version: Version, fresh: &Path) -> Result<()> {
        let (to, old) = (self.version(version), self.beside(version, "old"));
        clear(&old)?;
        if fs::symlink_metadata(&to).is_ok() {
            fs::rename(&to, &old).map_err(Error::io("replace", &to))?;
        }
        fs::rename(fresh, &to).map_err(Error::io("move to its place", &to))?;
        clear(&old)
    }
}

/// The program in the folder of a version.
pub(super) fn program_in(folder: &Path) -> Option<PathBuf> {
    let name = format!("{}{}", Folder::PROGRAM, std::env::consts::EXE_SUFFIX);
    [folder.join(&name), folder.join("bin").join(&name)].into_iter().find(|path| path.is_file())
}

pub(super) fn write_record(folder: &Path, record: &Record) -> Result<()> {
    let path = folder.join(RECORD);
    // An archive may have put something of this name there.
    clear(&path)?;
    let text = serde_json::to_vec(record).unwrap_or_default();
    fs::write(&path, text).map_err(Error::io("write", &path))
}

fn record_of(folder: &Path) -> Option<Record> {
    let path = folder.join(RECORD);
    let is_small = path.metadata().ok()?.len() <= MOST_RECORD;
    is_small.then(|| serde_json::from_slice(&fs::read(path).ok()?).ok())?
}

/// Removes what is there, if something is.
pub(super) fn clear(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let removed = match metadata.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    removed.map_err(Error::io("remove", path))
}
