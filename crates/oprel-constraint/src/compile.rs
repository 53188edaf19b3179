//! A constraint's way into llguidance: limits first, then one of its two notations.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use llguidance::TokenParser;
use llguidance::api::TopLevelGrammar;
use oprel_api::{Constraint, GrammarSyntax};
use serde_json::{Value, json};

use crate::{Error, Result, Vocabulary, gbnf, lark, regex, schema};

/// Longest schema, grammar or expression, in bytes.
pub(crate) const MOST_BYTES: usize = 256 << 10;

/// Deepest nesting of schemas, and of brackets in grammars and expressions.
pub(crate) const MOST_LEVELS: usize = 64;

/// Most rules of a grammar; each may be a level of the compiler's stack.
pub(crate) const MOST_RULES: usize = 4000;

/// Longest text that one terminal or expression may force, in bytes: it comes as one step.
pub(crate) const LONGEST_FORCED: usize = 16 << 10;

/// Most choices.
const MOST_CHOICES: usize = 10_000;

/// Stack of the thread that compiles: room for a chain of all rules.
const STACK_BYTES: usize = 128 << 20;

/// What is written between the parts of a JSON text.
const SPACE_IN_JSON: &str = r" |\n[ \t]{0,40}";

/// What may follow a backslash in JSON. With `u` a name could be written in two ways, and one that
/// the schema describes could come as one that it does not.
const ESCAPES_IN_JSON: &str = "nrbtf\\\"";

/// What llguidance is given to compile.
pub(crate) enum Source {
    Lark(String),
    Json(Value),
}

impl Source {
    /// What `constraint` says, checked and translated.
    pub(crate) fn of(constraint: &Constraint) -> Result<Source> {
        match constraint {
            Constraint::JsonObject => {
                Ok(Source::Json(schema::prepare(&json!({"type": "object"}))?))
            }
            Constraint::JsonSchema(schema) => Ok(Source::Json(schema::prepare(schema)?)),
            Constraint::Regex(expression) => regex::whole(expression).map(|r| one_terminal(&r)),
            Constraint::Choice(choices) => choice(choices),
            Constraint::Grammar { syntax: GrammarSyntax::Lark, text } => {
                check_size("grammar", text.len())?;
                lark::check(text)?;
                Ok(Source::Lark(text.clone()))
            }
            Constraint::Grammar { syntax: GrammarSyntax::Gbnf, text } => {
                check_size("grammar", text.len())?;
                gbnf::to_lark(text).map(Source::Lark)
            }
            _ => Err(Error::Internal { reason: "this kind of constraint is unknown".into() }),
        }
    }

    /// Compiles for a vocabulary.
    ///
    /// The compiler follows a chain of rules by recursion, so it runs on a stack of its own.
    pub(crate) fn compile(self, vocabulary: &Vocabulary) -> Result<TokenParser> {
        let is_json = matches!(self, Source::Json(_));
        let grammar = match self {
            Source::Lark(text) => TopLevelGrammar::from_lark(text),
            Source::Json(schema) => TopLevelGrammar::from_json_schema(schema),
        };
        let failed = |reason: &str| Error::Internal { reason: reason.to_owned() };
        let run = || {
            let parser = vocabulary.factory().create_parser(grammar);
            parser.map_err(|error| failure(&format!("{error:#}"), is_json))
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("compile".into()).stack_size(STACK_BYTES);
            let compiled = thread
                .spawn_scoped(scope, || catch_unwind(AssertUnwindSafe(run)))
                .map_err(|_| failed("no thread could be started to compile the constraint"))?;
            match compiled.join() {
                Ok(Ok(compiled)) => compiled,
                _ => Err(failed("the compiler of constraints failed")),
            }
        })
    }
}

/// The options that go with a schema, under the key at which llguidance looks for them.
pub(crate) fn json_options() -> Value {
    json!({"whitespace_pattern": SPACE_IN_JSON, "json_allowed_escapes": ESCAPES_IN_JSON})
}

pub(crate) fn check_size(what: &'static str, bytes: usize) -> Result<()> {
    if bytes > MOST_BYTES {
        return Err(Error::TooLarge { what, found: bytes, unit: "bytes", most: MOST_BYTES });
    }
    Ok(())
}

/// A grammar of one terminal, so that no choice between terminals is made early.
pub(crate) fn one_terminal(expression: &str) -> Source {
    Source::Lark(format!("start: TEXT\nTEXT: /{}/\n", lark::inside_slashes(expression)))
}

fn choice(choices: &[String]) -> Result<Source> {
    if choices.is_empty() {
        return Err(Error::NoChoice);
    }
    if choices.len() > MOST_CHOICES {
        let found = choices.len();
        return Err(Error::TooLarge { what: "choice", found, unit: "texts", most: MOST_CHOICES });
    }
    check_size("choice", choices.iter().map(String::len).sum())?;
    let texts: Vec<String> = choices.iter().map(|text| lark::quoted(text)).collect();
    Ok(Source::Lark(format!("start: TEXT\nTEXT: {}\n", texts.join(" | "))))
}

/// What a message of llguidance's compiler means.
pub(crate) fn failure(message: &str, is_json: bool) -> Error {
    let message = first_part(message);
    let is = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    if is(&[
        "too big",
        "too large",
        "too many",
        "fuel",
        "limit",
        "exceeded",
        "too complex",
        "symbols.len()",
    ]) {
        let reason = message.strip_prefix("panic: ").unwrap_or(&message).to_owned();
        return Error::TooComplex { reason };
    }
    if let Some(reason) = message.strip_prefix("panic: ") {
        return Error::Internal { reason: reason.to_owned() };
    }
    if is_json && message.contains("min/maxProperties") {
        let reason = schema::COUNTED_WHERE_REQUIRED.into();
        let (keyword, pointer) = ("minProperties".into(), String::new());
        return Error::Keyword { keyword, pointer, reason };
    }
    if is_json {
        return Error::Schema { pointer: String::new(), reason: message };
    }
    let (line, reason) = lark::located(&message);
    Error::Grammar { line, reason }
}

/// The message without the source lines, states and backtraces that follow it.
fn first_part(message: &str) -> String {
    let end = message.find(['\n']).unwrap_or(message.len());
    message[..end].trim().to_owned()
}

/// The tokenizer of the demo model.
#[cfg(test)]
pub(crate) fn demo_tokenizer() -> oprel_tokenizer::Tokenizer {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/oprel-demo-q8_0.gguf");
    let file = oprel_gguf::Gguf::open(path).expect("part of the tree");
    oprel_tokenizer::Tokenizer::from_metadata(file.metadata()).expect("it has one")
}

/// Its vocabulary.
#[cfg(test)]
pub(crate) fn demo_vocabulary() -> std::sync::Arc<Vocabulary> {
    let tokenizer = demo_tokenizer();
    Vocabulary::new(&tokenizer, tokenizer.n_tokens()).expect("it is small")
}
