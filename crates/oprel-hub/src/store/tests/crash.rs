//! The machine stops before any step: what was there stays, and what was coming is there whole or not at all.

use super::super::disk::stop_before;
use super::*;

/// Does something with the machine stopping after 0, 1, 2, ... steps, until it is done; calls `check` each time.
fn at_every_step(work: impl Fn(&Store) -> crate::Result<()>, check: impl Fn(&Store)) -> u32 {
    for n in 0.. {
        let place = tempfile::tempdir().unwrap();
        let store = open(&place);
        store.put_manifest(&name("kept"), &ours(&store, b"shared weights", b"kept")).unwrap();
        store.put_manifest(&name("old"), &ours(&store, b"shared weights", b"old")).unwrap();
        let incoming = ours(&store, b"new weights", b"new");
        assert!(incoming.size() > 0);
        stop_before(Some(n));
        let done = work(&store);
        stop_before(None);
        let again = open(&place);
        let kept = again.model(&name("kept")).unwrap();
        assert_eq!(kept.system.as_deref(), Some("kept"), "after {n} steps");
        let damages = again.verify(&mut |_| {}).unwrap();
        assert!(damages.is_empty(), "after {n} steps: {damages:?}");
        check(&again);
        // What is left over is garbage that goes, and then everything is as if it had been done at once.
        let grace = Grace { blobs: Default::default(), partials: Default::default() };
        assert!(matches!(again.collect(grace).unwrap(), Collected::Done(_)));
        for model in again.list().unwrap().models {
            again.model(&model.name).unwrap();
        }
        let usage = again.usage().unwrap();
        assert_eq!((usage.unnamed, usage.partial), (0, 0), "after {n} steps");
        if done.is_ok() {
            return n;
        }
    }
    unreachable!("it ends")
}

fn incoming(store: &Store) -> crate::Result<Manifest> {
    let mut layers = Vec::new();
    for (kind, bytes) in
        [(LayerKind::Model, &b"newest weights"[..]), (LayerKind::System, b"newest")]
    {
        let blob = store.put_blob(bytes, Some(Digest::of(bytes)))?;
        layers.push(Layer::new(kind, blob.digest, blob.size));
    }
    let config = store.put_blob(&b"{ }"[..], None)?;
    Ok(Manifest::new(Layer::new(LayerKind::Config, config.digest, config.size), layers))
}

#[test]
fn a_new_model_is_there_whole_or_not() {
    let steps = at_every_step(
        |store| store.put_manifest(&name("new"), &incoming(store)?).map(|_| ()),
        |store| {
            if store.find(&name("new")).unwrap().is_some() {
                let model = store.model(&name("new")).unwrap();
                assert_eq!(model.system.as_deref(), Some("newest"));
            }
            assert_eq!(store.model(&name("old")).unwrap().system.as_deref(), Some("old"));
        },
    );
    assert!(steps > 15, "{steps} steps");
}

#[test]
fn a_model_that_is_replaced_is_the_old_or_the_new() {
    at_every_step(
        |store| store.put_manifest(&name("old"), &incoming(store)?).map(|_| ()),
        |store| {
            let system = store.model(&name("old")).unwrap().system;
            assert!(["old", "newest"].contains(&system.as_deref().unwrap()), "{system:?}");
        },
    );
}

#[test]
fn a_model_that_is_removed_is_there_or_not() {
    at_every_step(
        |store| store.remove(&name("old")).map(|_| ()),
        |store| {
            if store.find(&name("old")).unwrap().is_some() {
                assert_eq!(store.model(&name("old")).unwrap().system.as_deref(), Some("old"));
            }
        },
    );
}

#[test]
fn a_copy_and_a_collection_stop_anywhere() {
    at_every_step(|store| store.copy(&name("old"), &name("copied")), |_| {});
    let grace = Grace { blobs: Default::default(), partials: Default::default() };
    at_every_step(|store| store.collect(grace).map(|_| ()), |_| {});
}

#[test]
fn a_file_that_comes_in_stops_anywhere() {
    at_every_step(
        |store| {
            let path = store.root().join("in.gguf");
            fs::write(&path, b"a file").unwrap();
            store.put_file(&path).map(|_| ())
        },
        |_| {},
    );
}
