//! A loaded model, in this process or in a daemon's.

use std::path::Path;

use oprel_api::ollama::Preset;
use oprel_api::{
    EmbedRequest, Embeddings, Message, Ranking, Request, RerankRequest, Sampling, SamplingPatch,
};
use oprel_backend::{ModelSource, Native};
use oprel_tokenizer::TokenizeOptions;

use crate::served::Served;
use crate::{Mode, ModelBuilder, OprelError, Result, Show, Stream};

/// One loaded model, in this process or in a daemon's.
///
/// Any number of threads may send it requests; they are answered together. In this process, dropping it, or
/// [`Model::unload`], gives its memory back. A daemon keeps it for others and a while longer, loads it again
/// when it is used after that, and lets answers go on after a crash as if nothing had been.
#[derive(Debug)]
pub struct Model {
    engine: Engine,
}

/// Who runs it.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // one a model
enum Engine {
    /// This process.
    Here { native: Native, source: ModelSource, stored: Option<Box<Stored>> },
    /// A daemon.
    There(Served),
}

/// What a model of the store has beside its file.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) preset: Preset,
    pub(crate) suggested: SamplingPatch,
}

impl Model {
    /// Loads a GGUF file with the usual options.
    ///
    /// # Errors
    /// See [`ModelBuilder::load`].
    ///
    /// # Examples
    /// ```
    /// let missing = oprel::Model::load("no such file.gguf");
    /// assert!(matches!(missing, Err(oprel::OprelError::ModelNotFound { .. })));
    /// ```
    pub fn load(path: impl AsRef<Path>) -> Result<Model> {
        Model::builder(ModelSource::File(path.as_ref().to_path_buf())).load()
    }

    /// Loads the demo model that is built into this crate.
    ///
    /// # Errors
    /// If memory cannot be had.
    ///
    /// # Examples
    /// ```
    /// let model = oprel::Model::demo()?;
    /// let answer = model.generate("What is oprel?")?.answer()?;
    /// assert!(!answer.text.is_empty());
    /// # Ok::<(), oprel::OprelError>(())
    /// ```
    pub fn demo() -> Result<Model> {
        Model::builder(ModelSource::Demo).load()
    }

    /// Options for loading a model.
    ///
    /// # Examples
    /// ```
    /// use oprel::{Model, ModelSource};
    ///
    /// let model = Model::builder(ModelSource::Demo).context(256).threads(1).load()?;
    /// assert_eq!(model.context(), 256);
    /// # Ok::<(), oprel::OprelError>(())
    /// ```
    pub fn builder(source: ModelSource) -> ModelBuilder {
        ModelBuilder::of_source(source)
    }

    /// Options for using a model by its name: in this process one of the user's store, with
    /// [`ModelBuilder::server`] one of a daemon.
    ///
    /// # Examples
    /// ```no_run
    /// let model = oprel::Model::named("llama3.2").load()?;
    /// println!("{}", model.generate("Why is the sky blue?")?.answer()?.text);
    /// # Ok::<(), oprel::OprelError>(())
    /// ```
    pub fn named(name: impl Into<String>) -> ModelBuilder {
        ModelBuilder::named(name.into())
    }

    pub(crate) fn here(native: Native, source: ModelSource) -> Model {
        Model { engine: Engine::Here { native, source, stored: None } }
    }

    pub(crate) fn of_store(
        native: Native,
        source: ModelSource,
        name: String,
        preset: Preset,
    ) -> Model {
        let suggested = preset.suggested(native.facts().suggested.clone());
        let stored = Some(Box::new(Stored { name, preset, suggested }));
        Model { engine: Engine::Here { native, source, stored } }
    }

    pub(crate) fn there(served: Served) -> Model {
        Model { engine: Engine::There(served) }
    }

    /// Where it runs.
    pub fn mode(&self) -> Mode {
        match &self.engine {
            Engine::Here { .. } => Mode::Direct,
            Engine::There(served) => Mode::Server(served.daemon().clone()),
        }
    }

    /// `demo`, a path, or the name that the store or a daemon knows it by.
    pub fn name(&self) -> String {
        match &self.engine {
            Engine::Here { stored: Some(stored), .. } => stored.name.clone(),
            Engine::Here { source: ModelSource::Demo, .. } => "demo".into(),
            Engine::Here { source: ModelSource::File(path), .. } => path.display().to_string(),
            Engine::There(served) => served.name().to_string(),
        }
    }

    /// What it is; `verbose` also lists arrays and tensors.
    ///
    /// # Errors
    /// If its file is gone, or the daemon does not answer.
    pub fn show(&self, verbose: bool) -> Result<Show> {
        match &self.engine {
            Engine::Here { source, native, .. } => match &native.facts().template {
                Some(template) => crate::show_with_template(source, template, verbose),
                None => crate::show(source, verbose),
            },
            Engine::There(served) => served.show(verbose),
        }
    }

