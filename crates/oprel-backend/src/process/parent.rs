//! A worker process seen from its parent: started, watched, started again; what it was doing is given to it
//! again, with the tokens that were already said, so that answers go on where they were.

mod run;
mod state;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use oprel_api::{
    EmbedRequest, Embeddings, Failure, Gauges, Ranking, Request, RerankRequest, Trace,
};
use oprel_tokenizer::TokenizeOptions;

use self::state::Inner;
use super::wire::{Reply, ToWorker};
use crate::{Backend, Description, Events, Health, Later, LoadOptions, ModelSource};

/// How a worker is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program; it must be of the same build as this one.
    pub program: PathBuf,
    /// Its arguments, which make it call [`run_worker`](crate::run_worker).
    pub args: Vec<String>,
    /// What it loads.
    pub source: ModelSource,
    /// How.
    pub options: LoadOptions,
    /// How long it may be silent, or make no step while it has something to do, before it is killed.
    pub patience: Patience,
}

/// How long a parent waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the model to be loaded.
    pub load: Duration,
    /// For any sign of life.
    pub silence: Duration,
    /// For the engine's next step.
    pub step: Duration,
    /// For an answer to go on after a crash.
    pub resume: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            load: Duration::from_secs(300),
            silence: Duration::from_secs(10),
            step: Duration::from_secs(120),
            resume: Duration::from_secs(10),
        }
    }
}

/// A model in a process of its own. Dropping it stops the process.
pub struct Worker {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a process and waits until it has loaded the model.
    ///
    /// # Errors
    /// If the process cannot be started or the model cannot be loaded.
    pub fn start(launch: Launch) -> Result<Worker, Failure> {
        let inner = Arc::new(Inner::new(launch));
        let supervised = inner.clone();
        let thread = std::thread::Builder::new()
            .name("oprel-supervisor".into())
            .spawn(move || run::supervise(&supervised))
            .map_err(|e| state::backend(format!("cannot start a thread: {e}")))?;
        let worker = Worker { inner, thread: Some(thread) };
        worker.inner.wait_until_loaded()?;
        Ok(worker)
    }

    /// The process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.inner.lock().pid
    }

    /// How often it was started again.
    pub fn restarts(&self) -> u64 {
        self.inner.lock().restarts
    }

    /// Asks something that has one reply.
    fn call<T>(
        &self,
        message: impl FnOnce(u64) -> ToWorker + Send + 'static,
        pick: fn(Reply) -> Option<T>,
    ) -> Later<'_, T>
    where
        T: Send + 'static,
    {
        Box::pin(async move {
            let (id, promised) = self.inner.call(message)?;
            let _open = OpenCall { inner: &self.inner, id };
            let reply = promised.await.unwrap_or_else(|| Err(state::gone()))?;
            pick(reply).ok_or_else(|| state::backend("the worker gave another reply".into()))
        })
    }
}

/// A call under way: dropped before its reply, it is taken back.
struct OpenCall<'a> {
    inner: &'a Inner,
    id: u64,
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        self.inner.forget_call(self.id);
    }
}

impl Backend for Worker {
    fn kind(&self) -> &'static str {
        "worker"
    }

    fn describe(&self) -> Arc<Description> {
        self.inner.lock().description.clone()
    }

    fn health(&self) -> Health {
        self.inner.lock().health.clone()
    }

    fn generate(&self, request: Request) -> Later<'_, Vec<Events>> {
        Box::pin(async move {
            let (taken, events) = self.inner.generate(request)?;
            taken.await.unwrap_or_else(|| Err(state::gone()))?;
            Ok(events)
        })
    }

    fn embed(&self, request: EmbedRequest) -> Later<'_, Embeddings> {
        self.call(
            |id| ToWorker::Embed { id, request },
            |reply| match reply {
                Reply::Vectors(vectors) => Some(vectors),
                _ => None,
            },
        )
    }

    fn rerank(&self, request: RerankRequest) -> Later<'_, Ranking> {
        self.call(
            |id| ToWorker::Rerank { id, request },
            |reply| match reply {
                Reply::Ranking(ranking) => Some(ranking),
                _ => None,
            },
        )
    }

    fn prompt_tokens(&self, request: Request) -> Later<'_, Vec<u32>> {
        let request = Box::new(request);
        self.call(|id| ToWorker::PromptTokens { id, request }, tokens)
    }

    fn tokenize(
        &self,
        text: String,
        options: TokenizeOptions,
        _: Option<Trace>,
    ) -> Later<'_, Vec<u32>> {
        let TokenizeOptions { add_special, parse_special } = options;
        self.call(move |id| ToWorker::Tokenize { id, text, add_special, parse_special }, tokens)
    }

    fn detokenize(&self, tokens: Vec<u32>, _: Option<Trace>) -> Later<'_, String> {
        self.call(
            |id| ToWorker::Detokenize { id, tokens },
            |reply| match reply {
                Reply::Text(text) => Some(text),
                _ => None,
            },
        )
    }

    fn gauges(&self) -> Later<'_, Gauges> {
        self.call(
            |id| ToWorker::Gauges { id },
            |reply| match reply {
                Reply::Gauges(gauges) => Some(gauges),
                _ => None,
            },
        )
    }

    fn restarts(&self) -> u64 {
        Worker::restarts(self)
    }

    fn stop(&self) {
        self.inner.stop();
    }
}

fn tokens(reply: Reply) -> Option<Vec<u32>> {
    match reply {
        Reply::Tokens(tokens) => Some(tokens),
        _ => None,
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.inner.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
