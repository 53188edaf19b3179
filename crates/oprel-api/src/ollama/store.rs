//! Bodies that change what models there are: `/api/pull`, `push`, `create`, `copy`.

use serde_json::{Map, Value, json};

use crate::Failure;

use super::fields::{Fields, wrong};

/// A model that is to be fetched or sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transfer {
    /// The model, as the client named it.
    pub model: String,
    /// Whether servers without TLS may be spoken to.
    pub insecure: bool,
    /// Whether progress is told while it goes on.
    pub stream: bool,
    /// Fields that change nothing here.
    pub ignored: Vec<String>,
}

/// A model that is to have a second name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Copy {
    /// Its name.
    pub source: String,
    /// The further one.
    pub destination: String,
}

/// A model that is to be made of others or of files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Create {
    /// What it is to be called.
    pub model: String,
    /// A model that it begins with.
    pub from: Option<String>,
    /// Files that were sent before: names, and digests of their blobs.
    pub files: Vec<(String, String)>,
    /// The same, of a smaller model that proposes tokens.
    pub draft_files: Vec<(String, String)>,
    /// The same, of adapters.
    pub adapters: Vec<(String, String)>,
    /// Chat template.
    pub template: Option<String>,
    /// System message.
    pub system: Option<String>,
    /// Licences.
    pub licenses: Vec<String>,
    /// Options.
    pub parameters: Map<String, Value>,
    /// Messages before every conversation: role and content.
    pub messages: Vec<(String, String)>,
    /// Who writes the prompt.
    pub renderer: Option<String>,
    /// Who reads the answer.
    pub parser: Option<String>,
    /// Which version it needs.
    pub requires: Option<String>,
    /// The type that its weights are to have.
    pub quantize: Option<String>,
    /// Whether progress is told while it goes on.
    pub stream: bool,
    /// Fields that change nothing here.
    pub ignored: Vec<String>,
}

/// Reads a body of `/api/pull` or `/api/push`.
///
/// # Errors
/// If it is no JSON, a field is wrong, or no model is named.
pub fn transfer(body: &[u8]) -> Result<Transfer, Failure> {
    let mut fields = Fields::of_body(body)?;
    let model = model(&mut fields)?;
    let insecure = fields.flag("insecure")?.unwrap_or(false);
    let stream = fields.flag("stream")?.unwrap_or(true);
    Ok(Transfer { model, insecure, stream, ignored: fields.ignored() })
}

/// Reads a body of `/api/copy`.
///
/// # Errors
/// As [`transfer`].
pub fn copy(body: &[u8]) -> Result<Copy, Failure> {
    let mut fields = Fields::of_body(body)?;
    let mut name = |key: &str| {
        let text = fields.filled(key)?.unwrap_or_default().trim().to_owned();
        if text.is_empty() { Err(wrong(format!("{key} \"\" is invalid"))) } else { Ok(text) }
    };
    Ok(Copy { source: name("source")?, destination: name("destination")? })
}

/// Reads a body of `/api/create`.
///
/// # Errors
/// As [`transfer`]; a field that would change the model and is not honoured is refused by its name.
pub fn create(body: &[u8]) -> Result<Create, Failure> {
    let mut fields = Fields::of_body(body)?;
    for refused in ["remote_host", "draft_quantize", "modelfile"] {
        if fields.filled(refused)?.is_some() {
            return Err(wrong(format!("{refused} is not supported")));
        }
    }
    let quantize = fields.filled("quantize")?;
    let quantization = fields.filled("quantization")?;
    let licenses = match fields.take("license") {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => {
            let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
            let texts: Option<Vec<String>> = texts.collect();
            texts.ok_or_else(|| wrong("license must be a string or a list of strings"))?
        }
        Some(_) => return Err(wrong("license must be a string or a list of strings")),
        None => Vec::new(),
    };
    let parameters = fields.take("parameters").map(|value| Fields::at("parameters", value));
    let messages = fields.list("messages")?.into_iter().enumerate().map(message);
    Ok(Create {
        model: model(&mut fields)?,
        from: fields.filled("from")?.map(|text| text.trim().to_owned()),
        files: files(&mut fields, "files")?,
        draft_files: files(&mut fields, "draft_files")?,
        adapters: files(&mut fields, "adapters")?,
        template: fields.filled("template")?,
        system: fields.filled("system")?,
        licenses: licenses.into_iter().filter(|text| !text.is_empty()).collect(),
        parameters: parameters.transpose()?.map(Fields::rest).unwrap_or_default(),
        messages: messages.collect::<Result<_, _>>()?,
        renderer: fields.filled("renderer")?,
        parser: fields.filled("parser")?,
        requires: fields.filled("requires")?,
        quantize: quantize.or(quantization),
        stream: fields.flag("stream")?.unwrap_or(true),
        ignored: fields.ignored(),
    })
}

