//! One file from a server to the disk: parts side by side, resumed after whatever stopped it, checked as a whole.

mod stream;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Digest;
use crate::http::{self, Client};

use super::error::{Error, Result};
use super::hasher;
use super::link::{Links, Locate};
use super::pace::Pace;
use super::part::{Abandons, Part, Wanted};

/// Times that a file is begun anew because the server has another one now.
const MOST_CHANGES: u32 = 3;
/// How often it is looked whether another process is done with a file.
const LOOKED_EVERY: Duration = Duration::from_millis(100);

/// How often it is looked whether more streams would help, up to twice as many.
const RATED_EVERY: Duration = Duration::from_millis(100);
/// Bytes that a stream brings in that time if nothing on its way holds it up: more than a line of a gigabit does.
const FAST_BYTES: u64 = 14 << 20;

/// A file to be fetched.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) source: Arc<dyn Locate>,
    pub(crate) size: Option<u64>,
    pub(crate) digest: Option<Digest>,
    pub(crate) commit: Option<String>,
    /// Where it is until it is whole.
    pub(crate) part: PathBuf,
    /// Where it goes then.
    pub(crate) to: PathBuf,
}

/// A file that was fetched, or was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// Its digest; of one that was there, what was asked for.
    pub digest: Option<Digest>,
    /// Its bytes.
    pub size: u64,
}

/// How far a file is. Bytes never become fewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are there.
    pub completed: u64,
    /// Bytes that the whole has; 0 until that is known.
    pub total: u64,
    /// Whether another process fetches it, and this one waits.
    pub is_waiting: bool,
}

/// How a file is fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most parts that are fetched side by side.
    pub(crate) streams: usize,
    /// Most bytes of a part; by the file's size where nothing is said.
    pub(crate) part_bytes: Option<u64>,
    /// Failures in a row, without a byte between them, before a part is given up.
    pub(crate) tries: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { streams: 8, part_bytes: None, tries: 6 }
    }
}

impl Limits {
    /// Bytes of one part: enough parts that none is waited for alone, and none so small that asking for it shows.
    fn part_bytes(&self, size: u64) -> u64 {
        const MIB: u64 = 1 << 20;
        let streams = self.streams.max(1) as u64;
        let small = (size / (streams * 2)).clamp(4 * MIB, 32 * MIB);
        let large = (size / (streams * 4)).min(128 * MIB);
        self.part_bytes.unwrap_or(small.max(large)).max(1)
    }
}

/// What transfers share.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) client: Client,
    pub(crate) limits: Limits,
    pub(crate) pace: Arc<Pace>,
}

/// Why parts stopped coming.
#[derive(Debug)]
enum Stop {
    /// It is of no use to go on.
    Failed(Error),
    /// The server sends whole files only.
    NoRanges,
    /// The server has another file now.
    Changed,
}

struct Transfer {
    tools: Tools,
    part: Arc<Part>,
    links: Links,
    progress: watch::Sender<Progress>,
    /// Parts that nobody fetches yet.
    queue: Mutex<VecDeque<Range<u64>>>,
    /// Bytes that are held before they are written.
    held_bytes: u64,
}

impl Job {
    fn there(&self) -> Option<Fetched> {
        let size = self.to.metadata().ok().filter(|metadata| metadata.is_file())?.len();
        let fits = self.size.is_none_or(|wanted| wanted == size);
        fits.then(|| Fetched { path: self.to.clone(), digest: self.digest, size })
    }
}

/// Fetches a file, or finds it there. To drop the future stops it; what has come is kept.
///
/// # Errors
/// If it cannot be had whole and right.
pub(crate) async fn run(
    job: &Job,
    tools: &Tools,
    progress: watch::Sender<Progress>,
) -> Result<Fetched> {
    let part = loop {
        if let Some(there) = job.there() {
            tell(&progress, there.size, there.size);
            return Ok(there);
        }
        if let Some(part) = Part::take(&job.part)? {
            break part;
        }
        if let Some((completed, total)) = Part::seen(&job.part) {
            tell(&progress, completed, total);
            progress.send_modify(|progress| progress.is_waiting = true);
        }
        tokio::time::sleep(LOOKED_EVERY).await;
    };
    progress.send_modify(|progress| progress.is_waiting = false);
    // Another process may have finished it between the two looks.
    if let Some(there) = job.there() {
        part.remove();
        return Ok(there);
    }
    let part = Arc::new(part);
    let _abandons = Abandons(part.clone());
    fetch(job, tools, progress, part).await
}

async fn fetch(
    job: &Job,
    tools: &Tools,
    progress: watch::Sender<Progress>,
    part: Arc<Part>,
) -> Result<Fetched> {
    let link = job.source.locate(&tools.client).await?;
    let host = http::host(&link.url);
    let size = match (job.size, link.size) {
        (Some(wanted), Some(found)) if wanted != found => {
            let why = format!("has {found} bytes where {wanted} should be");
            return Err(Error::Protocol { host, why });
        }
        (wanted, found) => wanted.or(found).ok_or_else(|| Error::Protocol {
            host: host.clone(),
            why: "does not say how many bytes the file has".into(),
        })?,
    };
    let part_bytes = tools.limits.part_bytes(size);
    let wanted = Wanted { size, digest: job.digest, commit: job.commit.clone() };
    // What a process that is killed may lose, with what all streams hold, is well below one part.
    let completed = part.resume(&wanted, part_bytes / 8)?;
    part.allocate()?;
    tell(&progress, completed, size);
    let streams = tools.limits.streams.max(1) as u64;
    let held_bytes = (part_bytes / (8 * streams)).clamp(16 << 10, 512 << 10);
    let links = Links::new(job.source.clone(), link);
    let (tools, queue) = (tools.clone(), Mutex::default());
    let transfer = Arc::new(Transfer { tools, part, links, progress, queue, held_bytes });
    let digest = transfer.whole(job.digest, part_bytes, &host).await?;
    let (part, to) = (transfer.part.clone(), job.to.clone());
    blocking(move || part.finish(&to)).await?;
    Ok(Fetched { path: job.to.clone(), digest: Some(digest), size })
}

