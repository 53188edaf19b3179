//! From a call of any dialect to its response: the model is found, the backend asked, what it says is said
//! in the dialect, as a stream or at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use oprel_api::dialect::{Call, Complaint, EmbedCall, Moment, Problem, Voice};
use oprel_api::{Answer, Cause, EndReason, ErrorKind, Event, Failure, Input, Think};
use oprel_backend::{Capability, Description, Events};
use serde_json::Value;

use crate::App;
use crate::metrics::{Outcome, Watch};
use crate::models::Lease;
use crate::name::Name;
use crate::peer::Peer;
use crate::routes::Note;
use crate::span::{self, Tracing};

/// How long a failure may take to show and still have a status of its own.
const FIRST_EVENT: Duration = Duration::from_secs(5);
/// Most names of ignored fields: they are the client's, and a header is not without end.
const MOST_IGNORED: usize = 32;
/// How long a client is asked to wait when the server is busy, in seconds.
const RETRY_AFTER: &str = "1";

/// A dialect's way to complain, and the one who is complained to.
#[derive(Clone, Copy)]
pub(crate) struct Speech {
    pub(crate) complaint: Complaint,
}

impl Speech {
    /// The response to a request that failed before it had an answer.
    pub(crate) fn fail(self, failure: Failure) -> Response {
        let status = status_of(&failure);
        tracing::info!(status = status.as_u16(), error = %failure, "refused");
        let busy = failure.cause == Some(Cause::Busy);
        let problem = Problem { status: status.as_u16(), failure, id: crate::id() };
        let mut response = json(status, &(self.complaint)(&problem));
        if busy {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}

/// The one place where a failure becomes a status.
pub(crate) fn status_of(failure: &Failure) -> StatusCode {
    match (&failure.cause, failure.kind) {
        (Some(Cause::Busy), _) => StatusCode::SERVICE_UNAVAILABLE,
        (Some(Cause::Unusable), _) => StatusCode::BAD_REQUEST,
        (_, ErrorKind::ModelNotFound) => StatusCode::NOT_FOUND,
        (_, ErrorKind::Validation) => StatusCode::BAD_REQUEST,
        (_, ErrorKind::Download) => StatusCode::BAD_GATEWAY,
        (_, ErrorKind::Memory) => StatusCode::SERVICE_UNAVAILABLE,
        (_, ErrorKind::Backend) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A JSON body.
pub(crate) fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let kind = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
            (status, kind, bytes).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Answers a call to generate.
pub(crate) async fn generate(
    app: &Arc<App>,
    peer: &Peer,
    speech: Speech,
    call: Call,
    note: Option<Note>,
) -> Response {
    let operation = span::operation(&call.request);
    let spans = app.options.spans.as_ref();
    let mut tracing = Some(Tracing::begin(spans, peer.trace, operation, &call.model));
    match try_generate(app, peer, call, note, &mut tracing).await {
        Ok(response) => response,
        Err(failure) => {
            // Whoever took it was told of the failure by an event.
            tracing.iter_mut().for_each(|tracing| tracing.fail(&failure));
            speech.fail(failure)
        }
    }
}

async fn try_generate(
    app: &Arc<App>,
    peer: &Peer,
    mut call: Call,
    note: Option<Note>,
    tracing: &mut Option<Tracing>,
) -> Result<Response, Failure> {
    let received = Instant::now();
    let name = Name::parse(&call.model, peer.trusted)?;
    let lease = app.models.lease(name.clone(), &call.stay).await?;
    tracing.iter_mut().for_each(|t| t.goes_to(name.label(), lease.backend().kind()));
    let description = lease.backend().describe();
    let preset = lease.preset();
    preset.fill(&mut call.request);
    fit(&mut call, &name, &description)?;
    let mut request = call.request;
    request.sampling = call.wish.over(preset.sampling(description.suggested.over(call.base)));
    request.limits.context = request.limits.context.or(app.options.context);
    let context = request.limits.context.unwrap_or(u32::MAX).min(description.context);
    oprel_api::ollama::bound(&mut request.limits, context);
    if request.client.is_empty() {
        request.client.clone_from(&peer.client);
    }
    tracing.iter_mut().for_each(|t| t.asks(&request));
    request.trace = tracing.as_ref().and_then(|t| t.next(peer));
    let mut watch = app.metrics.request(&name.label(), lease.backend().kind());
    let streams = match lease.backend().generate(request).await {
        Ok(streams) => streams,
        Err(failure) => {
            watch.end(Outcome::of_failure(&failure));
            return Err(named(failure, &name));
        }
    };
    let moment = moment(&name);
    let head = Head { backend: lease.backend().kind(), ignored: call.ignored };
    let load_ns = u64::try_from(lease.waited.as_nanos()).unwrap_or(u64::MAX);
    let mut talk = Talk {
        streams: streams.into_iter().map(Some).collect(),
        heard: None,
        voice: call.voice,
        moment,
        begun: false,
        load_ns,
        watch,
        tracing: tracing.take(),
        note,
        _lease: lease,
    };
    if !call.stream {
        return talk.whole(head).await;
    }
    // A failure that shows at once has a status; later it is part of the stream.
    let first = tokio::time::timeout(
        FIRST_EVENT.saturating_sub(received.elapsed()),
        std::future::poll_fn(|cx| talk.poll_next_event(cx)),
    );
    match first.await {
        Ok(Some((_, Event::Error(failure)))) => {
            talk.watch.end(Outcome::of_failure(&failure));
            return Err(failure);
        }
        Ok(first) => talk.heard = first,
        Err(_) => {}
    }
    Ok(talk.streamed(head))
}

/// Refuses, in the words of the field, what this model cannot do.
fn fit(call: &mut Call, name: &Name, model: &Description) -> Result<(), Failure> {
    let lacks = |what: &str| {
        let message = format!("\"{name}\" does not support {what}");
        Failure::new(ErrorKind::Validation, message).because(Cause::Incapable(what.into()))
    };
    if model.only_embeds {
        return Err(lacks(match call.request.input {
            Input::Messages(_) => "chat",
            _ => "generate",
        }));
    }
    let can = |what| model.capabilities.contains(&what);
    let lenient = call.lenient_thinking;
    let (think, tools, images) = match &mut call.request.input {
        Input::Messages(chat) => {
            let images = chat.messages.iter().any(|m| m.content.has_media());
            (Some(&mut chat.think), !chat.tools.is_empty(), images)
        }
        Input::Prompt(prompt) => (Some(&mut prompt.think), false, !prompt.media.is_empty()),
        Input::Tokens(_) => (None, false, false),
    };
    if images {
        return Err(lacks("vision"));
    }
    if tools && !can(Capability::Tools) {
        return Err(lacks("tools"));
    }
    if let Some(think) = think.filter(|_| !can(Capability::Thinking)) {
        match think {
            Some(Think::Off) => *think = None,
            Some(_) if lenient => *think = None,
            Some(_) => return Err(lacks("thinking")),
            None => {}
        }
        if lenient && think.is_none() {
            call.request.limits.max_thinking_tokens = None;
        }
    }
    Ok(())
}

/// A failure of the backend in the words of the field, where it has some.
fn named(failure: Failure, name: &Name) -> Failure {
    match &failure.cause {
        Some(Cause::Incapable(field)) => {
            let what = match field.as_str() {
                "think" => "thinking",
                "suffix" => "insert",
                other => other,
            };
            let message = format!("\"{name}\" does not support {what}");
            Failure { message, ..failure }
        }
        Some(Cause::Busy) => crate::models::busy(),
        _ => failure,
    }
}

/// Now, and an id nobody can guess.
pub(crate) fn moment(name: &Name) -> Moment {
    Moment { unix_ns: unix_ns(), id: crate::id(), model: name.to_string(), prompt_tokens: None }
}

pub(crate) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What every answer says of itself in its headers.
pub(crate) struct Head {
    pub(crate) backend: &'static str,
    pub(crate) ignored: Vec<String>,
}

impl Head {
    pub(crate) fn write(&self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.insert("x-oprel-backend", HeaderValue::from_static(self.backend));
        let names: Vec<String> = self
            .ignored
            .iter()
            .take(MOST_IGNORED)
            .map(|n| n.escape_default().to_string())
            .collect();
        if let (false, Ok(value)) = (names.is_empty(), HeaderValue::from_str(&names.join(", "))) {
            headers.insert("x-oprel-ignored", value);
        }
    }
}

/// An answer under way. Dropping it, as when the client goes away, cancels it.
struct Talk {
    streams: Vec<Option<Events>>,
    /// An event that was looked at before.
    heard: Option<(usize, Event)>,
    voice: Box<dyn Voice>,
    moment: Moment,
    begun: bool,
    load_ns: u64,
    watch: Watch,
    tracing: Option<Tracing>,
    note: Option<Note>,
    _lease: Lease,
}

impl Talk {
    /// The next event of any of the answers; `None` when all are over.
    fn poll_next_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, Event)>> {
        if let Some(heard) = self.heard.take() {
            return Poll::Ready(Some(heard));
        }
        let mut open = false;
        for (at, stream) in self.streams.iter_mut().enumerate() {
            let Some(events) = stream else { continue };
            match events.poll_event(cx) {
                Poll::Ready(Some(mut event)) => {
                    if let Event::Usage(usage) = &mut event {
                        usage.load_ns = self.load_ns;
                        usage.total_ns += self.load_ns;
                    }
                    self.watch.event(at, &event);
                    self.tracing.iter_mut().for_each(|tracing| tracing.event(at, &event));
                    if let Some(note) = self.note.as_mut().filter(|_| at == 0) {
                        note.event(&event);
                    }
                    if event.is_last() {
                        *stream = None;
                    }
                    return Poll::Ready(Some((at, event)));
                }
                Poll::Ready(None) => *stream = None,
                Poll::Pending => open = true,
            }
        }
        if open { Poll::Pending } else { Poll::Ready(None) }
    }

    /// The answer as it comes.
    fn streamed(self, head: Head) -> Response {
        let kind = self.voice.stream_type();
        let mut response = Response::new(Body::from_stream(self));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        head.write(&mut response);
        response
    }

    /// The whole answer.
    async fn whole(mut self, head: Head) -> Result<Response, Failure> {
        let mut answers = vec![Answer::default(); self.streams.len()];
        while let Some((at, event)) = std::future::poll_fn(|cx| self.poll_next_event(cx)).await {
            answers[at].push(event)?;
        }
        let body = self.voice.whole(&self.moment, answers);
        let mut response = json(StatusCode::OK, &body);
        head.write(&mut response);
        Ok(response)
    }
}

impl Stream for Talk {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.begun, true) {
            let bytes = this.voice.begin(&this.moment);
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(bytes.into())));
            }
        }
        loop {
            let Some((at, event)) = ready!(this.poll_next_event(cx)) else {
                return Poll::Ready(None);
            };
            this.moment.unix_ns = unix_ns();
            if matches!(event, Event::Error(_)) {
                // The others are of no use to a client that was told of a failure.
                this.streams.iter_mut().for_each(|s| *s = None);
            }
            let bytes = this.voice.say(&this.moment, at, event);
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(bytes.into())));
            }
        }
    }
}

