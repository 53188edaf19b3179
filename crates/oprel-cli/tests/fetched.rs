//! Names that are not here, fetched from a stand-in for the hub and for a registry.

mod daemon;

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

    /// Writes the file of settings.
    fn configure(&self, text: &str) {
        let folder = self.home.path().join(".oprel");
        std::fs::create_dir_all(&folder).expect("writable");
        std::fs::write(folder.join("config.yaml"), text).expect("writable");
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
    assert!(place.ok(&["list-models", "no-such-word"]).starts_with("nothing was found"));
    // Where the hub does not answer, what needs none is told all the same.
    let mut command = place.command(&["search", "coder"]);
    let output = command.env("OPREL_HUB", "http://127.0.0.1:1").output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(4) && told.contains("cannot reach"), "{told}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("qwen2.5-coder"));
}

#[test]
fn switches_of_the_file_count_in_all_their_words() {
    let place = Place::new();
    place.configure("offline: y\nnoprune: t\n");
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
    place.configure("aliases:\n  mine: hf.co/someone/Demo-GGUF:Q8_0\n");
    let said = place.ok(&["run", "mine", "What is oprel?", "-n", "4"]);
    assert!(!said.trim().is_empty());
    assert!(place.ok(&["list"]).contains("mine:latest"));
}

#[test]
fn a_short_name_of_the_catalogue_is_fetched_and_answers() {
    let place = Place::new();
    let demo = std::fs::read(DEMO).expect("committed");
    let repo = Repo::default()
        .with("SmolLM2-135M-Instruct-Q4_K_M.gguf", Content::kept(demo))
        .with("SmolLM2-135M-Instruct-Q8_0.gguf", Content::made(1, 1000));
    place.hub.add("bartowski/SmolLM2-135M-Instruct-GGUF", repo);
    // The catalogue names the file by a pattern.
    let said = place.ok(&["run", "smollm2:135m", "What is oprel?", "-n", "4"]);
    assert!(!said.trim().is_empty());
    let list = place.ok(&["list"]);
    assert!(list.contains("\nsmollm2:135m "), "{list}");
    // By its repository it is known now, too.
    let pulled = place.oprel(&["pull", "bartowski/SmolLM2-135M-Instruct-GGUF:Q5_K_M"]);
    let told = String::from_utf8_lossy(&pulled.stderr).into_owned();
    assert_eq!(pulled.status.code(), Some(4), "{told}");
    assert!(told.contains("there are: Q4_K_M, Q8_0"), "{told}");
}

#[test]
fn a_page_of_a_file_of_the_hub_is_fetched_by_its_path() {
    let place = Place::new();
    let demo = std::fs::read(DEMO).expect("committed");
    let repo = Repo::default()
        .with("one/First-Q8_0.gguf", Content::made(1, 1000))
        .with("two/Second-Q8_0.gguf", Content::kept(demo.clone()))
        .with("two/plain.gguf", Content::kept(demo));
    place.hub.add("someone/Two-GGUF", repo);
    for file in ["two/Second-Q8_0.gguf", "two/plain.gguf"] {
        let page = format!("https://huggingface.co/someone/Two-GGUF/blob/main/{file}");
        let said = place.ok(&["run", &page, "What is oprel?", "-n", "4"]);
        assert!(!said.trim().is_empty(), "{page}");
    }
    let list = place.ok(&["list"]);
    assert!(list.contains("Two-GGUF:Q8_0") && list.contains("Two-GGUF:plain"), "{list}");
}

#[test]
fn a_file_at_an_address_runs_under_the_name_that_it_gets() {
    let place = Place::new();
    let content = Content::kept(std::fs::read(DEMO).expect("committed"));
    let address = place.hub.link(&content, "Some-Q8_0.gguf");
    for command in [&["run", &address, "hi"][..], &["pull", &address]] {
        let refused = place.oprel(command);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && told.contains("without TLS"), "{told}");
        assert!(told.contains("pull NAME --insecure"), "{told}");
    }
    place.ok(&["pull", &address, "--insecure"]);
    for words in [&["run", &address, "What is oprel?", "-n", "4"][..], &["show", &address]] {
        assert!(!place.ok(words).trim().is_empty(), "{words:?}");
    }
    assert!(place.ok(&["list"]).contains("/Some-Q8_0:latest"));
    let nowhere = place.oprel(&["plan", "https://127.0.0.1:1/a/b.gguf"]);
    let told = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(nowhere.status.code() == Some(3) && told.contains("oprel pull https://"), "{told}");
}

