//! What runs on the engine's thread: it takes commands between steps and lets sequences speak.

mod vectors;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use oprel_api::{ErrorKind, Event, Failure, Gauges};
use oprel_engine::{Ask, Engine, Says, SeqId};

use crate::speaker::{After, Speaker};
use crate::{Error, Listener, Result};

pub(crate) use vectors::Embed;
use vectors::Requests;

/// How often a disk is asked for pages that are awaited.
const PAGES_COME: Duration = Duration::from_micros(500);

/// Nobody commands any more.
struct Over;

/// What can be asked of the engine's thread.
pub(crate) enum Command {
    /// An answer.
    Generate(Box<Generate>),
    /// Vectors of texts.
    Embed(Embed),
    /// Logits of tokens that are fed in pieces.
    Logits(Vec<u32>, Vec<usize>, Sender<Result<Vec<f32>>>),
    /// What it is doing.
    Gauges(Sender<Gauges>),
}

/// An answer that is wanted.
pub(crate) struct Generate {
    pub(crate) ask: Ask,
    pub(crate) speaker: Speaker,
    pub(crate) listener: Box<dyn Listener>,
    pub(crate) submitted: Instant,
    /// Where to tell when each token was made.
    pub(crate) ticks: Option<Sender<Instant>>,
}

/// Signs that the engine's thread is alive.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Turns that it made.
    pub(crate) turns: AtomicU64,
    /// Whether it has something to do.
    pub(crate) busy: AtomicBool,
}

/// What runs on the engine's thread.
pub(crate) struct EngineThread {
    engine: Engine,
    pulse: Arc<Pulse>,
    inbox: Receiver<Command>,
    streams: HashMap<SeqId, Stream>,
    requests: Requests,
    epoch: Instant,
}

struct Stream {
    speaker: Speaker,
    listener: Box<dyn Listener>,
    ticks: Option<Sender<Instant>>,
}

impl Stream {
    /// Sends what is to be said; `false` if nobody listens.
    fn send(&mut self, events: Vec<Event>) -> bool {
        self.listener.hear(events);
        self.listener.is_wanted()
    }
}

impl EngineThread {
    pub(crate) fn new(engine: Engine, inbox: Receiver<Command>, pulse: Arc<Pulse>) -> EngineThread {
        EngineThread {
            engine,
            pulse,
            inbox,
            streams: HashMap::new(),
            requests: Requests::default(),
            epoch: Instant::now(),
        }
    }

    /// Until nobody commands it. A panic below is a bug; it ends this engine and all its streams.
    pub(crate) fn run(mut self) {
        let ended = catch_unwind(AssertUnwindSafe(|| while self.turn() {}));
        if ended.is_err() {
            let failure =
                Failure::new(ErrorKind::Backend, "the engine failed; this is a bug in oprel");
            for stream in self.streams.values_mut() {
                stream.listener.hear(vec![Event::Error(failure.clone())]);
            }
        }
    }

    /// Takes what was commanded, makes one step; `false` when all is over.
    fn turn(&mut self) -> bool {
        loop {
            match self.next_command() {
                Ok(Some(command)) => self.obey(command),
                Ok(None) => break,
                Err(Over) => {
                    // What was computed may serve another day.
                    self.engine.flush();
                    return false;
                }
            }
        }
        self.pulse.turns.fetch_add(1, Ordering::Relaxed);
        self.forget_unwanted();
        let mut says = Vec::new();
        let epoch = self.epoch;
        let ran = self.engine.step(&|| epoch.elapsed(), &mut says);
        for (id, said) in says {
            match self.requests.has(id) {
                true => self.requests.hear(&mut self.engine, id, said),
                false => self.say(id, said),
            }
        }
        self.requests.feed(&mut self.engine);
        if !ran && !self.engine.is_idle() {
            // Pages are on their way from a disk. That nobody commands any more is seen in the next turn.
            if let Ok(command) = self.inbox.recv_timeout(PAGES_COME) {
                self.obey(command);
            }
        }
        true
    }

    /// A command, if there is one. With nothing else to do it is waited for; first, what was computed
    /// is written out.
    fn next_command(&mut self) -> Result<Option<Command>, Over> {
        while self.engine.is_idle() && self.engine.has_spills() {
            let wait = if self.engine.spill() { Duration::ZERO } else { PAGES_COME };
            match self.inbox.recv_timeout(wait) {
                Ok(command) => return Ok(Some(command)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Over),
            }
        }
        if self.engine.is_idle() {
            self.pulse.busy.store(false, Ordering::Relaxed);
            let command = self.inbox.recv().map(Some).map_err(|_| Over);
            self.pulse.busy.store(true, Ordering::Relaxed);
            return command;
        }
        match self.inbox.try_recv() {
            Ok(command) => Ok(Some(command)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Over),
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Generate(g) => self.generate(*g),
            Command::Embed(embed) => {
                let submitted = self.since_epoch(embed.submitted);
                self.requests.take(&mut self.engine, embed, submitted);
            }
            Command::Logits(tokens, pieces, reply) => {
                let _ = reply.send(self.engine.logits(&tokens, &pieces).map_err(Error::from));
            }
            Command::Gauges(reply) => {
                let _ = reply.send(self.engine.gauges());
            }
        }
    }

    fn since_epoch(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }

    fn generate(&mut self, g: Generate) {
        let Generate { ask, speaker, mut listener, submitted, ticks } = g;
        match self.engine.submit(ask, self.since_epoch(submitted)) {
            Ok(id) => {
                self.streams.insert(id, Stream { speaker, listener, ticks });
            }
            Err(error) => listener.hear(vec![Event::Error(Failure::from(error))]),
        }
    }

    fn forget_unwanted(&mut self) {
        self.requests.forget_unwanted(&mut self.engine);
        let engine = &mut self.engine;
        self.streams.retain(|id, stream| {
            let wanted = stream.listener.is_wanted();
            if !wanted {
                engine.cancel(*id);
            }
            wanted
        });
    }

    fn say(&mut self, id: SeqId, said: Says) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let mut events = Vec::new();
        let mut over = false;
        match said {
            Says::Prompt(tokens) => events.push(stream.speaker.prompt(tokens)),
            Says::Token(token) => {
                if let Some(ticks) = &stream.ticks {
                    let _ = ticks.send(Instant::now());
                }
                if let After::Stopped(reason) = stream.speaker.token(token, &mut events) {
                    let usage = self.engine.usage(id).unwrap_or_default();
                    self.engine.cancel(id);
                    stream.speaker.end(reason, usage, &mut events);
                    over = true;
                }
            }
            Says::Truncated(truncation) => events.push(Event::Truncated(truncation)),
            // Only texts have vectors.
            Says::Vector(_) => {}
            Says::End(reason, usage) => {
                stream.speaker.end(reason, usage, &mut events);
                over = true;
            }
            Says::Failed(failure) => {
                events.push(Event::Error(failure));
                over = true;
            }
        }
        if !stream.send(events) {
            self.engine.cancel(id);
            over = true;
        }
        if over {
            self.streams.remove(&id);
        }
    }
}
