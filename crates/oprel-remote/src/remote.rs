//! A model that servers elsewhere have, behind the seam for engines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use oprel_api::{
    Cause, EmbedRequest, Embeddings, ErrorKind, Failure, Gauges, Ranking, Request, RerankRequest,
    Trace,
};
use oprel_backend::{Backend, Description, Events, Health, Later, way};
use oprel_tokenizer::TokenizeOptions;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::ask::Ask;
use crate::far::{Far, Kind};
use crate::fleet::{Fleet, Tried};
use crate::probe::{Known, probe};
use crate::pump::{Wanted, run, stopped};
use crate::tokens::{self, Call, PromptCall};
use crate::{Place, Profile};

/// How long a server may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Before it says anything of an answer: it may queue, and prompts may be long.
    pub first: Duration,
    /// In the middle of an answer.
    pub gap: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { first: Duration::from_secs(600), gap: Duration::from_secs(120) }
    }
}

/// A model that servers elsewhere have. Dropping it cancels what they are doing for it.
#[derive(Debug)]
pub struct Remote {
    inner: Arc<Inner>,
    /// Requests and looking after servers run here, whoever waits for them.
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct Inner {
    fleet: Arc<Fleet>,
    profile: &'static Profile,
    kind: &'static str,
    model: String,
    description: Arc<Description>,
    patience: Patience,
}

impl Remote {
    /// Asks the servers of a place for their model; it is told of by `kind`, or else by its profile.
    ///
    /// It waits for them, so it must not be called where waiting is forbidden.
    ///
    /// # Errors
    /// If none of them answers, or has the model.
    pub fn start(
        place: &Place,
        key: Option<&str>,
        patience: Patience,
        kind: Option<&'static str>,
    ) -> Result<Remote, Failure> {
        let begun = Instant::now();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("oprel-remote")
            .enable_all()
            .build()
            .map_err(|e| backend(format!("cannot start a thread: {e}")))?;
        let servers = place.servers.iter().map(|address| Far::new(address.clone(), key));
        let fleet = Arc::new(Fleet::new(servers.collect::<Result<_, _>>()?));
        let known = runtime.block_on(probe(&fleet, place.model.as_deref()));
        let Known { model, mut description } = match known {
            Ok(known) => known,
            Err(failure) => {
                runtime.shutdown_background();
                return Err(failure);
            }
        };
        description.load_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        runtime.spawn(fleet.clone().look_after(place.profile.health));
        let inner = Inner {
            fleet,
            profile: place.profile,
            kind: kind.unwrap_or(place.profile.kind),
            model,
            description: Arc::new(description),
            patience,
        };
        Ok(Remote {
            inner: Arc::new(inner),
            runtime: Some(runtime),
            stop: watch::Sender::new(false),
        })
    }

    /// What the model is called where it is.
    pub fn model(&self) -> &str {
        &self.inner.model
    }

    /// Forgets what was held against its servers: they are others now.
    pub(crate) fn revive(&self) {
        self.inner.fleet.revive();
    }

    fn runtime(&self) -> Result<&Runtime, Failure> {
        let is_stopped = *self.stop.borrow();
        self.runtime.as_ref().filter(|_| !is_stopped).ok_or_else(stopped)
    }

    fn begin(&self, request: &Request) -> Result<Vec<Events>, Failure> {
        let inner = &self.inner;
        let context = inner.description.context;
        let ask = Ask::of(inner.profile, &inner.model, context, request)?;
        let Ask { path, bodies, expects, beginning, deadline, fit } = ask;
        let (runtime, submitted) = (self.runtime()?, Instant::now());
        let begin = |body| {
            let (mouth, events) = way();
            let expects = expects.clone();
            let (patience, fit, trace) = (inner.patience, fit.clone(), request.trace.clone());
            let wanted = Wanted {
                path,
                body,
                expects,
                beginning,
                deadline,
                submitted,
                patience,
                fit,
                trace,
            };
            let (fleet, mut stop) = (inner.fleet.clone(), self.stop.subscribe());
            let task = runtime.spawn(async move {
                tokio::select! {
                    () = run(fleet, wanted, mouth) => {}
                    // What was said so far ends with an error when the mouth is dropped.
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            });
            // A connection that is dropped is how all servers are told that nobody listens.
            events.when_dropped(move || task.abort())
        };
        Ok(bodies.into_iter().map(begin).collect())
    }

    /// Runs a call on the own threads; it is cancelled with whoever waits for it.
    fn later<T, F>(&self, call: impl FnOnce(Arc<Inner>) -> F) -> Later<'_, T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let task = match self.runtime() {
            Ok(runtime) => Task(runtime.spawn(call(self.inner.clone()))),
            Err(failure) => return Box::pin(std::future::ready(Err(failure))),
        };
        Box::pin(async move {
            let mut task = task;
            (&mut task.0).await.unwrap_or_else(|_| Err(stopped()))
        })
    }
}

