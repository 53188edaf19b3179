//! Constraints made to cost time or memory: refused, or kept within the budget of a request.

use oprel_api::{Constraint, GrammarSyntax};
use oprel_constraint::{Error, Matcher};
use serde_json::{Map, Value, json};

use crate::play::{Random, demo, pick};

fn regex(expression: impl Into<String>) -> Constraint {
    Constraint::Regex(expression.into())
}

fn lark(text: impl Into<String>) -> Constraint {
    Constraint::Grammar { syntax: GrammarSyntax::Lark, text: text.into() }
}

fn gbnf(text: impl Into<String>) -> Constraint {
    Constraint::Grammar { syntax: GrammarSyntax::Gbnf, text: text.into() }
}

/// `n` schemas, each of which is made of the next.
fn chain(n: usize, of: impl Fn(String) -> Value) -> Constraint {
    let mut defs: Map<String, Value> =
        (0..n).map(|i| (format!("d{i}"), of(format!("#/$defs/d{}", i + 1)))).collect();
    defs.insert(format!("d{n}"), json!({"type": "object", "properties": {"a": {}}}));
    Constraint::JsonSchema(json!({"$ref": "#/$defs/d0", "$defs": defs}))
}

fn rules(n: usize, of: impl Fn(usize) -> String) -> String {
    (0..n).map(of).collect()
}

/// What is compiled, and some tokens of it; either may end in an error of its kind.
fn expressions() -> Vec<Constraint> {
    vec![
        regex("(a{1000}){1000}"),
        regex("(a{0,1000}){0,1000}"),
        regex("(((a|b){1,100}c){100}){100}"),
        regex("(.*a){30}.{30}"),
        regex("a{16000}"),
        regex("[ab]".repeat(4000)),
        regex("[ab]?".repeat(1000)),
        regex("[ab]?".repeat(3000)),
        regex("a*b*".repeat(500)),
        regex("(.*[a-f]{3})|".repeat(1000) + "x"),
        regex(r"(\p{L}{1,500}\p{N}?){1,500}"),
        regex("(".repeat(5000) + &")".repeat(5000)),
        regex("x".repeat(300_000)),
        Constraint::Choice((0..10_000).map(|i| format!("choice number {i}")).collect()),
        Constraint::Choice(vec!["x".repeat(200_000)]),
    ]
}

fn schemas() -> Vec<Constraint> {
    let object = |n: usize, of: &dyn Fn(usize) -> Value| -> Value {
        (0..n).map(|i| (format!("p{i}"), of(i))).collect::<Map<_, _>>().into()
    };
    let text = |_: usize| json!({"type": "string"});
    let twice = |target: String| json!({"allOf": [{"$ref": target}, {"$ref": target}]});
    [
        json!({"type": "string", "pattern": "(a{1000}){1000}"}),
        json!({"type": "string", "pattern": "a.{200}b"}),
        json!({"enum": (0..30_000).collect::<Vec<_>>()}),
        json!({"type": "array", "minItems": 1_000_000_000, "items": {"type": "integer"}}),
        json!({"type": "array", "minItems": 100_000, "maxItems": 100_000}),
        json!({"type": "array", "items": {"$ref": "#"}, "minItems": 1000}),
        json!({"type": "string", "minLength": 100_000, "maxLength": 100_000}),
        json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        json!({"type": "object", "properties": object(3000, &text)}),
        json!({"type": "object", "properties": object(400, &text)}),
        json!({"type": "object", "patternProperties": object(500, &text)}),
        json!({"allOf": (0..8).map(|i| json!({"anyOf": (0..6).map(|j| {
            json!({"properties": {i.to_string(): {"const": j}}})
        }).collect::<Vec<_>>()})).collect::<Vec<_>>()}),
        json!({"type": "integer", "multipleOf": 1_000_000_007}),
        json!({"type": "number", "minimum": 1e-300, "maximum": 1e300}),
        json!({"type": "integer", "minimum": -1e300, "multipleOf": 3}),
    ]
    .map(Constraint::JsonSchema)
    .into_iter()
    .chain([
        chain(900, |target| json!({"properties": {"x": {"$ref": target}}, "required": ["x"]})),
        chain(30, twice),
        chain(900, twice),
    ])
    .collect()
}

