//! Conversations: `/generate` goes on with one, and they can be listed, read and forgotten.

use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use oprel_api::ollama::{self, Generate};
use oprel_api::{Cause, ErrorKind, Event, Failure, Message};
use serde_json::{Map, Value, json};

use crate::App;
use crate::answer::{self, Speech, object};
use crate::conversations::{Error, Item, Store, is_id};
use crate::peer::Peer;

const SPEECH: Speech = Speech { complaint: ollama::complaint };

/// Most conversations of one answer.
const MOST_LISTED: usize = 1000;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/generate", post(generate))
        .route("/conversations", get(list))
        .route("/conversations/{id}", get(read).delete(forget))
}

/// Notes what an answer says, and appends it when it is over, whole or not.
pub(crate) struct Note {
    store: Arc<dyn Store>,
    owner: String,
    id: String,
    version: u64,
    message: Message,
    text: String,
    thinking: String,
    whole: bool,
}

impl Note {
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Text(piece) => self.text.push_str(&piece.text),
            Event::Thinking(piece) => self.thinking.push_str(&piece.text),
            Event::ToolCall(call) => self.message.tool_calls.push(call.clone()),
            Event::End(reason) => self.whole = reason.is_natural(),
            _ => {}
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        let mut message = std::mem::replace(&mut self.message, Message::assistant(""));
        message.content = oprel_api::Content::Text(std::mem::take(&mut self.text));
        let thinking = std::mem::take(&mut self.thinking);
        message.thinking = (!thinking.is_empty()).then_some(thinking);
        let item = Item { message, at: crate::unix_s(), incomplete: !self.whole };
        let (store, version) = (self.store.clone(), self.version);
        let (owner, id) = (std::mem::take(&mut self.owner), std::mem::take(&mut self.id));
        let append = move || {
            if let Err(error) = store.append(&owner, &id, version, &[item]) {
                tracing::warn!(%error, "an answer was not remembered");
            }
        };
        // A disk is waited for elsewhere.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(append)),
            Err(_) => append(),
        }
    }
}

/// A failure of a store, and its status.
fn refused(error: Error) -> Response {
    let (status, kind) = match &error {
        Error::Conflict { .. } => (StatusCode::CONFLICT, ErrorKind::Validation),
        Error::Full { .. } => (StatusCode::BAD_REQUEST, ErrorKind::Validation),
        Error::Unreachable { .. } => (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Backend),
    };
    let mut response = SPEECH.fail(Failure::new(kind, error.to_string()));
    *response.status_mut() = status;
    response
}

fn wrong(message: &str) -> Response {
    SPEECH.fail(Failure::new(ErrorKind::Validation, message))
}

/// The store, or why there is none.
fn store(app: &App) -> Result<Arc<dyn Store>, Box<Response>> {
    app.options.conversations.clone().ok_or_else(|| {
        let failure = Failure::new(ErrorKind::Backend, "this server remembers no conversations");
        Box::new(SPEECH.fail(failure.because(Cause::Unsupported("conversation_id".into()))))
    })
}

/// Runs what may wait for a disk.
async fn at_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Box<Response>> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|e| Err(Error::Unreachable { why: e.to_string() }));
    done.map_err(|error| Box::new(refused(error)))
}

async fn generate(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    match try_generate(&app, &peer, request).await {
        Ok(response) => response,
        Err(response) => *response,
    }
}

