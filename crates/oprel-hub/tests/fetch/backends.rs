//! Installing llama.cpp's server from a stand-in for the place of its releases.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use oprel_hub::Digest;
use oprel_hub::backends::{self, Error, Folder, Outcome, Platform, Version, Wanted, install};
use oprel_test_hub::{Content, Fault, Release, Role};

use super::{Place, digest};

const LINUX: Platform = Platform { system: "ubuntu", arch: "x64" };
const ASSET: &str = "llama-b7000-bin-ubuntu-x64.tar.gz";

/// An archive with a program that says something, and bytes that do not become fewer.
fn archive(says: &str) -> Content {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::none()));
    let mut add = |name: &str, bytes: &[u8], mode| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        builder.append_data(&mut header, name, bytes).expect("written");
    };
    let name = format!("llama-b7000/llama-server{}", std::env::consts::EXE_SUFFIX);
    add(&name, says.as_bytes(), 0o755);
    add("llama-b7000/libllama.so", &Content::made(1, 3 << 20).all(), 0o644);
    Content::kept(builder.into_inner().and_then(GzEncoder::finish).expect("written"))
}

fn with(content: &Content) -> Release {
    Release::new("b7000")
        .with("llama-b7000-bin-macos-arm64.tar.gz", Content::kept("for others"))
        .with(ASSET, content.clone())
}

/// What the program says is what is in it; `bad` is no program.
fn check(program: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(program).map_err(|error| error.to_string())?;
    if text == "bad" { Err("it says nothing".into()) } else { Ok(text) }
}

