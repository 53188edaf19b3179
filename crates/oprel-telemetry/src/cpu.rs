//! The processors: what they are, what they can do, how many of them this process may use.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::groups::Groups;
use crate::platform;
use crate::roots::{Roots, field, list, number, numbered, text};

/// Instructions that matter to arithmetic on weights, as Linux names them.
const FEATURES: &[&str] = &[
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx_vnni_int8",
    "avx512f",
    "avx512bw",
    "avx512dq",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "sme",
];

/// The processors of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// What its maker calls it.
    pub model: Option<String>,
    /// Instructions that matter to arithmetic on weights.
    pub features: Vec<String>,
    /// The tier of kernels that suits it: `scalar`, `avx2`, `avx512`, `neon`, ...
    pub isa: String,
    /// Its caches: each kind once.
    pub caches: Vec<Cache>,
    /// Packages.
    pub sockets: Option<usize>,
    /// Physical cores of the machine.
    pub cores: Option<usize>,
    /// CPUs of the machine as the system counts them: threads of cores.
    pub threads: Option<usize>,
    /// CPUs of fast cores, where there are slow ones beside them; empty where all are alike.
    pub fast: Vec<usize>,
    /// CPUs that this process may run on.
    pub usable: Vec<usize>,
    /// Physical cores among them, slow ones left out where there are fast ones.
    pub usable_cores: Option<usize>,
    /// Highest clock, in MHz.
    pub most_mhz: Option<u64>,
}

/// A kind of cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// 1 is nearest to the core.
    pub level: u8,
    /// `Data`, `Instruction` or `Unified`.
    pub kind: String,
    /// Bytes of one.
    pub bytes: u64,
    /// How many of them the machine has.
    pub count: usize,
}

impl Cpu {
    /// What the system tells; `isa` is the tier of kernels.
    pub fn read(roots: &Roots, groups: &Groups, isa: &str) -> Cpu {
        if let Some(cpu) = platform::cpu(roots, isa) {
            return cpu;
        }
        let info = roots.proc("cpuinfo").unwrap_or_default();
        let folder = roots.sys.join("devices/system/cpu");
        let cpus = numbered(&folder, "cpu");
        let cores: BTreeMap<usize, String> =
            cpus.iter().filter_map(|(n, path)| Some((*n, siblings(path)?))).collect();
        let sockets: BTreeSet<u64> = cpus
            .iter()
            .filter_map(|(_, path)| number(&path.join("topology/physical_package_id")))
            .collect();
        let usable = usable(roots, groups, &cpus);
        let fast = fast(roots, &cpus);
        let among: Vec<usize> = usable.iter().copied().filter(|cpu| fast.contains(cpu)).collect();
        let good = if among.is_empty() { &usable } else { &among };
        let count = |of: &mut dyn Iterator<Item = &String>| {
            let distinct: BTreeSet<&String> = of.collect();
            (!distinct.is_empty()).then_some(distinct.len())
        };
        let listed = info.lines().filter(|l| l.starts_with("processor")).count();
        Cpu {
            model: model(&info),
            features: features(&info),
            isa: isa.into(),
            caches: caches(&cpus),
            sockets: (!sockets.is_empty()).then_some(sockets.len()),
            cores: count(&mut cores.values()),
            threads: [cpus.len(), listed].into_iter().find(|n| *n > 0),
            usable_cores: count(&mut good.iter().filter_map(|cpu| cores.get(cpu))),
            fast,
            usable,
            most_mhz: cpus
                .iter()
                .filter_map(|(_, path)| number(&path.join("cpufreq/cpuinfo_max_freq")))
                .max()
                .map(|khz| khz / 1000),
        }
    }

    /// Threads that suit the machine: one a physical core that this process may use, of the fast ones
    /// where they differ, within the quota of its control groups.
    pub fn suited_threads(&self, groups: &Groups) -> usize {
        let granted = std::thread::available_parallelism().map_or(1, NonZero::get);
        let cores = self.usable_cores.unwrap_or(if self.usable.is_empty() {
            granted
        } else {
            self.usable.len()
        });
        // Parts of a CPU do not count: a thread that is stopped stops the others at the next barrier.
        let quota = groups.cpu_quota.map_or(usize::MAX, |quota| quota as usize);
        cores.min(quota).max(1)
    }
}

