//! One loaded model: its engine on a thread of its own, requests in, events out.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oprel_api::{
    Dry, EmbedInput, EmbedRequest, Embeddings, ErrorKind, Event, Failure, LogitBias, Request, Usage,
};
use oprel_chat::LocalTime;
use oprel_engine::{Ask, Bounds, Breakers, Engine, Says, SeqId};
use oprel_nn::{Memory, Pooling};
use oprel_tokenizer::TokenizeOptions;

use crate::load::{describe, engine};
use crate::prompt;
use crate::speaker::{After, Speaker};
use crate::{Error, Facts, LoadOptions, Machine, ModelSource, Result};

/// A loaded model. Dropping it unloads it.
#[derive(Debug)]
pub struct Native {
    facts: Arc<Facts>,
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
    bounds: Bounds,
    machine: Machine,
    memory: Memory,
    load: Duration,
}

/// The events of one answer, in order; the last is an end or an error. Dropping it cancels.
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<Event>,
    wanted: Arc<AtomicBool>,
    over: bool,
}

enum Command {
    Generate(Box<Generate>),
    Embed(Vec<Vec<u32>>, Pooling, Sender<Result<Vec<Vec<f32>>>>),
    Logits(Vec<u32>, Vec<usize>, Sender<Result<Vec<f32>>>),
}

struct Generate {
    ask: Ask,
    speaker: Speaker,
    events: Sender<Event>,
    wanted: Arc<AtomicBool>,
    submitted: Instant,
}

