//! One question to the daemon of this user, without keeping a model.

use std::path::Path;

use oprel_api::{EmbedRequest, Embeddings, Message, Request};
use oprel_backend::ModelSource;
use oprel_client::{Client, Daemon};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Ask;
use crate::served::shaped;
use crate::{Details, Model, Result, Stream};

/// Answers a conversation with a model of this user's daemon, which is started where none answers. The model is
/// `demo`, the path of a file, or a name that the daemon knows.
///
/// # Errors
/// If there is no such model, no daemon answers and none can be started, or as [`Model::generate`].
///
/// # Examples
/// ```no_run
/// use oprel::{Event, Message};
///
/// for event in oprel::chat("demo", vec![Message::user("What is oprel?")])? {
///     if let Event::Text(piece) = event {
///         print!("{}", piece.text);
///     }
/// }
/// # Ok::<(), oprel::OprelError>(())
/// ```
pub fn chat(model: &str, messages: Vec<Message>) -> Result<Stream> {
    generate(model, Request::chat(messages))
}

/// Answers a request, or a text, with a model of this user's daemon, as [`chat`] does.
///
/// # Errors
/// The same.
pub fn generate(model: &str, request: impl Into<Ask>) -> Result<Stream> {
    named(model)?.generate(request)
}

/// Makes vectors of texts with a model of this user's daemon, as [`chat`] does.
///
/// # Errors
/// The same.
pub fn embed(model: &str, request: &EmbedRequest) -> Result<Embeddings> {
    named(model)?.embed(request)
}

fn named(model: &str) -> Result<Model> {
    let path = Path::new(model);
    let known = match model != "demo" && path.exists() {
        true => Model::builder(ModelSource::File(path.into())),
        false => Model::named(model),
    };
    known.server(Daemon::from_env()?.started()).load()
}

/// A model of a daemon, as it lists them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Bytes of its files; of one that is loaded, of all that it takes.
    pub size: u64,
    /// SHA-256 of its manifest; empty for a plain file.
    pub digest: String,
    /// Sizes and kinds in short.
    pub details: Details,
    /// When it changed last, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<String>,
    /// Of one that is loaded: when it goes, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Of one that is loaded: most tokens of prompt and answer together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
}

/// The models that have a name in this user's daemon. Files are not listed: they are named by their paths.
///
/// # Errors
/// If no daemon answers; none is started for this.
pub fn list() -> Result<Vec<Listed>> {
    listed(|client| client.list())
}

/// The models that this user's daemon has loaded.
///
/// # Errors
/// As [`list`].
pub fn running() -> Result<Vec<Listed>> {
    listed(|client| client.running())
}

fn listed(ask: impl Fn(&Client) -> oprel_client::Result<Vec<Value>>) -> Result<Vec<Listed>> {
    let client = Client::new(Daemon::from_env()?.client())?;
    ask(&client)?.into_iter().map(shaped).collect()
}
