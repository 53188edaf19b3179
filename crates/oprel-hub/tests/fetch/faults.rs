//! The table of faults: what a server or a network can do, and what comes of it.

use std::time::Duration;

use oprel_hub::fetch::Error;
use oprel_test_hub::{Content, Fault, Role};

use crate::Place;

const PART: u64 = 256 << 10;
const SIZE: u64 = 2 * (1 << 20) + 12_345;

fn place() -> Place {
    Place::new(|settings| settings.part_bytes = Some(PART))
}

/// With a server that may be silent for less than others.
fn hasty() -> Place {
    Place::new(|settings| {
        settings.part_bytes = Some(PART);
        settings.stall = Duration::from_millis(500);
    })
}

/// One fault, and how many bytes may come twice because of it.
fn survives(fault: Fault, times: usize, most_again: u64) -> Place {
    let place = if matches!(fault, Fault::Stall(_)) { hasty() } else { place() };
    let content = Content::made(7, SIZE);
    place.hub.fault(Role::Cdn, "/file", 2, times, fault.clone());
    let found = place.fetch(&content);
    let found = found.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
    assert_eq!((found.size, found.path), (SIZE, place.to()));
    place.assert_whole(&content);
    // A byte is asked for to learn the size, each time that the file is looked for.
    let again = place.hub.sent().saturating_sub(SIZE + 4);
    assert!(again <= most_again, "{fault:?}: {again} bytes came again");
    place
}

#[test]
fn parts_come_side_by_side_and_no_byte_twice() {
    let place = place();
    let content = Content::made(7, SIZE);
    place.fetch(&content).expect("nothing goes wrong");
    place.assert_whole(&content);
    assert!(place.hub.sent() <= SIZE + 1, "one byte is asked for to learn the size");
    let parts = place.hub.seen().len() - 1;
    assert_eq!(parts as u64, SIZE.div_ceil(PART));
}

#[test]
fn files_of_every_small_size_come() {
    for size in [0, 1, PART - 1, PART, PART + 1, 3 * PART] {
        let place = place();
        let content = Content::made(size, size);
        place.fetch(&content).unwrap_or_else(|error| panic!("{size}: {error}"));
        place.assert_whole(&content);
    }
}

#[test]
fn a_connection_that_breaks_goes_on_where_it_broke() {
    for after in [0, 1, 70_000] {
        // What a broken connection had not handed over is sent again.
        survives(Fault::Cut(after), 4, 4 * (after + (64 << 10)));
    }
}

#[test]
fn a_server_that_falls_silent_is_asked_again() {
    // On a busy machine others of its answers may be taken for silence as well.
    survives(Fault::Stall(100_000), 2, SIZE);
}

#[test]
fn a_slow_server_is_waited_for() {
    survives(Fault::Drip(2 << 20), 2, 0);
}

#[test]
fn the_whole_file_for_a_part_of_it_is_taken_as_one_stream() {
    let place = survives(Fault::Whole, 100, 16 * SIZE);
    let last = place.hub.seen().pop().expect("requests came");
    assert!(!last.headers.contains_key("range"));
}

#[test]
fn another_range_than_was_asked_for_is_not_believed() {
    survives(Fault::WrongRange, 2, 2 * PART);
}

#[test]
fn an_answer_that_is_short_or_long_is_noticed() {
    survives(Fault::Short(10_000), 2, 0);
    survives(Fault::Long(10), 2, 20 + 2 * (64 << 10));
}

#[test]
fn a_content_of_another_name_begins_anew() {
    survives(Fault::Etag("\"another\"".into()), 1, 2 * SIZE);
}

#[test]
fn a_range_that_is_refused_begins_anew() {
    survives(Fault::Status(416, None), 1, 2 * SIZE);
}

#[test]
fn a_busy_server_is_asked_again() {
    survives(Fault::Status(429, Some(1)), 2, 0);
    survives(Fault::Status(503, None), 5, 0);
    survives(Fault::Status(500, None), 5, 0);
}

#[test]
fn a_server_that_stays_busy_is_named() {
    let place = place();
    place.hub.fault(Role::Cdn, "/file", 1, 1000, Fault::Status(429, None));
    match place.fetch(&Content::made(7, SIZE)) {
        Err(error @ Error::Status { status: 429, .. }) => assert!(error.hint().is_some()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wrong_byte_is_found_and_the_file_fetched_once_more() {
    survives(Fault::Flip(600_000), 3, SIZE + 1);
}

#[test]
fn a_byte_that_stays_wrong_is_an_error_and_leaves_no_file() {
    let place = place();
    let content = Content::made(7, SIZE);
    place.hub.fault(Role::Cdn, "/file", 0, 1000, Fault::Flip(600_000));
    match place.fetch(&content) {
        Err(Error::Digest { expected, got }) => assert_ne!(expected, got),
        other => panic!("{other:?}"),
    }
    assert!(!place.to().exists());
    // Nothing of it is believed the next time.
    place.hub.heal();
    place.fetch(&content).expect("the byte is right now");
    place.assert_whole(&content);
}

#[test]
fn a_compressed_answer_is_refused() {
    survives(Fault::Gzip, 1, PART + (64 << 10));
    let place = place();
    place.hub.fault(Role::Cdn, "/file", 1, 1000, Fault::Gzip);
    match place.fetch(&Content::made(7, SIZE)) {
        Err(Error::Protocol { why, .. }) => assert!(why.contains("compressed"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn redirects_without_end_and_to_no_server_are_refused() {
    for fault in [Fault::Loop, Fault::Redirect("file:///etc/passwd".into())] {
        let place = place();
        place.hub.fault(Role::Cdn, "/file", 0, 1000, fault);
        match place.fetch(&Content::made(7, SIZE)) {
            Err(Error::Redirect { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_file_of_another_size_is_refused() {
    let place = place();
    let content = Content::made(7, SIZE);
    let url = place.hub.link(&content, "file").parse().expect("an address");
    let found = place.runtime.block_on(async {
        place.fetcher.file(&url, Some(SIZE + 1), None, &place.to())?.wait().await
    });
    assert!(matches!(found, Err(Error::Protocol { .. })), "{found:?}");
}

#[test]
fn a_file_that_no_disk_holds_is_refused_before_it_is_begun() {
    let place = place();
    let content = Content::vast(1 << 58);
    match place.fetch(&content) {
        Err(error @ Error::NoSpace { needed_bytes, free_bytes, .. }) => {
            assert_eq!(needed_bytes, content.size() + content.size() / 20);
            assert!(free_bytes < needed_bytes && error.hint().is_some());
        }
        other => panic!("{other:?}"),
    }
    let left = place.folder.path().read_dir().expect("readable");
    let bytes: u64 = left.map(|entry| entry.expect("readable").metadata().expect("is").len()).sum();
    assert_eq!(bytes, 0);
}

#[test]
fn nobody_at_the_other_end_is_said_so() {
    let place = place();
    let url = "http://127.0.0.1:9/file".parse().expect("an address");
    let found = place
        .runtime
        .block_on(async { place.fetcher.file(&url, None, None, &place.to())?.wait().await });
    match found {
        Err(error @ Error::Unreachable { .. }) => assert!(error.hint().is_some()),
        other => panic!("{other:?}"),
    }
}
