//! Processors, memory, limits, the clock.

use oprel_engine::fit::Bytes;
use oprel_telemetry::Vendor;

use super::{Facts, Finding, Level};

/// Bytes a second that memory of a machine of today gives at least: one channel of DDR4.
const SLOW_MEMORY: f64 = 12e9;
/// Bytes that must be free for a model to be of use.
const LITTLE_MEMORY: u64 = 2 << 30;
/// Connections and files of a daemon in use.
const FEW_FILES: u64 = 1024;
/// 2025: a clock before it was never set.
const LONG_AGO: u64 = 1_735_689_600;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let checks: [fn(&Facts) -> Option<Finding>; 10] =
        [isa, bandwidth, huge_pages, memory, swap, group, cpus, accelerators, open_files, clock];
    checks.iter().filter_map(|check| check(facts)).collect()
}

fn isa(facts: &Facts) -> Option<Finding> {
    let cpu = &facts.host.cpu;
    let model = cpu.model.as_deref().unwrap_or("this CPU");
    let what = format!("kernels for {} on {model}", cpu.isa);
    let has = |feature: &str| cpu.features.iter().any(|f| f == feature);
    Some(match cpu.isa.as_str() {
        "scalar" if has("avx2") || has("asimd") => Finding::new(
            "isa",
            Level::Warning,
            what,
            "the CPU has vector instructions that are not used; answers come many times slower",
            "unset OPREL_ISA",
        ),
        "scalar" => Finding::new(
            "isa",
            Level::Warning,
            what,
            "without AVX2 or NEON answers come many times slower",
            "in a virtual machine, let it see the processor's features (a CPU type of `host`); \
             otherwise take small models",
        ),
        "avx2" | "avxvnni" if has("avx512_vnni") => Finding::new(
            "isa",
            Level::Note,
            what,
            "the CPU has AVX-512 with VNNI, which reads prompts faster",
            "unset OPREL_ISA, unless it was set on purpose",
        ),
        _ => Finding::ok("isa", what),
    })
}

fn bandwidth(facts: &Facts) -> Option<Finding> {
    let rates = facts.rates?;
    let what = format!(
        "{} threads read {:.1} GB of memory a second: a model of 4 GB makes at most {:.0} tokens a second",
        rates.threads,
        rates.read / 1e9,
        rates.read / 4e9
    );
    Some(match rates.read < SLOW_MEMORY {
        false => Finding::ok("bandwidth", what),
        true => Finding::new(
            "bandwidth",
            Level::Warning,
            what,
            "each token reads all weights once, so this bounds how fast answers come",
            "end what else uses memory; fill all memory channels; in a virtual machine, ask for more CPUs \
             of one socket",
        ),
    })
}

