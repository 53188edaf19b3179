//! Texts to vectors.

use serde::Deserialize;
use serde_json::{Value, json};

use super::model_of;
use crate::body::{Fields, wrong};
use crate::dialect::{EmbedCall, Moment};
use crate::{EmbedInput, EmbedRequest, Embeddings, Failure, base64, extension};

/// What clients send: a text, tokens, or a list of either.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, a list of tokens, or a list of these")]
enum Inputs {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    Lists(Vec<Vec<u32>>),
}

impl From<Inputs> for Vec<EmbedInput> {
    fn from(inputs: Inputs) -> Vec<EmbedInput> {
        match inputs {
            Inputs::Text(text) => vec![EmbedInput::Text(text)],
            Inputs::Texts(texts) => texts.into_iter().map(EmbedInput::Text).collect(),
            Inputs::Tokens(tokens) => vec![EmbedInput::Tokens(tokens)],
            Inputs::Lists(lists) => lists.into_iter().map(EmbedInput::Tokens).collect(),
        }
    }
}

/// Reads a request of `/v1/embeddings`. An input that is too long is refused unless `truncate` says
/// otherwise.
///
/// # Errors
/// A `Validation` that names the field.
pub fn embeddings(body: &[u8]) -> Result<EmbedCall, Failure> {
    let mut fields = Fields::parse(body)?;
    let model = model_of(&mut fields)?;
    let input: Vec<EmbedInput> = fields.need::<Inputs>("input")?.into();
    if input.is_empty() {
        return Err(wrong("input is empty"));
    }
    let coded = match fields.take::<String>("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let known = "encoding_format must be \"float\" or \"base64\"";
            return Err(wrong(format!("{known}, not {other:?}")));
        }
    };
    let request = EmbedRequest {
        input,
        truncate: fields.take("truncate")?.unwrap_or(false),
        dimensions: fields.take("dimensions")?,
        normalize: true,
        context: None,
        trace: None,
    };
    request.validate()?;
    let mut ignored = Vec::new();
    let stay = extension::stay_with_options(&mut fields, &mut ignored)?;
    ignored.extend(fields.left());
    let voice = Box::new(move |moment: &Moment, made: Embeddings| answer(moment, &made, coded));
    Ok(EmbedCall { model, request, stay, ignored, voice })
}

fn answer(moment: &Moment, made: &Embeddings, coded: bool) -> Value {
    let vector = |vector: &[f32]| match coded {
        true => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            json!(base64::encode(&bytes))
        }
        false => json!(vector),
    };
    let data =
        made.vectors.iter().enumerate().map(
            |(index, x)| json!({"object": "embedding", "embedding": vector(x), "index": index}),
        );
    let tokens = made.usage.prompt_tokens;
    json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": moment.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Usage;

    fn read(body: &str) -> Result<EmbedCall, Failure> {
        embeddings(body.as_bytes())
    }

    fn said(body: &str) -> String {
        let usage = Usage { prompt_tokens: 3, ..Usage::default() };
        let made = Embeddings { vectors: vec![vec![1.0, -0.5], vec![0.0, 2.0]], usage };
        let moment = Moment { model: "m".into(), ..Moment::default() };
        (read(body).unwrap_or_else(|failure| panic!("{failure}")).voice)(&moment, made).to_string()
    }

    #[test]
    fn a_text_tokens_and_lists_of_them_are_inputs() {
        let text = |text: &str| EmbedInput::Text(text.into());
        for (input, wanted) in [
            (r#""a""#, vec![text("a")]),
            (r#"["a", ""]"#, vec![text("a"), text("")]),
            ("[1, 2]", vec![EmbedInput::Tokens(vec![1, 2])]),
            ("[[1], [2, 3]]", vec![EmbedInput::Tokens(vec![1]), EmbedInput::Tokens(vec![2, 3])]),
        ] {
            let call = read(&format!(r#"{{"model": "m", "input": {input}}}"#));
            let call = call.unwrap_or_else(|failure| panic!("{failure}"));
            assert_eq!(call.request.input, wanted);
            assert!(!call.request.truncate && call.request.normalize && call.ignored.is_empty());
        }
    }

    #[test]
    fn vectors_are_numbers_or_little_endian_base64() {
        assert_eq!(
            said(r#"{"model": "m", "input": ["a", "b"]}"#),
            r#"{"object":"list","data":[{"object":"embedding","embedding":[1.0,-0.5],"index":0},{"object":"embedding","embedding":[0.0,2.0],"index":1}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#
        );
        assert_eq!(
            said(r#"{"model": "m", "input": ["a", "b"], "encoding_format": "base64"}"#),
            r#"{"object":"list","data":[{"object":"embedding","embedding":"AACAPwAAAL8=","index":0},{"object":"embedding","embedding":"AAAAAAAAAEA=","index":1}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#
        );
    }

    #[test]
    fn options_are_read_and_what_changes_nothing_is_named() {
        let call = read(
            r#"{"model": "m", "input": "a", "dimensions": 8, "user": "u", "truncate": true,
                "options": {"num_ctx": 64, "num_gpu": 1}, "keep_alive": -1}"#,
        );
        let call = call.unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!((call.request.dimensions, call.request.truncate), (Some(8), true));
        assert_eq!(call.stay.context, Some(64));
        assert_eq!(call.ignored, ["options.num_gpu", "user"]);
    }

    #[test]
    fn a_wrong_request_is_refused_by_its_field() {
        for (body, wanted) in [
            (r#"{"input": "a"}"#, "model is required"),
            (r#"{"model": "m"}"#, "input is required"),
            (r#"{"model": "m", "input": []}"#, "input is empty"),
            (r#"{"model": "m", "input": [[]]}"#, "input is empty"),
            (r#"{"model": "m", "input": {}}"#, "input: expected a text"),
            (r#"{"model": "m", "input": [-1]}"#, "input: expected a text"),
            (r#"{"model": "m", "input": "a", "encoding_format": "int8"}"#, "encoding_format must"),
            (r#"{"model": "m", "input": "a", "dimensions": 0}"#, "dimensions must be"),
        ] {
            let failure = read(body).err().expect(body);
            assert!(failure.message.starts_with(wanted), "{body}: {failure}");
        }
    }
}
