//! Every byte of a store, turned over one by one.

use super::*;

fn files_below(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

#[test]
fn any_flipped_byte_is_found() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    store.put_manifest(&name("a"), &ours(&store, b"weights", b"one")).unwrap();
    store.put_manifest(&name("h.example/n/b:t"), &ours(&store, b"weights", b"two")).unwrap();
    assert!(store.verify(&mut |_| {}).unwrap().is_empty());
    let mut files = Vec::new();
    files_below(place.path(), &mut files);
    // What the lock file says changes nothing.
    files.retain(|path| path.file_name().unwrap() != "lock");
    assert_eq!(files.len(), 4 + 2 * 2, "blobs, manifests and their copies");
    for path in files {
        let whole = fs::read(&path).unwrap();
        // Of manifests every seventh: a byte, whatever it stands for, is soon met.
        for at in (0..whole.len()).step_by(if whole.len() > 100 { 7 } else { 1 }) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            let damages = store.verify(&mut |_| {}).unwrap();
            assert!(!damages.is_empty(), "byte {at} of {}", path.display());
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(!store.verify(&mut |_| {}).unwrap().is_empty(), "{} is shorter", path.display());
        fs::write(&path, whole).unwrap();
    }
    assert!(store.verify(&mut |_| {}).unwrap().is_empty());
}

#[test]
fn damage_names_the_models_that_it_concerns() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    for (text, system) in [("a", b"one"), ("b", b"two")] {
        store.put_manifest(&name(text), &ours(&store, b"weights", system)).unwrap();
    }
    fs::write(store.blob_path(&Digest::of(b"weights")), b"Weights").unwrap();
    fs::remove_file(store.blob_path(&Digest::of(b"two"))).unwrap();
    let mut bytes = 0;
    let damages = store.verify(&mut |n| bytes += n).unwrap();
    assert_eq!(bytes, 7 + 3 + 2);
    let of = |digest: Digest| {
        damages.iter().find(|d| d.path == store.blob_path(&digest)).expect("it is told")
    };
    assert_eq!(of(Digest::of(b"weights")).models.len(), 2);
    assert!(matches!(of(Digest::of(b"weights")).wrong, Wrong::Altered { .. }));
    let gone = of(Digest::of(b"two"));
    assert_eq!(gone.models, [name("b")]);
    assert!(matches!(gone.wrong, Wrong::Missing));
    assert!(matches!(store.model(&name("b")), Err(Error::Missing { .. })));
}

#[test]
fn a_manifest_that_another_program_wrote_anew_is_no_damage() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    store.put_manifest(&name("a"), &ours(&store, b"weights", b"one")).unwrap();
    let other = ours(&store, b"weights", b"two");
    let path = store.find(&name("a")).unwrap().unwrap().path().to_owned();
    fs::write(&path, other.bytes()).unwrap();
    assert!(store.verify(&mut |_| {}).unwrap().is_empty());
}

#[test]
fn damaged_blobs_can_be_removed_and_brought_anew() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let manifest = ours(&store, b"weights", b"one");
    store.put_manifest(&name("a"), &manifest).unwrap();
    fs::write(store.blob_path(&Digest::of(b"weights")), b"Weights").unwrap();
    let damages = store.verify(&mut |_| {}).unwrap();
    assert_eq!(store.remove_damaged(&damages).unwrap(), Freed { files: 1, bytes: 7 });
    assert!(matches!(store.model(&name("a")), Err(Error::Missing { .. })));
    store.put_manifest(&name("a"), &ours(&store, b"weights", b"one")).unwrap();
    assert!(store.verify(&mut |_| {}).unwrap().is_empty());
    let outside = place.path().join("file");
    fs::write(&outside, "x").unwrap();
    let wrong = Damage { models: Vec::new(), path: outside.clone(), wrong: Wrong::Missing };
    assert_eq!(store.remove_damaged(&[wrong]).unwrap().files, 0);
    assert!(outside.exists(), "only blobs of the store go");
}

#[test]
fn a_blob_that_was_cut_is_replaced_by_a_whole_one() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let digest = store.put_blob(&b"weights"[..], None).unwrap().digest;
    fs::write(store.blob_path(&digest), b"wei").unwrap();
    assert!(store.put_blob(&b"weights"[..], None).unwrap().new);
    assert_eq!(fs::read(store.blob_path(&digest)).unwrap(), b"weights");
    let file = place.path().join("f");
    fs::write(&file, b"weights").unwrap();
    fs::write(store.blob_path(&digest), b"wei").unwrap();
    assert!(store.put_file(&file).unwrap().new);
    assert_eq!(fs::read(store.blob_path(&digest)).unwrap(), b"weights");
}
