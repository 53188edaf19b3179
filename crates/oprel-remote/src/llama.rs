//! llama.cpp's server as a child process: for files that the native engine refuses, or when asked for.
//!
//! It listens on a Unix socket in a folder that only this user can enter, on Windows on a port of this machine alone,
//! and wants a key that only this process knows. It is started again after a crash, and killed when nobody wants it: asked to end, it
//! would leave its clients hanging. What it is asked goes the way of every [`Remote`].

mod find;
mod folder;
mod options;
mod platform;
mod process;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oprel_api::{
    EmbedRequest, Embeddings, ErrorKind, Failure, Gauges, Ranking, Request, RerankRequest, Trace,
};
use oprel_backend::{
    Backend, Capability, Description, Events, Health, Later, LoadOptions, ModelSource, capabilities,
};
use oprel_tokenizer::TokenizeOptions;
use tokio::sync::watch;

use crate::remote::{Patience, Remote};
use crate::{Address, Place, Profile};
pub use find::{find, version};
use folder::Folder;

/// What answers of it are marked with.
const KIND: &str = "llama-server";

/// How llama.cpp's server is started.
#[derive(Clone, Debug)]
pub struct LlamaLaunch {
    /// The program, see [`find`].
    pub program: PathBuf,
    /// A program and arguments that run the one behind them and let it die with this process; nothing, where
    /// there is none.
    pub leash: Vec<OsString>,
    /// The file.
    pub model: PathBuf,
    /// How it is loaded, as far as this program can.
    pub options: LoadOptions,
    /// How long it may be silent.
    pub patience: LlamaPatience,
}

/// How long a process may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LlamaPatience {
    /// While it loads, without a word in its log.
    pub stall: Duration,
    /// While it serves, without saying that it is well.
    pub ill: Duration,
    /// With an answer.
    pub answer: Patience,
}

impl Default for LlamaPatience {
    fn default() -> LlamaPatience {
        LlamaPatience {
            stall: Duration::from_secs(300),
            ill: Duration::from_secs(60),
            answer: Patience::default(),
        }
    }
}

/// What the process is doing.
#[derive(Clone, Debug, PartialEq)]
enum Life {
    Starting,
    /// The n-th process serves.
    Ready(u64),
    Failed(Failure),
    Stopped,
}

/// What its supervisor and its users share.
#[derive(Debug)]
struct Shared {
    life: watch::Sender<Life>,
    restarts: AtomicU64,
    pid: Mutex<Option<u32>>,
}

/// A model in llama.cpp's server. Dropping it ends the process.
#[derive(Debug)]
pub struct LlamaServer {
    remote: Remote,
    shared: Arc<Shared>,
    supervisor: Supervisor,
    /// The process whose failures were forgotten last.
    known: AtomicU64,
    description: Arc<Description>,
    _folder: Folder,
}

/// The thread that owns the process. Dropping it ends both.
#[derive(Debug)]
struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl LlamaServer {
    /// Starts a process and waits until it has loaded the model.
    ///
    /// # Errors
    /// If the program cannot be run or is too old, an option is out of its range, or the model cannot be
    /// loaded; then with the last words of its log.
    pub fn start(launch: &LlamaLaunch) -> Result<LlamaServer, Failure> {
        let begun = Instant::now();
        let can = able(&launch.model);
        let options = options::arguments(&launch.options, &can)?;
        let version = version(&launch.program)?;
        let folder = Folder::make()?;
        let command = process::Recipe {
            program: launch.program.clone(),
            leash: launch.leash.clone(),
            arguments: folder.arguments(&launch.model, options),
            door: folder.door().clone(),
            patience: launch.patience,
        };
        let shared = Arc::new(Shared {
            life: watch::Sender::new(Life::Starting),
            restarts: AtomicU64::new(0),
            pid: Mutex::default(),
        });
        tracing::info!(program = %launch.program.display(), %version, "starts a process");
        let supervisor = Supervisor::start(shared.clone(), command)?;
        oprel_backend::wait(serving(&shared))?;
        let profile = Profile::named("llama-server").ok_or_else(|| broken("it has no profile"))?;
        let name = oprel_api::ollama::ModelName::parse(KIND)?;
        let address = Address::parse(&folder.door().address())?;
        let place = Place { name, profile, servers: vec![address], model: None };
        let key = Some(folder.key());
        let remote = Remote::start(&place, key, launch.patience.answer, Some(KIND))?;
        let known = remote.describe();
        let speaks = can.is_empty() || can.contains(&Capability::Completion);
        let description = Description {
            only_embeds: !speaks,
            capabilities: if can.is_empty() { known.capabilities.clone() } else { can },
            load_ns: u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX),
            memory_bytes: std::fs::metadata(&launch.model).map_or(0, |file| file.len()),
            threads: launch.options.threads.unwrap_or_default(),
            without_draft: launch.options.usual_draft.as_ref().map(|_| {
                "a model that proposes tokens is not supported by llama-server".to_string()
            }),
            ..(*known).clone()
        };
        Ok(LlamaServer {
            remote,
            shared,
            supervisor,
            known: AtomicU64::new(0),
            description: Arc::new(description),
            _folder: folder,
        })
    }

    /// The process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        *self.shared.pid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a process serves.
    async fn ready(&self) -> Result<&Remote, Failure> {
        let n = serving(&self.shared).await?;
        // What was held against the one before does not count against this one.
        if self.known.swap(n, Ordering::Relaxed) != n {
            self.remote.revive();
        }
        Ok(&self.remote)
    }
}

