//! Memory of the machine, and what of it this process can still have.

use serde::{Deserialize, Serialize};

use crate::groups::Groups;
use crate::platform;
use crate::roots::{Roots, field, list, numbered, text};

/// Memory of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// What the machine has.
    pub total_bytes: Option<u64>,
    /// What the system says can be had without swapping.
    pub available_bytes: Option<u64>,
    /// What this process can have: what is available, and what its control groups leave.
    pub free_bytes: Option<u64>,
    /// Swap, all of it.
    pub swap_total_bytes: Option<u64>,
    /// Swap in use.
    pub swap_used_bytes: Option<u64>,
    /// Pages larger than usual.
    pub huge_pages: HugePages,
    /// Parts of the memory that are nearer to some CPUs than to others; one where there are none.
    pub nodes: Vec<Node>,
}

/// Pages larger than usual.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HugePages {
    /// When the system gives them of itself: `always`, `madvise` or `never`.
    pub transparent: Option<String>,
    /// Size of one.
    pub page_bytes: Option<u64>,
    /// Those that were set aside.
    pub reserved: Option<u64>,
}

/// Memory that is near to some CPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its number.
    pub id: usize,
    /// CPUs near it.
    pub cpus: Vec<usize>,
    /// What it has.
    pub total_bytes: Option<u64>,
    /// What nobody uses, not even for files.
    pub free_bytes: Option<u64>,
}

impl Memory {
    /// What the system tells.
    pub fn read(roots: &Roots, groups: &Groups) -> Memory {
        if let Some(memory) = platform::memory(roots) {
            return memory;
        }
        let info = roots.proc("meminfo").unwrap_or_default();
        let available_bytes = kilobytes(&info, "MemAvailable");
        let swap_total_bytes = kilobytes(&info, "SwapTotal");
        let swap_free = kilobytes(&info, "SwapFree");
        Memory {
            total_bytes: kilobytes(&info, "MemTotal"),
            available_bytes,
            free_bytes: least(available_bytes, groups.memory_left_bytes),
            swap_total_bytes,
            swap_used_bytes: swap_total_bytes.zip(swap_free).map(|(t, f)| t.saturating_sub(f)),
            huge_pages: HugePages {
                transparent: roots
                    .sys("kernel/mm/transparent_hugepage/enabled")
                    .and_then(|text| chosen(&text)),
                page_bytes: kilobytes(&info, "Hugepagesize"),
                reserved: field(&info, "HugePages_Total").and_then(|n| n.parse().ok()),
            },
            nodes: nodes(roots),
        }
    }
}

/// Bytes that this process can still have without taking them from another: what is available, and what
/// its control groups leave. `None` where the system does not tell.
pub fn free_memory(roots: &Roots) -> Option<u64> {
    if let Some(memory) = platform::memory(roots) {
        return memory.free_bytes;
    }
    let info = roots.proc("meminfo").unwrap_or_default();
    least(kilobytes(&info, "MemAvailable"), Groups::read(roots).memory_left_bytes)
}

fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// A line of Linux' memory information, in bytes.
fn kilobytes(info: &str, name: &str) -> Option<u64> {
    let kilobytes: u64 = field(info, name)?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes.saturating_mul(1024))
}

/// The word in brackets of `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_string())
}

fn nodes(roots: &Roots) -> Vec<Node> {
    let of = |(id, folder): (usize, std::path::PathBuf)| {
        // `Node 0 MemTotal: 24684084 kB`
        let info = text(&folder.join("meminfo")).unwrap_or_default();
        let prefix = format!("Node {id} ");
        let info: Vec<_> = info.lines().map(|l| l.strip_prefix(&prefix).unwrap_or(l)).collect();
        let info = info.join("\n");
        let cpus = text(&folder.join("cpulist")).and_then(|t| list(&t)).unwrap_or_default();
        Node {
            id,
            cpus,
            total_bytes: kilobytes(&info, "MemTotal"),
            free_bytes: kilobytes(&info, "MemFree"),
        }
    };
    numbered(&roots.sys.join("devices/system/node"), "node").into_iter().map(of).collect()
}