/// Threads of the engine that suit the machine of these files.
pub fn suited_threads(roots: &Roots) -> usize {
    let groups = Groups::read(roots);
    Cpu::read(roots, &groups, "").suited_threads(&groups)
}

/// The CPUs on the core of one, which is the same text for all of them.
fn siblings(cpu: &Path) -> Option<String> {
    ["core_cpus_list", "thread_siblings_list"]
        .iter()
        .find_map(|name| text(&cpu.join("topology").join(name)))
        .map(|text| text.trim().to_string())
}

/// CPUs that this process may run on: of its affinity, and of its control groups.
fn usable(roots: &Roots, groups: &Groups, cpus: &[(usize, std::path::PathBuf)]) -> Vec<usize> {
    let status = roots.proc("self/status").unwrap_or_default();
    let allowed = field(&status, "Cpus_allowed_list").and_then(list);
    let mut usable = allowed.unwrap_or_else(|| cpus.iter().map(|(n, _)| *n).collect());
    // A mask has bits for CPUs that the machine has room for.
    if !cpus.is_empty() {
        usable.retain(|cpu| cpus.iter().any(|(n, _)| n == cpu));
    }
    if let Some(set) = &groups.cpus {
        usable.retain(|cpu| set.contains(cpu));
    }
    usable
}

fn model(info: &str) -> Option<String> {
    ["model name", "Model", "Hardware", "cpu model", "uarch"]
        .iter()
        .find_map(|name| field(info, name))
        .map(str::to_string)
        .or_else(|| {
            // 64-bit ARM tells numbers only.
            let (maker, part) = (field(info, "CPU implementer")?, field(info, "CPU part")?);
            Some(format!("ARM implementer {maker} part {part}"))
        })
}

fn features(info: &str) -> Vec<String> {
    let all = field(info, "flags").or_else(|| field(info, "Features")).unwrap_or_default();
    let all: BTreeSet<&str> = all.split_whitespace().collect();
    FEATURES.iter().filter(|name| all.contains(*name)).map(|name| name.to_string()).collect()
}

fn caches(cpus: &[(usize, std::path::PathBuf)]) -> Vec<Cache> {
    // Level, kind and bytes, and which CPUs share each.
    let mut found: BTreeMap<(u8, String, u64), BTreeSet<String>> = BTreeMap::new();
    for (_, cpu) in cpus {
        for (_, index) in numbered(&cpu.join("cache"), "index") {
            let read = |name: &str| Some(text(&index.join(name))?.trim().to_string());
            let parts = (read("level"), read("type"), read("size").as_deref().and_then(size));
            let (Some(level), Some(kind), Some(bytes)) = parts else { continue };
            let Ok(level) = level.parse() else { continue };
            let shared = read("shared_cpu_list").unwrap_or_default();
            found.entry((level, kind, bytes)).or_default().insert(shared);
        }
    }
    let cache = |((level, kind, bytes), shared): ((u8, String, u64), BTreeSet<String>)| Cache {
        level,
        kind,
        bytes,
        count: shared.len(),
    };
    found.into_iter().map(cache).collect()
}

/// Bytes of a size like `1024K`.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// CPUs of the fast cores, where the system tells that cores differ.
fn fast(roots: &Roots, cpus: &[(usize, std::path::PathBuf)]) -> Vec<usize> {
    let set = |name: &str| roots.sys(&format!("devices/{name}/cpus")).and_then(|t| list(&t));
    if let (Some(fast), Some(slow)) = (set("cpu_core"), set("cpu_atom"))
        && !slow.is_empty()
    {
        return fast;
    }
    let capacity: Vec<(usize, u64)> = cpus
        .iter()
        .filter_map(|(n, path)| Some((*n, number(&path.join("cpu_capacity"))?)))
        .collect();
    let most = capacity.iter().map(|(_, c)| *c).max().unwrap_or(0);
    let least = capacity.iter().map(|(_, c)| *c).min().unwrap_or(0);
    // Cores of one kind differ a little by what their maker found they can do.
    if least * 10 >= most * 8 {
        return Vec::new();
    }
    capacity.iter().filter(|(_, c)| *c * 10 >= most * 8).map(|(n, _)| *n).collect()
}
