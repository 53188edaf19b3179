//! Models of the store: made, listed, shown, asked, copied and removed over HTTP.

use std::ops::ControlFlow;

use oprel_hub::Digest;
use oprel_tools::quantize::{FileType, Mix, Progress, QuantizeOptions, quantize};
use serde_json::{Value, json};

use super::{Reply, Running, running};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/oprel-demo-q8_0.gguf");

impl Running {
    /// Sends bytes as a blob of this digest.
    fn blob(&self, digest: &str, bytes: &[u8]) -> Reply {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        let (address, n) = (self.address, bytes.len());
        let head = format!(
            "POST /api/blobs/{digest} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {n}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(bytes);
        super::read_reply(stream)
    }

    /// A server whose store has the demo model as `base`.
    fn with_base() -> Running {
        let server = running();
        let bytes = std::fs::read(DEMO).unwrap();
        let digest = Digest::of(&bytes).to_string();
        assert_eq!(server.blob(&digest, &bytes).status, 201);
        assert_eq!(server.blob(&digest, &[]).status, 200, "it is there already");
        let made =
            server.post("/api/create", &json!({"model": "base", "files": {"m.gguf": digest}}));
        assert_eq!(made.status, 200, "{made:?}");
        assert_eq!(made.lines().last(), Some(&json!({"status": "success"})));
        server
    }

    fn blobs(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("models/blobs")).unwrap().count()
    }

