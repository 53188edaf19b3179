//! The routes of Ollama.

use std::sync::{Arc, LazyLock};

use axum::Extension;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use oprel_api::dialect::Stay;
use oprel_api::ollama::{self, Details, Generate, Idle, Running, Show, Tag, Timestamp};
use oprel_api::{Cause, ErrorKind, Failure};
use oprel_backend::ModelSource;
use sha2::{Digest as _, Sha256};

use crate::App;
use crate::answer::{self, Head, Speech, json};
use crate::models::{Found, Here, Loaded};
use crate::name::Name;
use crate::peer::Peer;
use crate::stored;

const SPEECH: Speech = Speech { complaint: ollama::complaint };
/// Of a model that is not there, requests for vectors are told in other words.
const EMBEDS: Speech = Speech { complaint: ollama::complaint_of_embed };

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(running))
        .route("/api/version", get(version))
        .route("/api/tags", get(tags))
        .route("/api/ps", get(ps))
        .route("/api/show", post(show))
        .route("/api/generate", post(generate))
        .route("/api/chat", post(chat))
        .route("/api/embed", post(embed))
        .route("/api/embeddings", post(embeddings))
        .route("/api/status", get(status))
        .route("/api/me", post(me))
}

async fn running() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], ollama::RUNNING).into_response()
}

async fn version(State(app): State<Arc<App>>) -> Response {
    json(StatusCode::OK, &ollama::version(&app.options.version))
}

/// There is no service elsewhere that could be on.
async fn status() -> Response {
    let off = serde_json::json!({"cloud": {"disabled": true, "source": "config"}});
    json(StatusCode::OK, &off)
}

async fn me() -> Response {
    json(StatusCode::UNAUTHORIZED, &serde_json::json!({"error": "unauthorized"}))
}

async fn generate(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    said(&app, &peer, request, ollama::generate).await
}

async fn chat(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    said(&app, &peer, request, ollama::chat).await
}

async fn said(
    app: &Arc<App>,
    peer: &Peer,
    request: Request,
    read: fn(&[u8]) -> Result<Generate, Failure>,
) -> Response {
    match super::read(app, request, SPEECH, read).await {
        Ok(Generate::Call(call)) => answer::generate(app, peer, SPEECH, call, None).await,
        Ok(Generate::Load(idle)) => load(app, peer, idle).await,
        Ok(Generate::Unload(idle)) => unload(app, peer, idle).await,
        Err(response) => response,
    }
}

async fn load(app: &Arc<App>, peer: &Peer, idle: Idle) -> Response {
    let loaded = async {
        let name = Name::parse(&idle.model, peer.trusted)?;
        let lease = app.models.lease(name.clone(), &idle.stay).await?;
        Ok((name, lease.backend().kind()))
    };
    match loaded.await {
        Ok((name, backend)) => done(&idle, &name, backend),
        Err(failure) => SPEECH.fail(failure),
    }
}

async fn unload(app: &Arc<App>, peer: &Peer, idle: Idle) -> Response {
    match Name::parse(&idle.model, peer.trusted) {
        Ok(name) if !app.models.has(&name).await => SPEECH.fail(ollama::absent(&idle.model)),
        Ok(name) => {
            app.models.stop(&name).await;
            done(&idle, &name, "none")
        }
        Err(failure) => SPEECH.fail(failure),
    }
}

fn done(idle: &Idle, name: &Name, backend: &'static str) -> Response {
    let body = (idle.done)(&answer::moment(name));
    let mut response = json(StatusCode::OK, &body);
    Head { backend, ignored: idle.ignored.clone() }.write(&mut response);
    response
}

async fn embed(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    embedded(&app, &peer, request, ollama::embed).await
}

async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    embedded(&app, &peer, request, ollama::embeddings).await
}

async fn embedded(
    app: &Arc<App>,
    peer: &Peer,
    request: Request,
    read: fn(&[u8]) -> Result<oprel_api::dialect::EmbedCall, Failure>,
) -> Response {
    match super::read(app, request, SPEECH, read).await {
        Ok(call) => answer::embed(app, peer, EMBEDS, call).await,
        Err(response) => response,
    }
}

/// What can be used without naming a file: models of the store, the built-in one, and models elsewhere. Models that are
/// named by path are not listed: they are their owner's.
async fn tags(State(app): State<Arc<App>>) -> Response {
    let store = app.models.store().cloned();
    let here = tokio::task::spawn_blocking(move || {
        let mut tags = store.map(|store| stored::tags(&store)).unwrap_or_default();
        tags.extend(DEMO.clone());
        tags
    });
    let here = here.await.unwrap_or_default();
    let elsewhere = app.models.names_elsewhere().map(|name| Tag {
        name: name.to_string(),
        model: name.to_string(),
        modified_at: Timestamp::default(),
        ..Tag::default()
    });
    json(StatusCode::OK, &ollama::tags(here.into_iter().chain(elsewhere).collect()))
}

/// What is told of the built-in model, which stays as it is.
static DEMO: LazyLock<Option<Tag>> = LazyLock::new(demo_tag);

