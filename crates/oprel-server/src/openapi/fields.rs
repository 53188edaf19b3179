//! Fields of bodies: name, an example as JSON, and what it is for. Sets that dialects share stand once.

/// A field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field(pub(super) &'static str, pub(super) &'static str, pub(super) &'static str);

const MESSAGES: &str = r#"[{"role": "user", "content": "Hi"}]"#;
const TOOL: &str =
    r#"[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]"#;

pub(super) const MODEL: &[Field] =
    &[Field("model", r#""demo""#, "The model: `demo`, or the path of a file")];

pub(super) const PROMPT: &[Field] = &[Field("prompt", r#""Hi""#, "The prompt")];

/// Of all that Ollama generates.
pub(super) const OLLAMA: &[Field] = &[
    Field(
        "stream",
        "false",
        "Whether the answer comes in pieces, as it does unless said otherwise",
    ),
    Field("format", r#""json""#, "`json`, or a JSON schema that the answer keeps to"),
    Field("options", r#"{"temperature": 0.5}"#, "How tokens are chosen, and how many"),
    Field("keep_alive", r#""5m""#, "How long the model stays loaded after this"),
    Field("think", "false", "Whether, or how hard, the model thinks first"),
    Field("logprobs", "true", "Whether the tokens' log probabilities are told"),
    Field("top_logprobs", "2", "How many alternatives are told of each token"),
    Field("truncate", "true", "Whether a prompt that is too long may be cut"),
    Field("shift", "true", "Whether a full context drops its older half and goes on"),
];

/// Of `/api/generate` alone.
pub(super) const GENERATE: &[Field] = &[
    Field("system", r#""Be kind.""#, "What the model is told before the prompt"),
    Field("raw", "true", "Whether the prompt goes to the model as it is"),
    Field("template", r#""{{ messages[0].content }}""#, "A chat template instead of the model's"),
    Field("context", "[1, 2]", "Tokens before the prompt, from an earlier answer"),
    Field("images", "[]", "Images in base64, for models that see"),
];

/// Of `/api/chat` alone.
pub(super) const CHAT: &[Field] = &[
    Field("messages", MESSAGES, "The conversation"),
    Field("tools", TOOL, "Functions that the model may call"),
];

/// What `options` has.
pub(super) const OPTIONS: &[Field] = &[
    Field("num_predict", "2", "Most tokens of the answer"),
    Field("num_ctx", "256", "Most tokens of prompt and answer"),
    Field("num_keep", "2", "Tokens at the beginning that a shift keeps"),
    Field("seed", "1", "The same seed gives the same answer"),
    Field("temperature", "0.5", "0 takes the likeliest token"),
    Field("top_k", "3", "Only so many of the likeliest"),
    Field("top_p", "0.9", "Only as many as have this share of probability together"),
    Field("min_p", "0.1", "Only those at least this likely, measured by the likeliest"),
    Field("typical_p", "0.9", "Only those about as surprising as the text is"),
    Field("stop", r#"["x"]"#, "Texts that end the answer"),
    Field("repeat_penalty", "1.1", "Above 1 what was said becomes less likely"),
    Field("repeat_last_n", "8", "How far back that looks"),
    Field("presence_penalty", "0.1", "What was said becomes less likely"),
    Field("frequency_penalty", "0.1", "What was said becomes less likely each time"),
    Field("mirostat", "0", "1 or 2 holds surprise at a level"),
    Field("mirostat_tau", "5.0", "That level"),
    Field("mirostat_eta", "0.1", "How fast it is reached"),
];

pub(super) const EMBED: &[Field] = &[
    Field("truncate", "true", "Whether a text that is too long may be cut"),
    Field("dimensions", "8", "Keep only so many numbers"),
    Field("keep_alive", r#""5m""#, "How long the model stays loaded after this"),
    Field("options", "{}", "Options of loading"),
];

/// Of all that OpenAI generates.
pub(super) const OPENAI: &[Field] = &[
    Field("stream", "false", "Whether the answer comes in pieces"),
    Field("temperature", "0.5", "0 takes the likeliest token"),
    Field("top_p", "0.9", "Only as many tokens as have this share of probability together"),
];

/// Of chat and completions.
pub(super) const COMPLETIONS: &[Field] = &[
    Field("max_tokens", "2", "Most tokens of the answer"),
    Field("n", "1", "How many answers"),
    Field("stop", r#"["x"]"#, "Texts that end the answer"),
    Field("seed", "1", "The same seed gives the same answer"),
    Field("presence_penalty", "0.1", "What was said becomes less likely"),
    Field("frequency_penalty", "0.1", "What was said becomes less likely each time"),
    Field("logit_bias", r#"{"1": 2}"#, "What is added to the logits of tokens"),
];

pub(super) const OPENAI_CHAT: &[Field] = &[
    Field("messages", MESSAGES, "The conversation"),
    Field("max_completion_tokens", "2", "Most tokens of the answer"),
    Field("tools", TOOL, "Functions that the model may call"),
    Field("tool_choice", r#""none""#, "Which of them: auto, none, required, or one by name"),
    Field("response_format", r#"{"type": "json_object"}"#, "What the answer keeps to"),
    Field("reasoning_effort", r#""none""#, "How hard the model thinks first"),
    Field("logprobs", "true", "Whether the tokens' log probabilities are told"),
    Field("chat_template_kwargs", "{}", "Variables for the model's chat template"),
];

pub(super) const RESPONSES: &[Field] = &[
    Field("input", r#""Hi""#, "A text, or a list of items"),
    Field("instructions", r#""Be kind.""#, "What the model is told before"),
    Field("max_output_tokens", "2", "Most tokens of the answer"),
    Field("text", r#"{"format": {"type": "text"}}"#, "What the answer keeps to"),
];

pub(super) const EMBEDDINGS: &[Field] = &[
    Field("input", r#"["a", "b"]"#, "A text or tokens, or a list of them"),
    Field("dimensions", "8", "Keep only so many numbers"),
    Field("encoding_format", r#""float""#, "`float` or `base64`"),
];

pub(super) const MESSAGES_FIELDS: &[Field] = &[
    Field("messages", MESSAGES, "The conversation"),
    Field("system", r#""Be kind.""#, "What the model is told before"),
    Field(
        "tools",
        r#"[{"name": "f", "input_schema": {"type": "object"}}]"#,
        "Functions that the model may call",
    ),
    Field("tool_choice", r#"{"type": "none"}"#, "Which of them: auto, any, none, or one by name"),
];

pub(super) const ANTHROPIC: &[Field] = &[
    Field("max_tokens", "2", "Most tokens of the answer"),
    Field("stream", "false", "Whether the answer comes in pieces"),
    Field("stop_sequences", r#"["x"]"#, "Texts that end the answer"),
    Field("temperature", "0.5", "0 takes the likeliest token"),
    Field("top_k", "3", "Only so many of the likeliest"),
    Field("top_p", "0.9", "Only as many as have this share of probability together"),
    Field(
        "thinking",
        r#"{"type": "disabled"}"#,
        "Whether the model thinks first, and for how many tokens",
    ),
];

pub(super) const RERANK: &[Field] = &[
    Field("query", r#""q""#, "What is looked for"),
    Field("documents", r#"["a"]"#, "What may answer it: texts, or objects with a text"),
    Field("top_n", "1", "Only so many of the best"),
    Field("return_documents", "false", "Whether the documents are told again"),
    Field("truncate", "true", "Whether a document that is too long may be cut"),
];

pub(super) const TOKENIZE: &[Field] = &[
    Field("text", r#""Hi""#, "The text"),
    Field("add_special", "true", "Whether tokens are added that begin and end every text"),
    Field("parse_special", "true", "Whether special tokens in the text are read as such"),
];

pub(super) const DETOKENIZE: &[Field] = &[Field("tokens", "[1, 2]", "Token ids")];

/// Of `/api/pull` and `/api/push`.
pub(super) const TRANSFER: &[Field] = &[
    Field("insecure", "true", "Whether a registry without TLS may be spoken to"),
    Field("stream", "false", "Whether progress comes in lines"),
];

/// Of `/api/copy`.
pub(super) const COPY: &[Field] = &[
    Field("source", r#""mine""#, "The model"),
    Field("destination", r#""yours""#, "Its further name"),
];

/// Of `/api/create`.
pub(super) const CREATE: &[Field] = &[
    Field("from", r#""base""#, "A model that it begins with"),
    Field("files", "{}", "Names of files, and digests of blobs that were sent before"),
    Field("draft_files", "{}", "The same, of a smaller model that proposes tokens"),
    Field("adapters", "{}", "The same, of adapters"),
    Field("template", r#""{{ .Prompt }}""#, "Chat template, in Go's language or in Jinja"),
    Field("system", r#""Be kind.""#, "System message"),
    Field("license", r#"["MIT"]"#, "Licences: a text, or a list"),
    Field("parameters", r#"{"temperature": 0.5}"#, "Options of requests that do not say them"),
    Field(
        "messages",
        r#"[{"role": "user", "content": "Hi"}]"#,
        "Messages before every conversation",
    ),
    Field("renderer", r#""qwen3""#, "Kept for other programs"),
    Field("parser", r#""qwen3""#, "Kept for other programs"),
    Field("requires", r#""0.14.0""#, "Kept for other programs"),
    Field("stream", "false", "Whether progress comes in lines"),
];

pub(super) const SHOW: &[Field] = &[
    Field("verbose", "false", "Whether lists and tensors are told, too"),
    Field("system", r#""Be kind.""#, "Told again as it is"),
    Field("options", "{}", "Told again as they are"),
];

/// Of `/generate`, besides what `/api/chat` has.
pub(super) const TALK: &[Field] = &[
    Field("conversation_id", r#""a-conversation""#, "The conversation that this goes on with"),
    Field("system", r#""Be kind.""#, "What the model is told before the prompt"),
];

/// Of `/oprel/generate`.
pub(super) const OWN: &[Field] = &[
    Field(
        "request",
        r#"{"input": {"tokens": [1]}, "limits": {"max_tokens": 2}}"#,
        "The request, as the library writes it",
    ),
    Field(
        "sampling",
        r#"{"temperature": 0.0}"#,
        "How tokens are chosen, where that is not as the model suggests",
    ),
];

/// Of `GET /conversations`.
pub(super) const PAGE: &[Field] = &[
    Field("after", r#""a-conversation""#, "The last id of the page before"),
    Field("limit", "100", "Most conversations of a page"),
];

/// Of the library's other routes, besides the request.
pub(super) const STAY: &[Field] = &[Field(
    "keep_alive_ms",
    "300000",
    "How long the model stays loaded after this; negative for ever",
)];
