use serde_json::json;

use super::*;

fn refused(schema: Value) -> (String, String) {
    match prepare(&schema) {
        Err(Error::Keyword { keyword, pointer, .. }) => (keyword, pointer),
        Err(Error::Schema { pointer, .. }) => (String::new(), pointer),
        Err(Error::Regex { pointer, position, .. }) => {
            (position.to_string(), pointer.unwrap_or_default())
        }
        other => panic!("{schema}: {other:?}"),
    }
}

#[test]
fn keywords_that_are_not_kept_are_refused_by_name_and_place() {
    for keyword in REFUSED.iter().filter(|keyword| **keyword != "uniqueItems") {
        let schema = json!({"properties": {"a/b": {*keyword: {"x": []}}}});
        assert_eq!(refused(schema), (keyword.to_string(), "/properties/a~1b".into()));
    }
    let unique =
        json!({"$defs": {"list": {"uniqueItems": true}}, "items": {"$ref": "#/$defs/list"}});
    assert_eq!(refused(unique), ("uniqueItems".into(), "/$defs/list".into()));
    let format = json!({"anyOf": [{"type": "string", "format": "regex"}]});
    assert_eq!(refused(format), ("format".into(), "/anyOf/0".into()));
    assert_eq!(refused(json!({"$ref": "other.json#/a"})), ("$ref".into(), "".into()));
    let counted = json!({"items": {"properties": {"a": {}, "b": {}}, "required": ["a"],
        "minProperties": 2}});
    assert_eq!(refused(counted), ("minProperties".into(), "/items".into()));
    assert_eq!(refused(json!({"maxItems": 1_000_000_000})), ("maxItems".into(), "".into()));
}

#[test]
fn what_does_not_matter_to_a_text_is_not_refused() {
    for schema in [
        json!({"$defs": {"unused": {"not": {}}}, "type": "string"}),
        json!({"uniqueItems": false, "unevaluatedProperties": true}),
        json!({"type": "integer", "format": "int32", "title": "x", "nullable": true}),
        json!({"const": {"not": 1}, "default": {"if": 2}}),
        json!({"properties": {"not": {"type": "string"}}}),
        json!({"properties": {"a": {}, "b": {}}, "required": ["a"], "minProperties": 1}),
        json!({"properties": {"a": {}}, "required": ["a"], "maxProperties": 3}),
        json!(true),
    ] {
        assert!(prepare(&schema).is_ok(), "{schema}");
    }
}

#[test]
fn wrong_schemas_are_refused_with_their_place() {
    for (schema, pointer) in [
        (json!(false), ""),
        (json!(7), ""),
        (json!({"properties": {"a": 7}}), "/properties/a"),
        (json!({"properties": []}), "/properties"),
        (json!({"anyOf": {}}), "/anyOf"),
        (json!({"items": [{}, 3]}), "/items/1"),
        (json!({"$ref": "#/$defs/a"}), "/$ref"),
        (json!({"minLength": -1}), "/minLength"),
        (json!({"$ref": "#"}), ""),
    ] {
        assert_eq!(refused(schema), (String::new(), pointer.into()));
    }
    let pattern = json!({"items": {"pattern": "a(?=b)"}});
    assert_eq!(refused(pattern), ("1".into(), "/items/pattern".into()));
    let name = json!({"patternProperties": {"(": {}}});
    assert_eq!(refused(name), ("0".into(), "/patternProperties/(".into()));
}

#[test]
fn a_schema_that_is_itself_is_refused_wherever_the_circle_is_entered() {
    let defs = json!({"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/b"}]},
        "b": {"allOf": [{"$ref": "#/$defs/a"}]}});
    for start in ["a", "b"] {
        let root = json!({"$ref": format!("#/$defs/{start}"), "$defs": defs});
        assert!(prepare(&root).is_err());
        let inner = json!({"properties": {"x": {"$ref": format!("#/$defs/{start}")}},
            "$defs": defs});
        assert!(prepare(&inner).is_err());
    }
    let list = json!({"properties": {"next": {"$ref": "#"}}});
    assert!(prepare(&list).is_ok());
}

#[test]
fn one_of_means_any_of_where_branches_exclude_each_other() {
    let disjoint = [
        json!([{"type": "string"}, {"type": "integer"}, {"type": "null"}]),
        json!([{"const": 1}, {"enum": [2, "1"]}]),
        json!([{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}]),
        json!([{"type": "object", "required": ["a"], "properties": {"a": {}}},
            {"type": "object", "properties": {"b": {}}, "additionalProperties": false}]),
    ];
    let defs = json!({
        "cat": {"type": "object", "properties": {"kind": {"const": "cat"}}, "required": ["kind"]},
        "dog": {"type": "object", "properties": {"kind": {"const": "dog"}}, "required": ["kind"]},
    });
    for branches in disjoint {
        let prepared = prepare(&json!({"oneOf": branches, "$defs": defs})).unwrap();
        assert_eq!(prepared["allOf"][0]["anyOf"], branches);
        assert!(prepared.get("oneOf").is_none());
    }
    for branches in [
        json!([{"type": "number"}, {"type": "integer"}]),
        json!([{"const": 1}, {"const": 1.0}]),
        json!([{"minimum": 1}, {"maximum": 0}]),
        json!([{"type": "object", "properties": {"a": {"const": 1}}},
            {"type": "object", "properties": {"a": {"const": 2}}}]),
    ] {
        assert_eq!(refused(json!({"oneOf": branches})).0, "oneOf", "{branches}");
    }
}

#[test]
fn options_of_the_compiler_are_not_the_schemas_to_set() {
    let schema = json!({"x-guidance": {"lenient": true}, "items": {"x-guidance": 1}});
    let prepared = prepare(&schema).unwrap();
    assert_eq!(prepared["x-guidance"], json_options());
    assert_eq!(prepared["items"], json!({}));
}

#[test]
fn large_and_deep_schemas_are_refused() {
    let deep = |n: usize| (0..n).fold(json!({}), |inner, _| json!({"items": inner}));
    assert!(prepare(&deep(64)).is_ok());
    assert!(matches!(prepare(&deep(65)), Err(Error::TooLarge { .. })));
    let constant = (0..200).fold(json!(1), |inner, _| json!([inner]));
    assert!(matches!(prepare(&json!({"const": constant})), Err(Error::TooLarge { .. })));
    let long = json!({"description": "x".repeat(300_000)});
    assert!(matches!(prepare(&long), Err(Error::TooLarge { unit: "bytes", .. })));
    let defs: Map<String, Value> = (0..2000)
        .map(|i| (format!("d{i}"), json!({"items": {"$ref": format!("#/$defs/d{}", i + 1)}})))
        .collect();
    let chain = json!({"$ref": "#/$defs/d0", "$defs": defs});
    assert!(matches!(prepare(&chain), Err(Error::TooLarge { unit: "references", .. })));
}
