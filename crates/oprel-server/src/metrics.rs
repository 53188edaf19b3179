//! What can be seen from outside: counters and histograms in Prometheus' text format, named as vLLM's are.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use oprel_api::{Cause, Event, Failure};
use prometheus_client::encoding::{
    EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// How a request ended. Outcomes sum to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Stop,
    Length,
    Cancelled,
    Rejected,
    EngineError,
    Timeout,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Served {
    model: String,
    backend: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    model: String,
    backend: String,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
    method: String,
    code: u16,
}

/// A gauge that is read when it is asked for. Those of one name stand together.
pub(crate) struct Gauged {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// `{model="..."}`, or nothing.
    pub(crate) label: String,
    pub(crate) value: f64,
}

/// The same in the older format, for readers that do not ask for OpenMetrics: there counters are called as their
/// series are, and units and the end are not told.
pub(crate) fn classic(text: &str) -> String {
    let is_counter = |name: &str| text.contains(&format!("# TYPE {name} counter\n"));
    let mut out = String::with_capacity(text.len());
    for line in text.lines().filter(|line| !line.starts_with("# UNIT") && *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if is_counter(name) => {
                let _ = writeln!(out, "# {what} {name}_total {rest}");
            }
            _ => {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    out
}

type Times = Family<Served, Histogram, fn() -> Histogram>;

/// All metrics of a server.
pub(crate) struct Metrics {
    registry: Registry,
    http: Family<Route, Counter>,
    requests: Family<Ended, Counter>,
    running: Family<Served, Gauge<i64, AtomicI64>>,
    prompt_tokens: Family<Served, Counter>,
    cached_tokens: Family<Served, Counter>,
    generated_tokens: Family<Served, Counter>,
    accepted_tokens: Family<Served, Counter>,
    first_token: Times,
    gap: Times,
    whole: Times,
    queue: Times,
    loads: Histogram,
    restarts: Family<Served, Counter>,
}

fn seconds(buckets: &[f64]) -> Histogram {
    Histogram::new(buckets.iter().copied())
}

fn first_token_buckets() -> Histogram {
    seconds(&[
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
        20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
    ])
}

fn gap_buckets() -> Histogram {
    seconds(&[
        0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
        20.0, 40.0, 80.0,
    ])
}

fn whole_buckets() -> Histogram {
    seconds(&[
        0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0,
        240.0, 480.0, 960.0, 1920.0, 7680.0,
    ])
}

impl Metrics {
    pub(crate) fn new() -> Arc<Metrics> {
        let mut registry = Registry::with_prefix("oprel");
        let r = &mut registry;
        let http = Family::<Route, Counter>::default();
        r.register("http_requests", "HTTP requests", http.clone());
        let requests = Family::<Ended, Counter>::default();
        r.register("requests", "Requests to models, by how they ended", requests.clone());
        let running = Family::<Served, Gauge<i64, AtomicI64>>::default();
        r.register("requests_running", "Requests that are being answered", running.clone());
        let counter = |r: &mut Registry, name: &str, help: &str| {
            let family = Family::<Served, Counter>::default();
            r.register(name, help, family.clone());
            family
        };
        let prompt_tokens = counter(r, "prompt_tokens", "Tokens of prompts");
        let cached_tokens = counter(r, "prompt_tokens_cached", "Of these, found in the cache");
        let generated_tokens = counter(r, "generation_tokens", "Tokens that were made");
        let accepted_tokens = counter(r, "accepted_tokens", "Of these, proposed and taken");
        let times = |r: &mut Registry, name: &str, help: &str, make: fn() -> Histogram| {
            let family: Times = Family::new_with_constructor(make);
            r.register_with_unit(name, help, Unit::Seconds, family.clone());
            family
        };
        let first_token =
            times(r, "time_to_first_token", "Until the first token", first_token_buckets);
        let gap = times(r, "inter_token_latency", "Between two tokens", gap_buckets);
        let whole = times(r, "e2e_request_latency", "Until the last token", whole_buckets);
        let queue = times(r, "request_queue_time", "Until a sequence's first step", whole_buckets);
        let loads = whole_buckets();
        r.register_with_unit("model_load", "To load a model", Unit::Seconds, loads.clone());
        let restarts = counter(r, "backend_restarts", "Backends that were started again");
        Arc::new(Metrics {
            registry,
            http,
            requests,
            running,
            prompt_tokens,
            cached_tokens,
            generated_tokens,
            accepted_tokens,
            first_token,
            gap,
            whole,
            queue,
            loads,
            restarts,
        })
    }

    /// All of it, as text in OpenMetrics' format, with gauges that are read when they are asked for.
    pub(crate) fn text(&self, now: &[Gauged]) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            return String::new();
        }
        let end = text.strip_suffix("# EOF\n").map(str::len).unwrap_or(text.len());
        text.truncate(end);
        let mut named = "";
        for Gauged { name, help, label, value } in now {
            if *name != named {
                let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} gauge");
                named = name;
            }
            let _ = writeln!(text, "{name}{label} {value}");
        }
        text.push_str("# EOF\n");
        text
    }

    pub(crate) fn http(&self, route: &str, method: &str, code: u16) {
        let label = Route { route: route.into(), method: method.into(), code };
        self.http.get_or_create(&label).inc();
    }

    pub(crate) fn model_loaded(&self, time: Duration) {
        self.loads.observe(time.as_secs_f64());
    }

    /// A backend was started again so many times more.
    pub(crate) fn restarted(&self, model: &str, backend: &str, times: u64) {
        let served = Served { model: model.into(), backend: backend.into() };
        self.restarts.get_or_create(&served).inc_by(times);
    }

    /// A request begins. It ends exactly once, at the latest when its watch is dropped.
    pub(crate) fn request(self: &Arc<Self>, model: &str, backend: &str) -> Watch {
        let served = Served { model: model.into(), backend: backend.into() };
        self.running.get_or_create(&served).inc();
        let now = Instant::now();
        Watch { metrics: self.clone(), served, start: now, last: None, outcome: None }
    }
}

