//! Who sends a request, and whether it may: names of hosts, origins of pages.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use oprel_api::dialect::Problem;
use oprel_api::{ErrorKind, Failure};

use crate::App;
use crate::keys::Scope;
use crate::span::{self, Parent};

/// How a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a Unix socket or a named pipe, which only its owner can open.
    Socket,
}

/// Who sends a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Clients share an engine fairly.
    pub(crate) client: String,
    /// Whose conversations it sees: those of its key, or of all who need none.
    pub(crate) owner: String,
    /// Whether it may name files of this machine.
    pub(crate) trusted: bool,
    /// What its request is a step of.
    pub(crate) trace: Option<Parent>,
    /// What earlier programs added to that trace.
    pub(crate) trace_state: Option<String>,
}

/// Names by which this server may be called, and pages that may call it.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// Names of hosts besides the loopback's.
    pub hosts: HashSet<String>,
    /// Origins of pages besides those of this machine, each with at most one `*`.
    pub origins: Vec<String>,
}

/// Schemes of programs that show pages from this machine.
const LOCAL_SCHEMES: &[&str] =
    &["app://", "file://", "tauri://", "vscode-webview://", "vscode-file://"];

/// How long a browser may remember an answer to a preflight, in seconds.
const MAX_AGE: &str = "43200";

const METHODS: &str = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS";
const HEADERS: &str = "Authorization, Content-Type, User-Agent, Accept, X-Requested-With, X-Api-Key, \
    Anthropic-Version, Anthropic-Beta, OpenAI-Beta, X-Request-Id, X-Stainless-Arch, \
    X-Stainless-Async, X-Stainless-Custom-Poll-Interval, X-Stainless-Helper-Method, X-Stainless-Lang, \
    X-Stainless-Os, X-Stainless-Package-Version, X-Stainless-Poll-Helper, X-Stainless-Retry-Count, \
    X-Stainless-Runtime, X-Stainless-Runtime-Version, X-Stainless-Timeout, Traceparent, Tracestate";

impl Gate {
    /// Whether a request may name this host: a page of another name that points here is not let in.
    fn knows(&self, host: &str) -> bool {
        let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
        if let Ok(ip) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return ip.is_loopback() || self.hosts.contains(&ip.to_string());
        }
        name == "localhost" || name.ends_with(".localhost") || self.hosts.contains(&name)
    }

    /// Whether a page of this origin may call.
    fn allows(&self, origin: &str) -> bool {
        let local = |rest: &str| {
            let name = without_port(rest);
            matches!(name, "localhost" | "127.0.0.1" | "[::1]" | "0.0.0.0")
        };
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(local)
            || LOCAL_SCHEMES.iter().any(|s| origin.starts_with(s))
            || self.origins.iter().any(|pattern| fits(pattern, origin))
    }
}

/// Whether a text is a pattern's, whose star stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern.eq_ignore_ascii_case(text),
        Some((head, tail)) => {
            text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail)
        }
    }
}

/// A host without its port.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        // The colons of an address in brackets are not a port's.
        Some(at)
            if !host[at..].contains(']') && host[at + 1..].bytes().all(|b| b.is_ascii_digit()) =>
        {
            &host[..at]
        }
        _ => host,
    }
}

/// Looks at where a request comes from before anything else.
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let from = request.extensions().get::<From>().copied();
    let gate = &app.options.gate;
    if matches!(from, Some(From::Tcp(_))) && !host_of(&request).is_some_and(|h| gate.knows(&h)) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let headers = request.headers();
    let origin = headers.get(header::ORIGIN).cloned();
    let foreign = match &origin {
        Some(origin) => !origin.to_str().is_ok_and(|o| gate.allows(o)),
        // A browser tells where a request comes from even where it names no origin.
        None => headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site"),
    };
    if foreign {
        return StatusCode::FORBIDDEN.into_response();
    }
    if let (Some(origin), &Method::OPTIONS) = (&origin, request.method()) {
        let mut response = StatusCode::NO_CONTENT.into_response();
        allow(response.headers_mut(), origin);
        return response;
    }
    let mut response = match admit(&app, &request, from) {
        Ok(peer) => {
            let peer = Peer {
                trace: Parent::of(request.headers()),
                trace_state: span::state_of(request.headers()),
                ..peer
            };
            request.extensions_mut().insert(peer);
            next.run(request).await
        }
        Err(refused) => *refused,
    };
    if let Some(origin) = &origin {
        allow(response.headers_mut(), origin);
    }
    response
}

