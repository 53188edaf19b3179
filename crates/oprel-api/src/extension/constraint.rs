//! What the answer must look like, by each of the names that clients have for it.

use serde_json::Value;

use crate::body::{Fields, unsupported, wrong};
use crate::{Constraint, Failure, GrammarSyntax};

/// The constraint of a request: at most one.
pub(crate) fn constraint(fields: &mut Fields) -> Result<Option<Constraint>, Failure> {
    let mut found: Vec<(&str, Constraint)> = Vec::new();
    if let Some(format) = fields.object("response_format")? {
        found.extend(response_format(format)?.map(|c| ("response_format", c)));
    }
    if let Some(value) = fields.value("json_schema") {
        found.push(("json_schema", Constraint::JsonSchema(schema_in(value, "json_schema")?)));
    }
    if let Some(value) = fields.value("grammar") {
        found.push(("grammar", grammar(value)?));
    }
    if let Some(mut outer) = fields.object("structured_outputs")? {
        let inner = guided(&mut outer, ["json", "regex", "choice", "grammar"])?;
        found.extend(inner.into_iter().map(|(_, c)| ("structured_outputs", c)));
        if outer.take("json_object")?.unwrap_or(false) {
            found.push(("structured_outputs", Constraint::JsonObject));
        }
        if let Some(field) = outer.left().first() {
            return Err(unsupported(field));
        }
    }
    found.extend(guided(
        fields,
        ["guided_json", "guided_regex", "guided_choice", "guided_grammar"],
    )?);
    match found.as_slice() {
        [(one, _), (other, _), ..] => {
            Err(wrong(format!("{one} cannot be combined with another constraint ({other})")))
        }
        _ => Ok(found.pop().map(|(_, constraint)| constraint)),
    }
}

/// A JSON Schema: an object, `true` or `false`, or a text that holds one.
pub(crate) fn schema_in(value: Value, field: &str) -> Result<Value, Failure> {
    let value = match value {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other,
    };
    match value {
        Value::Object(_) | Value::Bool(_) => Ok(value),
        _ => Err(wrong(format!("{field} must be a JSON Schema"))),
    }
}

fn response_format(mut format: Fields) -> Result<Option<Constraint>, Failure> {
    let kind: String = format.need("type")?;
    match kind.as_str() {
        "text" => Ok(None),
        // Some send the schema along with this type.
        "json_object" => Ok(Some(match format.value("schema") {
            Some(schema) => Constraint::JsonSchema(schema_in(schema, &format.path("schema"))?),
            None => Constraint::JsonObject,
        })),
        "json_schema" => {
            let mut holder = match format.object("json_schema")? {
                Some(inner) => inner,
                None => format,
            };
            let path = holder.path("schema");
            let schema =
                holder.value("schema").ok_or_else(|| wrong(format!("{path} is required")))?;
            Ok(Some(Constraint::JsonSchema(schema_in(schema, &path)?)))
        }
        other => {
            let known = "response_format.type must be text, json_object or json_schema";
            Err(wrong(format!("{known}, not {other:?}")))
        }
    }
}

