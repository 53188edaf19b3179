//! The routes that change what models there are.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, head, post};
use futures_core::Stream;
use http_body_util::BodyExt;
use oprel::Making;
use oprel_api::ollama::{self, Create, ModelName, Transfer, progress};
use oprel_api::{ErrorKind, Failure};
use oprel_hub::fetch::{Fetcher, Status};
use oprel_hub::modelfile::{Piece, PieceAt, Recipe};
use oprel_hub::{Digest, Reference, Source, Store, StoredMessage, Trouble};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::App;
use crate::answer::{Head, Speech, json};
use crate::name::Name;
use crate::peer::Peer;
use crate::stored;

/// How often bytes are told.
const EVERY: Duration = Duration::from_millis(60);
/// Stands for the digest of what has none yet.
const NO_DIGEST: &str = "0000000000000000000";
const SPEECH: Speech = Speech { complaint: ollama::complaint };
/// Pieces of a blob that wait to be written.
const PIECES: usize = 16;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/create", post(create))
        .route("/api/copy", post(copy))
        .route("/api/pull", post(pull))
        .route("/api/push", post(push))
        .route("/api/delete", delete(remove))
        .route("/api/blobs/{digest}", head(has_blob).post(put_blob))
}

/// The store, or why there is none.
pub(super) fn store(app: &App) -> Result<Store, Failure> {
    app.models.store().cloned().ok_or_else(|| {
        Failure::new(ErrorKind::Validation, "this server has no store of models")
            .with_hint("set HOME, OPREL_HOME or OPREL_MODELS, and start it again")
    })
}

/// Work that waits for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Failure::new(ErrorKind::Backend, e.to_string())))
}

/// A name that may be given to a model.
pub(super) fn new_name(text: &str, wrong: impl Fn() -> String) -> Result<ModelName, Failure> {
    let refuse = || Failure::new(ErrorKind::Validation, wrong());
    match ollama::ModelRef::parse(text).map_err(|_| refuse())? {
        ollama::ModelRef::Name(name) => Ok(name),
        // The built-in model keeps its name, and a path is none.
        ollama::ModelRef::Demo | ollama::ModelRef::Path(_) => Err(refuse()),
    }
}

async fn copy(State(app): State<Arc<App>>, request: Request) -> Response {
    let asked = match super::read(&app, request, SPEECH, ollama::copy).await {
        Ok(asked) => asked,
        Err(response) => return response,
    };
    let done = async {
        let invalid = || format!("source {:?} is invalid", asked.source);
        let from = ollama::ModelRef::parse(&asked.source)
            .ok()
            .filter(|from| !matches!(from, ollama::ModelRef::Path(_)))
            .ok_or_else(|| Failure::new(ErrorKind::Validation, invalid()))?;
        let wrong = || format!("destination {:?} is invalid", asked.destination);
        let to = new_name(&asked.destination, wrong)?;
        let (store, said, target) = (store(&app)?, asked.source.clone(), to.clone());
        blocking(move || {
            oprel::copy(&store, &from, &target).map_err(|error| match error {
                oprel_hub::Error::NotFound { .. } => {
                    Failure::new(ErrorKind::ModelNotFound, format!("model {said:?} not found"))
                }
                error => stored::failure(error, &said),
            })
        })
        .await?;
        changed(&app, to).await;
        Ok(())
    };
    match done.await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(failure) => SPEECH.fail(failure),
    }
}

/// A model of this name that is loaded is another one now: it goes when it is idle.
pub(super) async fn changed(app: &App, name: ModelName) {
    let text = name.to_string();
    app.models.stop(&Name::Named(name, text)).await;
}

async fn remove(State(app): State<Arc<App>>, request: Request) -> Response {
    let named = match super::read(&app, request, SPEECH, ollama::named).await {
        Ok(named) => named,
        Err(response) => return response,
    };
    let done = async {
        let name = new_name(&named.model, || format!("name {:?} is invalid", named.model))?;
        let (store, said, target) = (store(&app)?, named.model.clone(), name.clone());
        blocking(move || store.remove(&target).map_err(|error| stored::failure(error, &said)))
            .await?;
        changed(&app, name).await;
        Ok(())
    };
    match done.await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(failure) => SPEECH.fail(failure),
    }
}

