//! What a constraint lets through fits its schema, whatever the model wants to write.

use oprel_api::Constraint;
use oprel_constraint::Matcher;
use serde_json::{Value, json};

use crate::play::{Random, demo, pick, real, walk};
use crate::validate;

fn schemas() -> Vec<Value> {
    let mut all = scalars();
    all.extend(containers());
    all.extend(combinations());
    all
}

fn scalars() -> Vec<Value> {
    vec![
        json!(true),
        json!({"type": "null"}),
        json!({"type": "boolean"}),
        json!({"type": "string"}),
        json!({"type": "number"}),
        json!({"type": "integer"}),
        json!({"type": ["string", "null", "integer"]}),
        json!({"type": "integer", "minimum": -3, "maximum": 117}),
        json!({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 1000}),
        json!({"type": "number", "minimum": -1.5, "exclusiveMaximum": 2.25}),
        json!({"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 10000}),
        json!({"type": "string", "minLength": 2, "maxLength": 5}),
        json!({"type": "string", "pattern": "^[A-Z]{2}[0-9]{1,3}$"}),
        json!({"type": "string", "pattern": "b+c", "maxLength": 12}),
        json!({"enum": ["red", "re", "green \"x\"", 7, null, [1, 2], {"a": "b"}]}),
        json!({"const": {"version": 1, "name": "é\n"}}),
        json!({"type": "string", "format": "date"}),
        json!({"type": "string", "format": "date-time"}),
        json!({"type": "string", "format": "time"}),
        json!({"type": "string", "format": "email", "maxLength": 30}),
        json!({"type": "string", "format": "uuid"}),
        json!({"type": "string", "format": "ipv4"}),
        json!({"type": "string", "format": "ipv6"}),
        json!({"type": "string", "format": "hostname"}),
    ]
}

fn containers() -> Vec<Value> {
    vec![
        json!({"type": "array"}),
        json!({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4}),
        json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}],
            "items": false, "minItems": 2}),
        json!({"type": "array", "prefixItems": [{"const": 1}], "items": {"type": "null"}}),
        json!({"type": "object"}),
        json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"},
            "c": {"type": "boolean"}}, "required": ["b"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}),
        json!({"type": "object", "additionalProperties": {"type": "integer"}}),
        json!({"type": "object", "properties": {"x": {"type": "null"}},
            "additionalProperties": {"type": "boolean"}}),
        json!({"type": "object", "patternProperties": {"^n_": {"type": "integer"},
            "^s_": {"type": "string"}}, "additionalProperties": false}),
        json!({"type": "object", "required": ["z", "y"], "properties": {"y": {"type": "integer"}},
            "additionalProperties": {"type": "string"}}),
        json!({"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}},
            "minProperties": 1, "additionalProperties": false}),
        json!({"type": "object", "maxProperties": 2, "additionalProperties": {"type": "null"}}),
    ]
}

fn combinations() -> Vec<Value> {
    let person = json!({"type": "object", "properties": {"name": {"type": "string"},
        "children": {"type": "array", "items": {"$ref": "#/$defs/person"}, "maxItems": 2}},
        "required": ["name"], "additionalProperties": false});
    let shape = |kind: &str, size: &str| {
        json!({"type": "object", "properties": {"kind": {"const": kind},
            size: {"type": "number"}}, "required": ["kind", size], "additionalProperties": false})
    };
    vec![
        json!({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}]}),
        json!({"oneOf": [{"$ref": "#/$defs/circle"}, {"$ref": "#/$defs/square"}],
            "$defs": {"circle": shape("circle", "radius"), "square": shape("square", "side")}}),
        json!({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}},
            "required": ["a"]}, {"properties": {"b": {"type": "string"}}, "required": ["b"]}]}),
        json!({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 9}]}),
        json!({"$ref": "#/$defs/person", "$defs": {"person": person}}),
        json!({"type": "object", "properties": {"value": {"type": "integer"},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
            "required": ["value", "next"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"when": {"type": "string", "format": "date"},
            "who": {"type": "array", "items": {"$ref": "#/$defs/name"}, "minItems": 1},
            "how": {"enum": ["fast", "slow"]}, "note": {"type": ["string", "null"]}},
            "required": ["when", "who", "how", "note"], "additionalProperties": false,
            "$defs": {"name": {"type": "string", "pattern": "^[A-Z][a-z]+$"}}}),
    ]
}

