//! Ollama's protocol: manifests, blobs, proofs, uploads.

use oprel_api::ollama::ModelName;
use oprel_hub::fetch::{Error, Key};
use oprel_test_hub::{Content, Fault, Model, Role};

use crate::Place;

const LARGE: u64 = 700_000;

fn place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("id_ed25519");
    std::fs::write(&key, Key::new().expect("random").to_openssh()).expect("writable");
    let place = Place::at(folder, |settings| {
        settings.part_bytes = Some(128 << 10);
        settings.streams = 2;
        settings.keys = vec![key];
    });
    place.hub.add_model("library/tiny:latest", model());
    place
}

fn model() -> Model {
    Model::new("{\"model_format\":\"gguf\",\"model_family\":\"llama\"}")
        .with("model", Content::made(11, LARGE))
        .with("template", Content::kept("{{ .Prompt }}"))
        .with("license", Content::kept("x".repeat(5000)))
}

fn name(place: &Place, model: &str) -> String {
    format!("{}/{model}", place.hub.url(Role::Registry))
}

#[test]
fn a_model_comes_as_the_registry_has_it() {
    let place = place();
    let name = name(&place, "library/tiny");
    let (found, told) = place.pull(&name);
    found.expect("it comes");
    let manifest = place.store().manifest(&name);
    assert_eq!(manifest, model().manifest());
    let layers = manifest["layers"].as_array().expect("layers");
    assert_eq!(place.store().layer(&layers[0]), Content::made(11, LARGE).all());
    place.store().layer(&manifest["config"]);
    let words: Vec<_> = told.iter().map(|status| status.status.as_str()).collect();
    assert_eq!((words[0], words[words.len() - 1]), ("pulling manifest", "success"));
    // The bytes of the manifest are what the model is named by.
    let path = place.store().manifest_path(&ModelName::parse(&name).expect("a name"));
    let bytes = std::fs::read(path).expect("it is there");
    assert_eq!(bytes, model().manifest().to_string().into_bytes());
}

#[test]
fn what_is_not_there_is_said_as_ollama_says_it() {
    let place = place();
    match place.pull(&name(&place, "library/none")).0 {
        Err(error @ Error::NoModel { .. }) => {
            assert_eq!(error.to_string(), "pull model manifest: file does not exist");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_private_model_wants_a_signature_and_parts_are_asked_without_one() {
    let place = place();
    place.hub.add_model("me/secret:latest", Model { is_private: true, ..model() });
    place.pull(&name(&place, "me/secret")).0.expect("the key opens it");
    let seen = place.hub.seen();
    assert!(seen.iter().any(|seen| seen.path.starts_with("/token?service=stand-in&scope=")));
    assert!(!seen.iter().any(|s| s.role == Role::Cdn && s.headers.contains_key("authorization")));
}

#[test]
fn a_proof_is_sent_to_no_other_host() {
    let place = place();
    let realm = Some("http://localhost:1/token".to_owned());
    place.hub.add_model("me/trap:latest", Model { is_private: true, realm, ..model() });
    match place.pull(&name(&place, "me/trap")).0 {
        Err(Error::Unauthorized { why, .. }) => assert!(why.contains("localhost:1"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_registry_without_tls_must_be_wanted() {
    let place = place();
    let name = ModelName::parse(&name(&place, "library/tiny")).expect("a name");
    let store = place.store();
    let found = place.runtime.block_on(place.fetcher.pull(&name, false, &store, &|_| {}));
    assert!(matches!(found, Err(Error::Insecure { .. })), "{found:?}");
    assert_eq!(place.hub.seen().len(), 0);
}

#[test]
fn a_manifest_that_names_no_digests_or_lies_about_sizes_is_refused() {
    let place = place();
    let text = "{\"layers\":[{\"digest\":\"sha256:../../x\",\"size\":1}]}";
    assert!(serde_json::from_str::<serde_json::Value>(text).is_ok());
    place.hub.fault(Role::Cdn, "/data", 0, 1, Fault::Short(10));
    place.pull(&name(&place, "library/tiny")).0.expect("a short answer is asked for again");
}

#[test]
fn an_interrupted_pull_fetches_only_what_is_missing() {
    let place = place();
    place.hub.fault(Role::Cdn, "/data", 4, 1000, Fault::Status(400, None));
    place.pull(&name(&place, "library/tiny")).0.expect_err("it breaks");
    let came = place.hub.sent();
    place.hub.heal();
    place.hub.forget();
    place.pull(&name(&place, "library/tiny")).0.expect("it comes");
    assert!(came > 200_000, "{came}");
    assert!(place.hub.sent() < LARGE + 10_000 - 200_000, "{}", place.hub.sent());
}

#[test]
fn what_is_pushed_is_what_is_pulled() {
    let place = place();
    let source = name(&place, "library/tiny");
    place.pull(&source).0.expect("it comes");
    let store = place.store();
    let parsed = ModelName::parse(&source).expect("a name");
    let manifest = std::fs::read(store.manifest_path(&parsed)).expect("it is there");
    // A file that the registry does not have yet.
    let own = Content::made(77, 3_000_000);
    let own_digest: oprel_hub::Digest = own.digest().parse().expect("a digest");
    std::fs::write(oprel_hub::fetch::Sink::blob_path(&store, &own_digest), own.all())
        .expect("writable");
    let mut value: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    value["layers"][0]["digest"] = own_digest.to_string().into();
    value["layers"][0]["size"] = own.size().into();
    let manifest = value.to_string().into_bytes();
    let target = ModelName::parse(&name(&place, "me/mine:v1")).expect("a name");
    let told = std::sync::Mutex::new(Vec::new());
    let tell =
        |status: oprel_hub::fetch::Status| told.lock().expect("not poisoned").push(status.status);
    let pushed = place.fetcher.push(&target, true, &manifest, &store, &tell);
    place.runtime.block_on(pushed).expect("it is taken");
    let told = told.into_inner().expect("not poisoned");
    assert_eq!(told.first().map(String::as_str), Some("retrieving manifest"));
    assert!(told.contains(&format!("pushing {}", &own.digest()[..12])), "{told:?}");
    assert_eq!(told[told.len() - 2..], ["pushing manifest", "success"]);
    let there = place.hub.model("me/mine:v1").expect("it is there");
    assert_eq!(there.manifest(), value);
    assert!(place.hub.has(own.digest()));
}
