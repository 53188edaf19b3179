//! Where a daemon is.

use std::fmt;
use std::path::PathBuf;

use oprel_config::{Address, Net, PORT};

use crate::Result;

/// Where a daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A host and a port, over TLS.
    Tls {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket.
    Socket(PathBuf),
    /// A named pipe of Windows, such as `\\.\pipe\oprel`.
    Pipe(PathBuf),
}

/// How the names of this machine's pipes begin.
const PIPES: &str = r"\\.\pipe\";

impl Endpoint {
    /// Reads `[http[s]://]host[:port][/...]`, `unix:/path/of/a.sock`, or `pipe:name`, which `\\.\pipe\name` is, too.
    ///
    /// # Errors
    /// [`Settings`](crate::Error::Settings) for a text that is none of these.
    pub fn parse(text: &str) -> Result<Endpoint> {
        Ok(Address::parse(text)?.into())
    }

    /// Where a daemon of this user is looked for: `OPREL_HOST`, then `OLLAMA_HOST`, then
    /// `host` in `config.yaml`, then its usual place.
    ///
    /// # Errors
    /// [`Settings`](crate::Error::Settings) if what is set cannot be used: the usual place is not what was meant then.
    pub fn from_env() -> Result<Endpoint> {
        let usual = || Endpoint::Tcp { host: "127.0.0.1".into(), port: PORT };
        Ok(oprel_config::current()?.address("host").map_or_else(usual, Endpoint::from))
    }

    /// Whether it is on this machine.
    pub fn is_here(&self) -> bool {
        match self {
            Endpoint::Socket(_) => true,
            Endpoint::Pipe(path) => path.to_str().is_some_and(|path| path.starts_with(PIPES)),
            Endpoint::Tcp { host, .. } | Endpoint::Tls { host, .. } => {
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                let is_loopback = |ip: std::net::IpAddr| ip.is_loopback();
                bare == "localhost" || bare.parse().is_ok_and(is_loopback)
            }
        }
    }

    /// The address of a route.
    pub fn uri(&self, path: &str) -> String {
        match self {
            Endpoint::Tcp { host, port } => format!("http://{host}:{port}{path}"),
            Endpoint::Tls { host, port } => format!("https://{host}:{port}{path}"),
            Endpoint::Socket(_) | Endpoint::Pipe(_) => format!("http://localhost{path}"),
        }
    }
}

/// Where a server of this address is found: one that listens everywhere is also here.
impl From<Address> for Endpoint {
    fn from(address: Address) -> Endpoint {
        let Net { tls, host, port } = match address {
            Address::Net(net) => net,
            Address::Socket(path) => return Endpoint::Socket(path),
            Address::Pipe(path) => return Endpoint::Pipe(path),
        };
        let host = match host.as_str() {
            "" | "0.0.0.0" => "127.0.0.1".into(),
            "::" => "[::1]".into(),
            _ if host.contains(':') => format!("[{host}]"),
            _ => host,
        };
        if tls { Endpoint::Tls { host, port } } else { Endpoint::Tcp { host, port } }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } => write!(f, "http://{host}:{port}"),
            Endpoint::Tls { host, port } => write!(f, "https://{host}:{port}"),
            Endpoint::Socket(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Pipe(path) => {
                let path = path.display().to_string();
                match path.strip_prefix(PIPES) {
                    Some(name) => write!(f, "pipe:{name}"),
                    None => f.write_str(&path),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_the_field_writes_them() {
        let tcp = |host: &str, port| Endpoint::Tcp { host: host.into(), port };
        let table = [
            ("", tcp("127.0.0.1", PORT)),
            ("0.0.0.0", tcp("127.0.0.1", PORT)),
            ("0.0.0.0:80", tcp("127.0.0.1", 80)),
            ("http://host", tcp("host", 80)),
            ("http://host:5/path", tcp("host", 5)),
            ("https://host/path", Endpoint::Tls { host: "host".into(), port: 443 }),
            ("https://[::1]:5", Endpoint::Tls { host: "[::1]".into(), port: 5 }),
            (":7", tcp("127.0.0.1", 7)),
            ("[::1]:7", tcp("[::1]", 7)),
            ("::1", tcp("[::1]", PORT)),
            ("\"host:9\"", tcp("host", 9)),
            ("unix:/a/b.sock", Endpoint::Socket("/a/b.sock".into())),
            ("pipe:oprel", Endpoint::Pipe(r"\\.\pipe\oprel".into())),
            (r"\\.\pipe\oprel", Endpoint::Pipe(r"\\.\pipe\oprel".into())),
        ];
        for (text, endpoint) in table {
            assert_eq!(Endpoint::parse(text).unwrap(), endpoint, "{text}");
        }
        let wrong = Endpoint::parse("http://[::1").unwrap_err().to_string();
        assert!(wrong.contains("its '[' has no ']'"), "{wrong}");
    }

    #[test]
    fn a_pipe_is_told_as_it_is_typed_and_may_be_of_another_machine() {
        for text in ["pipe:oprel", r"\\box\pipe\oprel"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        assert!(Endpoint::parse("pipe:oprel").unwrap().is_here());
        assert!(!Endpoint::parse(r"\\box\pipe\oprel").unwrap().is_here());
    }
}