#[test]
fn what_others_have_is_not_fetched_and_never_changed() {
    let place = Place::new();
    let demo = std::fs::read(DEMO).expect("committed");
    let longer = [demo.as_slice(), b"more"].concat();
    let cache = place.home.path().join(".cache/huggingface/hub/models--x--y/blobs");
    let ollama = place.home.path().join(".ollama/models/blobs");
    let write = |folder: &std::path::Path, name: String, bytes: &[u8]| {
        std::fs::create_dir_all(folder).expect("writable");
        std::fs::write(folder.join(&name), bytes).expect("writable");
        folder.join(name)
    };
    write(&cache, Content::kept(demo.clone()).digest().into(), &demo);
    place.ok(&["pull", "hf.co/someone/Demo-GGUF:Q4_K_M"]);
    assert!(place.hub.sent() < 1000, "{} bytes came", place.hub.sent());
    assert!(
        !place.ok(&["run", "hf.co/someone/Demo-GGUF:Q4_K_M", "hi", "-n", "4"]).trim().is_empty()
    );
    // Half of another one is of no use, and stays what it is.
    let digest = Content::kept(longer.clone()).digest().to_owned();
    let halves = [
        write(&cache, digest.clone(), &longer[..1000]),
        write(&ollama, format!("sha256-{digest}"), &longer[..2000]),
    ];
    place.ok(&["pull", "hf.co/someone/Demo-GGUF:Q8_0"]);
    let bytes = halves.map(|path| std::fs::read(path).expect("it stays").len());
    assert_eq!(bytes, [1000, 2000]);
    let own = place.home.path().join(format!(".oprel/models/blobs/sha256-{digest}"));
    assert_eq!(std::fs::read(own).expect("it came").len(), longer.len());
}