    /// Generates an answer to a request, as a stream of events. A text stands for a request with
    /// the model's chat template and the usual sampling.
    ///
    /// # Errors
    /// [`OprelError::Validation`] if the request is wrong, does not fit the context, or asks for what
    /// the model or the engine cannot do. What fails later is the last event of the stream.
    ///
    /// # Examples
    /// ```
    /// use oprel::{EndReason, Model, Request, Sampling};
    ///
    /// let model = Model::demo()?;
    /// let mut request = Request::prompt("What is oprel?");
    /// request.sampling = Sampling::greedy();
    /// request.limits.max_tokens = Some(4);
    /// let answer = model.generate(request)?.answer()?;
    /// assert_eq!(answer.end, Some(EndReason::MaxTokens));
    /// assert_eq!(answer.usage.generated_tokens, 4);
    /// # Ok::<(), oprel::OprelError>(())
    /// ```
    pub fn generate(&self, request: impl Into<Ask>) -> Result<Stream> {
        let Ask(mut request) = request.into();
        if request.n > 1 {
            return Err(oprel_backend::Error::Unsupported { field: "n" }.into());
        }
        match &self.engine {
            Engine::Here { native, stored, .. } => {
                if let Some(stored) = stored {
                    stored.preset.fill(&mut request);
                }
                Ok(Stream::here(native.generate(&request)?))
            }
            Engine::There(served) => served.generate(request),
        }
    }

    /// Answers a request `n` times, as its field says: each answer is a stream of its own, and the
    /// prompt is read once. What a daemon answers is cancelled together, with the last stream that is
    /// dropped.
    ///
    /// # Errors
    /// As [`Model::generate`].
    ///
    /// # Examples
    /// ```
    /// use oprel::{Model, Request};
    ///
    /// let model = Model::demo()?;
    /// let mut request = Request::prompt("What is oprel?");
    /// (request.n, request.limits.max_tokens) = (2, Some(4));
    /// for stream in model.generate_all(request)? {
    ///     println!("{}", stream.answer()?.text);
    /// }
    /// # Ok::<(), oprel::OprelError>(())
    /// ```
    pub fn generate_all(&self, request: impl Into<Ask>) -> Result<Vec<Stream>> {
        let Ask(mut request) = request.into();
        match &self.engine {
            Engine::Here { native, stored, .. } => {
                if let Some(stored) = stored {
                    stored.preset.fill(&mut request);
                }
                Ok(native.generate_all(&request)?.into_iter().map(Stream::here).collect())
            }
            Engine::There(served) => served.generate_all(request),
        }
    }

    /// Answers a conversation.
    ///
    /// # Errors
    /// As [`Model::generate`].
    ///
    /// # Examples
    /// ```
    /// use oprel::{Message, Model};
    ///
    /// let model = Model::demo()?;
    /// let mut messages = vec![Message::system("Be brief."), Message::user("What is oprel?")];
    /// let answer = model.chat(messages.clone())?.answer()?;
    /// messages.push(Message::assistant(answer.text));
    /// # Ok::<(), oprel::OprelError>(())
    /// ```
    pub fn chat(&self, messages: Vec<Message>) -> Result<Stream> {
        self.generate(Request::chat(messages))
    }

    /// Makes vectors of texts.
    ///
    /// # Errors
    /// [`OprelError::Validation`] if a text is too long and the request does not let it be cut, or if
    /// more dimensions are asked for than the vectors have.
    ///
    /// # Examples
    /// ```
    /// use oprel::{EmbedRequest, Model};
    ///
    /// let vectors = Model::demo()?.embed(&EmbedRequest::new(["one text", "another"]))?.vectors;
    /// let same: f32 = vectors[0].iter().zip(&vectors[0]).map(|(a, b)| a * b).sum();
    /// let other: f32 = vectors[0].iter().zip(&vectors[1]).map(|(a, b)| a * b).sum();
    /// assert!(same > other);
    /// # Ok::<(), oprel::OprelError>(())
    /// ```
    pub fn embed(&self, request: &EmbedRequest) -> Result<Embeddings> {
        match &self.engine {
            Engine::Here { native, .. } => Ok(native.embed(request)?),
            Engine::There(served) => served.embed(request),
        }
    }

    /// Ranks documents by how well they answer a query, the best first.
    ///
    /// # Errors
    /// [`OprelError::Validation`] if the model has no ranking head, there are no documents, or one is too
    /// long and the request does not let it be cut.
    ///
    /// # Examples
    /// ```no_run
    /// use oprel::{Model, RerankRequest};
    ///
    /// let model = Model::load("reranker.gguf")?;
    /// let request = RerankRequest::new("What is a cat?", ["A cat is an animal.", "It rains."]);
    /// let best = model.rerank(&request)?.results[0];
    /// println!("document {} with a score of {}", best.index, best.score);
    /// # Ok::<(), oprel::OprelError>(())
    /// ```
    pub fn rerank(&self, request: &RerankRequest) -> Result<Ranking> {
        match &self.engine {
            Engine::Here { native, .. } => Ok(native.rerank(request)?),
            Engine::There(served) => served.rerank(request),
        }
    }

