//! What constraints cost: `cargo bench --bench constraint -- VOCABULARY.gguf ...`.
//!
//! For every vocabulary the time to make it searchable, and for every constraint the time to
//! compile it and to follow a text token by token: median and 99th percentile of the mask, of
//! taking a token, of forced tokens. Without a file it uses the demo model.

use std::path::Path;
use std::time::{Duration, Instant};

use oprel_api::{Constraint, GrammarSyntax};
use oprel_constraint::{Ahead, Gate, Matcher, Vocabulary};
use oprel_gguf::Gguf;
use oprel_tokenizer::Tokenizer;
use serde_json::{Value, json};

const GBNF: &str = r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"#;

const PROSE: &str = "The ferry leaves the northern harbour at half past six and, weather \
    permitting, reaches the island before eight. Passengers are asked to be at the pier ten \
    minutes early; bicycles travel free of charge, dogs on a lead do too. There is a small café \
    on the upper deck that sells coffee, rolls and yesterday's newspapers.";

fn main() {
    let files: Vec<String> = std::env::args().skip(1).filter(|a| a.ends_with(".gguf")).collect();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/demo/oprel-demo-q8_0.gguf");
    let files = if files.is_empty() { vec![demo.to_owned()] } else { files };
    for file in files {
        let gguf = Gguf::open(Path::new(&file)).expect("a model file");
        let tokenizer = Tokenizer::from_metadata(gguf.metadata()).expect("a vocabulary");
        let before = resident_mb();
        let (vocabulary, first) = timed(|| vocabulary(&tokenizer));
        let mb = resident_mb() - before;
        let best =
            (0..2).map(|_| timed(|| self::vocabulary(&tokenizer)).1).fold(first, Duration::min);
        let vocabulary = &vocabulary;
        let name = Path::new(&file).file_stem().unwrap_or_default().to_string_lossy();
        println!("\n{name}: {} tokens, made in {best:.1?}, {mb} MB", tokenizer.n_tokens());
        println!(
            "{}",
            [
                "constraint",
                "tokens",
                "forced",
                "compile",
                "fork",
                "mask p50",
                "p99",
                "max",
                "accept p50",
                "p99",
                "forced p50",
                "p99"
            ]
            .map(|t| format!("{t:>10}"))
            .join(" ")
        );
        for (name, constraint, text) in cases() {
            follow(vocabulary, &tokenizer, name, &constraint, &text);
        }
        beside(vocabulary, &tokenizer);
    }
}

fn vocabulary(tokenizer: &Tokenizer) -> std::sync::Arc<Vocabulary> {
    Vocabulary::new(tokenizer, tokenizer.n_tokens()).expect("it can be searched")
}

fn cases() -> Vec<(&'static str, Constraint, String)> {
    let document = json!({"title": "Ferry to the island", "date": "2031-05-17", "seats": 148,
        "price": 12.5, "tags": ["ferry", "island", "timetable"], "open": true,
        "stops": [{"name": "North pier", "minutes": 0}, {"name": "Lighthouse", "minutes": 41},
            {"name": "Island harbour", "minutes": 87}], "notes": PROSE});
    let compact = document.to_string();
    let pretty = serde_json::to_string_pretty(&document).expect("JSON");
    let text = json!({"type": "string"});
    let grammar = Constraint::Grammar { syntax: GrammarSyntax::Gbnf, text: GBNF.into() };
    let words = "(\\p{L}+|[0-9]+|[ ,.;:'’—-]+)+";
    vec![
        ("schema", Constraint::JsonSchema(schema()), compact.clone()),
        ("pretty", Constraint::JsonSchema(schema()), pretty),
        ("string", Constraint::JsonSchema(text), Value::from(PROSE).to_string()),
        ("object", Constraint::JsonObject, compact.clone()),
        ("gbnf", grammar, compact),
        ("regex", Constraint::Regex(words.into()), PROSE.into()),
    ]
}

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "title": {"type": "string", "maxLength": 80},
        "date": {"type": "string", "format": "date"},
        "seats": {"type": "integer", "minimum": 0, "maximum": 2000},
        "price": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 8},
        "open": {"type": "boolean"},
        "stops": {"type": "array", "items": {"type": "object", "properties": {
            "name": {"type": "string"}, "minutes": {"type": "integer"}},
            "required": ["name", "minutes"], "additionalProperties": false}},
        "notes": {"type": "string"}},
        "required": ["title", "date", "seats", "price", "tags", "open", "stops", "notes"],
        "additionalProperties": false})
}

