//! Worker processes: what is asked comes back as from the engine in this process, and survives kills.
#![cfg(unix)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use oprel_api::{
    Answer, Cause, Chat, EmbedRequest, EndReason, Event, Failure, Input, Message, Request,
    RerankRequest, Sampling,
};
use oprel_backend::{
    Backend, Events, Health, Launch, LoadOptions, ModelSource, Native, Patience, Worker, wait,
};

fn options() -> LoadOptions {
    LoadOptions { context: Some(512), threads: Some(1), ..LoadOptions::default() }
}

fn launch(source: ModelSource) -> Launch {
    Launch {
        program: env!("CARGO_BIN_EXE_oprel").into(),
        args: vec!["worker".into()],
        source,
        options: options(),
        patience: Patience::default(),
    }
}

fn demo() -> Worker {
    Worker::start(launch(ModelSource::Demo)).unwrap()
}

fn request(text: &str, n: u32, temperature: f32) -> Request {
    let mut request = Request::prompt(text);
    request.sampling = Sampling { temperature, seed: Some(7), ..Sampling::default() };
    request.limits.max_tokens = Some(n);
    request.ignore_end = true;
    request
}

fn kill(worker: &Worker, signal: &str) {
    if let Some(pid) = worker.pid() {
        let _ = Command::new("kill").args([signal, &pid.to_string()]).status();
    }
}

fn one(worker: &Worker, request: &Request) -> Events {
    wait(worker.generate(request.clone())).unwrap().pop().unwrap()
}

#[test]
fn answers_vectors_and_tokens_are_those_of_the_engine_in_this_process() {
    let native = Native::load(&ModelSource::Demo, &options()).unwrap();
    let worker = demo();
    assert_eq!((worker.kind(), worker.health()), ("worker", Health::Ready));
    let description = worker.describe();
    assert_eq!(description.context, native.context());
    let mut request = request("Tell me a story.", 20, 0.9);
    request.n = 3;
    let ours = native.generate_all(&request).unwrap();
    let theirs = wait(worker.generate(request.clone())).unwrap();
    assert_eq!(theirs.len(), 3);
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        let (ours, theirs) = (Answer::fold(ours).unwrap(), Answer::fold(theirs).unwrap());
        assert_eq!((ours.text, ours.tokens), (theirs.text, theirs.tokens));
    }
    let embed = EmbedRequest::new(["one", "two"]);
    let ours = native.embed(&embed).unwrap().vectors;
    assert_eq!(wait(worker.embed(embed)).unwrap().vectors, ours);
    let ranks = RerankRequest::new("one", ["two"]);
    let ours = Failure::from(native.rerank(&ranks).unwrap_err());
    assert_eq!(wait(worker.rerank(ranks)).unwrap_err(), ours);
    let tokens = wait(worker.tokenize("Hello".into(), Default::default(), None)).unwrap();
    assert_eq!(wait(worker.detokenize(tokens, None)).unwrap(), "Hello");
    request.n = 1;
    let prompt = wait(worker.prompt_tokens(request.clone())).unwrap();
    assert_eq!(prompt, native.prompt_tokens(&request).unwrap());
    assert!(wait(worker.gauges()).unwrap().generated_tokens >= 60);
}

#[test]
fn what_the_engine_refuses_is_refused() {
    let worker = demo();
    let mut bad = request("hi", 3, 0.0);
    bad.sampling.top_p = 7.0;
    assert!(wait(worker.generate(bad)).unwrap_err().message.contains("top_p"));
    let long = request(&"word ".repeat(2000), 3, 0.0);
    let refused = wait(worker.generate(long)).unwrap_err();
    assert!(matches!(refused.cause, Some(Cause::ContextLength { .. })), "{refused:?}");
    let answer = Answer::fold(one(&worker, &request("hi", 3, 0.0))).unwrap();
    assert_eq!(answer.end, Some(EndReason::MaxTokens));
}

#[test]
fn a_model_that_cannot_be_loaded_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let missing = launch(ModelSource::File(folder.path().join("none.gguf")));
    let failure = Worker::start(missing).err().unwrap();
    assert!(failure.message.contains("no model file"), "{failure:?}");
    let broken = folder.path().join("broken.gguf");
    std::fs::write(&broken, b"GGUF nonsense").unwrap();
    assert!(Worker::start(launch(ModelSource::File(broken))).is_err());
    let nothing = Launch { program: "/no/such/program".into(), ..launch(ModelSource::Demo) };
    let failure = Worker::start(nothing).err().unwrap();
    assert!(failure.message.contains("cannot start"), "{failure:?}");
    let other = Launch { program: "/bin/true".into(), ..launch(ModelSource::Demo) };
    assert!(Worker::start(other).err().unwrap().message.contains("again and again"));
}

#[test]
fn streams_go_on_where_they_were_after_a_kill() {
    let native = Native::load(&ModelSource::Demo, &options()).unwrap();
    let worker = demo();
    let ask = |i: u64| {
        let mut ask = request("Tell me a long story about a ship.", 160, 0.8);
        ask.sampling.seed = Some(i);
        ask
    };
    let alone = |i| Answer::fold(native.generate(&ask(i)).unwrap()).unwrap();
    let streams: Vec<Events> = (0..16).map(|i| one(&worker, &ask(i))).collect();
    let heard = Arc::new(AtomicUsize::new(0));
    let read = |events: Events| {
        let heard = heard.clone();
        let count = move |_: &Event| {
            heard.fetch_add(1, Ordering::Relaxed);
        };
        std::thread::spawn(move || Answer::fold(events.inspect(count)))
    };
    let readers: Vec<_> = streams.into_iter().map(read).collect();
    for i in 1..8 {
        while heard.load(Ordering::Relaxed) < i * 200 {
            std::thread::sleep(Duration::from_millis(1));
        }
        kill(&worker, "-9");
    }
    for (i, reader) in readers.into_iter().enumerate() {
        let (answer, alone) = (reader.join().unwrap().unwrap(), alone(i as u64));
        assert_eq!(answer.text, alone.text, "{i}");
        assert_eq!((answer.tokens, answer.end), (alone.tokens, alone.end));
        assert_eq!(answer.usage.generated_tokens, 160);
    }
    assert!(worker.restarts() >= 5, "the kills came too late");
    assert_eq!(worker.health(), Health::Ready);
}

