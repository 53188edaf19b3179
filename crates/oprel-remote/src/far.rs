//! One server, over HTTP: requests to routes that are known here, and what went wrong with them.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use oprel_api::{Cause, ErrorKind, Failure, Trace};
use oprel_client::{Connect, DISTRUST, innermost};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Address;

/// Most bytes of an answer that does not stream, and of one that says what is wrong.
const MOST_BODY: usize = 64 << 20;
const MOST_ERROR: usize = 64 << 10;
/// How long a busy server is left alone if it does not say.
const USUAL_REST: Duration = Duration::from_secs(1);

/// A server.
#[derive(Debug)]
pub(crate) struct Far {
    address: Address,
    name: String,
    key: Option<HeaderValue>,
    http: legacy::Client<Connect, Full<Bytes>>,
}

/// Why a request had no answer.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) failure: Failure,
    pub(crate) kind: Kind,
}

/// What a refusal says of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It was not reached, or went away before it answered.
    Gone,
    /// It has too much to do, and asks to be left alone for so long.
    Busy(Duration),
    /// It failed.
    Ill,
    /// It is well; the request is at fault.
    Well,
    /// It is well, and cannot do this, or not with this model.
    Lacks,
}

impl Kind {
    /// Whether another server may do better, and nothing was done yet.
    pub(crate) fn may_go_elsewhere(self) -> bool {
        matches!(self, Kind::Gone | Kind::Busy(_))
    }
}

impl Far {
    /// A server that is sent this key, if there is one.
    ///
    /// # Errors
    /// If the key cannot stand in a header.
    pub(crate) fn new(address: Address, key: Option<&str>) -> Result<Far, Failure> {
        let bearer = |key: &str| -> Result<HeaderValue, Failure> {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
                let message = "the key of a server has characters that no header can have";
                Failure::new(ErrorKind::Validation, message)
            })?;
            value.set_sensitive(true);
            Ok(value)
        };
        let key = key.map(bearer).transpose()?;
        let connect = Connect::new(address.endpoint.clone());
        let http = legacy::Client::builder(TokioExecutor::new())
            // One that was kept, and that the server just closed, would look like a server that failed.
            .pool_max_idle_per_host(0)
            .build(connect);
        Ok(Far { name: address.to_string(), address, key, http })
    }

    /// Its address, as users read it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends a request, which may be a step of a trace, and gives its answer once that has begun and is no refusal.
    pub(crate) async fn send(
        &self,
        path: &str,
        body: Option<&Value>,
        trace: Option<&Trace>,
    ) -> Result<Response<Incoming>, Refusal> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::builder()
            .method(method)
            .uri(self.address.endpoint.uri(&format!("{}{path}", self.address.base)))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream, application/json");
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key);
        }
        if let Some(Trace { parent, state }) = trace {
            request = request.header(Trace::PARENT, parent);
            request =
                state.iter().fold(request, |request, state| request.header(Trace::STATE, state));
        }
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let request = request
            .body(Full::new(bytes.into()))
            .map_err(|e| self.refusal(Kind::Well, &e.to_string()))?;
        let response = self.http.request(request).await;
        let response = response.map_err(|e| self.unheard(&e))?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(self.refused(response).await),
        }
    }

    /// Sends a request, and reads its answer.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&Value>,
        trace: Option<&Trace>,
    ) -> Result<T, Refusal> {
        let response = self.send(path, body, trace).await?;
        let body = Limited::new(response.into_body(), MOST_BODY).collect().await;
        let bytes = body.map_err(|e| self.refusal(Kind::Ill, &e.to_string()))?.to_bytes();
        let unread = |e: serde_json::Error| format!("its answer cannot be read: {e}");
        serde_json::from_slice(&bytes).map_err(|e| self.refusal(Kind::Ill, &unread(e)))
    }

    /// Whether it says that it is well.
    pub(crate) async fn is_well(&self, path: &str) -> Result<(), Refusal> {
        self.send(path, None, None).await.map(drop)
    }

    /// A request that nobody answered.
    fn unheard(&self, error: &legacy::Error) -> Refusal {
        let why = innermost(error);
        if !oprel_tls::is_refusal(error) {
            return self.refusal(Kind::Gone, &format!("it does not answer: {why}"));
        }
        let mut refusal = self.refusal(Kind::Gone, &format!("it is not trusted: {why}"));
        refusal.failure.hint = Some(DISTRUST.into());
        refusal
    }

    /// A refusal in words.
    pub(crate) fn refusal(&self, kind: Kind, what: &str) -> Refusal {
        let failure = Failure::new(ErrorKind::Backend, format!("{}: {what}", self.name));
        Refusal { failure, kind }
    }

    async fn refused(&self, response: Response<Incoming>) -> Refusal {
        let status = response.status();
        let header = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        let rest = header.and_then(|v| v.trim().parse().ok()).map(Duration::from_secs);
        let body = Limited::new(response.into_body(), MOST_ERROR).collect().await;
        let bytes = body.map(|b| b.to_bytes()).unwrap_or_default();
        let mut refusal = refusal(status, rest, &bytes);
        refusal.failure.message = format!("{}: {}", self.name, refusal.failure.message);
        refusal
    }
}

