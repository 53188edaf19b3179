use std::fs;

use oprel_telemetry::{Disk, Gpu, Rates, Roots};

use super::*;

/// A machine on which nothing is wrong.
fn sound() -> Facts {
    let mut facts = Facts::default();
    let host = &mut facts.host;
    host.cpu.isa = "avx512".into();
    host.cpu.features = ["avx2", "avx512_vnni"].map(String::from).into();
    (host.cpu.cores, host.cpu.usable_cores) = (Some(8), Some(8));
    (host.memory.total_bytes, host.memory.free_bytes) = (Some(64 << 30), Some(32 << 30));
    host.memory.swap_used_bytes = Some(0);
    host.memory.huge_pages.transparent = Some("madvise".into());
    host.limits.open_files = Some(1 << 20);
    let disk = Disk { free_bytes: Some(500_000_000_000), read_rate: Some(2e9), ..Disk::default() };
    let place = Place {
        path: "/home/me/.oprel".into(),
        exists: true,
        writable: true,
        mode: Some(0o700),
        disk,
    };
    facts.rates = Some(Rates { threads: 8, read: 5e10, arithmetic: 1e12 });
    facts.secrets = vec![Place { mode: Some(0o600), ..place.clone() }];
    (facts.home, facts.store) = (Some(place.clone()), Some(place));
    facts.port = Some(Port { number: 11434, ..Port::default() });
    facts.programs = vec![("llama-server".into(), Some("/usr/bin/llama-server".into()))];
    facts.now = 1_780_000_000;
    facts
}

/// What is not as it should be after a change.
fn wrong(change: impl FnOnce(&mut Facts)) -> Vec<(String, Level)> {
    let mut facts = sound();
    change(&mut facts);
    let all = doctor(&facts);
    for finding in &all {
        let is_bad = finding.level >= Level::Warning;
        assert!(!is_bad || !finding.why.is_empty() && !finding.remedy.is_empty(), "{finding:?}");
    }
    let bad = all.into_iter().filter(|f| f.level > Level::Ok);
    bad.map(|finding| (finding.check, finding.level)).collect()
}

fn one(check: &str, level: Level) -> Vec<(String, Level)> {
    vec![(check.to_string(), level)]
}

#[test]
fn nothing_is_wrong_with_a_sound_machine() {
    assert_eq!(wrong(|_| ()), []);
    assert!(doctor(&sound()).len() >= 12);
    let text = serde_json::to_string(&sound()).unwrap();
    assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), sound());
}

#[test]
fn processors_and_memory_are_judged() {
    use Level::{Error, Note, Warning};
    assert_eq!(wrong(|f| f.host.cpu.isa = "scalar".into()), one("isa", Warning));
    assert_eq!(wrong(|f| f.host.cpu.isa = "avx2".into()), one("isa", Note));
    let read = Rates { threads: 2, read: 5e9, arithmetic: 1e12 };
    assert_eq!(wrong(|f| f.rates = Some(read)), one("bandwidth", Warning));
    let never = |f: &mut Facts| f.host.memory.huge_pages.transparent = Some("never".into());
    assert_eq!(wrong(never), one("huge-pages", Note));
    assert_eq!(wrong(|f| f.host.memory.free_bytes = Some(1 << 30)), one("memory", Warning));
    assert_eq!(wrong(|f| f.host.memory.swap_used_bytes = Some(8 << 30)), one("swap", Warning));
    assert_eq!(wrong(|f| f.host.groups.cpu_quota = Some(0.5)), one("cpus", Warning));
    assert_eq!(wrong(|f| f.host.groups.cpu_quota = Some(2.0)), one("cpus", Note));
    assert_eq!(wrong(|f| f.host.limits.open_files = Some(256)), one("open-files", Warning));
    assert_eq!(wrong(|f| f.now = 0), one("clock", Error));
    assert_eq!(wrong(|f| f.host.gpus = vec![Gpu::default()]), one("gpu", Note));
    let limited = |f: &mut Facts| {
        f.host.groups.memory_limit_bytes = Some(1 << 30);
        f.host.groups.memory_left_bytes = Some(1 << 29);
    };
    assert_eq!(wrong(limited), one("cgroup", Warning));
}

