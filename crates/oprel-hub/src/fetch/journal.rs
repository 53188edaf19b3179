//! What is known about a file that is being fetched, kept beside it.
//!
//! The bytes of a part are written before the journal names them, so a process that is killed loses what the journal
//! does not name yet, and nothing else. A machine that loses power may have kept the journal and not the bytes:
//! therefore it also says what had been written through to the disk, and only that counts after another boot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Digest;

use super::ranges::Ranges;

const VERSION: u32 = 1;
/// More than any journal has.
const MOST_BYTES: u64 = 4 << 20;

/// What is known about a file that is being fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    version: u32,
    /// Bytes that the whole file has.
    pub(crate) size: u64,
    /// What the whole file's digest must be, where that is known.
    pub(crate) digest: Option<String>,
    /// What the server calls the file's content.
    pub(crate) etag: Option<String>,
    /// The commit that it belongs to.
    pub(crate) commit: Option<String>,
    /// The run of the machine in which it was written.
    boot: String,
    /// Ranges that are written.
    done: Vec<(u64, u64)>,
    /// Ranges that are on the disk.
    synced: Vec<(u64, u64)>,
}

impl Journal {
    /// Of a file of which these ranges are written, and those on the disk.
    pub(crate) fn new(size: u64, digest: Option<Digest>, done: &Ranges, synced: &Ranges) -> Self {
        Journal {
            version: VERSION,
            size,
            digest: digest.map(|digest| digest.to_string()),
            boot: boot(),
            done: done.pairs(),
            synced: synced.pairs(),
            ..Journal::default()
        }
    }

    /// What is there of the file, as far as this run of the machine can know.
    pub(crate) fn ranges(&self) -> Option<Ranges> {
        let same = !self.boot.is_empty() && self.boot == boot();
        Ranges::from_pairs(if same { &self.done } else { &self.synced }, self.size)
    }

    /// Reads one; none if there is none that is whole.
    pub(crate) fn load(path: &Path) -> Option<Journal> {
        if fs::metadata(path).ok()?.len() > MOST_BYTES {
            return None;
        }
        let text = fs::read_to_string(path).ok()?;
        let (sum, body) = text.split_once('\n')?;
        if sum != Digest::of(body.as_bytes()).hex() {
            return None;
        }
        serde_json::from_str::<Journal>(body).ok().filter(|journal| journal.version == VERSION)
    }

    /// Writes it in one step.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let body = serde_json::to_string(self).map_err(io::Error::other)?;
        let text = format!("{}\n{body}", Digest::of(body.as_bytes()).hex());
        let new = with_end(path, ".new");
        fs::write(&new, text)?;
        fs::rename(&new, path)
    }
}

/// A path with something behind its name.
pub(crate) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Differs from one run of the machine to the next; empty where that cannot be known.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Journal, Ranges, Ranges) {
        let done = Ranges::from_pairs(&[(0, 10), (20, 30)], 100).expect("in order");
        let synced = Ranges::from_pairs(&[(0, 5)], 100).expect("in order");
        (Journal::new(100, Some(Digest::of(b"x")), &done, &synced), done, synced)
    }

    #[test]
    fn a_journal_reads_what_it_wrote_and_every_cut_or_flip_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.journal");
        let (journal, done, _) = example();
        journal.save(&path).expect("writable");
        assert_eq!(Journal::load(&path).as_ref(), Some(&journal));
        assert_eq!(journal.ranges(), Some(done));
        let whole = fs::read(&path).expect("readable");
        for at in 0..whole.len() {
            fs::write(&path, &whole[..at]).expect("writable");
            assert_eq!(Journal::load(&path), None, "cut at {at}");
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).expect("writable");
            assert_eq!(Journal::load(&path), None, "flipped at {at}");
        }
    }

    #[test]
    fn after_another_boot_only_what_is_on_the_disk_counts() {
        let (mut journal, _, synced) = example();
        journal.boot = "before".into();
        assert_eq!(journal.ranges(), Some(synced.clone()));
        journal.boot.clear();
        assert_eq!(journal.ranges(), Some(synced));
    }
}
