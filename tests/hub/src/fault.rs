//! What goes wrong, where, and how often.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Who is asked: each has a port of its own, so that they are hosts of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The hub, which knows repositories.
    Hub,
    /// The delivery network, which has bytes for those who have a link.
    Cdn,
    /// The bridge to the hub's other storage, which works like the network.
    Bridge,
    /// A registry that speaks Ollama's protocol.
    Registry,
    /// Releases of programs, as GitHub describes them.
    Releases,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The connection breaks after so many bytes of the answer.
    Cut(u64),
    /// Nothing more comes after so many bytes of the answer.
    Stall(u64),
    /// The whole file comes where a range was asked for.
    Whole,
    /// Another range comes than was asked for, and the answer says so.
    WrongRange,
    /// The answer ends so many bytes early, and looks whole.
    Short(u64),
    /// So many bytes too many come.
    Long(u64),
    /// The content has another name than before.
    Etag(String),
    /// The server answers with a status, and perhaps says when to come again, in seconds.
    Status(u16, Option<u64>),
    /// The byte at this place of the file is another one.
    Flip(u64),
    /// The answer says that it is compressed.
    Gzip,
    /// So many bytes come in a second.
    Drip(u64),
    /// The answer sends to itself.
    Loop,
    /// The answer sends elsewhere.
    Redirect(String),
    /// The answer comes late.
    Late(Duration),
}

#[derive(Debug)]
struct Planned {
    role: Role,
    path: String,
    after: usize,
    times: usize,
    fault: Fault,
}

/// What is to go wrong.
#[derive(Debug, Default)]
pub(crate) struct Plan(Mutex<Vec<Planned>>);

impl Plan {
    pub(crate) fn add(&self, role: Role, path: &str, after: usize, times: usize, fault: Fault) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Planned { role, path: path.into(), after, times, fault });
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What goes wrong with this request.
    pub(crate) fn next(&self, role: Role, path: &str) -> Option<Fault> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for planned in all.iter_mut().filter(|p| p.role == role && path.contains(&p.path)) {
            if planned.after > 0 {
                planned.after -= 1;
            } else if planned.times > 0 {
                planned.times -= 1;
                return Some(planned.fault.clone());
            }
        }
        None
    }
}
