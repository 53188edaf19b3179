//! OpenTelemetry: what was traced goes to a collector, as JSON of OTLP over HTTP. Where to is said by the variables
//! that all programs of OpenTelemetry read.
//!
//! A thread of its own sends. Nobody waits for it: what it cannot send in time is left out, and that is told.

mod json;
mod settings;

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use oprel_client::{Connect, innermost};
use tokio::sync::{mpsc, oneshot};

pub use settings::Settings;

use crate::{Span, Spans};

/// Requests that wait to be sent.
const MOST_WAITING: usize = 2048;
/// Most requests that are sent at a time.
const BATCH: usize = 512;
/// How long a program that ends waits for what is still to be sent.
const LAST: Duration = Duration::from_secs(3);
/// How often it is told that nothing can be sent.
const TELL: Duration = Duration::from_secs(60);
/// Most bytes of an answer that are read.
const MOST_ANSWER: usize = 64 << 10;

/// Why nothing is sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is none.
    #[error("{variable} is '{url}': it must be http[s]://host[:port][/path]")]
    Endpoint {
        /// Where it was said.
        variable: String,
        /// What was said.
        url: String,
    },
    /// Another protocol is wanted.
    #[error(
        "{variable} is '{name}': http/json is spoken, which collectors take where they take http/protobuf"
    )]
    Protocol {
        /// Where it was said.
        variable: String,
        /// What was said.
        name: String,
    },
    /// A header cannot be sent, or a number is none.
    #[error("{variable} cannot be read")]
    Unreadable {
        /// Where it was said.
        variable: String,
    },
    /// The system has no more threads or descriptors.
    #[error("traces have no thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Sends what was traced to a collector.
pub struct Exporter {
    outbox: mpsc::Sender<Message>,
    /// Requests that found no place.
    lost: AtomicU64,
}

enum Message {
    Span(Box<Span>),
    Flush(oneshot::Sender<()>),
}

impl Exporter {
    /// Starts to send.
    ///
    /// # Errors
    /// [`Error::Thread`].
    pub fn start(settings: Settings) -> Result<Exporter, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (outbox, inbox) = mpsc::channel(MOST_WAITING);
        let collector = Collector::new(settings);
        std::thread::Builder::new()
            .name("oprel-otel".into())
            .spawn(move || runtime.block_on(collector.run(inbox)))?;
        Ok(Exporter { outbox, lost: AtomicU64::new(0) })
    }
}

impl Spans for Exporter {
    fn take(&self, span: Span) {
        if self.outbox.try_send(Message::Span(Box::new(span))).is_err() {
            let n = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            if n.is_power_of_two() {
                tracing::warn!(n, "traces were left out: the collector is too slow");
            }
        }
    }

    fn flush(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let (done, sent) = oneshot::channel();
            let all = async {
                if self.outbox.send(Message::Flush(done)).await.is_ok() {
                    let _ = sent.await;
                }
            };
            if tokio::time::timeout(LAST, all).await.is_err() {
                tracing::warn!("the last traces were not sent");
            }
        })
    }
}

/// Who is told.
struct Collector {
    settings: Settings,
    http: legacy::Client<Connect, Full<Bytes>>,
    /// When it was last told that it takes nothing.
    told: Option<Instant>,
}

impl Collector {
    fn new(settings: Settings) -> Collector {
        let connect = Connect::new(settings.endpoint.clone());
        let http = legacy::Client::builder(TokioExecutor::new()).build(connect);
        Collector { settings, http, told: None }
    }

    /// Sends what comes, some at a time, until nobody is left.
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut waiting: Vec<Span> = Vec::new();
        let mut until = Instant::now();
        loop {
            let came = match waiting.is_empty() {
                true => Ok(inbox.recv().await),
                false => tokio::time::timeout_at(until.into(), inbox.recv()).await,
            };
            let flushed = match came {
                Ok(Some(Message::Span(span))) => {
                    if waiting.is_empty() {
                        until = Instant::now() + self.settings.every;
                    }
                    waiting.push(*span);
                    if waiting.len() < BATCH {
                        continue;
                    }
                    None
                }
                Ok(Some(Message::Flush(done))) => Some(done),
                Ok(None) => return self.send(&waiting).await,
                Err(_) => None,
            };
            self.send(&waiting).await;
            waiting.clear();
            // Whoever wanted it may have gone.
            let _ = flushed.map(|done| done.send(()));
        }
    }

    async fn send(&mut self, spans: &[Span]) {
        if spans.is_empty() {
            return;
        }
        let body = json::body(&self.settings.resource, spans);
        let sent = tokio::time::timeout(self.settings.timeout, self.post(body.to_string())).await;
        let Err(why) = sent.unwrap_or_else(|_| Err("it takes too long".into())) else { return };
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            let collector = self.settings.address();
            tracing::warn!(collector, why, n = spans.len(), "traces were not taken");
            self.told = Some(Instant::now());
        }
    }

    async fn post(&self, body: String) -> Result<(), String> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.settings.address())
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in &self.settings.headers {
            request = request.header(HeaderName::clone(name), HeaderValue::clone(value));
        }
        let request = request.body(Full::new(body.into())).map_err(|e| e.to_string())?;
        let response = self.http.request(request).await.map_err(|e| innermost(&e))?;
        let status = response.status();
        // Read to its end, a connection can be used again.
        let _ = Limited::new(response.into_body(), MOST_ANSWER).collect().await;
        if status.is_success() { Ok(()) } else { Err(format!("status {status}")) }
    }
}
