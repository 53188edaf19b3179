//! How many threads suit this machine, if nobody says: one for each core that this process may use.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::Path;

/// CPUs that a list may name; beyond it stands nonsense.
const MOST_CPUS: usize = 1 << 16;

/// As many threads as there are physical cores among the CPUs that this process may run on, and as its
/// control groups grant. Siblings on one core share what kernels are bound by, its arithmetic and its
/// way to memory, and wait for each other at the end of every region.
pub(super) fn default_threads() -> usize {
    // This minds affinity, and CPU quotas of control groups of both versions, up to the root.
    let granted = std::thread::available_parallelism().map_or(1, NonZero::get);
    physical_cores(Path::new("/")).map_or(granted, |cores| cores.clamp(1, granted))
}

/// Cores of the CPUs that this process may run on, as Linux tells it below `root`; `None` where it
/// does not.
fn physical_cores(root: &Path) -> Option<usize> {
    let status = std::fs::read_to_string(root.join("proc/self/status")).ok()?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let topology = root.join("sys/devices/system/cpu");
    let siblings = |cpu: usize| {
        let of = topology.join(format!("cpu{cpu}/topology/thread_siblings_list"));
        std::fs::read_to_string(of).ok()
    };
    // CPUs of one core give the same list.
    let cores: BTreeSet<String> = cpus(allowed)?.into_iter().filter_map(siblings).collect();
    (!cores.is_empty()).then_some(cores.len())
}

/// The CPUs of a list like `0-3,8`.
fn cpus(list: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= MOST_CPUS {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};

    /// A root where CPUs `allowed` may be used, of a machine with these siblings.
    fn machine(name: &str, allowed: &str, siblings: &[&str]) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("oprel-cores-{name}-{}", std::process::id()));
        create_dir_all(root.join("proc/self")).expect("a folder");
        let status = format!("Name:\ttest\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed}\n");
        write(root.join("proc/self/status"), status).expect("a file");
        for (cpu, list) in siblings.iter().enumerate() {
            let topology = root.join(format!("sys/devices/system/cpu/cpu{cpu}/topology"));
            create_dir_all(&topology).expect("a folder");
            write(topology.join("thread_siblings_list"), format!("{list}\n")).expect("a file");
        }
        root
    }

    #[test]
    fn siblings_count_once_and_only_where_they_may_be_used() {
        let neighbours = ["0-1", "0-1", "2-3", "2-3"];
        assert_eq!(physical_cores(&machine("all", "0-3", &neighbours)), Some(2));
        assert_eq!(physical_cores(&machine("some", "1,2", &neighbours)), Some(2));
        assert_eq!(physical_cores(&machine("one", "2-3", &neighbours)), Some(1));
        assert_eq!(
            physical_cores(&machine("apart", "0-3", &["0,2", "1,3", "0,2", "1,3"])),
            Some(2)
        );
        assert_eq!(physical_cores(&machine("single", "0-2", &["0", "1", "2"])), Some(3));
    }

    #[test]
    fn a_machine_that_does_not_tell_is_not_guessed() {
        assert_eq!(physical_cores(Path::new("/nowhere")), None);
        assert_eq!(physical_cores(&machine("bare", "0-3", &[])), None);
        assert_eq!(cpus("0-99999999999"), None);
        assert_eq!(cpus(""), None);
    }

    #[test]
    fn there_is_a_thread_at_least() {
        assert!(default_threads() >= 1);
    }
}