impl Native {
    /// Loads a model and starts its engine.
    ///
    /// # Errors
    /// If there is no such file, it is damaged or not supported, or memory cannot be had.
    pub fn load(source: &ModelSource, options: &LoadOptions) -> Result<Native> {
        let start = Instant::now();
        let (facts, model) = describe(source)?;
        let (engine, machine) = engine(&model, options)?;
        let (bounds, memory) = (engine.bounds(), engine.memory());
        let (commands, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name("oprel-engine".into())
            .spawn(move || Worker::new(engine, inbox).run())
            .map_err(|e| Error::Stopped { why: e.to_string() })?;
        Ok(Native {
            facts: Arc::new(facts),
            commands,
            thread: Some(thread),
            bounds,
            machine,
            memory,
            load: start.elapsed(),
        })
    }

    /// What is known of the model.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Most tokens of prompt and answer together.
    pub fn context(&self) -> u32 {
        self.bounds.context
    }

    /// Tokens of the vocabulary that the model's logits cover.
    pub fn n_vocab(&self) -> u32 {
        self.facts.n_vocab
    }

    /// What the kernels run with.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Memory that was taken.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// How long loading took.
    pub fn load_time(&self) -> Duration {
        self.load
    }

    /// Takes a request; its answer comes as a stream.
    ///
    /// # Errors
    /// If the request is wrong, asks for what is not there, or its prompt cannot be made.
    pub fn generate(&self, request: &Request) -> Result<Events> {
        let submitted = Instant::now();
        prompt::check(&self.facts, request)?;
        let context = request.limits.context.unwrap_or(u32::MAX).min(self.context());
        let reserve = request.limits.max_tokens.unwrap_or(1).clamp(1, context.div_ceil(2));
        let made = prompt::tokens(&self.facts, request, context - reserve, local_time())?;
        let speaker = Speaker::new(&self.facts, request, made.rendered.as_deref());
        let ask = self.ask(request, made.tokens);
        self.bounds.check(&ask)?;
        let (events, receiver) = channel();
        if let Some(truncation) = made.truncated {
            let _ = events.send(Event::Truncated(truncation));
        }
        let wanted = Arc::new(AtomicBool::new(true));
        let generate = Generate { ask, speaker, events, wanted: wanted.clone(), submitted };
        self.send(Command::Generate(Box::new(generate)))?;
        Ok(Events { receiver, wanted, over: false })
    }

    fn ask(&self, request: &Request, tokens: Vec<u32>) -> Ask {
        let (limits, cache) = (&request.limits, &request.cache);
        let mut sampling = request.sampling.clone();
        sampling.seed.get_or_insert_with(fresh_seed);
        let never = self.facts.tokenizer.suppressed().iter().filter(|&&t| t < self.n_vocab());
        let forbid = |&token: &u32| LogitBias { token, bias: f32::NEG_INFINITY };
        sampling.logit_bias.extend(never.map(forbid));
        Ask {
            breakers: self.breakers(&sampling.dry),
            sampling,
            max_tokens: limits.max_tokens,
            min_tokens: limits.min_tokens,
            context: limits.context,
            ends: if request.ignore_end { Arc::from([]) } else { self.facts.ends.clone() },
            stop_tokens: request.stop_tokens.clone(),
            logprobs: request.logprobs,
            prompt_logprobs: request.prompt_logprobs,
            deadline: limits.deadline,
            reuse: cache.read && cache.salt.is_none(),
            leave: cache.write && cache.salt.is_none(),
            ..Ask::new(tokens)
        }
    }

    /// The texts that break repetitions, in this vocabulary.
    fn breakers(&self, dry: &Dry) -> Arc<Breakers> {
        if !dry.is_on() {
            return Arc::default();
        }
        let tokenizer = &self.facts.tokenizer;
        let options = TokenizeOptions { add_special: false, parse_special: false };
        let tokenize = |rest: &[u8]| {
            let text = std::str::from_utf8(rest).unwrap_or_default();
            let tokens = tokenizer.tokenize(text, options);
            // Some vocabularies begin every text with a space; the rest of a word has none.
            let pieces: Vec<u8> =
                tokens.iter().flat_map(|&t| tokenizer.piece(t)).copied().collect();
            if pieces == rest { tokens } else { Vec::new() }
        };
        let piece = |id| tokenizer.piece(id);
        Arc::new(Breakers::find(&dry.breakers, self.n_vocab(), piece, tokenize))
    }

    /// Vectors of texts.
    ///
    /// # Errors
    /// If the request is wrong, an input is too long and may not be cut, or the engine fails.
    pub fn embed(&self, request: &EmbedRequest) -> Result<Embeddings> {
        let start = Instant::now();
        request.validate()?;
        let width = self.facts.width;
        if let Some(n) = request.dimensions.filter(|&n| n > width) {
            let why = format!("vectors of this model have {width}");
            return Err(Error::Option { option: "dimensions", value: n.to_string(), why });
        }
        let inputs: Vec<Vec<u32>> =
            request.input.iter().map(|i| self.embed_tokens(i, request)).collect();
        let prompt_tokens = inputs.iter().map(|t| t.len() as u32).sum();
        let pooling = self.facts.pooling.unwrap_or(Pooling::Mean);
        let (reply, answer) = channel();
        self.send(Command::Embed(inputs, pooling, reply))?;
        let vectors = answer.recv().map_err(|_| stopped())??;
        let vectors = vectors.into_iter().map(|v| finish(v, request)).collect();
        let total_ns = start.elapsed().as_nanos() as u64;
        Ok(Embeddings { vectors, usage: Usage { prompt_tokens, total_ns, ..Usage::default() } })
    }

    /// An input that is cut keeps the token that ends every text of this model.
    fn embed_tokens(&self, input: &EmbedInput, request: &EmbedRequest) -> Vec<u32> {
        let options = TokenizeOptions { add_special: true, parse_special: false };
        let mut tokens = match input {
            EmbedInput::Text(text) => self.facts.tokenizer.tokenize(text, options),
            EmbedInput::Tokens(tokens) => tokens.clone(),
        };
        let room = self.bounds.longest_embedded as usize;
        if request.truncate && tokens.len() > room {
            let ending = tokens.last().copied().filter(|&t| self.facts.ends_texts(t));
            tokens.truncate(room);
            if let (Some(ending), Some(last)) = (ending, tokens.last_mut()) {
                *last = ending;
            }
        }
        tokens
    }

    /// Logits of every token, (n, n_vocab), fed in pieces of these lengths, the rest in one.
    ///
    /// # Errors
    /// If the tokens are none, too many or not in the vocabulary, the model only embeds, or the
    /// engine fails.
    pub fn logits(&self, tokens: Vec<u32>, pieces: Vec<usize>) -> Result<Vec<f32>> {
        self.check_speaks()?;
        let (reply, answer) = channel();
        self.send(Command::Logits(tokens, pieces, reply))?;
        answer.recv().map_err(|_| stopped())?
    }

    /// Refuses a model that gives vectors and no logits.
    pub(crate) fn check_speaks(&self) -> Result<()> {
        match self.facts.pooling {
            Some(_) => Err(oprel_engine::Error::OnlyEmbeds.into()),
            None => Ok(()),
        }
    }

    fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| stopped())
    }
}

fn stopped() -> Error {
    Error::Stopped { why: "its thread is gone".into() }
}

