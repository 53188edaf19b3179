//! llama.cpp's server as a managed binary, from a stand-in for the place of its releases.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use oprel_test_hub::{Content, Hub, Release, Role};

struct Place {
    home: tempfile::TempDir,
    hub: Hub,
}

/// A zip without compression, with one program: what `zip -0` writes.
fn zip(name: &str, bytes: &[u8]) -> Content {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .unix_permissions(0o755);
    writer.start_file(name, options).expect("written");
    writer.write_all(bytes).expect("written");
    Content::kept(writer.finish().expect("written").into_inner())
}

/// A release with a program that says this version.
fn release(tag: &str, says: &str) -> Release {
    let arch = if cfg!(target_arch = "x86_64") { "x64" } else { "arm64" };
    let script = format!("#!/bin/sh\necho \"{says}\"\n");
    let content = zip("build/bin/llama-server", script.as_bytes());
    Release::new(tag).with(&format!("llama-{tag}-bin-ubuntu-{arch}.zip"), content)
}

impl Place {
    fn new() -> Place {
        Place { home: tempfile::tempdir().expect("a folder"), hub: Hub::start() }
    }

    fn oprel(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oprel"));
        command.args(args).env_clear().env("HOME", self.home.path()).env("PATH", "/nowhere");
        command.env("OPREL_BACKEND_SOURCE", self.hub.releases());
        command.stdin(Stdio::null()).output().expect("it runs")
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.oprel(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.oprel(args);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains("hint:"), "{told}");
        told
    }
}

#[test]
fn a_server_is_installed_used_and_removed() {
    let place = Place::new();
    place.hub.add_release(release("b7000", "version: 7000 (abc)"));
    let said = place.ok(&["backend", "install"]);
    assert!(said.starts_with("llama-server b7000 is installed: "), "{said}");
    let again = place.ok(&["backend", "install", "llama-server", "--version", "b7000"]);
    assert!(again.contains("b7000 is installed already"), "{again}");
    place.hub.add_release(release("b7001", "version: 7001 (abd)"));
    let said = place.ok(&["backend", "install", "--json"]);
    let last = said.lines().last().expect("a line");
    assert!(last.contains("\"status\":\"success\"") && last.contains("7001 (abd)"), "{said}");
    let list = place.ok(&["backend", "list"]);
    let lines: Vec<Vec<&str>> = list.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[1][..3], ["llama-server", "b7001", "yes"], "{list}");
    assert_eq!(lines[2][..3], ["llama-server", "b7000", "-"], "{list}");
    let found = place.ok(&["doctor", "--quick", "--json"]);
    assert!(found.contains("backends/llama-server/b7001/llama-server"), "{found}");
    place.ok(&["backend", "remove", "b7001", "b7000"]);
    assert!(place.fails(&["backend", "remove", "b7001"], 2).contains("not installed"));
    assert_eq!(place.ok(&["backend", "list", "--json"]).trim(), "{\"backends\":[],\"used\":null}");
    let found = place.ok(&["doctor", "--quick", "--json"]);
    assert!(found.contains("oprel backend install llama-server"), "{found}");
}

#[test]
fn what_does_not_run_or_is_too_old_is_not_installed() {
    let place = Place::new();
    place.hub.add_release(release("b7000", "another program"));
    assert!(place.fails(&["backend", "install"], 5).contains("does not run here"));
    place.hub.add_release(release("b100", "version: 100 (abc)"));
    assert!(place.fails(&["backend", "install"], 5).contains("6000 or later"));
    assert!(place.fails(&["backend", "install", "--version", "6000"], 2).contains("b6123"));
    assert!(place.fails(&["backend", "install", "--version", "b1"], 4).contains("404"));
    assert_eq!(place.ok(&["backend", "list"]).lines().count(), 1);
    assert!(place.hub.seen().iter().any(|seen| seen.role == Role::Cdn));
}
