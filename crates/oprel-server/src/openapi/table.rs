//! All routes: what they are for, what they read, what they answer.

use super::fields::*;

/// A route and a method.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    /// As the router writes it.
    pub(super) path: &'static str,
    /// In lower case, as OpenAPI writes it.
    pub(super) method: &'static str,
    /// Whose dialect it is.
    pub(super) tag: &'static str,
    /// What it is for.
    pub(super) says: &'static str,
    /// Fields of its body.
    pub(super) fields: &'static [&'static [Field]],
    /// The least body that it takes; its fields are required.
    pub(super) usual: Option<&'static str>,
    /// Fields behind its path.
    pub(super) query: &'static [Field],
    /// Content type of its answer.
    pub(super) answer: &'static str,
    /// And of its stream, where it has one.
    pub(super) stream: Option<&'static str>,
}

const JSON: &str = "application/json";
const LINES: Option<&str> = Some("application/x-ndjson");
const SSE: Option<&str> = Some("text/event-stream");

/// A route that is only read.
const fn get(tag: &'static str, path: &'static str, says: &'static str) -> Route {
    let (fields, query): (&[&[Field]], &[Field]) = (&[], &[]);
    Route { path, method: "get", tag, says, fields, usual: None, query, answer: JSON, stream: None }
}

/// A route that takes a body.
const fn post(
    tag: &'static str,
    path: &'static str,
    says: &'static str,
    usual: &'static str,
    fields: &'static [&'static [Field]],
) -> Route {
    Route { method: "post", usual: Some(usual), fields, ..get(tag, path, says) }
}

const fn streams(route: Route, stream: Option<&'static str>) -> Route {
    Route { stream, ..route }
}

const fn plain(route: Route) -> Route {
    Route { answer: "text/plain", ..route }
}

const DEMO: &str = r#"{"model": "demo"}"#;
const STORED: &str = r#"{"model": "mine"}"#;
const MADE: &str = r#"{"model": "mine", "from": "base"}"#;
const COPIED: &str = r#"{"source": "mine", "destination": "yours"}"#;
const ASK: &str = r#"{"model": "demo", "prompt": "Hi"}"#;
const TALK_TO: &str = r#"{"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}"#;
const ASK_CLAUDE: &str =
    r#"{"model": "demo", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]}"#;
const TEXT: &str = r#"{"model": "demo", "text": "Hi"}"#;
const TOKENS: &str = r#"{"model": "demo", "tokens": [1]}"#;
const RANK: &str = r#"{"model": "demo", "query": "q", "documents": ["a"]}"#;
const INPUT: &str = r#"{"model": "demo", "input": "Hi"}"#;
const OWN_REQUEST: &str =
    r#"{"model": "demo", "request": {"input": {"tokens": [1]}, "limits": {"max_tokens": 2}}}"#;

const OWN_LOAD: &str = r#"{"model": "demo", "request": {}}"#;
const OWN_EMBED: &str =
    r#"{"model": "demo", "request": {"input": ["Hi"], "truncate": true, "normalize": true}}"#;
const OWN_RANK: &str =
    r#"{"model": "demo", "request": {"query": "q", "documents": ["a"], "truncate": true}}"#;
const OWN_TEXT: &str =
    r#"{"model": "demo", "request": {"text": "Hi", "add_special": true, "parse_special": false}}"#;
const OWN_TOKENS: &str = r#"{"model": "demo", "request": {"tokens": [1]}}"#;

