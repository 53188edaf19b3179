//! The library in server mode, over a real server: the same answers as in this process, and errors that say
//! what to do.
#![cfg(unix)]

mod daemon;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use daemon::{Server, serve, text};
use oprel::{
    Answer, Client, Daemon, EmbedRequest, EndReason, Endpoint, Event, Mode, Model, ModelSource,
    OprelError, Request, RerankRequest, Sampling,
};

fn place(server: &Server) -> Daemon {
    Daemon::at(Endpoint::parse(&server.address).unwrap())
}

fn demo(server: &Server) -> Model {
    Model::builder(ModelSource::Demo).server(place(server)).load().unwrap()
}

fn request(text: &str, n: u32) -> Request {
    let mut request = Request::prompt(text);
    request.sampling = Sampling { temperature: 0.9, seed: Some(7), ..Sampling::default() };
    request.limits.max_tokens = Some(n);
    request.ignore_end = true;
    request
}

/// Events without what depends on time.
fn timeless(event: Event) -> Event {
    match event {
        Event::Usage(u) => {
            let counts = (u.prompt_tokens, u.generated_tokens);
            Event::text(format!("{counts:?}"))
        }
        other => other,
    }
}

#[test]
fn both_modes_say_the_same() {
    let server = serve(&[]);
    let (here, there) = (Model::demo().unwrap(), demo(&server));
    assert!(matches!(there.mode(), Mode::Server(_)));
    assert_eq!((there.name(), there.n_vocab()), ("demo".into(), here.n_vocab()));
    assert_eq!(there.sampling(), here.sampling());
    assert_eq!((there.only_embeds(), there.ranks()), (here.only_embeds(), here.ranks()));
    let mut ask = request("Tell me a story.", 24);
    let events = |model: &Model| -> Vec<Event> {
        let mut all = Vec::new();
        for event in model.generate(ask.clone()).unwrap().map(timeless) {
            match (all.last_mut(), event) {
                // How tokens fall into pieces depends on when somebody looks.
                (Some(Event::Text(last)), Event::Text(next)) => {
                    last.text.push_str(&next.text);
                    last.tokens.extend(next.tokens);
                }
                (_, event) => all.push(event),
            }
        }
        all
    };
    assert_eq!(events(&here), events(&there));
    ask.n = 3;
    assert!(matches!(there.generate(ask.clone()), Err(OprelError::Validation { .. })));
    let all = |model: &Model| -> Vec<Answer> {
        let streams = model.generate_all(ask.clone()).unwrap();
        // The last one first: each can be read whenever one likes.
        streams.into_iter().rev().map(|s| s.answer().unwrap()).collect()
    };
    for (here, there) in all(&here).into_iter().zip(all(&there)) {
        assert_eq!((here.text, here.tokens, here.end), (there.text, there.tokens, there.end));
    }
    let embed = EmbedRequest { normalize: false, ..EmbedRequest::new(["one", "two"]) };
    assert_eq!(here.embed(&embed).unwrap().vectors, there.embed(&embed).unwrap().vectors);
    let ids = there.tokenize("Hello, oprel", Default::default()).unwrap();
    assert_eq!(ids, here.tokenize("Hello, oprel", Default::default()).unwrap());
    assert_eq!(there.detokenize(&ids).unwrap(), "Hello, oprel");
    let shown = there.show(false).unwrap();
    assert_eq!(shown.details, here.show(false).unwrap().details);
    assert_eq!(shown.capabilities, here.show(false).unwrap().capabilities);
    assert!(there.logits(vec![1], vec![]).unwrap_err().hint().is_some());
    there.unload().unwrap();
    assert!(server.workers().is_empty());
}

