//! A store as Ollama writes it, and as we write it; hostile ones; machines that stop.

mod crash;
mod garbage;
mod hostile;
mod hub;
mod verify;

use std::fs;
use std::path::Path;

use oprel_api::ollama::ModelName;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{Error, Layer, LayerKind, Manifest};

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

/// Writes a blob as Ollama does and gives its layer.
fn blob(root: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes);
    fs::create_dir_all(root.join("blobs")).unwrap();
    fs::write(root.join("blobs").join(digest.file_name()), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
}

fn image(kind: &str) -> String {
    format!("application/vnd.ollama.image.{kind}")
}

/// The manifest of a model with one of everything.
fn ollama_manifest(root: &Path, weights: &[u8]) -> String {
    let config = json!({"model_format": "gguf", "model_family": "llama", "model_families": ["llama"],
        "model_type": "3.2B", "file_type": "Q4_K_M", "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": []}});
    let config =
        blob(root, "application/vnd.docker.container.image.v1+json", config.to_string().as_bytes());
    let layers = [
        blob(root, &image("model"), weights),
        blob(root, &image("template"), b"{{ .Prompt }}"),
        blob(root, &image("system"), b"Be brief."),
        blob(root, &image("params"), br#"{"stop":["<|eot_id|>"],"temperature":0.6}"#),
        blob(root, &image("messages"), br#"[{"role":"user","content":"hi"}]"#),
        blob(root, &image("license"), b"MIT"),
        blob(root, &image("license"), b"Apache"),
    ];
    let mut text = json!({"schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": config, "layers": layers})
    .to_string();
    text.push('\n');
    text
}

fn write_at(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A store with one model, `llama3.2:latest`, as Ollama writes it.
fn ollama_store() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let text = ollama_manifest(place.path(), b"GGUF and so on");
    write_at(&place.path().join("manifests/registry.ollama.ai/library/llama3.2/latest"), &text);
    place
}

fn open(place: &TempDir) -> Store {
    Store::open(place.path(), Access::Write).unwrap()
}

/// A model of ours: weights and a system message.
fn ours(store: &Store, weights: &[u8], system: &[u8]) -> Manifest {
    let mut layers = Vec::new();
    for (kind, bytes) in [(LayerKind::Model, weights), (LayerKind::System, system)] {
        let blob = store.put_blob(bytes, None).unwrap();
        layers.push(Layer::new(kind, blob.digest, blob.size));
    }
    let config = store.put_blob(&b"{}"[..], None).unwrap();
    Manifest::new(Layer::new(LayerKind::Config, config.digest, config.size), layers)
}

#[test]
fn a_store_of_ollama_is_listed_and_read_in_place() {
    let place = ollama_store();
    let store = Store::open(place.path(), Access::Read).unwrap();
    let listing = store.list().unwrap();
    assert!(listing.broken.is_empty());
    let [entry] = listing.models.as_slice() else { panic!("{listing:?}") };
    assert_eq!(entry.name.to_string(), "llama3.2:latest");
    let path = place.path().join("manifests/registry.ollama.ai/library/llama3.2/latest");
    let bytes = fs::read(&path).unwrap();
    assert_eq!(entry.digest(), Some(Digest::of(&bytes)), "the digest is that of the very bytes");
    let model = store.model(&name("llama3.2")).unwrap();
    let weights = Digest::of(b"GGUF and so on");
    assert_eq!(model.files, [place.path().join("blobs").join(weights.file_name())]);
    assert_eq!(model.template.as_deref(), Some("{{ .Prompt }}"));
    assert_eq!(model.system.as_deref(), Some("Be brief."));
    assert_eq!(Value::Object(model.params), json!({"stop": ["<|eot_id|>"], "temperature": 0.6}));
    assert_eq!(model.messages[0].content, "hi");
    assert_eq!(model.licenses, ["MIT", "Apache"]);
    assert_eq!(model.config.model_type, "3.2B");
    assert_eq!(model.config.further["os"], "linux", "what is not known stays");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "nothing was made beside it");
}

#[test]
fn what_is_written_has_the_bytes_that_ollama_writes() {
    let place = tempfile::tempdir().unwrap();
    let text = ollama_manifest(place.path(), b"w");
    let read = Manifest::parse(text.clone().into_bytes()).unwrap();
    let again = Manifest::new(read.config().unwrap().clone(), read.layers().to_vec());
    assert_eq!(String::from_utf8(again.bytes().to_vec()).unwrap(), text);
    assert_eq!(again.digest(), read.digest());
}