    fn say(&self, model: &str) -> String {
        let reply = self.post(
            "/api/chat",
            &json!({"model": model, "stream": false, "options": {"temperature": 0},
                "messages": [{"role": "user", "content": "What is oprel?"}]}),
        );
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["message"]["content"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_model_is_made_listed_shown_and_asked() {
    let server = Running::with_base();
    let tags = server.get("/api/tags").json();
    let tag =
        tags["models"].as_array().unwrap().iter().find(|m| m["name"] == "base:latest").unwrap();
    assert_eq!(tag["details"]["family"], "llama");
    assert_eq!(tag["digest"].as_str().unwrap().len(), 64);
    assert!(tag["size"].as_u64().unwrap() > 1 << 20);
    assert_eq!(server.say("BASE"), server.say("demo"), "names differ in case alone");
    let shown = server.post("/api/show", &json!({"model": "base"})).json();
    assert_eq!(shown["details"]["quantization_level"], "Q8_0");
    assert!(
        shown["model_info"].is_object() && shown["modelfile"].as_str().unwrap().contains("FROM")
    );
    let listed = server.get("/v1/models").json();
    assert!(
        listed["data"].as_array().unwrap().iter().any(|m| m["id"] == "base:latest"),
        "{listed}"
    );
    assert_eq!(server.get("/v1/models/base").status, 200);
    let running = server.get("/api/ps").json();
    let is_base = |m: &&Value| m["name"].as_str().unwrap().eq_ignore_ascii_case("base:latest");
    let base = running["models"].as_array().unwrap().iter().find(is_base);
    assert_eq!(base.unwrap()["digest"], tag["digest"], "{running}");
}

#[test]
fn what_a_model_brings_with_it_counts() {
    let server = Running::with_base();
    let before = server.blobs();
    let made = server.post(
        "/api/create",
        &json!({"model": "own", "from": "base", "stream": false, "system": "You are terse.",
            "parameters": {"num_predict": 1, "temperature": 0, "stop": ["###"]},
            "template": "{{ if .System }}[{{ .System }}]{{ end }}{{ .Prompt }}>",
            "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
    );
    assert_eq!((made.status, made.json()), (200, json!({"status": "success"})));
    // The weights are shared: what is new are texts.
    assert!(server.blobs() > before && server.blobs() <= before + 6);
    let reply = server.post(
        "/api/chat",
        &json!({"model": "own", "stream": false, "messages": [{"role": "user", "content": "c"}]}),
    );
    let reply = reply.json();
    assert_eq!(
        (&reply["eval_count"], &reply["done_reason"]),
        (&json!(1), &json!("length")),
        "{reply}"
    );
    // `[You are terse.]a>bc>` has far fewer tokens than the file's own template makes.
    assert!(reply["prompt_eval_count"].as_u64().unwrap() < 16, "{reply}");
    let shown = server.post("/api/show", &json!({"model": "own"})).json();
    assert_eq!(shown["system"], "You are terse.");
    assert!(shown["template"].as_str().unwrap().contains(".Prompt"));
    let parameters = shown["parameters"].as_str().unwrap();
    assert!(parameters.contains("num_predict") && parameters.contains("###"), "{parameters}");
    assert_eq!(shown["messages"].as_array().map(Vec::len), Some(2));
    for part in ["SYSTEM", "PARAMETER", "TEMPLATE", "MESSAGE"] {
        assert!(shown["modelfile"].as_str().unwrap().contains(part), "{part}");
    }
    // Made again with another bound, it is another model at once.
    let again = json!({"model": "own", "from": "base", "stream": false,
            "parameters": {"num_predict": 2, "temperature": 0}});
    assert_eq!(server.post("/api/create", &again).status, 200);
    let reply = server.post(
        "/api/generate",
        &json!({"model": "own", "prompt": "Tell me a story.", "stream": false}),
    );
    assert_eq!(reply.json()["eval_count"], 2, "{reply:?}");
}

#[test]
fn a_copy_outlives_its_source() {
    let server = Running::with_base();
    let said = server.say("base");
    let copied = server.post("/api/copy", &json!({"source": "base", "destination": "ns/Other:v1"}));
    assert_eq!((copied.status, copied.body.as_str()), (200, ""));
    let delete =
        |name: &str| server.send("DELETE", "/api/delete", "", &json!({"model": name}).to_string());
    assert_eq!(delete("base").status, 200);
    assert_eq!(delete("base").status, 404);
    assert_eq!(server.say("ns/other:v1"), said);
    assert_eq!(delete("ns/other:V1").status, 200);
    assert_eq!(server.blobs(), 0, "nothing is left of the last name's files");
    let missing = server.post("/api/copy", &json!({"source": "gone", "destination": "x"}));
    assert_eq!(
        (missing.status, missing.json()),
        (404, json!({"error": "model \"gone\" not found"}))
    );
}

#[test]
fn the_built_in_model_is_one_to_begin_with_and_to_copy() {
    let server = running();
    let made = server.post(
        "/api/create",
        &json!({"model": "own", "from": "Demo", "stream": false, "parameters": {"num_predict": 3}}),
    );
    assert_eq!((made.status, made.json()), (200, json!({"status": "success"})));
    let copied = server.post("/api/copy", &json!({"source": "demo", "destination": "mine"}));
    assert_eq!((copied.status, copied.body.as_str()), (200, ""));
    assert_eq!(server.say("mine"), server.say("demo"));
    let said = json!({"model": "own", "prompt": "Tell me a story.", "stream": false});
    assert_eq!(server.post("/api/generate", &said).json()["eval_count"], 3);
    let weights = |model: &str| {
        let shown = server.post("/api/show", &json!({"model": model})).json();
        let text = shown["modelfile"].as_str().unwrap().to_owned();
        text.lines().find(|line| line.starts_with("FROM ")).unwrap().to_owned()
    };
    assert_eq!(weights("own"), weights("mine"), "they share its file");
    for source in ["/etc/passwd", "a b", ""] {
        let refused = server.post("/api/copy", &json!({"source": source, "destination": "x"}));
        assert_eq!(refused.status, 400, "{source}: {refused:?}");
    }
}

#[test]
fn blobs_are_what_they_are_called_or_are_not_taken() {
    let server = running();
    let digest = Digest::of(b"right").to_string();
    let wrong = server.blob(&digest, b"wrong");
    assert_eq!(wrong.status, 400, "{wrong:?}");
    assert!(wrong.body.contains("digest mismatch"), "{wrong:?}");
    assert_eq!(server.blobs(), 0);
    let head = |path: &str| server.send("HEAD", path, "", "").status;
    assert_eq!(head(&format!("/api/blobs/{digest}")), 404);
    assert_eq!(server.blob(&digest, b"right").status, 201);
    assert_eq!(head(&format!("/api/blobs/{}", digest.replace(':', "-"))), 200);
    assert_eq!(head("/api/blobs/sha256:zz"), 400);
    for hostile in ["..%2f..%2fetc%2fpasswd", "sha256:..%2f..%2fx", "%2e%2e"] {
        let status = head(&format!("/api/blobs/{hostile}"));
        assert!([400, 404].contains(&status), "{hostile}: {status}");
    }
}

#[test]
fn weights_are_quantized_on_their_way_in() {
    let server = running();
    let whole = server.folder.path().join("whole.gguf");
    let options = QuantizeOptions { allow_requantize: true, ..QuantizeOptions::default() };
    let go_on = &mut |_: &Progress<'_>| ControlFlow::Continue(());
    quantize(DEMO.as_ref(), &whole, Mix::Named(FileType::F16), &options, go_on).unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    let digest = Digest::of(&bytes).to_string();
    assert_eq!(server.blob(&digest, &bytes).status, 201);
    let files = json!({"m.gguf": digest});
    let made = server
        .post("/api/create", &json!({"model": "small", "files": files, "quantize": "q4_K_M"}));
    assert_eq!(made.status, 200, "{made:?}");
    let lines = made.lines();
    let is_bar = |line: &&Value| line["status"] == "quantizing F16 model to Q4_K_M";
    let bars: Vec<&Value> = lines.iter().filter(is_bar).collect();
    let last = bars.last().expect("progress");
    assert_eq!(last["digest"], "0".repeat(19));
    assert!(last["total"].as_u64() > Some(5_000_000) && last["total"] == last["completed"]);
    assert_eq!(lines.last(), Some(&json!({"status": "success"})));
    // The weights that it was made from are the client's: they stay, and are not the model's.
    let shown = server.post("/api/show", &json!({"model": "small"})).json();
    assert_eq!(shown["details"]["quantization_level"], "Q4_K_M");
    let tags = server.get("/api/tags").json();
    let tag = tags["models"].as_array().unwrap().iter().find(|m| m["name"] == "small:latest");
    let (size, capabilities) = (&tag.unwrap()["size"], &tag.unwrap()["capabilities"]);
    assert!(size.as_u64().unwrap() < bytes.len() as u64 / 2, "{tag:?}");
    assert_eq!(capabilities, &shown["capabilities"], "lists and details say the same");
    assert!(!server.say("small").is_empty());
    let same = server.post(
        "/api/create",
        &json!({"model": "same", "files": files, "quantize": "F16", "stream": false}),
    );
    assert_eq!((same.status, same.json()), (200, json!({"status": "success"})));
    let left = std::fs::read_dir(server.folder.path().join("models/blobs")).unwrap().flatten();
    assert!(left.map(|e| e.file_name()).all(|n| n.to_string_lossy().starts_with("sha256-")));
}

#[test]
fn what_cannot_be_made_says_why() {
    let server = Running::with_base();
    let refused = |mut body: Value| {
        body["stream"] = json!(false);
        let reply = server.post("/api/create", &body);
        (reply.status, reply.json()["error"].as_str().unwrap_or_default().to_owned())
    };
    let digest = Digest::of(b"no model").to_string();
    server.blob(&digest, b"no model");
    let cases = [
        (json!({"model": "x"}), 400, "neither 'from' or 'files' was specified"),
        (json!({"model": "x", "from": "gone"}), 404, "not found"),
        (json!({"model": "a b", "from": "base"}), 400, "invalid model name"),
        (json!({"model": "demo", "from": "base"}), 400, "invalid model name"),
        (json!({"model": "x", "files": {"../x": digest}}), 400, "invalid file name"),
        (json!({"model": "x", "files": {"x.gguf": "sha256:zz"}}), 400, "invalid digest"),
        (json!({"model": "x", "files": {"x.gguf": digest}}), 400, "not a GGUF file"),
        (json!({"model": "x", "from": "base", "parameters": {"top_k": "many"}}), 400, "top_k"),
        (json!({"model": "x", "from": "base", "quantize": "Q4_0"}), 400, "this one is Q8_0"),
        (json!({"model": "x", "from": "base", "quantize": "Q9"}), 400, "\"Q9\""),
        (json!({"model": "x", "from": "/etc/passwd"}), 400, "not a GGUF file"),
    ];
    for (body, status, part) in cases {
        let (got, error) = refused(body.clone());
        assert_eq!(got, status, "{body}: {error}");
        assert!(!error.is_empty() && error.contains(part), "{body}: {error}");
    }
    assert!(server.get("/api/tags").json()["models"].as_array().unwrap().len() == 2);
}
