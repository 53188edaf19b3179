//! One answer, from the request that is sent to the last event that is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use oprel_api::{EndReason, ErrorKind, Event, Failure, Trace, Usage};
use oprel_backend::{Listener, Mouth};
use serde_json::Value;

use crate::Patience;
use crate::ask::Expects;
use crate::far::{Far, Kind, Refusal};
use crate::fit::{Cut, Fit};
use crate::fleet::{Fleet, Tried, Turn};
use crate::reader::{Reader, Wrong};
use crate::sse::Lines;
use crate::tokens;

/// An answer that is wanted.
pub(crate) struct Wanted {
    pub(crate) path: &'static str,
    pub(crate) body: Value,
    pub(crate) expects: Expects,
    pub(crate) beginning: u64,
    pub(crate) deadline: Option<Duration>,
    pub(crate) submitted: Instant,
    pub(crate) patience: Patience,
    pub(crate) fit: Fit,
    pub(crate) trace: Option<Trace>,
}

/// Why an attempt failed.
enum Broken {
    /// Before anything was told: another server may do it.
    Elsewhere(Failure),
    /// For good.
    Over(Failure),
}

/// Gets an answer and tells it. The last event is told whatever happens.
pub(crate) async fn run(fleet: Arc<Fleet>, mut wanted: Wanted, mut mouth: Mouth) {
    let over = match wanted.deadline {
        None => tell(&fleet, &mut wanted, &mut mouth).await,
        Some(time) => {
            let submitted = wanted.submitted;
            let until = submitted + time;
            let told = tell(&fleet, &mut wanted, &mut mouth);
            match tokio::time::timeout_at(until.into(), told).await {
                Ok(over) => over,
                Err(_) => {
                    let usage = Usage { total_ns: ns(submitted), ..Usage::default() };
                    let end = Event::End(EndReason::Deadline);
                    return mouth.hear(vec![Event::Usage(usage), end]);
                }
            }
        }
    };
    if let Err(failure) = over {
        mouth.hear(vec![Event::Error(failure)]);
    }
}

/// Asks one server after another until one begins to answer.
async fn tell(fleet: &Arc<Fleet>, wanted: &mut Wanted, mouth: &mut Mouth) -> Result<(), Failure> {
    let (mut tried, mut cut) = (Tried::default(), Cut::default());
    let mut last = None;
    loop {
        let turn = match fleet.turn(wanted.beginning, &mut tried) {
            Ok(turn) => turn,
            Err(nobody) => return Err(last.unwrap_or(nobody)),
        };
        match attempt(turn, wanted, cut, mouth).await {
            Ok(()) => return Ok(()),
            Err(Broken::Over(failure)) => {
                if !cut.shorten(&wanted.fit, &failure, &mut wanted.body) {
                    return Err(failure);
                }
                tried = Tried::default();
            }
            Err(Broken::Elsewhere(failure)) => last = Some(failure),
        }
    }
}

async fn attempt(turn: Turn, wanted: &Wanted, cut: Cut, mouth: &mut Mouth) -> Result<(), Broken> {
    let sent = begin(turn.far(), wanted);
    let response = match tokio::time::timeout(wanted.patience.first, sent).await {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => {
            turn.refused(&refusal);
            let elsewhere = refusal.kind.may_go_elsewhere();
            let failure = refusal.failure;
            return Err(if elsewhere { Broken::Elsewhere(failure) } else { Broken::Over(failure) });
        }
        Err(_) => {
            let refusal = turn.far().refusal(Kind::Ill, "it does not answer");
            return Err(ended(turn, refusal));
        }
    };
    if !streams(&response) {
        let refusal = turn.far().refusal(Kind::Ill, "its answer does not stream");
        return Err(ended(turn, refusal));
    }
    let mut said = false;
    match read(turn.far(), response, wanted, cut, mouth, &mut said).await {
        Ok(end) => {
            // Its place is free before anybody hears of the end.
            turn.well();
            mouth.hear(end);
            Ok(())
        }
        // A connection that was cut before it said anything was none.
        Err(refusal) if refusal.kind == Kind::Gone && !said => {
            turn.refused(&refusal);
            Err(Broken::Elsewhere(refusal.failure))
        }
        Err(refusal) => Err(ended(turn, refusal)),
    }
}

