//! The routes of OpenAI and Anthropic.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Extension;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use oprel_api::dialect::Call;
use oprel_api::openai::Listed;
use oprel_api::{Failure, anthropic, ollama, openai};
use oprel_hub::{Entry, Store};

use crate::App;
use crate::answer::{self, Speech, json};
use crate::name::Name;
use crate::peer::Peer;

const OPENAI: Speech = Speech { complaint: openai::complaint };
const ANTHROPIC: Speech = Speech { complaint: anthropic::complaint };

pub(super) type Read = fn(&[u8]) -> Result<Call, Failure>;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/chat/completions", generates(OPENAI, openai::chat))
        .route("/v1/completions", generates(OPENAI, openai::completions))
        .route("/v1/responses", generates(OPENAI, openai::responses))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/v1/messages", generates(ANTHROPIC, anthropic::messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
}

/// A route whose body is a request to generate.
pub(super) fn generates(speech: Speech, read: Read) -> axum::routing::MethodRouter<Arc<App>> {
    post(
        move |State(app): State<Arc<App>>, Extension(peer): Extension<Peer>, request: Request| async move {
            match super::read(&app, request, speech, read).await {
                Ok(call) => answer::generate(&app, &peer, speech, call, None).await,
                Err(response) => response,
            }
        },
    )
}

async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    match super::read(&app, request, OPENAI, openai::embeddings).await {
        Ok(call) => answer::embed(&app, &peer, OPENAI, call).await,
        Err(response) => response,
    }
}

fn listed(name: &Name) -> Listed {
    let owner = match name {
        Name::Named(name, _) => name.namespace.clone(),
        Name::Demo | Name::Path(_) => "library".into(),
    };
    Listed { id: name.to_string(), created: 0, owned_by: owner }
}

/// Models of the store.
fn of_store(store: &Store) -> Vec<Listed> {
    let models = store.list().map(|listing| listing.models).unwrap_or_default();
    let listed = |entry: Entry| {
        let since = entry.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let id = entry.name.to_string();
        Listed { id, created: since.as_secs(), owned_by: entry.name.namespace }
    };
    models.into_iter().map(listed).collect()
}

/// Whether a client speaks the dialect of Anthropic where both have a route.
fn speaks_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

/// What can be used without naming a file.
async fn models(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let store = app.models.store().cloned();
    let stored = tokio::task::spawn_blocking(move || store.as_ref().map(of_store)).await;
    let others = std::iter::once(Name::Demo).chain(app.models.names_elsewhere());
    let stored = stored.ok().flatten().unwrap_or_default().into_iter();
    let all: Vec<_> = stored.chain(others.map(|name| listed(&name))).collect();
    let body = match speaks_anthropic(&headers) {
        true => anthropic::models(&all),
        false => openai::models(&all),
    };
    json(StatusCode::OK, &body)
}

async fn model(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(text): Path<String>,
    headers: HeaderMap,
) -> Response {
    let (speech, told): (_, fn(&Listed) -> _) = match speaks_anthropic(&headers) {
        true => (ANTHROPIC, anthropic::model),
        false => (OPENAI, openai::model),
    };
    match Name::parse(&text, peer.trusted) {
        Ok(name) if !app.models.has(&name).await => speech.fail(ollama::absent(&text)),
        Ok(name) => json(StatusCode::OK, &told(&listed(&name))),
        Err(failure) => speech.fail(failure),
    }
}

async fn count_tokens(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let call = match super::read(&app, request, ANTHROPIC, anthropic::count_tokens).await {
        Ok(call) => call,
        Err(response) => return response,
    };
    match answer::count(&app, &peer, call).await {
        Ok(n) => json(StatusCode::OK, &anthropic::counted(u32::try_from(n).unwrap_or(u32::MAX))),
        Err(failure) => ANTHROPIC.fail(failure),
    }
}
