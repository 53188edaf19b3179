//! A tool of a maker, asked with a deadline.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a tool may take: one that has to wake its driver needs a second or two.
const DEADLINE: Duration = Duration::from_secs(5);
/// How often it is looked whether it is done.
const LOOK: Duration = Duration::from_millis(10);
/// Most bytes of an answer.
const MOST: u64 = 1 << 20;

/// What a program says; `None` if there is none such, it fails, or does not answer in time.
pub(super) fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let output = child.stdout.take()?;
    // A pipe that nobody reads would keep the program from its end.
    let reader = thread::spawn(move || {
        let mut text = String::new();
        output.take(MOST).read_to_string(&mut text).ok().map(|_| text)
    });
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return reader.join().ok().flatten(),
            Ok(None) if start.elapsed() < DEADLINE => thread::sleep(LOOK),
            Ok(Some(_)) => return None,
            _ => {
                // It may be stuck in its driver: nothing more can be done about it.
                let _ = child.kill();
                let _ = child.try_wait();
                return None;
            }
        }
    }
}
