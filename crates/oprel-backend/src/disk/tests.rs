use oprel_engine::Name;

use super::*;

fn key(i: u8, group: u32) -> PageKey {
    PageKey::page(Name::from_bytes([i; 16]), group as usize)
}

/// A checkpoint after page `i` and these tokens.
fn point(i: u8, rest: &[u32]) -> PageKey {
    PageKey::point(Name::from_bytes([i; 16]), rest)
}

fn open(root: &Path, most: u64) -> Disk {
    Disk::open(root, b"fingerprint-0123456789", most).unwrap()
}

fn page(i: u8, n: usize) -> Vec<u8> {
    (0..n).map(|k| (k as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()[7] ^ i).collect()
}

fn get(disk: &mut Disk, key: PageKey, n: usize) -> Option<Vec<u8>> {
    disk.fetch(key, n);
    let (of, bytes) = disk.came.recv().unwrap();
    assert_eq!(of, key);
    bytes
}

#[test]
fn pages_come_back_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    for n in [1, 100, 70_000] {
        let zeros = vec![0; n];
        let mut disk = open(root.path(), 1 << 30);
        disk.put(key(1, 0), page(1, n)).unwrap();
        disk.put(key(1, 1), zeros.clone()).unwrap();
        disk.flush();
        drop(disk);
        let mut disk = open(root.path(), 1 << 30);
        assert!(disk.holds(key(1, 0)) && !disk.holds(key(2, 0)));
        assert_eq!(get(&mut disk, key(1, 0), n), Some(page(1, n)));
        assert_eq!(get(&mut disk, key(1, 1), n), Some(zeros));
        assert_eq!(get(&mut disk, key(2, 0), n), None);
        // Another length is another model's.
        assert_eq!(get(&mut disk, key(1, 1), n + 1), None);
    }
}

#[test]
fn another_model_sees_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut disk = open(root.path(), 1 << 30);
    disk.put(key(1, 0), page(1, 10)).unwrap();
    disk.flush();
    let other = Disk::open(root.path(), b"another-fingerprint", 1 << 30).unwrap();
    assert!(!other.holds(key(1, 0)));
}

