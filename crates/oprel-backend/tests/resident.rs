//! What is planned against what is used: the resident memory of a process that loads a model and reads a
//! prompt of 4096 tokens; an encoder reads as many in texts as long as it can.
//!
//! `OPREL_RESIDENT="a.gguf b.gguf" cargo test --release -p oprel-backend --test resident -- --nocapture`
//! checks these files besides. The encoder of the shared fixtures is checked where they are. Each runs in a process of its own, since none gives back all it took.
#![cfg(target_os = "linux")]

use std::path::PathBuf;
use std::process::Command;

use oprel_api::{EmbedInput, EmbedRequest, Event, Input, Request, Sampling};
use oprel_backend::{LoadOptions, ModelSource, Native, needs};

/// Tells a process of this program which model it is for.
const MODEL: &str = "OPREL_RESIDENT_CHILD";
/// How far off a plan may be: bytes, or a part of what is used.
const MOST_OFF: (f64, f64) = (16.0 * 1048576.0, 0.03);
/// A plan counts the pages of `oprel` itself, of which this program has so many fewer, or not quite.
const SMALLER: f64 = 8.0 * 1048576.0;

/// Kilobytes that a line of the process's status says.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn child() {
    let Ok(name) = std::env::var(MODEL) else { return };
    let source = match name.as_str() {
        "demo" => ModelSource::Demo,
        path => ModelSource::File(PathBuf::from(path)),
    };
    let before = status("VmRSS");
    let tokens: u32 = if name == "demo" { 400 } else { 4096 };
    let kv = std::env::var("OPREL_RESIDENT_KV").unwrap_or_else(|_| "i16".into()).parse().unwrap();
    let options =
        LoadOptions { context: Some(tokens + 64), threads: Some(2), kv, ..LoadOptions::default() };
    let (needs, _) = needs(&source, &options).unwrap();
    let counted = status("VmRSS");
    let native = Native::load(&source, &options).unwrap();
    assert_eq!(native.memory().mapped, needs.memory.mapped);
    assert_eq!(native.memory().weights, needs.memory.weights);
    assert_eq!(native.memory().scratch, needs.memory.scratch);
    let loaded = status("VmRSS");
    // As spread over the vocabulary as a text can be.
    let most = u64::from(native.n_vocab().saturating_sub(1).max(1));
    let ids: Vec<_> = (0..u64::from(tokens)).map(|i| (i * 7919 % most) as u32).collect();
    match native.facts().pooling {
        None => answer(&native, ids),
        Some(_) => {
            let mut request = EmbedRequest::new([""]);
            // So many of the longest texts that it reads.
            let texts = ids.chunks(native.context() as usize);
            request.input = texts.map(|ids| EmbedInput::Tokens(ids.to_vec())).collect();
            assert_eq!(native.embed(&request).unwrap().usage.prompt_tokens, tokens);
        }
    }
    println!(
        "RESULT planned {} used {} | begin {before} counted {counted} loaded {loaded} anon {} file {} kB | \
         {:?} used {} decoded {} state {} threads {} vocabulary {} process {}",
        needs.expected(tokens + 4),
        status("VmRSS") * 1024,
        status("RssAnon"),
        status("RssFile"),
        needs.memory,
        needs.scratch,
        needs.decoded,
        needs.state(tokens + 4),
        needs.threads,
        needs.vocabulary,
        needs.process,
    );
}

/// Reads a prompt and says a few tokens more.
fn answer(native: &Native, ids: Vec<u32>) {
    let mut request = Request::new(Input::Tokens(ids));
    request.sampling = Sampling::greedy();
    request.limits.max_tokens = Some(4);
    request.ignore_end = true;
    for event in native.generate(&request).unwrap() {
        assert!(!matches!(event, Event::Error(_)), "{event:?}");
    }
}

/// Bytes planned and used, and all that the process said.
fn run(model: &str) -> (f64, f64, String) {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this)
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(MODEL, model)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| Some(line.split_once("RESULT ")?.1));
    let line = line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    let number = |name: &str| -> f64 {
        let mut words = line.split(' ').skip_while(|word| *word != name);
        words.nth(1).unwrap().parse().unwrap()
    };
    (number("planned"), number("used"), line.to_string())
}

#[test]
fn a_plan_is_what_is_used() {
    if std::env::var(MODEL).is_ok() {
        return;
    }
    let files = std::env::var("OPREL_RESIDENT").unwrap_or_default();
    let encoder =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures/all-minilm-l6-v2-q8_0.gguf");
    let encoder = Some(encoder).filter(|path| std::path::Path::new(path).exists());
    if encoder.is_none() {
        println!("skipped: ../shared/fixtures has no encoder");
    }
    let models = ["demo"].into_iter().chain(encoder).chain(files.split_whitespace());
    let mut wrong = Vec::new();
    for model in models {
        let (planned, used, line) = run(model);
        let off = planned - used;
        println!(
            "{model}: planned {:.1} MB, used {:.1} MB, off {:+.1} MB, {:+.2} %\n  {line}",
            planned / 1e6,
            used / 1e6,
            off / 1e6,
            100.0 * off / used
        );
        let most = MOST_OFF.0.max(MOST_OFF.1 * used);
        if off < -most || off > most + SMALLER {
            wrong.push(model.to_string());
        }
    }
    assert!(
        wrong.is_empty(),
        "off by more than 16 MB and 3 %, this program's size taken into account: {wrong:?}"
    );
}
