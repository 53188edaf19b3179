//! Where the system's files are: another folder in tests, the system's own otherwise.

use std::fs;
use std::path::{Path, PathBuf};

/// CPUs, caches or nodes that one list may name; beyond it stands nonsense.
const MOST: usize = 1 << 16;

/// The folders that a system tells about itself in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Usually `/proc`.
    pub proc: PathBuf,
    /// Usually `/sys`.
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots { proc: "/proc".into(), sys: "/sys".into() }
    }
}

impl Roots {
    /// `proc` and `sys` below a folder: a recorded machine.
    pub fn below(folder: &Path) -> Roots {
        Roots { proc: folder.join("proc"), sys: folder.join("sys") }
    }

    /// The text of a file of `/proc`.
    pub(crate) fn proc(&self, path: &str) -> Option<String> {
        text(&self.proc.join(path))
    }

    /// The text of a file of `/sys`, without white space around it.
    pub(crate) fn sys(&self, path: &str) -> Option<String> {
        Some(text(&self.sys.join(path))?.trim().to_string())
    }
}

/// The text of a file, if there is one that can be read.
pub(crate) fn text(path: &Path) -> Option<String> {
    // What is not UTF-8 in one line does not hide the others.
    Some(String::from_utf8_lossy(&fs::read(path).ok()?).into_owned())
}

/// The number in a file.
pub(crate) fn number(path: &Path) -> Option<u64> {
    text(path)?.trim().parse().ok()
}

/// What a line `name: value` or `name value` says.
pub(crate) fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let rest = rest.trim_start_matches([' ', '\t']);
        match rest.strip_prefix(':') {
            Some(value) => Some(value.trim()),
            // A longer name begins with this one.
            None if rest.len() == line.len() - name.len() => None,
            None => Some(rest.trim()),
        }
    })
}

/// The numbers of a list like `0-3,8`.
pub(crate) fn list(text: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for range in text.trim().split(',').filter(|r| !r.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= MOST {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// Entries of a folder called `prefix` and a number, in order of that number.
pub(crate) fn numbered(folder: &Path, prefix: &str) -> Vec<(usize, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let with_number = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let number = name.strip_prefix(prefix)?.parse().ok()?;
        Some((number, entry.path()))
    };
    let mut all: Vec<_> = entries.filter_map(with_number).collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_whole_names() {
        let text = "anon 1\ninactive_file 42\nMemTotal:   10 kB\nMemTotalX: 3\n";
        assert_eq!(field(text, "inactive_file"), Some("42"));
        assert_eq!(field(text, "MemTotal"), Some("10 kB"));
        assert_eq!(field(text, "inactive"), None);
    }

    #[test]
    fn lists_of_cpus_have_ranges() {
        assert_eq!(list("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(list(""), Some(vec![]));
        assert_eq!(list("0-99999999"), None);
        assert_eq!(list("a"), None);
    }
}
