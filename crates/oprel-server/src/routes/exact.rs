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
use crate::span::Tracing;

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
    let describe = async |lease: &Lease, _: Load, _: &mut Tracing| {
        let mut description = (*lease.backend().describe()).clone();
        description.suggested = lease.preset().suggested(description.suggested);
        Ok(description)
    };
    run(&app, &peer, request, None, describe).await
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
    let rank = async |lease: &Lease, mut asked: RerankRequest, tracing: &mut Tracing| {
        asked.validate()?;
        asked.trace = tracing.next(&peer);
        let ranking = lease.backend().rerank(asked).await?;
        tracing.took(&ranking.usage);
        Ok(ranking)
    };
    run(&app, &peer, request, Some("rerank"), rank).await
}

async fn tokenize(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let ids = async |lease: &Lease, asked: Tokenize, tracing: &mut Tracing| {
        let Tokenize { text, add_special, parse_special } = asked;
        let options = oprel::TokenizeOptions { add_special, parse_special };
        lease.backend().tokenize(text, options, tracing.next(&peer)).await
    };
    run(&app, &peer, request, Some("tokenize"), ids).await
}

async fn detokenize(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let text = async |lease: &Lease, asked: Detokenize, tracing: &mut Tracing| {
        lease.backend().detokenize(asked.tokens, tracing.next(&peer)).await
    };
    run(&app, &peer, request, Some("detokenize"), text).await
}

/// Reads a body, leases its model, and says what is made of both; what has a word for it is noted as a step of a trace.
async fn run<T, R>(
    app: &Arc<App>,
    peer: &Peer,
    request: Request,
    operation: Option<&'static str>,
    work: impl AsyncFnOnce(&Lease, T, &mut Tracing) -> Result<R, Failure>,
) -> Response
where
    T: DeserializeOwned,
    R: Serialize,
{
    let read: Named<T> = match super::read(app, request, SPEECH, native::named).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    let spans = app.options.spans.as_ref().filter(|_| operation.is_some());
    let mut tracing = Tracing::begin(spans, peer.trace, operation.unwrap_or_default(), &read.model);
    let done = async {
        let name = Name::parse(&read.model, peer.trusted)?;
        let lease = app.models.lease(name.clone(), &read.stay()).await?;
        tracing.goes_to(name.label(), lease.backend().kind());
        let made = work(&lease, read.request, &mut tracing).await?;
        Ok((made, lease.backend().kind()))
    };
    let done = done.await;
    tracing.ends(done.as_ref().err());
    match done {
        Ok((made, backend)) => {
            let mut response = answer::json(StatusCode::OK, &made);
            Head { backend, ignored: Vec::new() }.write(&mut response);
            response
        }
        Err(failure) => SPEECH.fail(failure),
    }
}