/// Follows `text` token by token as an engine does: forced tokens are not sampled.
fn follow(
    vocabulary: &std::sync::Arc<Vocabulary>,
    tokenizer: &Tokenizer,
    name: &str,
    constraint: &Constraint,
    text: &str,
) {
    let compile = || Matcher::new(vocabulary, constraint).expect("it compiles");
    let (fresh, _) = timed(compile);
    let (_, compiled) = timed(compile);
    let (mut masks, mut accepts, mut forced_times) = (vec![], vec![], vec![]);
    let (mut n_tokens, mut n_forced) = (0, 0);
    let mut fork_time = Duration::ZERO;
    for _ in 0..5 {
        let (mut matcher, time) = timed(|| fresh.fork());
        fork_time = time;
        let mut at = 0;
        while at < text.len() && !matcher.is_complete() {
            let (forced, time) = timed(|| matcher.forced().expect("forced"));
            forced_times.push(time);
            let written: Vec<u8> =
                forced.iter().flat_map(|&t| vocabulary.bytes(t).to_vec()).collect();
            let forced = if text.as_bytes()[at..].starts_with(&written) { forced } else { vec![] };
            for &token in &forced {
                accepts.push(timed(|| matcher.accept(token).expect("it is forced")).1);
                at += vocabulary.bytes(token).len();
            }
            n_forced += forced.len();
            n_tokens += forced.len();
            if at >= text.len() || matcher.is_complete() {
                break;
            }
            let (_, time) = timed(|| matcher.allowed().expect("a mask").count());
            masks.push(time);
            let token = next_token(&mut matcher, tokenizer, &text[at..]);
            accepts.push(timed(|| matcher.accept(token).expect("it is allowed")).1);
            at += vocabulary.bytes(token).len();
            n_tokens += 1;
        }
    }
    let cells = [
        name.to_owned(),
        (n_tokens / 5).to_string(),
        (n_forced / 5).to_string(),
        format!("{compiled:.1?}"),
        format!("{fork_time:.1?}"),
        at(&mut masks, 50),
        at(&mut masks, 99),
        at(&mut masks, 100),
        at(&mut accepts, 50),
        at(&mut accepts, 99),
        at(&mut forced_times, 50),
        at(&mut forced_times, 99),
    ];
    println!("{}", cells.map(|cell| format!("{cell:>10}")).join(" "));
}

/// The tokenizer's next token if it is allowed, else the longest that is.
fn next_token(matcher: &mut Matcher, tokenizer: &Tokenizer, text: &str) -> u32 {
    let near = &text[..text.floor_char_boundary(64)];
    let mask = matcher.allowed().expect("a mask").clone();
    if let Some(&token) = tokenizer.tokenize_rest(near).first().filter(|&&t| mask.allows(t)) {
        return token;
    }
    let vocabulary = matcher.vocabulary();
    let fits = |token: &u32| {
        let bytes = vocabulary.bytes(*token);
        !bytes.is_empty() && text.as_bytes().starts_with(bytes)
    };
    let longest = mask.tokens().filter(fits).max_by_key(|&token| vocabulary.bytes(token).len());
    longest.expect("the text fits the constraint")
}

/// What handing a gate to the other thread and taking it back costs where the mask is known.
fn beside(vocabulary: &std::sync::Arc<Vocabulary>, tokenizer: &Tokenizer) {
    let ahead = Ahead::new().expect("a thread");
    let constraint = Constraint::JsonSchema(json!({"type": "string"}));
    let mut gate = Gate::from(Matcher::new(vocabulary, &constraint).expect("it compiles"));
    let mut times = Vec::new();
    for token in tokenizer.tokenize_rest(&Value::from(PROSE).to_string()) {
        if gate.accept(token).is_err() {
            break;
        }
        let pending = ahead.begin(gate);
        std::thread::sleep(Duration::from_millis(2));
        let (back, time) = timed(|| pending.finish().expect("it comes back"));
        times.push(time);
        gate = back;
    }
    println!(
        "taking back a gate that is done: {} p50, {} p99",
        at(&mut times, 50),
        at(&mut times, 99)
    );
}

/// Memory of this process in megabytes, 0 where the system does not say.
fn resident_mb() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
    kb.unwrap_or_default() / 1024
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = run();
    (value, start.elapsed())
}

/// A percentile of times.
fn at(times: &mut [Duration], percent: usize) -> String {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get(last * percent / 100).map_or_else(String::new, |time| format!("{time:.1?}"))
}