#[test]
fn names_are_found_in_any_case_and_shown_as_they_are_stored() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let manifest = ours(&store, b"w", b"s");
    store.put_manifest(&name("Mine/Bot:Big"), &manifest).unwrap();
    let found = store.find(&name("mine/bot:BIG")).unwrap().unwrap();
    assert_eq!(found.name.to_string(), "Mine/Bot:Big");
    store.put_manifest(&name("mine/bot:big"), &ours(&store, b"w2", b"s")).unwrap();
    assert_eq!(store.list().unwrap().models.len(), 1, "it took the place of the other");
    assert!(store.find(&name("mine/bot")).unwrap().is_none(), "another tag");
    let absent = store.model(&name("nobody")).unwrap_err();
    assert_eq!(absent.to_string(), "model 'nobody:latest' not found");
}

#[test]
fn a_blob_is_what_it_was_asked_for_or_nothing() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let refused = store.put_blob(&b"other"[..], Some(Digest::of(b"this"))).unwrap_err();
    assert!(refused.to_string().starts_with("digest mismatch, expected \"sha256:"), "{refused}");
    assert_eq!(fs::read_dir(store.blobs()).unwrap().count(), 0);
    let put = store.put_blob(&b"this"[..], Some(Digest::of(b"this"))).unwrap();
    assert!(put.new && store.has(&put.digest));
    let unread = std::io::repeat(0).take(u64::MAX);
    assert!(!store.put_blob(unread, Some(put.digest)).unwrap().new, "it is not read again");
    use std::io::Read;
}

#[test]
fn a_manifest_waits_for_its_blobs() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let absent = Layer::new(LayerKind::Model, Digest::of(b"absent"), 6);
    let manifest = Manifest::new(Layer::new(LayerKind::Config, Digest::of(b"c"), 1), vec![absent]);
    let refused = store.put_manifest(&name("m"), &manifest).unwrap_err();
    assert!(matches!(refused, Error::Missing { .. }), "{refused}");
    assert!(store.list().unwrap().models.is_empty());
}

#[test]
fn a_copy_outlives_its_source_and_takes_what_nobody_shares_with_it() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    store.put_manifest(&name("a"), &ours(&store, b"weights", b"one")).unwrap();
    store.put_manifest(&name("b"), &ours(&store, b"weights", b"two")).unwrap();
    store.copy(&name("a"), &name("c")).unwrap();
    assert_eq!(store.remove(&name("a")).unwrap().files, 0, "the copy has all of it");
    assert_eq!(store.model(&name("c")).unwrap().system.as_deref(), Some("one"));
    let freed = store.remove(&name("C")).unwrap();
    assert_eq!((freed.files, freed.bytes), (1, 3), "its system message alone");
    assert_eq!(store.model(&name("b")).unwrap().files.len(), 1);
    assert!(matches!(store.remove(&name("c")), Err(Error::NotFound { .. })), "the second time");
    assert!(matches!(store.copy(&name("c"), &name("d")), Err(Error::NotFound { .. })));
    store.remove(&name("b")).unwrap();
    assert_eq!(fs::read_dir(store.blobs()).unwrap().count(), 0);
    assert_eq!(
        fs::read_dir(place.path().join("manifests")).unwrap().count(),
        0,
        "no empty folders"
    );
}

#[test]
fn what_has_a_new_manifest_gives_back_its_old_files() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    store.put_manifest(&name("a"), &ours(&store, b"old", b"s")).unwrap();
    let freed = store.put_manifest(&name("a"), &ours(&store, b"new", b"s")).unwrap();
    assert_eq!(freed.bytes, 3);
    assert!(!store.has(&Digest::of(b"old")) && store.has(&Digest::of(b"new")));
}

#[test]
fn a_store_beside_is_read_and_never_changed() {
    let theirs = ollama_store();
    let place = tempfile::tempdir().unwrap();
    let places = Places {
        root: place.path().join("models"),
        beside: vec![theirs.path().into(), place.path().join("absent"), theirs.path().into()],
        prune: true,
        ..Places::default()
    };
    let store = Store::at(places, Access::Write).unwrap();
    let listing = store.list().unwrap();
    assert_eq!(listing.models.len(), 1);
    assert!(matches!(listing.models[0].kept, Kept::Beside(_)));
    assert!(matches!(store.remove(&name("llama3.2")), Err(Error::ReadOnly { .. })));
    store.copy(&name("llama3.2"), &name("own")).unwrap();
    fs::remove_dir_all(theirs.path().join("blobs")).unwrap();
    assert_eq!(store.model(&name("own")).unwrap().system.as_deref(), Some("Be brief."));
}

