//! Routes for our own programs: requests and results as the library has them, failures with all that is
//! known of them.

use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use oprel_api::dialect::EmbedCall;
use oprel_api::native::{self, Detokenize, Load, Named, Tokenize};
use oprel_api::{Failure, RerankRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::compat::generates;
use crate::App;
use crate::answer::{self, Head, Speech};
use crate::models::Lease;
use crate::name::Name;
use crate::peer::Peer;

const SPEECH: Speech = Speech { complaint: native::complaint };

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/oprel/generate", generates(SPEECH, native::generate))
        .route("/oprel/load", post(load))
        .route("/oprel/embed", post(embed))
        .route("/oprel/rerank", post(rerank))
        .route("/oprel/tokenize", post(tokenize))
        .route("/oprel/detokenize", post(detokenize))
}

/// Loads a model and says what is known of it.
async fn load(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let describe = async |lease: &Lease, _: Load| {
        let mut description = (*lease.backend().describe()).clone();
        description.suggested = lease.preset().suggested(description.suggested);
        Ok(description)
    };
    run(&app, &peer, request, describe).await
}

async fn embed(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let call = |body: &[u8]| {
        let read = native::named(body)?;
        Ok(EmbedCall {
            model: read.model.clone(),
            stay: read.stay(),
            request: read.request,
            ignored: Vec::new(),
            voice: Box::new(|_, made| serde_json::to_value(made).unwrap_or_default()),
        })
    };
    match super::read(&app, request, SPEECH, call).await {
        Ok(call) => answer::embed(&app, &peer, SPEECH, call).await,
        Err(response) => response,
    }
}

async fn rerank(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let rank = async |lease: &Lease, asked: RerankRequest| {
        asked.validate()?;
        lease.backend().rerank(asked).await
    };
    run(&app, &peer, request, rank).await
}

async fn tokenize(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let ids = async |lease: &Lease, asked: Tokenize| {
        let Tokenize { text, add_special, parse_special } = asked;
        let options = oprel::TokenizeOptions { add_special, parse_special };
        lease.backend().tokenize(text, options).await
    };
    run(&app, &peer, request, ids).await
}

async fn detokenize(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let text =
        async |lease: &Lease, asked: Detokenize| lease.backend().detokenize(asked.tokens).await;
    run(&app, &peer, request, text).await
}

/// Reads a body, leases its model, and says what is made of both.
async fn run<T, R>(
    app: &Arc<App>,
    peer: &Peer,
    request: Request,
    work: impl AsyncFnOnce(&Lease, T) -> Result<R, Failure>,
) -> Response
where
    T: DeserializeOwned,
    R: Serialize,
{
    let read: Named<T> = match super::read(app, request, SPEECH, native::named).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    let done = async {
        let name = Name::parse(&read.model, peer.trusted)?;
        let lease = app.models.lease(name, &read.stay()).await?;
        let made = work(&lease, read.request).await?;
        Ok((made, lease.backend().kind()))
    };
    match done.await {
        Ok((made, backend)) => {
            let mut response = answer::json(StatusCode::OK, &made);
            Head { backend, ignored: Vec::new() }.write(&mut response);
            response
        }
        Err(failure) => SPEECH.fail(failure),
    }
}