fn digest(text: &str) -> Result<Digest, Failure> {
    // Other forms that mean the same are for people; a route has these two.
    let is_named = text.starts_with("sha256:") || text.starts_with("sha256-");
    let wrong = || Failure::new(ErrorKind::Validation, "invalid digest format");
    text.parse().ok().filter(|_| is_named).ok_or_else(wrong)
}

async fn has_blob(State(app): State<Arc<App>>, Path(text): Path<String>) -> Response {
    let found = async {
        let (digest, store) = (digest(&text)?, store(&app)?);
        blocking(move || Ok(store.has(&digest))).await
    };
    match found.await {
        Ok(true) => StatusCode::OK.into_response(),
        Ok(false) => StatusCode::NOT_FOUND.into_response(),
        Err(failure) => SPEECH.fail(failure),
    }
}

async fn put_blob(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    request: Request,
) -> Response {
    let put = async {
        let (digest, store) = (digest(&text)?, store(&app)?);
        let known = store.clone();
        if blocking(move || Ok(known.has(&digest))).await? {
            return Ok(StatusCode::OK);
        }
        let (pieces, reader) = mpsc::channel(PIECES);
        let stall = app.options.limits.stall;
        let writing = blocking(move || {
            let reader = Pieces { pieces: reader, piece: Bytes::new() };
            let put = store.put_blob(reader, Some(digest));
            put.map_err(|error| stored::failure(error, "the blob"))
        });
        let (_, put) = tokio::join!(pump(request.into_body(), pieces, stall), writing);
        put.map(|_| StatusCode::CREATED)
    };
    match put.await {
        Ok(status) => status.into_response(),
        Err(failure) => SPEECH.fail(failure),
    }
}

/// Hands on the pieces of a body until it ends, breaks, or nobody wants more.
async fn pump(mut body: Body, pieces: mpsc::Sender<io::Result<Bytes>>, stall: Duration) {
    loop {
        let piece = match tokio::time::timeout(stall, body.frame()).await {
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Ok(data),
                Err(_) => continue,
            },
            Ok(Some(Err(error))) => Err(io::Error::other(error)),
            Ok(None) => return,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came of the body")),
        };
        let broken = piece.is_err();
        if pieces.send(piece).await.is_err() || broken {
            return;
        }
    }
}

/// Pieces as a reader, for who waits.
struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let n = into.len().min(self.piece.len());
        into[..n].copy_from_slice(&self.piece.split_to(n));
        Ok(n)
    }
}

/// What both directions need.
struct Way {
    store: Store,
    fetcher: Fetcher,
    asked: Transfer,
}

async fn way(app: &App, request: Request) -> Result<Way, Response> {
    let asked = super::read(app, request, SPEECH, ollama::transfer).await?;
    let parts = || {
        let (fetcher, _) = app.models.fetching();
        let none = || Failure::new(ErrorKind::Validation, "this server fetches no models");
        Ok((store(app)?, fetcher.cloned().ok_or_else(none)?))
    };
    let (store, fetcher) = parts().map_err(|failure| SPEECH.fail(failure))?;
    Ok(Way { store, fetcher, asked })
}

fn line(status: Status) -> Value {
    let digest = status.digest.map(|digest| digest.to_string());
    progress(&status.status, digest.as_deref().map(|d| (d, status.total, status.completed)))
}

async fn pull(State(app): State<Arc<App>>, request: Request) -> Response {
    let Way { store, fetcher, asked } = match way(&app, request).await {
        Ok(way) => way,
        Err(response) => return response,
    };
    let text = asked.model.clone();
    let reference = Reference::resolve(&text, app.models.fetching().1, &store);
    let reference = match reference.map_err(|error| stored::failure(error, &text)) {
        Ok(reference) => reference,
        Err(failure) => return SPEECH.fail(failure),
    };
    if matches!(reference.source, Source::Demo) {
        // It is here.
        let work = |lines: Lines| async move {
            lines.say_now(progress("success", None));
            Ok(())
        };
        return told(asked.stream, asked.ignored, work).await;
    }
    let work = move |lines: Lines| async move {
        let tell = |status: Status| lines.say_now(line(status));
        oprel_hub::pull(&fetcher, &store, &reference, asked.insecure, &tell).await?;
        if let Some(name) = reference.name {
            changed(&app, name).await;
        }
        Ok(())
    };
    told(asked.stream, asked.ignored, work).await
}

