//! A daemon, spoken to from asynchronous code.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request as HttpRequest, Response, header};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use oprel_api::native::{Detokenize, Generate, Load, Named, Tokenize};
use oprel_api::{EmbedRequest, Embeddings, Ranking, RerankRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::connect::Connect;
use crate::lines::Lines;
use crate::upload::Upload;
use crate::{AsyncEvents, Endpoint, Error, Result, innermost};

/// How long a daemon may take to say that it is there.
const ALIVE: Duration = Duration::from_secs(5);

/// A daemon, spoken to from asynchronous code, on a runtime of tokio's.
///
/// Where a daemon answers is said by an [`Endpoint`]; [`Daemon`](crate::Daemon) also knows how to start one.
#[derive(Clone, Debug)]
pub struct AsyncClient {
    endpoint: Endpoint,
    key: Option<Arc<str>>,
    http: legacy::Client<Connect, Sent>,
}

/// The body of a request.
type Sent = UnsyncBoxBody<Bytes, io::Error>;

impl AsyncClient {
    /// A client of a daemon, whether it answers or not.
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
        let health = tokio::time::timeout(ALIVE, self.get("/health")).await;
        health.is_ok_and(|health| health.is_ok_and(|health| health["ready"] == true))
    }

    /// The models that have a name there, as `/api/tags` tells.
    ///
    /// # Errors
    /// As [`AsyncClient::get`].
    pub async fn list(&self) -> Result<Vec<Value>> {
        self.models("/api/tags").await
    }

    /// The models that are loaded, as `/api/ps` tells.
    ///
    /// # Errors
    /// As [`AsyncClient::get`].
    pub async fn running(&self) -> Result<Vec<Value>> {
        self.models("/api/ps").await
    }

    async fn models(&self, path: &str) -> Result<Vec<Value>> {
        match self.get(path).await?["models"].take() {
            Value::Array(models) => Ok(models),
            _ => Err(Error::Answer { what: "a list of models".into() }),
        }
    }

    /// What a model is, as `/api/show` tells; `verbose` with lists and tensors.
    ///
    /// # Errors
    /// As [`AsyncClient::get`].
    pub async fn show(&self, model: &str, verbose: bool) -> Result<Value> {
        self.post("/api/show", &json!({"model": model, "verbose": verbose})).await
    }

    /// Loads a model, if it is not, and describes it.
    ///
    /// # Errors
    /// As [`AsyncClient::get`].
    pub async fn load(&self, model: &str) -> Result<Value> {
        self.ask("/oprel/load", model, Load {}).await
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
        let response = self.send(Method::POST, "/oprel/generate", bytes(body)?).await?;
        let answers = usize::try_from(body.request.n).unwrap_or(1);
        Ok(AsyncEvents::new(response.into_body(), answers))
    }

    /// Makes vectors of texts.
    ///
    /// # Errors
    /// As [`AsyncClient::get`].
    pub async fn embed(&self, model: &str, request: &EmbedRequest) -> Result<Embeddings> {
        self.ask("/oprel/embed", model, request).await
    }

    /// Ranks documents by a query.
    ///
    /// # Errors
    /// As [`AsyncClient::get`].
    pub async fn rerank(&self, model: &str, request: &RerankRequest) -> Result<Ranking> {
        self.ask("/oprel/rerank", model, request).await
    }

    /// Token ids of a text.
    ///
    /// # Errors
    /// As [`AsyncClient::get`].
    pub async fn tokenize(&self, model: &str, request: &Tokenize) -> Result<Vec<u32>> {
        self.ask("/oprel/tokenize", model, request).await
    }

    /// The text of tokens.
    ///
    /// # Errors
    /// As [`AsyncClient::get`].
    pub async fn detokenize(&self, model: &str, tokens: &[u32]) -> Result<String> {
        let request = Detokenize { tokens: tokens.to_vec() };
        self.ask("/oprel/detokenize", model, request).await
    }

    /// Gives a model of the daemon's store a further name.
    ///
    /// # Errors
    /// As [`AsyncClient::get`].
    pub async fn copy(&self, source: &str, destination: &str) -> Result<()> {
        let body = json!({"source": source, "destination": destination});
        self.send(Method::POST, "/api/copy", bytes(&body)?).await.map(|_| ())
    }

    /// Removes a model from the daemon's store.
    ///
    /// # Errors
    /// As [`AsyncClient::get`].
    pub async fn remove(&self, model: &str) -> Result<()> {
        let body = bytes(&json!({"model": model}))?;
        self.send(Method::DELETE, "/api/delete", body).await.map(|_| ())
    }

    /// Sends a file to the daemon's store, unless it is there: as what its SHA-256, `sha256:` and 64 hexadecimal
    /// digits, says. `sent` is told how many bytes are on their way.
    ///
    /// # Errors
    /// As [`AsyncClient::get`]; [`Error::File`] if it cannot be read.
    pub async fn put_blob(
        &self,
        digest: &str,
        file: File,
        sent: impl Fn(u64) + Send + 'static,
    ) -> Result<()> {
        let path = format!("/api/blobs/{digest}");
        match self.send(Method::HEAD, &path, Vec::new()).await {
            Err(Error::Refused { status: 404, .. }) => {}
            known => return known.map(|_| ()),
        }
        let body =
            Upload::of(file, sent).map_err(|error| Error::File { why: error.to_string() })?;
        self.send_body(Method::POST, &path, body.boxed_unsync()).await.map(|_| ())
    }

    /// Has the daemon do work that tells how far it is, as `/api/pull`, `/api/push` and `/api/create` do. `each` is
    /// given every line.
    ///
    /// # Errors
    /// As [`AsyncClient::get`]; what the daemon says while it works; [`Error::Answer`] if it does not say that all
    /// is done.
    pub async fn follow(
        &self,
        path: &str,
        body: &Value,
        mut each: impl FnMut(&Value),
    ) -> Result<()> {
        let response = self.send(Method::POST, path, bytes(body)?).await?;
        let status = response.status().as_u16();
        let mut lines = Lines::of(response.into_body());
        let mut is_done = false;
        while let Some(line) = poll_fn(|context| lines.poll_next(context)).await {
            let line = line.map_err(|what| Error::Answer { what })?;
            let value: Value = serde_json::from_slice(&line)
                .map_err(|error| Error::Answer { what: error.to_string() })?;
            if value.get("error").is_some() {
                return Err(Error::refused(status, &line));
            }
            is_done = value["status"] == "success";
            each(&value);
        }
        if is_done { Ok(()) } else { Err(Error::Answer { what: "it broke off".into() }) }
    }

    /// Sends a body of our own dialect.
    async fn ask<R: DeserializeOwned>(
        &self,
        path: &str,
        model: &str,
        request: impl Serialize,
    ) -> Result<R> {
        let body = Named { model: model.into(), keep_alive_ms: None, request };
        read(self.send(Method::POST, path, bytes(&body)?).await?).await
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
        read(self.send(Method::POST, path, bytes(body)?).await?).await
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Response<Incoming>> {
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
        self.send_body(method, path, body.boxed_unsync()).await
    }

    async fn send_body(
        &self,
        method: Method,
        path: &str,
        body: Sent,
    ) -> Result<Response<Incoming>> {
        let mut request = HttpRequest::builder()
            .method(method)
            .uri(self.endpoint.uri(path))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request.body(body).map_err(|e| Error::Answer { what: e.to_string() })?;
        let response = self.http.request(request).await.map_err(|e| self.unreachable(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        Err(Error::refused(status, &body))
    }

    fn unreachable(&self, error: &legacy::Error) -> Error {
        let (endpoint, why) = (self.endpoint.to_string(), innermost(error));
        match oprel_tls::is_refusal(error) {
            true => Error::Untrusted { endpoint, why },
            false => Error::Unreachable { endpoint, why },
        }
    }
}

fn bytes(body: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(body).map_err(|e| Error::Answer { what: e.to_string() })
}

async fn read<R: DeserializeOwned>(response: Response<Incoming>) -> Result<R> {
    let body = response.into_body().collect().await;
    let bytes = body.map_err(|e| Error::Answer { what: e.to_string() })?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|e| Error::Answer { what: e.to_string() })
}
