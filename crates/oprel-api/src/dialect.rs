//! What every dialect has in common: a route's body becomes a [`Call`], and its [`Voice`] says what
//! the sequences of the call say.
//!
//! A dialect is pure: bytes in, a call out; events in, bytes out. Clocks, ids and models are the
//! server's.

use std::time::Duration;

use serde_json::Value;

use crate::{
    Answer, EmbedRequest, Embeddings, Event, Failure, Request, Sampling, SamplingPatch, Usage,
};

/// A request to generate, as a route of a dialect understood it.
pub struct Call {
    /// The model, as the client named it.
    pub model: String,
    /// What to do. Its sampling is not filled in: see [`Call::sampling`].
    pub request: Request,
    /// The dialect's own defaults, over which a model's suggestions count.
    pub base: Sampling,
    /// What the client said, over those.
    pub wish: SamplingPatch,
    /// Whether the answer streams.
    pub stream: bool,
    /// What happens to the model besides.
    pub stay: Stay,
    /// Fields that change nothing here, as the client wrote them: named in `x-oprel-ignored`.
    pub ignored: Vec<String>,
    /// Whether a wish to think is dropped, instead of refused, for a model that cannot.
    pub lenient_thinking: bool,
    /// Says the answer.
    pub voice: Box<dyn Voice>,
}

/// A request for vectors.
pub struct EmbedCall {
    /// The model, as the client named it.
    pub model: String,
    /// What to embed.
    pub request: EmbedRequest,
    /// What happens to the model besides.
    pub stay: Stay,
    /// Fields that change nothing here.
    pub ignored: Vec<String>,
    /// Makes the body of the answer.
    #[allow(clippy::type_complexity)]
    pub voice: Box<dyn FnOnce(&Moment, Embeddings) -> Value + Send>,
}

/// How a call wants the model to be loaded, and how long it is to stay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stay {
    /// How long after its last use; `None` leaves it to the server.
    pub keep_alive: Option<KeepAlive>,
    /// Context length that the client wants; also the request's own limit.
    pub context: Option<u32>,
    /// Threads that the client wants.
    pub threads: Option<usize>,
}

/// How long a model stays after its last use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// So long; zero unloads it as soon as it is idle.
    For(Duration),
    /// Until somebody unloads it.
    Forever,
}

/// What a voice needs to know of the moment and the place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moment {
    /// Now: nanoseconds since 1970, UTC.
    pub unix_ns: u64,
    /// Unguessable and unique, 24 lower-case letters and digits: ids are made of it.
    pub id: String,
    /// The model, as it is shown.
    pub model: String,
    /// Tokens of the prompt, where they are known before the answer.
    pub prompt_tokens: Option<u32>,
}

/// Says what the sequences of one call say, in a dialect.
pub trait Voice: Send {
    /// Content type of a stream.
    fn stream_type(&self) -> &'static str;

    /// The beginning of a stream; before it, a failure still has a status of its own.
    fn begin(&mut self, moment: &Moment) -> Vec<u8>;

    /// What an answer (0 for the first) of a stream says. After the last event of the last answer
    /// comes the dialect's end of the stream, exactly once; after that, nothing. A failure of one
    /// answer ends the stream.
    fn say(&mut self, moment: &Moment, answer: usize, event: Event) -> Vec<u8>;

    /// The body of an answer that does not stream.
    fn whole(&mut self, moment: &Moment, answers: Vec<Answer>) -> Value;
}

/// How a dialect says that a request failed before it had an answer.
pub type Complaint = fn(&Problem) -> Value;

/// A failure on its way to a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// What happened.
    pub failure: Failure,
    /// Unique, as in [`Moment::id`].
    pub id: String,
}

impl Call {
    /// The sampling of the request: what the client said, over what the model's maker suggests, over
    /// the dialect's defaults.
    pub fn sampling(&self, suggested: &SamplingPatch) -> Sampling {
        self.wish.over(suggested.over(self.base.clone()))
    }
}

/// Usage of several answers to one prompt: the prompt counts once.
pub fn total<'a>(answers: impl IntoIterator<Item = &'a Usage>) -> Usage {
    let mut all = Usage::default();
    for (at, usage) in answers.into_iter().enumerate() {
        if at == 0 {
            (all.prompt_tokens, all.cached_tokens) = (usage.prompt_tokens, usage.cached_tokens);
            (all.load_ns, all.queue_ns) = (usage.load_ns, usage.queue_ns);
            all.prefill_ns = usage.prefill_ns;
        }
        all.generated_tokens += usage.generated_tokens;
        all.thinking_tokens += usage.thinking_tokens;
        all.drafted_tokens += usage.drafted_tokens;
        all.accepted_tokens += usage.accepted_tokens;
        all.decode_ns = all.decode_ns.max(usage.decode_ns);
        all.total_ns = all.total_ns.max(usage.total_ns);
    }
    all
}
