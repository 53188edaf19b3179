//! Folders that are damaged, incomplete or made to harm.

use std::ops::ControlFlow;

use serde_json::json;

use super::super::{ConvertOptions, Error, convert};
use super::case;
use super::folders::Folder;

fn refused(folder: &Folder) -> Error {
    let to = folder.path().join("out.gguf");
    std::fs::write(&to, "an older model").expect("a file");
    let refused =
        convert(folder.path(), &to, &ConvertOptions::default(), &mut |_| ControlFlow::Continue(()));
    assert_eq!(std::fs::read(&to).expect("it stays"), b"an older model");
    std::fs::remove_file(&to).expect("a file");
    assert!(!folder.path().join("out.gguf.partial").exists(), "nothing is left behind");
    refused.expect_err("a folder that is no model")
}

#[test]
fn what_a_model_is_made_from_is_not_written_over() {
    let folder = Folder::of(&case("qwen2"), false);
    for name in ["config.json", "tokenizer.json"] {
        let to = folder.path().join(name);
        let before = std::fs::read(&to).expect("a file of the folder");
        let refused = convert(folder.path(), &to, &ConvertOptions::default(), &mut |_| {
            ControlFlow::Continue(())
        });
        assert!(matches!(refused, Err(Error::Same { .. })), "{refused:?}");
        assert_eq!(std::fs::read(&to).expect("it stays"), before);
    }
}

