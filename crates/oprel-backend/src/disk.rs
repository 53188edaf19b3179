//! The prefix cache on disk: a file a page, in a folder for each model.
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
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use oprel_engine::{PageKey, PageStore};

/// Pages that wait to be written.
const WAITING: usize = 32;

/// The pages of one model on disk.
#[derive(Debug)]
pub(crate) struct Disk {
    entries: Arc<Mutex<Entries>>,
    folder: PathBuf,
    writes: Option<SyncSender<Write>>,
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
        let mut entries = Entries { most_bytes, ..Entries::default() };
        entries.scan(root)?;
        entries.shrink();
        let entries = Arc::new(Mutex::new(entries));
        let (writes, to_write) = sync_channel(WAITING);
        let (reads, to_read) = channel();
        let (send, came) = channel();
        let (of_writer, of_reader) = (entries.clone(), entries.clone());
        let (into, from) = (folder.clone(), folder.clone());
        let thread = |name: &str| std::thread::Builder::new().name(name.to_string());
        let writer =
            thread("oprel-pages-out").spawn(move || write(&into, &of_writer, &to_write))?;
        let reader =
            thread("oprel-pages-in").spawn(move || read(&from, &of_reader, &to_read, &send))?;
        let threads = vec![writer, reader];
        Ok(Disk { entries, folder, writes: Some(writes), reads: Some(reads), came, threads })
    }
}

impl PageStore for Disk {
    fn holds(&self, key: PageKey) -> bool {
        lock(&self.entries).files.contains_key(&path(&self.folder, key))
    }

    fn put(&mut self, key: PageKey, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        let Some(writes) = &self.writes else { return Ok(()) };
        match writes.try_send(Write::Page(key, bytes)) {
            Err(TrySendError::Full(Write::Page(_, bytes))) => Err(bytes),
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
    folder.join(format!("{}-{}.page", key.name, key.group))
}

/// Writes pages until nobody sends any. After an error, such as a full disk, it only reads along: a
/// cache is no reason to fail.
fn write(folder: &Path, entries: &Mutex<Entries>, pages: &Receiver<Write>) {
    let mut works = true;
    for job in pages {
        let (key, bytes) = match job {
            Write::Page(key, bytes) if works => (key, bytes),
            Write::Page(..) => continue,
            Write::Flush(done) => {
                let _ = done.send(());
                continue;
            }
        };
        let path = path(folder, key);
        match file::write(&path, key, &bytes) {
            Ok(bytes) => lock(entries).add(path, bytes, SystemTime::now()),
            Err(_) => works = false,
        }
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
                    Some("page") => self.insert(path, about.len(), used),
                    Some("part") if file::is_old(used) => drop(fs::remove_file(path)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, path: PathBuf, bytes: u64, used: SystemTime) {
        self.bytes += bytes;
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
