//! A file that is not whole yet: its bytes, its journal, and the lock that one process has on it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use oprel_telemetry::Disk;

use crate::Digest;
use crate::platform::{allocated, is_at, read_at, reserve, sync_folder, write_all_at};

use super::error::{Error, Result};
use super::journal::{Journal, with_end};
use super::ranges::Ranges;

/// Bytes after which what was written is sent to the disk, so that the end need not wait for all of it.
const SYNCED_AT_ONCE: u64 = 256 << 20;

/// A file that is not whole yet. While it lives, no other process writes it.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    path: PathBuf,
    state: Mutex<State>,
    /// Told of every change of `state`.
    changed: Condvar,
    /// Shared by those who write, so that nobody does while the file is emptied.
    writing: RwLock<()>,
}

#[derive(Debug, Default)]
struct State {
    size: u64,
    digest: Option<Digest>,
    etag: Option<String>,
    commit: Option<String>,
    done: Ranges,
    synced: Ranges,
    is_syncing: bool,
    /// Bytes that no journal names yet, and how many there may be.
    unnamed: u64,
    most_unnamed: u64,
    /// Grows when everything that was there is thrown away.
    generation: u64,
    is_abandoned: bool,
}

/// How far a file is: what a reader from the beginning on may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) generation: u64,
    pub(crate) prefix: u64,
}

