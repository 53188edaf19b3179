//! Names, manifests and links that want to lead out of the store.

use oprel_api::ollama::Place;

use super::*;

#[test]
fn names_that_are_paths_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let manifest = ours(&store, b"w", b"s");
    for part in ["..", ".", "", "/etc", "a/b", "a\\b", "a\0b", "\u{e9}", "-x", "C:"] {
        for which in 0..4 {
            let mut bad = name("h.example/n/m:t");
            match which {
                0 => bad.host = part.into(),
                1 => bad.namespace = part.into(),
                2 => bad.model = part.into(),
                _ => bad.tag = part.into(),
            }
            bad.place = Place::Unsaid;
            if bad.is_valid() {
                assert_eq!((which, part), (0, "C:"), "a port may follow a host");
                continue;
            }
            assert!(
                matches!(store.put_manifest(&bad, &manifest), Err(Error::Name { .. })),
                "{bad}"
            );
            assert!(matches!(store.model(&bad), Err(Error::Name { .. })), "{bad}");
            assert!(matches!(store.remove(&bad), Err(Error::Name { .. })), "{bad}");
            assert!(matches!(store.copy(&bad, &name("x")), Err(Error::Name { .. })), "{bad}");
        }
    }
    assert!(store.list().unwrap().models.is_empty());
}

#[test]
fn a_manifest_can_name_digests_alone() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    fs::write(place.path().join("secret"), "secret").unwrap();
    for digest in ["../../secret", "/etc/passwd", "sha256:../../secret", "sha256:", "sha512:00"] {
        let text = json!({"config": {"digest": digest, "size": 1}, "layers": [
            {"mediaType": image("system"), "digest": digest, "size": 6}]});
        write_at(&place.path().join("manifests/h/n/m/t"), &text.to_string());
        let listing = store.list().unwrap();
        assert!(listing.models.is_empty() && listing.broken.len() == 1, "{digest}");
        assert!(store.model(&name("h/n/m:t")).is_err());
    }
}

#[test]
fn manifests_that_are_none_are_told_and_stop_nothing() {
    let place = ollama_store();
    let store = open(&place);
    for text in ["", "null", "[]", "{}", "\0", "{\"layers\":[1]}", "{\"layers\":[{\"size\":-1}]}"] {
        write_at(&place.path().join("manifests/h/n/m/t"), text);
        let listing = store.list().unwrap();
        assert_eq!((listing.models.len(), listing.broken.len()), (1, 1), "{text}");
    }
    let deep = format!("{}{}", "{\"manifests\":[".repeat(5000), "]}".repeat(5000));
    write_at(&place.path().join("manifests/h/n/m/t"), &deep);
    assert_eq!(store.list().unwrap().broken.len(), 1);
}

#[cfg(unix)]
#[test]
fn links_that_lead_out_are_refused() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let place = ollama_store();
    let store = open(&place);

    let system = store.blob_path(&Digest::of(b"Be brief."));
    fs::remove_file(&system).unwrap();
    symlink(&secret, &system).unwrap();
    assert!(matches!(store.model(&name("llama3.2")), Err(Error::Outside { .. })));
    let damages = store.verify(&mut |_| {}).unwrap();
    assert!(damages.iter().any(|d| d.path == system), "{damages:?}");

    let theirs = ollama_store();
    symlink(
        theirs.path().join("manifests/registry.ollama.ai"),
        place.path().join("manifests/other"),
    )
    .unwrap();
    let linked = place.path().join("manifests/h/n/m/t");
    fs::create_dir_all(linked.parent().unwrap()).unwrap();
    symlink(theirs.path().join("manifests/registry.ollama.ai/library/llama3.2/latest"), &linked)
        .unwrap();
    let listing = store.list().unwrap();
    assert_eq!(listing.models.len(), 1, "a folder elsewhere holds nothing of this store");
    assert!(matches!(listing.broken[0].why, Error::Outside { .. }), "{listing:?}");
    store.remove(&name("h/n/m:t")).unwrap();
    assert!(theirs.path().join("manifests/registry.ollama.ai/library/llama3.2/latest").exists());
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_read() {
    let place = ollama_store();
    let store = open(&place);
    let path = store.blob_path(&Digest::of(b"Be brief."));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(store.model(&name("llama3.2")).is_err());
    fs::remove_dir(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    if made.is_ok_and(|status| status.success()) {
        assert!(store.model(&name("llama3.2")).is_err(), "and not waited for");
        assert_eq!(store.verify(&mut |_| {}).unwrap().len(), 1);
    }
}
