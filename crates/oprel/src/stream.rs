//! The events of one answer, wherever it is made.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use oprel_api::{Answer, ErrorKind, Event, Failure};
use oprel_backend::{Events, wait, wait_until};

use crate::{OprelError, Result};

/// The events of one answer, in order; the last is an end or an error. Dropping it cancels the answer.
///
/// As an iterator it waits for each event; [`Stream::next_event`] is the same as a future.
#[derive(Debug)]
pub struct Stream(From);

#[derive(Debug)]
enum From {
    /// The engine of this process.
    Here(Events),
    /// A daemon.
    There(Part),
}

impl Stream {
    pub(crate) fn here(events: Events) -> Stream {
        Stream(From::Here(events))
    }

    /// The streams of the answers to one request, which come together.
    pub(crate) fn there(events: oprel_client::Events, answers: usize) -> Vec<Stream> {
        let parts = Part::of(events, answers).into_iter();
        parts.map(|part| Stream(From::There(part))).collect()
    }

    /// Waits for the end and puts the events together.
    ///
    /// # Errors
    /// If the stream ends with an error.
    pub fn answer(self) -> Result<Answer> {
        Answer::fold(self).map_err(OprelError::from)
    }

    /// The next event; `None` after the last.
    pub fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        match &mut self.0 {
            From::Here(events) => events.poll_event(context),
            From::There(part) => part.poll_event(context),
        }
    }

    /// The next event; `None` after the last. Needs no runtime.
    pub async fn next_event(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// Waits for the next event, but no longer than this: then it is pending.
    ///
    /// # Examples
    /// ```
    /// use std::task::Poll;
    /// use std::time::Duration;
    ///
    /// let mut stream = oprel::Model::demo()?.generate("What is oprel?")?;
    /// loop {
    ///     match stream.next_within(Duration::from_millis(50)) {
    ///         Poll::Ready(Some(_event)) => {}
    ///         Poll::Ready(None) => break,
    ///         Poll::Pending => { /* look whether somebody wants to stop it */ }
    ///     }
    /// }
    /// # Ok::<(), oprel::OprelError>(())
    /// ```
    pub fn next_within(&mut self, time: Duration) -> Poll<Option<Event>> {
        match Instant::now().checked_add(time) {
            Some(until) => wait_until(self.next_event(), until),
            None => Poll::Ready(self.next()),
        }
    }
}

impl Iterator for Stream {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        wait(self.next_event())
    }
}

/// One answer of those that come over one connection. Whoever wants an event reads for all of them.
#[derive(Debug)]
struct Part {
    all: Arc<Mutex<All<oprel_client::Events>>>,
    answer: usize,
}

/// What gives events of several answers.
trait Source {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Event)>>;
}

impl Source for oprel_client::Events {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Event)>> {
        oprel_client::Events::poll_next(self, context)
    }
}

#[derive(Debug)]
struct All<S> {
    source: S,
    answers: Vec<One>,
}

/// One answer.
#[derive(Debug, Default)]
struct One {
    queue: VecDeque<Event>,
    /// Its last event has come.
    over: bool,
    /// Nobody wants it any more.
    unwanted: bool,
    waker: Option<Waker>,
}

impl Part {
    fn of(source: oprel_client::Events, answers: usize) -> Vec<Part> {
        let all = Arc::new(Mutex::new(All::new(source, answers)));
        (0..answers).map(|answer| Part { all: all.clone(), answer }).collect()
    }

    fn lock(&self) -> MutexGuard<'_, All<oprel_client::Events>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.lock().poll_event(self.answer, context)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.lock().leave(self.answer);
    }
}

impl<S: Source> All<S> {
    fn new(source: S, answers: usize) -> All<S> {
        All { source, answers: (0..answers).map(|_| One::default()).collect() }
    }

    fn poll_event(&mut self, answer: usize, context: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            let one = &mut self.answers[answer];
            if let Some(event) = one.queue.pop_front() {
                self.wake_others(answer);
                return Poll::Ready(Some(event));
            }
            if one.over {
                self.wake_others(answer);
                return Poll::Ready(None);
            }
            match self.source.poll_next(context) {
                Poll::Pending => {
                    self.answers[answer].waker = Some(context.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(Some((_, Event::Error(failure)))) => self.fail(&failure),
                Poll::Ready(Some((of, event))) => self.take(of, event),
                Poll::Ready(None) => self.fail(&Failure::new(
                    ErrorKind::Backend,
                    "the daemon ended the stream before all answers were over",
                )),
            }
        }
    }

    fn take(&mut self, answer: usize, event: Event) {
        let Some(one) = self.answers.get_mut(answer).filter(|one| !one.over) else { return };
        one.over = event.is_last();
        if !one.unwanted {
            one.queue.push_back(event);
        }
        if let Some(waker) = one.waker.take() {
            waker.wake();
        }
    }

    /// Ends all that is not over.
    fn fail(&mut self, failure: &Failure) {
        for answer in 0..self.answers.len() {
            self.take(answer, Event::Error(failure.clone()));
        }
    }

    /// Whoever stops reading for the others lets one of them go on.
    fn wake_others(&mut self, answer: usize) {
        for (_, one) in self.answers.iter_mut().enumerate().filter(|(i, _)| *i != answer) {
            if let Some(waker) = one.waker.take() {
                waker.wake();
            }
        }
    }

    fn leave(&mut self, answer: usize) {
        let one = &mut self.answers[answer];
        one.unwanted = true;
        one.queue.clear();
        self.wake_others(answer);
    }
}

#[cfg(test)]
mod tests {
    use oprel_api::EndReason;

    use super::*;

    struct Script(VecDeque<(usize, Event)>);

    impl Source for Script {
        fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<(usize, Event)>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn said(all: &mut All<Script>, answer: usize) -> Vec<Event> {
        let mut context = Context::from_waker(Waker::noop());
        let mut said = Vec::new();
        while let Poll::Ready(Some(event)) = all.poll_event(answer, &mut context) {
            said.push(event);
        }
        said
    }

    #[test]
    fn each_answer_has_its_events_in_whatever_order_they_are_read() {
        let end = || Event::End(EndReason::EndOfText);
        let script = [
            (1, Event::text("b")),
            (0, Event::text("a")),
            (2, Event::text("c")),
            (1, end()),
            (7, Event::text("of nobody")),
            (0, end()),
            (0, Event::text("late")),
            (2, end()),
        ];
        let mut all = All::new(Script(script.into()), 3);
        all.leave(2);
        assert_eq!(said(&mut all, 0), [Event::text("a"), end()]);
        assert_eq!(said(&mut all, 1), [Event::text("b"), end()]);
        assert_eq!(said(&mut all, 2), []);
    }

    #[test]
    fn a_failure_ends_every_answer_that_is_open_once() {
        let failure = Event::Error(Failure::new(ErrorKind::Memory, "full"));
        let end = Event::End(EndReason::EndOfText);
        let script = [(1, end.clone()), (0, failure.clone())];
        let mut all = All::new(Script(script.into()), 3);
        assert_eq!(said(&mut all, 2), std::slice::from_ref(&failure));
        assert_eq!(said(&mut all, 0), [failure]);
        assert_eq!(said(&mut all, 1), [end]);
        let mut cut = All::new(Script(VecDeque::new()), 1);
        assert!(matches!(said(&mut cut, 0)[..], [Event::Error(_)]));
    }
}
