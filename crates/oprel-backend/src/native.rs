//! One loaded model: its engine on a thread of its own, requests in, events out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oprel_api::{
    Dry, EmbedInput, EmbedRequest, Embeddings, Event, Gauges, LogitBias, OutputOverflow, Request,
    Sampled, Usage,
};
use oprel_chat::LocalTime;
use oprel_engine::{Ask, Becomes, Bounds, Breakers};
use oprel_nn::{Memory, Pooling};
use oprel_tokenizer::TokenizeOptions;

use crate::engine_thread::{Command, Embed, EngineThread, Generate, Pulse};
use crate::events::way;
use crate::guide::Guides;
use crate::hearing::Hearing;
use crate::load::{describe, engine};
use crate::speaker::Speaker;
use crate::{Error, Events, Facts, Listener, LoadOptions, Machine, ModelSource, Result};
use crate::{draft, prompt, thinking};

/// Most answers to one request.
pub(crate) const MOST_ANSWERS: u32 = 64;

/// Most bytes of the vectors of one request: all of them are held until the last is there.
const MOST_VECTOR_BYTES: usize = 128 << 20;

/// A loaded model. Dropping it unloads it.
#[derive(Debug)]
pub struct Native {
    facts: Arc<Facts>,
    guides: Guides,
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
    pulse: Arc<Pulse>,
    bounds: Bounds,
    machine: Machine,
    memory: Memory,
    has_draft: bool,
    without_draft: Option<String>,
    load: Duration,
}

