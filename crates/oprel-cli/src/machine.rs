//! `oprel info` and `oprel doctor`: what this machine is, and what is wrong with it.

use std::io::Write;

use oprel_telemetry::{Gpu, Host};
use oprel_tools::doctor::{Level, Wanted, doctor, gather};

use crate::args::{Doctor, Info};
use crate::commands::print;
use crate::outcome::harmless;

pub(crate) fn info(args: &Info) -> anyhow::Result<()> {
    let host = Host::read();
    if args.json {
        return print(&serde_json::to_string_pretty(&host)?);
    }
    let mut out = std::io::stdout();
    let known = |text: Option<&String>| text.map_or("?".to_string(), |text| harmless(text));
    let gb = |bytes: Option<u64>| {
        bytes.map_or("?".to_string(), |bytes| format!("{:.1} GB", bytes as f64 / 1e9))
    };
    let count = |n: Option<usize>, what: &str| match n {
        Some(1) => format!("1 {what}"),
        n => format!("{} {what}s", n.map_or("?".to_string(), |n| n.to_string())),
    };
    let suited = host.suited_threads();
    let (system, cpu, memory) = (&host.system, &host.cpu, &host.memory);
    writeln!(out, "oprel      {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "system     {} {} {}", system.os, system.arch, known(system.kernel.as_ref()))?;
    if let Some(container) = &system.container {
        writeln!(out, "inside     {}", harmless(container))?;
    }
    writeln!(out, "cpu        {}", known(cpu.model.as_ref()))?;
    writeln!(
        out,
        "           {}, {}, {}; {} suit{} it",
        count(cpu.sockets, "socket"),
        count(cpu.cores, "core"),
        count(cpu.threads, "thread"),
        count(Some(suited), "thread"),
        if suited == 1 { "s" } else { "" },
    )?;
    writeln!(out, "kernels    {} ({})", cpu.isa, cpu.features.join(" "))?;
    for cache in &cpu.caches {
        let (level, kind, kb) = (cache.level, harmless(&cache.kind), cache.bytes >> 10);
        writeln!(out, "cache      level {level} {kind}: {} of {kb} kB", cache.count)?;
    }
    writeln!(out, "memory     {}, {} free", gb(memory.total_bytes), gb(memory.free_bytes))?;
    if let Some(limit) = host.groups.memory_limit_bytes {
        writeln!(out, "limit      {} by the control group", gb(Some(limit)))?;
    }
    for gpu in &host.gpus {
        writeln!(out, "gpu        {}", gpu_line(gpu, &gb))?;
    }
    Ok(())
}

fn gpu_line(gpu: &Gpu, gb: &impl Fn(Option<u64>) -> String) -> String {
    let name = gpu.name.as_deref().map_or("?".to_string(), harmless);
    format!("{name}: {}, {} free", gb(gpu.total_bytes), gb(gpu.free_bytes))
}

/// Where the daemon listens: the port of the setting `host`, or the usual one.
fn usual_port() -> u16 {
    let config = oprel_config::current().ok();
    let address = config.and_then(|config| config.address("host"));
    address.and_then(|address| address.port()).unwrap_or(oprel_config::PORT)
}

pub(crate) fn check(args: &Doctor) -> anyhow::Result<()> {
    let home = oprel_config::home();
    let wanted = Wanted {
        store: oprel::places().ok().map(|places| places.root),
        secrets: home.iter().map(|home| home.join("keys")).collect(),
        home,
        port: Some(args.port.unwrap_or_else(usual_port)),
        programs: oprel_remote::find().into_iter().collect(),
        measure: !args.quick,
    };
    let facts = gather(&Host::read(), &wanted);
    let findings = doctor(&facts);
    if args.json {
        return print(&serde_json::to_string_pretty(&findings)?);
    }
    let mut out = std::io::stdout();
    for finding in &findings {
        let sign = match finding.level {
            Level::Ok => "ok     ",
            Level::Note => "note   ",
            Level::Warning => "warning",
            Level::Error => "error  ",
        };
        writeln!(out, "{sign} {:10} {}", finding.check, harmless(&finding.what))?;
        for (word, text) in [("why", &finding.why), ("do", &finding.remedy)] {
            if !text.is_empty() {
                writeln!(out, "        {word:>10} {}", harmless(text))?;
            }
        }
    }
    Ok(())
}
