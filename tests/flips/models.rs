//! Small models to flip bytes of: each kind of vocabulary, each kind of value, split, and in a store with all that a
//! model can bring.

use std::path::{Path, PathBuf};

use oprel_api::ollama::ModelName;
use oprel_gguf::{Array, Gguf, QuantType, Value, Writer};
use oprel_hub::modelfile::Modelfile;
use oprel_hub::{Access, LayerKind, Store};

const WIDTH: u64 = 64;
const FF: u64 = 64;
const TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}{% endfor %}";

/// Kinds of vocabulary, by the word in the file.
pub(crate) const VOCABULARIES: &[&str] = &["llama", "gpt2", "bert", "t5", "rwkv"];

/// Tokens, of which there are as many for each kind.
const TOKENS: &[&str] = &[
    "<unk>",
    "<s>",
    "</s>",
    "a",
    "b",
    "ab",
    "h",
    "i",
    "hi",
    "\u{2581}",
    "\u{2581}a",
    "\u{2581}b",
    "\u{120}",
    "\u{120}a",
    "##b",
    "[",
    "]",
    "user",
    "u",
    "s",
    "e",
    "r",
    "<0x0A>",
    "x",
];

/// Bytes before the data.
pub(crate) fn head_bytes(path: &Path) -> usize {
    let file = Gguf::open(path).expect("a model");
    let first = file.tensors().iter().map(|tensor| tensor.file_offset()).min();
    first.unwrap_or_else(|| file.total_bytes()) as usize
}

/// A model of one layer.
pub(crate) fn write(path: &Path, vocabulary: &str) {
    let mut writer = Writer::new();
    metadata(&mut writer, vocabulary);
    for (name, shape, ty) in tensors() {
        writer.tensor(&name, &shape, ty, data(&name, &shape, ty)).expect("valid");
    }
    writer.write_file(path).expect("written");
}

/// The same in two files.
pub(crate) fn write_split(folder: &Path) -> Vec<PathBuf> {
    let path = |no: usize| folder.join(format!("m-{no:05}-of-00002.gguf"));
    let tensors = tensors();
    let (first, second) = tensors.split_at(tensors.len() / 2);
    for (no, tensors) in [first, second].into_iter().enumerate() {
        let mut writer = Writer::new();
        if no == 0 {
            metadata(&mut writer, "llama");
        }
        writer.set("split.no", no as u16).expect("valid");
        writer.set("split.count", 2u16).expect("valid");
        writer.set("split.tensors.count", (first.len() + second.len()) as i32).expect("valid");
        for (name, shape, ty) in tensors {
            writer.tensor(name, shape, *ty, data(name, shape, *ty)).expect("valid");
        }
        writer.write_file(path(no + 1)).expect("written");
    }
    vec![path(1), path(2)]
}

fn metadata(writer: &mut Writer<'_>, vocabulary: &str) {
    let mut set = |key: &str, value: Value| writer.set(key, value).expect("valid");
    set("general.architecture", "llama".into());
    set("general.file_type", Value::U32(7));
    set("general.alignment", Value::U32(32));
    set("general.sampling.temp", Value::F32(0.5));
    set("general.sampling.top_k", Value::I32(10));
    let numbers: [(&str, u32); 8] = [
        ("vocab_size", TOKENS.len() as u32),
        ("context_length", 256),
        ("embedding_length", WIDTH as u32),
        ("block_count", 1),
        ("feed_forward_length", FF as u32),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("rope.dimension_count", 32),
    ];
    for (key, n) in numbers {
        set(&format!("llama.{key}"), Value::U32(n));
    }
    set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    set("llama.rope.freq_base", Value::F32(10000.0));
    set("tokenizer.ggml.model", vocabulary.into());
    set("tokenizer.ggml.tokens", Value::Array(Array::Str(TOKENS.iter().copied().collect())));
    let types = (0..TOKENS.len()).map(|i| match i {
        0 => 2,
        1 | 2 => 3,
        22 => 6,
        _ => 1,
    });
    set("tokenizer.ggml.token_type", Value::Array(Array::I32(types.collect())));
    let scores = (0..TOKENS.len()).map(|i| -(i as f32));
    set("tokenizer.ggml.scores", Value::Array(Array::F32(scores.collect())));
    if vocabulary == "gpt2" {
        set("tokenizer.ggml.pre", "gpt-2".into());
        let merges = ["a b", "h i", "\u{120} a"];
        set("tokenizer.ggml.merges", Value::Array(Array::Str(merges.into_iter().collect())));
    }
    set("tokenizer.ggml.bos_token_id", Value::U32(1));
    set("tokenizer.ggml.eos_token_id", Value::U32(2));
    set("tokenizer.ggml.add_bos_token", Value::Bool(true));
    set("tokenizer.chat_template", TEMPLATE.into());
}

