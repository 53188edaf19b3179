//! What a parent knows of its worker: what it was asked for, and how far it came.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oprel_api::{Cause, ErrorKind, Event, Failure, Request};

use super::Launch;
use crate::events::{Mouth, Promise, Promised, promise, way};
use crate::native::{MOST_ANSWERS, fresh_seed};
use crate::process::wire::{Reply, ToWorker};
use crate::{Description, Events, Health, Listener};

/// Processes that a request may take down with it before it is given up.
const MOST_DEATHS: u32 = 8;

pub(super) struct Inner {
    pub(super) launch: Launch,
    state: Mutex<State>,
    changed: Condvar,
}

pub(super) struct State {
    pub(super) health: Health,
    pub(super) description: Arc<Description>,
    pub(super) pid: Option<u32>,
    pub(super) restarts: u64,
    /// To the process, while it listens.
    pub(super) out: Option<Sender<ToWorker>>,
    /// Somebody wants it to end.
    pub(super) stopping: bool,
    /// Something was said since the process was started.
    pub(super) useful: bool,
    answers: HashMap<u64, Open>,
    calls: HashMap<u64, Pending>,
    next_id: u64,
}

/// An answer that is being made.
struct Open {
    request: Request,
    /// Tokens that were said.
    said: Vec<u32>,
    /// Events that come anew when it is begun again, and are not passed on twice.
    cuts: u32,
    repeated_cuts: u32,
    prompt_told: usize,
    repeated_prompt: usize,
    mouth: Mouth,
    taken: Option<Promise<Result<(), Failure>>>,
    trial: Trial,
}

/// A call that waits for its reply.
struct Pending {
    message: ToWorker,
    promise: Promise<Result<Reply, Failure>>,
    trial: Trial,
}

/// Whether something is worth another process.
#[derive(Default)]
struct Trial {
    /// Processes that died without having said anything to anybody, since it last came further.
    deaths: u32,
    /// When it is given up, unless a process takes it before.
    until: Option<Instant>,
}

pub(super) fn backend(message: String) -> Failure {
    Failure::new(ErrorKind::Backend, message)
}

pub(super) fn gone() -> Failure {
    backend("the model was unloaded".into())
}

fn crashed() -> Failure {
    backend(
        "model runner has unexpectedly stopped, and the answer could not be taken up again".into(),
    )
    .because(Cause::Crashed)
}

impl Trial {
    /// A process died, of use or not. Whether to go on.
    fn death(&mut self, useful: bool, resume: Duration) -> bool {
        self.deaths += u32::from(!useful);
        self.until.get_or_insert_with(|| Instant::now() + resume);
        self.deaths < MOST_DEATHS
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }
}