    /// Token ids of a text.
    ///
    /// # Errors
    /// If the daemon that would tell does not answer.
    ///
    /// # Examples
    /// ```
    /// let model = oprel::Model::demo()?;
    /// let ids = model.tokenize("Hello", Default::default())?;
    /// assert_eq!(model.detokenize(&ids)?, "Hello");
    /// # Ok::<(), oprel::OprelError>(())
    /// ```
    pub fn tokenize(&self, text: &str, options: TokenizeOptions) -> Result<Vec<u32>> {
        match &self.engine {
            Engine::Here { native, .. } => Ok(native.facts().tokenizer.tokenize(text, options)),
            Engine::There(served) => served.tokenize(text, options),
        }
    }

    /// The text of tokens; what is no UTF-8 is replaced.
    ///
    /// # Errors
    /// If the daemon that would tell does not answer, or one of them is not in the vocabulary.
    pub fn detokenize(&self, tokens: &[u32]) -> Result<String> {
        match &self.engine {
            Engine::Here { native, .. } => {
                Ok(native.facts().tokenizer.detokenize(tokens, Default::default()))
            }
            Engine::There(served) => served.detokenize(tokens),
        }
    }

    /// Logits of every token, (n, n_vocab) row-major, fed in pieces of these lengths, the rest in one.
    ///
    /// # Errors
    /// [`OprelError::Validation`] if the tokens are none, too many, or not in the vocabulary, or the model
    /// is a daemon's.
    pub fn logits(&self, tokens: Vec<u32>, pieces: Vec<usize>) -> Result<Vec<f32>> {
        Ok(self.native()?.logits(tokens, pieces)?)
    }

    /// Tokens of the vocabulary.
    pub fn n_vocab(&self) -> usize {
        match &self.engine {
            Engine::Here { native, .. } => native.n_vocab() as usize,
            Engine::There(served) => served.about().n_vocab as usize,
        }
    }

    /// Most tokens of prompt and answer together.
    pub fn context(&self) -> u32 {
        match &self.engine {
            Engine::Here { native, .. } => native.context(),
            Engine::There(served) => served.context(),
        }
    }

    /// The sampling that the model's makers suggest, else the usual one.
    pub fn sampling(&self) -> Sampling {
        self.suggested().over(Sampling::default())
    }

    /// What the model's makers suggest of its sampling.
    pub fn suggested(&self) -> &SamplingPatch {
        match &self.engine {
            Engine::Here { stored: Some(stored), .. } => &stored.suggested,
            Engine::Here { native, .. } => &native.facts().suggested,
            Engine::There(served) => &served.about().suggested,
        }
    }

    /// Whether the model makes vectors and not text.
    pub fn only_embeds(&self) -> bool {
        let pools = match &self.engine {
            Engine::Here { native, .. } => native.facts().pooling.is_some(),
            Engine::There(served) => served.about().only_embeds,
        };
        pools && !self.ranks()
    }

    /// Whether the model ranks documents, and does nothing else.
    pub fn ranks(&self) -> bool {
        match &self.engine {
            Engine::Here { native, .. } => native.facts().ranks,
            Engine::There(served) => served.ranks(),
        }
    }

    /// How long loading took.
    pub fn load_time(&self) -> std::time::Duration {
        match &self.engine {
            Engine::Here { native, .. } => native.load_time(),
            Engine::There(served) => std::time::Duration::from_nanos(served.about().load_ns),
        }
    }

    /// Gives the model's memory back: in this process at once, in a daemon as soon as nobody uses it.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn unload(self) -> Result<()> {
        match &self.engine {
            Engine::Here { .. } => Ok(()),
            Engine::There(served) => served.unload(),
        }
    }

    /// The engine of this process.
    ///
    /// # Errors
    /// [`OprelError::Validation`] if the model is a daemon's.
    pub(crate) fn native(&self) -> Result<&Native> {
        match &self.engine {
            Engine::Here { native, .. } => Ok(native),
            Engine::There(_) => Err(OprelError::Validation {
                message: "this can be asked of a model in this process alone".into(),
                hint: Some("load it without a daemon".into()),
                source: None,
            }),
        }
    }
}

/// What [`Model::generate`] takes: a [`Request`], or a text.
#[derive(Debug)]
pub struct Ask(Request);

impl From<Request> for Ask {
    fn from(request: Request) -> Ask {
        Ask(request)
    }
}

impl From<&str> for Ask {
    fn from(text: &str) -> Ask {
        Ask(Request::prompt(text))
    }
}

impl From<String> for Ask {
    fn from(text: String) -> Ask {
        Ask(Request::prompt(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_may_be_shared_and_a_stream_sent_to_another_thread() {
        fn shared<T: Send + Sync>() {}
        fn sent<T: Send>() {}
        shared::<Model>();
        shared::<OprelError>();
        sent::<Stream>();
    }
}
