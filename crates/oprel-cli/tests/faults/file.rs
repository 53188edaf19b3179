//! Files that are no models, and models whose files change while they are used.

use std::fs::OpenOptions;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::daemon::{demo_file, serve, turn};
use crate::http::ask;

#[test]
fn a_file_that_is_no_model_is_the_clients_mistake() {
    let _turn = turn();
    let daemon = serve(&[]);
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(demo_file(folder.path())).unwrap();
    let cases: [(&str, &[u8]); 6] = [
        ("empty", b""),
        ("text", b"this is no model\n"),
        ("head", b"GGUF\x03\0\0\0"),
        ("nonsense", b"GGUF nonsense nonsense nonsense nonsense"),
        ("half", &whole[..whole.len() / 2]),
        ("beginning", &whole[..5000]),
    ];
    let bodies = [
        ("/api/generate", json!({"prompt": "Hi"})),
        ("/api/show", json!({})),
        ("/api/embed", json!({"input": "Hi"})),
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "Hi"}]})),
        ("/load", json!({})),
    ];
    for (name, bytes) in cases {
        let path = folder.path().join(format!("{name}.gguf"));
        std::fs::write(&path, bytes).unwrap();
        for (route, body) in &bodies {
            let mut body = body.clone();
            body["model"] = json!(path.to_str().unwrap());
            body["stream"] = json!(false);
            let (status, said) = ask(&daemon.address, route, &body);
            assert_eq!(status, 400, "{name} at {route}: {said}");
        }
    }
    let folder_itself = json!({"model": folder.path().join("none.gguf"), "prompt": "Hi"});
    assert_eq!(ask(&daemon.address, "/api/generate", &folder_itself).0, 404);
    assert!(daemon.workers().is_empty(), "nothing is left of what did not load");
}

#[test]
fn a_model_whose_file_is_cut_fails_and_the_daemon_lives() {
    let _turn = turn();
    let daemon = serve(&[]);
    let folder = tempfile::tempdir().unwrap();
    let path = demo_file(folder.path());
    let whole = std::fs::read(&path).unwrap();
    let body = |stream: bool, seed: usize| {
        json!({"model": path.to_str().unwrap(), "prompt": "Once upon a time", "raw": true, "stream": stream,
            "options": {"num_predict": 20_000, "temperature": 2, "seed": seed}})
    };
    let mut open: Vec<_> = (0..4)
        .map(|seed| {
            let mut connection = daemon.connect();
            connection
                .send("POST", "/api/generate", body(true, seed).to_string().as_bytes())
                .unwrap();
            assert_eq!(connection.head().unwrap().status, 200);
            connection.line().unwrap();
            connection
        })
        .collect();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    for connection in &mut open {
        let rest = String::from_utf8(connection.rest().unwrap()).unwrap();
        let errors = rest.lines().filter(|line| line.contains("\"error\"")).count();
        let whole = rest.lines().filter(|line| line.contains("\"done\":true")).count();
        assert_eq!((errors, whole), (1, 0), "{}", rest.lines().last().unwrap_or_default());
    }
    let start = Instant::now();
    for route in ["/api/generate", "/api/show"] {
        let (status, said) = ask(&daemon.address, route, &body(false, 9));
        assert!((400..500).contains(&status), "{route}: {status} {said}");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "it was not tried again and again");
    assert_eq!(daemon.get("/api/ps").0, 200);
    daemon.soon("its process is gone", Duration::from_secs(10), |d| d.workers().is_empty());
    // Others are served meanwhile, and the model again when it is whole.
    let mut other = body(false, 1);
    (other["model"], other["options"]["num_predict"]) = (json!("demo"), json!(5));
    assert_eq!(ask(&daemon.address, "/api/generate", &other).0, 200);
    std::fs::write(&path, whole).unwrap();
    other["model"] = json!(path.to_str().unwrap());
    assert_eq!(ask(&daemon.address, "/api/generate", &other).0, 200);
}
