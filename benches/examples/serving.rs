//! What the serving core promises, measured on one model, as JSON lines.
//!
//!     cargo run --release -p oprel-benches --example serving -- MODEL first-token FOLDER [TOKENS]
//!     cargo run --release -p oprel-benches --example serving -- MODEL beside [PROMPT] [STREAMS]
//!     cargo run --release -p oprel-benches --example serving -- MODEL constrained [TOKENS]
//!
//! `first-token`: a prompt that nobody has seen, the same from memory, and the same from a folder after
//! the model was loaded again. `beside`: gaps between tokens of running streams, undisturbed and while
//! a long prompt is read, and how long that prompt takes alone and beside them. `constrained`: time of a
//! token of free text and of JSON that a schema prescribes, in turns, medians of five.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use oprel::{Constraint, Event, Input, Model, ModelBuilder, Request, Sampling};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, usual: u32| args.get(i).map_or(Ok(usual), |n| n.parse());
    match (args.first(), args.get(1).map(String::as_str)) {
        (Some(model), Some("first-token")) => {
            let folder = args.get(2).ok_or("which folder?")?;
            first_token(model, folder, number(3, 4096)?)
        }
        (Some(model), Some("constrained")) => constrained(model, number(2, 128)?),
        (Some(model), Some("beside")) => beside(model, number(2, 8192)?, number(3, 4)?),
        _ => Err(
            "serving MODEL first-token FOLDER [TOKENS] | serving MODEL beside [PROMPT] [STREAMS] | serving MODEL constrained [TOKENS]"
                .into(),
        ),
    }
}

fn load(model: &str, context: u32) -> ModelBuilder {
    Model::builder(oprel::ModelSource::File(model.into())).context(context).threads(2)
}

fn prompt(tokens: u32, salt: u32) -> Vec<u32> {
    (0..tokens).map(|i| (i * 7919 + salt * 104_729) % 30_000 + 10).collect()
}

fn request(tokens: Vec<u32>, n: u32) -> Request {
    let mut request = Request::new(Input::Tokens(tokens));
    request.sampling = Sampling::greedy();
    request.limits.max_tokens = Some(n);
    request.ignore_end = true;
    request.speculate = false;
    // A piece of text may stand for several tokens: probabilities bring one with each.
    request.logprobs = Some(0);
    request
}

/// Seconds to the first token, and how many of the prompt were found.
fn time_first(model: &Model, tokens: &[u32]) -> Result<(f64, u32)> {
    let start = Instant::now();
    let answer = model.generate(request(tokens.to_vec(), 1))?.answer()?;
    Ok((start.elapsed().as_secs_f64(), answer.usage.cached_tokens))
}

fn first_token(model: &str, folder: &str, n: u32) -> Result<()> {
    let tokens = prompt(n, 1);
    let loaded = load(model, n + 64).prompt_cache(folder, 8 << 30).load()?;
    time_first(&loaded, &prompt(64, 9))?;
    let cold = time_first(&loaded, &tokens)?;
    let memory = time_first(&loaded, &tokens)?;
    drop(loaded);
    let loaded = load(model, n + 64).prompt_cache(folder, 8 << 30).load()?;
    time_first(&loaded, &prompt(64, 9))?;
    let disk = time_first(&loaded, &tokens)?;
    for (name, (seconds, cached)) in [("cold", cold), ("memory", memory), ("disk", disk)] {
        let part = cold.0 / seconds;
        println!(
            r#"{{"first_token": "{name}", "s": {seconds:.4}, "cached": {cached}, "times_faster": {part:.1}}}"#
        );
    }
    Ok(())
}

