//! Conversations that two servers share, in a real Redis: `cargo test -p oprel-cli --features redis --test redis`.
//! The program is found on PATH or named by `OPREL_REDIS_SERVER`; without one the test says so and is skipped.
#![cfg(all(unix, feature = "redis"))]

mod daemon;

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use daemon::Server;
use serde_json::{Value, json};

/// A Redis that is killed at the end.
struct Running {
    child: Child,
    address: String,
    _home: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn redis(port: u16) -> Option<Running> {
    let program = std::env::var("OPREL_REDIS_SERVER").unwrap_or("redis-server".into());
    let home = tempfile::tempdir().unwrap();
    let child = Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(home.path())
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    let running = Running { child, address: format!("127.0.0.1:{port}"), _home: home };
    let start = Instant::now();
    while TcpStream::connect(&running.address).is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "Redis does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(running)
}

fn serve(redis: &str) -> Server {
    daemon::serve(&["--conversations", redis])
}

impl Server {
    fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let all = self.post_or_get(method, path, &body);
        let status = all.split(' ').nth(1).unwrap().parse().unwrap();
        let body = all.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or(json!(body)))
    }

    fn say(&self, id: &str, text: &str) -> (u16, Value) {
        let body = json!({"model": "demo", "conversation_id": id, "prompt": text, "stream": false,
            "options": {"num_predict": 4, "temperature": 0}});
        self.send("POST", "/generate", &body)
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, &Value::Null)
    }

    /// Waits until an answer was remembered: that happens after it was given.
    fn items(&self, id: &str, n: usize) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let (_, said) = self.get(&format!("/conversations/{id}"));
            let items = said["items"].as_array().cloned().unwrap_or_default();
            if items.len() >= n || start.elapsed() > Duration::from_secs(10) {
                return items;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn two_servers_share_conversations_and_live_without_them() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(store) = redis(port) else {
        println!("skipped: no redis-server on PATH, none named by OPREL_REDIS_SERVER");
        return;
    };
    let url = format!("redis://127.0.0.1:{port}/3");
    let (one, two) = (serve(&url), serve(&url));
    assert_eq!(one.say("shared", "Hello.").0, 200);
    assert_eq!(one.items("shared", 2).len(), 2);
    assert_eq!(two.say("shared", "What is oprel?").0, 200);
    let items = one.items("shared", 4);
    assert_eq!(items.len(), 4);
    assert_eq!(
        (&items[0]["message"]["content"], &items[2]["message"]["content"]),
        (&json!("Hello."), &json!("What is oprel?"))
    );
    assert_eq!(two.say("another", "Hi.").0, 200);
    let ids = |server: &Server, path: &str| -> Vec<String> {
        let list = server.get(path).1["conversations"].as_array().cloned().unwrap_or_default();
        list.iter().map(|head| head["id"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(ids(&one, "/conversations"), ["another", "shared"]);
    assert_eq!(ids(&one, "/conversations?after=another"), ["shared"]);
    assert_eq!(ids(&one, "/conversations?limit=1"), ["another"]);
    assert_eq!(two.send("DELETE", "/conversations/another", &Value::Null).0, 200);
    assert_eq!(one.get("/conversations/another").0, 404);

    // Without Redis only conversations fail, at once and with a reason.
    drop(store);
    let plain =
        json!({"model": "demo", "prompt": "Hi", "stream": false, "options": {"num_predict": 2}});
    for _ in 0..3 {
        let start = Instant::now();
        let (status, said) = one.say("shared", "Are you there?");
        assert_eq!(status, 503, "{said}");
        assert!(
            said["error"].as_str().unwrap().contains("conversations cannot be reached"),
            "{said}"
        );
        assert_eq!(one.get("/conversations").0, 503);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(one.send("POST", "/api/generate", &plain).0, 200);
        assert_eq!(one.send("POST", "/generate", &plain).0, 200, "no conversation is named");
        assert_eq!(one.get("/health").0, 200);
    }
    // When it is back, so are they: new ones, since this Redis kept nothing.
    let _store = redis(port).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(one.say("shared", "Hello again.").0, 200);
    assert_eq!(two.items("shared", 2).len(), 2);
}

#[test]
fn an_append_is_all_or_nothing_and_knows_what_it_follows() {
    use oprel_server::conversations::{Bounds, Error, Item, Shared, Store};
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(_store) = redis(port) else { return };
    let item =
        |text: &str| Item { message: oprel_api::Message::user(text), at: 1, incomplete: false };
    let at = |bounds| Shared::at(&format!("redis://127.0.0.1:{port}"), bounds).unwrap();
    let store = at(Bounds { messages: 3, ..Bounds::default() });
    let head = store.append("me", "a", 0, &[item("1"), item("2")]).unwrap();
    assert_eq!(head.version, 2);
    let late = store.append("me", "a", 0, &[item("3")]);
    assert!(matches!(late, Err(Error::Conflict { version: 2, .. })));
    let full = store.append("me", "a", 2, &[item("3"), item("4")]);
    assert!(matches!(full, Err(Error::Full { .. })));
    let (known, items) = store.get("me", "a").unwrap().unwrap();
    assert_eq!((known, items.len()), (head, 2));
    store.append("you", "a", 0, &[item("other")]).unwrap();
    assert!(store.delete("me", "a").unwrap() && !store.delete("me", "a").unwrap());
    assert_eq!(store.get("me", "a").unwrap(), None);
    assert!(store.get("you", "a").unwrap().is_some());
    let brief = at(Bounds { lasts: Duration::from_secs(1), ..Bounds::default() });
    brief.append("me", "b", 0, &[item("1")]).unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(brief.get("me", "b").unwrap(), None);
    assert!(brief.list("me", "", 9).unwrap().is_empty());
}
