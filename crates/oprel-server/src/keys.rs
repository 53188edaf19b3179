//! Keys of clients: made by `oprel key`, of which only a hash is kept; read again when their file changes.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::unix_s;

/// How often it is looked whether the file has changed.
const LOOK: Duration = Duration::from_millis(500);
/// Random bytes of a secret.
const SECRET: usize = 32;

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// To generate, embed, rerank and tokenize.
    #[serde(rename = "chat")]
    Chat,
    /// To see which models there are.
    #[serde(rename = "models:read")]
    ModelsRead,
    /// To load, unload and change them.
    #[serde(rename = "models:write")]
    ModelsWrite,
    /// To see metrics.
    #[serde(rename = "metrics")]
    Metrics,
    /// Everything, files of the machine by their path too.
    #[serde(rename = "admin")]
    Admin,
}

impl Scope {
    /// All there are.
    pub const ALL: [Scope; 5] =
        [Scope::Chat, Scope::ModelsRead, Scope::ModelsWrite, Scope::Metrics, Scope::Admin];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Chat => "chat",
            Scope::ModelsRead => "models:read",
            Scope::ModelsWrite => "models:write",
            Scope::Metrics => "metrics",
            Scope::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Scope, String> {
        let known = Scope::ALL.map(Scope::as_str).join(", ");
        let found = Scope::ALL.into_iter().find(|s| s.as_str() == text);
        found.ok_or_else(|| format!("'{text}' is no scope; there are {known}"))
    }
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Names it; part of what the client sends.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// SHA-256 of the secret, in hexadecimal. A secret is random and long: no slow hash is needed.
    pub hash: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it was made: seconds since 1970.
    pub created: u64,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// A key as its owner gets it, once.
pub struct Fresh {
    /// What is kept of it.
    pub key: Key,
    /// What the client sends.
    pub text: String,
}

/// The file of keys.
#[derive(Debug)]
pub struct Keys {
    path: PathBuf,
    read: Mutex<Read>,
}

#[derive(Debug)]
struct Read {
    keys: Vec<Key>,
    looked: Option<Instant>,
    stamp: Option<(SystemTime, u64)>,
    /// Whether there ever was a key, or a file that cannot be read.
    had_any: bool,
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Key {
    /// Whether it allows something now.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|s| *s == scope || *s == Scope::Admin)
    }

    fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|end| now >= end)
    }
}

fn hash(secret: &str) -> String {
    Sha256::digest(secret).iter().map(|b| format!("{b:02x}")).collect()
}

/// Random letters and digits.
fn random(n: usize) -> io::Result<String> {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::new();
    while text.len() < n {
        let mut byte = [0];
        getrandom::fill(&mut byte).map_err(|e| io::Error::other(e.to_string()))?;
        // Of 256 values, 248 are four for each letter; the rest would favour some.
        if byte[0] < 248 {
            text.push(char::from(LETTERS[usize::from(byte[0]) % 62]));
        }
    }
    Ok(text)
}

impl Keys {
    /// The keys of a file, which need not exist.
    pub fn at(path: impl Into<PathBuf>) -> Keys {
        let read = Read { keys: Vec::new(), looked: None, stamp: None, had_any: false };
        Keys { path: path.into(), read: Mutex::new(read) }
    }

    /// All keys.
    ///
    /// # Errors
    /// If the file cannot be read or is none of ours.
    pub fn list(&self) -> io::Result<Vec<Key>> {
        load(&self.path)
    }

