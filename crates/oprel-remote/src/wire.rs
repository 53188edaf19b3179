//! What servers send, as far as it is read. Everything may be missing; what has the wrong type is an error.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A chunk of a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Chunk {
    pub(crate) error: Option<Value>,
    pub(crate) choices: Vec<Choice>,
    pub(crate) usage: Option<Usage>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Choice {
    pub(crate) delta: Option<Delta>,
    /// Of the route for texts.
    pub(crate) text: Option<String>,
    pub(crate) finish_reason: Option<String>,
    /// What ended it: a text or a token (vLLM, SGLang).
    pub(crate) stop_reason: Option<Value>,
    pub(crate) matched_stop: Option<Value>,
    pub(crate) logprobs: Option<Logprobs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Delta {
    pub(crate) content: Option<String>,
    pub(crate) reasoning_content: Option<String>,
    pub(crate) reasoning: Option<String>,
    pub(crate) refusal: Option<String>,
    pub(crate) tool_calls: Option<Vec<CallDelta>>,
}

/// A piece of a call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CallDelta {
    pub(crate) index: Option<usize>,
    pub(crate) id: Option<String>,
    pub(crate) function: Option<FunctionDelta>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FunctionDelta {
    pub(crate) name: Option<String>,
    /// A text; some send the object itself.
    pub(crate) arguments: Option<Value>,
}

/// Those of chats, then those of texts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Logprobs {
    pub(crate) content: Option<Vec<Logprob>>,
    pub(crate) tokens: Option<Vec<String>>,
    pub(crate) token_logprobs: Option<Vec<Option<f32>>>,
    pub(crate) top_logprobs: Option<Vec<Option<BTreeMap<String, f32>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Logprob {
    pub(crate) token: String,
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) logprob: f32,
    pub(crate) top_logprobs: Vec<Logprob>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u32,
    pub(crate) completion_tokens: Option<u32>,
    pub(crate) prompt_tokens_details: Option<PromptDetails>,
    pub(crate) completion_tokens_details: Option<AnswerDetails>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PromptDetails {
    pub(crate) cached_tokens: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AnswerDetails {
    pub(crate) reasoning_tokens: Option<u32>,
}

/// The body of `/v1/models`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Models {
    pub(crate) data: Vec<Model>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Model {
    pub(crate) id: String,
    pub(crate) max_model_len: Option<u32>,
    pub(crate) meta: Option<Meta>,
}

/// What llama.cpp's server tells of a model.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Meta {
    pub(crate) n_ctx: Option<u32>,
    pub(crate) n_ctx_train: Option<u32>,
    pub(crate) n_vocab: Option<u32>,
    pub(crate) n_embd: Option<u32>,
    pub(crate) size: Option<u64>,
}

/// The body of `/v1/embeddings`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Vectors {
    pub(crate) data: Vec<Vector>,
    pub(crate) usage: Usage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Vector {
    pub(crate) index: usize,
    pub(crate) embedding: Vec<f32>,
}

/// The body of `/v1/rerank`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ranking {
    pub(crate) results: Vec<Ranked>,
    pub(crate) usage: Usage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ranked {
    pub(crate) index: u32,
    pub(crate) relevance_score: f32,
}
