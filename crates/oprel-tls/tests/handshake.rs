//! Client and server greet each other with the certificates of this folder, and refuse what is wrong.

use std::path::{Path, PathBuf};

use oprel_tls::{Acceptor, Connector, Error, HTTP, is_refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(name)
}

fn acceptor() -> Acceptor {
    Acceptor::load(&file("localhost.pem"), &file("localhost.key")).unwrap()
}

#[tokio::test]
async fn what_is_sent_arrives_and_the_best_protocol_is_chosen() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let server = tokio::spawn(async move {
        let mut stream = acceptor().accept(far).await.unwrap();
        let mut text = [0; 5];
        stream.read_exact(&mut text).await.unwrap();
        stream.write_all(&text).await.unwrap();
        stream.flush().await.unwrap();
        text
    });
    let connector = Connector::load(Some(&file("authority.pem")), HTTP).unwrap();
    let mut stream = connector.connect("localhost", near).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    stream.write_all(b"hello").await.unwrap();
    stream.flush().await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!((&back, &server.await.unwrap()), (b"hello", b"hello"));
}

#[tokio::test]
async fn a_server_of_another_name_or_authority_is_not_trusted() {
    for (authority, name) in [("authority.pem", "example.com"), ("localhost.pem", "[::2]")] {
        let (near, far) = tokio::io::duplex(1 << 16);
        let server = tokio::spawn(async move { acceptor().accept(far).await.is_ok() });
        let connector = Connector::load(Some(&file(authority)), HTTP).unwrap();
        let refused = connector.connect(name, near).await.unwrap_err();
        assert!(is_refusal(&refused), "{name}: {refused}");
        server.await.unwrap();
    }
}

#[test]
fn files_that_are_wrong_are_named() {
    let load = |cert: &str, key: &str| Acceptor::load(&file(cert), &file(key)).unwrap_err();
    assert!(matches!(load("none.pem", "localhost.key"), Error::Unreadable { .. }));
    assert!(matches!(load("localhost.key", "localhost.key"), Error::NoCertificate { .. }));
    assert!(matches!(load("localhost.pem", "localhost.pem"), Error::NoKey { .. }));
    let other = load("authority.pem", "localhost.key");
    assert!(matches!(other, Error::Pair { .. }), "{other}");
    assert!(other.to_string().contains("authority.pem"), "{other}");
    let none = Connector::load(Some(&file("localhost.key")), HTTP);
    assert!(matches!(none.unwrap_err(), Error::NoCertificate { .. }));
}
