//! Processors: cores and the CPUs on them, caches, packages.

#![expect(unsafe_code, reason = "processors are told by raw calls only")]
#![expect(non_upper_case_globals, reason = "constants of the system, with its names")]

use std::io;
use std::mem::offset_of;
use std::ptr;

use windows_sys::Win32::Foundation::ERROR_INSUFFICIENT_BUFFER;
use windows_sys::Win32::System::SystemInformation::{
    CACHE_RELATIONSHIP, CacheData, CacheInstruction, CacheUnified, GROUP_AFFINITY,
    GetLogicalProcessorInformationEx, PROCESSOR_RELATIONSHIP, RelationAll, RelationCache,
    RelationProcessorCore, RelationProcessorPackage, SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetProcessAffinityMask};

use crate::done;

/// CPUs of a group of processors: bits of its masks.
const GROUP: usize = usize::BITS as usize;

/// The processors of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processors {
    /// Physical cores.
    pub cores: Vec<Core>,
    /// Caches, each of them.
    pub caches: Vec<Cache>,
    /// Packages.
    pub sockets: usize,
    /// CPUs that this process may run on, where they are of one group; empty where it may use several.
    pub allowed: Vec<usize>,
}

/// A physical core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// The higher, the faster; all have the same where they are alike.
    pub class: u8,
    /// Its threads. Groups are counted through, with 64 CPUs each.
    pub cpus: Vec<usize>,
}

/// A cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// 1 is nearest to the core.
    pub level: u8,
    /// What it holds.
    pub kind: CacheKind,
    /// Its size.
    pub bytes: u64,
}

/// What a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// Data.
    Data,
    /// Instructions.
    Instruction,
    /// Both.
    Unified,
}

/// What the system tells.
///
/// # Errors
/// What the system says.
pub fn processors() -> io::Result<Processors> {
    let mut all = Processors { allowed: allowed()?, ..Processors::default() };
    let bytes = records()?;
    let mut rest = bytes.as_slice();
    while let Some((kind, record, behind)) = split(rest) {
        match kind {
            RelationProcessorCore => all.cores.extend(core(record)),
            RelationCache => all.caches.extend(cache(record)),
            RelationProcessorPackage => all.sockets += 1,
            _ => {}
        }
        rest = behind;
    }
    Ok(all)
}

/// All that the system tells, one record behind the other.
fn records() -> io::Result<Vec<u8>> {
    let mut len = 0u32;
    let mut words: Vec<u64> = Vec::new();
    // CPUs can be added between two calls.
    for _ in 0..8 {
        let into = if words.is_empty() { ptr::null_mut() } else { words.as_mut_ptr() };
        // SAFETY: the pointer is null, or of as many bytes as `len` says, aligned for the structure; the call says
        // in `len` how many it wrote, or needs.
        let answer = unsafe {
            GetLogicalProcessorInformationEx(
                RelationAll,
                into.cast::<SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX>(),
                &raw mut len,
            )
        };
        match done(answer) {
            Ok(()) => {
                let bytes = words.iter().flat_map(|word| word.to_ne_bytes());
                return Ok(bytes.take(len as usize).collect());
            }
            Err(error) if error.raw_os_error() == Some(ERROR_INSUFFICIENT_BUFFER as i32) => {
                words = vec![0; (len as usize).div_ceil(size_of::<u64>())];
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}

/// The first record: its kind, what is in it, and what is behind it.
fn split(bytes: &[u8]) -> Option<(i32, &[u8], &[u8])> {
    const KIND: usize = offset_of!(SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX, Relationship);
    const SIZE: usize = offset_of!(SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX, Size);
    const HEAD: usize = offset_of!(SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX, Anonymous);
    let kind = i32::from_ne_bytes(array(bytes, KIND)?);
    let size = u32::from_ne_bytes(array(bytes, SIZE)?) as usize;
    let (record, behind) = bytes.split_at_checked(size)?;
    Some((kind, record.get(HEAD..)?, behind))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn core(record: &[u8]) -> Option<Core> {
    let class = *record.get(offset_of!(PROCESSOR_RELATIONSHIP, EfficiencyClass))?;
    let groups = u16::from_ne_bytes(array(record, offset_of!(PROCESSOR_RELATIONSHIP, GroupCount))?);
    let first = offset_of!(PROCESSOR_RELATIONSHIP, GroupMask);
    let mut cpus = Vec::new();
    for group in 0..usize::from(groups) {
        let at = first + group * size_of::<GROUP_AFFINITY>();
        let mask = usize::from_ne_bytes(array(record, at + offset_of!(GROUP_AFFINITY, Mask))?);
        let number = u16::from_ne_bytes(array(record, at + offset_of!(GROUP_AFFINITY, Group))?);
        cpus.extend(bits(mask).map(|bit| usize::from(number) * GROUP + bit));
    }
    Some(Core { class, cpus })
}

fn cache(record: &[u8]) -> Option<Cache> {
    let kind = i32::from_ne_bytes(array(record, offset_of!(CACHE_RELATIONSHIP, Type))?);
    let bytes = u32::from_ne_bytes(array(record, offset_of!(CACHE_RELATIONSHIP, CacheSize))?);
    let kind = match kind {
        CacheData => CacheKind::Data,
        CacheInstruction => CacheKind::Instruction,
        CacheUnified => CacheKind::Unified,
        _ => return None,
    };
    let level = *record.get(offset_of!(CACHE_RELATIONSHIP, Level))?;
    Some(Cache { level, kind, bytes: bytes.into() })
}

/// CPUs that this process may run on. The system tells zero where they are of several groups.
fn allowed() -> io::Result<Vec<usize>> {
    let (mut own, mut all) = (0, 0);
    // SAFETY: the handle stands for this process and needs no closing; both numbers are ours.
    done(unsafe { GetProcessAffinityMask(GetCurrentProcess(), &raw mut own, &raw mut all) })?;
    Ok(bits(own).collect())
}

fn bits(mask: usize) -> impl Iterator<Item = usize> {
    (0..GROUP).filter(move |bit| mask >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_cores_and_this_process_runs_on_one() {
        let all = processors().unwrap();
        let cpus: Vec<usize> = all.cores.iter().flat_map(|core| core.cpus.clone()).collect();
        assert!(!cpus.is_empty() && all.sockets > 0);
        assert!(all.allowed.iter().all(|cpu| cpus.contains(cpu)), "{all:?}");
    }

    #[test]
    fn what_is_cut_is_no_record() {
        assert_eq!(split(&[]), None);
        assert_eq!(split(&[0, 0, 0, 0, 12, 0, 0, 0, 1]), None);
        assert_eq!(core(&[0; 10]), None);
        assert_eq!(cache(&[0; 3]), None);
    }
}