#[test]
fn errors_are_of_the_same_kinds_as_in_this_process() {
    let server = serve(&[]);
    let load = |path: &Path| {
        let source = ModelSource::File(path.to_path_buf());
        Model::builder(source).server(place(&server)).load().map(drop)
    };
    assert!(matches!(load(Path::new("no such.gguf")), Err(OprelError::ModelNotFound { .. })));
    let broken = server.home.path().join("broken.gguf");
    std::fs::write(&broken, b"GGUF nonsense").unwrap();
    assert!(matches!(load(&broken), Err(OprelError::Backend { .. })));
    let threads = Model::builder(ModelSource::Demo).threads(2).server(place(&server)).load();
    let said = threads.unwrap_err();
    assert!(said.to_string().starts_with("threads is for a daemon"), "{said}");
    let model = demo(&server);
    let mut wrong = request("hi", 3);
    wrong.sampling.temperature = f32::NAN;
    let direct = Model::demo().unwrap().generate(wrong.clone()).unwrap_err().to_string();
    assert_eq!(model.generate(wrong).unwrap_err().to_string(), direct);
    let long = model.generate(request(&"word ".repeat(20_000), 3));
    assert!(matches!(long, Err(OprelError::Validation { .. })), "{long:?}");
    let ranks = model.rerank(&RerankRequest::new("a", ["b"]));
    assert!(matches!(ranks, Err(OprelError::Validation { .. })), "{ranks:?}");
    let short =
        Model::builder(ModelSource::Demo).context(64).server(place(&server)).load().unwrap();
    assert_eq!(short.context(), 64);
    let long = short.generate(request(&"word ".repeat(80), 3));
    assert!(matches!(long, Err(OprelError::Validation { .. })), "{long:?}");
    let none = Model::named("no-such-model").server(place(&server)).load();
    assert!(matches!(none, Err(OprelError::ModelNotFound { .. })), "{none:?}");
}