    /// Makes a key.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn create(
        &self,
        name: &str,
        scopes: Vec<Scope>,
        lasts: Option<Duration>,
    ) -> io::Result<Fresh> {
        let mut keys = self.list()?;
        // 32 random bytes, in letters of nearly six bits.
        let (id, secret) = (random(8)?, random(SECRET * 8 / 6 + 1)?);
        let created = unix_s();
        let expires = lasts.map(|time| created.saturating_add(time.as_secs()));
        let text = format!("opk_{id}_{secret}");
        let hash = hash(&secret);
        let key = Key { id, name: name.into(), hash, scopes, created, expires };
        keys.push(key.clone());
        store(&self.path, &keys)?;
        Ok(Fresh { key, text })
    }

    /// Removes a key by its id or its name. Whether there was one.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn remove(&self, which: &str) -> io::Result<bool> {
        let mut keys = self.list()?;
        let before = keys.len();
        keys.retain(|key| key.id != which && key.name != which);
        if keys.len() == before {
            return Ok(false);
        }
        store(&self.path, &keys)?;
        Ok(true)
    }

    /// Whether there was no key since this was made. When the last one goes, nobody is let in for that: to be open to
    /// all is said by name, at the start.
    pub(crate) fn never_were(&self) -> bool {
        self.with(|read| !read.had_any)
    }

    /// The key that a client sent, if it is one and has not ended.
    pub(crate) fn find(&self, text: &str) -> Option<Key> {
        let (id, secret) = text.strip_prefix("opk_")?.split_once('_')?;
        self.with(|read| {
            let key = read.keys.iter().find(|key| key.id == id);
            // A key that is not there takes as long as a wrong one.
            let expected = key.map_or("0".repeat(64), |key| key.hash.clone());
            let same: bool = expected.as_bytes().ct_eq(hash(secret).as_bytes()).into();
            key.filter(|key| same && !key.is_over(unix_s())).cloned()
        })
    }

    /// The keys as the file has them now. A file that became unreadable leaves those that were there.
    fn with<T>(&self, look: impl FnOnce(&Read) -> T) -> T {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.looked.is_none_or(|at| at.elapsed() >= LOOK) {
            read.looked = Some(Instant::now());
            let stamp = stamp(&self.path);
            if stamp != read.stamp {
                match load(&self.path) {
                    Ok(keys) => (read.keys, read.stamp) = (keys, stamp),
                    Err(error) => {
                        let path = self.path.display();
                        tracing::error!(%path, %error, "the file of keys cannot be read");
                        read.had_any = true;
                    }
                }
                read.had_any |= !read.keys.is_empty();
            }
        }
        look(&read)
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len()))
}

fn load(path: &Path) -> io::Result<Vec<Key>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Writes all or nothing, for the owner's eyes.
fn store(path: &Path, keys: &[Key]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    crate::platform::private(&mut options);
    let mut file = options.open(&beside)?;
    file.write_all(&serde_json::to_vec_pretty(keys)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_what_it_is_for_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/keys");
        let keys = Keys::at(&path);
        assert!(keys.never_were() && keys.list().unwrap().is_empty());
        let fresh = keys.create("laptop", vec![Scope::Chat], None).unwrap();
        let other = keys.create("old", vec![Scope::Admin], Some(Duration::ZERO)).unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&fresh.text[13..]));
        let keys = Keys::at(&path);
        assert!(!keys.never_were());
        let found = keys.find(&fresh.text).unwrap();
        assert!(found.allows(Scope::Chat) && !found.allows(Scope::Metrics));
        assert_eq!(keys.find(&other.text), None, "it has ended");
        let mut wrong = fresh.text.clone();
        wrong.pop();
        for text in [wrong.as_str(), "", "opk_", "opk__", "opk_x_y", "Bearer x"] {
            assert_eq!(keys.find(text), None, "{text}");
        }
        assert!(keys.remove("laptop").unwrap() && !keys.remove("laptop").unwrap());
        std::thread::sleep(LOOK);
        assert_eq!(keys.find(&fresh.text), None);
        std::fs::remove_file(&path).unwrap();
        std::thread::sleep(LOOK);
        assert!(!keys.never_were(), "what was closed does not open when the last key goes");
        assert!(Keys::at(&path).never_were());
        std::fs::write(&path, "nonsense").unwrap();
        assert!(!Keys::at(&path).never_were(), "nobody knows what was in it");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_the_file_and_a_broken_one_keeps_the_old_keys() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let keys = Keys::at(&path);
        let fresh = keys.create("a", vec![Scope::Admin], None).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(keys.find(&fresh.text).is_some());
        std::fs::write(&path, "nonsense").unwrap();
        std::thread::sleep(LOOK);
        assert!(keys.find(&fresh.text).is_some());
        assert!(keys.create("b", vec![], None).is_err(), "nothing is overwritten");
    }
}