async fn push(State(app): State<Arc<App>>, request: Request) -> Response {
    let Way { store, fetcher, asked } = match way(&app, request).await {
        Ok(way) => way,
        Err(response) => return response,
    };
    let name = match new_name(&asked.model, || "invalid model name".into()) {
        Ok(name) => name,
        Err(failure) => return SPEECH.fail(failure),
    };
    let work = move |lines: Lines| async move {
        let tell = |status: Status| lines.say_now(line(status));
        let pushed = oprel_hub::push(&fetcher, &store, &name, asked.insecure, &tell).await;
        pushed.map_err(|trouble| match trouble {
            Trouble::Store(error) => stored::failure(error, &asked.model),
            trouble => trouble.into(),
        })
    };
    told(asked.stream, asked.ignored, work).await
}

async fn create(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let asked = match super::read(&app, request, SPEECH, ollama::create).await {
        Ok(asked) => asked,
        Err(response) => return response,
    };
    let (stream, ignored) = (asked.stream, asked.ignored.clone());
    let begun = || {
        let name = new_name(&asked.model, || "invalid model name".into())?;
        let said = asked.from.clone().unwrap_or_default();
        let store = store(&app)?;
        let mut recipe = recipe(asked, &peer)?;
        let (fetcher, catalog) = app.models.fetching();
        let base = oprel_hub::absent_base(&store, catalog, &mut recipe);
        let base = base.map_err(|error| stored::failure(error, &said))?;
        let base = match (base, fetcher.cloned()) {
            (Some(_), None) => return Err(ollama::absent(&said)),
            (base, fetcher) => base.zip(fetcher),
        };
        Ok((name, said, store, recipe, base))
    };
    let (name, said, store, recipe, base) = match begun() {
        Ok(begun) => begun,
        Err(failure) => return SPEECH.fail(failure),
    };
    let work = move |lines: Lines| async move {
        if let Some((base, fetcher)) = base {
            let tell = |status: Status| lines.say_now(line(status));
            oprel_hub::pull_base(&fetcher, &store, &base, &tell).await?;
        }
        let target = name.clone();
        blocking(move || {
            let mut said_at = None;
            let made = oprel::create(&store, &target, &recipe, &mut |making| {
                if is_due(making, &mut said_at) {
                    lines.say_now(made_line(making));
                }
                // Weights are not converted for nobody.
                if lines.is_heard() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            made.map_err(|error| stored::failure(error, &said))
        })
        .await?;
        changed(&app, name).await;
        Ok(())
    };
    told(stream, ignored, work).await
}

/// Whether it is time to say what is done: of bytes not more often than anybody can see.
fn is_due(making: &Making, said_at: &mut Option<Instant>) -> bool {
    let Making::Quantizing { done_bytes, total_bytes, .. } = making else { return true };
    let is_due = said_at.is_none_or(|at| at.elapsed() >= EVERY) || done_bytes == total_bytes;
    if is_due {
        *said_at = Some(Instant::now());
    }
    is_due
}

/// What is done to make a model. Clients draw a bar for what has a digest, so weights that become others have one of
/// their own.
fn made_line(making: &Making) -> Value {
    let file = match making {
        Making::Quantizing { total_bytes, done_bytes, .. } => {
            Some((NO_DIGEST, *total_bytes, *done_bytes))
        }
        Making::Step(_) => None,
    };
    progress(&making.to_string(), file)
}

/// What a model is to be made of. Files of this machine are for those who may name them.
fn recipe(asked: Create, peer: &Peer) -> Result<Recipe, Failure> {
    let wrong = |message: String| Failure::new(ErrorKind::Validation, message);
    let quantize = asked.quantize.as_deref().map(oprel::file_type).transpose()?;
    let pieces = |files: Vec<(String, String)>| -> Result<Vec<Piece>, Failure> {
        let piece = |(name, text): (String, String)| {
            let is_plain = std::path::Path::new(&name)
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            if name.is_empty() || !is_plain {
                return Err(wrong(format!("invalid file name {name:?}")));
            }
            let file = name.rsplit('/').next().unwrap_or(&name).to_owned();
            Ok(Piece { name: file, at: PieceAt::Blob(digest(&text)?) })
        };
        files.into_iter().map(piece).collect()
    };
    let mut recipe = Recipe {
        files: pieces(asked.files)?,
        drafts: pieces(asked.draft_files)?,
        adapters: pieces(asked.adapters)?,
        template: asked.template,
        system: asked.system,
        licenses: asked.licenses,
        params: asked.parameters,
        renderer: asked.renderer,
        parser: asked.parser,
        requires: asked.requires,
        quantize,
        messages: asked
            .messages
            .into_iter()
            .map(|(role, content)| StoredMessage { role, content })
            .collect(),
        ..Recipe::default()
    };
    // What cannot be asked later is refused now.
    ollama::Preset::new(&recipe.params, None, [])?;
    let from = match &asked.from {
        // It is the name of what can be fetched there.
        Some(text) if text.contains("://") => {
            recipe.model = asked.from.clone();
            None
        }
        text => text.as_deref().map(ollama::ModelRef::parse).transpose()?,
    };
    match from {
        None => {}
        Some(ollama::ModelRef::Path(path)) if peer.trusted => {
            let path = oprel_config::expanded(&path);
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            recipe.files.push(Piece { name, at: PieceAt::Path(path) });
        }
        Some(ollama::ModelRef::Name(_) | ollama::ModelRef::Demo) => recipe.model = asked.from,
        Some(_) => return Err(ollama::absent(&asked.from.unwrap_or_default())),
    }
    if recipe.model.is_none() && recipe.files.is_empty() {
        return Err(wrong("neither 'from' or 'files' was specified".into()));
    }
    Ok(recipe)
}

/// Where lines of progress go. They are told for as long as somebody listens.
#[derive(Clone)]
pub(super) struct Lines(mpsc::UnboundedSender<Result<Value, Failure>>);

impl Lines {
    pub(super) fn say_now(&self, line: Value) {
        let _ = self.0.send(Ok(line));
    }

    /// Whether anybody still listens.
    fn is_heard(&self) -> bool {
        !self.0.is_closed()
    }
}

/// Does work that tells how far it is: in lines as they come, or only the last. When the client goes away, the
/// work ends where it waits.
pub(super) async fn told<W, F>(stream: bool, ignored: Vec<String>, work: W) -> Response
where
    W: FnOnce(Lines) -> F,
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let (sender, mut lines) = mpsc::unbounded_channel();
    let work = work(Lines(sender.clone()));
    let task = tokio::spawn(async move {
        if let Err(failure) = work.await {
            let _ = sender.send(Err(failure));
        }
    });
    let task = Aborted(task);
    let mut first = match lines.recv().await {
        Some(Ok(line)) => line,
        Some(Err(failure)) => return SPEECH.fail(failure),
        None => Value::Null,
    };
    let head = Head { backend: "none", ignored };
    if !stream {
        while let Some(line) = lines.recv().await {
            match line {
                Ok(line) => first = line,
                Err(failure) => return SPEECH.fail(failure),
            }
        }
        let mut response = json(StatusCode::OK, &first);
        head.write(&mut response);
        return response;
    }
    let told = Told { first: Some(first), lines, _task: task };
    let mut response = Response::new(Body::from_stream(told));
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    head.write(&mut response);
    response
}

/// A task that ends with whoever holds it.
struct Aborted(tokio::task::JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Lines of progress, as they are sent.
struct Told {
    first: Option<Value>,
    lines: mpsc::UnboundedReceiver<Result<Value, Failure>>,
    _task: Aborted,
}

impl Stream for Told {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let line = match self.first.take() {
            Some(line) => Some(Ok(line)),
            None => std::task::ready!(self.lines.poll_recv(cx)),
        };
        let line = line.map(|line| match line {
            Ok(line) => line,
            Err(failure) => {
                let problem = oprel_api::dialect::Problem { status: 200, failure, id: crate::id() };
                ollama::complaint(&problem)
            }
        });
        Poll::Ready(line.map(|line| Ok((line.to_string() + "\n").into())))
    }
}