/// Who it is, if it may do what it asks for.
fn admit(app: &App, request: &Request, from: Option<From>) -> Result<Peer, Box<Response>> {
    let headers = request.headers();
    let relayed = ["forwarded", "x-forwarded-for"].iter().any(|name| headers.contains_key(*name));
    let (near, client) = match from {
        Some(From::Tcp(address)) => {
            (address.ip().to_canonical().is_loopback() && !relayed, address.ip().to_string())
        }
        _ => (true, String::new()),
    };
    // A page, even one of this machine, names no files.
    let here = near && !headers.contains_key(header::ORIGIN);
    let over_socket = from == Some(From::Socket);
    let free = over_socket || (near && !app.options.keys_for_all) || app.options.keys.never_were();
    let path = request.uri().path();
    let Some(needed) = scope_of(path) else {
        return Ok(Peer { client, ..Peer::default() });
    };
    if let Some(key) = sent_key(headers).and_then(|text| app.options.keys.find(text)) {
        return match key.allows(needed) {
            true => Ok(Peer {
                client: key.id.clone(),
                trusted: key.allows(Scope::Admin),
                owner: key.id,
                ..Peer::default()
            }),
            false => {
                let message = format!("this key has no scope '{}'", needed.as_str());
                Err(Box::new(refuse(path, StatusCode::FORBIDDEN, message)))
            }
        };
    }
    match free {
        // Clients of the field send words as keys where none is asked for.
        true => Ok(Peer { client, trusted: here, ..Peer::default() }),
        false => {
            let message = "a key is needed: `Authorization: Bearer opk_...`".to_string();
            Err(Box::new(refuse(path, StatusCode::UNAUTHORIZED, message)))
        }
    }
}

/// The key that a client sent.
fn sent_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let bearer = bearer.and_then(|v| v.strip_prefix("Bearer ").or(v.strip_prefix("bearer ")));
    bearer.or_else(|| headers.get("x-api-key")?.to_str().ok()).map(str::trim)
}

/// What a route needs; `None` for those that tell nothing but that somebody is there.
fn scope_of(path: &str) -> Option<Scope> {
    match path {
        "/" | "/api/version" | "/openapi.json" | "/health" | "/health/live" | "/health/ready" => {
            None
        }
        "/metrics" => Some(Scope::Metrics),
        "/load" | "/unload" => Some(Scope::ModelsWrite),
        "/models" | "/api/tags" | "/api/ps" | "/api/show" | "/v1/models" => Some(Scope::ModelsRead),
        "/api/create" | "/api/copy" | "/api/delete" | "/api/pull" | "/api/push" => {
            Some(Scope::ModelsWrite)
        }
        _ if path.starts_with("/v1/models/") => Some(Scope::ModelsRead),
        _ if path.starts_with("/api/blobs/") => Some(Scope::ModelsWrite),
        _ => Some(Scope::Chat),
    }
}

/// A refusal in the words of the route's dialect.
fn refuse(path: &str, status: StatusCode, message: String) -> Response {
    let complaint: oprel_api::dialect::Complaint = match path {
        _ if path.starts_with("/v1/messages") => oprel_api::anthropic::complaint,
        _ if path.starts_with("/v1/") => oprel_api::openai::complaint,
        _ => oprel_api::ollama::complaint,
    };
    let failure = Failure::new(ErrorKind::Validation, message);
    let problem = Problem { status: status.as_u16(), failure, id: crate::id() };
    crate::answer::json(status, &complaint(&problem))
}

/// The host that a request names, once.
fn host_of(request: &Request) -> Option<String> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str().to_string());
    }
    let mut all = request.headers().get_all(header::HOST).iter();
    match (all.next(), all.next()) {
        (Some(host), None) => host.to_str().ok().map(str::to_string),
        _ => None,
    }
}

fn allow(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    let exposed = HeaderValue::from_static("x-oprel-ignored, x-oprel-backend, x-request-id");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_known() {
        let mut gate = Gate::default();
        for host in [
            "localhost",
            "localhost:11434",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:11434",
            "a.localhost",
        ] {
            assert!(gate.knows(host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:11434", "192.168.0.2", "0.0.0.0", "", "localhost.evil"]
        {
            assert!(!gate.knows(host), "{host}");
        }
        gate.hosts.insert("box.lan".into());
        gate.hosts.insert("192.168.0.2".into());
        assert!(gate.knows("BOX.lan:80") && gate.knows("192.168.0.2:11434"));
    }

    #[test]
    fn pages_of_this_machine_may_call_and_others_if_they_are_allowed() {
        let mut gate = Gate::default();
        for origin in ["http://localhost:3000", "https://127.0.0.1", "app://x", "file://"] {
            assert!(gate.allows(origin), "{origin}");
        }
        for origin in ["https://evil.example", "null", "http://localhost.evil", "http://[::2]:1"] {
            assert!(!gate.allows(origin), "{origin}");
        }
        gate.origins = vec!["https://*.good.example".into()];
        assert!(gate.allows("https://a.good.example") && !gate.allows("https://good.example.evil"));
    }
}
