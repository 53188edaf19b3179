//! Several servers of one user, with one home: what one remembers, the others know.
#![cfg(unix)]

mod daemon;

use std::time::{Duration, Instant};

use daemon::Server;

/// What is said in a conversation, and the answer.
fn say(server: &Server, text: &str) -> String {
    let body = format!(
        r#"{{"model":"demo","conversation_id":"c","prompt":"{text}","stream":false,"options":{{"num_predict":4}}}}"#
    );
    server.post("/generate", &body)
}

#[test]
fn servers_that_start_at_one_moment_share_conversations() {
    let home = tempfile::tempdir().unwrap();
    let start = || {
        let set = [("OPREL_HOME", home.path().to_str().unwrap())];
        daemon::start(&["--no-socket"], &set).unwrap_or_else(|said| panic!("{said:?}"))
    };
    let mut servers: Vec<Server> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..3).map(|_| scope.spawn(start)).collect();
        starting.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for (at, server) in servers.iter().enumerate() {
        let answer = say(server, &format!("question {at}"));
        assert!(answer.contains("200 OK"), "{answer}");
        // An answer is appended when it is over, which its client need not wait for.
        let until = Instant::now() + Duration::from_secs(10);
        let version = format!("\"version\":{}", 2 * at + 2);
        while !server.fetch("/conversations/c").contains(&version) {
            assert!(Instant::now() < until, "{}", server.fetch("/conversations/c"));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    for server in &servers {
        let known = server.fetch("/conversations/c");
        assert!((0..3).all(|at| known.contains(&format!("question {at}"))), "{known}");
    }
    // One that is killed leaves the others at work.
    let mut killed = servers.remove(0);
    killed.signal("-KILL");
    killed.ended();
    let answer = say(&servers[0], "and now");
    assert!(answer.contains("200 OK"), "{answer}");
    assert!(servers[1].fetch("/conversations/c").contains("and now"));
}