fn tensors() -> Vec<(String, Vec<u64>, QuantType)> {
    let matrix = QuantType::Q8_0;
    let mut all = vec![
        ("token_embd.weight".to_owned(), vec![WIDTH, TOKENS.len() as u64], matrix),
        ("output_norm.weight".to_owned(), vec![WIDTH], QuantType::F32),
    ];
    let of_layer: [(&str, Vec<u64>, QuantType); 9] = [
        ("attn_norm", vec![WIDTH], QuantType::F32),
        ("attn_q", vec![WIDTH, WIDTH], matrix),
        ("attn_k", vec![WIDTH, WIDTH / 2], QuantType::F16),
        ("attn_v", vec![WIDTH, WIDTH / 2], QuantType::BF16),
        ("attn_output", vec![WIDTH, WIDTH], QuantType::Q4_0),
        ("ffn_norm", vec![WIDTH], QuantType::F32),
        ("ffn_gate", vec![WIDTH, FF], matrix),
        ("ffn_up", vec![WIDTH, FF], QuantType::F32),
        ("ffn_down", vec![FF, WIDTH], matrix),
    ];
    all.extend(of_layer.map(|(name, shape, ty)| (format!("blk.0.{name}.weight"), shape, ty)));
    all
}

/// Numbers between -0.5 and 0.5, as the type stores them.
fn data(name: &str, shape: &[u64], ty: QuantType) -> Vec<u8> {
    let n = shape.iter().product::<u64>() as usize;
    let mut state = name.bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
    let mut draw = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let values: Vec<f32> = (0..n).map(|_| draw()).collect();
    let mut bytes = vec![0; n / ty.block_len() * ty.block_bytes()];
    oprel_quant::quantize(ty, &values, &mut bytes).expect("whole blocks");
    bytes
}

/// A store below `place` with a model `m` that brings everything, and all its files with what they are.
pub(crate) fn store(place: &Path) -> Vec<(&'static str, PathBuf)> {
    write(&place.join("m.gguf"), "llama");
    let store = Store::open(place.join("models"), Access::Write).expect("a store");
    let text = "FROM ./m.gguf\nSYSTEM a\nPARAMETER temperature 0.5\nPARAMETER stop xx\nPARAMETER num_ctx 128\n\
        LICENSE MIT\nMESSAGE user hi\nMESSAGE assistant a\n\
        TEMPLATE {{ range .Messages }}[{{ .Role }}] {{ .Content }}{{ end }}";
    let recipe = Modelfile::parse(text.as_bytes()).expect("a Modelfile");
    let recipe = recipe.resolve(place, None).expect("its file is there");
    let name = ModelName::parse("m").expect("a name");
    oprel::create(&store, &name, &recipe, &mut |_| std::ops::ControlFlow::Continue(()))
        .expect("a model");
    // The file that it was made of is the blob: flips are to be in the store alone.
    std::fs::remove_file(place.join("m.gguf")).expect("it is there");
    let entry = store.find(&name).expect("readable").expect("just made");
    let manifest = entry.manifest.as_ref().expect("it has one");
    let mut all = vec![("manifest", entry.path().to_owned())];
    let config = manifest.config().expect("it has one").digest;
    all.push(("config", store.blob_path(&config)));
    for layer in manifest.layers() {
        let what = match layer.kind() {
            LayerKind::Model => "weights",
            LayerKind::Template => "template",
            LayerKind::System => "system",
            LayerKind::Params => "params",
            LayerKind::Messages => "messages",
            LayerKind::License => "license",
            other => panic!("{other:?}"),
        };
        all.push((what, store.blob_path(&layer.digest)));
    }
    all
}