/// Sends the request, its answer bounded by what its prompt leaves where that is needed.
async fn begin(far: &Far, wanted: &Wanted) -> Result<Response<Incoming>, Refusal> {
    let trace = wanted.trace.as_ref();
    let Some((path, count)) = &wanted.fit.count else {
        return far.send(wanted.path, Some(&wanted.body), trace).await;
    };
    let said: Value = far.ask(path, Some(count), trace).await?;
    let n = tokens::tokens(&said).map_err(|e| far.refusal(Kind::Ill, &e.message))?.len();
    let mut body = wanted.body.clone();
    wanted.fit.bound(&mut body, n);
    far.send(wanted.path, Some(&body), trace).await
}

fn ended(turn: Turn, refusal: Refusal) -> Broken {
    turn.refused(&refusal);
    Broken::Over(refusal.failure)
}

fn streams(response: &Response<Incoming>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/event-stream"))
}

/// Reads a stream to its end, and tells what it says but for the end, which it gives back.
async fn read(
    far: &Far,
    response: Response<Incoming>,
    wanted: &Wanted,
    cut: Cut,
    mouth: &mut Mouth,
    said: &mut bool,
) -> Result<Vec<Event>, Refusal> {
    let (mut lines, mut reader) = (Lines::default(), Reader::new(wanted.expects.clone()));
    let mut body = response.into_body();
    let mut first_token = None;
    let wrong = |Wrong { failure, is_ill }: Wrong| {
        let kind = if is_ill { Kind::Ill } else { Kind::Well };
        far.refusal(kind, &failure.message)
    };
    while !reader.is_done() {
        let patience = if *said { wanted.patience.gap } else { wanted.patience.first };
        let frame = match tokio::time::timeout(patience, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                let what = format!("its answer broke off: {error}");
                return Err(far.refusal(if *said { Kind::Ill } else { Kind::Gone }, &what));
            }
            // The reader knows whether that is an end.
            Ok(None) => break,
            Err(_) => return Err(far.refusal(Kind::Ill, "its answer does not go on")),
        };
        let Ok(data) = frame.into_data() else { continue };
        if lines.push(&data).is_err() {
            return Err(far.refusal(Kind::Ill, "a line of its answer does not end"));
        }
        let mut events = Vec::new();
        while let Some(event) = lines.next_said() {
            let taken = reader.take(&event, &mut events);
            if let Err(broken) = taken {
                mouth.hear(events);
                return Err(wrong(broken));
            }
        }
        if !events.is_empty() {
            *said = true;
            first_token.get_or_insert_with(Instant::now);
            mouth.hear(events);
        }
        if !mouth.is_wanted() {
            return Ok(Vec::new());
        }
    }
    let mut events = Vec::new();
    let ended = reader.end(&mut events);
    match ended {
        Ok((usage, reason)) => {
            if reason == EndReason::Capped {
                let (asked, made) = (wanted.expects.most_tokens, usage.generated_tokens);
                tracing::warn!(server = far.name(), asked, made, "it allows no more tokens");
            }
            let usage = timed(usage, wanted.submitted, first_token);
            events.extend(cut.told(usage.prompt_tokens).map(Event::Truncated));
            events.extend([Event::Usage(usage), Event::End(reason)]);
            Ok(events)
        }
        Err(broken) => {
            *said |= !events.is_empty();
            mouth.hear(events);
            Err(wrong(broken))
        }
    }
}

/// Times as they are seen from here: the way and the queue count as reading the prompt.
fn timed(usage: Usage, submitted: Instant, first_token: Option<Instant>) -> Usage {
    let total_ns = ns(submitted);
    let decode_ns = first_token.map_or(0, ns);
    Usage { prefill_ns: total_ns.saturating_sub(decode_ns), decode_ns, total_ns, ..usage }
}

fn ns(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The failure of an answer that nobody may finish any more.
pub(crate) fn stopped() -> Failure {
    Failure::new(ErrorKind::Backend, "the model was stopped")
}
