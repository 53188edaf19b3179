//! A stand-in for model hubs, their delivery networks and registries: real protocols over real connections on ports
//! of their own, with files that are made up and faults on demand.
//!
//! A secret that reaches a server that it is not for fails the test that runs it.

mod bytes;
mod cdn;
mod content;
mod fault;
mod hub;
mod registry;
mod releases;
mod secure;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response};
use axum::{Router, http::header::AUTHORIZATION};
use tokio::net::{TcpListener, TcpSocket};

pub use content::Content;
pub use fault::{Fault, Role};
pub use hub::{Gate, Repo};
pub use registry::Model;
pub use releases::Release;

/// The token that the hub knows.
pub const TOKEN: &str = "hf_stand_in";

/// A stand-in that runs until it is dropped.
#[derive(Debug)]
pub struct Hub {
    inner: Arc<Inner>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who was asked.
    pub role: Role,
    /// How.
    pub method: Method,
    /// For what: the path and what is behind it.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Bytes of a file that were sent.
    pub sent: Arc<AtomicU64>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    addresses: [SocketAddr; 5],
    pub(crate) repos: Mutex<BTreeMap<String, Repo>>,
    pub(crate) models: Mutex<BTreeMap<String, Model>>,
    /// The last one is the latest.
    pub(crate) releases: Mutex<Vec<Release>>,
    /// Files by digest, for who has a link.
    pub(crate) files: Mutex<BTreeMap<String, Content>>,
    pub(crate) uploads: Mutex<BTreeMap<u64, Vec<u8>>>,
    pub(crate) plan: fault::Plan,
    seen: Mutex<Vec<Seen>>,
    leaks: Mutex<Vec<String>>,
    /// Links of an earlier time are not good any more.
    pub(crate) time: AtomicU64,
    pub(crate) bytes_per_second: AtomicU64,
    pub(crate) page: AtomicUsize,
}

/// What the handlers of one role share.
#[derive(Clone)]
struct Server {
    role: Role,
    inner: Arc<Inner>,
}

impl Default for Hub {
    fn default() -> Hub {
        Hub::start()
    }
}

impl Hub {
    /// Begins to answer, on ports of this machine that were free.
    pub fn start() -> Hub {
        Hub::start_on([0; 5])
    }

    /// Begins to answer on these ports: of the hub, the network, the bridge, the registry and the
    /// releases.
    ///
    /// # Panics
    /// If a port is taken.
    pub fn start_on(ports: [u16; 5]) -> Hub {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let listeners = {
            let _inside = runtime.enter();
            ports.map(listen)
        };
        let addresses = [0, 1, 2, 3, 4].map(|i| listeners[i].local_addr().expect("it listens"));
        let inner = Arc::new(Inner {
            addresses,
            repos: Mutex::default(),
            models: Mutex::default(),
            releases: Mutex::default(),
            files: Mutex::default(),
            uploads: Mutex::default(),
            plan: fault::Plan::default(),
            seen: Mutex::default(),
            leaks: Mutex::default(),
            time: AtomicU64::new(1),
            bytes_per_second: AtomicU64::new(0),
            page: AtomicUsize::new(1000),
        });
        let roles = [Role::Hub, Role::Cdn, Role::Bridge, Role::Registry, Role::Releases];
        for (listener, role) in listeners.into_iter().zip(roles) {
            let server = Server { role, inner: inner.clone() };
            let app = Router::new().fallback(serve).with_state(server);
            runtime.spawn(async move {
                axum::serve(listener, app).await.expect("it serves");
            });
        }
        Hub { inner, runtime: Some(runtime) }
    }

    /// Has the network's files over TLS as well; says where, without a slash at its end.
    ///
    /// # Panics
    /// If certificate and key are none.
    pub fn secure(&self, cert: &std::path::Path, key: &std::path::Path) -> String {
        let runtime = self.runtime.as_ref().expect("it runs until it is dropped");
        let _inside = runtime.enter();
        let listener = secure::Secure::new(listen(0), cert, key);
        let address = axum::serve::Listener::local_addr(&listener).expect("it listens");
        let server = Server { role: Role::Cdn, inner: self.inner.clone() };
        let app = Router::new().fallback(serve).with_state(server);
        runtime.spawn(async move { axum::serve(listener, app).await });
        format!("https://localhost:{}", address.port())
    }

    /// The address of a role, without a slash at its end.
    pub fn url(&self, role: Role) -> String {
        self.inner.url(role)
    }

    /// Where a file of any digest is to be had without a hub. The link is good until links expire.
    pub fn link(&self, content: &Content, name: &str) -> String {
        self.inner.keep(content);
        self.inner.link(Role::Cdn, content.digest(), name)
    }

    /// Has a repository, instead of one of the same name.
    pub fn add(&self, name: &str, repo: Repo) {
        repo.files.values().for_each(|content| self.inner.keep(content));
        lock(&self.inner.repos).insert(name.into(), repo);
    }

