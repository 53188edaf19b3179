//! Apple's processors, whose GPU shares the machine's memory.

use super::Gpu;

/// The GPU of an Apple processor.
#[cfg(all(target_os = "macos", target_arch = "aarch64"))]
pub(super) fn ask() -> Option<Gpu> {
    let say = |name: &str| super::ask::ask("sysctl", &["-n", name]);
    Some(Gpu {
        vendor: super::Vendor::Apple,
        name: say("machdep.cpu.brand_string").map(|text| text.trim().to_string()),
        total_bytes: say("hw.memsize").and_then(|text| text.trim().parse().ok()),
        unified: true,
        ..Gpu::default()
    })
}

/// Other machines have none.
#[cfg(not(all(target_os = "macos", target_arch = "aarch64")))]
pub(super) fn ask() -> Option<Gpu> {
    None
}
