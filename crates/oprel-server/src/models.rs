//! Which models are loaded: on demand, once for all who ask at the same time, for as long as they are
//! used and a while longer, as many as memory holds.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use oprel_api::dialect::{KeepAlive, Stay};
use oprel_api::ollama::{ModelName, Preset};
use oprel_api::{Cause, ErrorKind, Failure, ollama};
use oprel_backend::{Backend, Health, LoadOptions, ModelSource};
use oprel_hub::catalog::Catalog;
use oprel_hub::fetch::Fetcher;
use oprel_hub::{Store, StoredModel};
use tokio::sync::{Notify, watch};

use crate::name::Name;
use crate::{memory, metrics::Metrics};

/// Starts a backend for a model. It may take its time: it is called where waiting is allowed.
pub type Start =
    Arc<dyn Fn(&ModelSource, &LoadOptions) -> Result<Arc<dyn Backend>, Failure> + Send + Sync>;

/// A model that runs elsewhere, and is known by a name.
#[derive(Clone)]
pub struct Elsewhere {
    /// What clients call it.
    pub name: ModelName,
    /// Makes its backend. It may take its time, as [`Start`] may.
    pub start: Arc<dyn Fn() -> Result<Arc<dyn Backend>, Failure> + Send + Sync>,
}

/// How models are loaded and kept.
#[derive(Clone)]
pub struct Policy {
    /// Starts backends.
    pub start: Start,
    /// Models that run elsewhere.
    pub elsewhere: Vec<Elsewhere>,
    /// Models that have names here.
    pub store: Option<Store>,
    /// What fetches models.
    pub fetcher: Option<Fetcher>,
    /// Short names of models that can be fetched.
    pub catalog: Catalog,
    /// How models are loaded, where a request does not say otherwise.
    pub load: LoadOptions,
    /// How long a model stays after its last use.
    pub keep_alive: KeepAlive,
    /// Most models at a time; `None` lets memory decide.
    pub most: Option<usize>,
    /// Requests that may wait for a model to be loaded.
    pub most_waiting: usize,
    /// How long a request waits for memory that other models are using.
    pub patience: Duration,
}

/// The models of a server.
pub(crate) struct Models {
    policy: Policy,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    /// A model became idle, or went away.
    freed: Notify,
    waiting: AtomicUsize,
    /// Models are loaded one after another.
    loading: tokio::sync::Mutex<()>,
    metrics: Arc<Metrics>,
}

/// A model that is loaded or being loaded.
struct Slot {
    name: Name,
    /// What is loaded; `None` for a model that runs elsewhere, which takes no room.
    here: Option<(ModelSource, LoadOptions)>,
    preset: Arc<Preset>,
    state: watch::Sender<State>,
    users: AtomicUsize,
    stay: Mutex<Expiry>,
    file_bytes: u64,
    /// Restarts that the metrics know of.
    restarts: AtomicU64,
}

#[derive(Clone)]
enum State {
    Loading,
    Ready(Arc<dyn Backend>),
    Failed(Failure),
}

/// When a model goes.
struct Expiry {
    keep: KeepAlive,
    used: Instant,
    used_at: SystemTime,
}

/// Starts one backend, once.
type Starter = Box<dyn FnOnce() -> Result<Arc<dyn Backend>, Failure> + Send>;

/// What is behind a name.
#[allow(clippy::large_enum_variant)] // one at a time
pub(crate) enum Found {
    /// A model that runs elsewhere.
    Elsewhere(Elsewhere),
    /// One of this machine.
    Here(Here),
}

/// A model of this machine.
pub(crate) struct Here {
    /// Where it is.
    pub(crate) source: ModelSource,
    /// Bytes of its files.
    pub(crate) file_bytes: u64,
    /// What it brings with it, where it is in the store.
    pub(crate) stored: Option<StoredModel>,
}

/// A model in use. While there is one, the model stays.
pub(crate) struct Lease {
    // Dropped before the hold: whoever unloads the model then is the last owner, and may wait.
    backend: Arc<dyn Backend>,
    preset: Arc<Preset>,
    _hold: Hold,
    /// How long it took to get.
    pub(crate) waited: Duration,
}

