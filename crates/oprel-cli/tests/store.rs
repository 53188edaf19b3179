//! The store of models as a user meets it, with the demo's file as the model.

use std::path::PathBuf;
use std::process::{Command, Output};

/// A directory of its own for each test, which is also the home of the command.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().expect("a temporary directory"));
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/oprel-demo-q8_0.gguf");
        std::fs::copy(demo, place.path("m.gguf")).expect("the demo's file");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn oprel(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oprel"));
        command.args(args).current_dir(&self.0).env_clear().env("HOME", self.0.path());
        // No server of this machine answers for the program under test.
        command.env("OPREL_HOST", "127.0.0.1:1").output().expect("it runs")
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.oprel(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn fails(&self, args: &[&str], code: i32, words: &str) {
        let output = self.oprel(args);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.contains(words), "{args:?}: {told}");
    }

    fn modelfile(&self, text: &str) {
        std::fs::write(self.path("Modelfile"), text).expect("written");
    }
}

#[test]
fn a_model_is_made_listed_shown_copied_and_removed() {
    let place = Place::new();
    assert_eq!(place.ok(&["list"]), "NAME    ID    SIZE    MODIFIED\n");
    place.modelfile("FROM ./m.gguf\nSYSTEM Be brief.\nPARAMETER temperature 0.5\nPARAMETER stop <x>\nLICENSE MIT");
    place.ok(&["create", "Mine"]);
    let listed = place.ok(&["ls"]);
    let row: Vec<&str> =
        listed.lines().nth(1).expect("a row").split("    ").map(str::trim).collect();
    assert_eq!((row[0], row[1].len()), ("Mine:latest", 12), "{listed}");
    assert!(row[2].ends_with(" MB") && row[3].ends_with(" ago"), "{listed}");
    let json: serde_json::Value =
        serde_json::from_str(&place.ok(&["list", "--json"])).expect("JSON");
    let details = &json["models"][0]["details"];
    assert_eq!((details["format"].as_str(), details["family"].is_string()), (Some("gguf"), true));
    assert!(json["models"][0]["digest"].as_str().expect("a digest").starts_with(row[1]));

    assert_eq!(place.ok(&["cp", "mine", "other"]), "copied 'mine' to 'other'\n");
    assert_eq!(place.ok(&["show", "MINE", "--system"]), "Be brief.\n");
    assert_eq!(place.ok(&["show", "mine", "--license"]), "MIT\n");
    let parameters = place.ok(&["show", "mine", "--parameters"]);
    let lines: Vec<_> =
        parameters.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines, [["stop", "\"<x>\""], ["temperature", "0.5"]]);
    assert!(place.ok(&["show", "mine"]).contains("architecture"));
    assert!(place.ok(&["show", "mine", "--template"]).contains("{%"));
    let written = place.ok(&["show", "mine", "--modelfile"]);
    assert!(
        written.contains("# FROM Mine:latest\n\nFROM /") && written.contains("SYSTEM Be brief.")
    );
    place.modelfile(&written);
    place.ok(&["create", "again", "-f", "Modelfile"]);
    assert!(place.ok(&["verify"]).ends_with(" 0 damaged\n"));

    assert_eq!(place.ok(&["rm", "Mine", "again"]), "deleted 'Mine'\ndeleted 'again'\n");
    place.fails(&["rm", "mine"], 3, "model 'mine:latest' not found");
    assert_eq!(place.ok(&["show", "other", "--system"]), "Be brief.\n", "the copy outlives it");
    assert_eq!(place.ok(&["list", "OTH"]).lines().count(), 2);
    assert_eq!(place.ok(&["list", "mine"]).lines().count(), 1);
}

#[test]
fn without_a_modelfile_the_folder_is_the_model() {
    let place = Place::new();
    place.fails(&["create", "m", "-f", "absent"], 2, "specified Modelfile wasn't found");
    place.ok(&["create", "m"]);
    place.modelfile("FROM m\nPARAMETER colour blue");
    place.fails(&["create", "n"], 2, "unknown parameter 'colour'");
    place.modelfile("FROM nobody");
    place.fails(&["create", "n"], 3, "model 'nobody:latest' not found");
    for (name, words) in
        [("../m", "is a path"), ("x.gguf", "is a path"), ("demo", "built-in"), ("a b", "invalid")]
    {
        place.fails(&["create", name], 2, words);
        place.fails(&["cp", "m", name], 2, words);
    }
    place.modelfile("FROM m\nTEMPLATE \"\"\"{{ if .Prompt }}\"\"\"");
    place.fails(&["create", "n"], 2, "template error");
    assert_eq!(place.ok(&["list"]).lines().count(), 2);
}