#[test]
fn a_file_comes_in_without_its_bytes_being_copied() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let file = place.path().join("model.gguf");
    fs::write(&file, b"weights").unwrap();
    let put = store.put_file(&file).unwrap();
    assert_eq!((put.digest, put.size), (Digest::of(b"weights"), 7));
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&file), inode(&store.blob_path(&put.digest)));
    }
    fs::remove_file(&file).unwrap();
    assert!(store.has(&put.digest));
    assert!(matches!(store.put_file(place.path()), Err(Error::NoFile { .. })));
}

#[test]
fn only_reading_makes_no_folders_and_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path().join("none"), Access::Read).unwrap();
    assert!(store.list().unwrap().models.is_empty());
    assert!(matches!(store.put_blob(&b"x"[..], None), Err(Error::ReadOnly { .. })));
    assert!(matches!(store.remove(&name("m")), Err(Error::ReadOnly { .. })));
    assert!(!place.path().join("none").exists());
}

#[cfg(unix)]
#[test]
fn the_newer_layout_is_read_and_goes_when_its_name_is_written() {
    let place = ollama_store();
    let store = open(&place);
    let text = ollama_manifest(place.path(), b"newer weights");
    let digest = Digest::of(text.as_bytes());
    fs::write(store.blob_path(&digest), &text).unwrap();
    let link = place.path().join("manifests-v2/ollama.com/library/llama3.2/latest");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    let up = Path::new("../../../../blobs").join(digest.file_name());
    std::os::unix::fs::symlink(up, &link).unwrap();
    let model = store.model(&name("llama3.2")).unwrap();
    assert_eq!(model.files, [store.blob_path(&Digest::of(b"newer weights"))]);
    assert_eq!(store.list().unwrap().models.len(), 1);
    let collected =
        store.collect(Grace { blobs: Default::default(), partials: Default::default() });
    assert!(
        matches!(collected.unwrap(), Collected::Done(freed) if freed.files == 0),
        "all is named"
    );
    store.put_manifest(&name("llama3.2"), &ours(&store, b"own weights", b"s")).unwrap();
    assert!(!link.exists());
    let model = store.model(&name("llama3.2")).unwrap();
    assert_eq!(model.files, [store.blob_path(&Digest::of(b"own weights"))]);
    assert!(!store.has(&digest) && !store.has(&Digest::of(b"GGUF and so on")));
}

#[test]
fn the_disk_use_tells_what_a_removal_gives() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    store.put_manifest(&name("a"), &ours(&store, b"weights", b"one")).unwrap();
    store.put_manifest(&name("b"), &ours(&store, b"weights", b"three")).unwrap();
    store.put_blob(&b"nobody's"[..], None).unwrap();
    let usage = store.usage().unwrap();
    assert_eq!((usage.named, usage.unnamed, usage.partial), (7 + 3 + 5 + 2, 8, 0));
    let of_a = usage.models.iter().find(|m| m.name == name("a")).unwrap();
    assert_eq!((of_a.alone, of_a.shared), (3, 9));
    assert_eq!(store.remove(&name("a")).unwrap().bytes, 3);
}

#[test]
fn many_writers_at_once_leave_a_whole_store() {
    let place = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let store = open(&place);
            scope.spawn(move || {
                for round in 0..8u8 {
                    let own = name(&format!("m{thread}"));
                    let manifest = ours(&store, b"shared", &[b'a' + thread, round]);
                    // Another's removal may take the shared weights in between: then it is done again.
                    while let Err(why) = store.put_manifest(&own, &manifest) {
                        assert!(matches!(why, Error::Missing { .. }), "{why}");
                        ours(&store, b"shared", &[b'a' + thread, round]);
                    }
                    if round % 2 == 0 {
                        store.remove(&own).unwrap();
                    }
                }
            });
        }
    });
    let store = open(&place);
    assert_eq!(store.list().unwrap().models.len(), 4);
    assert!(store.verify(&mut |_| {}).unwrap().is_empty());
}
