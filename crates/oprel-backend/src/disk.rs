//! The prefix cache on disk: a file for each page and each checkpoint of recurrent state, in a folder for
//! each model.
//!
//! Two threads of its own read and write. A page is written beside its place and renamed, so that it is
//! whole or not there; its checksum covers every byte of it, and one that is wrong is removed and never
//! used. What was unused for longest goes when the folder grows beyond its size. Pages hold what
//! users wrote: only their owner may read them.

mod file;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use oprel_engine::{Name, PageKey, PageStore, Part};

/// Pages that wait to be written: so many, and of so many bytes together. One always may.
const WAITING: usize = 32;
const WAITING_BYTES: usize = 128 << 20;

/// The pages of one model on disk.
#[derive(Debug)]
pub(crate) struct Disk {
    entries: Arc<Mutex<Entries>>,
    folder: PathBuf,
    writes: Option<SyncSender<Write>>,
    /// Bytes that wait to be written.
    waiting: Arc<AtomicUsize>,
    reads: Option<Sender<(PageKey, usize)>>,
    came: Receiver<(PageKey, Option<Vec<u8>>)>,
    threads: Vec<JoinHandle<()>>,
}

enum Write {
    Page(PageKey, Vec<u8>),
    /// Answered when all before it is written.
    Flush(Sender<()>),
}

/// The files of all models, by path.
#[derive(Debug, Default)]
struct Entries {
    files: HashMap<PathBuf, Entry>,
    /// Checkpoints of this model, by the page before them.
    points: HashMap<Name, Vec<PageKey>>,
    /// The folder of this model.
    folder: PathBuf,
    bytes: u64,
    most_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    bytes: u64,
    used: SystemTime,
}

impl Disk {
    /// The pages of the model with this fingerprint, in a folder that holds those of others too.
    ///
    /// # Errors
    /// If the folder cannot be made or read, or the system refuses threads.
    pub(crate) fn open(root: &Path, fingerprint: &[u8], most_bytes: u64) -> io::Result<Disk> {
        let name: String = fingerprint.iter().take(16).map(|b| format!("{b:02x}")).collect();
        let folder = root.join(name);
        file::make_folder(&folder)?;
        let mut entries = Entries { most_bytes, folder: folder.clone(), ..Entries::default() };
        entries.scan(root)?;
        entries.shrink();
        let entries = Arc::new(Mutex::new(entries));
        let (writes, to_write) = sync_channel(WAITING);
        let (reads, to_read) = channel();
        let (send, came) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let written = waiting.clone();
        let (of_writer, of_reader) = (entries.clone(), entries.clone());
        let (into, from) = (folder.clone(), folder.clone());
        let thread = |name: &str| std::thread::Builder::new().name(name.to_string());
        let writer = thread("oprel-pages-out")
            .spawn(move || write(&into, &of_writer, &to_write, &written))?;
        let reader =
            thread("oprel-pages-in").spawn(move || read(&from, &of_reader, &to_read, &send))?;
        let threads = vec![writer, reader];
        let (writes, reads) = (Some(writes), Some(reads));
        Ok(Disk { entries, folder, writes, waiting, reads, came, threads })
    }
}

impl PageStore for Disk {
    fn holds(&self, key: PageKey) -> bool {
        lock(&self.entries).files.contains_key(&path(&self.folder, key))
    }

    fn points(&self, page: Name) -> Vec<PageKey> {
        lock(&self.entries).points.get(&page).cloned().unwrap_or_default()
    }

