//! Bodies that are wrong, broken or hostile, for every route that takes one. They follow from a seed
//! (`OPREL_FAULTS_SEED`) and a number, so that what failed once fails again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bodies::{WRONG, usual};
use crate::daemon::{Daemon, count, serve, turn};
use crate::http::{Connection, ask};

/// Clients at a time.
const CLIENTS: usize = 4;
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Bytes of an answer that are read before the client leaves.
const MOST_READ: usize = 1 << 16;
/// How much memory may grow in the second half.
const MOST_GROWN: u64 = 32 << 20;

/// Dice that fall the same way each time.
struct Dice(u64);

impl Dice {
    fn new(seed: u64, case: usize) -> Dice {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (case as u64 + 1) << 20 | 1);
        (0..4).for_each(|_| _ = dice.roll());
        dice
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        (self.roll() % n.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Every place of a value, as a JSON pointer.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut go = |key: &str, inner: &Value| {
        let place = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        found.push(place.clone());
        places(inner, &place, found);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, inner)| go(key, inner)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, inner)| go(&i.to_string(), inner));
        }
        _ => {}
    }
}

/// The body with another text in a place, which need not be JSON.
fn with(dice: &mut Dice, body: &Value) -> String {
    const HOLE: &str = "hole-that-no-body-has";
    let mut all = Vec::new();
    places(body, "", &mut all);
    let mut body = body.clone();
    let at = dice.below(all.len());
    if let Some(place) = all.get(at).and_then(|place| body.pointer_mut(place)) {
        *place = json!(HOLE);
    }
    body.to_string().replace(&format!("\"{HOLE}\""), &wrong(dice))
}

/// A text that stands where another was expected.
fn wrong(dice: &mut Dice) -> String {
    match dice.below(WRONG.len() + 6) {
        0 => format!("\"{}\"", "a".repeat(dice.below(70_000))),
        1 => format!("{}{}", "[".repeat(20_000), "]".repeat(20_000)),
        2 => format!("{}1{}", "{\"a\":".repeat(5000), "}".repeat(5000)),
        3 => format!("[{}0]", "0,".repeat(dice.below(20_000))),
        4 => format!("[{}\"x\"]", "\"x\",".repeat(dice.below(2000))),
        5 => format!("{}", dice.roll() as i64 - (1 << 46)),
        n => WRONG[n - 6].to_string(),
    }
}

/// The body without one of its fields.
fn without(dice: &mut Dice, body: &Value) -> String {
    let mut all = Vec::new();
    places(body, "", &mut all);
    let mut body = body.clone();
    let at = dice.below(all.len());
    if let Some((parent, key)) = all.get(at).and_then(|place| place.rsplit_once('/')) {
        match body.pointer_mut(parent) {
            Some(Value::Object(fields)) => drop(fields.shift_remove(key)),
            Some(Value::Array(items)) => {
                if let Ok(at) = key.parse::<usize>() {
                    items.remove(at);
                }
            }
            _ => {}
        }
    }
    body.to_string()
}

