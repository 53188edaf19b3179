//! What is seen from outside after all kinds of requests, in both formats, by Prometheus' own checker where there is
//! one (`promtool` on PATH, or named by `OPREL_PROMTOOL`).

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::daemon::{Daemon, serve, turn};
use crate::http::{Connection, ask};

/// `/metrics` as a reader that accepts this gets it.
fn metrics(daemon: &Daemon, accept: &str) -> String {
    let mut connection = Connection::open(&daemon.address).unwrap();
    let lines = format!("Accept: {accept}\r\n");
    connection.send_with("GET", "/metrics", &lines, b"").unwrap();
    let head = connection.head().unwrap();
    let kind = head.get("content-type").unwrap_or_default().to_string();
    assert!(kind.starts_with(accept.split(';').next().unwrap()), "{kind}");
    String::from_utf8(connection.rest().unwrap()).unwrap()
}

/// Requests that end in every way; how many reached a model.
fn requests(daemon: &Daemon) -> f64 {
    let story = json!({"model": "demo", "prompt": "Once", "raw": true, "stream": false,
        "options": {"num_predict": 8, "temperature": 0}});
    for _ in 0..3 {
        assert_eq!(ask(&daemon.address, "/api/generate", &story).0, 200);
    }
    let mut bad = story.clone();
    bad["options"]["top_p"] = json!(7);
    assert_eq!(ask(&daemon.address, "/api/generate", &bad).0, 400);
    let mut endless = story.clone();
    (endless["options"]["num_predict"], endless["stream"]) = (json!(100_000), json!(true));
    let mut leaver = daemon.connect();
    leaver.send("POST", "/api/generate", endless.to_string().as_bytes()).unwrap();
    leaver.head().unwrap();
    drop(leaver);
    assert_eq!(ask(&daemon.address, "/api/embed", &json!({"model": "demo", "input": "x"})).0, 200);
    daemon.soon("all have ended", Duration::from_secs(5), |d| {
        d.metric("oprel_requests_running", "") == 0.0
    });
    6.0
}

#[test]
fn metrics_are_well_formed_and_outcomes_sum_to_requests() {
    let _turn = turn();
    let daemon = serve(&[]);
    let asked = requests(&daemon);
    let of = |outcome: &str| daemon.metric("oprel_requests_total", outcome);
    assert_eq!(of(""), asked);
    let words = ["stop", "length", "cancelled", "rejected", "engine_error", "timeout"];
    let sum: f64 = words.iter().map(|w| of(&format!("outcome=\"{w}\""))).sum();
    assert_eq!(sum, asked);
    assert_eq!((of("cancelled"), of("rejected")), (1.0, 1.0));
    let open = metrics(&daemon, "application/openmetrics-text; version=1.0.0");
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE oprel_requests counter"));
    let classic = metrics(&daemon, "text/plain");
    assert!(classic.contains("# TYPE oprel_requests_total counter"), "{classic}");
    let program = std::env::var("OPREL_PROMTOOL").unwrap_or("promtool".into());
    let checker = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    match checker {
        Err(error) => {
            println!("skipped: no promtool on PATH, none named by OPREL_PROMTOOL: {error}")
        }
        Ok(mut checker) => {
            checker.stdin.take().unwrap().write_all(classic.as_bytes()).unwrap();
            let said = checker.wait_with_output().unwrap();
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            println!("promtool has nothing to say against {} lines", classic.lines().count());
        }
    }
}
