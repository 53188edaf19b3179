use super::*;
use serde_json::json;

fn read(options: Value) -> Result<Options, Failure> {
    let body = json!({"options": options}).to_string();
    Options::take(&mut Fields::of_body(body.as_bytes()).unwrap())
}

fn good(options: Value) -> Options {
    read(options).unwrap()
}

#[test]
fn nothing_said_is_nothing_wished() {
    for none in [Value::Null, json!({}), json!({"temperature": null, "stop": null, "x": null})] {
        assert_eq!(good(none), Options::default());
    }
    assert_eq!(good(json!({})).keep(), 4);
    assert_eq!(good(json!({})).stay(true), Stay::default());
}

#[test]
fn a_value_of_another_type_is_refused_in_the_known_words() {
    let integers = [
        "num_ctx",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "num_thread",
        "draft_num_predict",
        "num_keep",
        "seed",
        "num_predict",
        "top_k",
        "repeat_last_n",
        "mirostat",
        "dry_allowed_length",
        "dry_penalty_last_n",
    ];
    let floats = [
        "top_p",
        "min_p",
        "typical_p",
        "temperature",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
        "dynatemp_range",
        "dynatemp_exponent",
        "top_n_sigma",
        "mirostat_tau",
        "mirostat_eta",
        "dry_multiplier",
        "dry_base",
        "xtc_probability",
        "xtc_threshold",
    ];
    let arrays = ["stop", "dry_sequence_breakers"];
    let kinds: [(&[&str], &str, Value); 4] = [
        (&integers, "integer", json!("1")),
        (&floats, "float32", json!("1")),
        (&arrays, "array", json!("x")),
        (&["use_mmap"], "boolean", json!(1)),
    ];
    for (keys, expected, bad) in kinds {
        for key in keys {
            let mut options = json!({});
            options[*key] = bad.clone();
            let why = read(options).unwrap_err().message;
            assert_eq!(why, format!("option \"{key}\" must be of type {expected}"));
        }
    }
    let why = read(json!({"stop": ["a", 1]})).unwrap_err().message;
    assert_eq!(why, "option \"stop\" must be of type an array of strings");
    assert_eq!(read(json!([])).unwrap_err().message, "options must be an object, not a list");
}

#[test]
fn numbers_are_cut_to_whole_ones() {
    let options = good(json!({"num_ctx": 4096.9, "num_predict": 5.7, "top_k": 3.2, "seed": 7.0}));
    assert_eq!((options.context, options.max_tokens), (Some(4096), Some(5)));
    assert_eq!((options.wish.top_k, options.wish.seed), (Some(3), Some(7)));
}

#[test]
fn a_context_is_long_enough_to_generate() {
    let table =
        [(0, None, None), (1, Some(4), Some(1)), (4, Some(4), Some(4)), (9, Some(9), Some(9))];
    for (said, generating, embedding) in table {
        let options = good(json!({"num_ctx": said, "num_thread": 3}));
        assert_eq!(options.stay(true).context, generating, "{said}");
        assert_eq!(options.stay(false).context, embedding, "{said}");
        assert_eq!(options.stay(true).threads, Some(3));
    }
    assert_eq!(good(json!({"num_ctx": 1e12})).context, Some(u32::MAX));
    assert_eq!(good(json!({"num_thread": 0})).threads, None);
    let why = read(json!({"num_ctx": -1})).unwrap_err().message;
    assert_eq!(why, "option \"num_ctx\" must be 0 or more, not -1");
}

#[test]
fn a_negative_number_of_tokens_is_no_limit() {
    let table = [(-1, None, false), (-2, None, true), (-9, None, false), (0, Some(0), false)];
    for (n, most, fill) in table {
        let options = good(json!({"num_predict": n}));
        assert_eq!((options.max_tokens, options.fill), (most, fill), "{n}");
    }
    assert_eq!(good(json!({"num_predict": 1u64 << 40})).max_tokens, Some(u32::MAX));
    assert_eq!(good(json!({"num_keep": 8})).keep(), 8);
    assert_eq!(good(json!({"num_keep": -1})).keep(), u32::MAX);
}

