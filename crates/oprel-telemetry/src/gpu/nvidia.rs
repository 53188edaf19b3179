//! NVIDIA's accelerators: what the driver lists, and what `nvidia-smi` tells.

use super::ask::ask as ask_tool;
use super::{Gpu, Share, Vendor, chosen};
use crate::roots::{Roots, field, text};

/// What is asked for, in the order in which [`parse`] reads it.
const QUERY: &str = "--query-gpu=index,uuid,name,pci.bus_id,memory.total,memory.free,\
                     compute_cap,driver_version,temperature.gpu,power.draw";
const MIB: f64 = (1u64 << 20) as f64;

/// What the driver lists: names, not how much memory.
pub(super) fn of_files(roots: &Roots) -> Vec<Gpu> {
    let folder = roots.proc.join("driver/nvidia/gpus");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path().join("information")).collect();
    // The driver counts in the order of the bus.
    files.sort();
    let version = roots.proc("driver/nvidia/version").unwrap_or_default();
    let driver = driver(&version);
    let told = files.iter().filter_map(|file| text(file)).enumerate();
    let gpu = |(index, info): (usize, String)| Gpu {
        vendor: Vendor::Nvidia,
        index,
        name: field(&info, "Model").map(str::to_string),
        uuid: field(&info, "GPU UUID").map(str::to_string),
        bus: field(&info, "Bus Location").map(str::to_string),
        driver: driver.clone(),
        ..Gpu::default()
    };
    told.map(gpu).collect()
}

/// The version in `NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue ...`.
fn driver(version: &str) -> Option<String> {
    let line = version.lines().next()?;
    let number =
        |word: &&str| word.contains('.') && word.chars().all(|c| c == '.' || c.is_ascii_digit());
    line.split_whitespace().find(number).map(str::to_string)
}

/// What `nvidia-smi` tells of those that `visible` chooses.
pub(super) fn ask(visible: Option<&str>) -> Option<Vec<Gpu>> {
    let mut gpus = parse(&ask_tool("nvidia-smi", &[QUERY, "--format=csv,noheader,nounits"])?);
    if let Some(list) = ask_tool("nvidia-smi", &["-L"]) {
        add_shares(&mut gpus, &list);
    }
    Some(chosen(gpus, visible))
}

/// Lines of values with commas between. A value that it has not is `[N/A]` or the like.
fn parse(csv: &str) -> Vec<Gpu> {
    let gpu = |line: &str| {
        let mut values = line.split(',').map(|value| {
            let value = value.trim();
            (!value.is_empty() && !value.starts_with('[')).then_some(value)
        });
        let mut next = || values.next().flatten().map(str::to_string);
        let (index, uuid, name, bus) = (next()?.parse().ok()?, next(), next(), next());
        let mut number = || -> Option<f64> { next()?.parse().ok() };
        let bytes = |mib: Option<f64>| mib.map(|mib| (mib * MIB) as u64);
        let (total_bytes, free_bytes) = (bytes(number()), bytes(number()));
        let (compute, driver) = (next(), next());
        let mut number = || -> Option<f64> { next()?.parse().ok() };
        let (celsius, watts) = (number(), number());
        Some(Gpu {
            vendor: Vendor::Nvidia,
            index,
            uuid,
            name,
            bus,
            total_bytes,
            free_bytes,
            compute,
            driver,
            celsius,
            watts,
            ..Gpu::default()
        })
    };
    csv.lines().filter_map(gpu).collect()
}

/// Parts as `nvidia-smi -L` lists them below the whole:
///
/// ```text
/// GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-...)
///   MIG 1g.10gb     Device  0: (UUID: MIG-...)
/// ```
fn add_shares(gpus: &mut [Gpu], list: &str) {
    let mut whole = None;
    for line in list.lines() {
        let uuid = line.split_once("(UUID: ").and_then(|(_, rest)| rest.split(')').next());
        match line.trim_start().split_once(' ') {
            Some(("GPU", _)) => whole = gpus.iter().position(|g| g.uuid.as_deref() == uuid),
            Some(("MIG", rest)) => {
                let profile = rest.split_whitespace().next().unwrap_or_default().to_string();
                let uuid = uuid.unwrap_or_default().to_string();
                if let Some(whole) = whole {
                    gpus[whole].shares.push(Share { profile, uuid });
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tool_tells_is_read_and_what_it_does_not_know_is_absent() {
        let csv = "0, GPU-11aa, NVIDIA H100 80GB HBM3, 00000000:0A:00.0, 81559, 81008, 9.0, 550.54.15, 31, 68.52\n\
                   1, GPU-22bb, NVIDIA GeForce GTX 1080, 00000000:0B:00.0, 8192, 7000, 6.1, 550.54.15, 40, [N/A]\n\
                   nonsense\n";
        let mut gpus = parse(csv);
        assert_eq!(gpus.len(), 2);
        assert_eq!(gpus[0].total_bytes, Some(81559 << 20));
        assert_eq!(gpus[0].free_bytes, Some(81008 << 20));
        assert_eq!(gpus[0].compute.as_deref(), Some("9.0"));
        assert_eq!((gpus[1].celsius, gpus[1].watts), (Some(40.0), None));
        add_shares(
            &mut gpus,
            "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11aa)\n  \
             MIG 1g.10gb     Device  0: (UUID: MIG-33cc)\n  \
             MIG 2g.20gb     Device  1: (UUID: MIG-44dd)\n\
             GPU 1: NVIDIA GeForce GTX 1080 (UUID: GPU-22bb)\n",
        );
        let names: Vec<_> = gpus[0].shares.iter().map(|s| (&*s.profile, &*s.uuid)).collect();
        assert_eq!(names, [("1g.10gb", "MIG-33cc"), ("2g.20gb", "MIG-44dd")]);
        assert!(gpus[1].shares.is_empty());
    }

    #[test]
    fn a_tool_that_is_not_there_or_never_ends_is_nothing() {
        assert_eq!(ask_tool("oprel-no-such-tool", &[]), None);
    }
}
