//! What a collection takes, and what it never takes.

use std::fs::File;
use std::time::{Duration, SystemTime};

use super::*;

fn age(path: &Path, hours: u64) {
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
}

fn freed(collected: Collected) -> Freed {
    match collected {
        Collected::Done(freed) => freed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn garbage_goes_when_it_is_old_enough_and_nothing_else_does() {
    let place = ollama_store();
    let store = open(&place);
    for path in fs::read_dir(store.blobs()).unwrap() {
        age(&path.unwrap().path(), 1000);
    }
    let young = store.put_blob(&b"young"[..], None).unwrap();
    let old = store.put_blob(&b"old"[..], None).unwrap();
    age(&store.blob_path(&old.digest), 2);
    let partial = store.blobs().join(format!("{}-partial", young.digest.file_name()));
    fs::write(&partial, "12345").unwrap();
    age(&partial, 24);
    let temporary = store.root().join("oprel/oprel-1-1.tmp");
    fs::write(&temporary, "1").unwrap();
    age(&temporary, 2);
    let grace = Grace::default();
    assert_eq!(freed(store.collect(grace).unwrap()), Freed { files: 2, bytes: 4 });
    assert!(store.has(&young.digest) && !store.has(&old.digest) && partial.exists());
    age(&partial, 24 * 8);
    assert_eq!(freed(store.collect(grace).unwrap()).bytes, 5);
    assert_eq!(store.model(&name("llama3.2")).unwrap().licenses.len(), 2);
    assert!(store.verify(&mut |_| {}).unwrap().is_empty());
}

#[test]
fn nothing_goes_while_a_manifest_cannot_be_read() {
    let place = ollama_store();
    let store = open(&place);
    let garbage = store.put_blob(&b"garbage"[..], None).unwrap();
    age(&store.blob_path(&garbage.digest), 2);
    let broken = place.path().join("manifests/h/n/m/t");
    write_at(&broken, "{");
    assert_eq!(
        store.collect(Grace::default()).unwrap(),
        Collected::Unreadable(vec![broken.clone()])
    );
    store.put_manifest(&name("a"), &ours(&store, b"w", b"s")).unwrap();
    assert_eq!(store.remove(&name("a")).unwrap(), Freed::default());
    assert!(store.has(&garbage.digest) && store.has(&Digest::of(b"w")));
    store.remove(&name("h/n/m:t")).unwrap();
    assert_eq!(freed(store.collect(Grace::default()).unwrap()).files, 1);
}

#[test]
fn a_manifest_whose_path_is_no_name_keeps_its_blobs() {
    let place = tempfile::tempdir().unwrap();
    let text = ollama_manifest(place.path(), b"w");
    write_at(&place.path().join("manifests/h/n n/m/t"), &text);
    let store = open(&place);
    let grace = Grace { blobs: Duration::ZERO, partials: Duration::ZERO };
    assert_eq!(freed(store.collect(grace).unwrap()), Freed::default());
    assert_eq!(store.list().unwrap().broken.len(), 1);
}

#[test]
fn who_wants_no_pruning_keeps_everything() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::at(Places { root: place.path().into(), ..Places::default() }, Access::Write);
    let store = store.unwrap();
    store.put_manifest(&name("a"), &ours(&store, b"w", b"s")).unwrap();
    assert_eq!(store.remove(&name("a")).unwrap(), Freed::default());
    assert_eq!(store.collect(Grace::default()).unwrap(), Collected::TurnedOff);
    assert!(store.has(&Digest::of(b"w")));
}

#[test]
fn empty_folders_of_manifests_go() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    fs::create_dir_all(place.path().join("manifests/h/n/m")).unwrap();
    store.collect(Grace::default()).unwrap();
    assert_eq!(fs::read_dir(place.path().join("manifests")).unwrap().count(), 0);
}

#[test]
fn a_copy_of_a_manifest_that_another_program_removed_goes() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    store.put_manifest(&name("a"), &ours(&store, b"w", b"s")).unwrap();
    fs::remove_file(store.find(&name("a")).unwrap().unwrap().path()).unwrap();
    let copies = place.path().join("oprel/manifests");
    assert_eq!(fs::read_dir(&copies).unwrap().count(), 1);
    store.collect(Grace::default()).unwrap();
    assert_eq!(fs::read_dir(&copies).unwrap().count(), 0);
}
