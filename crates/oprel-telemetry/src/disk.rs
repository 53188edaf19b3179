//! Disks: what is free where, and how fast it is read.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::platform;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;
/// Bytes that a probe writes where it has no file to read.
const PROBE: usize = 64 << 20;

/// The disk that a folder is on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// The folder.
    pub path: PathBuf,
    /// What this user may still write there.
    pub free_bytes: Option<u64>,
    /// What the file system has.
    pub total_bytes: Option<u64>,
    /// Bytes a second that are read one after another, if that was measured.
    pub read_rate: Option<f64>,
}

impl Disk {
    /// The disk of a folder, which need not exist yet.
    pub fn of(path: &Path) -> Disk {
        let (free_bytes, total_bytes) = space(path).unzip();
        Disk { path: path.into(), free_bytes, total_bytes, read_rate: None }
    }

    /// How fast a file is read that no memory holds, by up to `most_bytes` from its middle. `None` where
    /// it cannot be read, or where the system cannot be made to forget it.
    pub fn read_rate(file: &Path, most_bytes: u64) -> Option<f64> {
        let mut file = File::open(file).ok()?;
        let len = file.metadata().ok()?.len();
        let most = most_bytes.min(len);
        let start = (len - most) / 2;
        forget(&file)?;
        file.seek(SeekFrom::Start(start)).ok()?;
        let mut piece = vec![0; PIECE];
        let (begin, mut read) = (Instant::now(), 0);
        while read < most {
            match file.read(&mut piece).ok()? {
                0 => break,
                n => read += n as u64,
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        (read > 0 && seconds > 0.0).then(|| read as f64 / seconds)
    }

    /// The same by a file that is written for it and removed: in a folder that exists.
    pub fn probe(folder: &Path) -> Option<f64> {
        let path = folder.join(format!(".oprel-probe-{}", std::process::id()));
        let rate = write_probe(&path).and_then(|()| Disk::read_rate(&path, PROBE as u64));
        // It may not be there.
        let _ = fs::remove_file(&path);
        rate
    }
}

fn write_probe(path: &Path) -> Option<()> {
    let mut file = File::options().write(true).create_new(true).open(path).ok()?;
    // Not zeros, which some file systems do not store.
    let mut word = 0x9e37_79b9_7f4a_7c15u64;
    let mut piece = Vec::with_capacity(PIECE);
    for _ in 0..PROBE / PIECE {
        piece.clear();
        while piece.len() < PIECE {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            piece.extend_from_slice(&word.to_le_bytes());
        }
        file.write_all(&piece).ok()?;
    }
    file.sync_all().ok()
}

/// The nearest folder upwards that exists.
fn space(path: &Path) -> Option<(u64, u64)> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find_map(platform::space)
}

/// Makes the system forget what it holds of a file. Pages that a program has mapped stay.
#[cfg(target_os = "linux")]
fn forget(file: &File) -> Option<()> {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).ok()
}

#[cfg(not(target_os = "linux"))]
fn forget(_: &File) -> Option<()> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_is_on_the_disk_of_those_above() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::of(&folder.path().join("a/b"));
        if cfg!(any(unix, windows)) {
            assert!(disk.total_bytes.unwrap() >= disk.free_bytes.unwrap());
            assert!(disk.total_bytes.unwrap() > 0);
        }
    }

    #[test]
    fn a_file_is_read_and_its_rate_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![7; 3 << 20]).unwrap();
        if cfg!(target_os = "linux") {
            assert!(Disk::read_rate(&path, 1 << 20).unwrap() > 0.0);
        }
        assert_eq!(Disk::read_rate(&folder.path().join("none"), 1), None);
    }
}