impl Part {
    /// Takes the file, or nothing if another process has it.
    ///
    /// # Errors
    /// If it cannot be opened or locked.
    pub(crate) fn take(path: &Path) -> Result<Option<Part>> {
        let wrong = |source| Error::file(path, source);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(wrong)?;
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(wrong)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => return Err(wrong(source)),
        }
        // Who had it may have given the file its name between the two steps: then this is not the file of that name.
        if !is_at(&file, path) {
            return Ok(None);
        }
        let (state, changed, writing) = (Mutex::default(), Condvar::new(), RwLock::new(()));
        Ok(Some(Part { file, path: path.into(), state, changed, writing }))
    }

    /// How many bytes another process has, as its journal says.
    pub(crate) fn seen(path: &Path) -> Option<(u64, u64)> {
        let journal = Journal::load(&journal_path(path))?;
        Some((journal.ranges()?.total(), journal.size))
    }

    /// Goes on where the journal says, if it is about the same file, else begins anew. Says how many bytes are there.
    ///
    /// # Errors
    /// If the file cannot be emptied.
    pub(crate) fn resume(&self, wanted: &Wanted, most_unnamed: u64) -> Result<u64> {
        let journal = Journal::load(&journal_path(&self.path)).filter(|j| wanted.is_of(j));
        let length = self.file.metadata().map_err(|e| self.wrong(e))?.len();
        let mut state = self.state();
        state.size = wanted.size;
        state.digest = wanted.digest;
        state.commit.clone_from(&wanted.commit);
        state.most_unnamed = most_unnamed;
        if let Some((journal, ranges)) = journal.and_then(|j| j.ranges().map(|r| (j, r)))
            && length == wanted.size
        {
            state.etag = journal.etag;
            state.done = ranges;
            return Ok(state.done.total());
        }
        drop(state);
        self.empty()?;
        Ok(0)
    }

    /// Throws away all that is there.
    ///
    /// # Errors
    /// If the file cannot be emptied.
    pub(crate) fn empty(&self) -> Result<()> {
        let _alone = self.writing.write().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        // The journal goes first: it must never name what is not there.
        match fs::remove_file(journal_path(&self.path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.wrong(error)),
            _ => {}
        }
        self.file.set_len(0).map_err(|error| self.wrong(error))?;
        state.done = Ranges::default();
        state.synced = Ranges::default();
        state.etag = None;
        state.unnamed = 0;
        state.generation += 1;
        self.changed.notify_all();
        Ok(())
    }

    /// Reserves the disk for the whole file, once it is known that it fits with a twentieth to spare.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) fn allocate(&self) -> Result<()> {
        let (size, done) = {
            let state = self.state();
            (state.size, state.done.total())
        };
        let length = self.file.metadata().map_err(|error| self.wrong(error))?.len();
        // What is reserved already is not free any more.
        let missing =
            if length == size { size - allocated(&self.file, done).min(size) } else { size };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let needed_bytes = missing.saturating_add(missing / 20);
        let free_bytes = Disk::of(folder).free_bytes;
        if let Some(free_bytes) = free_bytes.filter(|free| *free < needed_bytes) {
            return Err(Error::NoSpace { folder: folder.into(), needed_bytes, free_bytes });
        }
        if length == size {
            return Ok(());
        }
        reserve(&self.file, size).map_err(|error| self.wrong(error))?;
        self.file.set_len(size).map_err(|error| self.wrong(error))
    }

    /// Writes pieces one after the other, and then counts them as there. Pieces of an earlier beginning are dropped.
    ///
    /// # Errors
    /// What the system says: a full disk at once.
    pub(crate) fn write(&self, at: u64, pieces: &[Bytes], generation: u64) -> Result<()> {
        let writing = self.writing.read().unwrap_or_else(PoisonError::into_inner);
        if self.generation() != generation {
            return Ok(());
        }
        let mut end = at;
        for piece in pieces {
            write_all_at(&self.file, piece, end).map_err(|error| self.wrong(error))?;
            end += piece.len() as u64;
        }
        let mut state = self.state();
        state.done.add(at..end);
        state.unnamed += end - at;
        self.changed.notify_all();
        if state.unnamed >= state.most_unnamed {
            self.save(&mut state)?;
        }
        drop(writing);
        self.sync_some(state);
        Ok(())
    }

    /// What is missing, in order.
    pub(crate) fn gaps(&self) -> Vec<Range<u64>> {
        let state = self.state();
        state.done.gaps(state.size)
    }

    /// Bytes that are there.
    pub(crate) fn done(&self) -> u64 {
        self.state().done.total()
    }

    /// Bytes that the whole has.
    pub(crate) fn size(&self) -> u64 {
        self.state().size
    }

    /// The number of beginnings.
    pub(crate) fn generation(&self) -> u64 {
        self.state().generation
    }

    /// What the server calls the content, as all answers so far agree.
    pub(crate) fn etag(&self) -> Option<String> {
        self.state().etag.clone()
    }

    /// Whether an answer is about the same content as those before it.
    pub(crate) fn agrees(&self, etag: Option<&str>) -> bool {
        let Some(etag) = etag else { return true };
        etag == self.state().etag.get_or_insert_with(|| etag.to_owned())
    }

    /// Nobody writes any more; a reader that waits is told. The journal names all that is there.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        state.is_abandoned = true;
        self.changed.notify_all();
        if state.unnamed > 0 {
            // What cannot be named is fetched again: no more can be done about it here.
            let _ = self.save(&mut state);
        }
    }

    /// Waits until there is more to read than that; nothing once nobody writes any more.
    pub(crate) fn wait_beyond(&self, reach: Reach) -> Option<Reach> {
        let mut state = self.state();
        loop {
            let now = Reach { generation: state.generation, prefix: state.done.prefix() };
            if state.is_abandoned {
                return None;
            }
            if now.generation != reach.generation || now.prefix > reach.prefix {
                return Some(now);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Reads at a place.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn read(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        read_at(&self.file, into, at).map_err(|error| self.wrong(error))
    }

    /// Gives the whole file its name. All of it is on the disk before, and the name after.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn finish(&self, to: &Path) -> Result<()> {
        self.file.sync_all().map_err(|error| self.wrong(error))?;
        let folder = to.parent().unwrap_or(Path::new("."));
        let wrong = |source| Error::file(to, source);
        fs::create_dir_all(folder).map_err(wrong)?;
        fs::rename(&self.path, to).map_err(wrong)?;
        sync_folder(folder).map_err(wrong)?;
        // There is nothing left that a journal would be about.
        self.state().unnamed = 0;
        remove_journal(&self.path);
        Ok(())
    }

    /// There is nothing to fetch: the file is there already.
    pub(crate) fn remove(self) {
        let _ = fs::remove_file(&self.path);
        remove_journal(&self.path);
    }

    fn save(&self, state: &mut State) -> Result<()> {
        let mut journal = Journal::new(state.size, state.digest, &state.done, &state.synced);
        journal.etag.clone_from(&state.etag);
        journal.commit.clone_from(&state.commit);
        journal.save(&journal_path(&self.path)).map_err(|error| self.wrong(error))?;
        state.unnamed = 0;
        Ok(())
    }

    /// Sends to the disk what has come, if it is much, while others go on.
    fn sync_some(&self, mut state: MutexGuard<'_, State>) {
        let is_much = state.done.total() - state.synced.total() >= SYNCED_AT_ONCE;
        if !is_much || state.is_syncing {
            return;
        }
        state.is_syncing = true;
        let (written, generation) = (state.done.clone(), state.generation);
        drop(state);
        let synced = self.file.sync_data();
        let mut state = self.state();
        state.is_syncing = false;
        if synced.is_ok() && state.generation == generation {
            state.synced = written;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole before anything in it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrong(&self, source: io::Error) -> Error {
        Error::file(&self.path, source)
    }
}

/// What is to be fetched, as far as a journal must agree with it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) size: u64,
    pub(crate) digest: Option<Digest>,
    pub(crate) commit: Option<String>,
}

impl Wanted {
    /// The same digest is the same file, whichever commit it belongs to.
    fn is_of(&self, journal: &Journal) -> bool {
        let digest = self.digest.map(|digest| digest.to_string());
        journal.size == self.size
            && journal.digest == digest
            && (digest.is_some() || journal.commit == self.commit)
    }
}

/// A reference to a part that stops its reader when it goes.
pub(crate) struct Abandons(pub(crate) Arc<Part>);

impl Drop for Abandons {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Removes what is beside a file that is whole. What cannot be removed does no harm.
fn remove_journal(part: &Path) {
    let journal = journal_path(part);
    let _ = fs::remove_file(with_end(&journal, ".new"));
    let _ = fs::remove_file(journal);
}

/// Where the journal of a file is.
pub(crate) fn journal_path(part: &Path) -> PathBuf {
    with_end(part, ".journal")
}
