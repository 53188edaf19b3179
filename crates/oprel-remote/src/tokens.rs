//! What servers do beside generating: vectors, rankings, tokens.

use oprel_api::{
    EmbedInput, EmbedRequest, Embeddings, ErrorKind, Failure, Input, Ranked, Ranking, Request,
    RerankRequest, Usage,
};
use oprel_backend::normalize;
use oprel_tokenizer::TokenizeOptions;
use serde_json::{Map, Value, json};

use crate::body;
use crate::knobs::unsupported;
use crate::profile::{Profile, PromptTokens, Tokens};
use crate::wire;

/// A call of a route.
pub(crate) type Call = (&'static str, Value);

/// The call that makes vectors.
pub(crate) fn embed(model: &str, request: &EmbedRequest) -> Result<Call, Failure> {
    request.validate()?;
    let input = |input: &EmbedInput| match input {
        EmbedInput::Text(text) => json!(text),
        EmbedInput::Tokens(tokens) => json!(tokens),
    };
    let inputs: Vec<Value> = request.input.iter().map(input).collect();
    let mut body = json!({"model": model, "input": inputs, "encoding_format": "float"});
    if let Some(n) = request.dimensions {
        body["dimensions"] = json!(n);
    }
    Ok(("/v1/embeddings", body))
}

/// The vectors, in the order of what was asked.
pub(crate) fn embedded(request: &EmbedRequest, said: wire::Vectors) -> Result<Embeddings, Failure> {
    let n = request.input.len();
    let mut vectors = vec![Vec::new(); n];
    for wire::Vector { index, embedding } in said.data {
        if index < n {
            vectors[index] = embedding;
        }
    }
    let width =
        request.dimensions.map_or_else(|| vectors.first().map_or(0, Vec::len), |n| n as usize);
    if vectors.iter().any(|v| v.is_empty() || v.len() != width) {
        return Err(wrong("its vectors are not those that were asked for"));
    }
    if request.normalize {
        vectors.iter_mut().for_each(|vector| normalize(vector));
    }
    Ok(Embeddings { vectors, usage: prompt_usage(&said.usage) })
}

/// The call that ranks.
pub(crate) fn rerank(
    profile: &Profile,
    model: &str,
    request: &RerankRequest,
) -> Result<Call, Failure> {
    request.validate()?;
    if !profile.reranks {
        return Err(unsupported(profile, "rerank"));
    }
    let body = json!({"model": model, "query": request.query, "documents": request.documents});
    Ok(("/v1/rerank", body))
}

/// The documents, the best first.
pub(crate) fn ranked(request: &RerankRequest, said: wire::Ranking) -> Result<Ranking, Failure> {
    let n = request.documents.len();
    let mut seen = vec![false; n];
    for one in &said.results {
        match seen.get_mut(one.index as usize) {
            Some(seen) if !*seen && one.relevance_score.is_finite() => *seen = true,
            _ => return Err(wrong("its ranking is not of the documents that it was given")),
        }
    }
    if seen.contains(&false) {
        return Err(wrong("its ranking leaves documents out"));
    }
    let ranked = |one: wire::Ranked| Ranked { index: one.index, score: one.relevance_score };
    let mut results: Vec<Ranked> = said.results.into_iter().map(ranked).collect();
    results.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
    results.truncate(request.top_n.map_or(n, |most| most as usize));
    Ok(Ranking { results, usage: prompt_usage(&said.usage) })
}

fn prompt_usage(usage: &wire::Usage) -> Usage {
    Usage { prompt_tokens: usage.prompt_tokens, ..Usage::default() }
}

fn routes(profile: &Profile) -> Result<&'static Tokens, Failure> {
    profile.tokens.ok_or_else(|| unsupported(profile, "tokenize"))
}

/// The call that tokenizes.
pub(crate) fn tokenize(
    profile: &Profile,
    model: &str,
    text: &str,
    options: TokenizeOptions,
) -> Result<Call, Failure> {
    let routes = routes(profile)?;
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    body.insert(routes.text.into(), json!(text));
    body.insert(routes.special.into(), json!(options.add_special));
    body.extend(routes.parse.map(|field| (field.to_string(), json!(options.parse_special))));
    Ok((routes.tokenize, Value::Object(body)))
}

/// The tokens of an answer.
pub(crate) fn tokens(said: &Value) -> Result<Vec<u32>, Failure> {
    let token = |value: &Value| value.as_u64().and_then(|t| u32::try_from(t).ok());
    let read = said["tokens"].as_array().and_then(|all| all.iter().map(token).collect());
    read.ok_or_else(|| wrong("its tokens cannot be read"))
}

