//! The servers that have one model: which is asked next, and how each is doing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oprel_api::{Cause, ErrorKind, Failure};

use crate::breaker::Breaker;
use crate::choose::{Candidate, Retries, choose};
use crate::far::{Far, Kind, Refusal};

/// Most servers that one request is sent to.
const MOST_TRIES: usize = 3;
/// How often a server that is well is asked whether it is.
const CHECK: Duration = Duration::from_secs(10);
/// How often servers are looked after at all.
const ROUND: Duration = Duration::from_millis(500);
/// How long a server may take to say that it is well.
const CHECK_TIME: Duration = Duration::from_secs(5);

/// The servers of a model.
#[derive(Debug)]
pub(crate) struct Fleet {
    servers: Vec<Server>,
    retries: Mutex<Retries>,
    begun: Instant,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) far: Far,
    breaker: Mutex<Breaker>,
    in_flight: AtomicUsize,
    /// Why it was last not well.
    last: Mutex<Option<String>>,
}

/// A server's turn with a request. Dropped without a verdict, it says nothing.
#[derive(Debug)]
pub(crate) struct Turn {
    fleet: Arc<Fleet>,
    at: usize,
    judged: bool,
}

/// Which servers a request was sent to already.
#[derive(Debug, Default)]
pub(crate) struct Tried(Vec<usize>);

impl Fleet {
    pub(crate) fn new(servers: Vec<Far>) -> Fleet {
        let server = |far| Server {
            far,
            breaker: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            last: Mutex::default(),
        };
        Fleet {
            servers: servers.into_iter().map(server).collect(),
            retries: Mutex::default(),
            begun: Instant::now(),
        }
    }

    pub(crate) fn servers(&self) -> &[Server] {
        &self.servers
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Requests that are being answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.servers.iter().map(|s| s.in_flight.load(Ordering::Relaxed)).sum()
    }

    /// Forgets what was held against servers.
    pub(crate) fn revive(&self) {
        self.servers.iter().for_each(|server| *server.breaker() = Breaker::default());
    }

    /// Whether any server takes requests.
    pub(crate) fn is_up(&self) -> bool {
        let now = self.now();
        self.servers.iter().any(|s| s.breaker().admits(now))
    }

    /// The server whose turn it is with a request, other than those that had theirs.
    pub(crate) fn turn(
        self: &Arc<Self>,
        beginning: u64,
        tried: &mut Tried,
    ) -> Result<Turn, Failure> {
        match tried.0.is_empty() {
            true => lock(&self.retries).earn(),
            false => {
                if tried.0.len() >= MOST_TRIES || !lock(&self.retries).spend() {
                    return Err(self.nobody());
                }
            }
        }
        let now = self.now();
        let open = |at: &usize| !tried.0.contains(at) && self.servers[*at].breaker().admits(now);
        let places: Vec<usize> = (0..self.servers.len()).filter(open).collect();
        let candidate = |&at: &usize| {
            let server = &self.servers[at];
            Candidate { name: server.far.name(), load: server.in_flight.load(Ordering::Relaxed) }
        };
        let candidates: Vec<_> = places.iter().map(candidate).collect();
        let chosen = choose(beginning, &candidates).ok_or_else(|| self.nobody())?;
        let at = places[chosen];
        tried.0.push(at);
        self.servers[at].breaker().begin(now);
        self.servers[at].in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(Turn { fleet: self.clone(), at, judged: false })
    }

    /// Why nobody can be asked.
    fn nobody(&self) -> Failure {
        let now = self.now();
        let busy = self.servers.iter().any(|s| s.breaker().is_busy(now));
        let why: Vec<String> = self.servers.iter().filter_map(|s| lock(&s.last).clone()).collect();
        let message = match why.is_empty() {
            true => "no server takes requests now".to_string(),
            false => format!("no server takes requests now ({})", why.join("; ")),
        };
        let failure = Failure::new(ErrorKind::Backend, message);
        if busy { failure.because(Cause::Busy) } else { failure }
    }

    /// Asks servers whether they are well, for ever. One that failed is asked as soon as its pause is over, so that
    /// no request has to be the trial.
    pub(crate) async fn look_after(self: Arc<Self>, health: &'static str) {
        let mut last = vec![Duration::ZERO; self.servers.len()];
        loop {
            tokio::time::sleep(ROUND).await;
            let now = self.now();
            for (at, last) in last.iter_mut().enumerate() {
                let breaker = self.servers[at].breaker().clone();
                let rested = now >= *last + CHECK || !breaker.is_closed();
                let due = rested && breaker.admits(now);
                if due {
                    *last = now;
                    self.servers[at].breaker().begin(now);
                    tokio::spawn(self.clone().check(at, health));
                }
            }
        }
    }

    async fn check(self: Arc<Self>, at: usize, health: &'static str) {
        let server = &self.servers[at];
        let said = tokio::time::timeout(CHECK_TIME, server.far.is_well(health)).await;
        match said {
            Ok(Ok(())) => server.breaker().succeed(),
            Ok(Err(Refusal { kind: Kind::Well | Kind::Lacks, .. })) => server.breaker().succeed(),
            Ok(Err(refusal)) => self.ill(at, &refusal.failure.message),
            Err(_) => self.ill(at, "it does not say whether it is well"),
        }
    }

    fn ill(&self, at: usize, why: &str) {
        let server = &self.servers[at];
        let was_closed = server.breaker().is_closed();
        server.breaker().fail(self.now());
        *lock(&server.last) = Some(why.to_string());
        if was_closed && !server.breaker().is_closed() {
            tracing::warn!(server = server.far.name(), why, "is not asked for a while");
        }
    }
}

impl Server {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        lock(&self.breaker)
    }

    /// Whether it takes requests as far as is known.
    pub(crate) fn is_closed(&self) -> bool {
        self.breaker().is_closed()
    }
}

impl Turn {
    pub(crate) fn far(&self) -> &Far {
        &self.fleet.servers[self.at].far
    }

    fn server(&self) -> &Server {
        &self.fleet.servers[self.at]
    }

    /// The server answered as servers do.
    pub(crate) fn well(mut self) {
        self.judged = true;
        let was_closed = self.server().is_closed();
        self.server().breaker().succeed();
        if !was_closed && self.server().is_closed() {
            tracing::info!(server = self.far().name(), "is asked again");
        }
    }

    /// The server failed.
    pub(crate) fn ill(mut self, why: &str) {
        self.judged = true;
        self.fleet.ill(self.at, why);
    }

    /// The server refused.
    pub(crate) fn refused(mut self, refusal: &Refusal) {
        match refusal.kind {
            Kind::Gone | Kind::Ill => self.ill(&refusal.failure.message),
            Kind::Well | Kind::Lacks => self.well(),
            Kind::Busy(rest) => {
                self.judged = true;
                let now = self.fleet.now();
                *lock(&self.server().last) = Some(refusal.failure.message.clone());
                let mut breaker = self.server().breaker();
                breaker.succeed();
                breaker.rest(now, rest);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.server().in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.judged {
            let now = self.fleet.now();
            self.server().breaker().forget(now);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
