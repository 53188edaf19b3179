//! What is wrong with a machine or an installation, why that matters and what to do about it.
//!
//! [`gather`] looks; [`doctor`] judges what was seen, and does nothing else: findings can be had of facts
//! that were recorded elsewhere.

mod gather;
mod installation;
mod machine;

use std::path::PathBuf;

use oprel_telemetry::{Disk, Host, Rates};
use serde::{Deserialize, Serialize};

pub use gather::{Wanted, gather};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It works, worse than it could.
    Warning,
    /// Something will not work.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `isa`, `port`, ...
    pub check: String,
    /// How bad it is.
    pub level: Level,
    /// What is so.
    pub what: String,
    /// Why it matters; empty where nothing is wrong.
    pub why: String,
    /// What to do; empty where there is nothing to do.
    pub remedy: String,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The machine.
    pub host: Host,
    /// What was measured.
    pub rates: Option<Rates>,
    /// Where oprel keeps its things.
    pub home: Option<Place>,
    /// Where models are.
    pub store: Option<Place>,
    /// Files that nobody else should read.
    pub secrets: Vec<Place>,
    /// Where the daemon listens.
    pub port: Option<Port>,
    /// Variables that send requests through a proxy, as they are set.
    pub proxies: Vec<(String, String)>,
    /// Addresses that go without.
    pub no_proxy: Option<String>,
    /// Programs that models can run in, and where they were found.
    pub programs: Vec<(String, Option<PathBuf>)>,
    /// Seconds since 1970.
    pub now: u64,
}

/// A file or a folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// Where.
    pub path: PathBuf,
    /// It is there.
    pub exists: bool,
    /// This user may write to it, or make it.
    pub writable: bool,
    /// Who may do what, as Unix writes it.
    pub mode: Option<u32>,
    /// The disk that it is on.
    pub disk: Disk,
}

/// A port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Somebody listens there.
    pub taken: bool,
    /// Which program, if that can be seen.
    pub by: Option<String>,
    /// Listening is not allowed, for another reason than that.
    pub refused: Option<String>,
}

impl Finding {
    fn new(check: &str, level: Level, what: String, why: &str, remedy: &str) -> Finding {
        Finding { check: check.into(), level, what, why: why.into(), remedy: remedy.into() }
    }

    fn ok(check: &str, what: String) -> Finding {
        Finding::new(check, Level::Ok, what, "", "")
    }
}

/// Judges what was seen: all that was looked at, in a fixed order.
pub fn doctor(facts: &Facts) -> Vec<Finding> {
    let mut all = machine::findings(facts);
    all.extend(installation::findings(facts));
    all
}

#[cfg(test)]
mod tests;
