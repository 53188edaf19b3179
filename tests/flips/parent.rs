//! Starting children and counting what came of their flips.

use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::child::{Asked, Task};

/// How long a flip may take: loading in debug builds on a busy machine, and then some.
const WITHIN: Duration = Duration::from_secs(30);
/// Failures that are shown of a case.
const SHOWN: usize = 20;

/// Bytes and what they are XORed with.
pub(crate) type Flips = Vec<(usize, u8)>;

fn all() -> bool {
    std::env::var_os("OPREL_FLIPS").is_some_and(|value| value == "all")
}

/// Each byte three times: two of its bits, which are others from byte to byte, and all of them.
pub(crate) fn every(range: Range<usize>) -> Flips {
    let masks = |at: usize| match all() {
        true => (0..8).map(|bit| 1 << bit).chain([0xff]).collect(),
        false => vec![1u8 << (at % 8), 1 << ((at + 3) % 8), 0xff],
    };
    range.flat_map(|at| masks(at).into_iter().map(move |mask| (at, mask))).collect()
}

/// Some bits of some bytes, the same ones every time.
pub(crate) fn sampled(range: Range<usize>, n: usize) -> Flips {
    if range.is_empty() {
        return Vec::new();
    }
    let n = if all() { 10 * n } else { n };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ range.len() as u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 8
    };
    (0..n).map(|_| (range.start + draw() as usize % range.len(), 1 << (draw() % 8))).collect()
}

/// Asks the model after each flip of `file`, and after none.
///
/// # Panics
/// If it does not answer unflipped, or a flip ends otherwise than with an answer or an error that says something.
pub(crate) fn check(what: &str, file: &Path, flips: &Flips, asked: &Asked) {
    let whole = std::fs::read(file).expect("it is there");
    let mut task = Task { file: file.into(), flips: flips.clone(), asked: asked.clone() };
    // Flipping nothing: what is asked is answered.
    task.flips.insert(0, (0, 0));
    let place = task.write();
    let (mut failures, mut answered) = (Vec::new(), 0);
    let mut next = 0;
    while next < task.flips.len() {
        let mut running = Running::start(&task, place.path(), next);
        let ended = loop {
            match running.lines.recv_timeout(WITHIN) {
                Ok(line) => match line.split_once(' ') {
                    Some(("at", at)) => next = at.parse().expect("a number"),
                    Some(("was", outcome)) => {
                        if next == 0 && outcome != "answered" {
                            failures.push(format!("nothing flipped: {outcome}"));
                        }
                        answered += usize::from(outcome == "answered");
                    }
                    _ => {}
                },
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    break Some("it hangs".to_owned());
                }
                Err(_) => break running.end(),
            }
        };
        if let Some(why) = ended {
            failures.push(format!("{:?}: {why}", task.flips[next]));
            std::fs::write(file, &whole).expect("writable");
        }
        next += 1;
    }
    std::fs::write(file, &whole).expect("writable");
    println!("{what}: {} flips, answered {answered}", flips.len());
    let n = failures.len();
    failures.truncate(SHOWN);
    assert!(n == 0, "{what}: {n} of {} failed\n{}", flips.len(), failures.join("\n"));
}

struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(task: &Task, place: &Path, from: usize) -> Running {
        let mut command = task.command(place, from);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let (sender, lines) = channel();
        let said = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Running { child, lines }
    }

    /// Why it ended, if not because it was done.
    fn end(&mut self) -> Option<String> {
        let mut said = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            let _ = errors.read_to_string(&mut said);
        }
        let status = self.child.wait().expect("it was started");
        let told: Vec<&str> = said.lines().filter(|line| !line.is_empty()).take(4).collect();
        (!status.success()).then(|| format!("{status}: {}", told.join(" | ")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
