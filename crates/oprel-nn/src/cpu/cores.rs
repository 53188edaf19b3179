//! How many threads suit this machine, if nobody says: one for each core that this process may use.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::Path;

/// CPUs that a list may name; beyond it stands nonsense.
const MOST_CPUS: usize = 1 << 16;

/// As many threads as there are physical cores among the CPUs that this process may run on, and as its
/// control groups grant. Siblings on one core share what kernels are bound by, its arithmetic and its
/// way to memory, and wait for each other at the end of every region.
pub fn default_threads() -> usize {
    // This minds affinity everywhere, and on Linux the quotas of version 1.
    let granted = std::thread::available_parallelism().map_or(1, NonZero::get);
    threads(Path::new("/"), counted_cores().unwrap_or(granted).min(granted))
}

/// Cores of the CPUs that this process may run on, where they are told by a call and not by files.
#[cfg(windows)]
fn counted_cores() -> Option<usize> {
    let told = oprel_windows::processors().ok()?;
    let is_allowed = |cpu: &usize| told.allowed.is_empty() || told.allowed.contains(cpu);
    let n = told.cores.iter().filter(|core| core.cpus.iter().any(is_allowed)).count();
    (n > 0).then_some(n)
}

#[cfg(not(windows))]
fn counted_cores() -> Option<usize> {
    None
}

/// The same of `granted` threads, with what Linux tells below `root`.
fn threads(root: &Path, granted: usize) -> usize {
    let limits = [physical_cores(root), quota(root)];
    limits.into_iter().flatten().fold(granted, usize::min).max(1)
}

/// Cores of the CPUs that this process may run on; `None` where it is not told.
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

/// CPUs that the control groups (version 2) of this process grant, the least from its own up to the
/// root; `None` where they set no quota. Parts of a CPU do not count: a thread that is stopped for the
/// rest of a period stops all others at the end of a region.
fn quota(root: &Path) -> Option<usize> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mount = root.join("sys/fs/cgroup");
    // A group outside the process's namespace, `/../..`, is not below the mount.
    let own = own.split('/').take_while(|part| *part != "..");
    let own = own.fold(mount.clone(), |path, part| path.join(part));
    let up = own.ancestors().take_while(|group| group.starts_with(&mount));
    up.filter_map(|group| cpu_max(&std::fs::read_to_string(group.join("cpu.max")).ok()?)).min()
}

/// Whole CPUs of `cpu.max`: microseconds of a period, or `max`, and the period.
fn cpu_max(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (usize, usize) = (quota.parse().ok()?, period.parse().ok()?);
    quota.checked_div(period)
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

    /// A root folder of its own, gone with the test.
    struct Root(std::path::PathBuf);

    impl Root {
        fn new(name: &str) -> Root {
            let name = format!("oprel-cores-{name}-{}", std::process::id());
            Root(std::env::temp_dir().join(name))
        }

        fn file(self, path: &str, text: &str) -> Root {
            let path = self.0.join(path);
            create_dir_all(path.parent().expect("a folder above")).expect("a folder");
            write(path, text).expect("a file");
            self
        }

        /// With a control group that sets this as `cpu.max`.
        fn group(self, path: &str, cpu_max: &str) -> Root {
            self.file(&format!("sys/fs/cgroup{path}/cpu.max"), &format!("{cpu_max}\n"))
        }

        /// With this process in a control group.
        fn inside(self, path: &str) -> Root {
            self.file("proc/self/cgroup", &format!("1:cpu:/elsewhere\n0::{path}\n"))
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            // What cannot be removed stays.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// A root where CPUs `allowed` may be used, of a machine with these siblings.
    fn machine(name: &str, allowed: &str, siblings: &[&str]) -> Root {
        let status = format!("Name:\ttest\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed}\n");
        let root = Root::new(name).file("proc/self/status", &status);
        siblings.iter().enumerate().fold(root, |root, (cpu, list)| {
            let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            root.file(&path, &format!("{list}\n"))
        })
    }

    #[test]
    fn siblings_count_once_and_only_where_they_may_be_used() {
        let cores =
            |name, allowed, siblings: &[&str]| physical_cores(&machine(name, allowed, siblings).0);
        let neighbours = ["0-1", "0-1", "2-3", "2-3"];
        assert_eq!(cores("all", "0-3", &neighbours), Some(2));
        assert_eq!(cores("some", "1,2", &neighbours), Some(2));
        assert_eq!(cores("one", "2-3", &neighbours), Some(1));
        assert_eq!(cores("apart", "0-3", &["0,2", "1,3", "0,2", "1,3"]), Some(2));
        assert_eq!(cores("single", "0-2", &["0", "1", "2"]), Some(3));
    }

    #[test]
    fn the_least_quota_on_the_way_to_the_root_counts() {
        let nested = |name, maxima: [&str; 4]| {
            let paths = ["", "/system.slice", "/system.slice/oprel.service", "/other"];
            let root = Root::new(name).inside("/system.slice/oprel.service");
            let groups = paths.into_iter().zip(maxima);
            quota(&groups.fold(root, |root, (path, max)| root.group(path, max)).0)
        };
        let (none, one) = ("max 100000", "100000 100000");
        assert_eq!(nested("none", [none, none, none, one]), None);
        assert_eq!(nested("own", [none, none, "400000 100000", one]), Some(4));
        assert_eq!(nested("above", [none, "300000 100000", "400000 100000", one]), Some(3));
        assert_eq!(nested("root", ["100000 50000", none, "400000 100000", one]), Some(2));
        assert_eq!(nested("part", [none, none, "250000 100000", one]), Some(2));
    }

    #[test]
    fn groups_that_do_not_tell_grant_everything() {
        assert_eq!(quota(Path::new("/nowhere")), None);
        assert_eq!(
            quota(&Root::new("first version").file("proc/self/cgroup", "4:cpu:/a\n").0),
            None
        );
        assert_eq!(quota(&Root::new("no quota").inside("/a/b").0), None);
        for (name, nonsense) in
            [("no text", ""), ("no period", "1 0"), ("words", "a b"), ("no pair", "5")]
        {
            assert_eq!(quota(&Root::new(name).inside("/").group("", nonsense).0), None, "{name}");
        }
        // Of a group outside its namespace a process sees the root alone.
        let outside = Root::new("outside").inside("/../../a").group("", "300000 100000");
        assert_eq!(quota(&outside.0), Some(3));
    }

    #[test]
    fn threads_are_the_least_of_cores_quota_and_what_is_granted() {
        let with = |name, max: &str| {
            machine(name, "0-7", &["0-1", "0-1", "2-3", "2-3", "4-5", "4-5", "6-7", "6-7"])
                .inside("/a")
                .group("/a", max)
        };
        assert_eq!(threads(&with("cores", "max 100000").0, 8), 4);
        assert_eq!(threads(&with("quota", "300000 100000").0, 8), 3);
        assert_eq!(threads(&with("granted", "300000 100000").0, 2), 2);
        assert_eq!(threads(&with("half", "50000 100000").0, 8), 1);
        assert_eq!(threads(Path::new("/nowhere"), 5), 5);
    }

    #[test]
    fn a_machine_that_does_not_tell_is_not_guessed() {
        assert_eq!(physical_cores(Path::new("/nowhere")), None);
        assert_eq!(physical_cores(&machine("no topology", "0-3", &[]).0), None);
        assert_eq!(cpus("0-99999999999"), None);
        assert_eq!(cpus(""), None);
    }

    #[test]
    fn there_is_a_thread_at_least() {
        assert!(default_threads() >= 1);
    }
}
