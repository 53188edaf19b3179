//! Commands over the store of a daemon elsewhere: what they change is there, and nothing here.
#![cfg(unix)]

mod daemon;

use std::path::{Path, PathBuf};
use std::process::Output;

use daemon::{Server, oprel, text};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/oprel-demo-q8_0.gguf");

/// A user with a home of their own, and a daemon with another.
struct Place {
    here: tempfile::TempDir,
    there: Server,
}

impl Place {
    fn new() -> Place {
        let here = tempfile::tempdir().expect("a folder");
        std::fs::copy(DEMO, here.path().join("m.gguf")).expect("the demo's file");
        // What is not there is fetched; these tests need no network.
        let there = daemon::start(&["--no-socket", "--ctx-size", "512"], &[("OPREL_OFFLINE", "1")]);
        let there = there.unwrap_or_else(|said| panic!("{said:?}"));
        Place { here, there }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.here.path().join(name)
    }

    /// With `OPREL_HOST` here, where nobody listens.
    fn run(&self, args: &[&str]) -> Output {
        let mut command = oprel(&self.path("home"));
        command.current_dir(&self.here).env("OPREL_HOST", "127.0.0.1:1").args(args);
        command.output().expect("it runs")
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn far(&self, args: &[&str]) -> String {
        self.ok(&[args, &["--server", &self.there.address]].concat())
    }

    fn modelfile(&self, text: &str) {
        std::fs::write(self.path("Modelfile"), text).expect("written");
    }
}

fn names(listed: &str) -> Vec<&str> {
    listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect()
}

#[test]
fn a_model_is_made_there_of_files_that_are_here() {
    let place = Place::new();
    place.modelfile(
        "FROM ./m.gguf\nSYSTEM Be brief.\nPARAMETER stop <x>\nMESSAGE user hi\nLICENSE MIT",
    );
    let made = place.run(&["create", "mine", "--server", &place.there.address]);
    let told = text(&made.stderr);
    assert!(made.status.success(), "{told}");
    assert!(told.contains("sending ") && told.ends_with("success\n"), "{told}");
    assert_eq!(names(&place.far(&["list"])), ["mine:latest", "demo:latest"]);
    assert!(names(&place.ok(&["list"])).is_empty(), "nothing is here");
    assert_eq!(place.far(&["cp", "mine", "yours"]), "copied 'mine' to 'yours'\n");
    assert_eq!(names(&place.far(&["ls", "YO"])), ["yours:latest"]);
    assert_eq!(place.far(&["show", "yours", "--system"]), "Be brief.\n");
    assert_eq!(place.far(&["show", "yours", "--license"]), "MIT\n");
    assert!(place.far(&["show", "yours", "--parameters"]).contains("\"<x>\""));
    assert!(place.far(&["show", "yours", "--modelfile"]).contains("SYSTEM Be brief."));
    assert!(place.far(&["show", "yours"]).contains("architecture"));
    assert!(place.far(&["show", "yours", "-v"]).contains("token_embd.weight"));
    let json: serde_json::Value =
        serde_json::from_str(&place.far(&["show", "yours", "--json"])).expect("JSON");
    assert_eq!(json["details"]["format"], "gguf");
    // A second one of the same file sends nothing.
    place.modelfile("FROM ./m.gguf");
    let again = place.run(&["create", "again", "--server", &place.there.address]);
    assert!(!text(&again.stderr).contains("sending "), "{}", text(&again.stderr));
    assert_eq!(place.far(&["rm", "mine", "again"]), "deleted 'mine'\ndeleted 'again'\n");
    assert_eq!(names(&place.far(&["list"])), ["yours:latest", "demo:latest"]);
    for (from, called) in [("yours", "long"), ("demo", "longer")] {
        place.modelfile(&format!("FROM {from}\nSYSTEM Be {called}."));
        place.far(&["create", called]);
        assert_eq!(place.far(&["show", called, "--system"]), format!("Be {called}.\n"));
    }
}

#[test]
fn what_cannot_be_done_there_is_told_as_here() {
    let place = Place::new();
    let fails = |args: &[&str], code: i32, words: &str| {
        let output = place.run(&[args, &["--server", &place.there.address]].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.contains(words), "{args:?}: {told}");
    };
    fails(&["show", "nobody"], 3, "model 'nobody' not found");
    fails(&["rm", "nobody"], 3, "model 'nobody' not found");
    fails(&["cp", "nobody", "x"], 3, "not found");
    place.modelfile("FROM nobody");
    fails(&["create", "x"], 3, "not found");
    std::fs::write(place.path("model.safetensors"), "x").expect("written");
    place.modelfile("FROM ./model.safetensors");
    fails(&["create", "x"], 2, "oprel convert");
    place.modelfile("FROM ./m.gguf");
    // Of what is told in a stream only the words are known.
    fails(&["create", "x", "-q", "Q4_0"], 5, "this one is Q8_0");
    fails(&["create", "x", "-q", "Q9"], 2, "Q9");
    let nobody = place.run(&["list", "--server", "127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(5), "{}", text(&nobody.stderr));
    assert!(text(&nobody.stderr).contains("no daemon answers at http://127.0.0.1:1"));
}

#[test]
fn weights_become_another_type_here_and_there() {
    let place = Place::new();
    place.ok(&["quantize", "m.gguf", "whole.gguf", "F16", "--allow-requantize"]);
    place.modelfile("FROM ./whole.gguf");
    for server in [None, Some(place.there.address.as_str())] {
        let at = server.map_or(vec![], |address| vec!["--server", address]);
        let made = place.run(&[&["create", "small", "-q", "q4_K_M"], &at[..]].concat());
        let told = text(&made.stderr);
        assert!(made.status.success(), "{told}");
        assert!(told.contains("quantizing F16 model to Q4_K_M ("), "{told}");
        let shown = place.ok(&[&["show", "small"], &at[..]].concat());
        assert!(shown.contains("Q4_K_M"), "{shown}");
        let json = place.ok(&[&["list", "small", "--json"], &at[..]].concat());
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["models"][0]["details"]["quantization_level"], "Q4_K_M");
    }
    // The file that it was made of is not in the store.
    let blobs = std::fs::read_dir(place.path("home/models/blobs")).expect("blobs").flatten();
    let whole = std::fs::metadata(place.path("whole.gguf")).expect("it is there").len();
    assert!(blobs.map(|blob| blob.metadata().expect("a file").len()).all(|len| len < whole));
}

/// Sends Ctrl-C once `partial` is there. The exit code, and what was told.
fn interrupted(place: &Place, args: &[&str], partial: &Path) -> (Option<i32>, String) {
    let mut command = oprel(&place.path("home"));
    command.current_dir(&place.here).args(args).stderr(std::process::Stdio::piped());
    let child = command.spawn().expect("it starts");
    while !partial.exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    daemon::send(child.id(), "-INT");
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), text(&output.stderr))
}

#[test]
fn ctrl_c_leaves_nothing_half_done() {
    let place = Place::new();
    std::fs::write(place.path("out.gguf"), "an older model").expect("written");
    // A type whose search takes its time.
    let args = ["quantize", "m.gguf", "out.gguf", "IQ2_S", "--allow-requantize", "-t", "1"];
    let (code, told) = interrupted(&place, &args, &place.path("out.gguf.partial"));
    assert_eq!(code, Some(130), "{told}");
    assert!(told.contains("stopped"), "{told}");
    assert!(!place.path("out.gguf.partial").exists());
    assert_eq!(std::fs::read(place.path("out.gguf")).expect("it stays"), b"an older model");
}