async fn try_generate(
    app: &Arc<App>,
    peer: &Peer,
    request: Request,
) -> Result<Response, Box<Response>> {
    let mut fields = super::read(app, request, SPEECH, object).await.map_err(Box::new)?;
    let id = match fields.shift_remove("conversation_id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) if is_id(&id) => Some(id),
        Some(_) => {
            let what = "conversation_id must be 1 to 128 letters, digits, '-', '_', '.' or ':'";
            return Err(Box::new(wrong(what)));
        }
    };
    let said = new_messages(&mut fields).map_err(|m| Box::new(wrong(m)))?;
    let (before, version) = match &id {
        None => (Vec::new(), 0),
        Some(id) => {
            let (store, owner, id) = (store(app)?, peer.owner.clone(), id.clone());
            let known = at_disk(move || store.get(&owner, &id)).await?;
            known.map_or((Vec::new(), 0), |(head, items)| (items, head.version))
        }
    };
    let all = before.iter().map(|item| json!(item.message)).chain(said.iter().cloned());
    fields.insert("messages".into(), Value::Array(all.collect()));
    let call = ollama::chat(&Value::Object(fields).to_string().into_bytes());
    let call = match call.map_err(|f| Box::new(SPEECH.fail(f)))? {
        Generate::Call(call) => call,
        _ => return Err(Box::new(wrong("give a prompt or messages"))),
    };
    let Some(id) = id else { return Ok(answer::generate(app, peer, SPEECH, call, None).await) };
    let (store, owner) = (store(app)?, peer.owner.clone());
    let now = crate::unix_s();
    let items: Vec<Item> = said
        .into_iter()
        .map(|m| {
            serde_json::from_value(m).map(|message| Item { message, at: now, incomplete: false })
        })
        .collect::<Result<_, _>>()
        .map_err(|e| Box::new(wrong(&format!("messages: {e}"))))?;
    let head = {
        let (store, owner, id) = (store.clone(), owner.clone(), id.clone());
        at_disk(move || store.append(&owner, &id, version, &items)).await?
    };
    let note = Note {
        store,
        owner,
        id: id.clone(),
        version: head.version,
        message: Message::assistant(""),
        text: String::new(),
        thinking: String::new(),
        whole: false,
    };
    let mut response = answer::generate(app, peer, SPEECH, call, Some(note)).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-oprel-conversation", value);
    }
    Ok(response)
}

/// What is said now: messages, or a prompt with a system text.
fn new_messages(fields: &mut Map<String, Value>) -> Result<Vec<Value>, &'static str> {
    let system = fields.shift_remove("system");
    let prompt = fields.shift_remove("prompt");
    match (fields.shift_remove("messages"), prompt) {
        (Some(Value::Array(messages)), None) => Ok(messages),
        (None, Some(Value::String(text))) => {
            let system = system.into_iter().map(|s| json!({"role": "system", "content": s}));
            Ok(system.chain([json!({"role": "user", "content": text})]).collect())
        }
        (Some(_), Some(_)) => Err("give a prompt or messages, not both"),
        _ => Err("give a prompt (a text) or messages (a list)"),
    }
}

#[derive(serde::Deserialize)]
struct Page {
    #[serde(default)]
    after: String,
    limit: Option<usize>,
}

async fn list(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Query(page): Query<Page>,
) -> Response {
    let listed = async {
        let (store, owner) = (store(&app)?, peer.owner.clone());
        let most = page.limit.unwrap_or(100).min(MOST_LISTED);
        at_disk(move || store.list(&owner, &page.after, most)).await
    };
    match listed.await {
        Ok(heads) => answer::json(StatusCode::OK, &json!({"conversations": heads})),
        Err(response) => *response,
    }
}

async fn read(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Response {
    let wanted = id.clone();
    let found = async {
        let (store, owner) = (store(&app)?, peer.owner.clone());
        at_disk(move || store.get(&owner, &wanted)).await
    };
    match found.await {
        Ok(Some((head, items))) => {
            answer::json(StatusCode::OK, &json!({"conversation": head, "items": items}))
        }
        Ok(None) => absent(&id),
        Err(response) => *response,
    }
}

async fn forget(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Response {
    let wanted = id.clone();
    let gone = async {
        let (store, owner) = (store(&app)?, peer.owner.clone());
        at_disk(move || store.delete(&owner, &wanted)).await
    };
    match gone.await {
        Ok(true) => answer::json(StatusCode::OK, &json!({"deleted": id})),
        Ok(false) => absent(&id),
        Err(response) => *response,
    }
}

fn absent(id: &str) -> Response {
    let shown: String = id.chars().take(128).collect();
    let failure =
        Failure::new(ErrorKind::ModelNotFound, format!("conversation '{shown}' not found"));
    SPEECH.fail(failure)
}
