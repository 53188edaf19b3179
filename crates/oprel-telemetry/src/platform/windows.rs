//! Where all is told by calls. A recorded machine is told by its files here, too.

use std::collections::BTreeMap;
use std::path::Path;

use oprel_windows::{CacheKind, Processors};
use windows_registry::LOCAL_MACHINE;

use crate::cpu::{Cache, Cpu};
use crate::memory::Memory;
use crate::roots::Roots;

/// Where the registry tells of the first CPU, and of the system.
const FIRST_CPU: &str = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0";
const SYSTEM: &str = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion";

/// The processors of this machine; `None` for a recorded one.
pub(crate) fn cpu(roots: &Roots, isa: &str) -> Option<Cpu> {
    let told = here(roots).and_then(|()| oprel_windows::processors().ok())?;
    let cpus: Vec<usize> = told.cores.iter().flat_map(|core| core.cpus.iter().copied()).collect();
    let fast = fast(&told);
    let usable = if told.allowed.is_empty() { cpus.clone() } else { told.allowed.clone() };
    let is_good = |cpu: &usize| usable.contains(cpu) && (fast.is_empty() || fast.contains(cpu));
    let good = told.cores.iter().filter(|core| core.cpus.iter().any(is_good)).count();
    let registry = LOCAL_MACHINE.open(FIRST_CPU).ok();
    let model = registry.as_ref().and_then(|key| key.get_string("ProcessorNameString").ok());
    Some(Cpu {
        model: model.map(|model| model.trim().to_string()),
        features: features(),
        isa: isa.into(),
        caches: caches(&told),
        sockets: Some(told.sockets).filter(|n| *n > 0),
        cores: Some(told.cores.len()).filter(|n| *n > 0),
        threads: Some(cpus.len()).filter(|n| *n > 0),
        usable_cores: Some(good).filter(|n| *n > 0),
        fast,
        usable,
        most_mhz: registry.and_then(|key| key.get_u32("~MHz").ok()).map(u64::from),
    })
}

/// Memory of this machine; `None` for a recorded one.
pub(crate) fn memory(roots: &Roots) -> Option<Memory> {
    let told = here(roots).and_then(|()| oprel_windows::memory().ok())?;
    Some(Memory {
        total_bytes: Some(told.total_bytes),
        available_bytes: Some(told.available_bytes),
        // What is not promised cannot be had, be it free or not.
        free_bytes: Some(told.available_bytes.min(told.commit_available_bytes)),
        swap_total_bytes: told.commit_total_bytes.checked_sub(told.total_bytes),
        ..Memory::default()
    })
}

/// The build of this system; `None` for a recorded one.
pub(crate) fn kernel(roots: &Roots) -> Option<String> {
    let key = here(roots).and_then(|()| LOCAL_MACHINE.open(SYSTEM).ok())?;
    let major = key.get_u32("CurrentMajorVersionNumber").ok()?;
    let minor = key.get_u32("CurrentMinorVersionNumber").unwrap_or(0);
    let build = key.get_string("CurrentBuildNumber").ok()?;
    Some(format!("{major}.{minor}.{build}"))
}

/// What is free for this user, and all that there is, on the disk of a folder that exists.
pub(crate) fn space(folder: &Path) -> Option<(u64, u64)> {
    let space = oprel_windows::space(folder).ok()?;
    Some((space.free_bytes, space.total_bytes))
}

/// Whether this machine is meant.
fn here(roots: &Roots) -> Option<()> {
    (*roots == Roots::default()).then_some(())
}

/// CPUs of the fast cores, where there are slow ones.
fn fast(told: &Processors) -> Vec<usize> {
    let most = told.cores.iter().map(|core| core.class).max().unwrap_or(0);
    if told.cores.iter().all(|core| core.class == most) {
        return Vec::new();
    }
    let fast = told.cores.iter().filter(|core| core.class == most);
    fast.flat_map(|core| core.cpus.iter().copied()).collect()
}

fn caches(told: &Processors) -> Vec<Cache> {
    let mut found: BTreeMap<(u8, &str, u64), usize> = BTreeMap::new();
    for cache in &told.caches {
        let kind = match cache.kind {
            CacheKind::Data => "Data",
            CacheKind::Instruction => "Instruction",
            CacheKind::Unified => "Unified",
        };
        *found.entry((cache.level, kind, cache.bytes)).or_default() += 1;
    }
    let cache = |((level, kind, bytes), count): ((u8, &str, u64), usize)| Cache {
        level,
        kind: kind.into(),
        bytes,
        count,
    };
    found.into_iter().map(cache).collect()
}

/// Instructions that matter to arithmetic on weights, as Linux names them.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<String> {
    let all = [
        ("sse4_2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx_vnni", is_x86_feature_detected!("avxvnni")),
        ("avx_vnni_int8", is_x86_feature_detected!("avxvnniint8")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512dq", is_x86_feature_detected!("avx512dq")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512_vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512_bf16", is_x86_feature_detected!("avx512bf16")),
        ("avx512_fp16", is_x86_feature_detected!("avx512fp16")),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.into()).collect()
}

/// Instructions that matter to arithmetic on weights, as Linux names them.
#[cfg(target_arch = "aarch64")]
fn features() -> Vec<String> {
    use std::arch::is_aarch64_feature_detected;
    let all = [
        ("asimd", is_aarch64_feature_detected!("neon")),
        ("asimdhp", is_aarch64_feature_detected!("fp16")),
        ("asimddp", is_aarch64_feature_detected!("dotprod")),
        ("i8mm", is_aarch64_feature_detected!("i8mm")),
        ("bf16", is_aarch64_feature_detected!("bf16")),
        ("sve", is_aarch64_feature_detected!("sve")),
        ("sve2", is_aarch64_feature_detected!("sve2")),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.into()).collect()
}

/// Others are not known here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<String> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told_of_and_a_recorded_one_is_not_mixed_with_it() {
        let cpu = cpu(&Roots::default(), "avx2").unwrap();
        assert!(cpu.usable_cores.unwrap() <= cpu.cores.unwrap() && !cpu.usable.is_empty());
        let told = memory(&Roots::default()).unwrap();
        assert!(told.free_bytes.unwrap() <= told.total_bytes.unwrap());
        let recorded = Roots::below(Path::new("recorded"));
        assert_eq!((super::cpu(&recorded, "avx2"), memory(&recorded)), (None, None));
    }
}
