//! AMD's accelerators, as the kernel's driver tells of them in files.

use std::path::Path;

use super::{Gpu, Vendor};
use crate::roots::{Roots, number, numbered, text};

/// AMD, as the PCI bus numbers makers.
const AMD: &str = "0x1002";

pub(super) fn of_files(roots: &Roots) -> Vec<Gpu> {
    let cards = numbered(&roots.sys.join("class/drm"), "card");
    let devices = cards.into_iter().map(|(_, card)| card.join("device"));
    let amd = devices.filter(|device| line(&device.join("vendor")).as_deref() == Some(AMD));
    // A card that only shows pictures tells nothing of its memory.
    let gpus = amd.filter_map(|device| of(&device)).enumerate();
    gpus.map(|(index, gpu)| Gpu { index, ..gpu }).collect()
}

fn of(device: &Path) -> Option<Gpu> {
    let total = number(&device.join("mem_info_vram_total"))?;
    let used = number(&device.join("mem_info_vram_used"));
    let event = text(&device.join("uevent")).unwrap_or_default();
    let bus = event.lines().find_map(|line| line.strip_prefix("PCI_SLOT_NAME="));
    let sensors = numbered(&device.join("hwmon"), "hwmon");
    let sensor = |name: &str| sensors.iter().find_map(|(_, folder)| number(&folder.join(name)));
    Some(Gpu {
        vendor: Vendor::Amd,
        name: line(&device.join("product_name")).filter(|name| !name.is_empty()),
        uuid: line(&device.join("unique_id")).map(|id| format!("GPU-{id}")),
        bus: bus.map(str::to_string),
        total_bytes: Some(total),
        free_bytes: used.map(|used| total.saturating_sub(used)),
        celsius: sensor("temp1_input").map(|milli| milli as f64 / 1e3),
        watts: sensor("power1_average").map(|micro| micro as f64 / 1e6),
        ..Gpu::default()
    })
}

fn line(path: &Path) -> Option<String> {
    Some(text(path)?.trim().to_string())
}