/// All routes.
pub(super) const ROUTES: &[Route] = &[
    plain(get("ollama", "/", "Whether somebody is there")),
    get("ollama", "/api/version", "The version of the dialect"),
    get("ollama", "/api/tags", "Models that have a name"),
    get("ollama", "/api/ps", "Models that are loaded"),
    get("ollama", "/api/status", "Whether a service elsewhere is used: it never is"),
    post("ollama", "/api/me", "Who is signed in: nobody", "{}", &[]),
    post("ollama", "/api/show", "What a model is", DEMO, &[MODEL, SHOW]),
    streams(
        post(
            "ollama",
            "/api/generate",
            "Answers a prompt",
            ASK,
            &[MODEL, PROMPT, GENERATE, OLLAMA],
        ),
        LINES,
    ),
    streams(
        post("ollama", "/api/chat", "Answers a conversation", TALK_TO, &[MODEL, CHAT, OLLAMA]),
        LINES,
    ),
    post(
        "ollama",
        "/api/embed",
        "Makes vectors of texts",
        INPUT,
        &[MODEL, &[Field("input", r#"["a", "b"]"#, "A text, or a list")], EMBED],
    ),
    post("ollama", "/api/embeddings", "Makes a vector of a text", ASK, &[MODEL, PROMPT]),
    streams(post("ollama", "/api/pull", "Fetches a model", DEMO, &[MODEL, TRANSFER]), LINES),
    streams(
        post("ollama", "/api/push", "Gives a model to its registry", STORED, &[MODEL, TRANSFER]),
        LINES,
    ),
    streams(
        post(
            "ollama",
            "/api/create",
            "Makes a model of others or of files",
            MADE,
            &[MODEL, CREATE],
        ),
        LINES,
    ),
    post("ollama", "/api/copy", "Gives a model a further name", COPIED, &[COPY]),
    Route {
        method: "delete",
        ..post("ollama", "/api/delete", "Removes a model", STORED, &[MODEL])
    },
    Route { method: "head", ..get("ollama", "/api/blobs/{digest}", "Whether a file is there") },
    Route { method: "post", ..get("ollama", "/api/blobs/{digest}", "Takes a file") },
    streams(
        post(
            "openai",
            "/v1/chat/completions",
            "Answers a conversation",
            TALK_TO,
            &[MODEL, OPENAI_CHAT, OPENAI, COMPLETIONS],
        ),
        SSE,
    ),
    streams(
        post(
            "openai",
            "/v1/completions",
            "Continues a prompt",
            ASK,
            &[MODEL, PROMPT, OPENAI, COMPLETIONS],
        ),
        SSE,
    ),
    streams(
        post(
            "openai",
            "/v1/responses",
            "Answers a conversation",
            INPUT,
            &[MODEL, RESPONSES, OPENAI],
        ),
        SSE,
    ),
    post("openai", "/v1/embeddings", "Makes vectors of texts", INPUT, &[MODEL, EMBEDDINGS]),
    get("openai", "/v1/models", "Models that have a name"),
    get("openai", "/v1/models/{*name}", "One of them"),
    streams(
        post(
            "anthropic",
            "/v1/messages",
            "Answers a conversation",
            ASK_CLAUDE,
            &[MODEL, MESSAGES_FIELDS, ANTHROPIC],
        ),
        SSE,
    ),
    post(
        "anthropic",
        "/v1/messages/count_tokens",
        "Counts the tokens of a conversation",
        TALK_TO,
        &[MODEL, MESSAGES_FIELDS],
    ),
    post("rerank", "/v1/rerank", "Ranks documents by a query", RANK, &[MODEL, RERANK]),
    post("rerank", "/api/rerank", "Ranks documents by a query", RANK, &[MODEL, RERANK]),
    post("oprel", "/tokenize", "Token ids of a text", TEXT, &[MODEL, TOKENIZE]),
    post("oprel", "/api/tokenize", "Token ids of a text", TEXT, &[MODEL, TOKENIZE]),
    post("oprel", "/detokenize", "The text of tokens", TOKENS, &[MODEL, DETOKENIZE]),
    post("oprel", "/api/detokenize", "The text of tokens", TOKENS, &[MODEL, DETOKENIZE]),
    streams(
        post(
            "oprel",
            "/generate",
            "Answers, and remembers it",
            ASK,
            &[MODEL, PROMPT, TALK, OLLAMA],
        ),
        LINES,
    ),
    streams(
        post(
            "oprel",
            "/oprel/generate",
            "Answers a request of the library",
            OWN_REQUEST,
            &[MODEL, OWN],
        ),
        LINES,
    ),
    post("oprel", "/oprel/load", "Loads a model and describes it", OWN_LOAD, &[MODEL, STAY]),
    post("oprel", "/oprel/embed", "Vectors, as the library has them", OWN_EMBED, &[MODEL, STAY]),
    post("oprel", "/oprel/rerank", "A ranking, as the library has it", OWN_RANK, &[MODEL, STAY]),
    post("oprel", "/oprel/tokenize", "Token ids of a text", OWN_TEXT, &[MODEL, STAY]),
    post("oprel", "/oprel/detokenize", "The text of tokens", OWN_TOKENS, &[MODEL, STAY]),
    post("oprel", "/load", "Loads a model", DEMO, &[MODEL]),
    post("oprel", "/unload", "Unloads a model as soon as nobody uses it", DEMO, &[MODEL]),
    get("oprel", "/models", "Models that are loaded, and what they can do"),
    Route { query: PAGE, ..get("oprel", "/conversations", "Conversations that are remembered") },
    get("oprel", "/conversations/{id}", "One of them, with its messages"),
    Route { method: "delete", ..get("oprel", "/conversations/{id}", "Forgets one") },
    get("oprel", "/health", "Whether it takes requests"),
    plain(get("oprel", "/health/live", "Whether it lives")),
    get("oprel", "/health/ready", "Whether it takes requests"),
    plain(get("oprel", "/metrics", "What can be measured, for Prometheus")),
    get("oprel", "/openapi.json", "This document"),
];
