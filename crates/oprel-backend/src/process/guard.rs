//! What a worker process gives up before it touches a model: it dies with its parent, gains no privileges,
//! leaves no core, and sees no files but those that it needs, as far as the system can promise that.

use std::path::{Path, PathBuf};

/// Gives up what can be given up before it is known what to load. Failing is no reason not to run.
pub(super) fn begin() {
    #[cfg(target_os = "linux")]
    linux::begin();
}

/// Lets this thread, for as long as it lives, go on only where no other wants the processor.
pub(super) fn step_back() {
    #[cfg(target_os = "linux")]
    linux::step_back();
}

/// Becomes another program, which dies with the process `parent` that started this one, where the system
/// can promise that. Returns only if it cannot be run.
///
/// # Errors
/// If the program cannot be run, or the parent is gone already.
pub fn leash(
    parent: u32,
    program: &std::ffi::OsStr,
    args: &[std::ffi::OsString],
) -> std::io::Error {
    use std::os::unix::process::{CommandExt, parent_id};
    begin();
    // It may have died before it was agreed to die with it.
    match parent_id() == parent {
        true => std::process::Command::new(program).args(args).exec(),
        false => std::io::Error::other("who started it is gone"),
    }
}

/// Narrows the file system to reading `files`, and to reading and writing below `folders`.
pub(super) fn confine(files: &[PathBuf], folders: &[PathBuf]) {
    #[cfg(target_os = "linux")]
    if let Err(error) = linux::confine(files, folders) {
        eprintln!("worker: files are not confined: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (files, folders);
}

/// All parts of a model: the file, or its folder if the file is one of several.
pub(super) fn parts(file: &Path) -> PathBuf {
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    match (name.contains("-of-"), file.parent()) {
        (true, Some(folder)) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        (true, _) => PathBuf::from("."),
        _ => file.to_path_buf(),
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::PathBuf;

    use landlock::{
        ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
        RulesetError, path_beneath_rules,
    };
    use rustix::process::{
        Resource, Rlimit, Signal, set_parent_process_death_signal, setpriority_process, setrlimit,
    };

    /// What the standard library, the kernels and the clock read.
    const SYSTEM: &[&str] = &[
        "/proc",
        "/sys/devices/system",
        "/sys/fs/cgroup",
        "/etc/localtime",
        "/etc/timezone",
        "/usr/share/zoneinfo",
        "/dev/urandom",
    ];

    pub(super) fn begin() {
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        let _ = rustix::thread::set_no_new_privs(true);
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        let _ = setrlimit(Resource::Core, none);
        // When memory runs out, a model goes before the daemon that serves the others.
        let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    }

    pub(super) fn step_back() {
        /// As nice as can be.
        const NICEST: i32 = 19;
        // Here the name of a thread stands for it alone.
        let _ = setpriority_process(Some(rustix::thread::gettid()), NICEST);
    }

    pub(super) fn confine(files: &[PathBuf], folders: &[PathBuf]) -> Result<(), RulesetError> {
        let abi = ABI::V3;
        let read = AccessFs::from_read(abi);
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules(SYSTEM, read))?
            .add_rules(path_beneath_rules(files, read))?
            .add_rules(path_beneath_rules(folders, AccessFs::from_all(abi)))?
            .restrict_self()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_in_parts_needs_its_folder() {
        assert_eq!(parts(Path::new("/a/m.gguf")), Path::new("/a/m.gguf"));
        assert_eq!(parts(Path::new("/a/m-00001-of-00003.gguf")), Path::new("/a"));
        assert_eq!(parts(Path::new("m-00001-of-00003.gguf")), Path::new("."));
    }
}