#[test]
fn calls_survive_a_kill_and_a_stopped_process_is_replaced() {
    let patience = Patience { silence: Duration::from_secs(2), ..Patience::default() };
    let worker = Worker::start(Launch { patience, ..launch(ModelSource::Demo) }).unwrap();
    kill(&worker, "-9");
    let embed = EmbedRequest::new(["one"]);
    assert_eq!(wait(worker.embed(embed)).unwrap().vectors.len(), 1);
    let before = worker.pid();
    kill(&worker, "-STOP");
    let tokens = wait(worker.tokenize("Hello".into(), Default::default(), None)).unwrap();
    assert!(!tokens.is_empty());
    assert_ne!(worker.pid(), before);
}

#[test]
fn a_request_that_kills_every_process_is_given_up_with_one_error() {
    let worker = demo();
    let mut events = one(&worker, &request("Tell me a story.", 400, 0.8));
    let start = Instant::now();
    // Kill before anything is said again: no process gets further.
    let failure = loop {
        kill(&worker, "-9");
        match events.next() {
            Some(Event::Error(failure)) => break Some(failure),
            Some(event) if event.is_last() => break None,
            _ => {}
        }
        assert!(start.elapsed() < Duration::from_secs(60));
    };
    let crashed = |f: &Failure| f.cause == Some(Cause::Crashed);
    assert!(failure.as_ref().is_none_or(crashed), "{failure:?}");
    assert_eq!(events.next(), None);
}

#[test]
fn dropping_an_answer_frees_it_and_dropping_the_worker_ends_its_process() {
    let worker = demo();
    let mut events = one(&worker, &request("Tell me a story.", 450, 0.8));
    assert!(events.next().is_some());
    drop(events);
    let start = Instant::now();
    while wait(worker.gauges()).unwrap().running > 0 {
        assert!(start.elapsed() < Duration::from_secs(2), "it still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = worker.pid().unwrap();
    let open = one(&worker, &request("Tell me a story.", 450, 0.8));
    worker.stop();
    assert!(matches!(open.last(), Some(Event::Error(_))));
    assert!(wait(worker.generate(request("hi", 3, 0.0))).is_err());
    drop(worker);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

/// A request whose prompt takes long to be made.
fn slow() -> Request {
    let loops =
        "{% for i in range(2000) %}{% for j in range(2000) %}{{ '' }}{% endfor %}{% endfor %}";
    let messages = (0..40).map(|i| Message::user(format!("{i}"))).collect();
    let mut chat = Chat { messages, ..Chat::default() };
    chat.template = Some(loops.into());
    Request { input: Input::Messages(chat), ..request("", 1, 0.0) }
}

#[test]
fn prompts_that_take_long_to_be_made_keep_nobody_waiting() {
    let worker = demo();
    let mut context = Context::from_waker(Waker::noop());
    let mut renderings: Vec<_> = (0..6).map(|_| worker.generate(slow())).collect();
    assert!(renderings.iter_mut().all(|later| later.as_mut().poll(&mut context).is_pending()));
    for _ in 0..3 {
        let start = Instant::now();
        let answer = Answer::fold(one(&worker, &request("Hi", 3, 0.0))).unwrap();
        assert_eq!(answer.tokens.len(), 3);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
    let open = renderings.iter_mut().map(|later| later.as_mut().poll(&mut context).is_pending());
    assert!(open.filter(|is_open| *is_open).count() > 2, "they were not long");
}

#[test]
fn what_nobody_wants_keeps_nobody_waiting() {
    let worker = demo();
    // Polled once, they are under way: renderings that fill all desks, and more texts than are soon read.
    let mut context = Context::from_waker(Waker::noop());
    let mut renderings: Vec<_> = (0..12).map(|_| worker.generate(slow())).collect();
    assert!(renderings.iter_mut().all(|later| later.as_mut().poll(&mut context).is_pending()));
    let texts = (0..50_000).map(|i| format!("text {i}"));
    let mut vectors = worker.embed(EmbedRequest::new(texts));
    assert!(vectors.as_mut().poll(&mut context).is_pending());
    std::thread::sleep(Duration::from_millis(100));
    drop(renderings);
    let start = Instant::now();
    let answer = Answer::fold(one(&worker, &request("Hi", 3, 0.0))).unwrap();
    assert_eq!(answer.tokens.len(), 3);
    // A small request for vectors does not wait for the large one.
    let small = wait(worker.embed(EmbedRequest::new(["one"]))).unwrap();
    assert_eq!(small.vectors.len(), 1);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(vectors.as_mut().poll(&mut context).is_pending());
    drop(vectors);
    let start = Instant::now();
    while wait(worker.gauges()).unwrap().waiting > 0 {
        assert!(start.elapsed() < Duration::from_secs(2), "they still wait");
        std::thread::sleep(Duration::from_millis(5));
    }
}
