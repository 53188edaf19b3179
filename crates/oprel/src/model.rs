//! A loaded model, and what can be asked of a file without loading its weights.

use std::path::{Path, PathBuf};

use oprel_api::{
    Answer, EmbedRequest, Embeddings, Event, Message, Ranking, Request, RerankRequest, Sampling,
};
use oprel_backend::{Events, Executor, LoadOptions, ModelSource, Native, PromptCache, RawChat};
use oprel_nn::KvTypes;
use oprel_tokenizer::{TokenizeOptions, Tokenizer};

use crate::{OprelError, Result};

/// One loaded model. Dropping it, or [`Model::unload`], gives its memory back.
///
/// Any number of threads may send it requests; they are answered in turn.
#[derive(Debug)]
pub struct Model {
    native: Native,
}

/// How a model is loaded; made by [`Model::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder loads nothing until `load`"]
pub struct ModelBuilder {
    source: ModelSource,
    options: LoadOptions,
}

/// The events of one answer, in order. Dropping it cancels the answer.
#[derive(Debug)]
pub struct Stream(Events);

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
        ModelBuilder { source, options: LoadOptions::default() }
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
        let Ask(request) = request.into();
        Ok(Stream(self.native.generate(&request)?))
    }

    /// Answers a request `n` times, as its field says: each answer is a stream of its own, and the
    /// prompt is read once.
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
        let Ask(request) = request.into();
        Ok(self.native.generate_all(&request)?.into_iter().map(Stream).collect())
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
        Ok(self.native.embed(request)?)
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
        Ok(self.native.rerank(request)?)
    }

    /// Token ids of a text.
    ///
    /// # Examples
    /// ```
    /// let model = oprel::Model::demo()?;
    /// let ids = model.tokenize("Hello", Default::default());
    /// assert_eq!(model.detokenize(&ids), "Hello");
    /// # Ok::<(), oprel::OprelError>(())
    /// ```
    pub fn tokenize(&self, text: &str, options: TokenizeOptions) -> Vec<u32> {
        self.native.facts().tokenizer.tokenize(text, options)
    }

    /// The text of tokens; what is no UTF-8 is replaced.
    pub fn detokenize(&self, tokens: &[u32]) -> String {
        self.native.facts().tokenizer.detokenize(tokens, Default::default())
    }

    /// Logits of every token, (n, n_vocab) row-major, fed in pieces of these lengths, the rest in one.
    ///
    /// # Errors
    /// [`OprelError::Validation`] if the tokens are none, too many, or not in the vocabulary.
    pub fn logits(&self, tokens: Vec<u32>, pieces: Vec<usize>) -> Result<Vec<f32>> {
        Ok(self.native.logits(tokens, pieces)?)
    }

    /// Tokens of the vocabulary.
    pub fn n_vocab(&self) -> usize {
        self.native.n_vocab() as usize
    }

    /// Most tokens of prompt and answer together.
    pub fn context(&self) -> u32 {
        self.native.context()
    }

    /// The sampling that the model's makers suggest, else the usual one.
    pub fn sampling(&self) -> Sampling {
        self.native.facts().suggested.over(Sampling::default())
    }

    /// Whether the model makes vectors and not text.
    pub fn only_embeds(&self) -> bool {
        self.native.facts().pooling.is_some() && !self.ranks()
    }

    /// Whether the model ranks documents, and does nothing else.
    pub fn ranks(&self) -> bool {
        self.native.facts().ranks
    }

    /// How long loading took.
    pub fn load_time(&self) -> std::time::Duration {
        self.native.load_time()
    }

    /// Gives the model's memory back and waits until its engine has ended.
    pub fn unload(self) {}
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

impl ModelBuilder {
    /// Most tokens of prompt and answer together; unset, the model's own up to 4096.
    pub fn context(mut self, tokens: u32) -> Self {
        self.options.context = Some(tokens);
        self
    }

    /// Threads of the engine; unset, one for each physical core.
    pub fn threads(mut self, threads: usize) -> Self {
        self.options.threads = Some(threads);
        self
    }

    /// A folder in which what prompts computed is kept, so that it is not computed again, in at most so
    /// many bytes; unset, it is forgotten with the model.
    pub fn prompt_cache(mut self, folder: impl Into<PathBuf>, most_bytes: u64) -> Self {
        self.options.prompt_cache = Some(PromptCache { folder: folder.into(), most_bytes });
        self
    }

    /// Answers that are worked on at a time; unset, 16. Further ones wait.
    pub fn parallel(mut self, sequences: u32) -> Self {
        self.options.parallel = Some(sequences);
        self
    }