impl Native {
    /// Loads a model and starts its engine.
    ///
    /// # Errors
    /// If there is no such file, it is damaged or not supported, or memory cannot be had.
    pub fn load(source: &ModelSource, options: &LoadOptions) -> Result<Native> {
        let start = Instant::now();
        let (facts, model) = describe(source, options.template.as_deref())?;
        let mut draft = draft::choose(source, options, &facts)?;
        let (engine, machine) = match engine(&facts.file, &model, draft.model.as_ref(), options) {
            // The usual one is worth no refusal.
            Err(Error::TooLarge(why)) if options.draft.is_none() && draft.model.is_some() => {
                draft = draft::Chosen { model: None, missing: Some(why.to_string()) };
                engine(&facts.file, &model, None, options)?
            }
            made => made?,
        };
        let (bounds, memory) = (engine.bounds(), engine.memory());
        let (commands, inbox) = channel();
        let pulse = Arc::<Pulse>::default();
        let felt = pulse.clone();
        let thread = std::thread::Builder::new()
            .name("oprel-engine".into())
            .spawn(move || EngineThread::new(engine, inbox, felt).run())
            .map_err(|e| Error::Stopped { why: e.to_string() })?;
        Ok(Native {
            facts: Arc::new(facts),
            guides: Guides::default(),
            commands,
            thread: Some(thread),
            pulse,
            bounds,
            machine,
            memory,
            has_draft: draft.model.is_some(),
            without_draft: draft.missing,
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

    /// Whether a smaller model proposes tokens for it.
    pub fn has_draft(&self) -> bool {
        self.has_draft
    }

    /// Why the usual smaller model does not, where one was given.
    pub fn without_draft(&self) -> Option<&str> {
        self.without_draft.as_deref()
    }

    /// How long loading took.
    pub fn load_time(&self) -> Duration {
        self.load
    }

    /// Takes a request; its answer comes as a stream.
    ///
    /// # Errors
    /// If the request is wrong, asks for what is not there or for several answers, or its prompt
    /// cannot be made.
    pub fn generate(&self, request: &Request) -> Result<Events> {
        if request.n > 1 {
            return Err(Error::Unsupported { field: "n" });
        }
        let mut streams = self.generate_all(request)?;
        streams.pop().ok_or_else(stopped)
    }

    /// Takes a request; each of its `n` answers comes as a stream of its own. The prompt is read once.
    ///
    /// # Errors
    /// If the request is wrong or asks for what is not there, or its prompt cannot be made.
    pub fn generate_all(&self, request: &Request) -> Result<Vec<Events>> {
        let (mouths, events): (Vec<_>, Vec<_>) =
            (0..request.n.min(MOST_ANSWERS)).map(|_| way()).unzip();
        let mut mouths = mouths.into_iter();
        let listener = |_| mouths.next().map(|mouth| Box::new(mouth) as Box<dyn Listener>);
        self.generate_to(request, listener)?;
        Ok(events)
    }

    /// Takes a request; each of its `n` answers is told to a listener of its own.
    ///
    /// # Errors
    /// As [`Native::generate_all`]; then nobody hears anything.
    pub fn generate_to(
        &self,
        request: &Request,
        mut listener: impl FnMut(u32) -> Option<Box<dyn Listener>>,
    ) -> Result<()> {
        let submitted = Instant::now();
        self.check_speaks()?;
        let (mut ask, made) = self.asked(request)?;
        let rendered = made.rendered.as_deref();
        let constraint = self.guides.of(&self.facts, request, rendered)?;
        ask.guide = thinking::bounded(&self.facts, request, rendered, constraint)?;
        self.bounds.check(&ask)?;
        let seed = ask.sampling.seed.unwrap_or_default();
        for i in 0..request.n {
            let Some(mut listener) = listener(i) else { continue };
            let mut speaker = Speaker::new(&self.facts, request, rendered);
            speaker.resume(&request.resume);
            let mut ask = ask.clone();
            ask.sampling.seed = Some(seed.wrapping_add(u64::from(i)));
            if let Some(truncated) = made.truncated {
                listener.hear(vec![Event::Truncated(truncated)]);
            }
            if request.prompt_ids && request.prompt_logprobs.is_none() {
                let token = |&id: &u32| Sampled { id, ..Sampled::default() };
                listener.hear(vec![Event::Prompt(made.tokens.iter().map(token).collect())]);
            }
            self.start(Generate { ask, speaker, listener, submitted, ticks: None })?;
        }
        Ok(())
    }

    /// The tokens that a request's answer would follow.
    ///
    /// # Errors
    /// As [`Native::generate`].
    pub fn prompt_tokens(&self, request: &Request) -> Result<Vec<u32>> {
        Ok(self.asked(request)?.1.tokens)
    }

    /// The text of tokens; what is no UTF-8 is replaced.
    ///
    /// # Errors
    /// If one is not in the vocabulary.
    pub fn text_of(&self, tokens: &[u32]) -> Result<String> {
        let n_vocab = self.n_vocab();
        match tokens.iter().find(|&&t| t >= n_vocab) {
            Some(&token) => Err(oprel_engine::Error::Token { token, n_vocab }.into()),
            None => Ok(self.facts.tokenizer.detokenize(tokens, Default::default())),
        }
    }

    /// What the engine is asked for, and the prompt it is made of.
    fn asked(&self, request: &Request) -> Result<(Ask, prompt::Tokens)> {
        prompt::check(&self.facts, request)?;
        if request.n > MOST_ANSWERS {
            let (value, why) = (request.n.to_string(), format!("at most {MOST_ANSWERS} are made"));
            return Err(Error::Option { option: "n", value, why });
        }
        let context = request.limits.context.unwrap_or(u32::MAX).min(self.context());
        let reserve = request.limits.max_tokens.unwrap_or(1).clamp(1, context.div_ceil(2));
        let made = prompt::tokens(&self.facts, request, context - reserve, local_time())?;
        Ok((self.ask(request, made.tokens.clone()), made))
    }

    /// Sends a sequence to the engine.
    pub(crate) fn start(&self, generate: Generate) -> Result<()> {
        self.send(Command::Generate(Box::new(generate)))
    }

    pub(crate) fn ask(&self, request: &Request, tokens: Vec<u32>) -> Ask {
        let (limits, cache) = (&request.limits, &request.cache);
        let mut sampling = request.sampling.clone();
        sampling.seed.get_or_insert_with(fresh_seed);
        let never = self.facts.tokenizer.suppressed().iter().filter(|&&t| t < self.n_vocab());
        let forbid = |&token: &u32| LogitBias { token, bias: f32::NEG_INFINITY };
        let quiet = self.quiet(request);
        sampling.logit_bias.extend(never.chain(&quiet).map(forbid));
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
            reuse: cache.read,
            leave: cache.write,
            salt: cache.salt.clone(),
            produced: request.resume.clone(),
            priority: request.priority,
            speculate: request.speculate,
            client: request.client.as_str().into(),
            shift: match limits.output_overflow {
                OutputOverflow::Stop => None,
                OutputOverflow::Shift { keep } => Some(keep),
            },
            ..Ask::new(tokens)
        }
    }

    /// The token that would open a thought, where none is wanted.
    fn quiet(&self, request: &Request) -> Option<u32> {
        let tags = self.facts.can.think_tags.as_ref().filter(|_| request.input.thinks_not())?;
        self.facts.tokenizer.id_of(&tags.open).filter(|&t| t < self.n_vocab())
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
        let (tell, told) = channel();
        self.embed_to(request, Hearing::new(move |made| drop(tell.send(made)), || true));
        told.recv().map_err(|_| stopped())?
    }

    /// Vectors of texts, told when they have come: nobody waits.
    pub(crate) fn embed_to(&self, request: &EmbedRequest, hearing: Hearing<Embeddings>) {
        let start = Instant::now();
        let inputs = match self.embed_inputs(request) {
            Ok(inputs) => inputs,
            Err(error) => return hearing.tell(Err(error)),
        };
        let prompt_tokens = inputs.iter().map(|t| t.len() as u32).sum();
        let pooling = self.facts.pooling.unwrap_or(Pooling::Mean);
        let (dimensions, normalize) = (request.dimensions, request.normalize);
        let hearing = hearing.of(move |vectors: Vec<Vec<f32>>| {
            let vectors = vectors.into_iter().map(|v| finish(v, dimensions, normalize)).collect();
            let total_ns = start.elapsed().as_nanos() as u64;
            Embeddings { vectors, usage: Usage { prompt_tokens, total_ns, ..Usage::default() } }
        });
        self.vectors(inputs, Becomes::Vector(pooling), start, hearing);
    }

    /// The tokens of what a request wants vectors of.
    fn embed_inputs(&self, request: &EmbedRequest) -> Result<Vec<Vec<u32>>> {
        request.validate()?;
        if self.facts.ranks {
            return Err(Error::OnlyRanks);
        }
        let width = self.facts.width;
        if let Some(n) = request.dimensions.filter(|&n| n > width) {
            let why = format!("vectors of this model have {width}");
            return Err(Error::Option { option: "dimensions", value: n.to_string(), why });
        }
        let n = request.input.len();
        let most = MOST_VECTOR_BYTES / (4 * width.max(1) as usize);
        if n > most {
            let why = format!("at most {most} vectors of this model are made at a time");
            return Err(Error::Option {
                option: "the number of inputs",
                value: n.to_string(),
                why,
            });
        }
        request.input.iter().map(|i| self.embed_tokens(i, request)).collect()
    }

    /// What becomes of texts, in their order.
    pub(crate) fn vectors(
        &self,
        inputs: Vec<Vec<u32>>,
        becomes: Becomes,
        submitted: Instant,
        hearing: Hearing<Vec<Vec<f32>>>,
    ) {
        // If the engine is gone, whoever hears is told as the command is dropped.
        let _ = self.send(Command::Embed(Embed { inputs, becomes, hearing, submitted }));
    }

    /// Most tokens of a text that is read at once.
    pub(crate) fn longest_read_at_once(&self) -> usize {
        self.bounds.longest_embedded as usize
    }

    /// An input that is cut keeps the token that ends every text of this model, and something of its own.
    fn embed_tokens(&self, input: &EmbedInput, request: &EmbedRequest) -> Result<Vec<u32>> {
        let options = TokenizeOptions { add_special: true, parse_special: false };
        let mut tokens = match input {
            EmbedInput::Text(text) => self.facts.tokenizer.tokenize(text, options),
            EmbedInput::Tokens(tokens) => tokens.clone(),
        };
        let most = self.longest_read_at_once();
        let room = request.context.map_or(most, |context| (context as usize).min(most));
        if tokens.len() <= room {
            return Ok(tokens);
        }
        if !request.truncate {
            let tokens = tokens.len();
            return Err(oprel_engine::Error::TextTooLong { tokens, most: room as u32 }.into());
        }
        let of_all_texts = match input {
            EmbedInput::Text(_) => self.facts.tokenizer.tokenize("", options).len(),
            EmbedInput::Tokens(_) => 0,
        };
        if room <= of_all_texts {
            return Err(Error::NoRoom { context: room });
        }
        let ending = tokens.last().copied().filter(|&t| self.facts.ends_texts(t));
        tokens.truncate(room);
        if let (Some(ending), Some(last)) = (ending, tokens.last_mut()) {
            *last = ending;
        }
        Ok(tokens)
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

    /// Refuses a model that makes vectors or ranks, and makes no text.
    pub(crate) fn check_speaks(&self) -> Result<()> {
        match self.facts.pooling {
            Some(_) if self.facts.ranks => Err(Error::OnlyRanks),
            Some(_) => Err(oprel_engine::Error::OnlyEmbeds.into()),
            None => Ok(()),
        }
    }

    /// What the engine is doing.
    ///
    /// # Errors
    /// If the engine is gone.
    pub fn gauges(&self) -> Result<Gauges> {
        let (reply, answer) = channel();
        self.send(Command::Gauges(reply))?;
        answer.recv().map_err(|_| stopped())
    }

    /// Turns that the engine's thread made, and whether it has something to do.
    pub(crate) fn pulse(&self) -> (u64, bool) {
        (self.pulse.turns.load(Ordering::Relaxed), self.pulse.busy.load(Ordering::Relaxed))
    }

    fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| stopped())
    }
}

pub(crate) fn stopped() -> Error {
    Error::Stopped { why: "its thread is gone".into() }
}

/// Cuts and scales a vector as the request wants it.
fn finish(mut vector: Vec<f32>, dimensions: Option<u32>, normalized: bool) -> Vec<f32> {
    if let Some(n) = dimensions {
        vector.truncate(n as usize);
    }
    if normalized {
        normalize(&mut vector);
    }
    vector
}

/// Scales a vector to length 1; zeros stay.
pub fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

/// A seed for requests that bring none: what the hasher of the standard library draws.
pub(crate) fn fresh_seed() -> u64 {
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
