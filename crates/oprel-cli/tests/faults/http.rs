//! As much HTTP as the tests need, so that they see each byte and can leave at any.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// How long anything may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection, and where in an answer it is.
pub(crate) struct Connection {
    address: String,
    stream: BufReader<TcpStream>,
    left: Left,
    /// Bytes of the body that were read and not taken.
    bytes: Vec<u8>,
}

/// What remains of a body.
enum Left {
    Bytes(usize),
    Chunks,
    Nothing,
}

/// The beginning of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) lines: Vec<String>,
}

impl Head {
    /// A header's value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let pairs = self.lines.iter().filter_map(|line| line.split_once(": "));
        pairs.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Connection {
    pub(crate) fn open(address: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let stream = BufReader::new(stream);
        Ok(Connection { address: address.into(), stream, left: Left::Nothing, bytes: Vec::new() })
    }

    /// Sends a request, whole.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<()> {
        self.send_with(method, path, "", body)
    }

    /// Sends a request with these lines in its head.
    pub(crate) fn send_with(
        &mut self,
        method: &str,
        path: &str,
        lines: &str,
        body: &[u8],
    ) -> io::Result<()> {
        let (address, n) = (&self.address, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{lines}Content-Length: {n}\r\n\r\n"
        );
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat())
    }

    fn header(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_string()),
        }
    }

    /// The beginning of the answer.
    pub(crate) fn head(&mut self) -> io::Result<Head> {
        let first = self.header()?;
        let status = first.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| broken(&first))?;
        let mut lines = Vec::new();
        loop {
            match self.header()? {
                line if line.is_empty() => break,
                line => lines.push(line),
            }
        }
        let head = Head { status, lines };
        let length = head.get("content-length").and_then(|n| n.parse().ok());
        self.left = match (length, head.get("transfer-encoding")) {
            (Some(n), _) => Left::Bytes(n),
            (None, Some("chunked")) => Left::Chunks,
            _ => Left::Nothing,
        };
        Ok(head)
    }

    /// Reads more of the body; `false` at its end.
    fn more(&mut self) -> io::Result<bool> {
        let n = match self.left {
            Left::Nothing | Left::Bytes(0) => return Ok(false),
            Left::Bytes(n) => n,
            Left::Chunks => {
                let size = self.header()?;
                usize::from_str_radix(&size, 16).map_err(|_| broken(&size))?
            }
        };
        let at = self.bytes.len();
        self.bytes.resize(at + n, 0);
        self.stream.read_exact(&mut self.bytes[at..])?;
        match self.left {
            Left::Chunks if n == 0 => {
                self.header()?;
                self.left = Left::Nothing;
                return Ok(false);
            }
            Left::Chunks => drop(self.header()?),
            _ => self.left = Left::Nothing,
        }
        Ok(true)
    }

    /// The next line of the body; `None` at its end.
    pub(crate) fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.bytes.iter().position(|b| *b == b'\n') {
                let line = self.bytes.drain(..=end).collect();
                return String::from_utf8(line).map(Some).map_err(|_| broken("no UTF-8"));
            }
            if !self.more()? {
                return Ok(None);
            }
        }
    }

    /// All that remains of the body.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.more()? {}
        Ok(std::mem::take(&mut self.bytes))
    }

    /// As much of the body as is wanted, and whether that is all.
    pub(crate) fn some(&mut self, most: usize) -> io::Result<(Vec<u8>, bool)> {
        while self.bytes.len() < most {
            if !self.more()? {
                return Ok((std::mem::take(&mut self.bytes), true));
            }
        }
        Ok((std::mem::take(&mut self.bytes), false))
    }

    /// What it goes over.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends a request and reads its answer.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> io::Result<(Head, Vec<u8>)> {
        self.send(method, path, body)?;
        let head = self.head()?;
        let body = self.rest()?;
        Ok((head, body))
    }

    /// Closes it by a reset.
    pub(crate) fn reset(self) {
        let linger = rustix::net::sockopt::set_socket_linger;
        let _ = linger(self.stream.get_ref(), Some(Duration::ZERO));
    }
}

/// A request of its own connection: status and body.
pub(crate) fn ask(address: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut connection = Connection::open(address).unwrap();
    let (head, bytes) = connection.ask("POST", path, body.to_string().as_bytes()).unwrap();
    let value = serde_json::from_slice(&bytes).unwrap_or_else(|e| {
        panic!("{e} in {} to {path}: {}", head.status, String::from_utf8_lossy(&bytes))
    });
    (head.status, value)
}
