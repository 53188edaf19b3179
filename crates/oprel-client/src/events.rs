//! The events of answers, read from the body of a response.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use hyper::body::Incoming;
use oprel_api::native::Line;
use oprel_api::{ErrorKind, Event, Failure};

use crate::lines::Lines;

/// The events of the answers to one request, as they come. Dropping it cancels them.
#[derive(Debug)]
pub struct AsyncEvents {
    lines: Lines,
    /// Answers that are not over.
    open: usize,
}

impl AsyncEvents {
    pub(crate) fn new(body: Incoming, answers: usize) -> AsyncEvents {
        AsyncEvents { lines: Lines::of(body), open: answers }
    }

    /// The next event and whose answer it belongs to; `None` when all answers are over. A stream that breaks
    /// off ends with an error; one error ends all its answers.
    pub async fn next(&mut self) -> Option<(usize, Event)> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`AsyncEvents::next`], for those who poll.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Event)>> {
        if self.open == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match ready!(self.lines.poll_next(context)) {
            Some(Ok(line)) => self.line(&line),
            Some(Err(why)) => self.broken(&why),
            None => self.broken("the stream ended too early"),
        }))
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
