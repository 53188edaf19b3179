//! Routes of our own: health, metrics, and models by hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use oprel_api::dialect::Stay;
use oprel_api::{ErrorKind, Failure, RerankRequest, ollama};
use serde_json::{Map, Value, json};

use crate::App;
use crate::answer::{self, Head, Speech, object};
use crate::metrics::{self, Gauged};
use crate::name::Name;
use crate::peer::Peer;
use crate::span::Tracing;

const SPEECH: Speech = Speech { complaint: ollama::complaint };

/// How long a backend may take to say what it is doing.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/health", get(health))
        .route("/health/live", get(|| async { StatusCode::OK }))
        .route("/health/ready", get(health))
        .route("/metrics", get(measured))
        .route("/openapi.json", get(described))
        .route("/models", get(models))
        .route("/load", post(load))
        .route("/unload", post(unload))
        .route("/tokenize", post(tokenize))
        .route("/detokenize", post(detokenize))
        .route("/api/tokenize", post(tokenize))
        .route("/api/detokenize", post(detokenize))
        .route("/v1/rerank", post(rerank))
        .route("/api/rerank", post(rerank))
}

/// Whether it takes requests.
async fn health(State(app): State<Arc<App>>) -> Response {
    let stopping = app.stopping.load(Ordering::Relaxed);
    let (code, status) = match stopping {
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        false => (StatusCode::OK, "ok"),
    };
    let body = json!({"status": status, "live": true, "ready": !stopping});
    answer::json(code, &body)
}

/// What can be asked here.
async fn described() -> Response {
    answer::json(StatusCode::OK, &crate::openapi::document())
}

async fn measured(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let loaded = app.models.loaded();
    let count = Gauged {
        name: "oprel_models_loaded",
        help: "Models that are loaded",
        label: String::new(),
        value: loaded.len() as f64,
    };
    let mut now = vec![count];
    for model in &loaded {
        let plain = |text: &str| text.replace(['"', '\\', '\n'], "_");
        let name = plain(&model.name.label());
        let label = format!("{{model=\"{name}\"}}");
        now.extend(model.backend.servers().into_iter().map(|(server, is_up)| Gauged {
            name: "oprel_backend_up",
            help: "Whether a server of a model answers",
            label: format!("{{model=\"{name}\",server=\"{}\"}}", plain(&server)),
            value: f64::from(u8::from(is_up)),
        }));
        let asked = tokio::time::timeout(LOOK, model.backend.gauges());
        let Ok(Ok(g)) = asked.await else { continue };
        let share = g.pages_held as f64 / g.pages.max(1) as f64;
        let bytes = model.backend.describe().memory_bytes as f64;
        let all = [
            ("oprel_kv_cache_usage_ratio", "Share of pages that sequences hold", share),
            ("oprel_sequences_running", "Sequences in the batch", g.running as f64),
            ("oprel_sequences_waiting", "Sequences and texts that wait", g.waiting as f64),
            ("oprel_model_memory_bytes", "Weights, state and scratch, mapped ones too", bytes),
        ];
        now.extend(all.map(|(name, help, value)| Gauged {
            name,
            help,
            label: label.clone(),
            value,
        }));
    }
    now.sort_by_key(|gauged| gauged.name);
    let text = app.metrics.text(&now);
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    match accepted.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        true => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        false => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], metrics::classic(&text)).into_response()
        }
    }
}

async fn models(State(app): State<Arc<App>>) -> Response {
    let loaded = app.models.loaded().into_iter().map(|model| {
        let d = model.backend.describe();
        json!({
            "name": model.name.to_string(),
            "backend": model.backend.kind(),
            "context": d.known_context(),
            "servers": model.backend.servers().into_iter().map(|(server, is_up)| {
                json!({"address": server, "up": is_up})
            }).collect::<Vec<_>>(),
            "memory_bytes": d.memory_bytes,
            "capabilities": d.capabilities,
            "threads": d.threads,
            "isa": d.isa,
            "draft": d.has_draft,
            "without_draft": d.without_draft,
        })
    });
    answer::json(StatusCode::OK, &json!({"models": loaded.collect::<Vec<_>>()}))
}

async fn load(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    run(&app, request, async |mut fields| {
        let name = model(&mut fields, &peer)?;
        let lease = app.models.lease(name.clone(), &Stay::default()).await?;
        let d = lease.backend().describe();
        let body = json!({"model": name.to_string(), "backend": lease.backend().kind(),
            "context": d.known_context(), "load_ns": d.load_ns});
        Ok((body, lease.backend().kind(), fields))
    })
    .await
}

async fn unload(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    run(&app, request, async |mut fields| {
        let name = model(&mut fields, &peer)?;
        let was_loaded = app.models.stop(&name).await;
        Ok((json!({"model": name.to_string(), "unloaded": was_loaded}), "none", fields))
    })
    .await
}

async fn tokenize(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    traced(&app, &peer, "tokenize", request, async |mut fields, tracing| {
        let name = model(&mut fields, &peer)?;
        let text = ["text", "content", "prompt"].iter().find_map(|key| fields.shift_remove(*key));
        let Some(Value::String(text)) = text else { return Err(wrong("text must be a string")) };
        let options = oprel::TokenizeOptions {
            add_special: flag(&mut fields, "add_special", true)?,
            parse_special: flag(&mut fields, "parse_special", true)?,
        };
        let lease = app.models.lease(name.clone(), &Stay::default()).await?;
        tracing.goes_to(name.label(), lease.backend().kind());
        let tokens = lease.backend().tokenize(text, options, tracing.next(&peer)).await?;
        let body = json!({"model": name.to_string(), "count": tokens.len(), "tokens": tokens});
        Ok((body, lease.backend().kind(), fields))
    })
    .await
}