    fn takes(&self, bytes: usize) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed);
        waiting == 0 || waiting.saturating_add(bytes) <= WAITING_BYTES
    }

    fn put(&mut self, key: PageKey, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        let Some(writes) = &self.writes else { return Ok(()) };
        let n = bytes.len();
        if !self.takes(n) {
            return Err(bytes);
        }
        self.waiting.fetch_add(n, Ordering::Relaxed);
        let Err(refused) = writes.try_send(Write::Page(key, bytes)) else { return Ok(()) };
        self.waiting.fetch_sub(n, Ordering::Relaxed);
        match refused {
            TrySendError::Full(Write::Page(_, bytes)) => Err(bytes),
            _ => Ok(()),
        }
    }

    fn fetch(&mut self, key: PageKey, bytes: usize) {
        if let Some(reads) = &self.reads {
            let _ = reads.send((key, bytes));
        }
    }

    fn fetched(&mut self) -> Vec<(PageKey, Option<Vec<u8>>)> {
        self.came.try_iter().collect()
    }

    fn flush(&mut self) {
        let (done, wait) = channel();
        if let Some(writes) = &self.writes
            && writes.send(Write::Flush(done)).is_ok()
        {
            let _ = wait.recv();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        (self.writes, self.reads) = (None, None);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock(entries: &Mutex<Entries>) -> MutexGuard<'_, Entries> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path(folder: &Path, key: PageKey) -> PathBuf {
    folder.join(match key.part {
        Part::Group(group) => format!("{}-{group}.page", key.name),
        Part::Point { page, rest } => format!("{page}-{rest}-{}.point", key.name),
    })
}

/// The checkpoint that a file is named for, if it is one.
fn point_of(path: &Path) -> Option<PageKey> {
    let mut parts = path.file_name()?.to_str()?.strip_suffix(".point")?.split('-');
    let hex = |text: &str| {
        let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
        number.map(|number| Name::from_bytes(number.to_be_bytes()))
    };
    let (page, rest, name) = (hex(parts.next()?)?, parts.next()?.parse().ok()?, parts.next()?);
    Some(PageKey { name: hex(name)?, part: Part::Point { page, rest } })
}

/// Writes pages until nobody sends any. After an error, such as a full disk, it only reads along: a
/// cache is no reason to fail.
fn write(folder: &Path, entries: &Mutex<Entries>, pages: &Receiver<Write>, waiting: &AtomicUsize) {
    let mut works = true;
    for job in pages {
        let (key, bytes) = match job {
            Write::Page(key, bytes) => (key, bytes),
            Write::Flush(done) => {
                let _ = done.send(());
                continue;
            }
        };
        let path = path(folder, key);
        if works {
            match file::write(&path, key, &bytes) {
                Ok(bytes) => lock(entries).add(path, bytes, SystemTime::now()),
                Err(_) => works = false,
            }
        }
        waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
    }
}

/// Reads pages until nobody asks for any.
fn read(
    folder: &Path,
    entries: &Mutex<Entries>,
    keys: &Receiver<(PageKey, usize)>,
    came: &Sender<(PageKey, Option<Vec<u8>>)>,
) {
    for (key, length) in keys {
        let path = path(folder, key);
        let bytes = file::read(&path, key, length);
        match bytes {
            Some(_) => lock(entries).touch(&path),
            None => lock(entries).remove(&path),
        }
        if came.send((key, bytes)).is_err() {
            return;
        }
    }
}

impl Entries {
    /// Notes what is there; unfinished files that nobody writes any more go.
    fn scan(&mut self, root: &Path) -> io::Result<()> {
        for folder in fs::read_dir(root)? {
            let folder = folder?.path();
            let Ok(files) = fs::read_dir(&folder) else { continue };
            for file in files.flatten() {
                let path = file.path();
                let Ok(about) = file.metadata() else { continue };
                let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                match path.extension().and_then(|e| e.to_str()) {
                    Some("page" | "point") => self.insert(path, about.len(), used),
                    Some("part") if file::is_old(used) => drop(fs::remove_file(path)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, path: PathBuf, bytes: u64, used: SystemTime) {
        self.bytes += bytes;
        if let Some(key) = point_of(&path).filter(|_| path.parent() == Some(&self.folder))
            && let Part::Point { page, .. } = key.part
        {
            let points = self.points.entry(page).or_default();
            if !points.contains(&key) {
                points.push(key);
            }
        }
        if let Some(before) = self.files.insert(path, Entry { bytes, used }) {
            self.bytes -= before.bytes;
        }
    }

    fn add(&mut self, path: PathBuf, bytes: u64, used: SystemTime) {
        self.insert(path, bytes, used);
        self.shrink();
    }

    fn touch(&mut self, path: &Path) {
        if let Some(entry) = self.files.get_mut(path) {
            entry.used = SystemTime::now();
            file::touch(path, entry.used);
        }
    }

    fn remove(&mut self, path: &Path) {
        if let Some(entry) = self.files.remove(path) {
            self.bytes -= entry.bytes;
        }
        if let Some(key) = point_of(path).filter(|_| path.parent() == Some(&self.folder))
            && let Part::Point { page, .. } = key.part
            && let Some(points) = self.points.get_mut(&page)
        {
            points.retain(|other| *other != key);
            if points.is_empty() {
                self.points.remove(&page);
            }
        }
        let _ = fs::remove_file(path);
    }

    /// Removes what was unused for longest until the rest is small enough.
    fn shrink(&mut self) {
        while self.bytes > self.most_bytes {
            let oldest = self.files.iter().min_by_key(|(_, entry)| entry.used);
            let Some(path) = oldest.map(|(path, _)| path.clone()) else { return };
            self.remove(&path);
        }
    }
}

#[cfg(test)]
mod tests;
