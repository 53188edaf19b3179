//! The list of models.

use serde_json::{Value, json};

/// A model, as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, as requests say it.
    pub id: String,
    /// When it came here: seconds since 1970.
    pub created: u64,
    /// Whose it is: the namespace of its name, or `library`.
    pub owned_by: String,
}

/// The body of the list of models.
pub fn models(listed: &[Listed]) -> Value {
    json!({"object": "list", "data": listed.iter().map(model).collect::<Vec<_>>()})
}

/// The body of one model.
pub fn model(listed: &Listed) -> Value {
    json!({
        "id": listed.id,
        "object": "model",
        "created": listed.created,
        "owned_by": listed.owned_by,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_models_are_an_empty_list() {
        assert_eq!(models(&[]).to_string(), r#"{"object":"list","data":[]}"#);
        let one = Listed { id: "ns/m:q4".into(), created: 5, owned_by: "ns".into() };
        assert_eq!(
            models(&[one]).to_string(),
            r#"{"object":"list","data":[{"id":"ns/m:q4","object":"model","created":5,"owned_by":"ns"}]}"#
        );
    }
}