    /// Changes a repository.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Repo)) {
        let mut repos = lock(&self.inner.repos);
        let repo = repos.get_mut(name).expect("there is such a repository");
        change(repo);
        repo.files.values().for_each(|content| self.inner.keep(content));
    }

    /// Has a model in the registry: `namespace/model:tag`.
    pub fn add_model(&self, name: &str, model: Model) {
        model.layers.iter().for_each(|(_, content)| self.inner.keep(content));
        lock(&self.inner.models).insert(name.into(), model);
    }

    /// Has a release, which is the latest now, instead of one of the same version.
    pub fn add_release(&self, release: Release) {
        release.assets.iter().for_each(|asset| self.inner.keep(&asset.content));
        let mut releases = lock(&self.inner.releases);
        releases.retain(|other| other.tag != release.tag);
        releases.push(release);
    }

    /// Where releases are described.
    pub fn releases(&self) -> String {
        format!("{}/repos/ggml-org/llama.cpp/releases", self.url(Role::Releases))
    }

    /// What the registry has under a name.
    pub fn model(&self, name: &str) -> Option<Model> {
        lock(&self.inner.models).get(name).cloned()
    }

    /// Whether the registry has a file.
    pub fn has(&self, digest: &str) -> bool {
        lock(&self.inner.files).contains_key(digest)
    }

    /// Lets something go wrong with requests whose path has `path` in it: so many of them, after so many others.
    pub fn fault(&self, role: Role, path: &str, after: usize, times: usize, fault: Fault) {
        self.inner.plan.add(role, path, after, times, fault);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.inner.plan.clear();
    }

    /// Links that were given out are not good any more.
    pub fn expire(&self) {
        self.inner.time.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends no more than so many bytes a second in each answer.
    pub fn pace(&self, bytes_per_second: u64) {
        self.inner.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Lists no more than so many files in an answer.
    pub fn page(&self, files: usize) {
        self.inner.page.store(files, Ordering::Relaxed);
    }

    /// All requests that came.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.inner.seen).clone()
    }

    /// Forgets the requests that came.
    pub fn forget(&self) {
        lock(&self.inner.seen).clear();
    }

    /// Bytes of files that were sent.
    pub fn sent(&self) -> u64 {
        lock(&self.inner.seen).iter().map(|seen| seen.sent.load(Ordering::Relaxed)).sum()
    }

    /// Secrets that reached a server that they are not for.
    pub fn leaks(&self) -> Vec<String> {
        lock(&self.inner.leaks).clone()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let leaks = self.leaks();
        assert!(leaks.is_empty() || std::thread::panicking(), "secrets leaked: {leaks:?}");
    }
}

impl Inner {
    pub(crate) fn url(&self, role: Role) -> String {
        let index = match role {
            Role::Hub => 0,
            Role::Cdn => 1,
            Role::Bridge => 2,
            Role::Registry => 3,
            Role::Releases => 4,
        };
        format!("http://{}", self.addresses[index])
    }

    pub(crate) fn keep(&self, content: &Content) {
        lock(&self.files).insert(content.digest().into(), content.clone());
    }

    pub(crate) fn link(&self, role: Role, digest: &str, name: &str) -> String {
        let time = self.time.load(Ordering::Relaxed);
        let name = name.rsplit('/').next().unwrap_or(name);
        format!("{}/{digest}/{name}?Expires={time}&Signature=stand-in", self.url(role))
    }
}

/// Little is kept in a connection, so that what was sent is about what has come.
fn listen(port: u16) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a socket");
    socket.set_send_buffer_size(128 << 10).expect("a socket");
    socket.bind(([127, 0, 0, 1], port).into()).expect("a free port");
    socket.listen(1024).expect("it listens")
}

async fn serve(State(server): State<Server>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or_else(String::new, |path| path.to_string());
    let seen = Seen {
        role: server.role,
        method: head.method,
        path,
        headers: head.headers,
        sent: Arc::default(),
    };
    let inner = &server.inner;
    lock(&inner.seen).push(seen.clone());
    if matches!(server.role, Role::Cdn | Role::Bridge) && seen.headers.contains_key(AUTHORIZATION) {
        lock(&inner.leaks).push(format!("{:?} {}", seen.role, seen.path));
    }
    let fault = inner.plan.next(server.role, &seen.path);
    if let Some(Fault::Late(by)) = fault {
        tokio::time::sleep(by).await;
    }
    if let Some(answer) = bytes::early(fault.as_ref(), &seen.path) {
        return answer;
    }
    match server.role {
        Role::Hub => hub::answer(inner, &seen, fault),
        Role::Cdn | Role::Bridge => cdn::answer(inner, &seen, fault),
        Role::Registry => registry::answer(inner, &seen, body, fault).await,
        Role::Releases => releases::answer(inner, &seen),
    }
}

pub(crate) fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