/// What is told of a loaded model.
pub(crate) struct Loaded {
    pub(crate) name: Name,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) file_bytes: u64,
    /// When it goes; `None` for never.
    pub(crate) until: Option<SystemTime>,
    /// Whether it runs here.
    pub(crate) source: Option<ModelSource>,
}

impl Models {
    pub(crate) fn new(policy: Policy, metrics: Arc<Metrics>) -> Arc<Models> {
        Arc::new(Models {
            policy,
            slots: Mutex::default(),
            freed: Notify::new(),
            waiting: AtomicUsize::new(0),
            loading: tokio::sync::Mutex::new(()),
            metrics,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model of a name, loaded if it is not.
    pub(crate) async fn lease(self: &Arc<Self>, name: Name, stay: &Stay) -> Result<Lease, Failure> {
        let start = Instant::now();
        let slot = match self.known(&name) {
            Some(slot) => slot,
            None => {
                let found = self.clone().found(name.clone()).await?;
                self.slot(&name, found, stay)?
            }
        };
        let hold = Hold { slot: slot.clone(), models: self.clone() };
        if let Some(keep) = stay.keep_alive {
            slot.expiry().keep = keep;
        }
        let backend = self.wait(&slot).await?;
        Ok(Lease { backend, preset: slot.preset.clone(), _hold: hold, waited: start.elapsed() })
    }

    /// The slot of a name that is loaded or being loaded, with one user more.
    fn known(&self, name: &Name) -> Option<Arc<Slot>> {
        known(&self.lock(), name)
    }

    /// What is behind a name; the disk is looked at.
    pub(crate) async fn found(self: Arc<Self>, name: Name) -> Result<Found, Failure> {
        let found = tokio::task::spawn_blocking(move || self.find(&name)).await;
        found.unwrap_or_else(|e| Err(Failure::new(ErrorKind::Backend, e.to_string())))
    }

    /// A slot that is being loaded, with one user; or the one that came meanwhile.
    fn slot(
        self: &Arc<Self>,
        name: &Name,
        found: Found,
        stay: &Stay,
    ) -> Result<Arc<Slot>, Failure> {
        let (start, here, file_bytes, preset) = self.starter(found, stay)?;
        let mut slots = self.lock();
        if let Some(slot) = known(&slots, name) {
            return Ok(slot);
        }
        let slot = Arc::new(Slot {
            name: name.clone(),
            state: watch::Sender::new(State::Loading),
            users: AtomicUsize::new(1),
            stay: Mutex::new(Expiry {
                // What runs elsewhere holds nothing here.
                keep: match here {
                    Some(_) => self.policy.keep_alive,
                    None => KeepAlive::Forever,
                },
                used: Instant::now(),
                used_at: SystemTime::now(),
            }),
            here,
            preset: Arc::new(preset),
            file_bytes,
            restarts: AtomicU64::new(0),
        });
        slots.insert(name.key(), slot.clone());
        tokio::spawn(self.clone().load(slot.clone(), start));
        Ok(slot)
    }

    /// What starts the backend of a model, what that loads, the bytes of its files, and what it brings with it.
    #[allow(clippy::type_complexity)]
    fn starter(
        &self,
        found: Found,
        stay: &Stay,
    ) -> Result<(Starter, Option<(ModelSource, LoadOptions)>, u64, Preset), Failure> {
        let here = match found {
            Found::Elsewhere(known) => {
                return Ok((Box::new(move || (known.start)()), None, 0, Preset::default()));
            }
            Found::Here(here) => here,
        };
        let mut options = self.policy.load.clone();
        let mut preset = Preset::default();
        if let Some(stored) = here.stored {
            preset = oprel::preset(&stored)?;
            oprel::overlay(&stored, &mut options)?;
        }
        options.threads = stay.threads.or(preset.threads()).or(options.threads);
        let start = self.policy.start.clone();
        let loaded = (here.source.clone(), options.clone());
        let starter = Box::new(move || start(&here.source, &options));
        Ok((starter, Some(loaded), here.file_bytes, preset))
    }

    /// What is behind a name. It reads the disk.
    pub(crate) fn find(&self, name: &Name) -> Result<Found, Failure> {
        let here = |source, file_bytes| Here { source, file_bytes, stored: None };
        match name {
            Name::Demo => Ok(Found::Here(here(ModelSource::Demo, 0))),
            Name::Path(path) => {
                let bytes = file_bytes(path)?;
                Ok(Found::Here(here(ModelSource::File(path.clone()), bytes)))
            }
            Name::Named(model, said) => {
                if let Some(known) = self.elsewhere(name) {
                    return Ok(Found::Elsewhere(known.clone()));
                }
                let store = self.policy.store.as_ref().ok_or_else(|| ollama::absent(said))?;
                crate::stored::find(store, model, said).map(Found::Here)
            }
        }
    }

    /// The store of models.
    pub(crate) fn store(&self) -> Option<&Store> {
        self.policy.store.as_ref()
    }

    /// What fetches models, and their short names.
    pub(crate) fn fetching(&self) -> (Option<&Fetcher>, &Catalog) {
        (self.policy.fetcher.as_ref(), &self.policy.catalog)
    }

    /// The model elsewhere that has this name.
    fn elsewhere(&self, name: &Name) -> Option<&Elsewhere> {
        let key = name.key();
        self.policy.elsewhere.iter().find(|known| known.name.key() == key)
    }

    /// Whether there is a model of this name, as far as can be told without loading it.
    pub(crate) async fn has(self: &Arc<Self>, name: &Name) -> bool {
        self.clone().found(name.clone()).await.is_ok()
    }

    /// The names of models that run elsewhere.
    pub(crate) fn names_elsewhere(&self) -> impl Iterator<Item = Name> + '_ {
        let name = |known: &Elsewhere| Name::Named(known.name.clone(), known.name.to_string());
        self.policy.elsewhere.iter().map(name)
    }

    /// Loads a model, whether those who asked for it still wait or not.
    async fn load(self: Arc<Self>, slot: Arc<Slot>, start: Starter) {
        let outcome = {
            // One that runs elsewhere takes no room, and waits for nobody.
            let here = slot.here.is_some();
            let _turn = if here { Some(self.loading.lock().await) } else { None };
            if here {
                self.make_room(&slot).await;
            }
            let begun = Instant::now();
            let started = tokio::task::spawn_blocking(start).await;
            self.metrics.model_loaded(begun.elapsed());
            started.unwrap_or_else(|e| Err(Failure::new(ErrorKind::Backend, e.to_string())))
        };
        match outcome {
            Ok(backend) => {
                let known = backend.describe();
                let (draft, without_draft) = (known.has_draft, known.without_draft.as_deref());
                let kind = backend.kind();
                tracing::info!(model = %slot.name, backend = kind, draft, without_draft, "loaded");
                slot.touch();
                slot.state.send_replace(State::Ready(backend));
            }
            Err(failure) => {
                tracing::warn!(model = %slot.name, error = %failure, "not loaded");
                slot.state.send_replace(State::Failed(failure));
                self.remove(&slot, |_| true);
            }
        }
    }

    /// Unloads idle models until the one that is to come fits. A busy one is waited for, and never
    /// unloaded; after a while it is tried as it is.
    async fn make_room(&self, coming: &Slot) {
        let until = Instant::now() + self.policy.patience;
        let mut needed = None;
        loop {
            let freed = self.freed.notified();
            let others: Vec<_> = self
                .lock()
                .values()
                // Those that wait for their turn to be loaded take no room yet.
                .filter(|s| s.here.is_some() && !s.is_loading())
                .filter(|s| s.name.key() != coming.name.key())
                .cloned()
                .collect();
            let Some((source, options)) = coming.here.clone().filter(|_| !others.is_empty()) else {
                return;
            };
            let needed = match needed {
                Some(needed) => needed,
                None => *needed.insert(memory::needed(source, options, coming.file_bytes).await),
            };
            if memory::fits(needed) && self.policy.most.is_none_or(|n| others.len() < n.max(1)) {
                return;
            }
            let idle = others.iter().filter(|s| s.is_idle());
            if let Some(victim) = idle.min_by_key(|s| s.expiry().used) {
                tracing::info!(model = %victim.name, "unloaded to make room");
                self.unload_if_idle(victim).await;
                continue;
            }
            if tokio::time::timeout_at(until.into(), freed).await.is_err() {
                return;
            }
        }
    }

    async fn wait(&self, slot: &Slot) -> Result<Arc<dyn Backend>, Failure> {
        let mut state = slot.state.subscribe();
        if matches!(*state.borrow(), State::Loading) {
            let _place = Place::take(&self.waiting, self.policy.most_waiting)?;
            let _ = state.wait_for(|s| !matches!(s, State::Loading)).await;
        }
        let now = state.borrow().clone();
        match now {
            State::Ready(backend) => Ok(backend),
            State::Failed(failure) => Err(failure),
            State::Loading => Err(Failure::new(ErrorKind::Backend, "the server is stopping")),
        }
    }

    /// Takes a slot out, if it is still this one and `goes` says so. Meanwhile nobody gets it.
    fn remove(&self, slot: &Arc<Slot>, goes: impl FnOnce(&Slot) -> bool) -> bool {
        let mut slots = self.lock();
        let key = slot.name.key();
        let out = slots.get(&key).is_some_and(|s| Arc::ptr_eq(s, slot)) && goes(slot);
        if out {
            slots.remove(&key);
        }
        out
    }

    /// Unloads a model unless somebody uses it, or just came to.
    async fn unload_if_idle(&self, slot: &Arc<Slot>) {
        if self.remove(slot, Slot::is_idle) {
            self.end(slot).await;
        }
    }

    /// Waits until the backend of a slot that was taken out has ended.
    async fn end(&self, slot: &Arc<Slot>) {
        self.count_restarts(slot);
        let state = slot.state.send_replace(State::Failed(gone()));
        if let State::Ready(backend) = state {
            // Dropping the last owner waits for its process.
            let _ = tokio::task::spawn_blocking(move || drop(backend)).await;
        }
        self.freed.notify_waiters();
    }

    /// Unloads a model by name as soon as it is idle. Whether there was one.
    pub(crate) async fn stop(&self, name: &Name) -> bool {
        let slot = self.lock().get(&name.key()).cloned();
        let Some(slot) = slot else { return false };
        slot.expiry().keep = KeepAlive::For(Duration::ZERO);
        self.unload_if_idle(&slot).await;
        true
    }

    /// Unloads what was idle for long enough. Called now and then.
    pub(crate) async fn sweep(&self) {
        let all: Vec<_> = self.lock().values().cloned().collect();
        all.iter().for_each(|slot| self.count_restarts(slot));
        let now = Instant::now();
        let over: Vec<_> = self.lock().values().filter(|s| s.is_over(now)).cloned().collect();
        for slot in over {
            tracing::info!(model = %slot.name, "unloaded");
            self.unload_if_idle(&slot).await;
        }
    }

    /// Tells the metrics how often a backend was started again.
    fn count_restarts(&self, slot: &Slot) {
        let State::Ready(backend) = &*slot.state.borrow() else { return };
        let now = backend.restarts();
        let known = slot.restarts.fetch_max(now, Ordering::Relaxed);
        if now > known {
            self.metrics.restarted(&slot.name.label(), backend.kind(), now - known);
        }
    }

    /// Stops everything.
    pub(crate) async fn stop_all(&self) {
        let all: Vec<_> = self.lock().values().cloned().collect();
        for slot in &all {
            if let State::Ready(backend) = &*slot.state.borrow() {
                backend.stop();
            }
        }
        for slot in &all {
            if self.remove(slot, |_| true) {
                self.end(slot).await;
            }
        }
    }

    /// The models that are loaded, the longest-lived first.
    pub(crate) fn loaded(&self) -> Vec<Loaded> {
        let slots: Vec<_> = self.lock().values().cloned().collect();
        let ready = |slot: &Arc<Slot>| match &*slot.state.borrow() {
            State::Ready(backend) => Some(backend.clone()),
            _ => None,
        };
        let mut all: Vec<_> = slots
            .iter()
            .filter_map(|slot| {
                Some(Loaded {
                    name: slot.name.clone(),
                    backend: ready(slot)?,
                    file_bytes: slot.file_bytes,
                    until: slot.until(),
                    source: slot.here.as_ref().map(|(source, _)| source.clone()),
                })
            })
            .collect();
        all.sort_by_key(|l| std::cmp::Reverse(l.until.map_or((1, None), |t| (0, Some(t)))));
        all
    }
}

/// The slot of a name, unless it failed, with one user more.
fn known(slots: &HashMap<String, Arc<Slot>>, name: &Name) -> Option<Arc<Slot>> {
    let slot = slots.get(&name.key())?;
    let failed = match &*slot.state.borrow() {
        State::Failed(_) => true,
        State::Ready(backend) => matches!(backend.health(), Health::Failed(_) | Health::Stopped),
        State::Loading => false,
    };
    (!failed).then(|| {
        slot.users.fetch_add(1, Ordering::AcqRel);
        slot.clone()
    })
}

/// A use of a slot.
struct Hold {
    slot: Arc<Slot>,
    models: Arc<Models>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.slot.touch();
        if self.slot.users.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        self.models.freed.notify_waiters();
        let goes = self.slot.expiry().keep == KeepAlive::For(Duration::ZERO);
        if let Some(runtime) = goes.then(tokio::runtime::Handle::try_current).and_then(Result::ok) {
            let (models, slot) = (self.models.clone(), self.slot.clone());
            runtime.spawn(async move {
                models.unload_if_idle(&slot).await;
            });
        }
    }
}

impl Lease {
    /// What the model brings with it.
    pub(crate) fn preset(&self) -> &Preset {
        &self.preset
    }

    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }
}

