use super::*;
use crate::dialect::KeepAlive;
use crate::{EmbedInput, ErrorKind, Usage};
use serde_json::json;
use std::time::Duration;

fn embed_with(fields: Value) -> Result<EmbedCall, Failure> {
    let mut body = json!({"model": "m"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    embed(body.to_string().as_bytes())
}

fn why(read: Result<EmbedCall, Failure>) -> String {
    let failure = read.err().expect("accepted");
    assert_eq!(failure.kind, ErrorKind::Validation);
    failure.message
}

fn made(vectors: Vec<Vec<f32>>) -> Embeddings {
    let usage =
        Usage { prompt_tokens: 5, load_ns: 7, total_ns: 9, cached_tokens: 1, ..Usage::default() };
    Embeddings { vectors, usage }
}

#[test]
fn an_input_is_a_text_or_a_list_of_them() {
    let table: [(Value, &[&str]); 7] = [
        (json!({}), &[]),
        (json!({"input": null}), &[]),
        (json!({"input": ""}), &[]),
        (json!({"input": []}), &[]),
        (json!({"input": "a"}), &["a"]),
        (json!({"input": [""]}), &[""]),
        (json!({"INPUT": ["a", "b"]}), &["a", "b"]),
    ];
    for (fields, texts) in table {
        let call = embed_with(fields).ok().unwrap();
        assert_eq!(call.request, EmbedRequest::new(texts.iter().copied()));
    }
    for bad in [json!(1), json!({"a": 1}), json!(["a", 1]), json!([["a"]]), json!(true)] {
        assert_eq!(why(embed_with(json!({"input": bad}))), "invalid input type");
    }
}

#[test]
fn fields_go_where_they_belong() {
    let call = embed_with(json!({"input": "a", "truncate": false, "dimensions": 8,
        "keep_alive": "1m", "options": {"num_ctx": 2, "num_thread": 3, "temperature": 1}, "x": 1}));
    let call = call.ok().unwrap();
    assert_eq!((call.request.truncate, call.request.dimensions), (false, Some(8)));
    let stay = Stay {
        keep_alive: Some(KeepAlive::For(Duration::from_secs(60))),
        context: Some(2),
        threads: Some(3),
    };
    assert_eq!(call.stay, stay);
    assert_eq!(call.ignored, ["options.temperature", "x"]);
    assert_eq!(embed_with(json!({"dimensions": 0})).ok().unwrap().request.dimensions, None);
    assert_eq!(why(embed_with(json!({"dimensions": -1}))), "dimensions is out of range: -1");
}

#[test]
fn vectors_are_given_back_in_this_shape() {
    let call = embed_with(json!({"input": ["a", "b"]})).ok().unwrap();
    let moment = Moment { model: "m:latest".into(), ..Moment::default() };
    let body = (call.voice)(&moment, made(vec![vec![0.1, -0.5], vec![1.0, 1e-8]]));
    let expected = r#"{"model":"m:latest","embeddings":[[0.1,-0.5],[1.0,1e-8]],"total_duration":9,"load_duration":7,"prompt_eval_count":5}"#;
    assert_eq!(body.to_string(), expected);
    let none = (embed_with(json!({})).ok().unwrap().voice)(&moment, Embeddings::default());
    assert_eq!(none.to_string(), r#"{"model":"m:latest","embeddings":[]}"#);
}

#[test]
fn the_predecessor_takes_one_text_and_gives_one_vector() {
    let read = |body: Value| embeddings(body.to_string().as_bytes());
    let call = read(json!({"model": "m", "prompt": "a", "truncate": true})).ok().unwrap();
    let request = EmbedRequest { truncate: false, normalize: false, ..EmbedRequest::new(["a"]) };
    assert_eq!((call.request, call.ignored), (request, vec!["truncate".to_string()]));
    let body = (call.voice)(&Moment::default(), made(vec![vec![0.25, 3.0]]));
    assert_eq!(body.to_string(), r#"{"embedding":[0.25,3.0]}"#);
    for empty in [json!({"model": "m"}), json!({"model": "m", "prompt": ""})] {
        let call = read(empty).ok().unwrap();
        assert_eq!(call.request.input, [] as [EmbedInput; 0]);
        let body = (call.voice)(&Moment::default(), Embeddings::default());
        assert_eq!(body.to_string(), r#"{"embedding":[]}"#);
    }
}

#[test]
fn without_a_model_there_is_nothing() {
    let absent = embed(b"{}").err().unwrap();
    assert_eq!(absent.kind, ErrorKind::ModelNotFound);
    assert_eq!(absent.message, "model \"\" not found, try pulling it first");
    assert_eq!(why(embeddings(b"{}")), "model is required");
    assert_eq!(why(embed(b" ")), "missing request body");
    assert_eq!(why(embeddings(b"")), "missing request body");
}

#[test]
fn numbers_are_short_and_the_same_in_single_precision() {
    for x in [0.1_f32, 1.0 / 3.0, -1e-40, f32::MAX, f32::MIN_POSITIVE, 16_777_217.0, -0.0] {
        assert_eq!((short(x) as f32).to_bits(), x.to_bits(), "{x}");
    }
    assert_eq!(short(0.1), 0.1);
}