fn grammars() -> Vec<Constraint> {
    vec![
        lark("start: e\ne: e \"+\" e | e \"*\" e | /[0-9]/\n"),
        lark("start: s\ns: s s s | s s | \"a\"\n"),
        lark("start: s\ns: s \"a\"\n"),
        lark("start: s\ns: s\n"),
        lark("start:\n"),
        lark(""),
        lark(format!(
            "start: r0\n{}r3900: \"b\"\n",
            rules(3900, |i| { format!("r{i}: \"a\" r{}\n", i + 1) })
        )),
        lark(format!(
            "start: R0\n{}R3900: \"b\"\n",
            rules(3900, |i| { format!("R{i}: \"a\" R{}\n", i + 1) })
        )),
        lark(format!(
            "start: R0\n{}R40: \"b\"\n",
            rules(40, |i| { format!("R{i}: R{0} R{0}\n", i + 1) })
        )),
        lark(format!(
            "start: r0\n{}r40: \"b\"\n",
            rules(40, |i| { format!("r{i}: r{0} r{0}\n", i + 1) })
        )),
        lark("start: ((\"a\" b){1000}){1000}\nb: \"b\" | \"c\"\n"),
        lark("start: (\"a\" b){0,2147483647}\nb: \"b\" | \"c\"\n"),
        lark(format!("start: {}\n", "\"a\"? ".repeat(20_000))),
        lark(format!("start: /{}/\n", "[ab]?".repeat(20_000))),
        lark(format!("start: {}\"a\"{}\n", "(".repeat(50_000), ")".repeat(50_000))),
        lark("start: %json {\"x-guidance\": {\"lenient\": true}, \"type\": \"string\"}\n"),
        gbnf("root ::= root root | \"a\" | \"\"\n"),
        gbnf("root ::= \"a\" root \"b\" | \"ab\"\n"),
        gbnf("root ::= root\n"),
        gbnf(format!(
            "root ::= r0\n{}r40 ::= \"b\"\n",
            rules(40, |i| { format!("r{i} ::= r{0} r{0}\n", i + 1) })
        )),
        gbnf(format!(
            "root ::= r0 root?\n{}r3000 ::= \"b\"\n",
            rules(3000, |i| { format!("r{i} ::= [a-y]? r{}\n", i + 1) })
        )),
    ]
}

#[test]
fn hostile_constraints_end_in_an_error_or_within_the_budget() {
    let vocabulary = demo();
    let mut random = Random(5);
    let all = [expressions(), schemas(), grammars()].concat();
    for constraint in all {
        let shown = format!("{constraint:?}");
        let shown = &shown[..shown.floor_char_boundary(100)];
        let is_fine = |error: &Error| !matches!(error, Error::Internal { .. } | Error::Lost);
        let mut matcher = match Matcher::new(&vocabulary, &constraint) {
            Ok(matcher) => matcher,
            Err(error) => {
                assert!(is_fine(&error), "{error} in {shown}");
                continue;
            }
        };
        for len in 0..40 {
            let step = matcher.allowed().cloned().and_then(|mask| {
                let token = pick(&vocabulary, &mask, &mut random, len);
                matcher.accept(token)
            });
            match step {
                Ok(()) if matcher.is_complete() => break,
                Ok(()) => {}
                Err(error) => {
                    assert!(is_fine(&error), "{error} in {shown}");
                    // It stays refused, and says the same.
                    let again = matcher.allowed().err();
                    assert!(again.as_ref().is_some_and(is_fine), "{error}, {again:?} in {shown}");
                    break;
                }
            }
        }
    }
}

#[test]
fn one_failing_request_fails_alone() {
    let vocabulary = demo();
    let bad = Matcher::new(&vocabulary, &regex("[ab]?".repeat(1000)));
    let mut good = Matcher::new(&vocabulary, &Constraint::JsonObject).expect("compiles");
    if let Ok(mut bad) = bad {
        let mut fork = bad.fork();
        assert!(bad.allowed().is_err() && fork.allowed().is_err());
    }
    assert!(good.allowed().is_ok());
}
