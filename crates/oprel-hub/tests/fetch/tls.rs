//! Over TLS, and through a proxy.

use std::path::{Path, PathBuf};

use oprel_hub::fetch::{Error, Fetched, Result};
use oprel_test_hub::{Content, Fault, Role};

use crate::{Place, digest};

const SIZE: u64 = 1 << 20;

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../oprel-tls/tests/certificates").join(name)
}

fn fetch(place: &Place, content: &Content) -> Result<Fetched> {
    let secure = place.hub.secure(&certificate("localhost.pem"), &certificate("localhost.key"));
    let url = place.hub.link(content, "file").replace(&place.hub.url(Role::Cdn), &secure);
    let url = url.parse().expect("an address");
    place.runtime.block_on(async {
        place.fetcher.file(&url, Some(SIZE), Some(digest(content)), &place.to())?.wait().await
    })
}

#[test]
fn an_authority_of_ones_own_is_trusted_where_it_is_named() {
    let content = Content::made(21, SIZE);
    let place = Place::new(|settings| settings.authorities = Some(certificate("authority.pem")));
    fetch(&place, &content).expect("it comes");
    place.assert_whole(&content);
    match fetch(&Place::new(|_| {}), &content) {
        Err(error @ Error::Tls { .. }) => {
            assert!(error.hint().is_some_and(|hint| hint.contains("OPREL_TLS_CA")), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_secure_connection_is_not_given_up_by_a_redirect() {
    let place = Place::new(|settings| settings.authorities = Some(certificate("authority.pem")));
    let plain = format!("{}/elsewhere", place.hub.url(Role::Cdn));
    place.hub.fault(Role::Cdn, "/file", 0, 1, Fault::Redirect(plain));
    let found = fetch(&place, &Content::made(21, SIZE));
    assert!(matches!(found, Err(Error::Redirect { .. })), "{found:?}");
}

#[cfg(unix)]
#[test]
fn the_usual_variable_names_a_proxy() {
    let place = Place::new(|_| {});
    let content = Content::made(22, crate::kill::SIZE);
    // There is no such host: only who asks the proxy gets an answer, which the network gives in its place.
    let far = "http://far.invalid";
    let link = place.hub.link(&content, "file").replace(&place.hub.url(Role::Cdn), far);
    let mut child = crate::kill::command(&link, &content, &place.to());
    let mut run = |proxy: &str| child.env("http_proxy", proxy).status().expect("it runs").success();
    assert!(!run("http://127.0.0.1:9"));
    assert!(run(&place.hub.url(Role::Cdn)));
    place.assert_whole(&content);
}