/// Seconds of a token, not counting the first.
fn constrained(model: &str, n: u32) -> Result<()> {
    let loaded = load(model, n + 256).load()?;
    let schema = serde_json::json!({"type": "array", "minItems": 1000, "items": {"type": "object",
        "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
        "required": ["name", "size"]}});
    let time = |constraint: Option<Constraint>| -> Result<f64> {
        let mut request = Request { constraint, ..request(prompt(64, 3), n) };
        request.logprobs = None;
        let usage = loaded.generate(request)?.answer()?.usage;
        Ok(usage.decode_ns as f64 / 1e9 / f64::from(usage.generated_tokens.saturating_sub(1)))
    };
    let (mut free, mut held) = (Vec::new(), Vec::new());
    time(Some(Constraint::JsonSchema(schema.clone())))?;
    for _ in 0..5 {
        free.push(time(None)?);
        held.push(time(Some(Constraint::JsonSchema(schema.clone())))?);
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (free, held) = (median(&mut free), median(&mut held));
    println!(r#"{{"free_s": {free:.5}, "constrained_s": {held:.5}, "times": {:.3}}}"#, held / free);
    Ok(())
}

/// When the tokens of a stream came, until nobody wants more.
fn ticks(stream: oprel::Stream, enough: &AtomicBool) -> Vec<Instant> {
    let mut at = Vec::new();
    for event in stream {
        if enough.load(Ordering::Relaxed) {
            break;
        }
        if let Event::Text(piece) | Event::Thinking(piece) = event {
            at.extend(piece.tokens.iter().map(|_| Instant::now()));
        }
    }
    at
}

fn beside(model: &str, n: u32, streams: u32) -> Result<()> {
    let loaded = load(model, n + 64).load()?;
    time_first(&loaded, &prompt(64, 9))?;
    let (alone, _) = time_first(&loaded, &prompt(n, 1))?;
    let enough = Arc::new(AtomicBool::new(false));
    let start = |made: u32| -> Result<Vec<_>> {
        let begin = |i: u32| loaded.generate(request(prompt(32, 20 + i), made));
        let begun = (0..streams).map(begin).collect::<std::result::Result<Vec<_>, _>>()?;
        let listen = |stream| {
            let enough = enough.clone();
            std::thread::spawn(move || ticks(stream, &enough))
        };
        Ok(begun.into_iter().map(listen).collect())
    };
    let quiet = gaps(start(400)?, None)?;
    let running = start(n)?;
    std::thread::sleep(Duration::from_secs(2));
    let from = Instant::now();
    let (together, _) = time_first(&loaded, &prompt(n, 2))?;
    let until = Instant::now();
    enough.store(true, Ordering::Relaxed);
    let disturbed = gaps(running, Some((from, until)))?;
    let at = |gaps: &[f64], share: f64| gaps[((gaps.len() - 1) as f64 * share) as usize];
    println!(
        r#"{{"streams": {streams}, "prompt": {n}, "alone_s": {alone:.2}, "beside_s": {together:.2}, "times": {:.2}, "gap_p50": {:.4}, "gap_p99": {:.4}, "beside_p50": {:.4}, "beside_p99": {:.4}, "p99_over_p99": {:.2}}}"#,
        together / alone,
        at(&quiet, 0.5),
        at(&quiet, 0.99),
        at(&disturbed, 0.5),
        at(&disturbed, 0.99),
        at(&disturbed, 0.99) / at(&quiet, 0.99),
    );
    Ok(())
}

/// Gaps between tokens, sorted; of a time, if one is given.
fn gaps(
    streams: Vec<std::thread::JoinHandle<Vec<Instant>>>,
    within: Option<(Instant, Instant)>,
) -> Result<Vec<f64>> {
    let mut gaps = Vec::new();
    for stream in streams {
        let ticks = stream.join().map_err(|_| "a stream failed")?;
        let pairs = ticks.windows(2).skip(4);
        let wanted = pairs.filter(|w| within.is_none_or(|(a, b)| w[0] >= a && w[1] <= b));
        gaps.extend(wanted.map(|w| (w[1] - w[0]).as_secs_f64()));
    }
    gaps.sort_by(f64::total_cmp);
    if gaps.is_empty() { Err("no gaps".into()) } else { Ok(gaps) }
}
