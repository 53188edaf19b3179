//! `oprel serve` started in the manner of systemd: with sockets that listen already, and somebody to be told.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Processes that a process started.
fn children(of: u32) -> Vec<u32> {
    let all = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let threads = std::fs::read_dir(format!("/proc/{of}/task")).unwrap().flatten();
    let by_thread = threads.filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok());
    let all = by_thread.fold(all, |all, one| format!("{all} {one}"));
    let mut pids: Vec<u32> = all.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// The sockets that a process has open.
fn sockets(of: u32) -> Vec<PathBuf> {
    let open = std::fs::read_dir(format!("/proc/{of}/fd")).unwrap().flatten();
    open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect()
}

#[test]
fn a_socket_that_was_handed_over_is_served_and_the_manager_is_told() {
    let home = tempfile::tempdir().unwrap();
    let told = UnixDatagram::bind(home.path().join("notify")).unwrap();
    told.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let hear = || {
        let mut text = [0; 64];
        let n = told.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..n]).into_owned()
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let socket = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
    // A client that comes before the server is there waits in the socket.
    let mut early = TcpStream::connect(address).unwrap();
    early.write_all(b"GET /api/version HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    // The shell makes standard input the third descriptor and says whose it is.
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve --threads 1 3<&0 </dev/null";
    let mut child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_oprel")])
        .env("OPREL_HOME", home.path())
        .env("NOTIFY_SOCKET", home.path().join("notify"))
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert_eq!(first, format!("oprel listens on http://{address}"));
    std::thread::spawn(move || lines.for_each(drop));
    assert_eq!(hear(), "READY=1");
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK") && answer.contains("version"), "{answer}");
    assert!(!home.path().join("run/oprel.sock").exists(), "it opens none of its own");
    let mut asks = TcpStream::connect(address).unwrap();
    let body = r#"{"model":"demo"}"#;
    let n = body.len();
    write!(asks, "POST /load HTTP/1.0\r\nHost: localhost\r\nContent-Length: {n}\r\n\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    asks.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
    let workers = children(child.id());
    assert_eq!(workers.len(), 1);
    assert!(sockets(child.id()).contains(&socket), "the server listens");
    assert!(!sockets(workers[0]).contains(&socket), "its worker does not");
    let environment = std::fs::read(format!("/proc/{}/environ", workers[0])).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("LISTEN_"));
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert_eq!(hear(), "STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
