//! Folders, secrets, the port, proxies, programs.

use oprel_engine::fit::Bytes;

use super::{Facts, Finding, Level, Place, Port};

/// Less free than this is not enough for a usual model.
const LITTLE_DISK: u64 = 10_000_000_000;
/// Less than this is not enough for anything.
const NO_DISK: u64 = 1_000_000_000;
/// Slower than this a model of some gigabytes takes most of a minute to come.
const SLOW_DISK: f64 = 150e6;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    for (check, place) in [("home", &facts.home), ("store", &facts.store)] {
        let Some(place) = place else { continue };
        all.push(access(check, place));
        all.extend(disk(check, place));
    }
    all.extend(facts.secrets.iter().filter_map(secret));
    all.extend(facts.port.as_ref().map(port));
    all.extend(proxies(facts));
    all.extend(facts.programs.iter().map(program));
    all
}

fn access(check: &str, place: &Place) -> Finding {
    let path = place.path.display();
    let others = place.mode.is_some_and(|mode| mode & 0o022 != 0);
    match (place.exists, place.writable) {
        (false, true) => Finding::ok(check, format!("{path} will be made when it is needed")),
        (_, false) => Finding::new(
            check,
            Level::Error,
            format!("{path} cannot be written to"),
            "models and keys cannot be kept",
            "set OPREL_HOME to a folder of your own, or change the owner of this one",
        ),
        (true, true) if others => Finding::new(
            check,
            Level::Warning,
            format!("others may write to {path}"),
            "they could put another model, or a key of theirs, in place of yours",
            &format!("chmod go-w {path}"),
        ),
        (true, true) => Finding::ok(check, format!("{path} can be written to")),
    }
}

fn disk(check: &str, place: &Place) -> Vec<Finding> {
    let check = format!("{check}-disk");
    let mut all = Vec::new();
    if let Some(free) = place.disk.free_bytes {
        let what = format!("{} free at {}", Bytes(free), place.path.display());
        let level = match free {
            _ if free < NO_DISK => Level::Error,
            _ if free < LITTLE_DISK => Level::Warning,
            _ => Level::Ok,
        };
        all.push(match level {
            Level::Ok => Finding::ok(&check, what),
            level => Finding::new(
                &check,
                level,
                what,
                "a usual model takes 5 GB, and is checked before the one it replaces goes",
                "remove models (`oprel rm`), or set OPREL_HOME to a folder on another disk",
            ),
        });
    }
    if let Some(rate) = place.disk.read_rate {
        let what = format!("{} is read at {:.0} MB/s", place.path.display(), rate / 1e6);
        all.push(match rate < SLOW_DISK {
            false => Finding::ok(&check, what),
            true => Finding::new(
                &check,
                Level::Note,
                format!("{what}: a model of 5 GB takes {:.0} s to come", 5e9 / rate),
                "the first answer waits until the weights it needs are read",
                "keep models on a local solid-state disk, and loaded (`--keep-alive`)",
            ),
        });
    }
    all
}

fn secret(place: &Place) -> Option<Finding> {
    let mode = place.mode.filter(|_| place.exists)?;
    let path = place.path.display();
    Some(match mode & 0o077 {
        0 => Finding::ok("keys", format!("only you can read {path}")),
        _ => Finding::new(
            "keys",
            Level::Warning,
            format!("others can read {path} (mode {:o})", mode & 0o777),
            "whoever has a key of the daemon can use it",
            &format!("chmod 600 {path}"),
        ),
    })
}

fn port(port: &Port) -> Finding {
    let number = port.number;
    if let Some(why) = &port.refused {
        return Finding::new(
            "port",
            Level::Error,
            format!("nobody may listen on port {number}: {why}"),
            "the daemon cannot start there",
            "take a port of 1024 or more: `oprel serve --port 11500`",
        );
    }
    if !port.taken {
        return Finding::ok("port", format!("port {number} is free"));
    }
    match port.by.as_deref() {
        Some(name) if name.starts_with("oprel") => {
            Finding::ok("port", format!("oprel listens on port {number}"))
        }
        Some(name) => Finding::new(
            "port",
            Level::Warning,
            format!("port {number} is taken by {name}"),
            "`oprel serve` cannot listen there, and clients reach the other program",
            &format!("end {name}, or `oprel serve --port {}`", next(number)),
        ),
        None => Finding::new(
            "port",
            Level::Warning,
            format!("port {number} is taken, by a program of another user"),
            "`oprel serve` cannot listen there, unless that is oprel already",
            &format!(
                "`sudo ss -ltnp 'sport = :{number}'` tells which; or `oprel serve --port {}`",
                next(number)
            ),
        ),
    }
}

/// Another port, near this one.
fn next(port: u16) -> u16 {
    port.checked_add(1).unwrap_or(port - 1)
}

/// Whether programs that speak to this machine would be sent through a proxy.
fn proxies(facts: &Facts) -> Option<Finding> {
    let (name, value) = facts.proxies.first()?;
    let without = facts.no_proxy.as_deref().unwrap_or_default();
    let spared = |host: &str| {
        without.split(',').any(|entry| matches!(entry.trim(), e if e == host || e == "*"))
    };
    let what = format!("{name} is {}", without_password(value));
    Some(match spared("127.0.0.1") && spared("localhost") || spared("*") {
        true => Finding::ok("proxy", format!("{what}, and not for this machine")),
        false => Finding::new(
            "proxy",
            Level::Warning,
            what,
            "clients would send requests for this machine's daemon to the proxy, which cannot reach it",
            "export NO_PROXY=localhost,127.0.0.1,::1",
        ),
    })
}

/// `http://user:secret@host` without what is secret.
fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}://...@{}", &url[..scheme], &url[at + 1..])
        }
        (None, Some(at)) => format!("...@{}", &url[at + 1..]),
        _ => url.to_string(),
    }
}

fn program((name, path): &(String, Option<std::path::PathBuf>)) -> Finding {
    match path {
        Some(path) => Finding::ok("backend", format!("{name} at {}", path.display())),
        None => Finding::new(
            "backend",
            Level::Note,
            format!("{name} was not found"),
            "models that the native engine does not run, and accelerators, need it",
            "oprel backend install llama-server, or put it on PATH",
        ),
    }
}
