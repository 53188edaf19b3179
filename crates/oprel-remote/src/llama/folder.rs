//! A folder that only this user can enter, with the socket and the key of one process.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oprel_api::Failure;

use super::broken;

/// Longest path of a socket, with its end.
const LONGEST: usize = 108;

/// What the names of all such folders begin with.
const NAME: &str = "oprel-llama-";
/// A folder younger than this may still be in the making.
const YOUNG: Duration = Duration::from_secs(60);

/// A folder; it is removed when it is dropped.
pub(super) struct Folder {
    path: PathBuf,
    key: String,
    /// Locked for as long as the folder is in use, by whoever uses it.
    _lock: fs::File,
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
        let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_dir());
        let places = own.into_iter().chain([std::env::temp_dir(), "/tmp".into()]);
        let name = format!("{NAME}{}", &secret()?[..16]);
        let fits = |path: &PathBuf| path.join("l.sock").as_os_str().len() < LONGEST;
        let mut paths = places.map(|place| place.join(&name)).filter(fits);
        let made = |path: &PathBuf| fs::DirBuilder::new().mode(0o700).create(path);
        let path = paths.find(|path| made(path).is_ok());
        let path = path.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        if let Some(place) = path.parent() {
            sweep(place);
        }
        let key = secret()?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let written = options.open(path.join("key")).and_then(|mut file| {
            writeln!(file, "{key}")?;
            file.lock().map(|()| file)
        });
        match written {
            Ok(file) => Ok(Folder { path, key, _lock: file }),
            Err(error) => {
                let _ = fs::remove_dir_all(&path);
                Err(failed(error))
            }
        }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path.join("l.sock")
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// All arguments of the program.
    pub(super) fn arguments(&self, model: &Path, options: Vec<OsString>) -> Vec<OsString> {
        let model = model.canonicalize().unwrap_or_else(|_| model.to_path_buf());
        let mut arguments: Vec<OsString> = vec![
            "--model".into(),
            model.into(),
            "--host".into(),
            self.socket().into(),
            "--api-key-file".into(),
            self.path.join("key").into(),
        ];
        arguments.extend(options);
        arguments
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
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
        let key = fs::File::open(entry.path().join("key"));
        if key.is_ok_and(|key| key.try_lock().is_ok()) {
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
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_the_dead_left_is_removed_and_what_the_living_use_is_not() {
        let place = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::now() - YOUNG * 2;
        let make = |name: &str| {
            let path = place.path().join(name);
            fs::create_dir(&path).unwrap();
            let key = fs::File::create(path.join("key")).unwrap();
            fs::File::open(&path).unwrap().set_modified(old).unwrap();
            key
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
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder.path), mode(&folder.path.join("key"))), (0o700, 0o600));
        assert_eq!(fs::read_to_string(folder.path.join("key")).unwrap().trim(), folder.key());
        assert_ne!(Folder::make().unwrap().key(), folder.key());
        let path = folder.path.clone();
        drop(folder);
        assert!(!path.exists());
    }
}
