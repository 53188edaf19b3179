//! Who wants a file that is being fetched waits for it; who lets go of it leaves what has come.

use std::path::Path;
use std::time::Duration;

use oprel_test_hub::{Content, Fault};

use crate::{Place, digest, quick};

const PART: u64 = 256 << 10;
const SIZE: u64 = 4 << 20;

fn place() -> Place {
    Place::new(|settings| settings.part_bytes = Some(PART))
}

#[test]
fn one_process_fetches_a_file_once_for_all() {
    let place = place();
    let content = Content::made(3, SIZE);
    let url = place.hub.link(&content, "file").parse().expect("an address");
    place.hub.pace(2 << 20);
    place.runtime.block_on(async {
        let start = || place.fetcher.file(&url, None, Some(digest(&content)), &place.to());
        let all = [start(), start(), start()].map(|download| download.expect("it begins"));
        let mut seen = 0;
        for download in all {
            let found = download.clone().watch(Duration::from_millis(1), &|_| {}).await;
            seen = seen.max(download.progress().completed);
            assert_eq!(found.expect("it comes").size, SIZE);
        }
        assert_eq!(seen, SIZE);
    });
    place.assert_whole(&content);
    assert!(place.hub.sent() <= SIZE + 1);
}

#[test]
fn two_that_share_no_memory_share_the_file() {
    let place = place();
    let content = Content::made(4, SIZE);
    let url = place.hub.link(&content, "file").parse().expect("an address");
    place.hub.pace(1 << 20);
    // As another process has it: nothing in common but the folder.
    let mut settings = quick();
    settings.part_bytes = Some(PART);
    let other = oprel_hub::fetch::Fetcher::new(settings).expect("well configured");
    place.runtime.block_on(async {
        let wanted = Some(digest(&content));
        let mut first = place.fetcher.file(&url, None, wanted, &place.to()).expect("it begins");
        while first.progress().completed == 0 {
            first.moved().await;
        }
        let mut second = other.file(&url, None, wanted, &place.to()).expect("it begins");
        let mut waited = false;
        while second.progress().completed < SIZE {
            waited |= second.moved().await.is_waiting;
        }
        assert!(waited, "the second says that it waits");
        assert_eq!(first.wait().await.expect("it comes").size, SIZE);
        assert_eq!(second.wait().await.expect("it comes").size, SIZE);
    });
    place.assert_whole(&content);
    assert!(place.hub.sent() <= SIZE + 1, "it came once");
}

#[test]
fn the_last_who_lets_go_stops_it_and_what_came_is_kept() {
    let place = place();
    let content = Content::made(5, SIZE);
    let url = place.hub.link(&content, "file").parse().expect("an address");
    place.hub.pace(1 << 20);
    let wanted = Some(digest(&content));
    let came = place.runtime.block_on(async {
        let mut download = place.fetcher.file(&url, None, wanted, &place.to()).expect("it begins");
        let second = download.clone();
        drop(second);
        while download.progress().completed < SIZE / 4 {
            download.moved().await;
        }
        download.progress().completed
    });
    let has_stopped = |_| {
        let sent = place.hub.sent();
        std::thread::sleep(Duration::from_millis(300));
        place.hub.sent() == sent
    };
    assert!((0..20).any(has_stopped), "it stops");
    place.hub.pace(0);
    place.hub.forget();
    place.fetch(&content).expect("it goes on");
    place.assert_whole(&content);
    assert!(place.hub.sent() <= SIZE - came + 1, "only what was missing came");
}

#[test]
fn what_is_left_of_a_download_is_believed_only_if_it_is_whole() {
    for spoil in [spoil_journal, spoil_length] {
        let place = Place::new(|settings| {
            // One after the other, so that some are there for sure when it breaks.
            (settings.part_bytes, settings.streams) = (Some(PART), 1);
        });
        let content = Content::made(8, SIZE);
        place.hub.fault(oprel_test_hub::Role::Cdn, "/file", 8, 1000, Fault::Status(400, None));
        place.fetch(&content).expect_err("it breaks");
        assert!(place.to().with_extension("part").exists());
        spoil(&place.to());
        place.hub.heal();
        place.hub.forget();
        place.fetch(&content).expect("it begins anew");
        place.assert_whole(&content);
        assert_eq!(place.hub.sent(), SIZE + 1);
    }
}

fn spoil_journal(to: &Path) {
    let path = to.with_extension("part.journal");
    let text = std::fs::read_to_string(&path).expect("it is there");
    std::fs::write(&path, text.replace("\"size\":", "\"size\": ")).expect("writable");
}

fn spoil_length(to: &Path) {
    let file = std::fs::File::options().write(true).open(to.with_extension("part"));
    file.expect("it is there").set_len(SIZE - 1).expect("writable");
}

#[test]
fn a_bound_on_the_rate_is_kept() {
    let place = Place::new(|settings| settings.bytes_per_second = Some(4 << 20));
    let content = Content::made(6, 2 << 20);
    let started = std::time::Instant::now();
    place.fetch(&content).expect("it comes");
    assert!(started.elapsed() > Duration::from_millis(350), "{:?}", started.elapsed());
}

#[test]
fn without_connections_nothing_is_begun() {
    let place = Place::new(|settings| settings.is_offline = true);
    let found = place.fetch(&Content::made(6, 2 << 10));
    assert!(matches!(found, Err(oprel_hub::fetch::Error::Offline { .. })), "{found:?}");
    assert_eq!(place.hub.seen().len(), 0);
}
