//! A process that fetches is killed at moments that nobody chose, and begun again, until the file is there.
//!
//! `OPREL_FAULTS=full` kills it 200 times instead of 8.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use oprel_hub::fetch::Fetcher;
use oprel_test_hub::{Content, Hub};

use crate::{assert_file, digest, quick, runtime};

/// What a part of a file of this size has where nothing is said.
const PART: u64 = 16 << 20;
pub(crate) const SIZE: u64 = 256 << 20;

/// Not a test of its own: what is killed. Says nothing unless it is told what to fetch.
#[test]
fn child() {
    let Ok(told) = std::env::var("OPREL_TEST_FETCH") else { return };
    let [url, digest, to] = told.split(' ').collect::<Vec<_>>().try_into().expect("three words");
    let settings = quick();
    let found = runtime().block_on(async {
        let fetcher = Fetcher::new(settings)?;
        let url = url.parse().expect("an address");
        let digest = digest.parse().expect("a digest");
        fetcher.file(&url, Some(SIZE), Some(digest), to.as_ref())?.wait().await
    });
    found.expect("it comes");
}

/// What fetches a link to a path in a process of its own.
pub(crate) fn command(link: &str, content: &Content, to: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "kill::child", "--nocapture"])
        .env("OPREL_TEST_FETCH", format!("{link} {} {}", digest(content), to.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[test]
fn killed_at_any_moment_it_goes_on_and_no_more_than_a_part_comes_again() {
    let full = std::env::var("OPREL_FAULTS").is_ok_and(|value| value == "full");
    let wanted = if full { 200 } else { 8 };
    let (hub, folder) = (Hub::start(), tempfile::tempdir().expect("a folder"));
    // Slowly enough that little is on its way, which no client can keep.
    hub.pace(8 << 20);
    let mut state = std::process::id() as u64 | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let (mut kills, mut files, mut sent, mut worst) = (0, 0, 0, 0);
    while kills < wanted {
        files += 1;
        let content = Content::made(files, SIZE);
        let to = folder.path().join("file");
        let (mut rounds, mut before) = (0, hub.sent());
        loop {
            let link = hub.link(&content, "file");
            let mut child = command(&link, &content, &to).spawn().expect("it starts");
            std::thread::sleep(Duration::from_millis(random(600)));
            // The last one of a file is let run to its end now and then.
            let is_left = rounds > 60 || kills >= wanted;
            if !is_left {
                child.kill().expect("it runs, or did");
            }
            let status = child.wait().expect("it ends");
            if status.success() {
                break;
            }
            assert_eq!(status.signal(), Some(9), "it fails by being killed alone");
            (kills, rounds) = (kills + 1, rounds + 1);
        }
        assert_file(&to, &content);
        std::fs::remove_file(&to).expect("it is there");
        before = hub.sent() - before;
        let again = (before - SIZE) / rounds.max(1);
        worst = worst.max(again);
        sent += before;
        assert!(before - SIZE <= rounds * PART, "{again} bytes a kill came again");
    }
    let again = (sent - files * SIZE) / kills.max(1);
    println!(
        "{kills} kills, {files} files of {SIZE}: {again} bytes again a kill, {worst} at worst"
    );
}