impl Slot {
    fn expiry(&self) -> MutexGuard<'_, Expiry> {
        self.stay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        let mut expiry = self.expiry();
        (expiry.used, expiry.used_at) = (Instant::now(), SystemTime::now());
    }

    /// Whether it is being loaded, or waits for that.
    fn is_loading(&self) -> bool {
        matches!(*self.state.borrow(), State::Loading)
    }

    /// Whether it is loaded and nobody uses it.
    fn is_idle(&self) -> bool {
        self.users.load(Ordering::Acquire) == 0 && !self.is_loading()
    }

    fn is_over(&self, now: Instant) -> bool {
        let expiry = self.expiry();
        let over = match expiry.keep {
            KeepAlive::Forever => false,
            KeepAlive::For(time) => now.duration_since(expiry.used) >= time,
        };
        drop(expiry);
        over && self.is_idle()
    }

    fn until(&self) -> Option<SystemTime> {
        let expiry = self.expiry();
        match expiry.keep {
            KeepAlive::Forever => None,
            KeepAlive::For(time) => expiry.used_at.checked_add(time),
        }
    }
}

/// A place among those that wait.
struct Place<'a>(&'a AtomicUsize);

impl Place<'_> {
    fn take(waiting: &AtomicUsize, most: usize) -> Result<Place<'_>, Failure> {
        if waiting.fetch_add(1, Ordering::AcqRel) >= most {
            waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(busy());
        }
        Ok(Place(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Too many wait.
pub(crate) fn busy() -> Failure {
    ollama::busy().because(Cause::Busy)
}

fn gone() -> Failure {
    Failure::new(ErrorKind::Backend, "the model was unloaded")
}

fn file_bytes(path: &Path) -> Result<u64, Failure> {
    match std::fs::metadata(path) {
        Ok(file) if file.is_file() => Ok(file.len()),
        _ => Err(ollama::absent(&path.display().to_string())),
    }
}
