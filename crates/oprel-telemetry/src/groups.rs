//! What the control groups of this process leave it: memory, CPUs, swap. Of all groups from the
//! process's own up to the root the narrowest counts, for version 2 of control groups and for version 1.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::roots::{Roots, field, list, number, text};

/// Limits of this size stand for none: version 1 gives the largest number of pages.
const NO_LIMIT: u64 = 1 << 62;

/// What the control groups of this process leave it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Groups {
    /// Version of the groups that rule memory: 1 or 2; 0 where there are none.
    pub version: u8,
    /// The group of this process, as the system names it.
    pub path: String,
    /// Most bytes that this process may have, with others of its group; `None` where nothing limits it.
    pub memory_limit_bytes: Option<u64>,
    /// What the narrowest group has left. Pages of files that nobody used lately count as free: the
    /// system takes them back before it refuses memory.
    pub memory_left_bytes: Option<u64>,
    /// Most bytes of swap.
    pub swap_limit_bytes: Option<u64>,
    /// CPUs' time that is granted, in CPUs: 2.5 is two and a half.
    pub cpu_quota: Option<f64>,
    /// CPUs that the group may run on.
    pub cpus: Option<Vec<usize>>,
}

impl Groups {
    /// What the system tells of this process's groups.
    pub fn read(roots: &Roots) -> Groups {
        let Some(own) = roots.proc("self/cgroup") else { return Groups::default() };
        let mount = roots.sys.join("fs/cgroup");
        let mut groups = match first(&own, "memory") {
            Some(path) => version_1(&mount, &own, path),
            None => match own.lines().find_map(|l| l.strip_prefix("0::")) {
                Some(path) => version_2(&mount, path),
                None => return Groups::default(),
            },
        };
        // Pieces of both versions side by side: what is missing of one may be in the other.
        if groups.cpu_quota.is_none() {
            groups.cpu_quota = first(&own, "cpu").and_then(|p| quota_1(&mount, p));
        }
        groups
    }
}

/// The path of the group that rules `controller` in version 1.
fn first<'t>(own: &'t str, controller: &str) -> Option<&'t str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next()?, parts.next()?);
        names.split(',').any(|name| name == controller).then_some(path)
    })
}

/// The folders of a group and of those above it, up to the mount. A group that is not below the mount,
/// as a container sees its own when it does not have a namespace, leaves the mount alone.
fn upwards(mount: &Path, path: &str) -> Vec<PathBuf> {
    let parts = path.split('/').filter(|part| !part.is_empty()).take_while(|part| *part != "..");
    let mut all = vec![mount.to_path_buf()];
    for part in parts {
        let last = all.last().map_or_else(PathBuf::new, |last| last.join(part));
        all.push(last);
    }
    all.reverse();
    all
}

/// The narrower of what was found and what another group says.
fn narrow<T: PartialOrd>(least: &mut Option<T>, other: Option<T>) {
    if let Some(other) = other
        && least.as_ref().is_none_or(|least| other < *least)
    {
        *least = Some(other);
    }
}

fn limit(folder: &Path, name: &str) -> Option<u64> {
    number(&folder.join(name)).filter(|&bytes| bytes < NO_LIMIT)
}

fn stat(folder: &Path, name: &str) -> Option<u64> {
    field(&text(&folder.join("memory.stat"))?, name)?.parse().ok()
}

fn version_2(mount: &Path, path: &str) -> Groups {
    let mut groups = Groups { version: 2, path: path.into(), ..Groups::default() };
    for folder in upwards(mount, path) {
        let most = [limit(&folder, "memory.max"), limit(&folder, "memory.high")];
        let most = most.into_iter().flatten().min();
        narrow(&mut groups.memory_limit_bytes, most);
        let used = number(&folder.join("memory.current")).map(|used| {
            // Both are sampled, one after the other: the difference may be below nothing.
            used.saturating_sub(stat(&folder, "inactive_file").unwrap_or(0))
        });
        if let (Some(most), Some(used)) = (most, used) {
            narrow(&mut groups.memory_left_bytes, Some(most.saturating_sub(used)));
        }
        narrow(&mut groups.swap_limit_bytes, limit(&folder, "memory.swap.max"));
        let quota = text(&folder.join("cpu.max")).and_then(|text| {
            let mut parts = text.split_whitespace().map(str::parse::<f64>);
            ratio(parts.next()?.ok()?, parts.next()?.ok()?)
        });
        narrow(&mut groups.cpu_quota, quota);
        if groups.cpus.is_none() {
            let cpus = text(&folder.join("cpuset.cpus.effective")).and_then(|t| list(&t));
            groups.cpus = cpus.filter(|cpus| !cpus.is_empty());
        }
    }
    groups
}

fn version_1(mount: &Path, own: &str, path: &str) -> Groups {
    let mut groups = Groups { version: 1, path: path.into(), ..Groups::default() };
    for folder in upwards(&mount.join("memory"), path) {
        let most = limit(&folder, "memory.limit_in_bytes");
        narrow(&mut groups.memory_limit_bytes, most);
        if let (Some(most), Some(used)) = (most, number(&folder.join("memory.usage_in_bytes"))) {
            let idle = stat(&folder, "total_inactive_file")
                .or_else(|| stat(&folder, "inactive_file"))
                .unwrap_or(0);
            let left = most.saturating_sub(used.saturating_sub(idle));
            narrow(&mut groups.memory_left_bytes, Some(left));
            let with_swap = limit(&folder, "memory.memsw.limit_in_bytes");
            narrow(&mut groups.swap_limit_bytes, with_swap.map(|both| both.saturating_sub(most)));
        }
    }
    let sets = first(own, "cpuset").map(|path| upwards(&mount.join("cpuset"), path));
    groups.cpus = sets.into_iter().flatten().find_map(|folder| {
        let names = ["cpuset.effective_cpus", "cpuset.cpus"];
        let cpus = names.iter().find_map(|name| list(&text(&folder.join(name))?));
        cpus.filter(|cpus| !cpus.is_empty())
    });
    groups
}

/// The quota of version 1.
fn quota_1(mount: &Path, path: &str) -> Option<f64> {
    let mut least = None;
    for controller in ["cpu", "cpu,cpuacct"] {
        for folder in upwards(&mount.join(controller), path) {
            let quota = number(&folder.join("cpu.cfs_quota_us"));
            let period = number(&folder.join("cpu.cfs_period_us"));
            if let (Some(quota), Some(period)) = (quota, period) {
                narrow(&mut least, ratio(quota as f64, period as f64));
            }
        }
    }
    least
}

fn ratio(quota: f64, period: f64) -> Option<f64> {
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}
