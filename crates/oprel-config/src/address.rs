//! Where a server is, as it is typed: as Ollama reads it, a Unix socket, or a named pipe.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use crate::{Error, plain};

/// The port that a server listens on if nobody says otherwise.
pub const PORT: u16 = 11434;
/// What is typed, for messages.
pub(crate) const FORM: &str =
    "an address such as 127.0.0.1, [::1]:11434, http://host:80, unix:/path or pipe:name";
/// How the names of this machine's pipes begin.
const PIPES: &str = r"\\.\pipe\";

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and a port.
    Net(Net),
    /// The path of a Unix socket.
    Socket(PathBuf),
    /// The path of a named pipe of Windows, such as `\\.\pipe\oprel`.
    Pipe(PathBuf),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// Name or address, without brackets; empty where none is said.
    pub host: String,
    /// The port that is said, else that of the scheme, else the usual one.
    pub port: u16,
}

impl Address {
    /// Reads `[scheme://]host[:port][/...]`, `unix:/path/of/a.sock`, or `pipe:name`, which `\\.\pipe\name` is, too.
    ///
    /// # Errors
    /// [`Error::Address`], which says what is wrong.
    pub fn parse(text: &str) -> Result<Address, Error> {
        let text = plain(text);
        match read(&text) {
            Ok((address, None)) => Ok(address),
            Ok((_, Some(why))) | Err(why) => Err(Error::Address { text, why }),
        }
    }

    /// The port of a host.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Net(net) => Some(net.port),
            Address::Socket(_) | Address::Pipe(_) => None,
        }
    }
}

/// An address, and what is wrong with its port: Ollama's variable may have any, and the usual one counts then.
pub(crate) fn read(text: &str) -> Result<(Address, Option<String>), String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.trim_start_matches("//");
        return match path.is_empty() {
            true => Err("no path follows".into()),
            false => Ok((Address::Socket(path.into()), None)),
        };
    }
    let pipe = text.strip_prefix("pipe:").map(|name| format!("{PIPES}{name}"));
    if let Some(pipe) = pipe.or_else(|| text.starts_with(r"\\").then(|| text.to_owned())) {
        return Ok((Address::Pipe(pipe.into()), None));
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let usual = match scheme {
        Some("http") => 80,
        Some("https") => 443,
        Some(other) if !is_scheme(other) => return Err(format!("'{other}' is no scheme")),
        _ => PORT,
    };
    let (host, said) = split(rest.split('/').next().unwrap_or_default())?;
    let wrong = |port: &str| format!("its port '{port}' is no number up to 65535");
    let (port, wrong) = match said.map(|port| port.parse().map_err(|_| wrong(port))) {
        None => (usual, None),
        Some(Ok(port)) => (port, None),
        Some(Err(wrong)) => (usual, Some(wrong)),
    };
    let net = Net { tls: scheme == Some("https"), host: host.to_owned(), port };
    Ok((Address::Net(net), wrong))
}

/// The host without brackets, and what stands where a port may stand.
fn split(place: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(inner) = place.strip_prefix('[') {
        let (host, after) = inner.split_once(']').ok_or("its '[' has no ']'")?;
        if !is_v6(host) {
            return Err(format!("'{host}' is no IPv6 address"));
        }
        return match after.strip_prefix(':') {
            None if !after.is_empty() => Err("only ':' and a port may follow its ']'".into()),
            port => Ok((host, port)),
        };
    }
    if is_v6(place) {
        return Ok((place, None));
    }
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (place, None),
    };
    if host.contains(':') {
        return Err("it has several ':'; an IPv6 address with a port stands in brackets".into());
    }
    match host.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c)) {
        Some(wrong) => Err(format!("{wrong:?} cannot stand in the name of a host")),
        None => Ok((host, port)),
    }
}

/// Link-local addresses say an interface behind a `%`.
fn is_v6(text: &str) -> bool {
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    address.parse::<Ipv6Addr>().is_ok()
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_ollama_reads_it() {
        let net = |host: &str, port| Address::Net(Net { tls: false, host: host.into(), port });
        let tls = |host: &str, port| Address::Net(Net { tls: true, host: host.into(), port });
        let table = [
            ("", net("", PORT)),
            ("1.2.3.4", net("1.2.3.4", PORT)),
            ("1.2.3.4:80", net("1.2.3.4", 80)),
            (" \"host:9\" ", net("host", 9)),
            ("http://1.2.3.4", net("1.2.3.4", 80)),
            ("http://host:5/path", net("host", 5)),
            ("https://host/path", tls("host", 443)),
            ("https://[::1]:5", tls("::1", 5)),
            ("tcp://box_1.lan", net("box_1.lan", PORT)),
            (":5678", net("", 5678)),
            ("[::1]", net("::1", PORT)),
            ("[::1]:9", net("::1", 9)),
            ("::1", net("::1", PORT)),
            ("[fe80::1%eth0]:9", net("fe80::1%eth0", 9)),
            ("unix:/a/b.sock", Address::Socket("/a/b.sock".into())),
            ("unix:///a/b.sock", Address::Socket("/a/b.sock".into())),
            ("pipe:oprel", Address::Pipe(r"\\.\pipe\oprel".into())),
            (r"\\box\pipe\oprel", Address::Pipe(r"\\box\pipe\oprel".into())),
        ];
        for (text, address) in table {
            assert_eq!(Address::parse(text), Ok(address), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        let table = [
            ("http://[::1", "its '[' has no ']'"),
            ("[", "its '[' has no ']'"),
            ("[::zz]:1", "'::zz' is no IPv6 address"),
            ("[::1]80", "only ':' and a port may follow its ']'"),
            ("::1]", "several ':'"),
            ("1:2:3", "several ':'"),
            ("host]", "']' cannot stand in the name of a host"),
            ("me@host", "'@' cannot stand"),
            ("my host", "' ' cannot stand"),
            ("host?x", "'?' cannot stand"),
            ("höst", "'ö' cannot stand"),
            ("a\u{7}", r"'\u{7}' cannot stand"),
            ("ht tp://host", "'ht tp' is no scheme"),
            ("://host", "'' is no scheme"),
            ("unix:", "no path follows"),
            ("host:", "its port '' is no number up to 65535"),
            ("host:bad", "its port 'bad' is no number"),
            ("host:65536", "its port '65536' is no number"),
            ("[::1]:-1", "its port '-1' is no number"),
        ];
        for (text, why) in table {
            let message = Address::parse(text).unwrap_err().to_string();
            assert!(message.contains(why) && message.ends_with(FORM), "{text}: {message}");
        }
    }
}
