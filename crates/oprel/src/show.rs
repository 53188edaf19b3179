//! What a model is, in the shape of the field's `/api/show`.

use oprel_api::ollama::{self, Timestamp};
use oprel_backend::ModelSource;
use oprel_gguf::{Array, Gguf, Value};
use oprel_hub::StoredModel;
use serde_json::{Map, Value as Json, json};

use crate::Result;

/// What a model is. Serialized, it is the answer of `/api/show`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Show {
    /// Licence texts or names.
    pub license: String,
    /// How the model could be made again; empty for a plain file.
    pub modelfile: String,
    /// Default options; empty for a plain file.
    pub parameters: String,
    /// Chat template, as the file has it.
    pub template: String,
    /// System message; empty for a plain file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// Sizes and kinds in short.
    pub details: Details,
    /// Metadata of the file; arrays are null unless all was asked for.
    pub model_info: Map<String, Json>,
    /// Tensors: name, type, shape. Empty unless all was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<Json>,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// When the file changed last, RFC 3339.
    pub modified_at: String,
}

/// Sizes and kinds in short.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Details {
    /// Model that it was derived from.
    pub parent_model: String,
    /// `gguf`.
    pub format: String,
    /// Architecture.
    pub family: String,
    /// Architecture, as a list.
    pub families: Vec<String>,
    /// Number of weights, rounded: `1.2B`.
    pub parameter_size: String,
    /// File type: `Q4_K_M`.
    pub quantization_level: String,
}

/// Reads what a model is, without loading its weights. `verbose` also lists arrays and tensors.
///
/// # Errors
/// If there is no such file or it is no GGUF.
///
/// # Examples
/// ```
/// let shown = oprel::show(&oprel::ModelSource::Demo, false)?;
/// assert_eq!(shown.details.quantization_level, "Q8_0");
/// assert!(shown.capabilities.iter().any(|c| c == "tools"));
/// # Ok::<(), oprel::OprelError>(())
/// ```
pub fn show(source: &ModelSource, verbose: bool) -> Result<Show> {
    shown(source, None, verbose)
}

/// The same of a model that runs with another chat template than its file's.
///
/// # Errors
/// As [`show`].
pub fn show_with_template(source: &ModelSource, template: &str, verbose: bool) -> Result<Show> {
    shown(source, Some(template), verbose)
}

fn shown(source: &ModelSource, template: Option<&str>, verbose: bool) -> Result<Show> {
    let file = source.open()?;
    let text = |key: &str| -> String {
        file.metadata().str(key).ok().flatten().unwrap_or_default().to_string()
    };
    let family = text("general.architecture");
    let weights = file.tensors().iter().map(|t| t.shape.iter().product::<u64>()).sum();
    let mut model_info = model_info(&file, verbose);
    model_info.insert("general.parameter_count".into(), json!(weights));
    Ok(Show {
        license: text("general.license"),
        modelfile: String::new(),
        parameters: String::new(),
        template: template.map_or_else(|| text("tokenizer.chat_template"), str::to_owned),
        system: String::new(),
        details: Details {
            parent_model: String::new(),
            format: "gguf".into(),
            families: vec![family.clone()],
            family,
            parameter_size: oprel_hub::rounded(weights),
            quantization_level: file.file_type().into(),
        },
        model_info,
        tensors: if verbose { tensors(&file) } else { Vec::new() },
        capabilities: oprel_backend::capabilities(&file, template)
            .iter()
            .map(|c| c.as_str().into())
            .collect(),
        modified_at: modified_at(source),
    })
}

/// The body of `/api/show` of a file that is known by a name or a path, which changed last at this moment.
#[doc(hidden)]
pub fn show_body(shown: Show, name: &str, modified_at: Timestamp) -> ollama::Show {
    ollama::Show {
        details: show_details(&shown),
        license: shown.license,
        modelfile: format!("# Modelfile of a file that is used where it lies.\nFROM {name}\n"),
        parameters: shown.parameters,
        template: shown.template,
        system: shown.system,
        model_info: shown.model_info,
        tensors: shown.tensors,
        capabilities: shown.capabilities,
        modified_at,
        ..ollama::Show::default()
    }
}

/// Sizes and kinds in short, as the field's bodies have them.
#[doc(hidden)]
pub fn show_details(shown: &Show) -> ollama::Details {
    let d = shown.details.clone();
    let number = |key: &str| {
        let key = format!("{}.{key}", d.family);
        shown.model_info.get(&key).and_then(Json::as_u64)
    };
    ollama::Details {
        context_length: number("context_length"),
        embedding_length: number("embedding_length"),
        parent_model: d.parent_model,
        format: d.format,
        family: d.family,
        families: d.families,
        parameter_size: d.parameter_size,
        quantization_level: d.quantization_level,
    }
}

/// What a model of a store brings with it, in what is shown of its file. Of parameters those of `options` win.
#[doc(hidden)]
pub fn overlay_show(model: &StoredModel, options: &Map<String, Json>, body: &mut ollama::Show) {
    let mut params = model.params.clone();
    params.extend(options.clone());
    body.parameters = ollama::parameter_lines(&params);
    if body.system.is_empty() {
        body.system = model.system.clone().unwrap_or_default();
    }
    if !model.licenses.is_empty() {
        body.license = model.licenses.join("\n");
    }
    body.modelfile = model.modelfile_text();
    body.messages =
        model.messages.iter().map(|m| json!({"role": m.role, "content": m.content})).collect();
    body.modified_at = model.entry.modified.into();
}

fn model_info(file: &Gguf, verbose: bool) -> Map<String, Json> {
    let hidden = ["general.name", "tokenizer.chat_template"];
    let all = file.metadata().iter().filter(|(key, _)| !hidden.contains(key));
    all.map(|(key, value)| (key.to_string(), value_json(value, verbose))).collect()
}

fn value_json(value: &Value, verbose: bool) -> Json {
    match value {
        Value::U8(x) => json!(x),
        Value::I8(x) => json!(x),
        Value::U16(x) => json!(x),
        Value::I16(x) => json!(x),
        Value::U32(x) => json!(x),
        Value::I32(x) => json!(x),
        Value::F32(x) => json!(x),
        Value::Bool(x) => json!(x),
        Value::Str(x) => json!(x),
        Value::U64(x) => json!(x),
        Value::I64(x) => json!(x),
        Value::F64(x) => json!(x),
        Value::Array(array) if verbose => array_json(array),
        Value::Array(_) => Json::Null,
    }
}

fn array_json(array: &Array) -> Json {
    match array {
        Array::U8(a) => json!(a),
        Array::I8(a) => json!(a),
        Array::U16(a) => json!(a),
        Array::I16(a) => json!(a),
        Array::U32(a) => json!(a),
        Array::I32(a) => json!(a),
        Array::F32(a) => json!(a),
        Array::Bool(a) => json!(a),
        Array::Str(a) => a.iter().collect(),
        Array::Array(a) => a.iter().map(array_json).collect(),
        Array::U64(a) => json!(a),
        Array::I64(a) => json!(a),
        Array::F64(a) => json!(a),
    }
}

fn tensors(file: &Gguf) -> Vec<Json> {
    let one =
        |t: &oprel_gguf::TensorInfo| json!({"name": t.name, "type": t.ty.name(), "shape": t.shape});
    file.tensors().iter().map(one).collect()
}

fn modified_at(source: &ModelSource) -> String {
    let ModelSource::File(path) = source else { return "1970-01-01T00:00:00Z".into() };
    let time = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let since = time.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    oprel_chat::LocalTime::utc(since.as_secs() as i64).strftime("%Y-%m-%dT%H:%M:%SZ")
}
