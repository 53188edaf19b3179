//! What memory this process may still use, as the system and its control group say.

use std::fs;

/// What a model needs besides its file, at least.
const BESIDE: u64 = 256 << 20;

/// Whether a model of a file of so many bytes fits.
pub(crate) fn fits(file_bytes: u64) -> bool {
    free().is_none_or(|free| file_bytes.saturating_add(BESIDE) <= free)
}

/// Bytes that can be had without taking them from a process; `None` where the system does not tell.
fn free() -> Option<u64> {
    match (oprel_backend::free_memory(), group()) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// What the groups of this process leave, the narrowest of them: pages of files that nobody maps count as
/// free.
fn group() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|l| l.strip_prefix("0::"))?.trim_start_matches('/');
    let mut folder = std::path::Path::new("/sys/fs/cgroup").join(path);
    let mut least = None;
    while folder.starts_with("/sys/fs/cgroup") {
        let number = |name: &str| -> Option<u64> {
            fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
        };
        let limit = [number("memory.max"), number("memory.high")].into_iter().flatten().min();
        if let (Some(limit), Some(used)) = (limit, number("memory.current")) {
            let idle = inactive(&folder).unwrap_or(0);
            let left = limit.saturating_sub(used.saturating_sub(idle));
            least = Some(least.map_or(left, |l: u64| l.min(left)));
        }
        if !folder.pop() {
            break;
        }
    }
    least
}

fn inactive(folder: &std::path::Path) -> Option<u64> {
    let stat = fs::read_to_string(folder.join("memory.stat")).ok()?;
    stat.lines().find_map(|l| l.strip_prefix("inactive_file "))?.trim().parse().ok()
}