#[test]
fn a_conversion_that_is_stopped_leaves_nothing_and_what_was_there() {
    let folder = Folder::of(&case("qwen2"), false);
    let to = folder.path().join("out.gguf");
    std::fs::write(&to, "an older model").expect("a file");
    let mut told = 0;
    let stopped = convert(folder.path(), &to, &ConvertOptions::default(), &mut |progress| {
        told += 1;
        match progress.done_bytes {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    });
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
    assert!(told > 1);
    assert_eq!(std::fs::read(&to).expect("it stays"), b"an older model");
    assert!(!folder.path().join("out.gguf.partial").exists());
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let folder = Folder::empty();
    let error = refused(&folder);
    assert!(error.to_string().contains("config.json"), "{error}");
    assert!(error.hint().is_some());
    let file = folder.path().join("file");
    std::fs::write(&file, "x").expect("a file");
    for none in [file, folder.path().join("absent")] {
        let to = folder.path().join("out.gguf");
        let options = ConvertOptions::default();
        let refused = convert(&none, &to, &options, &mut |_| ControlFlow::Continue(()));
        assert!(matches!(refused, Err(Error::NoFolder { .. })), "{refused:?}");
    }

    let folder = Folder::of(&case("qwen2"), false);
    folder.remove("tokenizer.json");
    let error = refused(&folder);
    assert!(error.to_string().contains("tokenizer.json") && error.hint().is_some(), "{error}");

    folder.remove("model.safetensors.index.json");
    folder.remove("model-00001-of-00002.safetensors");
    folder.remove("model-00002-of-00002.safetensors");
    assert!(refused(&folder).to_string().contains("safetensors"));
}

#[test]
fn an_architecture_without_a_table_is_named_with_those_that_have_one() {
    let folder = Folder::of(&case("qwen2"), false);
    folder.configure("architectures", json!(["T5ForConditionalGeneration"]));
    let error = refused(&folder);
    assert!(error.to_string().contains("T5ForConditionalGeneration"));
    assert!(error.hint().expect("a hint").contains("LlamaForCausalLM"));
}

#[test]
fn weights_packed_by_others_are_refused_with_what_to_do() {
    let folder = Folder::of(&case("qwen2"), false);
    folder.configure("quantization_config", json!({"quant_method": "awq", "bits": 4}));
    let error = refused(&folder);
    assert!(error.to_string().contains("awq") && error.hint().is_some(), "{error}");

    // Older tools say it in files of their own, or nowhere.
    let folder = Folder::of(&case("qwen2"), false);
    folder.write("quantize_config.json", r#"{"bits": 4, "group_size": 128}"#);
    assert!(refused(&folder).to_string().contains("gptq"));
    let folder = Folder::of(&case("qwen2"), false);
    folder.configure("quantization", json!({"bits": 4, "group_size": 64}));
    assert!(refused(&folder).to_string().contains("mlx"));
    let folder = Folder::of(&case("qwen2"), false);
    folder.add("model.layers.0.self_attn.q_proj.qweight", "I32", &[1], &[0; 4]);
    let error = refused(&folder);
    assert!(error.to_string().contains("gptq or awq"), "{error}");
    assert!(error.hint().unwrap().contains("base model"));
}

#[test]
fn a_tensor_that_is_not_known_or_does_not_fit_is_named() {
    let folder = Folder::of(&case("llama"), false);
    folder.add("model.layers.0.self_attn.surprise.weight", "F32", &[1], &[0; 4]);
    assert!(refused(&folder).to_string().contains("surprise"));

    let folder = Folder::of(&case("llama"), false);
    folder.configure("num_attention_heads", json!(3));
    assert!(refused(&folder).to_string().contains("q_proj"));

    let folder = Folder::of(&case("qwen3moe"), false);
    folder.configure("num_experts", json!(5));
    assert!(refused(&folder).to_string().contains("experts"));
}

#[test]
fn values_of_config_json_that_make_no_model_are_refused() {
    let bad = [
        ("llama", "num_attention_heads", json!(0)),
        ("llama", "num_hidden_layers", json!(-1)),
        ("llama", "num_hidden_layers", json!("many")),
        ("llama", "hidden_size", json!(null)),
        ("llama", "rope_scaling", json!({"rope_type": "llama3", "high_freq_factor": 0.0})),
        ("llama", "head_dim", json!(0)),
        ("qwen35", "linear_num_key_heads", json!(3)),
        ("qwen35", "linear_num_value_heads", json!(2_000_000_000u32)),
        ("qwen35", "linear_value_head_dim", json!(2_000_000_000u32)),
        ("qwen35", "linear_key_head_dim", json!(2_000_000_000u32)),
        ("deepseek2", "qk_nope_head_dim", json!(2_000_000_000u32)),
        ("falcon-h1", "mamba_n_groups", json!(2_000_000_000u32)),
        ("mamba", "hidden_size", json!(4_000_000_000u32)),
        ("falcon-h1", "mamba_d_head", json!(0)),
        ("falcon-h1", "mlp_multipliers", json!([1.0])),
        ("nemotron_h", "hybrid_override_pattern", json!("M?")),
        ("nemotron_h", "n_groups", json!(77)),
        (
            "phi3",
            "rope_scaling",
            json!({"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}),
        ),
        ("roberta-rank", "pad_token_id", json!(2_000_000_000u32)),
    ];
    for (name, key, value) in bad {
        let folder = Folder::of(&case(name), false);
        folder.configure(key, value.clone());
        let error = refused(&folder);
        println!("{name} {key} {value}: {error}");
    }
}

#[test]
fn headers_of_safetensors_that_lie_are_refused() {
    let file = |header: &str| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 16]);
        bytes
    };
    let one = |entry: &str| file(&format!(r#"{{"lm_head.weight": {entry}}}"#));
    let attacks = [
        Vec::new(),
        vec![0xff; 8],
        vec![8, 0, 0, 0, 0, 0, 0, 0],
        file("[]"),
        file("{"),
        one("1"),
        one(r#"{"dtype": "F32", "shape": [4]}"#),
        one(r#"{"dtype": "F32", "shape": [4], "data_offsets": [0, 17]}"#),
        one(r#"{"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}"#),
        one(r#"{"dtype": "F32", "shape": [5], "data_offsets": [0, 16]}"#),
        one(r#"{"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}"#),
        one(r#"{"dtype": "what", "shape": [4], "data_offsets": [0, 16]}"#),
        one(r#"{"dtype": "F32", "shape": [4294967296, 4294967296, 4], "data_offsets": [0, 0]}"#),
        one(
            r#"{"dtype": "F32", "shape": [4], "data_offsets": [18446744073709551600, 18446744073709551615]}"#,
        ),
    ];
    for bytes in attacks {
        let folder = Folder::of(&case("qwen2"), false);
        folder.remove("model.safetensors.index.json");
        folder.write_bytes("model.safetensors", &bytes);
        let error = refused(&folder);
        assert!(matches!(error, Error::Safetensors { .. }), "{error}");
    }
}

#[test]
fn an_index_does_not_lead_out_of_the_folder() {
    for name in ["../other/model.safetensors", "/etc/passwd", "..", ""] {
        let folder = Folder::of(&case("qwen2"), false);
        let index = json!({"weight_map": {"lm_head.weight": name}});
        folder.write("model.safetensors.index.json", &index.to_string());
        assert!(matches!(refused(&folder), Error::Safetensors { .. }), "{name}");
    }
}

#[test]
fn every_cut_of_the_json_files_is_an_error_or_a_model() {
    for name in ["config.json", "tokenizer.json", "model.safetensors.index.json"] {
        let folder = Folder::of(&case("qwen2"), false);
        let whole = folder.read(name);
        for end in (0..whole.len()).step_by(7) {
            folder.write(name, &whole[..end]);
            let _ = refused(&folder);
        }
    }
}

#[test]
fn tensors_without_elements_are_refused_whatever_their_rows() {
    for shape in [&[0u64, 64][..], &[0], &[64, 0], &[1 << 60, 0], &[0, 0, 0]] {
        for name in ["model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight"] {
            let folder = Folder::of(&case("llama"), false);
            folder.replace(name, "F32", shape, &[]);
            assert!(refused(&folder).to_string().contains("empty"));
        }
    }
    let folder = Folder::of(&case("llama"), false);
    folder.replace("model.layers.0.self_attn.q_proj.weight", "F32", &[], &[0; 4]);
    assert!(refused(&folder).to_string().contains("q_proj"));
}
