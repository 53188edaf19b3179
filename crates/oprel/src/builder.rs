//! How a model is loaded, and where it runs.

use std::path::PathBuf;

use oprel_backend::{Executor, LoadOptions, ModelSource, Native, PromptCache};
use oprel_client::Daemon;
use oprel_nn::KvTypes;

use crate::served::Served;
use crate::{Model, OprelError, Result};

/// Where a model runs.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one a model
pub enum Mode {
    /// In this process.
    Direct,
    /// In the daemon's, which this process speaks to.
    Server(Daemon),
}

/// How a model is loaded; made by [`Model::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder loads nothing until `load`"]
pub struct ModelBuilder {
    which: Which,
    options: LoadOptions,
    mode: Mode,
}

/// Which model.
#[derive(Clone, Debug)]
enum Which {
    Source(ModelSource),
    /// One that the store, or a daemon, knows by this name.
    Named(String),
}

impl ModelBuilder {
    pub(crate) fn of_source(source: ModelSource) -> ModelBuilder {
        let which = Which::Source(source);
        ModelBuilder { which, options: LoadOptions::default(), mode: Mode::Direct }
    }

    pub(crate) fn named(name: String) -> ModelBuilder {
        ModelBuilder {
            which: Which::Named(name),
            options: LoadOptions::default(),
            mode: Mode::Direct,
        }
    }

    /// Where it runs; unset, in this process.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Runs it in a daemon. Nothing else takes its place where none answers.
    ///
    /// # Examples
    /// ```no_run
    /// use oprel::{Daemon, Model, ModelSource};
    ///
    /// // `Daemon::from_env()` alone starts none.
    /// let daemon = Daemon::from_env()?.started();
    /// let model = Model::builder(ModelSource::Demo).server(daemon).load()?;
    /// println!("{}", model.generate("What is oprel?")?.answer()?.text);
    /// # Ok::<(), oprel::OprelError>(())
    /// ```
    pub fn server(self, daemon: Daemon) -> Self {
        self.mode(Mode::Server(daemon))
    }

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

    /// Most tokens of prompts in one step; unset, 512. Answers do not depend on it; fewer take less memory and
    /// more time.
    pub fn batch(mut self, tokens: u32) -> Self {
        self.options.batch = Some(tokens);
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

    /// The same, for whatever model has its vocabulary: where it cannot propose tokens, the model is loaded without
    /// it. One of [`draft`](Self::draft), and one that the model has in the store, come first.
    pub fn usual_draft(mut self, source: ModelSource) -> Self {
        self.options.usual_draft = Some(source);
        self
    }

    /// Most bytes that the model may need; unset, what is free. One that needs more is refused.
    ///
    /// # Examples
    /// ```
    /// use oprel::{Model, ModelSource, OprelError};
    ///
    /// let refused = Model::builder(ModelSource::Demo).max_memory(1 << 20).load();
    /// assert!(matches!(refused, Err(OprelError::Memory { .. })));
    /// ```
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.options.most_memory = Some(bytes);
        self
    }

    /// Loads the model even if it needs more than is free: parts of its file are then read again and again, and
    /// the system may end the process. What [`max_memory`](Self::max_memory) says is kept all the same.
    pub fn overcommit(mut self, overcommit: bool) -> Self {
        self.options.overcommit = overcommit;
        self
    }

    /// Loads the model. In a daemon it is shared with all who use it there.
    ///
    /// # Errors
    /// [`OprelError::ModelNotFound`] if there is no such file, [`OprelError::Backend`] if it is damaged or
    /// not supported, or the daemon does not answer; [`OprelError::Memory`] if it does not fit,
    /// [`OprelError::Validation`] if an option is wrong or not for who loads the model to choose, or if the draft
    /// model has another vocabulary.
    pub fn load(self) -> Result<Model> {
        match (self.which, self.mode) {
            (Which::Source(source), Mode::Direct) => {
                Ok(Model::here(Native::load(&source, &self.options)?, source))
            }
            (Which::Named(name), Mode::Direct) => {
                let (source, stored) = crate::stored::find(&name)?;
                let mut options = self.options;
                crate::stored::overlay(&stored, &mut options)?;
                let preset = crate::stored::preset(&stored)?;
                let native = Native::load(&source, &options)?;
                Ok(Model::of_store(native, source, stored.entry.name.to_string(), preset))
            }
            (which, Mode::Server(daemon)) => {
                refuse_what_is_the_daemons(&self.options)?;
                let name = match which {
                    Which::Named(name) => name,
                    Which::Source(source) => name_of(&source)?,
                };
                Ok(Model::there(Served::load(daemon, name, self.options.context)?))
            }
        }
    }
}

/// Options that a daemon was started with, or chooses.
fn refuse_what_is_the_daemons(options: &LoadOptions) -> Result<()> {
    let usual = LoadOptions::default();
    let chosen = [
        ("threads", options.threads != usual.threads),
        ("parallel", options.parallel != usual.parallel),
        ("batch", options.batch != usual.batch),
        ("kv", options.kv != usual.kv),
        ("prompt_cache", options.prompt_cache != usual.prompt_cache),
        ("executor", options.executor != usual.executor),
        ("isa", options.isa != usual.isa),
        ("draft", options.draft != usual.draft),
        ("usual_draft", options.usual_draft != usual.usual_draft),
        ("max_memory", options.most_memory != usual.most_memory),
        ("overcommit", options.overcommit != usual.overcommit),
    ];
    match chosen.iter().find(|(_, is_chosen)| *is_chosen) {
        None => Ok(()),
        Some((option, _)) => Err(OprelError::Validation {
            message: format!("{option} is for a daemon to choose, not for who uses its models"),
            hint: Some("load the model in this process, or start `oprel serve` with it".into()),
            source: None,
        }),
    }
}

/// The model as a daemon on this machine finds it.
fn name_of(source: &ModelSource) -> Result<String> {
    let ModelSource::File(path) = source else { return Ok("demo".into()) };
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let unnamed = |path: PathBuf| {
        let path = path.display().to_string();
        OprelError::validation(format!("'{path}' is no UTF-8, in which a daemon is told of files"))
    };
    whole.into_os_string().into_string().map_err(|path| unnamed(path.into()))
}