fn huge_pages(facts: &Facts) -> Option<Finding> {
    let transparent = facts.host.memory.huge_pages.transparent.as_deref()?;
    let what = format!("transparent huge pages: {transparent}");
    Some(match transparent {
        "never" => Finding::new(
            "huge-pages",
            Level::Note,
            what,
            "caches of long texts lie in many small pages, which costs a few percent",
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        _ => Finding::ok("huge-pages", what),
    })
}

fn memory(facts: &Facts) -> Option<Finding> {
    let memory = &facts.host.memory;
    let free = memory.free_bytes?;
    let what = match memory.total_bytes {
        Some(total) => format!("{} of {} of memory can be had", Bytes(free), Bytes(total)),
        None => format!("{} of memory can be had", Bytes(free)),
    };
    Some(match free < LITTLE_MEMORY {
        false => Finding::ok("memory", what),
        true => Finding::new(
            "memory",
            Level::Warning,
            what,
            "only models of a billion weights and less fit",
            "end other programs, or take a smaller quant; `oprel plan MODEL` tells what one needs",
        ),
    })
}

fn swap(facts: &Facts) -> Option<Finding> {
    let memory = &facts.host.memory;
    let used = memory.swap_used_bytes?;
    let much = used > memory.total_bytes.unwrap_or(u64::MAX) / 20;
    Some(match much {
        false => Finding::ok("swap", format!("{} of swap in use", Bytes(used))),
        true => Finding::new(
            "swap",
            Level::Warning,
            format!("{} of swap in use", Bytes(used)),
            "memory is short: a model's state may be written to disk in the middle of an answer",
            "end what is not needed, or load smaller models; then `sudo swapoff -a && sudo swapon -a`",
        ),
    })
}

fn group(facts: &Facts) -> Option<Finding> {
    let groups = &facts.host.groups;
    let limit = groups.memory_limit_bytes?;
    let left = groups.memory_left_bytes.unwrap_or(limit);
    let inside = facts.host.system.container.as_deref().unwrap_or("a control group");
    let what = format!("{inside} allows {} of memory, {} is left", Bytes(limit), Bytes(left));
    Some(match left < LITTLE_MEMORY {
        false => Finding::new(
            "cgroup",
            Level::Note,
            what,
            "models must fit into this, whatever the machine has",
            "",
        ),
        true => Finding::new(
            "cgroup",
            Level::Warning,
            what,
            "what needs more is ended by the system",
            "raise the limit: `docker run --memory`, `resources.limits.memory`, `MemoryMax=`",
        ),
    })
}

fn cpus(facts: &Facts) -> Option<Finding> {
    let (cpu, quota) = (&facts.host.cpu, facts.host.groups.cpu_quota);
    let threads = facts.host.suited_threads();
    let cores = cpu.cores.map_or_else(|| "?".to_string(), |n| n.to_string());
    let what = format!("{threads} threads for {cores} cores");
    Some(match quota {
        Some(quota) if quota < 1.0 => Finding::new(
            "cpus",
            Level::Warning,
            format!("the control group grants {quota:.2} of a CPU"),
            "the engine is stopped for part of each period, in the middle of its work",
            "grant at least one whole CPU: `docker run --cpus`, `resources.limits.cpu`, `CPUQuota=`",
        ),
        Some(quota) if cpu.usable_cores.is_some_and(|cores| quota < cores as f64) => Finding::new(
            "cpus",
            Level::Note,
            format!("{what}: the control group grants {quota:.1} CPUs"),
            "answers come slower than the machine could make them",
            "",
        ),
        _ => Finding::ok("cpus", what),
    })
}

fn accelerators(facts: &Facts) -> Option<Finding> {
    let gpu = facts.host.gpus.first()?;
    let name = gpu.name.clone().unwrap_or_else(|| format!("{:?}", gpu.vendor));
    let memory = gpu.total_bytes.map(|n| format!(" with {}", Bytes(n))).unwrap_or_default();
    let what = format!("{name}{memory}");
    let silent = gpu.vendor == Vendor::Nvidia && gpu.total_bytes.is_none();
    Some(match silent {
        true => Finding::new(
            "gpu",
            Level::Note,
            what,
            "its driver is there, but nvidia-smi does not answer: how much memory it has is not known",
            "install NVIDIA's tools, or give the container the `utility` capability",
        ),
        false => Finding::ok("gpu", what),
    })
}

fn open_files(facts: &Facts) -> Option<Finding> {
    let files = facts.host.limits.open_files?;
    let what = format!("{files} files may be open");
    Some(match files < FEW_FILES {
        false => Finding::ok("open-files", what),
        true => Finding::new(
            "open-files",
            Level::Warning,
            what,
            "each connection and each part of a model is one; beyond that clients are refused",
            "ulimit -n 4096, or `LimitNOFILE=` of the service",
        ),
    })
}

fn clock(facts: &Facts) -> Option<Finding> {
    Some(match facts.now < LONG_AGO {
        false => Finding::ok("clock", "the clock is set".into()),
        true => Finding::new(
            "clock",
            Level::Error,
            "the clock stands before 2025".into(),
            "certificates count as not yet valid: downloads fail, and links expire",
            "timedatectl set-ntp true, or set the date",
        ),
    })
}
