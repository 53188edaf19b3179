//! `oprel serve` as a program: it listens, its models are processes, and it ends when it is asked to.
#![cfg(unix)]

mod daemon;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use daemon::{Server, oprel, serve, text};

const HELLO: &str = r#"{"model":"demo","stream":false,"options":{"num_predict":4},"messages":[{"role":"user","content":"What is oprel?"}]}"#;

#[test]
fn a_model_is_a_process_that_can_be_listed_and_stopped() {
    let server = serve(&[]);
    let empty = server.run(&["ps"]);
    assert_eq!(text(&empty.stdout).lines().count(), 1, "{empty:?}");
    assert!(server.post("/api/chat", HELLO).contains("200 OK"));
    assert_eq!(server.workers().len(), 1);
    let listed = text(&server.run(&["ps"]).stdout);
    assert!(listed.contains("demo:latest") && listed.contains(" minutes from now"), "{listed}");
    let json = text(&server.run(&["ps", "--json"]).stdout);
    assert!(json.contains("\"context_length\""), "{json}");
    let absent = server.run(&["stop", "nope"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(text(&absent.stderr).contains("couldn't find model \"nope\" to stop"));
    assert!(server.run(&["stop", "demo"]).status.success());
    assert_eq!(text(&server.run(&["ps"]).stdout).lines().count(), 1);
    assert!(server.run(&["stop", "demo"]).status.success(), "an idle model is no error");
    assert!(server.workers().is_empty());
}

#[test]
fn run_lets_a_server_answer_where_one_is() {
    let server = serve(&[]);
    let ask = ["run", "demo", "What is oprel?", "--temperature", "0", "-n", "12"];
    let there = server.run(&ask);
    assert_eq!(server.workers().len(), 1, "{there:?}");
    let here = server.run(&[&ask[..], &["--local"]].concat());
    assert_eq!((text(&there.stdout), there.status.code()), (text(&here.stdout), Some(0)));
    let forbidden = server.run(&[&ask[..], &["--logit-bias", "5-inf"]].concat());
    assert!(forbidden.status.success(), "{forbidden:?}");
    let missing = server.run(&["run", "/no/such.gguf", "x"]);
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
    let wrong = server.run(&["run", "demo", "x", "--top-p", "7"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[test]
fn the_server_that_answers_can_be_named() {
    let server = serve(&[]);
    let run = |args: &[&str]| {
        let mut command = oprel(server.home.path());
        command.env("OPREL_HOST", "127.0.0.1:1").args(args).output().unwrap()
    };
    let there = format!("--server={}", server.address);
    for args in [&["run", "demo", "hi", "-n", "2"][..], &["embed", "demo", "hi"]] {
        let answer = run(&[args, &[&*there]].concat());
        assert!(answer.status.success(), "{answer:?}");
    }
    assert_eq!(server.workers().len(), 1);
    let wrong = run(&["embed", "demo", "hi", "--server=http://me@box"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("--server: 'http://me@box'"), "{wrong:?}");
    for own in [["--kv", "f16"], ["--batch-size", "8"], ["--threads", "1"]] {
        let refused = run(&[&["embed", "demo", "hi", &*there], &own[..]].concat());
        assert_eq!(refused.status.code(), Some(2), "{own:?}");
    }
}

#[test]
fn vectors_and_rankings_come_from_a_server_where_one_is() {
    let server = serve(&[]);
    let embed = ["embed", "demo", "one", "two", "--dimensions", "8"];
    let there = server.run(&embed);
    assert_eq!(server.workers().len(), 1, "{there:?}");
    let here = server.run(&[&embed[..], &["--local"]].concat());
    assert_eq!((text(&there.stdout), there.status.code()), (text(&here.stdout), Some(0)));
    let ranks = server.run(&["rerank", "-m", "demo", "a", "b"]);
    assert_eq!(ranks.status.code(), Some(2));
    assert!(text(&ranks.stderr).contains("no ranking head"), "{}", text(&ranks.stderr));
    let stopped = server.run(&["stop", "demo", "--json"]);
    assert_eq!(text(&stopped.stdout), "{\"model\":\"demo\",\"unloaded\":true}\n");
    let json = server.run(&["run", "demo", "What is oprel?", "-n", "3", "--json"]);
    assert!(text(&json.stdout).contains("\"done_reason\":\"length\""), "{json:?}");
    assert_eq!(server.workers().len(), 1);
}

#[test]
fn a_draft_of_the_server_is_for_models_of_its_vocabulary_and_changes_no_answer() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = place.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/oprel-demo-q8_0.gguf");
    let mut bytes = std::fs::read(demo).unwrap();
    let small = file("small.gguf", &bytes);
    // One token of another name, as long as the old one.
    let at = bytes.windows(12).position(|w| w == b"<|im_start|>").unwrap();
    bytes[at..at + 12].copy_from_slice(b"<|im_tsart|>");
    let other = file("other.gguf", &bytes);
    let said = |server: &Server| {
        let answer = server.post("/api/chat", HELLO);
        answer.split("\"message\":").nth(1).unwrap().split("\"done\"").next().unwrap().to_string()
    };
    let alone = said(&serve(&[]));
    let server = serve(&["--draft", &small]);
    assert_eq!(said(&server), alone);
    assert!(server.fetch("/models").contains("\"draft\":true,\"without_draft\":null"));
    for path in [&other, &small] {
        assert!(server.post("/load", &format!("{{\"model\":\"{path}\"}}")).contains("200 OK"));
    }
    let models = server.fetch("/models");
    assert!(models.contains("that of the model \\\"<|im_tsart|>\\\""), "{models}");
    assert!(models.contains("\"draft\":false,\"without_draft\":null"), "{models}");
    let set = daemon::start(&[], &[("OPREL_DRAFT", &small)]).unwrap_or_else(|o| panic!("{o:?}"));
    said(&set);
    assert!(set.fetch("/models").contains("\"draft\":true"));
    let absent = daemon::start(&["--draft", "nowhere.gguf"], &[]).err().unwrap();
    assert_eq!(absent.status.code(), Some(3));
    assert!(text(&absent.stderr).contains("no model file at 'nowhere.gguf'"), "{absent:?}");
}

#[test]
fn it_ends_when_it_is_asked_to_and_leaves_nothing() {
    let mut server = serve(&[]);
    server.post("/api/chat", HELLO);
    let workers = server.workers();
    assert!(server.home.path().join("run/oprel.sock").exists());
    server.signal("-TERM");
    assert_eq!(server.ended(), Some(0));
    assert!(!server.home.path().join("run/oprel.sock").exists());
    for pid in workers {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} is left");
    }
}

/// The last line of an answer's stream; one answer is under way when this returns its reader.
fn long_answer(server: &Server) -> impl FnOnce() -> String + use<> {
    let body = r#"{"model":"demo","prompt":"Once upon a time","raw":true,"options":{"num_predict":300,"temperature":2,"seed":1}}"#;
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let (address, n) = (&server.address, body.len());
    write!(stream, "POST /api/generate HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {n}\r\n\r\n{body}").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.find(|line| line.contains("\"done\":false")).expect("it begins");
    move || lines.filter(|line| line.starts_with('{')).last().unwrap_or_default()
}

/// Whether programs that these tests start are to outlive their terminal, as those under `nohup` are.
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}

#[test]
fn a_terminal_that_closes_asks_it_to_end_once_and_answers_finish() {
    if ignores_hangups() {
        return eprintln!("skipped: these tests run under nohup, and so would the server");
    }
    let mut server = serve(&[]);
    let last = long_answer(&server);
    let workers = server.workers();
    // The shell tells of it, and the system does.
    server.signal("-HUP");
    std::thread::sleep(Duration::from_millis(100));
    server.signal("-HUP");
    assert!(last().contains("\"done\":true"));
    assert_eq!(server.ended(), Some(0));
    assert!(!server.home.path().join("run/oprel.sock").exists());
    for pid in workers {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} is left");
    }
}

#[test]
fn a_terminal_that_closes_after_it_was_asked_to_end_hurries_nothing() {
    let mut server = serve(&[]);
    let last = long_answer(&server);
    server.signal("-TERM");
    std::thread::sleep(Duration::from_millis(100));
    server.signal("-HUP");
    assert!(last().contains("\"done\":true"));
    assert_eq!(server.ended(), Some(0));
}

/// Starts a server by `script`, in which `$0` is the program; its address, once it listens, and its log.
fn serve_by(script: &str, home: &Path) -> (Child, String, impl Iterator<Item = String> + use<>) {
    let mut shell = Command::new("sh");
    let program = oprel(home);
    shell.args(["-c", script]).arg(program.get_program());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let mut child = shell.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = log.find_map(|line| line.split_once("://").map(|(_, place)| place.to_string()));
    (child, address.expect("it listens"), log)
}

#[test]
fn a_server_that_is_to_outlive_its_terminal_does() {
    let home = tempfile::tempdir().unwrap();
    let script = "trap '' HUP; exec \"$0\" serve --port 0 --no-socket --threads 1";
    let (mut child, address, log) = serve_by(script, home.path());
    std::thread::spawn(move || log.count());
    daemon::send(child.id(), "-HUP");
    std::thread::sleep(Duration::from_millis(300));
    let mut stream = TcpStream::connect(&address).expect("it still listens");
    write!(stream, "GET /health HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
    daemon::send(child.id(), "-TERM");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let home = tempfile::tempdir().unwrap();
    let script = "exec \"$0\" serve --port 0 --no-socket --threads 1";
    let (mut child, address, log) = serve_by(script, home.path());
    drop(log);
    for _ in 0..3 {
        let mut stream = TcpStream::connect(&address).unwrap();
        let n = HELLO.len();
        write!(
            stream,
            "POST /api/chat HTTP/1.0\r\nHost: {address}\r\nContent-Length: {n}\r\n\r\n{HELLO}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("200 OK") && answer.contains("\"done\":true"), "{answer}");
    }
    daemon::send(child.id(), "-TERM");
    assert!(child.wait().unwrap().success());
}

#[test]
fn workers_die_with_a_server_that_is_killed() {
    let mut server = serve(&[]);
    server.post("/api/chat", HELLO);
    let workers = server.workers();
    assert_eq!(workers.len(), 1);
    server.signal("-KILL");
    server.ended();
    let start = Instant::now();
    while Path::new(&format!("/proc/{}", workers[0])).exists() {
        assert!(start.elapsed() < Duration::from_secs(5), "the worker is left");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_answer_goes_on_when_its_process_is_killed() {
    let server = serve(&[]);
    let body = r#"{"model":"demo","stream":false,"options":{"num_predict":120,"temperature":0,"seed":1},"messages":[{"role":"user","content":"Tell me a long story."}]}"#;
    let message = |reply: &str| {
        let from = reply.find("\"message\":").unwrap_or_else(|| panic!("{reply}"));
        reply[from..].split("\"done\"").next().unwrap().to_string()
    };
    let whole = message(&server.post("/api/chat", body));
    let again = std::thread::scope(|scope| {
        let answer = scope.spawn(|| server.post("/api/chat", body));
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(15));
            for pid in server.workers() {
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
            }
        }
        answer.join().unwrap()
    });
    assert_eq!(message(&again), whole);
}

#[test]
fn what_cannot_be_served_is_said() {
    let server = serve(&[]);
    let taken = oprel(server.home.path())
        .args(["serve", "--no-socket", "--host", &server.address])
        .output()
        .unwrap();
    assert_eq!(taken.status.code(), Some(2));
    assert!(text(&taken.stderr).contains("another oprel is there"), "{}", text(&taken.stderr));
    let open = oprel(server.home.path()).args(["serve", "--host", "0.0.0.0"]).output().unwrap();
    assert_eq!(open.status.code(), Some(2));
    assert!(text(&open.stderr).contains("oprel key create"), "{}", text(&open.stderr));
    let nobody =
        oprel(server.home.path()).env("OPREL_HOST", "127.0.0.1:1").arg("ps").output().unwrap();
    assert_eq!(nobody.status.code(), Some(5));
    assert!(text(&nobody.stderr).contains("oprel serve"), "{}", text(&nobody.stderr));
}

#[test]
fn an_address_that_is_none_is_told_with_its_variable_and_its_form() {
    let home = tempfile::tempdir().unwrap();
    let said = |variable: (&str, &str), args: &[&str]| {
        let output =
            oprel(home.path()).env(variable.0, variable.1).args(args).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        text(&output.stderr)
    };
    let none = ("OPREL_UNUSED", "");
    for args in [&["serve"][..], &["ps"], &["list"], &["run", "demo", "hi"]] {
        let told = said(("OLLAMA_HOST", "http://[::1"), args);
        assert!(told.contains("'http://[::1' in OLLAMA_HOST; it must be an address such as"));
        assert!(told.contains("its '[' has no ']'"), "{told}");
    }
    let told = said(none, &["ps", "--server", "http://me@box"]);
    assert!(told.contains("--server: 'http://me@box' is no address of a server: '@' cannot stand"));
    let told = said(none, &["serve", "--host", "127.0.0.1:port"]);
    assert!(told.contains("--host: ") && told.contains("its port 'port' is no number"), "{told}");
    let told = said(("OPREL_LOG", "no=level=this"), &["serve"]);
    assert!(told.contains("the setting log is 'no=level=this'; it must be a level"), "{told}");
    let told = said(("OPREL_HOST", "unix:/tmp/a.sock"), &["serve"]);
    assert!(told.contains("--socket /tmp/a.sock"), "{told}");
}

#[test]
fn keys_that_cannot_be_read_keep_a_server_from_starting() {
    let home = tempfile::tempdir().unwrap();
    let keys = home.path().join("keys");
    let refused = || {
        let output = oprel(home.path()).args(["serve", "--port", "0"]).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("keys of clients in '{}'", keys.display())), "{said}");
        assert!(said.contains("oprel key create"), "{said}");
    };
    for nonsense in ["", "nonsense", "{}", "[{\"id\": 1}]", "[\u{0}]"] {
        std::fs::write(&keys, nonsense).unwrap();
        refused();
    }
    std::fs::remove_file(&keys).unwrap();
    std::fs::create_dir(&keys).unwrap();
    refused();
    assert!(!oprel(home.path()).args(["key", "list"]).output().unwrap().status.success());
    std::fs::remove_dir(&keys).unwrap();
    std::os::unix::fs::symlink(&keys, &keys).unwrap();
    refused();
}

#[test]
fn keys_are_made_listed_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| oprel(home.path()).args(args).output().unwrap();
    let made = run(&["key", "create", "--name", "laptop", "--scope", "chat,metrics"]);
    assert!(text(&made.stdout).starts_with("opk_"), "{made:?}");
    let listed = text(&run(&["key", "list"]).stdout);
    assert!(listed.contains("laptop") && listed.contains("chat,metrics"), "{listed}");
    assert!(!listed.contains(text(&made.stdout).trim()), "a secret is shown once");
    assert_eq!(run(&["key", "create", "--name", "x", "--scope", "all"]).status.code(), Some(2));
    assert!(run(&["key", "remove", "laptop"]).status.success());
    assert_eq!(run(&["key", "remove", "laptop"]).status.code(), Some(2));
}
