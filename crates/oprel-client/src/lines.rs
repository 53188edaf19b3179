//! Lines of the body of a response, as they come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Incoming};

/// Most bytes of a line of a stream.
const MOST_LINE: usize = 64 << 20;

/// The lines of a body.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    bytes: Vec<u8>,
    /// Where a line may still end: what is before has been looked at.
    seen: usize,
}

impl Lines {
    pub(crate) fn of(body: Incoming) -> Lines {
        Lines { body, bytes: Vec::new(), seen: 0 }
    }

    /// The next line, or why there is none; `None` where the body ends.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Vec<u8>, String>>> {
        loop {
            if let Some(line) = self.whole_line() {
                return Poll::Ready(Some(Ok(line)));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => self.bytes.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.to_string()))),
                None => {
                    let rest = std::mem::take(&mut self.bytes);
                    self.seen = 0;
                    return Poll::Ready((!rest.is_empty()).then_some(Ok(rest)));
                }
            }
            if self.bytes.len() > MOST_LINE {
                return Poll::Ready(Some(Err("a line is too long".into())));
            }
        }
    }

    /// Takes the bytes of the next line, if it is here.
    fn whole_line(&mut self) -> Option<Vec<u8>> {
        let Some(at) = self.bytes[self.seen..].iter().position(|b| *b == b'\n') else {
            self.seen = self.bytes.len();
            return None;
        };
        let rest = self.bytes.split_off(self.seen + at + 1);
        self.seen = 0;
        Some(std::mem::replace(&mut self.bytes, rest))
    }
}