#[test]
fn own_names_stand_for_names_of_the_catalogue_and_nonsense_is_told() {
    let place = Place::new();
    let demo = std::fs::read(DEMO).expect("committed");
    let repo = Repo::default().with("SmolLM2-135M-Instruct-Q4_K_M.gguf", Content::kept(demo));
    place.hub.add("bartowski/SmolLM2-135M-Instruct-GGUF", repo);
    let write = |aliases: &str| place.configure(&format!("aliases:\n  {aliases}\n"));
    write("little: smollm2:135m");
    place.ok(&["pull", "little"]);
    assert!(place.ok(&["list"]).contains("little:latest"));
    let known = place.ok(&["list-models", "little"]);
    assert!(known.contains("little ") && known.contains("135M"), "{known}");
    for (aliases, word) in [
        ("little: no-such-model", "line 2 of config.yaml"),
        ("little: /m/big.gguf", "oprel create"),
        ("'a b': hf.co/u/r", "short name"),
        ("little: hf.co/u/a--b", "no repository"),
    ] {
        write(aliases);
        let output = place.oprel(&["pull", "little"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(word) && told.contains("hint: "), "{told}");
    }
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

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_has_come() {
    const SIZE: u64 = 32 << 20;
    let place = Place::new();
    place
        .hub
        .add("someone/Big-GGUF", Repo::default().with("Big-Q4_K_M.gguf", Content::made(8, SIZE)));
    // Each of eight parts takes four seconds.
    place.hub.pace(1 << 20);
    let mut command = place.command(&["pull", "hf.co/someone/Big-GGUF"]);
    let child = command.stderr(Stdio::piped()).spawn().expect("it runs");
    while place.hub.sent() < SIZE / 4 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    let output = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(
        told.contains("what has come is kept") && told.contains("same command again"),
        "{told}"
    );
    place.hub.pace(0);
    place.ok(&["pull", "hf.co/someone/Big-GGUF"]);
    // What was on its way comes again, and nothing that was written.
    assert!(place.hub.sent() < SIZE + (4 << 20), "{} bytes came", place.hub.sent());
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

#[test]
fn a_model_that_another_is_made_of_is_fetched_first() {
    let place = Place::new();
    place.configure("aliases:\n  own: hf.co/someone/Demo-GGUF:Q8_0\n");
    let file = place.home.path().join("Modelfile");
    let create = |name: &str, from: &str, more: &[&str]| {
        std::fs::write(&file, format!("FROM {from}\nSYSTEM Be {name}.\n")).expect("writable");
        let file = file.to_str().expect("text");
        place.oprel(&[&["create", name, "-f", file], more].concat())
    };
    let made = create("brief", "hf.co/someone/Demo-GGUF:Q4_K_M", &[]);
    let told = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success(), "{told}");
    let steps =
        ["pulling manifest", "pulling ", "verifying sha256", "writing manifest", "creating"];
    let mut rest = told.as_str();
    for step in steps {
        let at = rest.find(step).unwrap_or_else(|| panic!("no '{step}' in order: {told}"));
        rest = &rest[at + step.len()..];
    }
    assert_eq!(told.matches("success").count(), 1, "{told}");
    assert_eq!(place.ok(&["show", "brief", "--system"]).trim(), "Be brief.");
    assert!(place.ok(&["list"]).contains("hf.co/someone/Demo-GGUF:Q4_K_M"));
    // Now it is here.
    let sent = place.hub.sent();
    assert!(create("again", "hf.co/someone/Demo-GGUF:Q4_K_M", &[]).status.success());
    assert_eq!(place.hub.sent(), sent);
    // A name of the user's own, told as JSON.
    let made = create("lines", "own", &["--json"]);
    let lines = String::from_utf8(made.stdout).expect("text");
    let status = |line| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    let all: Vec<_> = lines.lines().map(|line| status(line)["status"].clone()).collect();
    assert_eq!(all.first().expect("lines"), "pulling manifest");
    assert_eq!(all.iter().filter(|status| *status == "success").count(), 1, "{lines}");
    assert_eq!(all.last().expect("lines"), "success");
    assert!(place.ok(&["list"]).contains("\nown:latest "));
}

#[test]
fn a_model_is_not_made_of_what_cannot_be_had() {
    let place = Place::new();
    let file = place.home.path().join("Modelfile");
    let refused = |from: &str, offline: bool, code: i32, words: &[&str]| {
        std::fs::write(&file, format!("FROM {from}\n")).expect("writable");
        let mut command = place.command(&["create", "x", "-f", file.to_str().expect("text")]);
        if offline {
            command.env("HF_HUB_OFFLINE", "1");
        }
        let output = command.output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{told}");
        for word in words.iter().chain(&["hint: "]) {
            assert!(told.contains(word), "no '{word}': {told}");
        }
    };
    let both = "not found, and it cannot be fetched";
    refused("hf.co/nobody/nothing", false, 3, &[both, "no repository"]);
    refused("hf.co/someone/Demo-GGUF:Q2_K", false, 3, &[both, "there are: "]);
    let seen = place.hub.seen().len();
    refused("hf.co/someone/Demo-GGUF", true, 3, &[both, "HF_HUB_OFFLINE"]);
    assert_eq!(place.hub.seen().len(), seen, "nothing was asked for");
    let address = place.hub.link(&Content::made(1, 100), "Some-Q8_0.gguf");
    refused(&address, false, 2, &[both, "without TLS", "--insecure"]);
    assert_eq!(place.ok(&["list"]).lines().count(), 1, "nothing is here");
}

#[test]
fn a_daemon_fetches_what_a_model_is_made_of() {
    let place = Place::new();
    let hub = place.hub.url(Role::Hub);
    let server = daemon::start(&["--no-socket"], &[("OPREL_HUB", &hub)]);
    let server = server.unwrap_or_else(|said| panic!("{said:?}"));
    let body = r#"{"model": "mine", "from": "hf.co/someone/Demo-GGUF", "system": "Be brief."}"#;
    let answer = server.post("/api/create", body);
    let steps = ["200 OK", "pulling manifest", "\"total\":", "creating new layer", "success"];
    assert!(steps.iter().all(|step| answer.contains(step)), "{answer}");
    assert_eq!(answer.matches("\"success\"").count(), 1, "{answer}");
    let sent = place.hub.sent();
    assert!(sent > 5_000_000, "{sent}");
    let again = server.post("/api/create", &body.replace("mine", "other"));
    assert!(again.contains("success") && !again.contains("pulling"), "{again}");
    assert_eq!(place.hub.sent(), sent);
    // What cannot be had is an error of this request alone, with or without a stream.
    for stream in [true, false] {
        let body =
            format!(r#"{{"model": "x", "from": "hf.co/nobody/nothing", "stream": {stream}}}"#);
        let answer = server.post("/api/create", &body);
        let words = ["not found, and it cannot be fetched", "no repository"];
        assert!(words.iter().all(|word| answer.contains(word)), "{answer}");
        assert_eq!(answer.contains("404"), !stream, "{answer}");
    }
    let tags = server.fetch("/api/tags");
    assert!(tags.contains("mine:latest") && tags.contains("other:latest"), "{tags}");
    assert!(!tags.contains("x:latest"), "{tags}");
}