/// Ends with whoever waits for it.
struct Task<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Inner {
    /// Asks one server after another for something that is said at once; `what` is what that is called.
    async fn ask<T: DeserializeOwned>(
        &self,
        what: &str,
        (path, body): Call,
        trace: Option<&Trace>,
    ) -> Result<T, Failure> {
        let (mut tried, mut last) = (Tried::default(), None);
        loop {
            let turn = match self.fleet.turn(0, &mut tried) {
                Ok(turn) => turn,
                Err(nobody) => return Err(last.unwrap_or(nobody)),
            };
            let asked = turn.far().ask(path, Some(&body), trace);
            let refusal = match tokio::time::timeout(self.patience.first, asked).await {
                Ok(Ok(said)) => {
                    turn.well();
                    return Ok(said);
                }
                Ok(Err(refusal)) => refusal,
                Err(_) => turn.far().refusal(Kind::Ill, "it does not answer"),
            };
            turn.refused(&refusal);
            if refusal.kind == Kind::Lacks {
                return Err(incapable(what, &refusal.failure));
            }
            if !refusal.kind.may_go_elsewhere() {
                return Err(refusal.failure);
            }
            last = Some(refusal.failure);
        }
    }

    async fn tokenize(
        &self,
        text: &str,
        options: TokenizeOptions,
        trace: Option<&Trace>,
    ) -> Result<Vec<u32>, Failure> {
        let call = tokens::tokenize(self.profile, &self.model, text, options)?;
        tokens::tokens(&self.ask("tokenize", call, trace).await?)
    }

    async fn prompt_tokens(&self, request: &Request) -> Result<Vec<u32>, Failure> {
        let trace = request.trace.as_ref();
        match tokens::prompt(self.profile, &self.model, request)? {
            PromptCall::Tokens(tokens) => Ok(tokens),
            PromptCall::Ask(call) => tokens::tokens(&self.ask("tokenize", call, trace).await?),
            PromptCall::Text(text, options) => self.tokenize(&text, options, trace).await,
            PromptCall::Render(call) => {
                let said: Value = self.ask("apply-template", call, trace).await?;
                let text = said["prompt"].as_str();
                let text = text.ok_or_else(|| backend("its prompt cannot be read".into()))?;
                let options = TokenizeOptions { add_special: true, parse_special: true };
                self.tokenize(text, options, trace).await
            }
        }
    }
}

impl Backend for Remote {
    fn kind(&self) -> &'static str {
        self.inner.kind
    }

    fn describe(&self) -> Arc<Description> {
        self.inner.description.clone()
    }

    fn health(&self) -> Health {
        match (self.runtime().is_ok(), self.inner.fleet.is_up()) {
            (false, _) => Health::Stopped,
            (true, true) => Health::Ready,
            // Servers are asked again and again.
            (true, false) => Health::Starting,
        }
    }

    fn generate(&self, request: Request) -> Later<'_, Vec<Events>> {
        Box::pin(std::future::ready(self.begin(&request)))
    }

    fn embed(&self, request: EmbedRequest) -> Later<'_, Embeddings> {
        self.later(|inner| async move {
            let call = tokens::embed(&inner.model, &request)?;
            let made = inner.ask("embeddings", call, request.trace.as_ref()).await?;
            tokens::embedded(&request, made)
        })
    }

    fn rerank(&self, request: RerankRequest) -> Later<'_, Ranking> {
        self.later(|inner| async move {
            let call = tokens::rerank(inner.profile, &inner.model, &request)?;
            let made = inner.ask("rerank", call, request.trace.as_ref()).await?;
            tokens::ranked(&request, made)
        })
    }

    fn prompt_tokens(&self, request: Request) -> Later<'_, Vec<u32>> {
        self.later(|inner| async move { inner.prompt_tokens(&request).await })
    }

    fn tokenize(
        &self,
        text: String,
        options: TokenizeOptions,
        trace: Option<Trace>,
    ) -> Later<'_, Vec<u32>> {
        self.later(move |inner| async move { inner.tokenize(&text, options, trace.as_ref()).await })
    }

    fn detokenize(&self, tokens: Vec<u32>, trace: Option<Trace>) -> Later<'_, String> {
        self.later(|inner| async move {
            let call = tokens::detokenize(inner.profile, &inner.model, &tokens)?;
            tokens::text(inner.profile, &inner.ask("detokenize", call, trace.as_ref()).await?)
        })
    }

    fn gauges(&self) -> Later<'_, Gauges> {
        let running = self.inner.fleet.in_flight();
        Box::pin(std::future::ready(Ok(Gauges { running, ..Gauges::default() })))
    }

    fn servers(&self) -> Vec<(String, bool)> {
        let servers = self.inner.fleet.servers().iter();
        servers.map(|s| (s.far.name().to_string(), s.is_closed())).collect()
    }

    fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The failure of something that no server of a model can do.
fn incapable(what: &str, said: &Failure) -> Failure {
    let message = format!("the model's server does not support {what}: {said}");
    Failure::new(ErrorKind::Validation, message).because(Cause::Incapable(what.into()))
}

fn backend(message: String) -> Failure {
    Failure::new(ErrorKind::Backend, message)
}
