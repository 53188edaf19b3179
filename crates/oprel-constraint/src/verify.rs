//! Whether a whole text is what a constraint asks for: for answers of engines that promise to keep to it
//! and may not.
//!
//! JSON is read as JSON Schema reads it: unlike a [`Matcher`], this leaves the order of properties and the
//! space between them to whoever wrote the text.

mod schema;

use std::sync::Arc;

use oprel_api::Constraint;
use regex::Regex;
use serde_json::Value;

use crate::{Error, Matcher, Result, Vocabulary};

/// Checks whole texts against one constraint.
#[derive(Clone, Debug)]
pub struct Verifier(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Object,
    Schema(Arc<Value>),
    Regex(Regex),
    Choice(Arc<[String]>),
    /// A grammar, followed byte by byte.
    Grammar(Box<Matcher>),
}

impl Verifier {
    /// Prepares a constraint.
    ///
    /// # Errors
    /// What is wrong with it, or what of it cannot be checked, by name.
    pub fn new(constraint: &Constraint) -> Result<Verifier> {
        Ok(Verifier(match constraint {
            Constraint::JsonObject => Kind::Object,
            Constraint::JsonSchema(schema) => {
                crate::schema::check(schema)?;
                Kind::Schema(Arc::new(schema.clone()))
            }
            Constraint::Regex(expression) => Kind::Regex(whole(expression)?),
            Constraint::Choice(choices) if choices.is_empty() => return Err(Error::NoChoice),
            Constraint::Choice(choices) => Kind::Choice(choices.as_slice().into()),
            grammar => Kind::Grammar(Box::new(Matcher::new(&Vocabulary::of_bytes()?, grammar)?)),
        }))
    }

    /// Whether `text` is what the constraint asks for.
    ///
    /// # Errors
    /// What is wrong with the text, in words.
    pub fn verify(&self, text: &str) -> Result<(), String> {
        match &self.0 {
            Kind::Object => match json(text)? {
                Value::Object(_) => Ok(()),
                _ => Err("it is no JSON object".into()),
            },
            Kind::Schema(schema) => schema::fits(schema, &json(text)?),
            Kind::Regex(expression) if expression.is_match(text) => Ok(()),
            Kind::Regex(_) => Err("the regular expression does not match it".into()),
            Kind::Choice(choices) if choices.iter().any(|choice| choice == text) => Ok(()),
            Kind::Choice(_) => Err("it is none of the choices".into()),
            Kind::Grammar(matcher) => follow(matcher.fork(), text),
        }
    }
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))
}

/// An expression that matches a whole text or not at all.
fn whole(expression: &str) -> Result<Regex> {
    let anchored = format!("^(?:{})$", crate::regex::whole(expression)?);
    compile(&anchored)
}

fn compile(expression: &str) -> Result<Regex> {
    let wrong = |e: regex::Error| Error::TooComplex { reason: e.to_string() };
    regex::RegexBuilder::new(expression).size_limit(4 << 20).build().map_err(wrong)
}

/// Bytes are the tokens of their own vocabulary.
fn follow(mut matcher: Matcher, text: &str) -> Result<(), String> {
    for (at, byte) in text.bytes().enumerate() {
        match matcher.accept(u32::from(byte)) {
            Ok(()) => {}
            Err(Error::NotAllowed { .. }) => {
                return Err(format!("the grammar does not allow its byte {at}"));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    match matcher.may_end() {
        Ok(true) => Ok(()),
        Ok(false) => Err("the grammar does not let it end there".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oprel_api::GrammarSyntax;
    use serde_json::json;

    fn says(constraint: &Constraint, text: &str) -> String {
        Verifier::new(constraint).unwrap().verify(text).err().unwrap_or_default()
    }

    #[test]
    fn each_kind_of_constraint_is_checked() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}},
            "required": ["a"], "additionalProperties": false});
        let gbnf = |text: &str| Constraint::Grammar {
            syntax: GrammarSyntax::Gbnf,
            text: text.to_string(),
        };
        let table = [
            (Constraint::JsonObject, "{ \"b\":\n1 }", ""),
            (Constraint::JsonObject, "[1]", "no JSON object"),
            (Constraint::JsonObject, "```json\n{}\n```", "no JSON"),
            (Constraint::JsonSchema(schema.clone()), " {\"a\": 3}\n", ""),
            (Constraint::JsonSchema(schema), "{\"a\": 3, \"b\": 1}", "b"),
            (Constraint::Regex("[ab]+|c".into()), "abba", ""),
            (Constraint::Regex("[ab]+|c".into()), "cc", "does not match"),
            (Constraint::Regex("^a$".into()), "a", ""),
            (Constraint::Choice(vec!["yes".into(), "no".into()]), "no", ""),
            (Constraint::Choice(vec!["yes".into(), "no".into()]), "no.", "none of the choices"),
            (gbnf("root ::= \"ä\" [0-9]+"), "ä42", ""),
            (gbnf("root ::= \"ä\" [0-9]+"), "ä4x", "byte 3"),
            (gbnf("root ::= \"ä\" [0-9]+"), "ä", "end there"),
        ];
        for (constraint, text, wanted) in table {
            let said = says(&constraint, text);
            let fits = if wanted.is_empty() { said.is_empty() } else { said.contains(wanted) };
            assert!(fits, "{constraint:?} {text:?}: {said:?}");
        }
    }

    #[test]
    fn what_cannot_be_checked_is_refused_by_name() {
        let error = Verifier::new(&Constraint::JsonSchema(json!({"uniqueItems": true})));
        assert!(error.unwrap_err().to_string().contains("uniqueItems"));
        assert!(Verifier::new(&Constraint::Regex("(".into())).is_err());
        assert!(Verifier::new(&Constraint::Choice(vec![])).is_err());
    }
}
