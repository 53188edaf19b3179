//! Bodies that say little more than which model is meant: `/api/show`, `/api/delete`.

use serde_json::{Map, Value};

use crate::Failure;

use super::fields::{Fields, wrong};

/// Which model is meant, and how it is to be shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Named {
    /// The model, as the client named it.
    pub model: String,
    /// Show arrays of metadata and tensors, too.
    pub verbose: bool,
    /// Show it with this system text.
    pub system: Option<String>,
    /// Show it with these options over its own.
    pub options: Map<String, Value>,
    /// Fields that change nothing here.
    pub ignored: Vec<String>,
}

/// Reads the name of a model, which clients of former times write `name`.
///
/// # Errors
/// If it is no JSON, a field is wrong, or no model is named.
pub fn named(body: &[u8]) -> Result<Named, Failure> {
    let mut fields = Fields::of_body(body)?;
    let model = fields.filled("model")?;
    let name = fields.filled("name")?;
    let model = model.or(name).unwrap_or_default().trim().to_owned();
    if model.is_empty() {
        return Err(wrong("model is required"));
    }
    let options = fields.take("options").map(|value| Fields::at("options", value)).transpose()?;
    Ok(Named {
        model,
        verbose: fields.flag("verbose")?.unwrap_or(false),
        system: fields.filled("system")?,
        options: options.map(Fields::rest).unwrap_or_default(),
        ignored: fields.ignored(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<Named, Failure> {
        named(body.to_string().as_bytes())
    }

    #[test]
    fn a_model_is_named_by_either_field() {
        let named = |model: &str| Named { model: model.into(), ..Named::default() };
        assert_eq!(read(json!({"model": "m"})), Ok(named("m")));
        assert_eq!(read(json!({"Name": " m ", "model": ""})), Ok(named("m")));
        assert_eq!(read(json!({"name": "n", "model": "m"})), Ok(named("m")));
        for nothing in [json!({}), json!({"model": " "}), json!({"name": null})] {
            assert_eq!(read(nothing).unwrap_err().message, "model is required");
        }
    }

    #[test]
    fn how_it_is_shown_is_said_besides() {
        let body = json!({"model": "m", "verbose": true, "system": "x", "insecure": true,
            "options": {"top_k": 1}});
        let all = read(body).unwrap();
        assert_eq!((all.verbose, all.system.as_deref()), (true, Some("x")));
        assert_eq!(all.options["top_k"], json!(1));
        assert_eq!(all.ignored, ["insecure"]);
        assert!(read(json!({"model": "m", "options": 1})).is_err());
    }
}