#[test]
fn folders_and_secrets_are_judged() {
    use Level::{Error, Note, Warning};
    let home = |change: fn(&mut Place)| {
        wrong(|f| {
            if let Some(home) = &mut f.home {
                change(home);
            }
        })
    };
    assert_eq!(home(|p| p.writable = false), one("home", Error));
    assert_eq!(home(|p| p.mode = Some(0o777)), one("home", Warning));
    assert_eq!(home(|p| p.exists = false), []);
    assert_eq!(home(|p| p.disk.free_bytes = Some(5_000_000_000)), one("home-disk", Warning));
    assert_eq!(home(|p| p.disk.free_bytes = Some(5)), one("home-disk", Error));
    assert_eq!(home(|p| p.disk.read_rate = Some(5e7)), one("home-disk", Note));
    assert_eq!(wrong(|f| f.secrets[0].mode = Some(0o644)), one("keys", Warning));
}

#[test]
fn the_port_is_free_or_oprels_or_somebody_elses() {
    let port = |by: Option<&str>| Port {
        number: 11434,
        taken: true,
        by: by.map(Into::into),
        refused: None,
    };
    assert_eq!(wrong(|f| f.port = Some(port(Some("oprel")))), []);
    assert_eq!(wrong(|f| f.port = Some(port(Some("ollama")))), one("port", Level::Warning));
    assert_eq!(wrong(|f| f.port = Some(port(None))), one("port", Level::Warning));
    let refused = Port { number: 80, refused: Some("permission denied".into()), ..Port::default() };
    assert_eq!(wrong(|f| f.port = Some(refused)), one("port", Level::Error));
}

#[test]
fn proxies_must_spare_this_machine_and_their_passwords_are_not_told() {
    let proxy = vec![("HTTP_PROXY".to_string(), "http://me:secret@proxy:3128".to_string())];
    let set = |no: Option<&str>| {
        let mut facts = sound();
        facts.proxies = proxy.clone();
        facts.no_proxy = no.map(Into::into);
        doctor(&facts).into_iter().find(|f| f.check == "proxy").unwrap()
    };
    let bad = set(None);
    assert_eq!(bad.level, Level::Warning);
    assert_eq!(bad.what, "HTTP_PROXY is http://...@proxy:3128");
    assert_eq!(set(Some("example.com")).level, Level::Warning);
    assert_eq!(set(Some("localhost, 127.0.0.1")).level, Level::Ok);
    assert_eq!(set(Some("*")).level, Level::Ok);
}

#[test]
fn whoever_listens_is_found_by_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let proc = folder.path().join("proc");
    fs::create_dir_all(proc.join("net")).unwrap();
    fs::create_dir_all(proc.join("77/fd")).unwrap();
    let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                 0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1\n   \
                 1: 0100007F:2CAB 0100007F:2CAA 01 00000000:00000000 00:00000000 00000000     0        0 4243 1\n";
    fs::write(proc.join("net/tcp"), table).unwrap();
    fs::write(proc.join("77/comm"), "ollama\n").unwrap();
    let roots = Roots::below(folder.path());
    assert_eq!(gather::listener(&roots, 11434), None);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("socket:[4242]", proc.join("77/fd/3")).unwrap();
        assert_eq!(gather::listener(&roots, 11434).as_deref(), Some("ollama"));
    }
    // A connection from that port is no listener.
    assert_eq!(gather::listener(&roots, 11435), None);
}

#[test]
fn looking_at_this_machine_finds_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("keys");
    fs::write(&secret, "x").unwrap();
    let wanted = Wanted {
        home: Some(folder.path().join("new")),
        store: Some(folder.path().into()),
        secrets: vec![secret],
        port: Some(0),
        ..Wanted::default()
    };
    let facts = gather(&Host::default(), &wanted);
    assert!(!facts.home.as_ref().unwrap().exists && facts.home.as_ref().unwrap().writable);
    assert!(facts.store.unwrap().exists && facts.secrets[0].exists);
    assert!(!facts.port.unwrap().taken);
    assert!(facts.now > 1_700_000_000);
}
