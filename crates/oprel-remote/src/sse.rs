//! Server-sent events: bytes as they come to the data of each event.

/// Longest line that is held.
const MOST_LINE: usize = 8 << 20;

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Its data.
    Data(String),
    /// Its data, said to be an error: llama.cpp's server has a field of that name.
    Error(String),
}

/// The reader of a stream. Names of events, ids and comments say nothing here.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// How far `bytes` were looked at.
    seen: usize,
}

/// A line is longer than any that is sane.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Lines {
    /// Takes bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() - self.seen > MOST_LINE { Err(TooLong) } else { Ok(()) }
    }

    /// The next line that says something. Each of the engines here puts an event on one line.
    pub(crate) fn next_said(&mut self) -> Option<Said> {
        loop {
            let rest = &self.bytes[self.seen..];
            let Some(len) = rest.iter().position(|b| *b == b'\n') else {
                self.bytes.drain(..self.seen);
                self.seen = 0;
                return None;
            };
            let said = said(&rest[..len]);
            self.seen += len + 1;
            if said.is_some() {
                return said;
            }
        }
    }
}

fn said(line: &[u8]) -> Option<Said> {
    let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
    let (field, value) = line.split_once(':')?;
    let value = value.strip_prefix(' ').unwrap_or(value).to_string();
    match field {
        "data" => Some(Said::Data(value)),
        "error" => Some(Said::Error(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_read_however_the_bytes_are_cut() {
        let text = ": ping\r\n\r\nevent: x\r\ndata: {\"a\": \"é\"}\r\n\r\ndata:[DONE]\n\nerror: {}\n\nid: 7\n\ndata: tail";
        let wanted = [
            Said::Data("{\"a\": \"é\"}".into()),
            Said::Data("[DONE]".into()),
            Said::Error("{}".into()),
        ];
        for size in 1..text.len() {
            let (mut lines, mut all) = (Lines::default(), Vec::new());
            for bytes in text.as_bytes().chunks(size) {
                lines.push(bytes).unwrap();
                all.extend(std::iter::from_fn(|| lines.next_said()));
            }
            assert_eq!(all, wanted, "{size}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_held_for_ever() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; MOST_LINE]).unwrap();
        assert_eq!(lines.next_said(), None);
        assert_eq!(lines.push(b"x"), Err(TooLong));
    }
}
