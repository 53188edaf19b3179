//! Names that are not here, fetched from a stand-in for the hub and for a registry.

use std::process::{Command, Output, Stdio};

use oprel_test_hub::{Content, Fault, Hub, Model, Repo, Role};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/oprel-demo-q8_0.gguf");

struct Place {
    home: tempfile::TempDir,
    hub: Hub,
}

impl Place {
    /// A hub that has the demo model in two quants of one repository.
    fn new() -> Place {
        let (home, hub) = (tempfile::tempdir().expect("a folder"), Hub::start());
        let demo = std::fs::read(DEMO).expect("committed");
        let repo = Repo::default()
            .with("Demo-Q4_K_M.gguf", Content::kept(demo.clone()))
            .with("Demo-Q8_0.gguf", Content::kept([demo.as_slice(), b"more"].concat()))
            .with("README.md", Content::kept("A model."));
        hub.add("someone/Demo-GGUF", repo);
        Place { home, hub }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oprel"));
        command.args(args).env_clear().env("HOME", self.home.path());
        command.env("OPREL_HOST", "127.0.0.1:1").env("OPREL_HUB", self.hub.url(Role::Hub));
        command.stdin(Stdio::null());
        command
    }

    fn oprel(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it runs")
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.oprel(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

#[test]
fn running_a_model_that_is_not_here_fetches_it_and_answers() {
    let place = Place::new();
    let ask = ["run", "hf.co/someone/Demo-GGUF", "What is oprel?", "--seed", "1", "-n", "8"];
    let output = place.oprel(&ask);
    let (said, told) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    assert!(!said.trim().is_empty() && !said.contains("pulling"), "{said}");
    assert!(told.contains("pulling manifest") && told.contains("success"), "{told}");
    let sent = place.hub.sent();
    assert_eq!(place.ok(&ask), said, "the second time it is here");
    assert_eq!(place.hub.sent(), sent);
    let list = place.ok(&["list"]);
    assert!(list.contains("hf.co/someone/Demo-GGUF:latest"), "{list}");
    assert!(place.hub.leaks().is_empty());
}

#[test]
fn a_quant_is_picked_and_a_wrong_one_names_those_that_there_are() {
    let place = Place::new();
    place.ok(&["pull", "hf.co/someone/Demo-GGUF:q8_0"]);
    assert!(
        place.ok(&["verify"]).to_lowercase().contains("ok")
            || place.oprel(&["verify"]).status.success()
    );
    let wrong = place.oprel(&["pull", "hf.co/someone/Demo-GGUF:Q3_K_S"]);
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(4), "{told}");
    assert!(told.contains("Q4_K_M") && told.contains("Q8_0"), "{told}");
    let absent = place.oprel(&["run", "hf.co/nobody/nothing", "hi"]);
    let told = String::from_utf8_lossy(&absent.stderr).into_owned();
    assert_eq!(absent.status.code(), Some(3), "{told}");
    assert!(told.contains("cannot be fetched"), "{told}");
}

#[test]
fn nothing_is_connected_to_where_that_is_not_wanted() {
    let place = Place::new();
    let mut command = place.command(&["run", "hf.co/someone/Demo-GGUF", "hi"]);
    let output = command.env("HF_HUB_OFFLINE", "1").output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("HF_HUB_OFFLINE"), "{told}");
    assert!(place.hub.seen().is_empty());
    // The catalogue needs no connection.
    let found = place.ok(&["search", "--offline", "coder"]);
    assert!(found.contains("NAME") && found.to_lowercase().contains("coder"), "{found}");
    assert!(place.ok(&["list-models"]).lines().count() > 80);
}

#[test]
fn switches_of_the_file_count_in_all_their_words() {
    let place = Place::new();
    let folder = place.home.path().join(".oprel");
    std::fs::create_dir_all(&folder).expect("writable");
    std::fs::write(folder.join("config.yaml"), "offline: y\nnoprune: t\n").expect("writable");
    let output = place.oprel(&["pull", "hf.co/someone/Demo-GGUF"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("OPREL_OFFLINE"), "{told}");
    assert!(place.hub.seen().is_empty());
    let output = place.oprel(&["cache", "clear"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && told.contains("noprune"), "{told}");
}

#[test]
fn a_users_own_name_stands_for_a_repository() {
    let place = Place::new();
    let folder = place.home.path().join(".oprel");
    std::fs::create_dir_all(&folder).expect("writable");
    std::fs::write(folder.join("config.yaml"), "aliases:\n  mine: hf.co/someone/Demo-GGUF:Q8_0\n")
        .expect("writable");
    let said = place.ok(&["run", "mine", "What is oprel?", "-n", "4"]);
    assert!(!said.trim().is_empty());
    assert!(place.ok(&["list"]).contains("mine:latest"));
}

#[test]
fn a_registry_is_spoken_to_and_a_model_goes_there_and_back() {
    let place = Place::new();
    let registry = place.hub.url(Role::Registry);
    let host = registry.trim_start_matches("http://").trim_end_matches('/').to_owned();
    place.hub.add_model(
        "library/tiny:latest",
        Model::new(r#"{"model_format":"gguf","model_family":"llama"}"#)
            .with("model", Content::kept(std::fs::read(DEMO).expect("committed")))
            .with("system", Content::kept("Be brief.")),
    );
    let name = format!("http://{host}/library/tiny");
    let refused = place.oprel(&["pull", &name]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("insecure"), "{told}");
    place.ok(&["pull", &name, "--insecure"]);
    let stored = format!("{host}/library/tiny");
    assert_eq!(place.ok(&["show", &stored, "--system"]).trim(), "Be brief.");
    let said = place.ok(&["run", &stored, "What is oprel?", "-n", "4"]);
    assert!(!said.trim().is_empty());
}

#[test]
fn a_pull_that_is_killed_goes_on_where_it_was() {
    let place = Place::new();
    let big = Content::made(7, 64 << 20);
    place.hub.add("someone/Big-GGUF", Repo::default().with("Big-Q4_K_M.gguf", big));
    place.hub.pace(24 << 20);
    for _ in 0..2 {
        let mut child = place.command(&["pull", "hf.co/someone/Big-GGUF"]);
        let mut child = child.stderr(Stdio::null()).spawn().expect("it runs");
        std::thread::sleep(std::time::Duration::from_millis(900));
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    place.hub.pace(0);
    place.hub.fault(Role::Cdn, "Big", 0, 1, Fault::Status(503, None));
    // It is no GGUF file: what comes is kept all the same, and is right.
    let output = place.oprel(&["pull", "hf.co/someone/Big-GGUF"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(place.hub.sent() < (64 << 20) + ((3 * 16) << 20), "{} bytes came", place.hub.sent());
    assert!(output.status.success() || told.contains("GGUF"), "{told}");
}

#[test]
fn a_registry_without_tls_is_named_and_what_to_say_about_it() {
    let place = Place::new();
    let demo = std::fs::read(DEMO).expect("committed");
    let model = Model::new("{\"model_format\":\"gguf\"}").with("model", Content::kept(demo));
    place.hub.add_model("library/plain:latest", model);
    let registry = place.hub.url(Role::Registry);
    let name = format!("{}/library/plain", registry.trim_start_matches("http://"));
    let refused = place.oprel(&["run", &name, "hi"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("speaks no TLS") && told.contains("--insecure"), "{told}");
    place.ok(&["pull", &name, "--insecure"]);
    assert!(!place.ok(&["run", &name, "What is oprel?", "-n", "4"]).trim().is_empty());
}