/// The body broken as bytes.
fn mangled(dice: &mut Dice, body: &Value) -> Vec<u8> {
    let mut raw = body.to_string().into_bytes();
    let at = dice.below(raw.len());
    let insert = |raw: &mut Vec<u8>, at: usize, bytes: &[u8]| {
        raw.splice(at..at, bytes.iter().copied()).for_each(drop);
    };
    match dice.below(6) {
        0 => raw.truncate(at),
        1 => raw[at] = dice.roll() as u8,
        2 => {
            let bad: [&[u8]; 6] =
                [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\0", b"\\"];
            let bytes = dice.of(&bad);
            insert(&mut raw, at, bytes);
        }
        3 => {
            let twice: [&[u8]; 5] = [
                b"\"model\":\"none\",",
                b"\"MODEL\":1,",
                b"\"messages\":[],",
                b"\"stream\":false,",
                b"\"\":0,",
            ];
            let bytes = dice.of(&twice);
            insert(&mut raw, 1, bytes);
        }
        4 => raw.extend_from_slice(dice.of::<&[u8]>(&[b"}", b"x", b"{}", b"\0\0\0\0"])),
        _ => {
            let end = (at + dice.below(200)).min(raw.len());
            let piece = raw[at..end].to_vec();
            insert(&mut raw, at, &piece);
        }
    }
    raw
}

/// Route and body of a case.
fn case(seed: u64, n: usize, routes: &[(String, Value)]) -> (String, Vec<u8>) {
    let mut dice = Dice::new(seed, n);
    let (path, body) = &routes[n % routes.len()];
    let mut body = body.clone();
    if let Some(id) = body.get_mut("conversation_id") {
        // A conversation of eight turns.
        *id = json!(format!("fuzz-{}", n / routes.len() / 8));
    }
    let bytes = match dice.below(10) {
        0 => without(&mut dice, &body).into_bytes(),
        1..=3 => mangled(&mut dice, &body),
        4 => wrong(&mut dice).into_bytes(),
        5 => {
            let once: Value = serde_json::from_str(&with(&mut dice, &body)).unwrap_or_default();
            if once.is_object() { with(&mut dice, &once).into_bytes() } else { Vec::new() }
        }
        _ => with(&mut dice, &body).into_bytes(),
    };
    (path.clone(), bytes)
}

/// What came of a case. A client does not listen for ever.
fn tried(
    connection: &mut Option<Connection>,
    daemon: &Daemon,
    path: &str,
    body: &[u8],
) -> std::io::Result<(u16, Vec<u8>)> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => Connection::open(&daemon.address)?,
    };
    open.send("POST", path, body)?;
    let head = open.head()?;
    let (said, over) = open.some(MOST_READ)?;
    let stays = !head.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
    *connection = Some(open).filter(|_| over && stays);
    Ok((head.status, said))
}

#[test]
fn nonsense_is_refused_and_costs_nothing() {
    let _turn = turn();
    let daemon = serve(&[]);
    let seed = std::env::var("OPREL_FAULTS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    assert_eq!(ask(&daemon.address, "/load", &json!({"model": "demo"})).0, 200);
    let (n, routes) = (count(100_000, 2000), usual());
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (good, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let half = AtomicUsize::new(0);
    let start = Instant::now();
    let client = || {
        let mut connection = None;
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= n {
                return;
            }
            if at == n / 2 {
                half.store(daemon.resident() as usize, Ordering::Relaxed);
            }
            let (path, body) = case(seed, at, &routes);
            let begun = Instant::now();
            let answer = tried(&mut connection, &daemon, &path, &body);
            let shown = String::from_utf8_lossy(&body[..body.len().min(600)]).into_owned();
            let is_fine = answer.as_ref().is_ok_and(|(status, _)| (200..500).contains(status));
            if !is_fine || begun.elapsed() > LIMIT {
                stop.store(true, Ordering::Relaxed);
                panic!(
                    "case {at} of seed {seed}: {path} gave {answer:?} after {:?} of {shown}",
                    begun.elapsed()
                );
            }
            let kind = if answer.is_ok_and(|(status, _)| status < 300) { &good } else { &refused };
            kind.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        (0..CLIENTS).for_each(|_| drop(scope.spawn(client)));
    });
    let grown = daemon.resident().saturating_sub(half.into_inner() as u64);
    println!(
        "{n} bodies in {:?}: {} were good, {} were refused; {} MB more",
        start.elapsed(),
        good.into_inner(),
        refused.into_inner(),
        grown >> 20
    );
    daemon.soon("nothing goes on", Duration::from_secs(10), |d| d.sequences() == 0.0);
    assert!(grown < MOST_GROWN, "{} MB more", grown >> 20);
    assert_eq!(daemon.metric("oprel_backend_restarts_total", ""), 0.0, "a worker died");
    assert!(daemon.health() < Duration::from_secs(1));
}
