//! What this server can be asked, as an OpenAPI document, made of one table. Tests hold the table against the router
//! and against what the dialects read.

mod fields;
mod table;

use serde_json::{Map, Value, json};

use fields::Field;
use table::{ROUTES, Route};

/// The document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let entry = paths.entry(public(route.path)).or_insert_with(|| json!({}));
        entry[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "oprel",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The dialects of Ollama, OpenAI and Anthropic, and oprel's own routes, in front of local models. \
                A field that changes nothing is named in the header x-oprel-ignored; one that cannot be honoured is \
                refused by its name.",
        },
        "security": [{}, {"key": []}],
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "paths": paths,
    })
}

/// A path as OpenAPI writes it.
fn public(path: &str) -> String {
    path.replace("{*", "{")
}

fn operation(route: &Route) -> Value {
    let mut all = json!({
        "summary": route.says,
        "tags": [route.tag],
        "responses": {
            "200": {"description": "What was asked for", "content": content(route)},
            "default": {"description": "Why not", "content": {"application/json": {"schema": {"type": "object"}}}},
        },
    });
    let parameters = parameters(route);
    if !parameters.is_empty() {
        all["parameters"] = json!(parameters);
    }
    if let Some(usual) = route.usual {
        let usual: Value = serde_json::from_str(usual).unwrap_or_default();
        let required: Vec<&String> = usual.as_object().into_iter().flat_map(Map::keys).collect();
        let mut schema = object(&route.fields.concat());
        schema["required"] = json!(required);
        all["requestBody"] = json!({"required": true, "content": {"application/json": {
            "schema": schema, "example": usual}}});
    }
    all
}

/// What comes back: at once, and as a stream where there are streams.
fn content(route: &Route) -> Value {
    let mut kinds = Map::new();
    let text = route.answer.starts_with("text/plain");
    let schema = json!({"type": if text { "string" } else { "object" }});
    kinds.insert(route.answer.into(), json!({"schema": schema}));
    if let Some(kind) = route.stream {
        kinds.insert(kind.into(), json!({"schema": {"type": "string"}}));
    }
    Value::Object(kinds)
}

/// What stands in the path and behind it.
fn parameters(route: &Route) -> Vec<Value> {
    let path = public(route.path);
    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let in_path = names.map(
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}),
    );
    let behind = route.query.iter().map(|Field(name, example, says)| {
        let mut schema = schema(example);
        schema["description"] = json!(says);
        json!({"name": name, "in": "query", "required": false, "schema": schema})
    });
    in_path.chain(behind).collect()
}

/// An object with these fields.
fn object(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|Field(name, example, says)| {
            let mut schema = schema(example);
            if *name == "options" {
                schema = object(fields::OPTIONS);
            }
            schema["description"] = json!(says);
            (name.to_string(), schema)
        })
        .collect();
    json!({"type": "object", "properties": properties})
}

/// What an example is an example of.
fn schema(example: &str) -> Value {
    let value: Value = serde_json::from_str(example).unwrap_or_default();
    let kind = match &value {
        Value::Null => return json!({}),
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    json!({"type": kind, "example": value})
}

#[cfg(test)]
mod tests;