impl Place {
    fn backends(&self) -> Folder {
        Folder::of(&self.folder.path().join("backends"))
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            source: self.hub.releases(),
            version: None,
            variant: None,
            digest: None,
            platform: Some(LINUX),
        }
    }

    fn install(&self, wanted: &Wanted) -> backends::Result<Outcome> {
        let folder = self.backends();
        let work = async { install(&self.fetcher, &folder, wanted, &check, &|_, _, _| ()).await };
        self.runtime.block_on(work)
    }

    fn refused(&self, wanted: &Wanted) -> Error {
        let error = self.install(wanted).expect_err("it is refused");
        assert!(error.hint().is_some(), "{error}");
        self.assert_nothing();
        error
    }

    /// Nothing is installed, and nothing half is left.
    fn assert_nothing(&self) {
        assert_eq!(self.backends().installed(), []);
        let left = names(self.backends().path());
        assert!(left.iter().all(|name| name == ".lock"), "{left:?}");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[test]
fn the_newest_is_installed_listed_and_removed() {
    let place = Place::new(|_| ());
    let content = archive("seven thousand");
    place.hub.add_release(with(&content));
    let told = AtomicUsize::new(0);
    let folder = place.backends();
    let wanted = place.wanted();
    let tell = |name: &str, of: Digest, _| {
        assert_eq!((name, of), (ASSET, digest(&content)));
        told.fetch_add(1, Ordering::Relaxed);
    };
    let outcome = place
        .runtime
        .block_on(async { install(&place.fetcher, &folder, &wanted, &check, &tell).await })
        .expect("all is well");
    assert_eq!((outcome.says.as_str(), outcome.was_there), ("seven thousand", false));
    assert!(told.load(Ordering::Relaxed) > 0);
    let installed = folder.installed();
    assert_eq!(installed, [outcome.installed]);
    let first = &installed[0];
    assert_eq!(first.version, Version(7000));
    assert_eq!(
        first.record.as_ref().map(|r| r.digest.as_str()),
        Some(&*digest(&content).to_string())
    );
    assert_eq!(names(folder.path()), [".lock", "b7000"]);
    assert_eq!(names(&first.folder), [".oprel.json", "libllama.so", "llama-server"]);
    folder.remove(Version(7000)).expect("it is there");
    place.assert_nothing();
    let error = folder.remove(Version(7000)).expect_err("it is gone");
    assert!(matches!(error, Error::NotInstalled { .. }), "{error}");
}

#[test]
fn what_is_installed_is_fetched_again_only_if_it_is_another_or_damaged() {
    let place = Place::new(|_| ());
    place.hub.add_release(with(&archive("one")));
    assert!(!place.install(&place.wanted()).expect("all is well").was_there);
    place.hub.forget();
    assert!(place.install(&place.wanted()).expect("all is well").was_there);
    assert_eq!(place.hub.sent(), 0, "it was there");
    let program = place.backends().installed().remove(0).program;
    std::fs::write(&program, "bad").expect("writable");
    assert!(!place.install(&place.wanted()).expect("all is well").was_there);
    assert_eq!(check(&program), Ok("one".into()));
    place.hub.add_release(with(&archive("another")));
    assert_eq!(place.install(&place.wanted()).expect("all is well").says, "another");
    assert_eq!(names(place.backends().path()), [".lock", "b7000"]);
}

#[test]
fn a_version_of_ones_own_and_the_order_of_versions() {
    let place = Place::new(|_| ());
    for (tag, says) in [("b10000", "newer"), ("b9999", "older")] {
        let name = format!("llama-{tag}-bin-ubuntu-x64.tar.gz");
        place.hub.add_release(Release::new(tag).with(&name, archive(says)));
    }
    let wanted = Wanted { version: Some(Version(10000)), ..place.wanted() };
    assert_eq!(place.install(&wanted).expect("all is well").says, "newer");
    assert_eq!(place.install(&place.wanted()).expect("all is well").says, "older");
    let versions: Vec<u32> = place.backends().installed().iter().map(|i| i.version.0).collect();
    assert_eq!(versions, [10000, 9999]);
    let absent = Wanted { version: Some(Version(1)), ..place.wanted() };
    let error = place.install(&absent).expect_err("there is none");
    assert!(error.hint().expect("a hint").contains("check the version"), "{error}");
}

#[test]
fn a_download_that_breaks_goes_on_where_it_was() {
    let place = Place::new(|settings| settings.part_bytes = Some(1 << 20));
    let content = archive("whole");
    place.hub.add_release(with(&content));
    // Twice in the middle of each part, then so often that it is given up.
    place.hub.fault(Role::Cdn, ASSET, 0, 2, Fault::Cut(700 << 10));
    assert_eq!(place.install(&place.wanted()).expect("all is well").says, "whole");
    assert!(place.hub.sent() < content.size() + (4 << 20), "{}", place.hub.sent());
    place.backends().remove(Version(7000)).expect("it is there");
    place.hub.fault(Role::Cdn, ASSET, 2, 100, Fault::Status(503, None));
    place.install(&place.wanted()).expect_err("it is given up");
    assert_eq!(place.backends().installed(), []);
    place.hub.heal();
    place.hub.forget();
    place.install(&place.wanted()).expect("all is well");
    assert!(place.hub.sent() < content.size(), "what had come was kept");
}

#[test]
fn wrong_bytes_and_bytes_without_a_digest_are_refused() {
    let place = Place::new(|_| ());
    let content = archive("good");
    let other = Digest::of(b"other");
    let release = |digest| Release::new("b7000").with_digest(ASSET, content.clone(), digest);
    place.hub.add_release(release(Some(other.to_string())));
    let error = place.refused(&place.wanted());
    assert!(error.to_string().contains("digest mismatch"), "{error}");
    for digest in [None, Some("md5:abc".into())] {
        place.hub.add_release(release(digest));
        let error = place.refused(&place.wanted());
        assert!(matches!(error, Error::NoDigest { .. } | Error::NoAsset { .. }), "{error}");
    }
    place.hub.add_release(release(None));
    let wrong = Wanted { digest: Some(other), ..place.wanted() };
    assert!(place.refused(&wrong).to_string().contains("digest mismatch"));
    let right = Wanted { digest: Some(digest(&content)), ..place.wanted() };
    place.install(&right).expect("the user knows it");
    place.hub.add_release(with(&content));
    assert!(matches!(place.install(&wrong), Err(Error::OtherDigest { .. })));
}

#[test]
fn what_does_not_run_is_not_installed() {
    let place = Place::new(|_| ());
    place.hub.add_release(with(&archive("good")));
    place.install(&place.wanted()).expect("all is well");
    place.hub.add_release(with(&archive("bad")));
    let error = place.install(&place.wanted()).expect_err("it is of no use");
    assert!(error.to_string().contains("it says nothing"), "{error}");
    let installed = place.backends().installed();
    assert_eq!(check(&installed[0].program), Ok("good".into()), "the old one stays");
    assert_eq!(names(place.backends().path()), [".lock", "b7000"]);
    place.backends().remove(Version(7000)).expect("it is there");
    place.hub.add_release(with(&Content::kept("no archive")));
    assert!(matches!(place.refused(&place.wanted()), Error::Archive { .. }));
    let empty = GzEncoder::new(Vec::new(), Compression::none());
    let empty = tar::Builder::new(empty).into_inner().and_then(GzEncoder::finish);
    place.hub.add_release(with(&Content::kept(empty.expect("written"))));
    let error = place.refused(&place.wanted());
    assert!(error.to_string().contains("no llama-server in it"), "{error}");
}

#[test]
fn a_machine_without_a_build_is_told_so() {
    let place = Place::new(|_| ());
    place.hub.add_release(with(&archive("good")));
    let platform = Some(Platform { system: "win", arch: "arm64" });
    for wanted in [
        Wanted { platform, ..place.wanted() },
        Wanted { platform: None, ..place.wanted() },
        Wanted { variant: Some("vulkan".into()), ..place.wanted() },
    ] {
        assert!(matches!(place.refused(&wanted), Error::NoAsset { .. }));
    }
}

#[test]
fn a_source_that_anybody_can_change_is_refused() {
    let place = Place::new(|_| ());
    for source in ["http://mirror.example/releases", "http://127.0.0.1.example/", "ftp://x/"] {
        let wanted = Wanted { source: source.into(), ..place.wanted() };
        assert!(matches!(place.refused(&wanted), Error::Insecure { .. }), "{source}");
    }
}
