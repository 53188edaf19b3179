use super::*;

fn layer(digest: &Digest, kind: &str) -> Value {
    serde_json::json!({"mediaType": format!("{IMAGE}{kind}"), "digest": digest.to_string(), "size": 3})
}

#[test]
fn names_of_files_and_their_order_stay() {
    let digest = Digest::of(b"x");
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"{CONFIG}","digest":"{digest}","size":5}},"layers":[{{"mediaType":"{IMAGE}model","digest":"{digest}","size":7,"from":"m-00001-of-00002.gguf","name":"p"}}]}}"#
    );
    let manifest = Manifest::parse(text.clone().into_bytes()).unwrap();
    assert_eq!(manifest.bytes(), text.as_bytes());
    assert_eq!(manifest.digest(), Digest::of(text.as_bytes()));
    assert_eq!(manifest.size(), 12);
    assert_eq!(manifest.layers()[0].name.as_deref(), Some("p"));
    let again = Manifest::new(manifest.config().unwrap().clone(), manifest.layers().to_vec());
    assert_eq!(String::from_utf8_lossy(again.bytes()), format!("{text}\n"));
}

#[test]
fn of_a_list_the_gguf_model_is_taken_and_all_is_kept() {
    let (a, b, c) = (Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c"));
    let inner =
        serde_json::json!({"layers": [layer(&b, "model")], "config": {"digest": c.to_string()}});
    let by_digest = Digest::of(inner.to_string().as_bytes());
    let list = serde_json::json!({"mediaType": LIST, "manifests": [
        {"runner": "mlx", "layers": [layer(&a, "tensor")]},
        {"runner": "llamacpp", "digest": by_digest.to_string()}]});
    let blob = |digest: &Digest| match *digest == by_digest {
        true => Ok(inner.to_string().into_bytes()),
        false => Err("absent".into()),
    };
    let manifest = Manifest::parse_with(list.to_string().into_bytes(), &blob).unwrap();
    assert_eq!(manifest.of_kind(LayerKind::Model).map(|l| l.digest).collect::<Vec<_>>(), [b]);
    let mut all = vec![a, b, c, by_digest];
    all.sort();
    assert_eq!(manifest.reachable(), all);
    assert!(Manifest::parse(list.to_string().into_bytes()).is_err(), "its member is not at hand");
    let only_mlx =
        serde_json::json!({"mediaType": LIST, "manifests": [{"runner": "mlx", "layers": []}]});
    assert!(Manifest::parse(only_mlx.to_string().into_bytes()).is_err());
}

#[test]
fn a_config_keeps_what_it_does_not_know() {
    let text = r#"{"model_format":"gguf","model_family":"llama","model_families":null,"model_type":"1B","file_type":"F16","draft":{"architecture":"llama"},"os":"linux","rootfs":{"type":"layers"}}"#;
    let config: Config = serde_json::from_str(text).unwrap();
    assert_eq!(String::from_utf8_lossy(&config.to_bytes()), format!("{text}\n"));
}

#[test]
fn sizes_that_cannot_be_do_not_overflow() {
    let digest = Digest::of(b"x");
    let huge = serde_json::json!({"layers": [{"digest": digest.to_string(), "size": u64::MAX},
        {"digest": digest.to_string(), "size": u64::MAX}]});
    assert_eq!(Manifest::parse(huge.to_string().into_bytes()).unwrap().size(), u64::MAX);
}
