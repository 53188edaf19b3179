//! `oprel serve` with a certificate, and clients that trust it, or do not.
#![cfg(unix)]

mod daemon;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use daemon::{Server, oprel};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../oprel-tls/tests/certificates").join(name)
}

fn serve(cert: &str, key: &str) -> Result<Server, Output> {
    let [cert, key] = [cert, key].map(|name| file(name).display().to_string());
    daemon::start(&["--tls-cert", &cert, "--tls-key", &key], &[])
}

/// A command that is let to trust an authority.
fn run(server: &Server, args: &[&str], authority: &str) -> Output {
    let url = format!("https://{}", server.address);
    let mut command = oprel(server.home.path());
    command.env("OPREL_HOST", url).env("OPREL_TLS_CA", file(authority)).args(args);
    command.output().unwrap()
}

#[test]
fn clients_that_trust_the_certificate_are_answered_over_both_versions_of_http() {
    let server = serve("localhost.pem", "localhost.key").unwrap_or_else(|o| panic!("{o:?}"));
    let ask = ["run", "demo", "What is oprel?", "--temperature", "0", "-n", "8"];
    let there = run(&server, &ask, "authority.pem");
    assert_eq!(there.status.code(), Some(0), "{there:?}");
    assert!(!there.stdout.is_empty());
    let listed = run(&server, &["ps"], "authority.pem");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("demo:latest"), "{listed:?}");
    let stranger = run(&server, &["ps"], "localhost.pem");
    let said = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert!(!stranger.status.success() && said.contains("is not trusted"), "{said}");
    assert!(said.contains("OPREL_TLS_CA"), "{said}");
    // Where there is a curl, it speaks HTTP/2 with it.
    let url = format!("https://{}/api/version", server.address.replace("127.0.0.1", "localhost"));
    let curl = Command::new("curl")
        .args(["-sS", "--http2", "-w", " %{http_version}", "--cacert"])
        .arg(file("authority.pem"))
        .arg(&url)
        .output();
    match curl {
        Ok(curl) => assert!(String::from_utf8_lossy(&curl.stdout).ends_with(" 2"), "{curl:?}"),
        Err(error) => println!("skipped: no curl: {error}"),
    }
    // Who speaks no TLS gets nothing, and the server lives on.
    let mut plain = TcpStream::connect(&server.address).unwrap();
    plain.write_all(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("200 OK"));
    assert!(run(&server, &["ps"], "authority.pem").status.success());
}

#[test]
fn a_model_elsewhere_is_asked_over_tls_where_its_certificate_is_trusted() {
    let far = serve("localhost.pem", "localhost.key").unwrap_or_else(|o| panic!("{o:?}"));
    let place = format!("far=generic:https://{}/v1#demo:latest", far.address);
    let near = |authority: &str| {
        let authority = file(authority).display().to_string();
        let set = [("OPREL_TLS_CA", authority.as_str())];
        daemon::start(&["--no-socket", "--remote", &place], &set).unwrap()
    };
    let ask = r#"{"model":"far","stream":false,"options":{"num_predict":4},"messages":[{"role":"user","content":"hi"}]}"#;
    let trusting = near("authority.pem");
    for _ in 0..3 {
        let answer = trusting.post("/api/chat", ask);
        assert!(answer.contains("200 OK") && answer.contains("\"eval_count\":4"), "{answer}");
    }
    let answer = near("localhost.pem").post("/api/chat", ask);
    assert!(answer.contains("is not trusted") && answer.contains("OPREL_TLS_CA"), "{answer}");
}

#[test]
fn files_that_are_wrong_are_told_before_it_listens() {
    let said = |cert, key| {
        let failed = serve(cert, key).err().expect("it does not start");
        assert_eq!(failed.status.code(), Some(2));
        String::from_utf8(failed.stderr).unwrap()
    };
    assert!(said("none.pem", "localhost.key").contains("cannot read"));
    assert!(said("localhost.key", "localhost.key").contains("has no certificate"));
    assert!(said("authority.pem", "localhost.key").contains("cannot be used with the key"));
}
