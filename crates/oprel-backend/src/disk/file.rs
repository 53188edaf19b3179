//! One page or checkpoint in a file: a header, then its bytes, compressed where that saves much.
//!
//! Header of 64 bytes, numbers little-endian: `OPRLPAGE`, version (u32), part (u32), name (16 bytes),
//! bytes of the page (u64), bytes that follow (u64), checksum of header and rest (u128, counted as 0).
//! The part is the number of a group, or for a checkpoint the tokens after its last whole page, and its
//! highest bit. The name tells of that page too: it is a hash of the page's own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use oprel_engine::{PageKey, Part};
use xxhash_rust::xxh3::Xxh3;

const MAGIC: &[u8; 8] = b"OPRLPAGE";
const VERSION: u32 = 1;
const HEADER: usize = 64;
/// Where the checksum lies.
const CHECKSUM: std::ops::Range<usize> = 48..64;
/// Compressed pages are kept if they are this much smaller, in parts of 8: less is not worth the time.
const WORTH: usize = 6;
/// Bytes that are compressed to see whether the rest would be.
const TASTE: usize = 16 << 10;
/// Age of an unfinished file that nobody writes any more.
const OLD: Duration = Duration::from_secs(3600);

/// Writes a page; how many bytes its file has.
pub(super) fn write(path: &Path, key: PageKey, page: &[u8]) -> io::Result<u64> {
    let packed = pack(page);
    let body = packed.as_deref().unwrap_or(page);
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&number(key.part).to_le_bytes());
    header[16..32].copy_from_slice(&key.name.bytes());
    header[32..40].copy_from_slice(&(page.len() as u64).to_le_bytes());
    header[40..48].copy_from_slice(&(body.len() as u64).to_le_bytes());
    let sum = checksum(&header, body);
    header[CHECKSUM].copy_from_slice(&sum);
    // Several processes may write the same page.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let unique = COUNT.fetch_add(1, Ordering::Relaxed);
    let part = path.with_extension(format!("{}-{unique}.part", std::process::id()));
    let written = private(&part).and_then(|mut file| {
        file.write_all(&header)?;
        file.write_all(body)
    });
    if let Err(error) = written.and_then(|()| fs::rename(&part, path)) {
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    Ok((HEADER + body.len()) as u64)
}

/// Reads a page of this length; `None` if it is not there, or not to the byte what was written.
pub(super) fn read(path: &Path, key: PageKey, length: usize) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    if size < HEADER as u64 || size > (HEADER + length) as u64 {
        return None;
    }
    let mut header = [0; HEADER];
    file.read_exact(&mut header).ok()?;
    let mut body = Vec::new();
    body.try_reserve_exact(length).ok()?;
    file.take(length as u64 + 1).read_to_end(&mut body).ok()?;
    let length_at =
        |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap_or_default());
    let is_right = header[..8] == *MAGIC
        && header[8..12] == VERSION.to_le_bytes()
        && header[12..16] == number(key.part).to_le_bytes()
        && header[16..32] == key.name.bytes()
        && length_at(32) == length as u64
        && length_at(40) == body.len() as u64
        && header[CHECKSUM] == checksum(&header, &body);
    if !is_right {
        return None;
    }
    match body.len() == length {
        true => Some(body),
        false => lz4_flex::block::decompress(&body, length).ok().filter(|p| p.len() == length),
    }
}

/// A part as the header says it.
fn number(part: Part) -> u32 {
    match part {
        Part::Group(group) => group,
        Part::Point { rest, .. } => rest | 1 << 31,
    }
}

/// The checksum of a header, its own place counted as zeros, and what follows.
fn checksum(header: &[u8; HEADER], body: &[u8]) -> [u8; 16] {
    let mut hash = Xxh3::new();
    hash.update(&header[..CHECKSUM.start]);
    hash.update(&[0; 16]);
    hash.update(body);
    hash.digest128().to_le_bytes()
}

/// The page compressed, if that is worth it: the middle of it tells.
fn pack(page: &[u8]) -> Option<Vec<u8>> {
    let taste = &page[page.len() / 2..page.len().min(page.len() / 2 + TASTE)];
    let small = |packed: &[u8], of: &[u8]| packed.len() < of.len() / 8 * WORTH;
    if !small(&lz4_flex::block::compress(taste), taste) {
        return None;
    }
    Some(lz4_flex::block::compress(page)).filter(|packed| small(packed, page))
}

/// A new file that only its owner reads.
fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A folder that only its owner looks into.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Notes that a file was used.
pub(super) fn touch(path: &Path, now: SystemTime) {
    if let Ok(file) = OpenOptions::new().write(true).open(path) {
        let _ = file.set_modified(now);
    }
}

/// Whether an unfinished file is of somebody who is gone.
pub(super) fn is_old(modified: SystemTime) -> bool {
    modified.elapsed().is_ok_and(|age| age > OLD)
}
