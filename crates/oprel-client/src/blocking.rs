//! A daemon, spoken to from code that waits.

use std::fs::File;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use oprel_api::native::{Generate, Tokenize};
use oprel_api::{EmbedRequest, Embeddings, Event, Ranking, RerankRequest};
use serde_json::Value;

use crate::{AsyncClient, AsyncEvents, Daemon, Endpoint, Error, Result};

/// A daemon, spoken to from code that waits. It may be used on any thread, those of a runtime included, which
/// then wait, too.
#[derive(Clone, Debug)]
pub struct Client {
    runtime: Arc<Runtime>,
    inner: AsyncClient,
}

/// The events of an answer under way. Dropping it cancels the answer.
#[derive(Debug)]
pub struct Events {
    // Dropped before the runtime whose connection it reads.
    inner: AsyncEvents,
    _runtime: Arc<Runtime>,
}

/// A runtime that may be dropped anywhere.
#[derive(Debug)]
struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    fn start(endpoint: &Endpoint) -> Result<Arc<Runtime>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("oprel-client")
            .enable_all()
            .build();
        let failed = |why: std::io::Error| Error::Unreachable {
            endpoint: endpoint.to_string(),
            why: why.to_string(),
        };
        Ok(Arc::new(Runtime(Some(runtime.map_err(failed)?))))
    }

    /// Waits on this thread. Tokio's own way to wait panics on a thread of another runtime.
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let _inside = self.0.as_ref().map(|runtime| runtime.enter());
        // A task of another runtime has a budget that only its runtime fills up again.
        wait(tokio::task::unconstrained(future))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

impl Client {
    /// A client of a daemon, whether it answers or not.
    ///
    /// # Errors
    /// If the system has no more threads or descriptors.
    pub fn new(inner: AsyncClient) -> Result<Client> {
        Ok(Client { runtime: Runtime::start(inner.endpoint())?, inner })
    }

    /// A client of a daemon that answers, started if it may be.
    ///
    /// # Errors
    /// As [`Daemon::connect`].
    pub fn connect(daemon: &Daemon) -> Result<Client> {
        let runtime = Runtime::start(daemon.endpoint())?;
        let inner = runtime.wait(daemon.connect())?;
        Ok(Client { runtime, inner })
    }

    /// Waits until a daemon answers, as [`Client::connect`] does.
    ///
    /// # Errors
    /// The same.
    pub fn reach(&self, daemon: &Daemon) -> Result<()> {
        self.runtime.wait(daemon.connect()).map(|_| ())
    }

    /// Where it speaks to.
    pub fn endpoint(&self) -> &Endpoint {
        self.inner.endpoint()
    }

    /// As [`AsyncClient::version`].
    ///
    /// # Errors
    /// The same.
    pub fn version(&self) -> Result<String> {
        self.runtime.wait(self.inner.version())
    }

    /// As [`AsyncClient::is_there`].
    pub fn is_there(&self) -> bool {
        self.runtime.wait(self.inner.is_there())
    }

    /// As [`AsyncClient::list`].
    ///
    /// # Errors
    /// The same.
    pub fn list(&self) -> Result<Vec<Value>> {
        self.runtime.wait(self.inner.list())
    }

    /// As [`AsyncClient::running`].
    ///
    /// # Errors
    /// The same.
    pub fn running(&self) -> Result<Vec<Value>> {
        self.runtime.wait(self.inner.running())
    }

    /// As [`AsyncClient::show`].
    ///
    /// # Errors
    /// The same.
    pub fn show(&self, model: &str, verbose: bool) -> Result<Value> {
        self.runtime.wait(self.inner.show(model, verbose))
    }

    /// As [`AsyncClient::load`].
    ///
    /// # Errors
    /// The same.
    pub fn load(&self, model: &str) -> Result<Value> {
        self.runtime.wait(self.inner.load(model))
    }