fn model(fields: &mut Fields) -> Result<String, Failure> {
    let model = fields.filled("model")?;
    let name = fields.filled("name")?;
    let model = model.or(name).unwrap_or_default().trim().to_owned();
    if model.is_empty() { Err(wrong("model is required")) } else { Ok(model) }
}

/// Names and digests.
fn files(fields: &mut Fields, key: &str) -> Result<Vec<(String, String)>, Failure> {
    let Some(value) = fields.take(key) else { return Ok(Vec::new()) };
    let one = |(name, digest): (String, Value)| match digest {
        Value::String(digest) => Ok((name, digest)),
        _ => Err(wrong(format!("{key}[{name:?}] must be a digest"))),
    };
    Fields::at(key, value)?.rest().into_iter().map(one).collect()
}

fn message((at, value): (usize, Value)) -> Result<(String, String), Failure> {
    let mut fields = Fields::at(&format!("messages[{at}]"), value)?;
    let role = fields.filled("role")?.unwrap_or_default();
    if !["system", "user", "assistant"].contains(&role.as_str()) {
        let name = fields.name("role");
        return Err(wrong(format!("{name} must be system, user or assistant, not {role:?}")));
    }
    Ok((role, fields.text("content")?.unwrap_or_default()))
}

/// A line of progress: what is done now; and of a file that is being moved, its digest, its bytes and how many of
/// them are done.
pub fn progress(status: &str, file: Option<(&str, u64, u64)>) -> Value {
    let Some((digest, total, completed)) = file else { return json!({"status": status}) };
    let mut line = json!({"status": status, "digest": digest, "total": total});
    if completed > 0 {
        line["completed"] = completed.into();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(value: Value) -> Vec<u8> {
        value.to_string().into_bytes()
    }

    #[test]
    fn a_transfer_names_a_model_by_either_field() {
        let read = |value| transfer(&body(value));
        let plain = Transfer { model: "m".into(), stream: true, ..Transfer::default() };
        assert_eq!(read(json!({"model": "m"})), Ok(plain.clone()));
        assert_eq!(read(json!({"name": " m "})), Ok(plain.clone()));
        let quiet = Transfer { stream: false, insecure: true, ignored: vec!["x".into()], ..plain };
        assert_eq!(
            read(json!({"model": "m", "stream": false, "insecure": true, "x": 1})),
            Ok(quiet)
        );
        assert_eq!(read(json!({})).unwrap_err().message, "model is required");
    }

    #[test]
    fn a_copy_needs_both_names() {
        let read = |value| copy(&body(value)).map_err(|failure| failure.message);
        let both = Copy { source: "a".into(), destination: "b".into() };
        assert_eq!(read(json!({"source": "a", "destination": "b"})), Ok(both));
        assert_eq!(read(json!({"destination": "b"})), Err("source \"\" is invalid".into()));
        assert_eq!(read(json!({"source": "a"})), Err("destination \"\" is invalid".into()));
    }

    #[test]
    fn all_that_a_model_is_made_of_is_read() {
        let made = create(&body(json!({
            "model": "m", "from": "base", "files": {"a.gguf": "sha256:0"}, "license": ["MIT", ""],
            "parameters": {"stop": ["x"]}, "messages": [{"role": "user", "content": "Hi"}],
            "quantization": "Q4_K_M", "info": {},
        })))
        .unwrap();
        assert_eq!(
            (made.from.as_deref(), made.quantize.as_deref()),
            (Some("base"), Some("Q4_K_M"))
        );
        assert_eq!(made.files, [("a.gguf".to_owned(), "sha256:0".to_owned())]);
        assert_eq!(made.licenses, ["MIT"]);
        assert_eq!(made.messages, [("user".to_owned(), "Hi".to_owned())]);
        assert!(made.parameters.contains_key("stop") && made.stream);
        assert_eq!(made.ignored, ["info"]);
    }

    #[test]
    fn what_would_change_a_model_and_is_not_done_is_refused() {
        for wrong in [
            json!({"model": "m", "remote_host": "x"}),
            json!({"model": "m", "license": 1}),
            json!({"model": "m", "files": {"a": 1}}),
            json!({"model": "m", "files": []}),
            json!({"model": "m", "messages": [{"role": "robot"}]}),
            json!({"from": "x"}),
        ] {
            assert!(create(&body(wrong.clone())).is_err(), "{wrong}");
        }
    }

    #[test]
    fn progress_of_a_file_says_how_far_it_is() {
        assert_eq!(progress("success", None), json!({"status": "success"}));
        let line = progress("pulling ab", Some(("sha256:ab", 9, 0)));
        assert_eq!(line, json!({"status": "pulling ab", "digest": "sha256:ab", "total": 9}));
        assert_eq!(progress("p", Some(("d", 9, 3)))["completed"], 3);
    }
}