#[test]
fn the_built_in_model_is_one_to_begin_with_and_keeps_its_name() {
    let place = Place::new();
    place.modelfile("FROM demo\nSYSTEM Be brief.");
    place.ok(&["create", "own"]);
    assert_eq!(place.ok(&["show", "own", "--system"]), "Be brief.\n");
    assert_eq!(place.ok(&["cp", "demo:latest", "mine"]), "copied 'demo:latest' to 'mine'\n");
    let say = ["What is oprel?", "-n", "8", "--seed", "1"];
    let run = |model: &str| place.ok(&[&["run", model], &say[..]].concat());
    assert_eq!(run("mine"), run("demo"));
    place.fails(&["create", "demo"], 2, "'demo' is the built-in model");
    place.fails(&["cp", "own", "Demo"], 2, "'Demo' is the built-in model");
    assert_eq!(place.ok(&["list"]).lines().count(), 3);
}

#[test]
fn damage_is_found_and_has_an_exit_code() {
    let place = Place::new();
    place.ok(&["create", "m"]);
    let blobs = place.path(".oprel/models/blobs");
    for blob in std::fs::read_dir(blobs).expect("blobs") {
        let path = blob.expect("a blob").path();
        let mut bytes = std::fs::read(&path).expect("readable");
        if bytes.starts_with(b"GGUF") {
            bytes[5000] ^= 1;
            // Not in place: it may be the very file that the model was made of.
            std::fs::remove_file(&path).expect("removed");
            std::fs::write(&path, bytes).expect("writable");
        }
    }
    place.fails(&["verify"], 5, "1 files are damaged");
    let output = place.oprel(&["verify", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["damaged"][0]["models"], serde_json::json!(["m:latest"]));
    place.fails(&["verify", "--remove"], 5, "1 files removed");
    place.fails(&["show", "m"], 5, "is not in the store");
    place.ok(&["create", "m"]);
    assert!(place.ok(&["verify"]).ends_with(" 0 damaged\n"));
}

#[test]
fn the_doctor_looks_at_the_port_that_is_set() {
    let place = Place::new();
    for (host, port) in [("127.0.0.1:23457", 23457), ("http://[::1]:23458/", 23458), ("::1", 11434)]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oprel"));
        command.args(["doctor", "--quick", "--json"]).env_clear().env("HOME", place.0.path());
        let output = command.env("OPREL_HOST", host).output().expect("it runs");
        let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let found = findings.as_array().expect("a list").iter().find(|f| f["check"] == "port");
        let what = found.expect("the port")["what"].as_str().expect("text");
        assert!(what.contains(&format!("port {port}")), "{host}: {what}");
    }
}

#[test]
fn what_is_shown_of_a_stored_model_is_what_a_server_shows() {
    let place = Place::new();
    place.modelfile(
        "FROM ./m.gguf\nSYSTEM Be brief.\nPARAMETER top_k 5\nMESSAGE user hi\nLICENSE MIT",
    );
    place.ok(&["create", "mine"]);
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&place.ok(args)).expect("JSON")
    };
    let shown = json(&["show", "mine", "--json"]);
    assert_eq!((&shown["system"], &shown["license"]), (&"Be brief.".into(), &"MIT".into()));
    assert_eq!(shown["messages"][0]["content"], "hi");
    assert!(shown["parameters"].as_str().expect("text").ends_with(" 5"), "{shown}");
    assert!(shown["modelfile"].as_str().expect("text").contains("SYSTEM Be brief."), "{shown}");
    assert_eq!(shown["details"]["context_length"], 1024);
    assert!(shown["modified_at"].as_str().expect("text").starts_with("20"), "{shown}");
    let told = place.ok(&["show", "mine"]);
    assert!(
        told.contains("\nSystem\n  Be brief.") && told.contains("\nParameters\n  top_k"),
        "{told}"
    );
    // A file has neither.
    let file = json(&["show", "m.gguf", "--json"]);
    assert_eq!((&file["parameters"], file.get("system")), (&"".into(), None));
    assert!(file["modelfile"].as_str().expect("text").ends_with("FROM m.gguf\n"), "{file}");
}