#[test]
fn where_no_daemon_answers_nothing_takes_its_place() {
    let nobody = Daemon::at(Endpoint::parse("127.0.0.1:1").unwrap());
    let absent = Model::builder(ModelSource::Demo).server(nobody).load().unwrap_err();
    assert!(matches!(absent, OprelError::Backend { .. }));
    assert!(absent.to_string().contains("no daemon answers at http://127.0.0.1:1"), "{absent}");
    assert!(absent.hint().is_some_and(|hint| hint.contains("oprel serve")));
    let refused = Daemon::at(Endpoint::Socket("/no/such/folder/x.sock".into()));
    let refused = Model::builder(ModelSource::Demo).server(refused).load();
    assert!(matches!(refused, Err(OprelError::Backend { .. })), "{refused:?}");
    // Who is there but is none of ours.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Daemon::at(Endpoint::parse(&other.local_addr().unwrap().to_string()).unwrap());
    std::thread::spawn(move || {
        for mut stream in other.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let head = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(format!("{head}no").as_bytes());
            // Closed with bytes unread, a connection may take the answer with it.
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let other = Model::named("demo").server(place).load().unwrap_err();
    assert!(matches!(other, OprelError::Backend { .. }), "{other:?}");
    assert!(other.to_string().contains("another program"), "{other}");
}

#[test]
fn a_key_is_sent_where_one_is_needed() {
    let server = serve(&["--require-key"]);
    let key = text(&server.run(&["key", "create", "--name", "x", "--scope", "admin"]).stdout);
    let without = Model::named("demo").server(place(&server)).load();
    assert!(matches!(without, Err(OprelError::Validation { .. })), "{without:?}");
    let model = Model::named("demo").server(place(&server).key(key.trim())).load().unwrap();
    assert!(model.generate(request("Hello", 3)).unwrap().answer().is_ok());
}

#[test]
fn an_answer_goes_on_when_its_process_is_killed() {
    let server = serve(&[]);
    let model = demo(&server);
    let ask = request("Tell me a long story about a ship.", 160);
    let whole = model.generate(ask.clone()).unwrap().answer().unwrap();
    let mut answer = Answer::default();
    for (i, event) in model.generate(ask).unwrap().enumerate() {
        if i == 5 {
            for pid in server.workers() {
                Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
            }
        }
        answer.push(event).unwrap();
    }
    assert_eq!((answer.text, answer.end), (whole.text, whole.end));
    assert_eq!(answer.tokens, whole.tokens);
}

#[test]
fn a_daemon_that_goes_away_ends_the_stream_with_one_error() {
    let mut server = serve(&[]);
    let model = demo(&server);
    let mut stream = model.generate(request("Tell me a story.", 400)).unwrap();
    assert!(stream.next().is_some());
    server.signal("-KILL");
    server.ended();
    let rest: Vec<Event> = stream.by_ref().collect();
    assert!(matches!(rest.last(), Some(Event::Error(_))), "{rest:?}");
    assert_eq!(rest.iter().filter(|e| e.is_last()).count(), 1);
    assert_eq!(stream.next(), None);
    let gone = model.generate("hi").unwrap_err();
    assert!(matches!(gone, OprelError::Backend { .. }) && gone.hint().is_some(), "{gone:?}");
}

/// Sequences that run.
fn running(server: &Server) -> f64 {
    let metrics = server.post_or_get("GET", "/metrics", "");
    let line = metrics.lines().find(|l| l.starts_with("oprel_sequences_running{"));
    line.and_then(|l| l.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}

#[test]
fn a_stream_that_is_dropped_is_cancelled() {
    let server = serve(&[]);
    let model = demo(&server);
    let mut ask = request("Tell me a story.", 900);
    ask.n = 2;
    let mut streams = model.generate_all(ask).unwrap();
    assert!(streams[1].next().is_some());
    assert!(running(&server) > 0.0);
    streams.remove(0);
    assert!(streams[0].next().is_some(), "the other one goes on");
    drop(streams);
    let start = Instant::now();
    while running(&server) > 0.0 {
        assert!(start.elapsed() < Duration::from_secs(5), "it still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn streams_can_be_awaited_and_waited_for_inside_a_runtime() {
    let server = serve(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let model = demo(&server);
        let mut ask = request("Tell me a story.", 30);
        ask.n = 2;
        let streams = model.generate_all(ask.clone()).unwrap();
        let mut texts = Vec::new();
        for mut stream in streams {
            let mut answer = Answer::default();
            while let Some(event) = stream.next_event().await {
                answer.push(event).unwrap();
            }
            assert_eq!(answer.end, Some(EndReason::MaxTokens));
            texts.push(answer.text);
        }
        ask.n = 1;
        assert_eq!(model.generate(ask).unwrap().answer().unwrap().text, texts[0]);
        let client = place(&server).connect().await.unwrap();
        let body = oprel::Generate::of("demo", request("Tell me a story.", 30));
        let mut events = client.generate(&body).await.unwrap();
        let mut text = String::new();
        while let Some((_, event)) = events.next().await {
            if let Event::Text(piece) = event {
                text.push_str(&piece.text);
            }
        }
        assert_eq!(text, texts[0]);
    });
}

/// Runs a test of this file in a process of its own, where it is the one that is asked: the environment
/// is one a process has once.
fn alone(test: &str, home: &Path, host: &str, program: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("OPREL_TEST_ALONE", "1");
    command.env("OPREL_HOME", home).env("OPREL_HOST", host).env("OPREL_BIN", program);
    command.env_remove("OPREL_API_KEY").output().unwrap()
}

fn is_alone() -> bool {
    std::env::var_os("OPREL_TEST_ALONE").is_some()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Daemons that nobody holds, told by their command line; they end with this at the latest.
struct Left(String);

impl Left {
    /// Their processes.
    fn pids(&self) -> Vec<String> {
        let mut pids = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            if words.contains(" serve ") && words.contains(&self.0) {
                pids.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        pids
    }

    /// Ends them; how many there were, when all that cannot stay had time to go.
    fn end(&self) -> usize {
        let begun = Instant::now();
        while self.pids().len() > 1 && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let pids = self.pids();
        for pid in &pids {
            let _ = Command::new("kill").args(["-9", pid]).status();
        }
        pids.len()
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn a_daemon_is_started_where_that_is_asked_for() {
    if is_alone() {
        let story = || oprel::generate("demo", request("Tell me a story.", 8)).unwrap().answer();
        // Two that start one at the same moment have one.
        let (one, two) = std::thread::scope(|scope| {
            let two = scope.spawn(story);
            (story().unwrap().text, two.join().unwrap().unwrap().text)
        });
        assert_eq!(one, two);
        println!("said: {one:?}");
        assert!(Client::connect(&Daemon::from_env().unwrap()).unwrap().is_there());
        assert_eq!(oprel::running().unwrap()[0].name, "demo:latest");
        assert_eq!(oprel::list().unwrap()[0].name, "demo:latest");
        let vectors = oprel::embed("demo", &EmbedRequest::new(["a"])).unwrap().vectors;
        assert_eq!(vectors.len(), 1);
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let port = free_port();
    let host = format!("127.0.0.1:{port}");
    let left = Left(format!("--port {port} "));
    let test = "a_daemon_is_started_where_that_is_asked_for";
    let output = alone(test, home.path(), &host, env!("CARGO_BIN_EXE_oprel"));
    // It outlives who started it.
    let model = Model::named("demo").server(Daemon::at(Endpoint::parse(&host).unwrap())).load();
    let ended = left.end();
    assert!(output.status.success(), "{} {}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("said: "));
    assert!(model.is_ok() && ended == 1, "{model:?} {ended}");
    assert!(home.path().join("logs/serve.log").exists());
}

#[test]
fn a_daemon_that_died_is_started_again_where_it_may_be() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("oprel.sock");
    let left = Left(format!("--socket {} ", socket.display()));
    // A program that is found in no other way, and has a home of its own.
    let program = home.path().join("start");
    let script = format!(
        "#!/bin/sh\nexport OPREL_HOME='{}'\nexec '{}' \"$@\"\n",
        home.path().display(),
        env!("CARGO_BIN_EXE_oprel")
    );
    std::fs::write(&program, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let daemon = Daemon::at(Endpoint::Socket(socket.clone())).started_as(&program);
    let model = Model::builder(ModelSource::Demo).server(daemon).load().unwrap();
    let said = |model: &Model| model.generate(request("Hello", 5)).unwrap().answer().unwrap().text;
    let before = said(&model);
    assert_eq!(left.end(), 1);
    assert_eq!(before, said(&model));
}

#[test]
fn a_wrong_program_is_an_error_and_no_other_is_taken() {
    if is_alone() {
        let error = oprel::generate("demo", "hi").unwrap_err();
        println!("kind: {}", matches!(error, OprelError::Backend { .. }));
        println!("said: {error}");
        println!("hint: {}", error.hint().unwrap_or_default());
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let test = "a_wrong_program_is_an_error_and_no_other_is_taken";
    let host = format!("127.0.0.1:{}", free_port());
    let told = |program: &str, host: &str| text(&alone(test, home.path(), host, program).stdout);
    let missing = told("/no/such/program", &host);
    assert!(missing.contains("OPREL_BIN is '/no/such/program', which is no program"), "{missing}");
    assert!(missing.contains("kind: true") && missing.contains("hint: set OPREL_BIN"), "{missing}");
    let other = told("/bin/false", &host);
    assert!(other.contains("said: the daemon did not start: it ended at once"), "{other}");
    // What is there already says why it cannot be a daemon's place.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    std::thread::spawn({
        let taken = taken.try_clone().unwrap();
        move || taken.incoming().for_each(drop)
    });
    let taken = taken.local_addr().unwrap().to_string();
    let taken = told(env!("CARGO_BIN_EXE_oprel"), &taken);
    assert!(taken.contains("another program is there"), "{taken}");
    assert!(taken.contains("hint: stop it, or choose another place"), "{taken}");
}