/// The call that makes text of tokens.
pub(crate) fn detokenize(profile: &Profile, model: &str, tokens: &[u32]) -> Result<Call, Failure> {
    let routes = routes(profile)?;
    Ok((routes.detokenize, json!({"model": model, "tokens": tokens})))
}

/// The text of an answer.
pub(crate) fn text(profile: &Profile, said: &Value) -> Result<String, Failure> {
    let text = said[routes(profile)?.back].as_str();
    text.map(str::to_string).ok_or_else(|| wrong("its text cannot be read"))
}

/// How the tokens of a prompt are had.
pub(crate) enum PromptCall {
    /// They are there.
    Tokens(Vec<u32>),
    /// By this call.
    Ask(Call),
    /// By this call, whose `prompt` is then tokenized.
    Render(Call),
    /// By tokenizing this text.
    Text(String, TokenizeOptions),
}

/// How the tokens of a request's prompt are had.
pub(crate) fn prompt(
    profile: &Profile,
    model: &str,
    request: &Request,
) -> Result<PromptCall, Failure> {
    let routes = routes(profile)?;
    let chat = match &request.input {
        Input::Tokens(tokens) => return Ok(PromptCall::Tokens(tokens.clone())),
        Input::Prompt(prompt) if prompt.raw => {
            let parse_special = prompt.parse_special;
            let options = TokenizeOptions { add_special: true, parse_special };
            return Ok(PromptCall::Text(prompt.text.clone(), options));
        }
        Input::Prompt(prompt) => {
            (body::messages(profile, &body::messages_of(prompt))?, Value::Null)
        }
        Input::Messages(chat) => {
            let tools = if chat.tools.is_empty() { Value::Null } else { body::tools(&chat.tools) };
            (body::messages(profile, &chat.messages)?, tools)
        }
    };
    let mut body = json!({"model": model, "messages": chat.0});
    if !chat.1.is_null() {
        body["tools"] = chat.1;
    }
    match routes.prompt {
        PromptTokens::SameRoute => Ok(PromptCall::Ask((routes.tokenize, body))),
        PromptTokens::Render(route) => Ok(PromptCall::Render((route, body))),
        PromptTokens::Unknown => Err(unsupported(profile, "count_tokens")),
    }
}

fn wrong(message: &str) -> Failure {
    Failure::new(ErrorKind::Backend, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_in_their_order_and_none_is_missing() {
        let request = EmbedRequest::new(["a", "b"]);
        let said = |json| serde_json::from_value::<wire::Vectors>(json).unwrap();
        let whole = said(json!({"data": [{"index": 1, "embedding": [0.0, 2.0]},
            {"index": 0, "embedding": [3.0, 4.0]}], "usage": {"prompt_tokens": 5}}));
        let made = embedded(&request, whole).unwrap();
        assert_eq!(made.vectors, [vec![0.6, 0.8], vec![0.0, 1.0]]);
        assert_eq!(made.usage.prompt_tokens, 5);
        let half = said(json!({"data": [{"index": 0, "embedding": [1.0]}]}));
        assert!(embedded(&request, half).is_err());
    }

    #[test]
    fn a_ranking_is_of_all_documents_and_the_best_comes_first() {
        let mut request = RerankRequest::new("q", ["a", "b", "c"]);
        let said = |scores: &[(u32, f32)]| {
            let one =
                |&(index, relevance_score): &(u32, f32)| wire::Ranked { index, relevance_score };
            wire::Ranking {
                results: scores.iter().map(one).collect(),
                usage: wire::Usage::default(),
            }
        };
        request.top_n = Some(2);
        let made = ranked(&request, said(&[(0, 0.1), (1, 0.9), (2, 0.1)])).unwrap();
        assert_eq!(made.results.iter().map(|r| r.index).collect::<Vec<_>>(), [1, 0]);
        assert!(ranked(&request, said(&[(0, 0.1), (1, 0.9)])).is_err());
        assert!(ranked(&request, said(&[(0, 0.1), (0, 0.9), (1, 0.0)])).is_err());
        assert!(ranked(&request, said(&[(7, 0.1)])).is_err());
    }

    #[test]
    fn tokens_are_asked_for_where_they_are() {
        let options = TokenizeOptions { add_special: true, parse_special: false };
        let call = |name| tokenize(Profile::named(name).unwrap(), "m", "t", options);
        let (path, body) = call("llama-server").unwrap();
        assert_eq!(path, "/tokenize");
        assert_eq!(
            body,
            json!({"model": "m", "content": "t", "add_special": true, "parse_special": false})
        );
        assert_eq!(call("vllm").unwrap().1["add_special_tokens"], true);
        assert!(call("generic").is_err());
        assert_eq!(tokens(&json!({"tokens": [1, 2]})), Ok(vec![1, 2]));
        assert!(tokens(&json!({"tokens": [1, "x"]})).is_err());
    }
}