impl Supervisor {
    fn start(shared: Arc<Shared>, recipe: process::Recipe) -> Result<Supervisor, Failure> {
        let supervised = shared.clone();
        // It lives as long as the process: where a process dies with who started it, that is a thread.
        let thread = std::thread::Builder::new()
            .name("oprel-llama".into())
            .spawn(move || process::supervise(&supervised, &recipe))
            .map_err(|e| broken(&format!("cannot start a thread: {e}")))?;
        Ok(Supervisor { shared, thread: Some(thread) })
    }

    fn stop(&self) {
        self.shared.life.send_replace(Life::Stopped);
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the model of a file can do, as far as that can be read.
fn able(file: &std::path::Path) -> Vec<Capability> {
    let opened = ModelSource::File(file.to_path_buf()).open();
    let mut can = opened.map(|file| capabilities(&file, None)).unwrap_or_default();
    // Gaps are filled by a route of its own, which is not asked.
    can.retain(|can| *can != Capability::Insert);
    can
}

/// Which process serves, once one does.
async fn serving(shared: &Shared) -> Result<u64, Failure> {
    let mut life = shared.life.subscribe();
    let now = life.wait_for(|life| *life != Life::Starting).await;
    match now.map(|life| life.clone()).unwrap_or(Life::Stopped) {
        Life::Ready(n) => Ok(n),
        Life::Failed(failure) => Err(failure),
        Life::Starting | Life::Stopped => Err(crate::pump::stopped()),
    }
}

impl Backend for LlamaServer {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn describe(&self) -> Arc<Description> {
        self.description.clone()
    }

    fn health(&self) -> Health {
        match &*self.shared.life.borrow() {
            Life::Starting => Health::Starting,
            Life::Ready(_) => Health::Ready,
            Life::Failed(failure) => Health::Failed(failure.clone()),
            Life::Stopped => Health::Stopped,
        }
    }

    fn generate(&self, request: Request) -> Later<'_, Vec<Events>> {
        Box::pin(async move { self.ready().await?.generate(request).await })
    }

    fn embed(&self, request: EmbedRequest) -> Later<'_, Embeddings> {
        Box::pin(async move { self.ready().await?.embed(request).await })
    }

    fn rerank(&self, request: RerankRequest) -> Later<'_, Ranking> {
        Box::pin(async move { self.ready().await?.rerank(request).await })
    }

    fn prompt_tokens(&self, request: Request) -> Later<'_, Vec<u32>> {
        Box::pin(async move { self.ready().await?.prompt_tokens(request).await })
    }

    fn tokenize(
        &self,
        text: String,
        options: TokenizeOptions,
        trace: Option<Trace>,
    ) -> Later<'_, Vec<u32>> {
        Box::pin(async move { self.ready().await?.tokenize(text, options, trace).await })
    }

    fn detokenize(&self, tokens: Vec<u32>, trace: Option<Trace>) -> Later<'_, String> {
        Box::pin(async move { self.ready().await?.detokenize(tokens, trace).await })
    }

    fn gauges(&self) -> Later<'_, Gauges> {
        self.remote.gauges()
    }

    fn restarts(&self) -> u64 {
        self.shared.restarts.load(Ordering::Relaxed)
    }

    /// Streams end first; then the process is killed.
    fn stop(&self) {
        self.remote.stop();
        self.supervisor.stop();
    }
}

fn broken(message: &str) -> Failure {
    Failure::new(ErrorKind::Backend, format!("llama-server: {message}"))
}