/// Watches one request.
pub(crate) struct Watch {
    metrics: Arc<Metrics>,
    served: Served,
    start: Instant,
    last: Option<Instant>,
    outcome: Option<Outcome>,
}

impl Watch {
    /// Takes what answer `at` says.
    pub(crate) fn event(&mut self, at: usize, event: &Event) {
        let (m, served) = (&self.metrics, &self.served);
        match event {
            Event::Text(_) | Event::Thinking(_) if at == 0 => {
                let now = Instant::now();
                let since = |then: Instant| now.duration_since(then).as_secs_f64();
                match self.last {
                    None => m.first_token.get_or_create(served).observe(since(self.start)),
                    Some(last) => m.gap.get_or_create(served).observe(since(last)),
                }
                self.last = Some(now);
            }
            Event::Usage(usage) => {
                if at == 0 {
                    let (prompt, cached) = (usage.prompt_tokens, usage.cached_tokens);
                    m.prompt_tokens.get_or_create(served).inc_by(u64::from(prompt));
                    m.cached_tokens.get_or_create(served).inc_by(u64::from(cached));
                    let waited = usage.queue_ns as f64 / 1e9;
                    m.queue.get_or_create(served).observe(waited);
                }
                let made = u64::from(usage.generated_tokens);
                m.generated_tokens.get_or_create(served).inc_by(made);
                let accepted = u64::from(usage.accepted_tokens);
                m.accepted_tokens.get_or_create(served).inc_by(accepted);
            }
            Event::End(reason) => self.outcome = Some(crate::answer::outcome(reason)),
            Event::Error(failure) => self.outcome = Some(Outcome::of_failure(failure)),
            _ => {}
        }
    }

    /// It ended so.
    pub(crate) fn end(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let m = &self.metrics;
        let Served { model, backend } = self.served.clone();
        let outcome = self.outcome.unwrap_or(Outcome::Cancelled);
        m.requests.get_or_create(&Ended { model, backend, outcome }).inc();
        m.running.get_or_create(&self.served).dec();
        m.whole.get_or_create(&self.served).observe(self.start.elapsed().as_secs_f64());
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let word = match self {
            Outcome::Stop => "stop",
            Outcome::Length => "length",
            Outcome::Cancelled => "cancelled",
            Outcome::Rejected => "rejected",
            Outcome::EngineError => "engine_error",
            Outcome::Timeout => "timeout",
        };
        encoder.write_str(word)
    }
}

impl Outcome {
    pub(crate) fn of_failure(failure: &Failure) -> Outcome {
        match (&failure.cause, failure.kind) {
            (Some(Cause::Busy | Cause::Unusable), _) | (_, oprel_api::ErrorKind::Validation) => {
                Outcome::Rejected
            }
            _ => Outcome::EngineError,
        }
    }
}
