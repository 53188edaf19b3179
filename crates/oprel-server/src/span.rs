//! What is traced of a request to a model: from its arrival to its last event. Who keeps it is told
//! when it is over; where nobody does, nothing is noted.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::http::HeaderMap;
use oprel_api::{EndReason, ErrorKind, Event, Failure, Input, Request, Trace, Usage};

use crate::peer::Peer;

/// Most characters of a model's name that a client made up.
const LONGEST_NAME: usize = 128;

/// Longest `tracestate` that goes on.
const LONGEST_STATE: usize = 512;

/// Who keeps what was traced.
pub trait Spans: Send + Sync {
    /// Takes a request that is over. It never waits.
    fn take(&self, span: Span);

    /// Sends on what was taken, before the program ends.
    fn flush(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The step of a trace that a request belongs to, as its header `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: [u8; 16],
    /// The step.
    pub span: [u8; 8],
    /// Whether the trace is kept.
    pub is_kept: bool,
}

/// A request that is over.
#[derive(Clone, Debug)]
pub struct Span {
    /// What it belongs to.
    pub parent: Option<Parent>,
    /// Its trace: that of its parent, or one of its own.
    pub trace: [u8; 16],
    /// Its own step.
    pub id: [u8; 8],
    /// What was asked for: `chat`, `text_completion`, `embeddings`, `rerank`, `tokenize`, `detokenize`.
    pub operation: &'static str,
    /// The model; as the client wrote it, if there is none.
    pub model: String,
    /// Who answered.
    pub backend: Option<&'static str>,
    /// Most tokens of an answer, where that was bounded.
    pub max_tokens: Option<u32>,
    /// How tokens were chosen: temperature and top-p.
    pub sampling: Option<(f32, f32)>,
    /// Answers that were asked for.
    pub answers: u32,
    /// When it came.
    pub begun: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// How long until the first token, where there was one.
    pub first_token: Option<Duration>,
    /// What all answers took together.
    pub usage: Option<Usage>,
    /// Why answers ended, in the words of the field.
    pub ends: Vec<&'static str>,
    /// Why it failed: a word, and what was said.
    pub error: Option<(&'static str, String)>,
}

/// Notes what becomes of a request. It is over when this is dropped.
pub(crate) struct Tracing(Option<Open>);

struct Open {
    spans: Arc<dyn Spans>,
    since: Instant,
    span: Span,
    is_done: bool,
}

impl Parent {
    /// What a request says of itself: version, trace, step and flags in hexadecimal, each behind a `-`.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Parent> {
        Parent::parse(headers.get(Trace::PARENT)?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Parent> {
        let mut parts = text.trim().split('-');
        let [version] = bytes(parts.next()?)?;
        let (trace, span) = (bytes(parts.next()?)?, bytes(parts.next()?)?);
        let [flags] = bytes(parts.next()?)?;
        // Later versions may say more; the last there is has no meaning.
        let is_known = match version {
            0 => parts.next().is_none(),
            version => version != 0xff,
        };
        let is_some = trace != [0; 16] && span != [0; 8];
        (is_known && is_some).then_some(Parent { trace, span, is_kept: flags & 1 == 1 })
    }
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parent { trace, span, is_kept } = self;
        write!(f, "00-{}-{}-{:02x}", hex(trace), hex(span), u8::from(*is_kept))
    }
}

/// What earlier programs added to a trace for themselves, if it is no longer than they may expect to be kept.
pub(crate) fn state_of(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(Trace::STATE)?.to_str().ok()?.trim();
    (!text.is_empty() && text.len() <= LONGEST_STATE).then(|| text.to_string())
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The trace of a request, and a step of its own; `None` if the system draws no numbers.
fn own(parent: Option<Parent>) -> Option<([u8; 16], [u8; 8])> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).ok()?;
    let mut trace = parent.map_or([0; 16], |parent| parent.trace);
    if parent.is_none() {
        getrandom::fill(&mut trace).ok()?;
    }
    Some((trace, id))
}

/// So many bytes in lower-case hexadecimal.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != 2 * N || !is_lower {
        return None;
    }
    let mut all = [0; N];
    for (at, byte) in all.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(all)
}

impl Tracing {
    /// A request for a model begins; `spans` keeps it unless the trace that it belongs to is not kept.
    pub(crate) fn begin(
        spans: Option<&Arc<dyn Spans>>,
        parent: Option<Parent>,
        operation: &'static str,
        model: &str,
    ) -> Tracing {
        let Some(spans) = spans.filter(|_| parent.is_none_or(|parent| parent.is_kept)) else {
            return Tracing(None);
        };
        let Some((trace, id)) = own(parent) else { return Tracing(None) };
        let span = Span {
            parent,
            trace,
            id,
            operation,
            model: model.chars().take(LONGEST_NAME).collect(),
            backend: None,
            max_tokens: None,
            sampling: None,
            answers: 1,
            begun: SystemTime::now(),
            took: Duration::ZERO,
            first_token: None,
            usage: None,
            ends: Vec::new(),
            error: None,
        };
        Tracing(Some(Open { spans: spans.clone(), since: Instant::now(), span, is_done: false }))
    }

    /// It goes to a backend.
    pub(crate) fn goes_to(&mut self, model: String, backend: &'static str) {
        let Some(open) = &mut self.0 else { return };
        (open.span.model, open.span.backend) = (model, Some(backend));
    }

    /// This is asked for.
    pub(crate) fn asks(&mut self, request: &Request) {
        let Some(open) = &mut self.0 else { return };
        open.span.max_tokens = request.limits.max_tokens;
        open.span.sampling = Some((request.sampling.temperature, request.sampling.top_p));
        open.span.answers = request.n;
    }

    /// Takes what answer `at` says.
    pub(crate) fn event(&mut self, at: usize, event: &Event) {
        let Some(Open { since, span, .. }) = &mut self.0 else { return };
        match event {
            Event::Text(_) | Event::Thinking(_) | Event::ToolCall(_) => {
                span.first_token.get_or_insert_with(|| since.elapsed());
            }
            Event::Usage(usage) => span.add(at, usage),
            Event::End(EndReason::Cancelled) => {}
            Event::End(reason) => span.ends.push(reason.as_str()),
            Event::Error(failure) => self.fail(failure),
            _ => {}
        }
    }

    /// Vectors were made.
    pub(crate) fn made(&mut self, usage: &Usage) {
        let Some(open) = &mut self.0 else { return };
        open.span.usage = Some(*usage);
        open.span.ends.push("stop");
    }

    /// It took this.
    pub(crate) fn took(&mut self, usage: &Usage) {
        let Some(open) = &mut self.0 else { return };
        open.span.usage = Some(*usage);
    }

    /// It is over, and nobody hears more of how: it went well, or failed.
    pub(crate) fn ends(&mut self, failure: Option<&Failure>) {
        failure.into_iter().for_each(|failure| self.fail(failure));
        self.0.iter_mut().for_each(|open| open.is_done = true);
    }

    /// What is told to a server elsewhere that it is a step of: this one, where it is kept; else what it was a step of
    /// itself.
    pub(crate) fn next(&self, peer: &Peer) -> Option<Trace> {
        let parent = match &self.0 {
            Some(open) => Parent { trace: open.span.trace, span: open.span.id, is_kept: true },
            None => peer.trace?,
        };
        let state = peer.trace.and(peer.trace_state.clone());
        Some(Trace { parent: parent.to_string(), state })
    }

    /// It failed.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        let Some(open) = &mut self.0 else { return };
        open.span.error = Some((word(failure), failure.message.clone()));
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        let Some(Open { spans, since, mut span, is_done }) = self.0.take() else { return };
        span.took = since.elapsed();
        if span.error.is_none() && span.ends.is_empty() && !is_done {
            span.error = Some(("cancelled", "nobody wanted the answer any more".into()));
        }
        spans.take(span);
    }
}

impl Span {
    /// Adds what an answer took. All have one prompt.
    fn add(&mut self, at: usize, usage: &Usage) {
        let all = self.usage.get_or_insert_default();
        all.generated_tokens = all.generated_tokens.saturating_add(usage.generated_tokens);
        if at == 0 {
            (all.prompt_tokens, all.cached_tokens) = (usage.prompt_tokens, usage.cached_tokens);
        }
    }
}

/// What a request asks for.
pub(crate) fn operation(request: &Request) -> &'static str {
    match request.input {
        Input::Messages(_) => "chat",
        Input::Prompt(_) | Input::Tokens(_) => "text_completion",
    }
}

/// Few words for all failures.
fn word(failure: &Failure) -> &'static str {
    use oprel_api::Cause;
    match (&failure.cause, failure.kind) {
        (Some(Cause::Busy), _) => "busy",
        (Some(Cause::ContextLength { .. }), _) => "context_length",
        (Some(Cause::Crashed), _) => "crashed",
        (_, ErrorKind::ModelNotFound) => "model_not_found",
        (_, ErrorKind::Download) => "download",
        (_, ErrorKind::Backend) => "backend",
        (_, ErrorKind::Memory) => "memory",
        (_, ErrorKind::Validation) => "validation",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Span>>);

    impl Spans for Kept {
        fn take(&self, span: Span) {
            self.0.lock().unwrap().push(span);
        }

        fn flush(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(std::future::ready(()))
        }
    }

    /// What is kept of a request that did this.
    fn kept(parent: Option<Parent>, does: impl FnOnce(&mut Tracing)) -> Vec<Span> {
        let kept = Arc::new(Kept::default());
        let spans: Arc<dyn Spans> = kept.clone();
        does(&mut Tracing::begin(Some(&spans), parent, "chat", "demo"));
        kept.0.lock().unwrap().clone()
    }

    #[test]
    fn a_parent_is_read_as_the_standard_has_it() {
        let one = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = Parent::parse(one).unwrap();
        assert_eq!((parent.trace[0], parent.span[7], parent.is_kept), (0x0a, 0x31, true));
        assert!(!Parent::parse(&one.replace("-01", "-00")).unwrap().is_kept);
        assert!(Parent::parse(&format!("01{}-more", &one[2..])).is_some());
        let wrong = [
            "",
            "00",
            &one[..one.len() - 1],
            &one.to_uppercase(),
            &format!("{one}-more"),
            &format!("ff{}", &one[2..]),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c8031+c-b7ad6b7169203331-01",
        ];
        assert!(wrong.iter().all(|text| Parent::parse(text).is_none()));
    }

    #[test]
    fn answers_are_summed_and_what_has_no_end_was_cancelled() {
        let usage =
            |n| Event::Usage(Usage { prompt_tokens: 5, generated_tokens: n, ..Usage::default() });
        let all = kept(None, |tracing| {
            let events = [Event::text("a"), usage(3), Event::End(EndReason::MaxTokens)];
            events.iter().for_each(|event| tracing.event(0, event));
            tracing.event(1, &usage(4));
            tracing.event(1, &Event::End(EndReason::EndOfText));
        });
        let usage = all[0].usage.unwrap();
        assert_eq!((usage.prompt_tokens, usage.generated_tokens), (5, 7));
        assert_eq!((&all[0].ends[..], all[0].error.is_none()), (&["length", "stop"][..], true));
        assert!(all[0].first_token.is_some());
        assert_eq!(kept(None, |_| {})[0].error.as_ref().unwrap().0, "cancelled");
        let failure = Failure::new(ErrorKind::Memory, "no room");
        assert_eq!(kept(None, |t| t.fail(&failure))[0].error.as_ref().unwrap().0, "memory");
    }

    #[test]
    fn a_trace_that_is_not_kept_is_not() {
        let parent = |is_kept| Some(Parent { trace: [1; 16], span: [2; 8], is_kept });
        assert!(kept(parent(false), |_| {}).is_empty());
        assert_eq!(kept(parent(true), |_| {})[0].parent, parent(true));
    }
}