fn demo_tag() -> Option<Tag> {
    let source = ModelSource::Demo;
    let shown = oprel::show(&source, false).ok()?;
    let file = source.open().ok()?;
    // It has no manifest: its weights stand for it.
    let mut hasher = Sha256::new();
    file.tensors().iter().for_each(|tensor| hasher.update(&*file.bytes(tensor)));
    Some(Tag {
        name: Name::Demo.to_string(),
        model: Name::Demo.to_string(),
        modified_at: Timestamp::default(),
        size: file.tensors().iter().map(|tensor| tensor.n_bytes()).sum(),
        digest: oprel_hub::Digest::finish(hasher).hex(),
        details: oprel::show_details(&shown),
        capabilities: shown.capabilities.iter().map(|c| c.to_string()).collect(),
    })
}

async fn ps(State(app): State<Arc<App>>) -> Response {
    let now = Timestamp::utc(answer::unix_ns());
    let store = app.models.store().cloned();
    let running = move |model: Loaded| {
        let description = model.backend.describe();
        let built_in = DEMO.as_ref().filter(|_| model.name == Name::Demo);
        let tag = store.as_ref().and_then(|store| stored::tag_of(store, &model.name));
        Running {
            name: model.name.to_string(),
            model: model.name.to_string(),
            size: description.memory_bytes.max(model.file_bytes),
            digest: tag.as_ref().or(built_in).map(|tag| tag.digest.clone()).unwrap_or_default(),
            details: tag.map_or_else(|| details(model.source.as_ref()), |tag| tag.details),
            expires_at: model.until.map_or(now.never(), Timestamp::from),
            size_vram: 0,
            context_length: description.known_context().unwrap_or(0),
            backend: model.backend.kind().into(),
        }
    };
    let models = app.models.loaded();
    let body = tokio::task::spawn_blocking(move || models.into_iter().map(running).collect());
    match body.await {
        Ok(all) => json(StatusCode::OK, &ollama::ps(all)),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Sizes and kinds, as the file says.
fn details(source: Option<&ModelSource>) -> Details {
    let shown = source.and_then(|source| oprel::show(source, false).ok());
    shown.map(|shown| oprel::show_details(&shown)).unwrap_or_default()
}

async fn show(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let copilot = request
        .headers()
        .get(header::USER_AGENT)
        .is_some_and(|agent| agent.as_bytes().starts_with(b"GitHubCopilotChat/"));
    let find = |bytes: &[u8]| {
        let named = ollama::named(bytes)?;
        let name = Name::parse(&named.model, peer.trusted)?;
        Ok((named, name))
    };
    let (named, name) = match super::read(&app, request, SPEECH, find).await {
        Ok(found) => found,
        Err(response) => return response,
    };
    let verbose = named.verbose;
    let Here { source, stored, .. } = match app.models.clone().found(name.clone()).await {
        Ok(Found::Here(here)) => here,
        Ok(Found::Elsewhere(_)) => return show_elsewhere(&app, named, &name).await,
        Err(failure) => return SPEECH.fail(failure),
    };
    let template = stored.as_ref().and_then(|stored| stored.template.clone());
    let shown = tokio::task::spawn_blocking(move || match template {
        Some(template) => oprel::show_with_template(&source, &template, verbose),
        None => oprel::show(&source, verbose),
    });
    let shown = shown.await;
    let mut shown = match shown {
        Ok(Ok(shown)) => shown,
        Ok(Err(oprel::OprelError::ModelNotFound { .. })) => {
            return SPEECH.fail(ollama::absent(&named.model));
        }
        // What cannot be shown is no model.
        Ok(Err(error)) => {
            let failure = Failure::new(ErrorKind::Backend, error.to_string());
            return SPEECH.fail(failure.because(Cause::Unusable));
        }
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    if copilot {
        shown.model_info.insert("general.basename".into(), named.model.into());
    }
    let mut body = oprel::show_body(shown, &name.to_string(), modified(&name));
    body.parameters = ollama::parameter_lines(&named.options);
    body.system = named.system.unwrap_or_default();
    if let Some(stored) = stored {
        oprel::overlay_show(&stored, &named.options, &mut body);
    }
    let mut response = json(StatusCode::OK, &ollama::show(&body));
    Head { backend: "none", ignored: named.ignored }.write(&mut response);
    response
}

/// A model that runs elsewhere is what its server says.
async fn show_elsewhere(app: &Arc<App>, named: ollama::Named, name: &Name) -> Response {
    let lease = match app.models.lease(name.clone(), &Stay::default()).await {
        Ok(lease) => lease,
        Err(failure) => return SPEECH.fail(failure),
    };
    let (backend, description) = (lease.backend().kind(), lease.backend().describe());
    let context = description.known_context().map(u64::from);
    let body = Show {
        details: Details { context_length: context, ..Details::default() },
        modelfile: format!(
            "# Modelfile of a model that runs elsewhere ({backend}).\nFROM {name}\n"
        ),
        parameters: ollama::parameter_lines(&named.options),
        capabilities: description.capabilities.iter().map(|c| c.as_str().into()).collect(),
        modified_at: Timestamp::default(),
        ..Show::default()
    };
    let mut response = json(StatusCode::OK, &ollama::show(&body));
    Head { backend, ignored: named.ignored }.write(&mut response);
    response
}

fn modified(name: &Name) -> Timestamp {
    let time = match name {
        Name::Path(path) => std::fs::metadata(path).and_then(|m| m.modified()).ok(),
        Name::Demo | Name::Named(..) => None,
    };
    time.map(Timestamp::from).unwrap_or_default()
}
