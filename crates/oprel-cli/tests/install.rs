//! What a system is told of oprel: units, completions, manual pages.
#![cfg(unix)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn oprel(home: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oprel"));
    command.env_clear().env("HOME", home).current_dir(home).stdin(Stdio::null());
    command.env("OPREL_API_KEY", "secret").env("OPREL_KEEP_ALIVE", "10 m").args(args);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_unit_serves_with_the_options_that_were_typed() {
    let home = tempfile::tempdir().unwrap();
    let typed = ["serve", "--install", "--port", "7", "--allow-host", "box lan", "--socket", "s"];
    let told = oprel(home.path(), &typed);
    assert!(told.status.success(), "{}", text(&told.stderr));
    let path = home.path().join(".config/systemd/user/oprel.service");
    assert!(text(&told.stdout).contains(&format!("wrote {}", path.display())));
    assert!(text(&told.stdout).contains("systemctl --user enable --now oprel"));
    let unit = std::fs::read_to_string(&path).unwrap();
    let (program, socket) = (env!("CARGO_BIN_EXE_oprel"), home.path().join("s"));
    let command =
        format!("{program} serve --port 7 --allow-host \"box lan\" --socket {}", socket.display());
    assert!(unit.contains(&format!("ExecStart={command}\n")), "{unit}");
    assert!(unit.contains("Environment=\"OPREL_KEEP_ALIVE=10 m\"\n"), "{unit}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(!unit.contains("secret") && unit.contains("NoNewPrivileges=yes"), "{unit}");
    // A unit of ours is written anew, one of somebody else is left alone.
    let told = oprel(home.path(), &["serve", "--install", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["unit"], path.display().to_string());
    assert!(!std::fs::read_to_string(&path).unwrap().contains("--port"));
    std::fs::write(&path, "[Unit]\n").unwrap();
    let refused = oprel(home.path(), &["serve", "--install"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("was written by somebody else"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "[Unit]\n");
}

#[test]
fn what_is_no_text_cannot_stand_in_a_unit() {
    use std::os::unix::ffi::OsStrExt;
    let home = tempfile::tempdir().unwrap();
    let bytes = std::ffi::OsStr::from_bytes(b"\xff");
    let install = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oprel"));
        command.env_clear().env("HOME", home.path()).args(["serve", "--install", "--json"]);
        command
    };
    for command in [install().arg("--prompt-cache").arg(bytes), install().env("OPREL_LOG", bytes)] {
        let refused = command.output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(text(&refused.stderr).contains("is not UTF-8"), "{refused:?}");
    }
    assert!(install().env("OTHER", bytes).output().unwrap().status.success());
}

#[test]
fn shells_complete_and_every_command_has_a_page() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = oprel(home.path(), &["completions", shell]);
        assert!(script.status.success() && text(&script.stdout).contains("rerank"), "{shell}");
    }
    assert_eq!(oprel(home.path(), &["completions", "csh"]).status.code(), Some(2));
    let first = text(&oprel(home.path(), &["man"]).stdout);
    assert!(first.contains(".TH oprel 1") && first.contains("oprel\\-serve(1)"), "{first}");
    assert!(oprel(home.path(), &["man", "pages/here"]).status.success());
    let folder = home.path().join("pages/here");
    for page in ["oprel", "oprel-run", "oprel-chat", "oprel-serve", "oprel-key-create"] {
        let text = std::fs::read_to_string(folder.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".SH"), "{page}");
    }
    assert!(!folder.join("oprel-worker.1").exists(), "nobody calls it by hand");
}
