//! Bodies of `/api/embed` and of its predecessor `/api/embeddings`.

use serde::Serialize;
use serde_json::Value;

use crate::dialect::{EmbedCall, Moment, Stay};
use crate::{EmbedRequest, Embeddings, Failure};

use super::fields::{Fields, wrong};
use super::keep_alive;
use super::options::Options;
use super::wire::Metrics;

/// Reads a body of `/api/embed`. Without input it loads the model.
///
/// # Errors
/// If it is no JSON or a field is wrong; by the field's name.
pub fn embed(body: &[u8]) -> Result<EmbedCall, Failure> {
    let mut fields = Fields::of_body(body)?;
    let model = model(&mut fields)?;
    let input = input(fields.take("input"))?;
    let truncate = fields.flag("truncate")?.unwrap_or(true);
    let dimensions = dimensions(&mut fields)?;
    if model.is_empty() {
        return Err(super::absent_embedder(&model));
    }
    let request = EmbedRequest { truncate, dimensions, ..EmbedRequest::new(input) };
    call(model, request, fields, Box::new(embedded))
}

/// Reads a body of `/api/embeddings`: one text, one vector, as the model makes it.
///
/// # Errors
/// If it is no JSON or a field is wrong; by the field's name.
pub fn embeddings(body: &[u8]) -> Result<EmbedCall, Failure> {
    let mut fields = Fields::of_body(body)?;
    let model = model(&mut fields)?;
    if model.is_empty() {
        return Err(wrong("model is required"));
    }
    let text = fields.filled("prompt")?;
    let request = EmbedRequest { truncate: false, normalize: false, ..EmbedRequest::new(text) };
    call(model, request, fields, Box::new(embedded_one))
}

#[allow(clippy::type_complexity)]
fn call(
    model: String,
    request: EmbedRequest,
    mut fields: Fields,
    voice: Box<dyn FnOnce(&Moment, Embeddings) -> Value + Send>,
) -> Result<EmbedCall, Failure> {
    let options = Options::take(&mut fields)?;
    let keep_alive = fields.take("keep_alive").as_ref().map(keep_alive::read).transpose()?;
    let stay = Stay { keep_alive, ..options.stay(false) };
    let mut ignored = options.ignored_without_generation();
    ignored.extend(fields.ignored());
    Ok(EmbedCall { model, request, stay, ignored, voice })
}

fn model(fields: &mut Fields) -> Result<String, Failure> {
    Ok(fields.text("model")?.unwrap_or_default().trim().to_owned())
}

/// A text that is empty is none; one in a list is one.
fn input(value: Option<Value>) -> Result<Vec<String>, Failure> {
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        _ => None,
    };
    let texts = match value {
        None => Some(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => Some(Vec::new()),
        Some(Value::Array(list)) => list.into_iter().map(text).collect(),
        Some(other) => text(other).map(|text| vec![text]),
    };
    texts.ok_or_else(|| wrong("invalid input type"))
}

fn dimensions(fields: &mut Fields) -> Result<Option<u32>, Failure> {
    let n = fields.whole("dimensions")?.unwrap_or_default();
    let n = u32::try_from(n).map_err(|_| wrong(format!("dimensions is out of range: {n}")))?;
    Ok(Some(n).filter(|&n| n > 0))
}

#[derive(Serialize)]
struct Embedded<'a> {
    model: &'a str,
    embeddings: Vec<Vec<f64>>,
    #[serde(flatten)]
    metrics: Metrics,
}

fn embedded(moment: &Moment, made: Embeddings) -> Value {
    let embeddings = made.vectors.iter().map(|v| v.iter().map(|&x| short(x)).collect()).collect();
    let metrics = Metrics::of(&made.usage);
    let body = Embedded { model: &moment.model, embeddings, metrics };
    serde_json::to_value(body).unwrap_or_default()
}

fn embedded_one(_moment: &Moment, made: Embeddings) -> Value {
    let vector = made.vectors.into_iter().next().unwrap_or_default();
    serde_json::json!({ "embedding": vector.into_iter().map(short).collect::<Vec<f64>>() })
}

/// The number with the fewest digits that is this one in single precision: half the text.
fn short(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}

#[cfg(test)]
mod tests;
