//! Log probabilities, in the shape of chats and in that of texts.

use serde_json::{Map, Value, json};

use crate::Sampled;

/// What stands for minus infinity, which JSON cannot write.
const NEVER: f32 = -9999.0;

/// `{"content": [..], "refusal": null}`: one entry for each token.
pub(super) fn of_chat(tokens: &[Sampled]) -> Value {
    let entry = |bytes: &[u8], logprob: Option<f32>| {
        let mut entry = Map::new();
        entry.insert("token".into(), json!(text_of(bytes)));
        entry.insert("logprob".into(), json!(number(logprob.unwrap_or(NEVER))));
        entry.insert("bytes".into(), json!(bytes));
        entry
    };
    let token = |token: &Sampled| {
        let top = token.top.iter().map(|top| entry(&top.bytes, Some(top.logprob)));
        let top: Vec<_> = top.collect();
        let mut entry = entry(&token.bytes, token.logprob);
        entry.insert("top_logprobs".into(), json!(top));
        entry
    };
    json!({"content": tokens.iter().map(token).collect::<Vec<_>>(), "refusal": null})
}

/// Parallel lists; `offset` counts the characters before the first token and goes on behind the
/// last. The first token of a prompt has no probability.
pub(super) fn of_text(tokens: &[Sampled], offset: &mut usize) -> Value {
    let (mut texts, mut logprobs, mut tops, mut offsets) = (vec![], vec![], vec![], vec![]);
    for token in tokens {
        let text = text_of(&token.bytes);
        offsets.push(*offset);
        *offset += String::from_utf8_lossy(&token.bytes).chars().count();
        logprobs.push(token.logprob.map(number));
        let top = token.top.iter().map(|top| (text_of(&top.bytes), json!(number(top.logprob))));
        let top: Map<String, Value> = top.collect();
        tops.push(token.logprob.map(|_| top));
        texts.push(text);
    }
    json!({
        "tokens": texts,
        "token_logprobs": logprobs,
        "top_logprobs": tops,
        "text_offset": offsets,
    })
}

fn number(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { NEVER }
}

/// A token's text; bytes that are no whole characters are written out.
fn text_of(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("bytes:{hex}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TopToken;

    fn sampled(bytes: &[u8], logprob: Option<f32>) -> Sampled {
        let top = TopToken { id: 9, bytes: b"b".to_vec(), logprob: f32::NEG_INFINITY };
        Sampled { id: 1, bytes: bytes.to_vec(), logprob, top: vec![top] }
    }

    #[test]
    fn a_chat_has_an_entry_for_each_token_with_its_bytes() {
        assert_eq!(
            of_chat(&[sampled(&[0xf0, 0x9f], Some(-0.5))]).to_string(),
            r#"{"content":[{"token":"bytes:\\xf0\\x9f","logprob":-0.5,"bytes":[240,159],"top_logprobs":[{"token":"b","logprob":-9999.0,"bytes":[98]}]}],"refusal":null}"#
        );
    }

    #[test]
    fn a_text_has_lists_and_offsets_in_characters() {
        let mut offset = 2;
        let tokens = [sampled("é".as_bytes(), None), sampled(b"ab", Some(-0.25))];
        assert_eq!(
            of_text(&tokens, &mut offset).to_string(),
            r#"{"tokens":["é","ab"],"token_logprobs":[null,-0.25],"top_logprobs":[null,{"b":-9999.0}],"text_offset":[2,3]}"#
        );
        assert_eq!(offset, 5);
    }
}
