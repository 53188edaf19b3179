//! Accelerators: what their drivers list in files, and what their makers' tools tell. A static program
//! cannot load the makers' libraries, so it asks `nvidia-smi`, with a deadline; where that is absent, what
//! the driver lists remains.

mod amd;
mod apple;
mod ask;
mod nvidia;

use serde::{Deserialize, Serialize};

use crate::roots::Roots;

/// Who made an accelerator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// NVIDIA.
    #[default]
    Nvidia,
    /// AMD.
    Amd,
    /// Apple: shares the machine's memory.
    Apple,
}

/// An accelerator, or a part of one that was set apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    /// Who made it.
    pub vendor: Vendor,
    /// Its number, as its driver counts.
    pub index: usize,
    /// What its maker calls it.
    pub name: Option<String>,
    /// The name that is its own.
    pub uuid: Option<String>,
    /// Where it is: `0000:01:00.0`.
    pub bus: Option<String>,
    /// Memory that it has.
    pub total_bytes: Option<u64>,
    /// Memory that nobody uses.
    pub free_bytes: Option<u64>,
    /// What it can compute, as its maker numbers that: `9.0`.
    pub compute: Option<String>,
    /// Version of its driver.
    pub driver: Option<String>,
    /// It has no memory of its own.
    pub unified: bool,
    /// Parts that were set apart; where there are any, the whole cannot be used.
    pub shares: Vec<Share>,
    /// Degrees Celsius.
    pub celsius: Option<f64>,
    /// Watts that it draws.
    pub watts: Option<f64>,
}

/// A part of an accelerator that was set apart (NVIDIA's MIG).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Share {
    /// Its size by name: `1g.10gb`.
    pub profile: String,
    /// The name that is its own.
    pub uuid: String,
}

/// Which accelerators the user lets programs see; `None` is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visible {
    /// As `CUDA_VISIBLE_DEVICES` says it.
    pub nvidia: Option<String>,
    /// As `ROCR_VISIBLE_DEVICES` or `HIP_VISIBLE_DEVICES` says it.
    pub amd: Option<String>,
}

impl Visible {
    /// What the environment of this process says.
    pub fn of_environment() -> Visible {
        let said = |name| std::env::var(name).ok();
        Visible {
            nvidia: said("CUDA_VISIBLE_DEVICES"),
            amd: said("ROCR_VISIBLE_DEVICES").or_else(|| said("HIP_VISIBLE_DEVICES")),
        }
    }
}

/// All accelerators that may be used.
pub(crate) fn read(roots: &Roots, visible: &Visible) -> Vec<Gpu> {
    let mut gpus = of_files(roots, visible);
    if gpus.iter().any(|gpu| gpu.vendor == Vendor::Nvidia)
        && let Some(told) = nvidia::ask(visible.nvidia.as_deref())
    {
        gpus.retain(|gpu| gpu.vendor != Vendor::Nvidia);
        gpus.splice(0..0, told);
    }
    gpus.extend(apple::ask());
    gpus
}

/// Those that files tell of.
pub(crate) fn of_files(roots: &Roots, visible: &Visible) -> Vec<Gpu> {
    let mut gpus = chosen(nvidia::of_files(roots), visible.nvidia.as_deref());
    gpus.extend(chosen(amd::of_files(roots), visible.amd.as_deref()));
    gpus
}

/// Those that a list of numbers and names chooses, in its order. As drivers do, the list ends at the
/// first entry that names nothing.
fn chosen(gpus: Vec<Gpu>, list: Option<&str>) -> Vec<Gpu> {
    let Some(list) = list else { return gpus };
    let find = |entry: &str| -> Option<Gpu> {
        if let Ok(index) = entry.parse::<usize>() {
            return gpus.iter().find(|gpu| gpu.index == index).cloned();
        }
        if entry.is_empty() {
            return None;
        }
        let begins = |uuid: &str| uuid.to_lowercase().starts_with(&entry.to_lowercase());
        gpus.iter().find_map(|gpu| {
            if gpu.uuid.as_deref().is_some_and(begins) {
                return Some(gpu.clone());
            }
            let share = gpu.shares.iter().find(|share| begins(&share.uuid))?;
            Some(Gpu { shares: vec![share.clone()], ..gpu.clone() })
        })
    };
    list.split(',').map(str::trim).map_while(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus() -> Vec<Gpu> {
        let gpu = |index, uuid: &str| Gpu { index, uuid: Some(uuid.into()), ..Gpu::default() };
        let mut second = gpu(1, "GPU-bbbb");
        second.shares = ["MIG-1111", "MIG-2222"]
            .map(|uuid| Share { profile: "1g.10gb".into(), uuid: uuid.into() })
            .into();
        vec![gpu(0, "GPU-aaaa"), second]
    }

    #[test]
    fn a_list_chooses_by_number_and_name_until_one_is_wrong() {
        let indices = |list| chosen(gpus(), list).iter().map(|g| g.index).collect::<Vec<_>>();
        assert_eq!(indices(None), [0, 1]);
        assert_eq!(indices(Some("1,0")), [1, 0]);
        assert_eq!(indices(Some("1,7,0")), [1]);
        assert_eq!(indices(Some("GPU-b")), [1]);
        assert_eq!(indices(Some("")), [0usize; 0]);
        assert_eq!(indices(Some("-1")), [0usize; 0]);
        let share = chosen(gpus(), Some("MIG-22"));
        assert_eq!(share[0].shares.len(), 1);
        assert_eq!(share[0].shares[0].uuid, "MIG-2222");
    }
}
