use super::*;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// A tar with entries as they are: kind, name, link, bytes.
fn tar_of(entries: &[(tar::EntryType, &str, &str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (kind, name, link, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        // As bytes: what is right to write is not what somebody who does harm writes.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o4755);
        header.set_cksum();
        builder.append(&header, *bytes).expect("written");
    }
    builder.into_inner().and_then(GzEncoder::finish).expect("written")
}

fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .unix_permissions(0o755);
    for (name, bytes) in entries {
        writer.start_file(*name, options).expect("written");
        writer.write_all(bytes).expect("written");
    }
    writer.finish().expect("written").into_inner()
}

/// Unpacks bytes into `in/it` of a folder, and says what the folder has outside of it.
fn try_it(bytes: &[u8], name: &str, limits: Limits) -> (tempfile::TempDir, Result<()>) {
    let place = tempfile::tempdir().expect("a folder");
    let archive = place.path().join("archive");
    fs::write(&archive, bytes).expect("writable");
    let found = unpack(&archive, name, &place.path().join("in/it"), limits);
    let count = |path: &Path| fs::read_dir(path).expect("readable").count();
    assert_eq!((count(place.path()), count(&place.path().join("in"))), (2, 1), "nothing outside");
    (place, found)
}

fn refused(bytes: &[u8], name: &str) -> String {
    let (_place, found) = try_it(bytes, name, Limits::default());
    found.expect_err("it is refused").to_string()
}

const FILE: tar::EntryType = tar::EntryType::Regular;
const LINK: tar::EntryType = tar::EntryType::Symlink;

#[test]
fn files_folders_links_and_what_is_executable_come_out() {
    let bytes = tar_of(&[
        (tar::EntryType::Directory, "./", "", b""),
        (tar::EntryType::Directory, "llama-b1/", "", b""),
        (LINK, "llama-b1/libx.so", "libx.so.0", b""),
        (FILE, "llama-b1/libx.so.0", "", b"library"),
    ]);
    let (place, found) = try_it(&bytes, "a.tar.gz", Limits::default());
    found.expect("all is well");
    let library = place.path().join("in/it/llama-b1/libx.so");
    assert_eq!(fs::read(&library).expect("there"), b"library");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = library.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "without the bit that runs it as its owner");
    }
    let bytes = zip_of(&[("build/bin/llama-server", b"program")]);
    let (place, found) = try_it(&bytes, "a.zip", Limits::default());
    found.expect("all is well");
    let program = place.path().join("in/it/build/bin/llama-server");
    assert_eq!(fs::read(program).expect("there"), b"program");
}

#[test]
fn a_name_that_leads_out_is_refused() {
    for name in ["../out", "a/../../out", "/tmp/oprel-out", "..", "a\\..\\out", "c:out"] {
        let said = refused(&tar_of(&[(FILE, name, "", b"x")]), "a.tar.gz");
        assert!(said.contains("leads out of its folder"), "{name}: {said}");
        let said = refused(&zip_of(&[(name, b"x")]), "a.zip");
        assert!(said.contains("leads out of its folder"), "{name}: {said}");
    }
}

#[test]
fn a_link_that_leads_out_is_refused() {
    for target in ["../out", "/etc/passwd", "a/../../out", "", "."] {
        let said = refused(&tar_of(&[(LINK, "a", target, b"")]), "a.tar.gz");
        assert!(said.contains("is a link that leads out"), "{target}: {said}");
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let bytes = tar_of(&[(LINK, "a", "b", b""), (FILE, "a/c", "", b"x")]);
    let (_place, found) = try_it(&bytes, "a.tar.gz", Limits::default());
    found.expect_err("a is a link and a folder");
}

#[test]
fn what_is_no_file_is_refused() {
    use tar::EntryType;
    for kind in [EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let said = refused(&tar_of(&[(kind, "a", "b", b"")]), "a.tar.gz");
        assert!(said.contains("neither file, folder nor link"), "{kind:?}: {said}");
    }
    let said = refused(&tar_of(&[(FILE, "a", "", b"x"), (FILE, "./a", "", b"y")]), "a.tar.gz");
    assert!(said.contains("twice"), "{said}");
}

#[test]
fn a_bomb_is_refused_before_it_fills_the_disk() {
    let zeros = vec![0; 24 << 20];
    for (bytes, name) in
        [(tar_of(&[(FILE, "a", "", &zeros)]), "a.tar.gz"), (zip_of(&[("a", &zeros)]), "a.zip")]
    {
        let (place, found) = try_it(&bytes, name, Limits::default());
        let said = found.expect_err("it is refused").to_string();
        assert!(said.contains("far more bytes"), "{name}: {said}");
        let written = place.path().join("in/it/a").metadata().expect("there").len();
        assert!(written < zeros.len() as u64 / 2, "{written} bytes were written");
    }
    let many: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    let many: Vec<_> = many.iter().map(|name| (FILE, name.as_str(), "", &b""[..])).collect();
    let few = Limits { entries: 10, ..Limits::default() };
    let said = try_it(&tar_of(&many), "a.tar.gz", few).1.expect_err("too many").to_string();
    assert!(said.contains("too many files"), "{said}");
}

#[test]
fn every_archive_that_breaks_off_is_refused() {
    let whole = tar_of(&[(FILE, "a", "", &[7; 3000]), (FILE, "b", "", &[8; 3000])]);
    for end in (1..whole.len()).step_by(7) {
        refused(&whole[..end], "a.tar.gz");
    }
    let whole = zip_of(&[("a", &[7; 3000]), ("b", &[8; 3000])]);
    for end in (1..whole.len()).step_by(7) {
        refused(&whole[..end], "a.zip");
    }
}
