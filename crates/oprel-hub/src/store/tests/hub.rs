//! A cache as the hub's own clients write it.

use super::*;

const BLOB: &str = "0123456789abcdef0123456789abcdef01234567";

fn cache() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let repository = place.path().join("models--bartowski--Tiny-GGUF");
    let add = |file: &str, bytes: &str| {
        let digest = Digest::of(bytes.as_bytes()).hex();
        write_at(&repository.join("blobs").join(&digest), bytes);
        let path = repository.join("snapshots").join(BLOB).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let up = "../".repeat(2 + file.matches('/').count());
        #[cfg(unix)]
        std::os::unix::fs::symlink(format!("{up}blobs/{digest}"), &path).unwrap();
        #[cfg(not(unix))]
        fs::write(&path, bytes).unwrap();
    };
    write_at(&repository.join("refs/main"), BLOB);
    add("Tiny-Q4_K_M.gguf", "four");
    add("Tiny-Q8_0.gguf", "eight");
    add("F16/Tiny-F16-00001-of-00002.gguf", "first");
    add("F16/Tiny-F16-00002-of-00002.gguf", "second");
    add("BF16/Tiny-BF16-00001-of-00002.gguf", "alone");
    add("mmproj-Tiny-F16.gguf", "eyes");
    add("README.md", "text");
    fs::create_dir_all(place.path().join("datasets--x--y")).unwrap();
    place
}

fn store(cache: &TempDir) -> (TempDir, Store) {
    let place = tempfile::tempdir().unwrap();
    let hub_caches = vec![cache.path().into()];
    let places = Places { root: place.path().into(), hub_caches, ..Places::default() };
    (place, Store::at(places, Access::Write).unwrap())
}

#[test]
fn models_of_a_cache_are_listed_and_run_in_place() {
    let cache = cache();
    let (_place, store) = store(&cache);
    let mut names: Vec<_> =
        store.list().unwrap().models.iter().map(|model| model.name.to_string()).collect();
    names.sort();
    let of = |tag: &str| format!("hf.co/bartowski/Tiny-GGUF:{tag}");
    assert_eq!(names, [of("F16"), of("Q4_K_M"), of("Q8_0")], "what lacks a part is not listed");
    let model = store.model(&name("hf.co/bartowski/tiny-gguf:f16")).unwrap();
    let files: Vec<_> = model.files.iter().map(|p| fs::read_to_string(p).unwrap()).collect();
    assert_eq!(files, ["first", "second"]);
    assert_eq!(model.projectors.len(), 1);
    let usual = store.find(&name("hf.co/bartowski/Tiny-GGUF")).unwrap().unwrap();
    assert_eq!(usual.name.tag, "Q4_K_M");
    assert!(store.find(&name("hf.co/bartowski/Tiny-GGUF:Q2_K")).unwrap().is_none());
    assert!(store.has_repository("bartowski/tiny-gguf") && !store.has_repository("x/y"));
    assert!(matches!(store.remove(&usual.name), Err(Error::ReadOnly { .. })));
}

#[test]
fn a_damaged_blob_of_a_cache_is_found() {
    let cache = cache();
    let (_place, store) = store(&cache);
    assert!(store.verify(&mut |_| {}).unwrap().is_empty());
    let blobs = cache.path().join("models--bartowski--Tiny-GGUF/blobs");
    let path = blobs.join(Digest::of(b"eight").hex());
    fs::write(&path, "eighT").unwrap();
    let damages = store.verify(&mut |_| {}).unwrap();
    assert!(damages.len() == 1 && damages[0].path == path, "{damages:?}");
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_cache_is_no_model() {
    let cache = cache();
    let (_place, store) = store(&cache);
    let snapshot = cache.path().join("models--bartowski--Tiny-GGUF/snapshots").join(BLOB);
    std::os::unix::fs::symlink("/etc/hostname", snapshot.join("out-Q2_K.gguf")).unwrap();
    assert_eq!(store.list().unwrap().models.len(), 3);
    write_at(&cache.path().join("models--bartowski--Tiny-GGUF/refs/main"), "../../../..");
    assert_eq!(store.list().unwrap().models.len(), 3, "the newest snapshot instead");
}
