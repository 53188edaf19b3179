//! A folder that only this user can enter, with the key of one process and the place where it listens.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oprel_api::Failure;

use super::broken;
use super::platform::{self, Door};

/// What the names of all such folders begin with.
const NAME: &str = "oprel-llama-";
/// The file in it that is locked while it is in use.
const LOCK: &str = "lock";
/// A folder younger than this may still be in the making.
const YOUNG: Duration = Duration::from_secs(60);

/// A folder; it is removed when it is dropped.
pub(super) struct Folder {
    path: PathBuf,
    door: Door,
    key: String,
    /// Locked for as long as the folder is in use, by whoever uses it.
    lock: Option<fs::File>,
}

/// Without the key.
impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Folder {
    pub(super) fn make() -> Result<Folder, Failure> {
        let failed =
            |e: std::io::Error| broken(&format!("cannot make a folder for its socket: {e}"));
        let name = format!("{NAME}{}", &secret()?[..16]);
        let mut paths = platform::places().into_iter().map(|place| place.join(&name));
        let path = paths.find(|path| platform::make_folder(path).is_ok());
        let path = path.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        if let Some(place) = path.parent() {
            sweep(place);
        }
        let key = secret()?;
        let filled = fill(&path, &key).and_then(|lock| Ok((lock, Door::below(&path)?)));
        match filled {
            Ok((lock, door)) => Ok(Folder { path, door, key, lock: Some(lock) }),
            Err(error) => {
                let _ = fs::remove_dir_all(&path);
                Err(failed(error))
            }
        }
    }

    /// Where the process listens.
    pub(super) fn door(&self) -> &Door {
        &self.door
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// All arguments of the program.
    pub(super) fn arguments(&self, model: &Path, options: Vec<OsString>) -> Vec<OsString> {
        let model = model.canonicalize().unwrap_or_else(|_| model.to_path_buf());
        let mut arguments: Vec<OsString> = vec!["--model".into(), model.into()];
        arguments.extend(self.door.arguments());
        arguments.extend(["--api-key-file".into(), self.path.join("key").into()]);
        arguments.extend(options);
        arguments
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is open is not removed everywhere.
        self.lock = None;
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Writes the key, and locks a file beside it: on Windows nobody else reads one that is locked.
fn fill(path: &Path, key: &str) -> std::io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    platform::private(&mut options);
    writeln!(options.open(path.join("key"))?, "{key}")?;
    let lock = options.open(path.join(LOCK))?;
    lock.lock().map(|()| lock)
}

/// Removes folders of those who were killed before they could.
fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(NAME);
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|m| m.elapsed().ok());
        if !is_ours || age.is_none_or(|age| age < YOUNG) {
            continue;
        }
        let lock = fs::File::open(entry.path().join(LOCK));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// 64 letters and digits that nobody can guess.
fn secret() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| broken(&format!("no key can be drawn: {e}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_the_dead_left_is_removed_and_what_the_living_use_is_not() {
        let place = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::now() - YOUNG * 2;
        let make = |name: &str| {
            let path = place.path().join(name);
            fs::create_dir(&path).unwrap();
            let lock = fs::File::create(path.join(LOCK)).unwrap();
            fs::File::open(&path).unwrap().set_modified(old).unwrap();
            lock
        };
        let used = make("oprel-llama-a");
        used.lock().unwrap();
        drop((make("oprel-llama-b"), make("else")));
        fs::create_dir(place.path().join("oprel-llama-young")).unwrap();
        sweep(place.path());
        let mut left: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["else", "oprel-llama-a", "oprel-llama-young"]);
    }

    #[test]
    fn nobody_else_can_look_in_and_nothing_stays() {
        let folder = Folder::make().unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&folder.path), mode(&folder.path.join("key"))), (0o700, 0o600));
        }
        assert_eq!(fs::read_to_string(folder.path.join("key")).unwrap().trim(), folder.key());
        assert_ne!(Folder::make().unwrap().key(), folder.key());
        let path = folder.path.clone();
        drop(folder);
        assert!(!path.exists());
    }
}