    /// How keys and values are stored: one [`KvType`](crate::KvType) for both, or [`KvTypes`].
    pub fn kv(mut self, kv: impl Into<KvTypes>) -> Self {
        self.options.kv = kv.into();
        self
    }

    /// Who runs it.
    pub fn executor(mut self, executor: Executor) -> Self {
        self.options.executor = executor;
        self
    }

    /// Instruction set of the kernels by name (`scalar`, `avx2`), instead of the best there is.
    pub fn isa(mut self, name: impl Into<String>) -> Self {
        self.options.isa = Some(name.into());
        self
    }

    /// A smaller model with the same vocabulary. It proposes tokens where that makes answers faster; they
    /// stay the same.
    ///
    /// # Examples
    /// ```
    /// use oprel::{Model, ModelSource};
    ///
    /// // The model itself is no smaller one: it would say the same and take as long.
    /// let model = Model::builder(ModelSource::Demo).draft(ModelSource::Demo).load()?;
    /// # Ok::<(), oprel::OprelError>(())
    /// ```
    pub fn draft(mut self, source: ModelSource) -> Self {
        self.options.draft = Some(source);
        self
    }

    /// Loads the model.
    ///
    /// # Errors
    /// [`OprelError::ModelNotFound`] if there is no such file, [`OprelError::Backend`] if it is damaged or
    /// not supported, [`OprelError::Memory`] if it does not fit, [`OprelError::Validation`] if an option is
    /// wrong or the draft model has another vocabulary.
    pub fn load(self) -> Result<Model> {
        Ok(Model { native: Native::load(&self.source, &self.options)? })
    }
}

impl Stream {
    /// Waits for the end and puts the events together.
    ///
    /// # Errors
    /// If the stream ends with an error.
    pub fn answer(self) -> Result<Answer> {
        Answer::fold(self).map_err(OprelError::from)
    }
}

impl Iterator for Stream {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.0.next()
    }
}

/// Token ids of a text in the vocabulary of a file, without loading its weights.
///
/// # Errors
/// If there is no such file, or its vocabulary cannot be used.
///
/// # Examples
/// ```
/// use oprel::{ModelSource, TokenizeOptions, tokenize};
///
/// let as_text = TokenizeOptions::default();
/// let as_token = TokenizeOptions { parse_special: true, ..as_text };
/// assert_eq!(tokenize(&ModelSource::Demo, "<|im_end|>", as_token)?.len(), 1);
/// assert!(tokenize(&ModelSource::Demo, "<|im_end|>", as_text)?.len() > 1);
/// # Ok::<(), oprel::OprelError>(())
/// ```
pub fn tokenize(source: &ModelSource, text: &str, options: TokenizeOptions) -> Result<Vec<u32>> {
    let file = source.open()?;
    let tokenizer =
        Tokenizer::from_metadata(file.metadata()).map_err(oprel_backend::Error::from)?;
    Ok(tokenizer.tokenize(text, options))
}

/// Where [`render`] takes its template from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// The chat template of a model, with its BOS and EOS.
    Model(ModelSource),
    /// A file with a Jinja template.
    File {
        /// The file.
        path: PathBuf,
        /// Text of BOS.
        bos: Option<String>,
        /// Text of EOS.
        eos: Option<String>,
    },
}

/// The prompt that a template makes of a conversation, without loading weights.
///
/// # Errors
/// If a file is missing, or the template is wrong or refuses the messages.
///
/// # Examples
/// ```
/// use oprel::{ModelSource, RawChat, Template, render};
///
/// let messages = vec![serde_json::json!({"role": "user", "content": "Hi"})];
/// let chat = RawChat { messages, add_generation_prompt: true, ..RawChat::default() };
/// let prompt = render(&Template::Model(ModelSource::Demo), &chat)?;
/// assert_eq!(prompt, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
/// # Ok::<(), oprel::OprelError>(())
/// ```
pub fn render(template: &Template, chat: &RawChat) -> Result<String> {
    let compiled = match template {
        Template::Model(source) => {
            oprel_backend::template_of(&source.open()?, chat.tools.is_some())?
        }
        Template::File { path, bos, eos } => {
            let text = std::fs::read_to_string(path).map_err(|e| OprelError::ModelNotFound {
                message: format!("cannot read the template '{}': {e}", path.display()),
                hint: None,
                source: None,
            })?;
            oprel_backend::compile_template(&text, bos.clone(), eos.clone())?
        }
    };
    Ok(oprel_backend::render_raw(&compiled, chat)?)
}

impl Model {
    /// For this crate.
    pub(crate) fn native(&self) -> &Native {
        &self.native
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