/// Constraints by the names of a schema, an expression, a list of texts and a grammar.
fn guided(
    fields: &mut Fields,
    names: [&'static str; 4],
) -> Result<Vec<(&'static str, Constraint)>, Failure> {
    let [json, regex, choice, grammar_of] = names;
    let mut found = Vec::new();
    if let Some(value) = fields.value(json) {
        let schema = schema_in(value, &fields.path(json))?;
        found.push((json, Constraint::JsonSchema(schema)));
    }
    if let Some(text) = fields.take(regex)? {
        found.push((regex, Constraint::Regex(text)));
    }
    if let Some(texts) = fields.take::<Vec<String>>(choice)? {
        if texts.is_empty() {
            return Err(wrong(format!("{} is empty", fields.path(choice))));
        }
        found.push((choice, Constraint::Choice(texts)));
    }
    if let Some(value) = fields.value(grammar_of) {
        found.push((grammar_of, grammar(value)?));
    }
    Ok(found)
}

/// A grammar: a text, whose notation is told by its rules, or an object that names the notation.
fn grammar(value: Value) -> Result<Constraint, Failure> {
    let text = match value {
        Value::String(text) => text,
        object => {
            let mut fields = Fields::within(object, "grammar")?;
            let syntax: String = fields.need("syntax")?;
            let text = fields.need("text")?;
            let syntax = match syntax.as_str() {
                "gbnf" => GrammarSyntax::Gbnf,
                "lark" => GrammarSyntax::Lark,
                other => {
                    let wanted = "grammar.syntax must be \"gbnf\" or \"lark\"";
                    return Err(wrong(format!("{wanted}, not {other:?}")));
                }
            };
            return Ok(Constraint::Grammar { syntax, text });
        }
    };
    let syntax = if text.contains("::=") { GrammarSyntax::Gbnf } else { GrammarSyntax::Lark };
    Ok(Constraint::Grammar { syntax, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(json: Value) -> Result<Option<Constraint>, Failure> {
        let mut fields = Fields::within(json, "body")?;
        let constraint = constraint(&mut fields)?;
        assert!(fields.left().is_empty());
        Ok(constraint)
    }

    #[test]
    fn each_name_of_a_constraint_is_read() {
        let schema = json!({"type": "object"});
        let is_schema = Some(Constraint::JsonSchema(schema.clone()));
        let grammar = |syntax, text: &str| Some(Constraint::Grammar { syntax, text: text.into() });
        let regex = Some(Constraint::Regex("a+".into()));
        let choice = Some(Constraint::Choice(vec!["a".into(), "b".into()]));
        let (gbnf, lark) = ("root ::= \"a\"", "start: \"a\"");
        let table = [
            (json!({}), None),
            (json!({"response_format": {"type": "text"}}), None),
            (json!({"response_format": {"type": "json_object"}}), Some(Constraint::JsonObject)),
            (
                json!({"response_format": {"type": "json_schema",
                "json_schema": {"name": "n", "strict": true, "schema": schema}}}),
                is_schema.clone(),
            ),
            (
                json!({"response_format": {"type": "json_object", "schema": schema}}),
                is_schema.clone(),
            ),
            (json!({"guided_json": schema}), is_schema.clone()),
            (json!({"guided_json": schema.to_string()}), is_schema.clone()),
            (json!({"json_schema": schema}), is_schema.clone()),
            (json!({"structured_outputs": {"json": schema}}), is_schema),
            (json!({"structured_outputs": {"json_object": true}}), Some(Constraint::JsonObject)),
            (json!({"guided_regex": "a+"}), regex.clone()),
            (json!({"structured_outputs": {"regex": "a+"}}), regex),
            (json!({"guided_choice": ["a", "b"]}), choice.clone()),
            (json!({"structured_outputs": {"choice": ["a", "b"]}}), choice),
            (json!({"guided_grammar": gbnf}), grammar(GrammarSyntax::Gbnf, gbnf)),
            (json!({"grammar": lark}), grammar(GrammarSyntax::Lark, lark)),
            (
                json!({"grammar": {"syntax": "lark", "text": lark}}),
                grammar(GrammarSyntax::Lark, lark),
            ),
        ];
        for (body, wanted) in table {
            assert_eq!(read(body.clone()), Ok(wanted), "{body}");
        }
    }

    #[test]
    fn a_constraint_that_is_none_and_two_at_once_are_refused_by_name() {
        let table = [
            (json!({"response_format": {"type": "xml"}}), "response_format.type must be"),
            (json!({"response_format": {"type": "json_schema"}}), "body.response_format.schema is"),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}),
                "body.response_format.json_schema.schema is required",
            ),
            (json!({"guided_json": "{oops"}), "body.guided_json must be a JSON Schema"),
            (json!({"guided_choice": []}), "body.guided_choice is empty"),
            (
                json!({"structured_outputs": {"structural_tag": "x"}}),
                "body.structured_outputs.structural_tag is not supported",
            ),
            (json!({"grammar": {"syntax": "abnf", "text": "x"}}), "grammar.syntax must be"),
            (
                json!({"guided_regex": "a", "response_format": {"type": "json_object"}}),
                "response_format cannot be combined with another constraint (guided_regex)",
            ),
        ];
        for (body, wanted) in table {
            let failure = read(body.clone()).unwrap_err();
            assert!(failure.message.starts_with(wanted), "{body}: {failure}");
        }
    }
}