    /// As [`AsyncClient::unload`].
    ///
    /// # Errors
    /// The same.
    pub fn unload(&self, model: &str) -> Result<bool> {
        self.runtime.wait(self.inner.unload(model))
    }

    /// As [`AsyncClient::generate`].
    ///
    /// # Errors
    /// The same.
    pub fn generate(&self, body: &Generate) -> Result<Events> {
        let inner = self.runtime.wait(self.inner.generate(body))?;
        Ok(Events { inner, _runtime: self.runtime.clone() })
    }

    /// As [`AsyncClient::embed`].
    ///
    /// # Errors
    /// The same.
    pub fn embed(&self, model: &str, request: &EmbedRequest) -> Result<Embeddings> {
        self.runtime.wait(self.inner.embed(model, request))
    }

    /// As [`AsyncClient::rerank`].
    ///
    /// # Errors
    /// The same.
    pub fn rerank(&self, model: &str, request: &RerankRequest) -> Result<Ranking> {
        self.runtime.wait(self.inner.rerank(model, request))
    }

    /// As [`AsyncClient::tokenize`].
    ///
    /// # Errors
    /// The same.
    pub fn tokenize(&self, model: &str, request: &Tokenize) -> Result<Vec<u32>> {
        self.runtime.wait(self.inner.tokenize(model, request))
    }

    /// As [`AsyncClient::detokenize`].
    ///
    /// # Errors
    /// The same.
    pub fn detokenize(&self, model: &str, tokens: &[u32]) -> Result<String> {
        self.runtime.wait(self.inner.detokenize(model, tokens))
    }

    /// As [`AsyncClient::copy`].
    ///
    /// # Errors
    /// The same.
    pub fn copy(&self, source: &str, destination: &str) -> Result<()> {
        self.runtime.wait(self.inner.copy(source, destination))
    }

    /// As [`AsyncClient::remove`].
    ///
    /// # Errors
    /// The same.
    pub fn remove(&self, model: &str) -> Result<()> {
        self.runtime.wait(self.inner.remove(model))
    }

    /// As [`AsyncClient::put_blob`].
    ///
    /// # Errors
    /// The same.
    pub fn put_blob(
        &self,
        digest: &str,
        file: File,
        sent: impl Fn(u64) + Send + 'static,
    ) -> Result<()> {
        self.runtime.wait(self.inner.put_blob(digest, file, sent))
    }

    /// As [`AsyncClient::follow`].
    ///
    /// # Errors
    /// The same.
    pub fn follow(&self, path: &str, body: &Value, each: impl FnMut(&Value)) -> Result<()> {
        self.runtime.wait(self.inner.follow(path, body, each))
    }

    /// As [`AsyncClient::get`].
    ///
    /// # Errors
    /// The same.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.runtime.wait(self.inner.get(path))
    }

    /// As [`AsyncClient::post`].
    ///
    /// # Errors
    /// The same.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.runtime.wait(self.inner.post(path, body))
    }
}

impl Events {
    /// As [`AsyncEvents::poll_next`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Event)>> {
        self.inner.poll_next(context)
    }
}

impl Iterator for Events {
    type Item = (usize, Event);

    fn next(&mut self) -> Option<(usize, Event)> {
        wait(self.inner.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> AsyncClient {
        AsyncClient::new(Endpoint::parse("127.0.0.1:1").unwrap())
    }

    #[test]
    fn nobody_there_is_an_error_with_a_hint() {
        let client = Client::new(nobody()).unwrap();
        assert!(!client.is_there());
        let failure = oprel_api::Failure::from(client.version().unwrap_err());
        assert!(failure.message.contains("no daemon answers at http://127.0.0.1:1"), "{failure}");
        assert!(failure.hint.is_some());
    }

    #[tokio::test]
    async fn waiting_inside_a_runtime_is_no_panic_and_takes_no_budget() {
        let client = Client::new(nobody()).unwrap();
        for _ in 0..300 {
            assert!(client.version().is_err());
        }
        drop(client);
    }
}