impl Inner {
    pub(super) fn new(launch: Launch) -> Inner {
        let state = State {
            health: Health::Starting,
            description: Arc::default(),
            pid: None,
            restarts: 0,
            out: None,
            stopping: false,
            useful: false,
            answers: HashMap::new(),
            calls: HashMap::new(),
            next_id: 0,
        };
        Inner { launch, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait_until_loaded(&self) -> Result<(), Failure> {
        let mut state = self.lock();
        loop {
            match &state.health {
                Health::Ready => return Ok(()),
                Health::Failed(failure) => return Err(failure.clone()),
                Health::Stopped => return Err(gone()),
                Health::Starting => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Waits, but not if it is to end.
    pub(super) fn pause(&self, time: Duration) {
        let state = self.lock();
        if !state.stopping {
            drop(self.changed.wait_timeout(state, time));
        }
    }

    pub(super) fn set_health(&self, health: Health) {
        self.lock().health = health;
        self.changed.notify_all();
    }

    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        if let Some(out) = &state.out {
            let _ = out.send(ToWorker::Stop);
        }
        drop(state);
        self.changed.notify_all();
    }

    #[allow(clippy::type_complexity)]
    pub(super) fn generate(
        self: &Arc<Self>,
        mut request: Request,
    ) -> Result<(Promised<Result<(), Failure>>, Vec<Events>), Failure> {
        request.validate()?;
        let n = request.n.min(MOST_ANSWERS);
        let seed = *request.sampling.seed.get_or_insert_with(fresh_seed);
        let mut state = self.lock();
        state.check()?;
        let (promise, taken) = promise();
        let mut promise = Some(promise);
        let (mut ids, mut all) = (Vec::new(), Vec::new());
        for i in 0..n {
            let id = state.id();
            let (mouth, events) = way();
            let mut request = request.clone();
            // Begun again, it is a request of its own.
            request.n = 1;
            request.sampling.seed = Some(seed.wrapping_add(u64::from(i)));
            let open = Open {
                said: request.resume.clone(),
                request,
                cuts: 0,
                repeated_cuts: 0,
                prompt_told: 0,
                repeated_prompt: 0,
                mouth,
                taken: promise.take(),
                trial: Trial::default(),
            };
            state.answers.insert(id, open);
            let inner = Arc::downgrade(self);
            all.push(events.when_dropped(move || {
                if let Some(inner) = inner.upgrade() {
                    inner.forget(id);
                }
            }));
            ids.push(id);
        }
        state.send(ToWorker::Generate { ids, request: Box::new(request) });
        Ok((taken, all))
    }

    pub(super) fn call(
        &self,
        message: impl FnOnce(u64) -> ToWorker,
    ) -> Result<(u64, Promised<Result<Reply, Failure>>), Failure> {
        let mut state = self.lock();
        state.check()?;
        let (promise, promised) = promise();
        let id = state.id();
        let message = message(id);
        state.send(message.clone());
        state.calls.insert(id, Pending { message, promise, trial: Trial::default() });
        Ok((id, promised))
    }

    /// Nobody waits for a reply any more.
    pub(super) fn forget_call(&self, id: u64) {
        let mut state = self.lock();
        if state.calls.remove(&id).is_some() {
            state.send(ToWorker::Cancel { id });
        }
    }

    /// Nobody wants an answer any more.
    fn forget(&self, id: u64) {
        let mut state = self.lock();
        if state.answers.remove(&id).is_some() {
            state.send(ToWorker::Cancel { id });
        }
    }
}

impl State {
    /// Whether it takes anything.
    fn check(&self) -> Result<(), Failure> {
        match &self.health {
            Health::Failed(failure) => Err(failure.clone()),
            _ if self.stopping => Err(gone()),
            _ => Ok(()),
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Sends, if there is a process; what is open is sent again when there is one.
    pub(super) fn send(&self, message: ToWorker) {
        if let Some(out) = &self.out {
            let _ = out.send(message);
        }
    }

    /// A process listens: it is given all that is open.
    pub(super) fn begin_again(&mut self, out: Sender<ToWorker>) {
        self.useful = false;
        for (&id, open) in &mut self.answers {
            (open.repeated_cuts, open.repeated_prompt) = (0, 0);
            let mut request = open.request.clone();
            request.resume.clone_from(&open.said);
            let _ = out.send(ToWorker::Generate { ids: vec![id], request: Box::new(request) });
        }
        for call in self.calls.values() {
            let _ = out.send(call.message.clone());
        }
        self.out = Some(out);
    }

    /// The process is gone: what it took down too often ends here.
    pub(super) fn end_process(&mut self, useful: bool, resume: Duration) {
        self.out = None;
        self.pid = None;
        let lost = |trial: &mut Trial| !trial.death(useful, resume);
        for (_, open) in self.answers.extract_if(|_, open| lost(&mut open.trial)) {
            open.fail(crashed());
        }
        for (_, call) in self.calls.extract_if(|_, call| lost(&mut call.trial)) {
            call.promise.keep(Err(crashed()));
        }
    }

    /// Ends what has waited too long for a process.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        for (_, open) in self.answers.extract_if(|_, open| open.trial.is_over(now)) {
            open.fail(crashed());
        }
        for (_, call) in self.calls.extract_if(|_, call| call.trial.is_over(now)) {
            call.promise.keep(Err(crashed()));
        }
    }

    /// Ends everything.
    pub(super) fn fail_all(&mut self, failure: &Failure) {
        for (_, open) in self.answers.drain() {
            open.fail(failure.clone());
        }
        for (_, call) in self.calls.drain() {
            call.promise.keep(Err(failure.clone()));
        }
    }

    pub(super) fn said(&mut self, id: u64, events: Vec<Event>) {
        self.useful = true;
        let Some(open) = self.answers.get_mut(&id) else { return };
        if open.hear(events) {
            self.answers.remove(&id);
        }
    }

    pub(super) fn reply(&mut self, id: u64, reply: Result<Reply, Failure>) {
        self.useful = true;
        if let Some(call) = self.calls.remove(&id) {
            call.promise.keep(reply);
            return;
        }
        match reply {
            Ok(_) => {
                let Some(open) = self.answers.get_mut(&id) else { return };
                open.trial.until = None;
                if let Some(promise) = open.taken.take() {
                    promise.keep(Ok(()));
                }
            }
            Err(failure) => {
                if let Some(open) = self.answers.remove(&id) {
                    open.fail(failure);
                }
            }
        }
    }
}

impl Open {
    /// Passes events on, but those that were passed on before; whether the last is among them.
    fn hear(&mut self, events: Vec<Event>) -> bool {
        self.trial.deaths = 0;
        // A short answer may be over before the worker's other thread says that it was taken.
        if let Some(promise) = self.taken.take() {
            promise.keep(Ok(()));
        }
        let mut fresh = Vec::with_capacity(events.len());
        for mut event in events {
            let is_new = match &mut event {
                Event::Text(piece) | Event::Thinking(piece) => {
                    self.said.extend(piece.tokens.iter().map(|t| t.id));
                    true
                }
                Event::Prompt(tokens) => {
                    let known = self.prompt_told.saturating_sub(self.repeated_prompt);
                    self.repeated_prompt += tokens.len();
                    self.prompt_told = self.prompt_told.max(self.repeated_prompt);
                    tokens.drain(..known.min(tokens.len()));
                    !tokens.is_empty()
                }
                Event::Truncated(_) if self.repeated_cuts < self.cuts => {
                    self.repeated_cuts += 1;
                    false
                }
                Event::Truncated(_) => {
                    self.cuts += 1;
                    self.repeated_cuts += 1;
                    true
                }
                _ => true,
            };
            if is_new {
                fresh.push(event);
            }
        }
        let over = fresh.iter().any(Event::is_last);
        self.mouth.hear(fresh);
        over
    }

    /// Ends it: as a refusal if it was not under way yet.
    fn fail(mut self, failure: Failure) {
        match self.taken.take() {
            Some(promise) => promise.keep(Err(failure)),
            None => self.mouth.hear(vec![Event::Error(failure)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use oprel_api::{EndReason, Piece, Sampled};

    use super::*;
    use crate::{LoadOptions, ModelSource, Patience, wait};

    fn inner() -> Arc<Inner> {
        Arc::new(Inner::new(Launch {
            program: "none".into(),
            args: Vec::new(),
            source: ModelSource::Demo,
            options: LoadOptions::default(),
            patience: Patience::default(),
        }))
    }

    fn prompt(ids: std::ops::Range<u32>) -> Event {
        Event::Prompt(ids.map(|id| Sampled { id, ..Sampled::default() }).collect())
    }

    #[test]
    fn an_answer_that_is_over_before_it_was_taken_is_an_answer() {
        let inner = inner();
        let (taken, mut events) = inner.generate(Request::raw("x")).unwrap();
        let said = vec![Event::Text(Piece::default()), Event::End(EndReason::EndOfText)];
        inner.lock().said(1, said);
        inner.lock().reply(1, Ok(Reply::Tokens(Vec::new())));
        assert_eq!(wait(taken), Some(Ok(())));
        assert!(events.remove(0).any(|event| event.is_last()));
    }

    #[test]
    fn a_prompt_in_pieces_is_told_once_however_often_it_is_begun() {
        let inner = inner();
        let (_taken, mut events) = inner.generate(Request::raw("x")).unwrap();
        inner.lock().said(1, vec![prompt(0..3)]);
        let (out, _to_worker) = std::sync::mpsc::channel();
        inner.lock().begin_again(out);
        inner.lock().said(1, vec![prompt(0..2), prompt(2..5), prompt(5..6)]);
        inner.lock().said(1, vec![Event::End(EndReason::EndOfText)]);
        let told = events.remove(0).filter_map(|event| match event {
            Event::Prompt(tokens) => Some(tokens.iter().map(|t| t.id).collect::<Vec<_>>()),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), [vec![0, 1, 2], vec![3, 4], vec![5]]);
    }
}
