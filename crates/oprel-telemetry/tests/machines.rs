//! Recorded machines, each a few files below a folder: what is read of them.

use std::fs;
use std::path::Path;

use oprel_telemetry::{Groups, Host, Roots, Vendor, free_memory, suited_threads};
use tempfile::TempDir;

/// A folder with `proc` and `sys` in it.
struct Machine(TempDir);

const GB: u64 = 1 << 30;

impl Machine {
    fn new() -> Machine {
        Machine(tempfile::tempdir().unwrap())
            .with("proc/meminfo", "MemTotal: 67108864 kB\nMemFree: 1048576 kB\nMemAvailable: 33554432 kB\nSwapTotal: 2097152 kB\nSwapFree: 1048576 kB\nHugePages_Total: 3\nHugepagesize: 2048 kB\n")
            .with("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
            .with("proc/sys/kernel/osrelease", "6.1.0\n")
            .with("proc/self/limits", "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 524288               files     \nMax locked memory         unlimited            unlimited            bytes     \n")
    }

    fn with(self, path: &str, text: &str) -> Machine {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// CPUs, two to a core.
    fn cpus(self, n: usize) -> Machine {
        let info: String = (0..n)
            .map(|i| format!("processor\t: {i}\nmodel name\t: Test CPU 9000\nflags\t\t: fpu avx2 fma f16c avx512f\n\n"))
            .collect();
        let status = format!("Cpus_allowed:\tff\nCpus_allowed_list:\t0-{}\n", n - 1);
        let machine = self.with("proc/cpuinfo", &info).with("proc/self/status", &status);
        (0..n).fold(machine, |machine, i| {
            let at = format!("sys/devices/system/cpu/cpu{i}");
            let siblings = format!("{}-{}\n", i / 2 * 2, i / 2 * 2 + 1);
            machine
                .with(&format!("{at}/topology/thread_siblings_list"), &siblings)
                .with(&format!("{at}/topology/physical_package_id"), "0\n")
                .with(&format!("{at}/cache/index0/level"), "1\n")
                .with(&format!("{at}/cache/index0/type"), "Data\n")
                .with(&format!("{at}/cache/index0/size"), "32K\n")
                .with(&format!("{at}/cache/index0/shared_cpu_list"), &siblings)
                .with(&format!("{at}/cache/index1/level"), "3\n")
                .with(&format!("{at}/cache/index1/type"), "Unified\n")
                .with(&format!("{at}/cache/index1/size"), "32M\n")
                .with(&format!("{at}/cache/index1/shared_cpu_list"), &format!("0-{}\n", n - 1))
        })
    }

    fn roots(&self) -> Roots {
        Roots::below(self.0.path())
    }

    fn host(&self) -> Host {
        Host::below(&self.roots(), "avx512")
    }
}

#[test]
fn a_plain_machine_without_groups() {
    let host = Machine::new()
        .cpus(8)
        .with("sys/devices/system/node/node0/cpulist", "0-7\n")
        .with(
            "sys/devices/system/node/node0/meminfo",
            "Node 0 MemTotal: 67108864 kB\nNode 0 MemFree: 1048576 kB\n",
        )
        .host();
    assert_eq!(host.cpu.model.as_deref(), Some("Test CPU 9000"));
    assert_eq!(host.cpu.features, ["avx2", "fma", "f16c", "avx512f"]);
    assert_eq!((host.cpu.sockets, host.cpu.cores, host.cpu.threads), (Some(1), Some(4), Some(8)));
    assert_eq!(host.cpu.usable_cores, Some(4));
    let caches: Vec<_> = host.cpu.caches.iter().map(|c| (c.level, c.bytes, c.count)).collect();
    assert_eq!(caches, [(1, 32 << 10, 4), (3, 32 << 20, 1)]);
    assert_eq!(host.memory.free_bytes, Some(32 * GB));
    assert_eq!(host.memory.swap_used_bytes, Some(GB));
    assert_eq!(host.memory.huge_pages.transparent.as_deref(), Some("madvise"));
    assert_eq!(host.memory.nodes[0].total_bytes, Some(64 * GB));
    assert_eq!(host.limits.open_files, Some(1024));
    assert_eq!(host.groups, Groups::default());
    assert_eq!(host.suited_threads(), 4);
    assert_eq!(host.system.container, None);
    let text = serde_json::to_string(&host).unwrap();
    assert_eq!(serde_json::from_str::<Host>(&text).unwrap(), host);
}

#[test]
fn nested_groups_of_version_2_leave_what_the_narrowest_leaves() {
    let machine = Machine::new()
        .cpus(8)
        .with("proc/self/cgroup", "0::/user.slice/job/part\n")
        .with("sys/fs/cgroup/user.slice/memory.max", "max\n")
        .with("sys/fs/cgroup/user.slice/memory.current", "99999999999\n")
        .with("sys/fs/cgroup/user.slice/cpu.max", "350000 100000\n")
        .with("sys/fs/cgroup/user.slice/job/memory.max", &format!("{}\n", 10 * GB))
        .with("sys/fs/cgroup/user.slice/job/memory.high", &format!("{}\n", 8 * GB))
        .with("sys/fs/cgroup/user.slice/job/memory.current", &format!("{}\n", 7 * GB))
        .with(
            "sys/fs/cgroup/user.slice/job/memory.stat",
            &format!("anon 1\nfile 2\ninactive_anon 5\ninactive_file {}\n", 4 * GB),
        )
        .with("sys/fs/cgroup/user.slice/job/memory.swap.max", "0\n")
        .with("sys/fs/cgroup/user.slice/job/part/memory.max", &format!("{}\n", 20 * GB))
        .with("sys/fs/cgroup/user.slice/job/part/memory.current", &format!("{GB}\n"))
        .with("sys/fs/cgroup/user.slice/job/part/cpu.max", "max 100000\n")
        .with("sys/fs/cgroup/user.slice/job/part/cpuset.cpus.effective", "0-5\n");
    let host = machine.host();
    let groups = &host.groups;
    assert_eq!(groups.version, 2);
    assert_eq!(groups.memory_limit_bytes, Some(8 * GB));
    assert_eq!(groups.memory_left_bytes, Some(5 * GB), "8 less 7 used, of which 4 are idle pages");
    assert_eq!(groups.swap_limit_bytes, Some(0));
    assert_eq!(groups.cpu_quota, Some(3.5));
    assert_eq!(host.cpu.usable, [0, 1, 2, 3, 4, 5]);
    assert_eq!(host.suited_threads(), 3, "three cores by the set, and three and a half by time");
    assert_eq!(suited_threads(&machine.roots()), 3);
    assert_eq!(free_memory(&machine.roots()), Some(5 * GB));
    assert_eq!(host.memory.free_bytes, Some(5 * GB));
}

#[test]
fn more_in_use_than_the_limit_leaves_nothing() {
    let machine = Machine::new()
        .with("proc/self/cgroup", "0::/\n")
        .with("sys/fs/cgroup/memory.max", "1000\n")
        .with("sys/fs/cgroup/memory.current", "2000\n");
    assert_eq!(free_memory(&machine.roots()), Some(0));
}

#[test]
fn groups_of_version_1_are_read_where_version_2_rules_nothing() {
    let host = Machine::new()
        .cpus(4)
        .with("proc/self/cgroup", "5:cpuset:/set\n4:memory:/a/b\n2:cpu,cpuacct:/a\n0::/\n")
        .with("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
        .with("sys/fs/cgroup/memory/memory.usage_in_bytes", "123\n")
        .with("sys/fs/cgroup/memory/a/memory.limit_in_bytes", &format!("{}\n", 4 * GB))
        .with("sys/fs/cgroup/memory/a/memory.usage_in_bytes", &format!("{}\n", 3 * GB))
        .with(
            "sys/fs/cgroup/memory/a/memory.stat",
            &format!("inactive_file 7\ntotal_inactive_file {GB}\n"),
        )
        .with("sys/fs/cgroup/memory/a/memory.memsw.limit_in_bytes", &format!("{}\n", 5 * GB))
        .with("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "150000\n")
        .with("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n")
        .with("sys/fs/cgroup/cpuset/set/cpuset.cpus", "2-3\n")
        .host();
    assert_eq!(host.groups.version, 1);
    assert_eq!(host.groups.memory_limit_bytes, Some(4 * GB));
    assert_eq!(host.groups.memory_left_bytes, Some(2 * GB));
    assert_eq!(host.groups.swap_limit_bytes, Some(GB));
    assert_eq!(host.groups.cpu_quota, Some(1.5));
    assert_eq!(host.cpu.usable, [2, 3]);
    assert_eq!(host.suited_threads(), 1);
}

#[test]
fn a_container_without_a_namespace_of_groups_sees_its_own_at_the_mount() {
    let path = "/docker/0123abcd";
    let host = Machine::new()
        .with("proc/self/cgroup", &format!("0::{path}\n"))
        .with(
            "proc/self/mountinfo",
            "22 27 0:21 / / rw - overlay overlay rw,lowerdir=/var/lib/docker\n",
        )
        .with("sys/fs/cgroup/memory.max", &format!("{}\n", 2 * GB))
        .with("sys/fs/cgroup/memory.current", &format!("{GB}\n"))
        .host();
    assert_eq!(host.system.container.as_deref(), Some("docker"));
    assert_eq!(host.groups.memory_left_bytes, Some(GB));
    let outside = Machine::new()
        .with("proc/self/cgroup", "0::/../../elsewhere\n")
        .with("proc/self/mountinfo", "22 27 0:21 / / rw - overlay overlay rw\n")
        .with("sys/fs/cgroup/memory.max", "100\n")
        .with("sys/fs/cgroup/memory.current", "40\n")
        .host();
    assert_eq!(outside.groups.memory_left_bytes, Some(60));
    assert_eq!(outside.system.container.as_deref(), Some("container"));
}

#[test]
fn drivers_list_accelerators() {
    let host = Machine::new()
        .with("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5\nGCC version: 12.2\n")
        .with("proc/driver/nvidia/gpus/0000:0a:00.0/information", "Model: \t\t NVIDIA H100\nIRQ:   \t\t 42\nGPU UUID: \t GPU-11aa\nBus Location: \t 0000:0a:00.0\n")
        .with("sys/class/drm/card0/device/vendor", "0x8086\n")
        .with("sys/class/drm/card1/device/vendor", "0x1002\n")
        .with("sys/class/drm/card1/device/mem_info_vram_total", &format!("{}\n", 16 * GB))
        .with("sys/class/drm/card1/device/mem_info_vram_used", &format!("{GB}\n"))
        .with("sys/class/drm/card1/device/product_name", "Radeon RX 7800\n")
        .with("sys/class/drm/card1/device/uevent", "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0\n")
        .with("sys/class/drm/card1/device/hwmon/hwmon3/temp1_input", "45000\n")
        .with("sys/class/drm/card1-DP-1/status", "connected\n")
        .host();
    assert_eq!(host.gpus.len(), 2);
    let (nvidia, amd) = (&host.gpus[0], &host.gpus[1]);
    assert_eq!((nvidia.vendor, nvidia.uuid.as_deref()), (Vendor::Nvidia, Some("GPU-11aa")));
    assert_eq!(nvidia.driver.as_deref(), Some("550.54.15"));
    assert_eq!(nvidia.name.as_deref(), Some("NVIDIA H100"));
    assert_eq!((amd.vendor, amd.free_bytes), (Vendor::Amd, Some(15 * GB)));
    assert_eq!((amd.celsius, amd.bus.as_deref()), (Some(45.0), Some("0000:03:00.0")));
}

#[test]
fn of_cores_that_differ_the_fast_ones_count() {
    // Two fast cores with two threads each, four slow ones.
    let mut machine = Machine::new()
        .with("sys/devices/cpu_core/cpus", "0-3\n")
        .with("sys/devices/cpu_atom/cpus", "4-7\n")
        .with("proc/self/status", "Cpus_allowed_list:\t0-7\n");
    for i in 0..8 {
        let siblings =
            if i < 4 { format!("{}-{}", i / 2 * 2, i / 2 * 2 + 1) } else { i.to_string() };
        let at = format!("sys/devices/system/cpu/cpu{i}/topology/core_cpus_list");
        machine = machine.with(&at, &siblings);
    }
    let host = machine.host();
    assert_eq!(host.cpu.fast, [0, 1, 2, 3]);
    assert_eq!((host.cpu.cores, host.cpu.usable_cores), (Some(6), Some(2)));

    let mut arm = Machine::new().with("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU implementer\t: 0x41\nCPU part\t: 0xd44\n");
    for i in 0..4 {
        let capacity = if i == 3 { "1024" } else { "400" };
        arm = arm.with(&format!("sys/devices/system/cpu/cpu{i}/cpu_capacity"), capacity);
    }
    let host = arm.host();
    assert_eq!(host.cpu.fast, [3]);
    assert_eq!(host.cpu.features, ["asimd", "asimddp", "i8mm"]);
    assert!(host.cpu.model.unwrap().contains("0xd44"));
}

#[test]
fn nothing_that_can_be_read_is_nothing_known() {
    let host = Host::below(&Roots::below(Path::new("/nonexistent/oprel")), "scalar");
    assert_eq!(host.memory.free_bytes, None);
    assert_eq!(host.cpu.cores, None);
    assert!(host.suited_threads() >= 1);
    assert!(host.gpus.is_empty());
}

#[test]
fn this_machine_is_read() {
    let host = Host::read();
    if cfg!(target_os = "linux") {
        assert!(host.memory.total_bytes.unwrap() > 0);
        assert!(host.memory.free_bytes.unwrap() <= host.memory.total_bytes.unwrap());
    }
}
