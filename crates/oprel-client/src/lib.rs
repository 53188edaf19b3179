//! Speaking to a daemon: over TCP or a Unix socket, awaited or waited for.
//!
//! Connections are kept and used again. A request is sent once: only a connection that could not be made, or
//! one that turned out to be closed before anything was sent, is tried again.

mod connect;
mod endpoint;
mod error;

use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request as HttpRequest, Response, header};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use oprel_api::native::{Generate, Line};
use oprel_api::{Event, Failure};
use serde_json::{Value, json};

pub use connect::{Connect, Stream};
pub use endpoint::Endpoint;
pub use error::{Error, Result};

/// Most bytes of a line of a stream.
const MOST_LINE: usize = 64 << 20;

/// A daemon, spoken to from asynchronous code.
#[derive(Clone, Debug)]
pub struct AsyncClient {
    endpoint: Endpoint,
    key: Option<Arc<str>>,
    http: legacy::Client<Connect, Full<Bytes>>,
}

/// The events of an answer under way. Dropping it cancels the answer.
#[derive(Debug)]
pub struct AsyncEvents {
    body: Incoming,
    bytes: Vec<u8>,
    /// Answers that are not over.
    open: usize,
}

impl AsyncClient {
    /// A client of a daemon.
    pub fn new(endpoint: Endpoint) -> AsyncClient {
        let connect = Connect::new(endpoint.clone());
        let http = legacy::Client::builder(TokioExecutor::new()).build(connect);
        AsyncClient { endpoint, key: None, http }
    }

    /// Sends this key with every request.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> AsyncClient {
        self.key = Some(key.into());
        self
    }

    /// Where it speaks to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The version of the field's dialect that the daemon speaks; an error if none answers.
    ///
    /// # Errors
    /// As [`AsyncClient::get`].
    pub async fn version(&self) -> Result<String> {
        let value = self.get("/api/version").await?;
        Ok(value["version"].as_str().unwrap_or_default().to_string())
    }

    /// Whether a daemon of ours answers.
    pub async fn is_there(&self) -> bool {
        self.get("/health").await.is_ok_and(|health| health["ready"] == true)
    }

    /// The models that are loaded, as `/api/ps` tells.
    ///
    /// # Errors
    /// As [`AsyncClient::get`].
    pub async fn running(&self) -> Result<Vec<Value>> {
        match self.get("/api/ps").await?["models"].take() {
            Value::Array(models) => Ok(models),
            _ => Err(Error::Answer { what: "a list of models".into() }),
        }
    }

    /// Unloads a model as soon as nobody uses it. Whether it was loaded.
    ///
    /// # Errors
    /// As [`AsyncClient::get`].
    pub async fn unload(&self, model: &str) -> Result<bool> {
        let answer = self.post("/unload", &json!({"model": model})).await?;
        Ok(answer["unloaded"] == true)
    }

    /// Asks for answers, which stream.
    ///
    /// # Errors
    /// As [`AsyncClient::get`]. What fails later is the last event of its answer.
    pub async fn generate(&self, body: &Generate) -> Result<AsyncEvents> {
        let bytes = serde_json::to_vec(body).map_err(|e| Error::Answer { what: e.to_string() })?;
        let response = self.send(Method::POST, "/oprel/generate", bytes).await?;
        let open = usize::try_from(body.request.n).unwrap_or(1);
        Ok(AsyncEvents { body: response.into_body(), bytes: Vec::new(), open })
    }

    /// The JSON of a route.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no daemon answers, [`Error::Refused`] with what it says, [`Error::Answer`] for what
    /// is no JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        read(self.send(Method::GET, path, Vec::new()).await?).await
    }

    /// Sends JSON to a route, and reads its answer.
    ///
    /// # Errors
    /// As [`AsyncClient::get`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        read(self.send(Method::POST, path, body.to_string().into_bytes()).await?).await
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Response<Incoming>> {
        let mut request = HttpRequest::builder()
            .method(method)
            .uri(self.endpoint.uri(path))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request
            .body(Full::new(body.into()))
            .map_err(|e| Error::Answer { what: e.to_string() })?;
        let response = self.http.request(request).await.map_err(|e| self.unreachable(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        Err(Error::refused(status, &body))
    }

    fn unreachable(&self, error: &legacy::Error) -> Error {
        let mut why: &dyn std::error::Error = error;
        while let Some(source) = why.source() {
            why = source;
        }
        Error::Unreachable { endpoint: self.endpoint.to_string(), why: why.to_string() }
    }
}

async fn read(response: Response<Incoming>) -> Result<Value> {
    let body = response.into_body().collect().await;
    let bytes = body.map_err(|e| Error::Answer { what: e.to_string() })?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|e| Error::Answer { what: e.to_string() })
}

