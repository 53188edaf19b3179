//! All of it together.

use oprel_cpu::Isa;
use serde::{Deserialize, Serialize};

use crate::cpu::Cpu;
use crate::gpu::{self, Gpu, Visible};
use crate::groups::Groups;
use crate::memory::Memory;
use crate::platform;
use crate::process::Limits;
use crate::roots::Roots;

/// A machine, as this process sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// The operating system.
    pub system: System,
    /// Processors.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// What control groups leave of it.
    pub groups: Groups,
    /// Accelerators that this process may use.
    pub gpus: Vec<Gpu>,
    /// Limits of this process.
    pub limits: Limits,
}

/// The operating system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct System {
    /// `linux`, `macos`, `windows`, ...
    pub os: String,
    /// `x86_64`, `aarch64`, ...
    pub arch: String,
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// What contains this process: `docker`, `kubernetes`, `podman`, `lxc`, or `container` where its kind
    /// is not known; `None` outside of one.
    pub container: Option<String>,
}

impl Host {
    /// This machine. Starts the tools of makers of accelerators, which may take a second or two.
    pub fn read() -> Host {
        let roots = Roots::default();
        let visible = Visible::of_environment();
        let mut host = Host::below(&roots, Isa::detect().name());
        host.gpus = gpu::read(&roots, &visible);
        host
    }

    /// What the files of a machine tell, on which kernels have this tier. Starts nothing, so that
    /// accelerators that only tools tell of are as the driver lists them.
    pub fn below(roots: &Roots, isa: &str) -> Host {
        let groups = Groups::read(roots);
        Host {
            system: System::read(roots),
            cpu: Cpu::read(roots, &groups, isa),
            memory: Memory::read(roots, &groups),
            gpus: gpu::of_files(roots, &Visible::default()),
            limits: Limits::read(roots),
            groups,
        }
    }

    /// Threads of the engine that suit it.
    pub fn suited_threads(&self) -> usize {
        self.cpu.suited_threads(&self.groups)
    }
}

impl System {
    fn read(roots: &Roots) -> System {
        let release = || roots.proc("sys/kernel/osrelease").map(|text| text.trim().to_string());
        let kernel = platform::kernel(roots).or_else(release);
        System {
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            kernel,
            container: container(roots),
        }
    }
}

/// What contains this process, by the names of its groups and by what its root is mounted from.
fn container(roots: &Roots) -> Option<String> {
    let groups = roots.proc("self/cgroup").unwrap_or_default();
    let mounts = roots.proc("self/mountinfo").unwrap_or_default();
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap_or_default();
    let names = [
        ("kubepods", "kubernetes"),
        ("libpod", "podman"),
        ("docker", "docker"),
        ("containerd", "containerd"),
        ("lxc", "lxc"),
    ];
    let named = |text: &str| names.iter().find(|(sign, _)| text.contains(sign));
    if let Some((_, kind)) = named(&groups).or_else(|| named(root)) {
        return Some(kind.to_string());
    }
    let kind = root.split(" - ").nth(1).and_then(|rest| rest.split(' ').next());
    (kind == Some("overlay")).then(|| "container".to_string())
}