/// The value of a text; none if it has a number that no `f64` holds, which JSON allows.
fn parsed(text: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(text).expect("UTF-8");
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(error) if error.to_string().contains("number out of range") => None,
        Err(error) => panic!("{text:?}: {error}"),
    }
}

#[test]
fn what_is_written_fits_the_schema() {
    let mut vocabularies = vec![("demo".to_owned(), demo())];
    vocabularies.extend(real(&["llama-bpe", "llama-spm", "qwen2", "gemma-4"]));
    let mut random = Random(42);
    for (name, vocabulary) in vocabularies {
        for schema in schemas() {
            let matcher = Matcher::new(&vocabulary, &Constraint::JsonSchema(schema.clone()));
            let matcher = matcher.unwrap_or_else(|e| panic!("{schema}: {e}"));
            let mut whole = 0;
            for _ in 0..if name == "demo" { 30 } else { 6 } {
                let walked = walk(&mut matcher.fork(), &mut random, 150);
                if !walked.complete {
                    continue;
                }
                whole += 1;
                let Some(value) = parsed(&walked.text) else { continue };
                let text = String::from_utf8_lossy(&walked.text);
                validate::check(&schema, &schema, &value)
                    .unwrap_or_else(|e| panic!("{name} {schema}: {text}: {e}"));
                assert_eq!(text.trim(), text, "no space around the text");
            }
            assert!(whole > 0, "{name} {schema}: none came to an end");
        }
    }
}

/// Values that fit, written as serializers do, are let through.
#[test]
fn what_fits_the_schema_can_be_written() {
    let vocabulary = demo();
    let tokenizer = crate::play::tokenizer(&crate::play::demo_path());
    let cases = [
        (json!({"type": "object"}), json!({"a": [1, 2.5e3, null], "b": {"c": "x\ty\"z\\"}})),
        (json!({"type": "number", "minimum": 0}), json!(0)),
        (combinations()[1].clone(), json!({"kind": "square", "side": 2})),
        (combinations()[4].clone(), json!({"name": "A", "children": [{"name": "B"}]})),
        (containers()[5].clone(), json!({"a": -4, "b": "ü", "c": true})),
        (containers()[10].clone(), json!({"y": 1, "z": "s", "w": "t"})),
    ];
    for (schema, value) in cases {
        let matcher =
            Matcher::new(&vocabulary, &Constraint::JsonSchema(schema.clone())).expect("compiles");
        let compact = value.to_string();
        let spaced = compact.replace(":", ": ").replace(",\"", ", \"");
        let indented = serde_json::to_string_pretty(&value).expect("JSON");
        for text in [compact, spaced, indented] {
            let mut matcher = matcher.fork();
            for token in tokenizer.tokenize_rest(&text) {
                assert_eq!(matcher.accept(token), Ok(()), "{schema}: {text}");
            }
            assert!(matcher.is_complete() || matcher.may_end().unwrap(), "{schema}: {text}");
        }
    }
}

#[test]
fn tokens_that_are_taken_back_leave_no_trace() {
    let vocabulary = demo();
    let mut random = Random(9);
    for schema in schemas() {
        let mut matcher =
            Matcher::new(&vocabulary, &Constraint::JsonSchema(schema.clone())).expect("compiles");
        let mut past: Vec<(oprel_constraint::Mask, u32)> = Vec::new();
        for len in 0..60 {
            let mask = matcher.allowed().expect("a mask").clone();
            if mask.is_empty() {
                break;
            }
            let token = pick(&vocabulary, &mask, &mut random, len);
            matcher.accept(token).expect("it is allowed");
            past.push((mask, token));
            if random.below(4) == 0 {
                let back = 1 + random.below(past.len().min(5));
                matcher.rollback(back).expect("they were taken");
                let (mask, _) = &past[past.len() - back];
                assert_eq!(matcher.allowed(), Ok(mask), "{schema}");
                past.truncate(past.len() - back);
            }
        }
        assert!(matcher.rollback(past.len() + 1).is_err());
    }
}