impl AsyncEvents {
    /// The next event and whose answer it belongs to; `None` when all answers are over. A stream that breaks
    /// off ends with an error.
    pub async fn next(&mut self) -> Option<(usize, Event)> {
        while self.open > 0 {
            if let Some(end) = self.bytes.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                return Some(self.line(&line));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.bytes.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Some(self.broken(&error.to_string())),
                None => return Some(self.broken("the stream ended too early")),
            }
            if self.bytes.len() > MOST_LINE {
                return Some(self.broken("a line is too long"));
            }
        }
        None
    }

    fn line(&mut self, line: &[u8]) -> (usize, Event) {
        let Line { answer, event } = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => return self.broken(&error.to_string()),
        };
        match &event {
            Event::Error(_) => self.open = 0,
            event if event.is_last() => self.open -= 1,
            _ => {}
        }
        (answer, event)
    }

    fn broken(&mut self, why: &str) -> (usize, Event) {
        self.open = 0;
        let message = format!("the daemon's answer broke off: {why}");
        (0, Event::Error(Failure::new(oprel_api::ErrorKind::Backend, message)))
    }
}

/// A daemon, spoken to from code that waits.
#[derive(Debug)]
pub struct Client {
    runtime: Arc<tokio::runtime::Runtime>,
    inner: AsyncClient,
}

/// The events of an answer under way. Dropping it cancels the answer.
#[derive(Debug)]
pub struct Events {
    runtime: Arc<tokio::runtime::Runtime>,
    inner: AsyncEvents,
}

impl Client {
    /// A client of a daemon.
    ///
    /// # Errors
    /// If the system has no more threads or descriptors.
    pub fn new(inner: AsyncClient) -> Result<Client> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| Error::Unreachable {
                endpoint: inner.endpoint().to_string(),
                why: e.to_string(),
            })?;
        Ok(Client { runtime: Arc::new(runtime), inner })
    }

    /// As [`AsyncClient::version`].
    ///
    /// # Errors
    /// The same.
    pub fn version(&self) -> Result<String> {
        self.runtime.block_on(self.inner.version())
    }

    /// As [`AsyncClient::is_there`].
    pub fn is_there(&self) -> bool {
        self.runtime.block_on(self.inner.is_there())
    }

    /// As [`AsyncClient::running`].
    ///
    /// # Errors
    /// The same.
    pub fn running(&self) -> Result<Vec<Value>> {
        self.runtime.block_on(self.inner.running())
    }

    /// As [`AsyncClient::unload`].
    ///
    /// # Errors
    /// The same.
    pub fn unload(&self, model: &str) -> Result<bool> {
        self.runtime.block_on(self.inner.unload(model))
    }

    /// As [`AsyncClient::get`].
    ///
    /// # Errors
    /// The same.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.runtime.block_on(self.inner.get(path))
    }

    /// As [`AsyncClient::post`].
    ///
    /// # Errors
    /// The same.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.runtime.block_on(self.inner.post(path, body))
    }

    /// As [`AsyncClient::generate`].
    ///
    /// # Errors
    /// The same.
    pub fn generate(&self, body: &Generate) -> Result<Events> {
        let inner = self.runtime.block_on(self.inner.generate(body))?;
        Ok(Events { runtime: self.runtime.clone(), inner })
    }
}

impl Iterator for Events {
    type Item = (usize, Event);

    fn next(&mut self) -> Option<(usize, Event)> {
        self.runtime.block_on(self.inner.next())
    }
}