#[test]
fn minus_one_is_any_seed() {
    assert_eq!(good(json!({"seed": -1})).wish.seed, None);
    assert_eq!(good(json!({"seed": 0})).wish.seed, Some(0));
    assert_eq!(good(json!({"seed": -2})).wish.seed, Some(u64::MAX - 1));
    assert_eq!(good(json!({"top_k": -1})).wish.top_k, Some(0));
}

#[test]
fn every_number_of_a_sampling_can_be_said() {
    let said = json!({
        "temperature": 0.5, "dynatemp_range": 0.25, "dynatemp_exponent": 2, "top_k": 9, "top_p": 0.75,
        "min_p": 0.125, "typical_p": 0.5, "top_n_sigma": 1.5, "repeat_penalty": 1.25,
        "repeat_last_n": -1, "presence_penalty": 1, "frequency_penalty": 2, "seed": 42, "mirostat": 2,
        "mirostat_tau": 4, "mirostat_eta": 0.5, "dry_multiplier": 0.5, "dry_base": 2,
        "dry_allowed_length": 3, "dry_penalty_last_n": 64, "dry_sequence_breakers": ["\n"],
        "xtc_probability": 0.5, "xtc_threshold": 0.25,
        "logit_bias": [{"token": 1, "bias": 2.0}]});
    let patch: SamplingPatch = serde_json::from_value(said.clone()).unwrap();
    let names = serde_json::to_value(SamplingPatch::default()).unwrap();
    assert_eq!(names.as_object().unwrap().len(), said.as_object().unwrap().len());
    let options = good(said);
    assert_eq!(options.wish, patch);
    assert_eq!(options.of_generation.len(), names.as_object().unwrap().len());
    assert!(options.ignored.is_empty());
}

#[test]
fn biases_come_in_three_shapes() {
    let shapes = [json!([[1, 2.0], [3, false]]), json!({"1": 2, "3": false})];
    for shape in shapes {
        let wish = good(json!({"logit_bias": shape})).wish;
        let bias = |token, bias| LogitBias { token, bias };
        assert_eq!(wish.logit_bias, [bias(1, 2.0), bias(3, f32::NEG_INFINITY)]);
    }
    for bad in [json!(1), json!([1]), json!([[1]]), json!({"x": 1}), json!([[-1, 0]])] {
        assert!(read(json!({"logit_bias": bad})).is_err(), "{bad}");
    }
}

#[test]
fn what_changes_nothing_is_named() {
    let options = good(json!({"num_gpu": 99, "main_gpu": 0, "num_batch": 512, "use_mmap": true,
        "f16_kv": 1, "numa": "x", "tfs_z": 1, "penalize_newline": true, "Temperature": 1,
        "draft_num_predict": 4, "temperature": 1}));
    let ignored = [
        "num_gpu",
        "main_gpu",
        "num_batch",
        "use_mmap",
        "f16_kv",
        "numa",
        "tfs_z",
        "penalize_newline",
        "Temperature",
        "draft_num_predict",
    ];
    assert_eq!(options.ignored, ignored.map(|key| format!("options.{key}")));
    assert_eq!(options.speculate, Some(true));
    assert_eq!(options.wish.temperature, Some(1.0));
    let all = options.ignored_without_generation();
    assert!(all.contains(&"options.temperature".to_string()));
    assert_eq!(good(json!({"draft_num_predict": 0})).speculate, Some(false));
}

#[test]
fn numbers_that_fit_nothing_are_refused() {
    for bad in [json!({"mirostat": -1}), json!({"mirostat": 256}), json!({"repeat_last_n": 1e10})] {
        let why = read(bad).unwrap_err().message;
        assert!(why.contains("is out of range"), "{why}");
    }
    // Checked with all other numbers, once the model's suggestions are under them.
    assert_eq!(good(json!({"temperature": 1e300})).wish.temperature, Some(f32::INFINITY));
}

#[test]
fn an_empty_stop_text_stops_nothing() {
    assert_eq!(good(json!({"stop": ["", "a", "\n"]})).stop, ["a", "\n"]);
}