async fn detokenize(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    traced(&app, &peer, "detokenize", request, async |mut fields, tracing| {
        let name = model(&mut fields, &peer)?;
        let tokens = fields.shift_remove("tokens").unwrap_or_default();
        let tokens: Vec<u32> = serde_json::from_value(tokens)
            .map_err(|_| wrong("tokens must be a list of token ids"))?;
        let lease = app.models.lease(name.clone(), &Stay::default()).await?;
        tracing.goes_to(name.label(), lease.backend().kind());
        let text = lease.backend().detokenize(tokens, tracing.next(&peer)).await?;
        Ok((json!({"model": name.to_string(), "text": text}), lease.backend().kind(), fields))
    })
    .await
}

/// In the shape that Jina and Cohere gave it; scores are the model's own.
async fn rerank(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    traced(&app, &peer, "rerank", request, async |mut fields, tracing| {
        let name = model(&mut fields, &peer)?;
        let Some(Value::String(query)) = fields.shift_remove("query") else {
            return Err(wrong("query must be a string"));
        };
        let documents = documents(fields.shift_remove("documents"))?;
        let top_n = match fields.shift_remove("top_n") {
            None | Some(Value::Null) => None,
            Some(n) => Some(
                n.as_u64()
                    .and_then(|n| u32::try_from(n).ok())
                    .ok_or_else(|| wrong("top_n must be a whole number above 0"))?,
            ),
        };
        let shown = flag(&mut fields, "return_documents", false)?;
        let truncate = flag(&mut fields, "truncate", true)?;
        let trace = tracing.next(&peer);
        let asked = RerankRequest { query, documents: documents.clone(), top_n, truncate, trace };
        asked.validate()?;
        let lease = app.models.lease(name.clone(), &Stay::default()).await?;
        tracing.goes_to(name.label(), lease.backend().kind());
        let ranking = lease.backend().rerank(asked).await?;
        tracing.took(&ranking.usage);
        let results = ranking.results.iter().map(|ranked| {
            let mut result = json!({"index": ranked.index, "relevance_score": ranked.score});
            if let Some(text) = documents.get(ranked.index as usize).filter(|_| shown) {
                result["document"] = json!({"text": text});
            }
            result
        });
        let tokens = ranking.usage.prompt_tokens;
        let body = json!({
            "id": crate::id(),
            "object": "list",
            "model": name.to_string(),
            "results": results.collect::<Vec<_>>(),
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        });
        Ok((body, lease.backend().kind(), fields))
    })
    .await
}

/// Documents: texts, or objects with one.
fn documents(value: Option<Value>) -> Result<Vec<String>, Failure> {
    let what = "documents must be a list of texts, or of objects with a text";
    let Some(Value::Array(list)) = value else { return Err(wrong(what)) };
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Object(mut object) => match object.shift_remove("text") {
            Some(Value::String(text)) => Some(text),
            _ => None,
        },
        _ => None,
    };
    list.into_iter().map(|value| text(value).ok_or_else(|| wrong(what))).collect()
}

/// As [`run`], noted as a step of a trace.
async fn traced<F>(
    app: &App,
    peer: &Peer,
    operation: &'static str,
    request: Request,
    answer: F,
) -> Response
where
    F: AsyncFnOnce(
        Map<String, Value>,
        &mut Tracing,
    ) -> Result<(Value, &'static str, Map<String, Value>), Failure>,
{
    run(app, request, async |fields| {
        let spans = app.options.spans.as_ref();
        let model = fields.get("model").and_then(Value::as_str).unwrap_or_default();
        let mut tracing = Tracing::begin(spans, peer.trace, operation, model);
        let answered = answer(fields, &mut tracing).await;
        tracing.ends(answered.as_ref().err());
        answered
    })
    .await
}

/// Reads a body, lets it be answered, and tells which of its fields nobody took.
async fn run<F>(app: &App, request: Request, answer: F) -> Response
where
    F: AsyncFnOnce(
        Map<String, Value>,
    ) -> Result<(Value, &'static str, Map<String, Value>), Failure>,
{
    let fields = match super::read(app, request, SPEECH, object).await {
        Ok(fields) => fields,
        Err(response) => return response,
    };
    match answer(fields).await {
        Ok((body, backend, rest)) => {
            let mut response = answer::json(StatusCode::OK, &body);
            Head { backend, ignored: rest.keys().cloned().collect() }.write(&mut response);
            response
        }
        Err(failure) => SPEECH.fail(failure),
    }
}

fn wrong(message: &str) -> Failure {
    Failure::new(ErrorKind::Validation, message)
}

fn model(fields: &mut Map<String, Value>, peer: &Peer) -> Result<Name, Failure> {
    match fields.shift_remove("model") {
        Some(Value::String(text)) => Name::parse(&text, peer.trusted),
        _ => Err(wrong("model is required")),
    }
}

fn flag(fields: &mut Map<String, Value>, key: &str, usual: bool) -> Result<bool, Failure> {
    match fields.shift_remove(key) {
        None | Some(Value::Null) => Ok(usual),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(_) => Err(wrong(&format!("{key} must be true or false"))),
    }
}