/// What a status and its body mean.
fn refusal(status: StatusCode, rest: Option<Duration>, body: &[u8]) -> Refusal {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &value["error"];
    let text = [&error["message"], error, &value["message"], &value["detail"]];
    let text = text.into_iter().find_map(Value::as_str).map(str::to_string);
    let plain = || String::from_utf8_lossy(body).trim().chars().take(300).collect::<String>();
    let message = text.unwrap_or_else(plain);
    let message = if message.is_empty() { format!("status {status}") } else { message };
    let failure = |kind| Failure::new(kind, message.clone());
    match status.as_u16() {
        429 | 503 => Refusal {
            failure: failure(ErrorKind::Backend).because(Cause::Busy),
            kind: Kind::Busy(rest.unwrap_or(USUAL_REST)),
        },
        502 | 504 => Refusal { failure: failure(ErrorKind::Backend), kind: Kind::Gone },
        401 | 403 => {
            let hint = "give its key in the environment: see `oprel serve --help`".to_string();
            let failure = Failure { hint: Some(hint), ..failure(ErrorKind::Backend) };
            Refusal { failure, kind: Kind::Well }
        }
        404 | 405 => Refusal { failure: failure(ErrorKind::Backend), kind: Kind::Lacks },
        400..500 => {
            let failure = failure(ErrorKind::Validation);
            let failure = match too_long(error, &message) {
                Some(cause) => failure.because(cause),
                None => failure,
            };
            Refusal { failure, kind: Kind::Well }
        }
        _ if status == StatusCode::NOT_IMPLEMENTED => {
            Refusal { failure: failure(ErrorKind::Backend), kind: Kind::Lacks }
        }
        _ => Refusal { failure: failure(ErrorKind::Backend), kind: Kind::Ill },
    }
}

/// A prompt that is longer than the context, by both numbers.
fn too_long(error: &Value, message: &str) -> Option<Cause> {
    let number = |key: &str| error[key].as_u64().and_then(|n| u32::try_from(n).ok());
    if let (Some(prompt), Some(context)) = (number("n_prompt_tokens"), number("n_ctx")) {
        return Some(Cause::ContextLength { prompt, context });
    }
    // vLLM and SGLang say both in words, the context first.
    if !message.contains("context length") {
        return None;
    }
    let words = message.split(|c: char| !c.is_ascii_digit());
    let mut numbers = words.filter_map(|word| word.parse::<u32>().ok());
    let (context, prompt) = (numbers.next()?, numbers.next()?);
    // vLLM does not tokenize what has too many characters for any tokens, and says how many a token has at most.
    let prompt = match (numbers.next(), numbers.next()) {
        (Some(most), Some(tokens)) if message.contains("characters") && most > 0 => {
            let least = (u64::from(prompt) * u64::from(tokens)).div_ceil(u64::from(most));
            u32::try_from(least).unwrap_or(u32::MAX)
        }
        _ => prompt,
    };
    Some(Cause::ContextLength { prompt, context })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> Refusal {
        refusal(StatusCode::from_u16(status).unwrap(), None, body.as_bytes())
    }

    #[test]
    fn a_status_says_whose_fault_it_is() {
        let table = [
            (429, Kind::Busy(USUAL_REST)),
            (503, Kind::Busy(USUAL_REST)),
            (502, Kind::Gone),
            (500, Kind::Ill),
            (400, Kind::Well),
            (404, Kind::Lacks),
            (501, Kind::Lacks),
            (401, Kind::Well),
        ];
        for (status, kind) in table {
            assert_eq!(said(status, "").kind, kind, "{status}");
        }
        assert_eq!(said(400, "").failure.kind, ErrorKind::Validation);
        assert_eq!(said(401, "").failure.kind, ErrorKind::Backend);
        assert_eq!(said(503, "").failure.cause, Some(Cause::Busy));
    }

    #[test]
    fn messages_are_found_wherever_they_are() {
        let message = |body| said(400, body).failure.message;
        assert_eq!(message(r#"{"error":{"message":"a","code":400}}"#), "a");
        assert_eq!(message(r#"{"error":"b"}"#), "b");
        assert_eq!(message(r#"{"detail":"c"}"#), "c");
        assert_eq!(message("<html>"), "<html>");
        assert_eq!(message(""), "status 400 Bad Request");
    }

    #[test]
    fn a_prompt_that_is_too_long_is_known_by_both_numbers() {
        let llama = r#"{"error":{"code":400,"message":"m","type":"exceed_context_size_error",
            "n_prompt_tokens":20002,"n_ctx":4096}}"#;
        let vllm = r#"{"error":{"message":"This model's maximum context length is 512 tokens. However,
            you requested 600 tokens in the messages."}}"#;
        let cause = |prompt, context| Some(Cause::ContextLength { prompt, context });
        assert_eq!(said(400, llama).failure.cause, cause(20002, 4096));
        assert_eq!(said(400, vllm).failure.cause, cause(600, 512));
        let characters = r#"{"error":{"message":"This model's maximum context length is 4096 tokens. However, your prompt
            contains 100050 characters (more than 53248 characters, which is the upper bound for 4096 input tokens).
            (parameter=input_text, value=100050)"}}"#;
        assert_eq!(said(400, &characters.replace('\n', " ")).failure.cause, cause(7697, 4096));
        assert_eq!(said(400, "{}").failure.cause, None);
    }
}