#[test]
fn an_edit_of_a_file_that_the_store_took_in_does_not_damage_the_store() {
    let place = Place::new();
    place.modelfile("FROM ./m.gguf");
    place.ok(&["create", "mine"]);
    // As many bytes as before.
    place.ok(&["gguf", "edit", "m.gguf", "--set", "llama.context_length=1000"]);
    assert!(place.ok(&["verify"]).contains(" 0 damaged"));
}

#[test]
fn every_refusal_says_what_to_do() {
    let place = Place::new();
    std::fs::create_dir(place.path("folder")).expect("made");
    std::fs::write(place.path("text"), "a text").expect("written");
    place.modelfile("FROM ./absent.gguf");
    let before = std::fs::read(place.path("m.gguf")).expect("read");
    for (args, code, words) in [
        (&["show", "folder/"][..], 5, "it is a folder\nhint: name a GGUF file"),
        (&["create", "x"], 2, "hint: paths begin where the Modelfile is"),
        (&["create", "x", "-f", "none"], 2, "hint: check the path"),
        (&["create", "x", "-f", "folder"], 1, "hint: that is a folder"),
        (&["rm", "a b"], 2, "hint: write it like"),
        (&["imatrix", "demo", "-f", "none", "-o", "x"], 1, "hint: check the path"),
        (&["imatrix", "demo", "-f", "text", "-o", "none/x"], 5, "there is no such folder"),
        (&["imatrix", "m.gguf", "-f", "text", "-o", "m.gguf"], 2, "would replace the model"),
        (&["imatrix", "demo", "-f", "text", "-o", "text"], 2, "would replace the text"),
        (&["perplexity", "demo", "-f", "text", "--save-base", "text"], 2, "would replace the text"),
        (&["perplexity", "demo", "--kl-base", "none"], 5, "hint: check the path"),
        (&["perplexity", "demo", "-f", "text", "-t", "100000"], 2, "must be from 1 to 1024"),
        (&["backend", "remove", "b"], 2, "hint: `oprel backend list`"),
    ] {
        place.fails(args, code, words);
    }
    assert_eq!(std::fs::read(place.path("m.gguf")).expect("read"), before);
}

#[test]
fn a_home_that_is_no_folder_and_settings_that_are_none_are_explained() {
    let place = Place::new();
    let run = |home: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oprel"));
        let output = command.arg("list").env_clear().env("OPREL_HOME", place.path(home)).output();
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = run("m.gguf");
    assert!(
        told.contains("m.gguf' is no folder") && told.contains("hint: set OPREL_HOME"),
        "{told}"
    );
    std::fs::create_dir(place.path("home")).expect("made");
    std::fs::write(place.path("home/config.yaml"), "[").expect("written");
    let told = run("home");
    assert!(told.contains("oprel help config"), "{told}");
    let help = place.ok(&["help", "config"]);
    assert!(help.contains("\n  keep_alive ") && help.contains("OPREL_"), "{help}");
}

#[test]
fn importance_and_perplexity_are_measured_and_a_base_is_compared_with() {
    let place = Place::new();
    std::fs::write(place.path("text"), "What is oprel? ".repeat(100)).expect("written");
    let over = ["-f", "text", "-c", "32", "--chunks", "2"];
    let run = |args: &[&str]| place.ok(&[args, &over].concat());
    assert!(run(&["imatrix", "m.gguf", "-o", "im.gguf"]).contains("over 2 windows"));
    assert!(run(&["perplexity", "m.gguf", "--save-base", "base"]).starts_with("perplexity"));
    // As the README says it: with the text, and without, since the base has it.
    assert!(run(&["perplexity", "m.gguf", "--kl-base", "base"]).contains("KL divergence"));
    assert!(place.ok(&["perplexity", "m.gguf", "--kl-base", "base"]).contains("KL divergence"));
}
