//! Where a daemon is.

use std::fmt;
use std::path::PathBuf;

/// The port that a daemon listens on if nobody says otherwise.
const PORT: u16 = 11434;

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
    pub fn parse(text: &str) -> Endpoint {
        let text = text.trim().trim_matches(['"', '\'']);
        if let Some(path) = text.strip_prefix("unix:") {
            return Endpoint::Socket(path.trim_start_matches("//").into());
        }
        if let Some(name) = text.strip_prefix("pipe:") {
            return Endpoint::Pipe(format!("{PIPES}{name}").into());
        }
        if text.starts_with(r"\\") {
            return Endpoint::Pipe(text.into());
        }
        let (scheme, rest) = text.split_once("://").map_or((None, text), |(s, r)| (Some(s), r));
        let place = rest.split('/').next().unwrap_or_default();
        let usual = match scheme {
            Some("http") => 80,
            Some("https") => 443,
            _ => PORT,
        };
        let at = |host, port| match scheme {
            Some("https") => Endpoint::Tls { host, port },
            _ => Endpoint::Tcp { host, port },
        };
        let whole = |host: &str| match host {
            // A server that listens everywhere is also here.
            "" | "0.0.0.0" => "127.0.0.1".to_string(),
            "[::]" | "::" => "[::1]".to_string(),
            host => host.to_string(),
        };
        let is_v6 = place.parse::<std::net::Ipv6Addr>().is_ok();
        match place.rsplit_once(':') {
            _ if is_v6 => at(whole(&format!("[{place}]")), usual),
            Some((host, port)) if !port.contains(']') => {
                at(whole(host), port.parse().unwrap_or(usual))
            }
            _ => at(whole(place), usual),
        }
    }

    /// Where a daemon of this user is looked for: `OPREL_HOST`, then `OLLAMA_HOST`, then
    /// `host` in `config.yaml`, then its usual place.
    pub fn from_env() -> Endpoint {
        oprel_config::setting("host").map_or_else(
            || Endpoint::Tcp { host: "127.0.0.1".into(), port: PORT },
            |text| Endpoint::parse(&text),
        )
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
            assert_eq!(Endpoint::parse(text), endpoint, "{text}");
        }
    }

    #[test]
    fn a_pipe_is_told_as_it_is_typed_and_may_be_of_another_machine() {
        for text in ["pipe:oprel", r"\\box\pipe\oprel"] {
            assert_eq!(Endpoint::parse(text).to_string(), text);
        }
        assert!(Endpoint::parse("pipe:oprel").is_here());
        assert!(!Endpoint::parse(r"\\box\pipe\oprel").is_here());
    }
}