/// Answers a call for vectors.
pub(crate) async fn embed(
    app: &Arc<App>,
    peer: &Peer,
    speech: Speech,
    call: EmbedCall,
) -> Response {
    let spans = app.options.spans.as_ref();
    let mut tracing = Tracing::begin(spans, peer.trace, "embeddings", &call.model);
    match try_embed(app, peer, call, &mut tracing).await {
        Ok(response) => response,
        Err(failure) => {
            tracing.fail(&failure);
            speech.fail(failure)
        }
    }
}

async fn try_embed(
    app: &Arc<App>,
    peer: &Peer,
    mut call: EmbedCall,
    tracing: &mut Tracing,
) -> Result<Response, Failure> {
    let name = Name::parse(&call.model, peer.trusted)?;
    let lease = app.models.lease(name.clone(), &call.stay).await?;
    tracing.goes_to(name.label(), lease.backend().kind());
    let mut watch = app.metrics.request(&name.label(), lease.backend().kind());
    call.request.trace = tracing.next(peer);
    call.request.context = call.request.context.or(call.stay.context);
    let made = lease.backend().embed(call.request).await;
    let mut made = match made {
        Ok(made) => made,
        Err(failure) => {
            watch.end(Outcome::of_failure(&failure));
            let too_long = matches!(failure.cause, Some(Cause::ContextLength { .. }));
            let message = "the input length exceeds the context length".to_string();
            return Err(if too_long { Failure { message, ..failure } } else { failure });
        }
    };
    watch.end(Outcome::Stop);
    made.usage.load_ns = u64::try_from(lease.waited.as_nanos()).unwrap_or(u64::MAX);
    made.usage.total_ns += made.usage.load_ns;
    if made.vectors.iter().flatten().any(|x| !x.is_finite()) {
        return Err(Failure::new(ErrorKind::Backend, "the model gave vectors that are no numbers"));
    }
    tracing.made(&made.usage);
    let head = Head { backend: lease.backend().kind(), ignored: call.ignored };
    let mut moment = moment(&name);
    moment.prompt_tokens = Some(made.usage.prompt_tokens);
    let mut response = json(StatusCode::OK, &(call.voice)(&moment, made));
    head.write(&mut response);
    Ok(response)
}

