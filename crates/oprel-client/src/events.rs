//! The events of answers, read from the body of a response.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Incoming};
use oprel_api::native::Line;
use oprel_api::{ErrorKind, Event, Failure};

/// Most bytes of a line of a stream.
const MOST_LINE: usize = 64 << 20;

/// The events of the answers to one request, as they come. Dropping it cancels them.
#[derive(Debug)]
pub struct AsyncEvents {
    body: Incoming,
    bytes: Vec<u8>,
    /// Where a line may still end: what is before has been looked at.
    seen: usize,
    /// Answers that are not over.
    open: usize,
}

impl AsyncEvents {
    pub(crate) fn new(body: Incoming, answers: usize) -> AsyncEvents {
        AsyncEvents { body, bytes: Vec::new(), seen: 0, open: answers }
    }

    /// The next event and whose answer it belongs to; `None` when all answers are over. A stream that breaks
    /// off ends with an error; one error ends all its answers.
    pub async fn next(&mut self) -> Option<(usize, Event)> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`AsyncEvents::next`], for those who poll.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Event)>> {
        while self.open > 0 {
            if let Some(line) = self.whole_line() {
                return Poll::Ready(Some(self.line(&line)));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => self.bytes.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Poll::Ready(Some(self.broken(&error.to_string()))),
                None => return Poll::Ready(Some(self.broken("the stream ended too early"))),
            }
            if self.bytes.len() > MOST_LINE {
                return Poll::Ready(Some(self.broken("a line is too long")));
            }
        }
        Poll::Ready(None)
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

    fn line(&mut self, line: &[u8]) -> (usize, Event) {
        let Line { answer, event } = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => return self.broken(&error.to_string()),
        };
        match &event {
            Event::Error(_) => self.open = 0,
            event if event.is_last() => self.open -= 1,
            _ => {}
        }
        (answer, event)
    }

    fn broken(&mut self, why: &str) -> (usize, Event) {
        self.open = 0;
        let message = format!("the daemon's answer broke off: {why}");
        (0, Event::Error(Failure::new(ErrorKind::Backend, message)))
    }
}
