//! The way of an answer's events from whoever makes them to whoever wants them. It never blocks the
//! maker, and serves readers that wait and readers that are polled alike.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use oprel_api::{ErrorKind, Event, Failure};

/// Who hears the events of one answer. Called on the engine's thread: it must not wait.
pub trait Listener: Send {
    /// Hears events that belong together: they are passed on all or none.
    fn hear(&mut self, events: Vec<Event>);

    /// Whether the answer is still wanted.
    fn is_wanted(&self) -> bool;
}

/// The events of one answer, in order; the last is an end or an error. Dropping it cancels.
///
/// As an iterator it waits for each event; [`Events::next_event`] is the same as a future.
pub struct Events {
    way: Arc<Way>,
    over: bool,
    on_drop: Option<Box<dyn FnOnce() + Send + Sync>>,
}

/// The other end of [`Events`].
#[derive(Debug)]
pub struct Mouth(Arc<Way>);

#[derive(Debug, Default)]
struct Way {
    state: Mutex<State>,
    unwanted: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Event>,
    /// Nobody speaks any more.
    silent: bool,
    waker: Option<Waker>,
}

/// A way for the events of an answer.
pub fn way() -> (Mouth, Events) {
    let way = Arc::new(Way::default());
    (Mouth(way.clone()), Events { way, over: false, on_drop: None })
}

impl Way {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.lock();
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Listener for Mouth {
    fn hear(&mut self, events: Vec<Event>) {
        if !events.is_empty() {
            self.0.change(|state| state.queue.extend(events));
        }
    }

    fn is_wanted(&self) -> bool {
        !self.0.unwanted.load(Ordering::Relaxed)
    }
}

impl Drop for Mouth {
    fn drop(&mut self) {
        self.0.change(|state| state.silent = true);
    }
}

impl Events {
    /// Calls this when the events are dropped, whether they have ended or not.
    #[must_use]
    pub fn when_dropped(mut self, call: impl FnOnce() + Send + Sync + 'static) -> Events {
        self.on_drop = Some(Box::new(call));
        self
    }

    /// The next event; `None` after the last.
    pub fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.over {
            return Poll::Ready(None);
        }
        let event = {
            let mut state = self.way.lock();
            match state.queue.pop_front() {
                Some(event) => event,
                None if state.silent => Event::Error(Failure::new(
                    ErrorKind::Backend,
                    "the engine stopped in the middle of the answer",
                )),
                None => {
                    state.waker = Some(context.waker().clone());
                    return Poll::Pending;
                }
            }
        };
        self.over = event.is_last();
        Poll::Ready(Some(event))
    }

    /// The next event; `None` after the last.
    pub async fn next_event(&mut self) -> Option<Event> {
        poll_fn(|context| self.poll_event(context)).await
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        wait(self.next_event())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.way.unwanted.store(true, Ordering::Relaxed);
        if let Some(call) = self.on_drop.take() {
            call();
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("over", &self.over).finish_non_exhaustive()
    }
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread. Only for futures that need no runtime.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// The same until a moment; then it is pending.
pub fn wait_until<T>(future: impl Future<Output = T>, until: Instant) -> Poll<T> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Poll::Ready(value);
        }
        match until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return Poll::Pending,
            rest => std::thread::park_timeout(rest),
        }
    }
}

/// A value that comes once, from another thread.
pub(crate) fn promise<T>() -> (Promise<T>, Promised<T>) {
    let slot = Arc::new(Mutex::new(Slot { value: None, silent: false, waker: None }));
    (Promise(slot.clone()), Promised(slot))
}

/// Keeps it.
pub(crate) struct Promise<T>(Arc<Mutex<Slot<T>>>);

/// Waits for it; `None` if it never comes.
pub(crate) struct Promised<T>(Arc<Mutex<Slot<T>>>);

struct Slot<T> {
    value: Option<T>,
    silent: bool,
    waker: Option<Waker>,
}

impl<T> Promise<T> {
    pub(crate) fn keep(self, value: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).value = Some(value);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            slot.silent = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Promised<T> {
    type Output = Option<T>;

    fn poll(self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.value.is_some() || slot.silent {
            return Poll::Ready(slot.value.take());
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oprel_api::EndReason;

    #[test]
    fn events_come_in_order_and_nothing_after_the_last() {
        let (mut mouth, events) = way();
        let speaker = std::thread::spawn(move || {
            for i in 0..100 {
                mouth.hear(vec![Event::text(i.to_string()), Event::text("-")]);
                if i % 10 == 0 {
                    std::thread::yield_now();
                }
            }
            mouth.hear(vec![Event::End(EndReason::EndOfText), Event::text("too late")]);
        });
        let all: Vec<Event> = events.collect();
        speaker.join().unwrap();
        assert_eq!(all.len(), 201);
        assert_eq!(all.last(), Some(&Event::End(EndReason::EndOfText)));
    }

    #[test]
    fn a_speaker_that_goes_away_is_an_error_and_a_reader_that_does_is_told() {
        let (mut mouth, mut events) = way();
        mouth.hear(vec![Event::text("a")]);
        assert!(mouth.is_wanted());
        drop(mouth);
        assert_eq!(events.next(), Some(Event::text("a")));
        assert!(matches!(events.next(), Some(Event::Error(_))));
        assert_eq!(events.next(), None);
        let (mouth, events) = way();
        let told = Arc::new(AtomicBool::new(false));
        let flag = told.clone();
        drop(events.when_dropped(move || flag.store(true, Ordering::Relaxed)));
        assert!(!mouth.is_wanted() && told.load(Ordering::Relaxed));
    }

    #[test]
    fn a_promise_is_kept_or_broken() {
        let (promise, promised) = promise();
        std::thread::spawn(move || promise.keep(5));
        assert_eq!(wait(promised), Some(5));
        let (promise, promised) = super::promise::<i32>();
        std::thread::spawn(move || drop(promise));
        assert_eq!(wait(promised), None);
    }
}
