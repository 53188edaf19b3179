//! The digest of a file whose parts come in any order: a thread that reads from the beginning as far as there are no
//! gaps. What it reads was just written and is still in memory, so that little is left to do at the end.

use std::sync::Arc;
use std::thread;

use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use crate::Digest;

use super::error::{Error, Result};
use super::part::{Part, Reach};

const READ_AT_ONCE: usize = 1 << 20;

/// Begins to follow a file. The digest comes once all of it is there.
///
/// # Errors
/// If there can be no more threads.
pub(crate) fn follow(part: Arc<Part>) -> Result<oneshot::Receiver<Result<Digest>>> {
    let (tell, digest) = oneshot::channel();
    let run = move || {
        if let Some(found) = read(&part) {
            // Nobody may wait for it any more.
            let _ = tell.send(found);
        }
    };
    let thread = thread::Builder::new().name("oprel-hash".into()).spawn(run);
    thread.map_err(|source| Error::file("thread".as_ref(), source))?;
    Ok(digest)
}

/// The digest of the whole; nothing once nobody writes it any more.
fn read(part: &Part) -> Option<Result<Digest>> {
    let size = part.size();
    let mut buffer = vec![0; READ_AT_ONCE];
    let mut hasher = Sha256::new();
    let mut read = Reach { generation: part.generation(), prefix: 0 };
    while read.prefix < size {
        let there = part.wait_beyond(read)?;
        if there.generation != read.generation {
            hasher = Sha256::new();
            read = Reach { generation: there.generation, prefix: 0 };
        }
        let most = (there.prefix - read.prefix).min(READ_AT_ONCE as u64) as usize;
        if most == 0 {
            continue;
        }
        match part.read(read.prefix, &mut buffer[..most]) {
            // The file was emptied meanwhile, which the next look at it says.
            Ok(0) if part.generation() != read.generation => {}
            Ok(0) => {
                return Some(Err(Error::file(
                    "part".as_ref(),
                    std::io::ErrorKind::UnexpectedEof.into(),
                )));
            }
            Ok(count) => {
                hasher.update(&buffer[..count]);
                read.prefix += count as u64;
            }
            Err(error) => return Some(Err(error)),
        }
    }
    // Emptied while the last piece was read: then this is the digest of nothing that is wanted.
    (part.generation() == read.generation).then(|| Ok(Digest::finish(hasher)))
}