impl Transfer {
    /// Fetches until the whole is there and has the digest that it should have.
    async fn whole(
        self: &Arc<Self>,
        wanted: Option<Digest>,
        part_bytes: u64,
        host: &str,
    ) -> Result<Digest> {
        let mut hash = hasher::follow(self.part.clone())?;
        let (mut changes, mut is_second) = (0, false);
        loop {
            let filled = match self.fill(part_bytes).await {
                Err(Stop::NoRanges) => self.single().await,
                other => other,
            };
            match filled {
                Ok(()) => {}
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Changed | Stop::NoRanges) => {
                    changes += 1;
                    if changes > MOST_CHANGES {
                        return Err(Error::Changed { host: host.into() });
                    }
                    self.again().await?;
                    continue;
                }
            }
            let got = hash.await.map_err(|_| Error::Stopped)??;
            match wanted {
                Some(expected) if expected != got => {
                    self.again().await?;
                    if is_second {
                        return Err(Error::Digest { expected, got });
                    }
                    is_second = true;
                    hash = hasher::follow(self.part.clone())?;
                }
                _ => return Ok(got),
            }
        }
    }

    /// Throws away what is there and looks for the file once more.
    async fn again(&self) -> Result<()> {
        self.part.empty()?;
        self.part.allocate()?;
        let (number, _) = self.links.current().await;
        self.links.refresh(number, &self.tools.client).await
    }

    /// Fetches all that is missing, parts side by side: few where each comes so fast that more of them would only fill
    /// the file in an order that the digest cannot follow.
    async fn fill(self: &Arc<Self>, part_bytes: u64) -> Result<(), Stop> {
        let parts = self.part.gaps().into_iter().flat_map(|gap| split(gap, part_bytes));
        let parts: VecDeque<_> = parts.collect();
        let most = self.tools.limits.streams.max(1).min(parts.len());
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = parts;
        let mut workers = JoinSet::new();
        let (mut begun, mut done) = (0, self.part.done());
        loop {
            let came = self.part.done().saturating_sub(done);
            done += came;
            if came < begun as u64 * FAST_BYTES || begun == 0 {
                let wanted = most.min((begun * 2).max(1));
                (begun..wanted).for_each(|_| drop(workers.spawn(self.clone().work())));
                begun = wanted;
            }
            tokio::select! {
                ended = workers.join_next() => match ended {
                    None => return Ok(()),
                    Some(ended) => {
                        let ended = ended.unwrap_or(Err(Stop::Failed(Error::Stopped)));
                        if ended.is_err() {
                            // None may write once the file is begun anew.
                            workers.shutdown().await;
                            return ended;
                        }
                    }
                },
                () = tokio::time::sleep(RATED_EVERY), if begun < most => {}
            }
        }
    }

    /// Fetches one part after another until none is left.
    async fn work(self: Arc<Self>) -> Result<(), Stop> {
        while let Some(range) = self.next() {
            self.range(range).await?;
        }
        Ok(())
    }

    fn next(&self) -> Option<Range<u64>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Pieces of a range, each with so many bytes at most.
fn split(range: Range<u64>, most: u64) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let piece = at..at.saturating_add(most).min(range.end);
        at = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Says how far it is, unless it was further once.
fn tell(progress: &watch::Sender<Progress>, completed: u64, total: u64) {
    progress.send_if_modified(|progress| {
        let is_more = completed > progress.completed || progress.total != total;
        progress.completed = completed.max(progress.completed);
        progress.total = total;
        is_more
    });
}

/// Runs what waits for the disk on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Stopped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_sizes_that_suit_the_file() {
        const MIB: u64 = 1 << 20;
        let of = |size| Limits::default().part_bytes(size);
        assert_eq!(of(0), 4 * MIB);
        assert_eq!(of(10 * MIB), 4 * MIB);
        assert_eq!(of(128 * MIB), 8 * MIB);
        assert_eq!(of(1024 * MIB), 32 * MIB);
        assert_eq!(of(4096 * MIB), 128 * MIB);
        assert_eq!(of(400_000 * MIB), 128 * MIB);
        let parts: Vec<_> = split(5..26, 10).collect();
        assert_eq!(parts, [5..15, 15..25, 25..26]);
        assert_eq!(split(7..7, 10).count(), 0);
        assert_eq!(split(u64::MAX - 3..u64::MAX, 10).count(), 1);
    }

    #[test]
    fn progress_never_goes_back() {
        let (sender, receiver) = watch::channel(Progress::default());
        for (completed, seen) in [(5, 5), (3, 5), (9, 9), (0, 9)] {
            tell(&sender, completed, 10);
            assert_eq!(receiver.borrow().completed, seen);
        }
    }
}
