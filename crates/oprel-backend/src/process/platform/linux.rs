//! What a worker process gives up before it touches a model: it dies with its parent, gains no privileges,
//! leaves no core, and sees no files but those that it needs.

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
