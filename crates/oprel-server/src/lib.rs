//! The daemon: it listens, lets in whom it may, translates dialects to requests and events to dialects, and
//! keeps models loaded. It generates nothing itself.

mod answer;
pub mod conversations;
mod keys;
mod listen;
mod memory;
mod metrics;
mod models;
mod name;
mod openapi;
#[cfg(feature = "otel")]
pub mod otel;
mod peer;
mod platform;
mod routes;
mod span;
mod stored;
mod taken;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

pub use keys::{Fresh, Key, Keys, Scope};
pub use listen::Limits;
pub use models::{Elsewhere, Policy, Start};
pub use oprel_api::dialect::KeepAlive;
pub use oprel_api::ollama::env_keep_alive as keep_alive;
pub use oprel_tls as tls;
pub use peer::Gate;
pub use platform::GivenLocal;
pub use span::{Parent, Span, Spans};

use metrics::Metrics;
use models::Models;
use platform::Local;

/// How often it is looked for models to unload.
const SWEEP: Duration = Duration::from_millis(250);

/// How long clients may take to hear that their answers were cut.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a server is made of.
pub struct Options {
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// A Unix socket that it listens on besides; on Windows a named pipe, such as `\\.\pipe\oprel`.
    pub socket: Option<PathBuf>,
    /// Sockets that listen already.
    pub given: Vec<Given>,
    /// Who may call.
    pub gate: Gate,
    /// Keys of clients.
    pub keys: Keys,
    /// Whether clients of this machine need a key, too.
    pub keys_for_all: bool,
    /// Where conversations are remembered, if they are.
    pub conversations: Option<Arc<dyn conversations::Store>>,
    /// How models are kept.
    pub models: Policy,
    /// Limits on connections.
    pub limits: Limits,
    /// Who keeps what is traced of requests.
    pub spans: Option<Arc<dyn Spans>>,
    /// Certificate and key, where TCP is spoken over TLS alone.
    pub tls: Option<oprel_tls::Acceptor>,
    /// Most bytes of a body.
    pub most_body: usize,
    /// The version that clients of the field ask for.
    pub version: String,
    /// Context length of requests that do not say one; `None` for all that there is.
    pub context: Option<u32>,
}

/// A socket that listens already, from whoever started this process.
#[derive(Debug)]
pub enum Given {
    /// Over TCP.
    Tcp(std::net::TcpListener),
    /// For the user of this machine alone: a Unix socket.
    Local(GivenLocal),
}

impl Given {
    /// Where it listens over TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Given::Tcp(tcp) => tcp.local_addr().ok(),
            Given::Local(_) => None,
        }
    }
}

/// What every route knows.
pub(crate) struct App {
    options: Options,
    models: Arc<Models>,
    metrics: Arc<Metrics>,
    /// It takes no more requests.
    stopping: AtomicBool,
}

/// A server that listens.
pub struct Server {
    app: Arc<App>,
    listeners: Vec<listen::Listener>,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Begins to listen.
    ///
    /// # Errors
    /// If an address or the socket is taken or cannot be had.
    pub async fn bind(mut options: Options) -> io::Result<Server> {
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for given in std::mem::take(&mut options.given) {
            addresses.extend(given.address());
            listeners.push(listen::Listener::of(given)?);
        }
        for address in &options.addresses {
            let tcp = TcpListener::bind(address).await.map_err(|e| at(e, &address.to_string()))?;
            addresses.push(tcp.local_addr()?);
            listeners.push(listen::Listener::Tcp(tcp));
        }
        if let Some(path) = &options.socket {
            let local = Local::bind(path).map_err(|e| at(e, &path.display().to_string()))?;
            listeners.push(listen::Listener::Local(local));
        }
        let metrics = Metrics::new();
        let models = Models::new(options.models.clone(), metrics.clone());
        let app = Arc::new(App { options, models, metrics, stopping: AtomicBool::new(false) });
        Ok(Server { app, listeners, addresses })
    }

    /// Where it listens over TCP.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until `stop` says so, then lets answers finish. When `stop` says so again, nothing more is
    /// waited for.
    pub async fn run(self, mut stop: watch::Receiver<u32>) {
        let Server { app, listeners, .. } = self;
        let router = routes::router(app.clone());
        let limits = app.options.limits;
        let places = Arc::new(Semaphore::new(limits.connections));
        let (told, tell) = watch::channel(false);
        let mut serving = tokio::task::JoinSet::new();
        for listener in listeners {
            let (router, places, tell) = (router.clone(), places.clone(), tell.clone());
            let tls = app.options.tls.clone();
            serving.spawn(listen::serve(listener, router, limits, tls, places, tell));
        }
        let models = app.models.clone();
        let sweeping = tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                models.sweep().await;
            }
        });
        let forgetting = tokio::spawn(forget_expired(app.options.conversations.clone()));
        let _ = stop.wait_for(|n| *n > 0).await;
        tracing::info!("stopping: answers under way may finish");
        app.stopping.store(true, Ordering::Relaxed);
        let _ = told.send(true);
        tokio::select! {
            () = async { while serving.join_next().await.is_some() {} } => {}
            _ = stop.wait_for(|n| *n > 1) => tracing::warn!("stopped at once"),
        }
        sweeping.abort();
        forgetting.abort();
        app.models.stop_all().await;
        // Whoever still listens is told that this is the end.
        let until = Instant::now() + LAST_WORDS;
        while places.available_permits() < limits.connections && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if let Some(spans) = &app.options.spans {
            spans.flush().await;
        }
    }
}

/// Forgets conversations that have expired, now and every hour.
async fn forget_expired(store: Option<Arc<dyn conversations::Store>>) {
    let Some(store) = store else { return };
    loop {
        let store = store.clone();
        match tokio::task::spawn_blocking(move || store.expire()).await {
            Ok(Ok(0)) => {}
            Ok(Ok(n)) => tracing::info!(n, "conversations expired"),
            Ok(Err(error)) => tracing::warn!(%error, "expired conversations were not forgotten"),
            Err(_) => return,
        }
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
}

fn at(error: io::Error, place: &str) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {place}: {error}"))
}

/// Seconds since 1970.
pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// 24 lower-case letters and digits that nobody can guess and no one else has.
pub(crate) fn id() -> String {
    static SECRETS: LazyLock<[RandomState; 2]> =
        LazyLock::new(|| [RandomState::new(), RandomState::new()]);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let [a, b] = &*SECRETS;
    let mut value = u128::from(a.hash_one(n)) << 64 | u128::from(b.hash_one(n));
    let digits = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let digit = |_| {
        let digit = digits[(value % 36) as usize];
        value /= 36;
        char::from(digit)
    };
    (0..24).map(digit).collect()
}
