//! `oprel chat` on a real terminal: a pseudo-terminal whose other end is this test, and from a pipe.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const PATIENCE: Duration = Duration::from_secs(30);

fn command(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("OPREL_HOME", home).env("OPREL_HOST", "127.0.0.1:1");
    command.env("TERM", "xterm").env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.current_dir(home);
    command
}

/// A chat on a terminal of its own.
struct Terminal {
    child: Child,
    keys: File,
    said: Receiver<Vec<u8>>,
    /// All that was written, and how much of it was looked at.
    screen: String,
    seen: usize,
}

impl Terminal {
    /// Starts a chat as the leader of a session: opening its first terminal, it gets it as its own, with
    /// the signals that its keys make.
    fn chat(home: &Path, args: &str, more: &[(&str, &str)]) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        // Held open until the child has it: a terminal without anybody is gone.
        let held = File::options().read(true).write(true).open(&slave).unwrap();
        let program = env!("CARGO_BIN_EXE_oprel");
        let script = format!("exec '{program}' {args} <'{slave}' >'{slave}' 2>'{slave}'");
        let mut command = command("setsid", home);
        command.args(["sh", "-c", &script]).envs(more.iter().copied());
        let child = command.stdin(Stdio::null()).spawn().expect("setsid of util-linux");
        let keys = File::from(master);
        let (say, said) = channel();
        let mut reader = keys.try_clone().unwrap();
        std::thread::spawn(move || {
            let _held = held;
            let mut bytes = [0; 4096];
            while let Ok(n) = reader.read(&mut bytes) {
                if n == 0 || say.send(bytes[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal { child, keys, said, screen: String::new(), seen: 0 }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until a text comes; what came before it.
    fn until(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.screen[self.seen..].find(text) {
                let before = self.screen[self.seen..self.seen + at].to_string();
                self.seen += at + text.len();
                return before;
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            match self.said.recv_timeout(left) {
                // The editor moves the cursor between letters; the letters matter.
                Ok(bytes) => self.screen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{text:?} does not come after {:?}", &self.screen[self.seen..])
                }
                Err(RecvTimeoutError::Disconnected) => panic!("it ended: {:?}", self.screen),
            }
        }
    }

    /// Waits until it asks again.
    fn prompt(&mut self) -> String {
        let before = self.until(">>> ");
        // Keys that come before the editor listens are the terminal's: they would make signals.
        std::thread::sleep(Duration::from_millis(50));
        before
    }

    fn ended(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "it does not end: {:?}", self.screen);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A regular expression makes an answer that would not end by itself.
const ENDLESS: &str = "chat demo --regex '(ab|ba){3000}' --nowordwrap --seed 1";

#[test]
fn an_interrupt_stops_the_answer_and_the_chat_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::chat(home.path(), ENDLESS, &[]);
    terminal.prompt();
    terminal.press("Go on and on\r");
    terminal.until("abba");
    terminal.press("\x03");
    let start = Instant::now();
    let rest = terminal.until("(stopped)");
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    assert!(rest.len() < 6000, "it was not stopped");
    terminal.prompt();
    // At the prompt, it takes back what was typed.
    terminal.press("half a line\x03");
    terminal.until("(Ctrl-D or /bye to leave)");
    terminal.prompt();
    terminal.press("/set noformat\r");
    terminal.prompt();
    terminal.press("What is oprel?\r");
    let answer = terminal.prompt();
    assert!(answer.contains("oprel") && answer.len() > 30, "{answer}");
    terminal.press("\x04");
    assert_eq!(terminal.ended(), Some(0));
}

#[test]
fn an_interrupt_ends_a_program_that_is_still_loading() {
    let home = tempfile::tempdir().unwrap();
    // A server that takes a connection and says nothing is waited for, but not against the user's will.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let mut terminal = Terminal::chat(home.path(), "chat demo", &[("OPREL_HOST", &host)]);
    terminal.until("loading the model");
    terminal.press("\x03");
    assert_eq!(terminal.ended(), Some(130));
}

#[test]
fn several_lines_history_and_settings_on_a_terminal() {
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::chat(home.path(), "chat demo --temperature 0", &[]);
    terminal.prompt();
    // Typed ahead of the prompts.
    terminal.press("\"\"\"What is\roprel?\"\"\"\r/set system be brief\r/show system\r");
    terminal.prompt();
    terminal.prompt();
    assert!(terminal.prompt().contains("be brief"));
    terminal.press("/quit\r");
    assert_eq!(terminal.ended(), Some(0));
    let file = home.path().join("history");
    let history = std::fs::read_to_string(&file).unwrap();
    assert_eq!(history.lines().next(), Some("\"\"\"What is\\noprel?\"\"\""), "{history}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // The next one has it: the key for the line before brings it back.
    let mut terminal = Terminal::chat(home.path(), "run demo", &[]);
    terminal.prompt();
    terminal.press("\x1b[A\x1b[A");
    terminal.until("/show system");
    terminal.press("\r");
    assert!(terminal.prompt().contains("no system prompt"));
    terminal.press("/bye\r");
    assert_eq!(terminal.ended(), Some(0));
    let kept = std::fs::read_to_string(&file).unwrap().len();
    let mut terminal = Terminal::chat(home.path(), "chat", &[("OPREL_NOHISTORY", "1")]);
    terminal.prompt();
    terminal.press("/show system\r");
    terminal.prompt();
    terminal.press("/exit\r");
    assert_eq!(terminal.ended(), Some(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap().len(), kept);
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let home = tempfile::tempdir().unwrap();
    let thinks = "run demo 'What is oprel?' --think --temperature 0";
    let screen = |more: &[(&str, &str)]| {
        let mut terminal = Terminal::chat(home.path(), thinks, more);
        let thought = terminal.until("...done thinking.");
        terminal.ended();
        thought
    };
    assert!(screen(&[]).contains("Thinking...\r\n\x1b[2m"));
    assert!(!screen(&[("NO_COLOR", "1")]).contains("\x1b[2m"));
    assert!(!screen(&[("TERM", "dumb")]).contains("\x1b[2m"));
}

/// What a chat says whose lines come from a pipe: output, messages, exit code.
fn piped(home: &Path, lines: &str) -> (String, String, Option<i32>) {
    let mut child = command(env!("CARGO_BIN_EXE_oprel"), home)
        .args(["chat", "demo", "--temperature", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

#[test]
fn a_chat_from_a_pipe_has_answers_alone_on_its_output() {
    let home = tempfile::tempdir().unwrap();
    let (out, err, code) = piped(home.path(), "What is oprel?\n\n");
    assert_eq!((err.as_str(), code), ("", Some(0)));
    assert!(out.starts_with("oprel ") && !out.contains(">>>") && !out.contains('\x1b'), "{out:?}");
    let (_, err, code) = piped(home.path(), "/what\nWhat is oprel?\n");
    assert_eq!(code, Some(2));
    assert!(err.contains("'/what' is no command"), "{err}");
    assert!(!home.path().join("history").exists(), "only what is typed is remembered");
}

#[test]
fn a_reader_that_has_enough_ends_a_chat_without_a_complaint() {
    let home = tempfile::tempdir().unwrap();
    let mut child = command(env!("CARGO_BIN_EXE_oprel"), home.path())
        .arg("chat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let _ = child.stdin.take().unwrap().write_all(&b"/?\n/show system\n".repeat(100));
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (String::from_utf8_lossy(&output.stderr).as_ref(), output.status.code()),
        ("", Some(0))
    );
}

#[test]
fn a_conversation_is_saved_and_gone_on_with() {
    let home = tempfile::tempdir().unwrap();
    let first = "/set parameter num_predict 6\n/set system Be brief.\nWhat is oprel?\n/save mine\n";
    let (_, err, code) = piped(home.path(), first);
    let file = home.path().join("chats/mine.json");
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains(&format!("saved to {}", file.display())), "{err}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let later = "/load mine\n/show modelfile\n/clear\n/show modelfile\n/reset\n/show modelfile\n";
    let (out, err, _) = piped(home.path(), later);
    let file = "FROM demo\nPARAMETER temperature 0\nPARAMETER num_predict 6\nSYSTEM \"\"\"Be brief.\"\"\"\n";
    assert_eq!(out, format!("{file}{file}FROM demo\nPARAMETER temperature 0\n"));
    assert!(err.contains("a conversation of 2 messages with demo"), "{err}");
    let (_, err, code) = piped(home.path(), "/save ../evil\n");
    assert_eq!(code, Some(2));
    assert!(err.contains("'../evil' cannot name a conversation"), "{err}");
    let (_, err, code) = piped(home.path(), "/load nowhere.gguf\n");
    assert_eq!(code, Some(3), "{err}");
    let (out, err, _) = piped(home.path(), "/show info\n/show license\n/? set\n/load demo\n");
    assert!(out.contains("architecture") && out.contains("dry_multiplier"), "{out}");
    assert!(err.contains("a new conversation with demo"), "{err}");
}