/// Cuts and scales a vector as the request wants it.
fn finish(mut vector: Vec<f32>, request: &EmbedRequest) -> Vec<f32> {
    if let Some(n) = request.dimensions {
        vector.truncate(n as usize);
    }
    if request.normalize {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|x| *x /= length);
        }
    }
    vector
}

/// A seed for requests that bring none: what the hasher of the standard library draws.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}

/// Now, in the time zone of this machine: UTC where it tells none.
pub(crate) fn local_time() -> LocalTime {
    let now = jiff::Zoned::now();
    let micros = now.timestamp().subsec_nanosecond().unsigned_abs() / 1000;
    LocalTime::from_unix(now.timestamp().as_second(), now.offset().seconds()).with_micros(micros)
}

impl Drop for Native {
    fn drop(&mut self) {
        // The thread ends when nobody can command it any more.
        let (dead, _) = channel();
        self.commands = dead;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.over {
            return None;
        }
        let event = self.receiver.recv().unwrap_or_else(|_| {
            Event::Error(Failure::new(
                ErrorKind::Backend,
                "the engine stopped in the middle of the answer",
            ))
        });
        self.over = event.is_last();
        Some(event)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.wanted.store(false, Ordering::Relaxed);
    }
}

/// What runs on the engine's thread.
struct Worker {
    engine: Engine,
    inbox: Receiver<Command>,
    streams: HashMap<SeqId, Stream>,
    epoch: Instant,
}

struct Stream {
    speaker: Speaker,
    events: Sender<Event>,
    wanted: Arc<AtomicBool>,
}

impl Stream {
    /// Sends what is to be said; `false` if nobody listens.
    fn send(&self, events: Vec<Event>) -> bool {
        events.into_iter().all(|event| self.events.send(event).is_ok())
            && self.wanted.load(Ordering::Relaxed)
    }
}

impl Worker {
    fn new(engine: Engine, inbox: Receiver<Command>) -> Worker {
        Worker { engine, inbox, streams: HashMap::new(), epoch: Instant::now() }
    }

    /// Until nobody commands it. A panic below is a bug; it ends this engine and all its streams.
    fn run(mut self) {
        let ended = catch_unwind(AssertUnwindSafe(|| while self.turn() {}));
        if ended.is_err() {
            let failure =
                Failure::new(ErrorKind::Backend, "the engine failed; this is a bug in oprel");
            for stream in self.streams.values() {
                let _ = stream.events.send(Event::Error(failure.clone()));
            }
        }
    }

    /// Takes what was commanded, makes one step; `false` when all is over.
    fn turn(&mut self) -> bool {
        loop {
            let command = if self.engine.is_idle() {
                match self.inbox.recv() {
                    Ok(command) => command,
                    Err(_) => return false,
                }
            } else {
                match self.inbox.try_recv() {
                    Ok(command) => command,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return false,
                }
            };
            self.obey(command);
        }
        self.forget_unwanted();
        let mut says = Vec::new();
        let epoch = self.epoch;
        self.engine.step(&|| epoch.elapsed(), &mut says);
        for (id, said) in says {
            self.say(id, said);
        }
        true
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Generate(g) => self.generate(*g),
            Command::Embed(inputs, pooling, reply) => {
                let embed = |tokens: Vec<u32>| self.engine.embed(&tokens, pooling);
                let vectors: Result<_, _> = inputs.into_iter().map(embed).collect();
                let _ = reply.send(vectors.map_err(Error::from));
            }
            Command::Logits(tokens, pieces, reply) => {
                let _ = reply.send(self.engine.logits(&tokens, &pieces).map_err(Error::from));
            }
        }
    }

    fn generate(&mut self, g: Generate) {
        let submitted = g.submitted.saturating_duration_since(self.epoch);
        match self.engine.submit(g.ask, submitted) {
            Ok(id) => {
                let stream = Stream { speaker: g.speaker, events: g.events, wanted: g.wanted };
                self.streams.insert(id, stream);
            }
            Err(error) => {
                let _ = g.events.send(Event::Error(Failure::from(error)));
            }
        }
    }

    fn forget_unwanted(&mut self) {
        let engine = &mut self.engine;
        self.streams.retain(|id, stream| {
            let wanted = stream.wanted.load(Ordering::Relaxed);
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
                if let After::Stopped(reason) = stream.speaker.token(token, &mut events) {
                    let usage = self.engine.usage(id).unwrap_or_default();
                    self.engine.cancel(id);
                    stream.speaker.end(reason, usage, &mut events);
                    over = true;
                }
            }
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