/// Counts the tokens of a call's prompt.
pub(crate) async fn count(app: &Arc<App>, peer: &Peer, call: Call) -> Result<usize, Failure> {
    let spans = app.options.spans.as_ref();
    let mut tracing = Tracing::begin(spans, peer.trace, "tokenize", &call.model);
    let counted = try_count(app, peer, call, &mut tracing).await;
    tracing.ends(counted.as_ref().err());
    counted
}

async fn try_count(
    app: &Arc<App>,
    peer: &Peer,
    mut call: Call,
    tracing: &mut Tracing,
) -> Result<usize, Failure> {
    let name = Name::parse(&call.model, peer.trusted)?;
    let lease = app.models.lease(name.clone(), &call.stay).await?;
    tracing.goes_to(name.label(), lease.backend().kind());
    call.request.trace = tracing.next(peer);
    lease.preset().fill(&mut call.request);
    fit(&mut call, &name, &lease.backend().describe())?;
    Ok(lease.backend().prompt_tokens(call.request).await?.len())
}

/// The word of an end, for metrics.
pub(crate) fn outcome(reason: &EndReason) -> Outcome {
    match reason {
        EndReason::Cancelled => Outcome::Cancelled,
        EndReason::Deadline => Outcome::Timeout,
        reason if reason.is_natural() => Outcome::Stop,
        _ => Outcome::Length,
    }
}

/// A body as a JSON value, for routes of our own.
pub(crate) fn object(body: &[u8]) -> Result<serde_json::Map<String, Value>, Failure> {
    let wrong = |message: String| Failure::new(ErrorKind::Validation, message);
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(wrong("missing request body".into()));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(wrong("the body must be a JSON object".into())),
        Err(error) => Err(wrong(error.to_string())),
    }
}
