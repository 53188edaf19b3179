//! The seam for engines: who answers requests, wherever it runs.

use std::pin::Pin;
use std::sync::Arc;

use oprel_api::{
    EmbedRequest, Embeddings, Failure, Gauges, Ranking, Request, RerankRequest, SamplingPatch,
    Trace,
};
use oprel_tokenizer::TokenizeOptions;
use serde::{Deserialize, Serialize};

use crate::{Capability, Events, Native};

/// What comes later. [`wait`](crate::wait) waits for it where there is no runtime, for backends that need
/// none: native and worker.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// An engine with one model. It was started by whoever made it, and is stopped when it is dropped.
///
/// Requests reach it as they are: what it cannot honour it refuses, by the field's name.
pub trait Backend: Send + Sync {
    /// What kind it is: `native`, `worker`, ...
    fn kind(&self) -> &'static str;

    /// What is known of its model.
    fn describe(&self) -> Arc<Description>;

    /// Whether it can take requests.
    fn health(&self) -> Health;

    /// Servers elsewhere that it asks, and whether each takes requests as far as is known.
    fn servers(&self) -> Vec<(String, bool)> {
        Vec::new()
    }

    /// Answers a request, each of its `n` answers as a stream of its own. What fails later is the last
    /// event of its stream.
    fn generate(&self, request: Request) -> Later<'_, Vec<Events>>;

    /// Makes vectors of texts.
    fn embed(&self, request: EmbedRequest) -> Later<'_, Embeddings>;

    /// Ranks documents by a query.
    fn rerank(&self, request: RerankRequest) -> Later<'_, Ranking>;

    /// The tokens that the answer to a request would follow.
    fn prompt_tokens(&self, request: Request) -> Later<'_, Vec<u32>>;

    /// Token ids of a text. `trace` is for who asks others for them.
    fn tokenize(
        &self,
        text: String,
        options: TokenizeOptions,
        trace: Option<Trace>,
    ) -> Later<'_, Vec<u32>>;

    /// The text of tokens; what is no UTF-8 is replaced.
    fn detokenize(&self, tokens: Vec<u32>, trace: Option<Trace>) -> Later<'_, String>;

    /// What it is doing.
    fn gauges(&self) -> Later<'_, Gauges>;

    /// How often it had to be started again since it was first.
    fn restarts(&self) -> u64 {
        0
    }

    /// Stops it: streams that are open end with an error. It takes no requests after.
    fn stop(&self);
}

/// Whether a backend can take requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Ready,
    /// Not now, but soon: it starts, or starts again after a crash. Requests wait.
    Starting,
    /// It cannot, and will not without help.
    Failed(Failure),
    /// It was stopped.
    Stopped,
}

/// What is known of a loaded model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Description {
    /// What it can do, most general first.
    pub capabilities: Vec<Capability>,
    /// Most tokens of prompt and answer together; the largest number where nobody tells.
    pub context: u32,
    /// Context length that it was trained with.
    pub trained_context: u32,
    /// Elements of its vectors.
    pub width: u32,
    /// Tokens that its logits cover.
    pub n_vocab: u32,
    /// Whether it makes vectors and not text.
    pub only_embeds: bool,
    /// How its makers suggest to choose tokens.
    pub suggested: SamplingPatch,
    /// Bytes of weights, state and scratch, mapped ones too.
    pub memory_bytes: u64,
    /// How long loading took, in nanoseconds.
    pub load_ns: u64,
    /// Instruction set of its kernels.
    pub isa: String,
    /// Threads of its engine.
    pub threads: usize,
    /// Whether a smaller model proposes tokens for it.
    pub has_draft: bool,
    /// Why the usual smaller model does not, where there is one.
    pub without_draft: Option<String>,
}

impl Description {
    /// Most tokens of prompt and answer together, where that is known.
    pub fn known_context(&self) -> Option<u32> {
        Some(self.context).filter(|context| *context < u32::MAX)
    }
}

impl Native {
    /// What is known of the model, in short.
    pub fn description(&self) -> Description {
        let (facts, memory, machine) = (self.facts(), self.memory(), self.machine());
        Description {
            capabilities: crate::capabilities(&facts.file, facts.template.as_deref()),
            context: self.context(),
            trained_context: facts.context_length,
            width: facts.width,
            n_vocab: facts.n_vocab,
            only_embeds: facts.pooling.is_some(),
            suggested: facts.suggested.clone(),
            memory_bytes: memory.mapped + memory.weights + memory.state + memory.scratch,
            load_ns: u64::try_from(self.load_time().as_nanos()).unwrap_or(u64::MAX),
            isa: machine.isa.name().into(),
            threads: machine.threads,
            has_draft: self.has_draft(),
            without_draft: self.without_draft().map(str::to_string),
        }
    }
}

/// Ready at once: templates and vocabularies work on the caller's thread.
fn now<'a, T: Send + 'a>(value: crate::Result<T>) -> Later<'a, T> {
    Box::pin(std::future::ready(value.map_err(Failure::from)))
}

/// The engine in this process.
impl Backend for Native {
    fn kind(&self) -> &'static str {
        "native"
    }

    fn describe(&self) -> Arc<Description> {
        Arc::new(self.description())
    }

    fn health(&self) -> Health {
        match Native::gauges(self) {
            Ok(_) => Health::Ready,
            Err(error) => Health::Failed(error.into()),
        }
    }

    fn generate(&self, request: Request) -> Later<'_, Vec<Events>> {
        now(self.generate_all(&request))
    }

    fn embed(&self, request: EmbedRequest) -> Later<'_, Embeddings> {
        now(Native::embed(self, &request))
    }

    fn rerank(&self, request: RerankRequest) -> Later<'_, Ranking> {
        now(Native::rerank(self, &request))
    }

    fn prompt_tokens(&self, request: Request) -> Later<'_, Vec<u32>> {
        now(Native::prompt_tokens(self, &request))
    }

    fn tokenize(
        &self,
        text: String,
        options: TokenizeOptions,
        _: Option<Trace>,
    ) -> Later<'_, Vec<u32>> {
        now(Ok(self.facts().tokenizer.tokenize(&text, options)))
    }

    fn detokenize(&self, tokens: Vec<u32>, _: Option<Trace>) -> Later<'_, String> {
        now(self.text_of(&tokens))
    }

    fn gauges(&self) -> Later<'_, Gauges> {
        now(Native::gauges(self))
    }

    /// The engine ends with its last owner; nothing is to be done before.
    fn stop(&self) {}
}