#[test]
fn a_page_with_any_flipped_bit_or_cut_anywhere_is_not_used_and_goes() {
    let root = tempfile::tempdir().unwrap();
    for (key, content) in [
        (key(3, 0), page(3, 300)),
        (key(3, 0), vec![7; 300]),
        (point(3, &[]), page(3, 300)),
        (point(3, &[1, 2]), vec![7; 300]),
    ] {
        let mut disk = open(root.path(), 1 << 30);
        disk.put(key, content.clone()).unwrap();
        disk.flush();
        let path = path(&disk.folder, key);
        let whole = fs::read(&path).unwrap();
        let flips = (0..whole.len()).flat_map(|at| [(at, 1), (at, 0x80)]);
        let flipped = flips.map(|(at, bit)| {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            bytes
        });
        let cut = (0..whole.len()).map(|n| whole[..n].to_vec());
        let longer = [&whole[..], &[0]].concat();
        for wrong in flipped.chain(cut).chain([longer]) {
            fs::write(&path, &wrong).unwrap();
            assert_eq!(get(&mut disk, key, 300), None);
            assert!(!path.exists());
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(get(&mut disk, key, 300), Some(content));
    }
}

#[test]
fn the_page_of_another_name_is_not_used() {
    let root = tempfile::tempdir().unwrap();
    let mut disk = open(root.path(), 1 << 30);
    disk.put(key(1, 0), page(1, 50)).unwrap();
    disk.flush();
    let (one, two) = (path(&disk.folder, key(1, 0)), path(&disk.folder, key(2, 0)));
    fs::copy(one, two).unwrap();
    assert_eq!(get(&mut disk, key(2, 0), 50), None);
}

#[test]
fn checkpoints_are_found_by_the_page_before_them_until_they_go() {
    let root = tempfile::tempdir().unwrap();
    let after = |i: u8| Name::from_bytes([i; 16]);
    let mut disk = open(root.path(), 1 << 30);
    let all = [point(1, &[]), point(1, &[5]), point(1, &[5, 6]), point(2, &[5])];
    for (i, &key) in all.iter().enumerate() {
        disk.put(key, page(i as u8, 100)).unwrap();
        disk.put(key, page(i as u8, 100)).unwrap();
    }
    disk.flush();
    for _ in 0..2 {
        let mut found = disk.points(after(1));
        found.sort_by_key(|key| key.rest());
        assert_eq!((&found[..], disk.points(after(2))), (&all[..3], vec![all[3]]));
        assert_eq!(disk.points(after(3)), []);
        assert_eq!(get(&mut disk, all[1], 100), Some(page(1, 100)));
        disk = open(root.path(), 1 << 30);
    }
    // Under another page's name it is not found: its own name is a hash of that of its page.
    let (one, two) = (path(&disk.folder, all[1]), path(&disk.folder, point(2, &[7])));
    fs::copy(one, &two).unwrap();
    assert_eq!(get(&mut disk, point(2, &[7]), 100), None);
    fs::write(path(&disk.folder, all[2]), b"damaged").unwrap();
    assert_eq!(get(&mut disk, all[2], 100), None);
    assert_eq!(disk.points(after(1)).len(), 2);
    drop(disk);
    let none = open(root.path(), 0);
    assert!(none.points(after(1)).is_empty() && none.points(after(2)).is_empty());
}

#[test]
fn what_waits_to_be_written_is_bounded_by_its_bytes() {
    let root = tempfile::tempdir().unwrap();
    let mut disk = open(root.path(), 1 << 30);
    // One that is larger than the bound is taken alone.
    assert!(disk.takes(WAITING_BYTES + 1));
    disk.waiting.store(1, Ordering::Relaxed);
    assert!(!disk.takes(WAITING_BYTES) && disk.takes(WAITING_BYTES - 1));
    assert!(disk.put(key(1, 0), vec![0; WAITING_BYTES]).is_err());
    disk.put(key(1, 0), vec![0; 10]).unwrap();
    disk.flush();
    assert_eq!(disk.waiting.load(Ordering::Relaxed), 1);
}

#[test]
fn what_was_unused_for_longest_goes_first() {
    let root = tempfile::tempdir().unwrap();
    let mut disk = open(root.path(), 3 * 1100);
    for i in 0..3 {
        disk.put(key(i, 0), page(i, 1000)).unwrap();
        disk.flush();
    }
    get(&mut disk, key(0, 0), 1000).unwrap();
    disk.put(key(3, 0), page(3, 1000)).unwrap();
    disk.flush();
    let there: Vec<bool> = (0..4).map(|i| disk.holds(key(i, 0))).collect();
    assert_eq!(there, [true, false, true, true]);
    drop(disk);
    // A smaller cache makes room at once.
    let disk = open(root.path(), 1100);
    assert_eq!((0..4).filter(|&i| disk.holds(key(i, 0))).count(), 1);
}

#[test]
fn unfinished_files_are_no_pages() {
    let root = tempfile::tempdir().unwrap();
    let folder = open(root.path(), 1 << 20).folder.clone();
    let part = folder.join("x.1-0.part");
    fs::write(&part, b"half").unwrap();
    drop(open(root.path(), 1 << 20));
    // Somebody may be writing it.
    assert!(part.exists());
    let long_ago = SystemTime::now() - std::time::Duration::from_secs(7200);
    file::touch(&part, long_ago);
    drop(open(root.path(), 1 << 20));
    assert!(!part.exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(Disk::open(&file, b"f", 1).is_err());
}

#[cfg(unix)]
#[test]
fn only_the_owner_reads_pages() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let mut disk = open(root.path(), 1 << 20);
    disk.put(key(1, 0), page(1, 10)).unwrap();
    disk.flush();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&disk.folder), mode(&path(&disk.folder, key(1, 0)))), (0o700, 0o600));
}
