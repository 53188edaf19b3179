//! What this process may do.

use serde::{Deserialize, Serialize};

use crate::roots::Roots;

/// Limits of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Most open files, now.
    pub open_files: Option<u64>,
    /// What it may raise that to.
    pub open_files_most: Option<u64>,
    /// Most bytes that it may lock in memory; `None` where nothing limits it or nobody tells.
    pub locked_bytes: Option<u64>,
}

impl Limits {
    /// What the system tells.
    pub fn read(roots: &Roots) -> Limits {
        let text = roots.proc("self/limits").unwrap_or_default();
        // Names have spaces, and columns are padded with them.
        let columns = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let mut parts = line.split_whitespace().map(|n| n.parse::<u64>().ok());
            Some((parts.next()?, parts.next()?))
        };
        let files = columns("Max open files").unwrap_or_default();
        Limits {
            open_files: files.0,
            open_files_most: files.1,
            locked_bytes: columns("Max locked memory").and_then(|(soft, _)| soft),
        }
    }
}
