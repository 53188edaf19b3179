//! Rerankers against llama.cpp: tiny models with weights from the zoo's generator.
//!
//! The scores are those of Debian's llama-server (build 11669) with `--rerank -fa off -ctk f32 -ctv f32`, asked
//! for `/v1/rerank` one document at a time, on the files that `the_models_are_written` writes.

use std::path::{Path, PathBuf};

use oprel::{EmbedRequest, Executor, Model, ModelSource, Request, RerankRequest};
use oprel_gguf::{Array, Value, Writer};
use oprel_quant::QuantType;
use oprel_tests::zoo::weights;

const WIDTH: u64 = 32;
const FF: u64 = 64;
const LAYERS: u64 = 2;
const CONTEXT: u32 = 128;

const QUERY: &str = "what is a cat";
const DOCUMENTS: [&str; 4] =
    ["a cat is an animal", "the rain is on the roof", "dogs and cats, and a house by the sea", ""];

/// A file being made: metadata, and tensors with weights from the generator.
struct File(Writer<'static>);

impl File {
    fn new(architecture: &str) -> File {
        let mut file = File(Writer::new());
        file.set("general.architecture", Value::Str(architecture.into()));
        for (key, value) in [
            ("context_length", CONTEXT),
            ("embedding_length", WIDTH as u32),
            ("feed_forward_length", FF as u32),
            ("block_count", LAYERS as u32),
            ("attention.head_count", 4),
            ("pooling_type", 4),
        ] {
            file.set(&format!("{architecture}.{key}"), Value::U32(value));
        }
        file
    }

    fn set(&mut self, key: &str, value: Value) {
        self.0.set(key, value).expect("a good key");
    }

    fn strings(&mut self, key: &str, all: impl IntoIterator<Item = impl Into<String>>) {
        let all: Vec<String> = all.into_iter().map(Into::into).collect();
        self.set(key, Value::Array(Array::Str(all.iter().map(String::as_str).collect())));
    }

    fn tensor(&mut self, name: &str, shape: &[u64]) {
        let n = shape.iter().product::<u64>() as usize;
        let bytes = weights(1, name, n).into_iter().flat_map(|x| (2.0 * x).to_le_bytes());
        let bytes: Vec<u8> = bytes.collect();
        self.0.tensor(name, shape, QuantType::F32, bytes).expect("a good tensor");
    }

    /// `NAME.weight` and `NAME.bias`.
    fn layer(&mut self, name: &str, cols: u64, rows: u64) {
        self.tensor(&format!("{name}.weight"), &[cols, rows]);
        self.tensor(&format!("{name}.bias"), &[rows]);
    }

    fn norm(&mut self, name: &str) {
        self.tensor(&format!("{name}.weight"), &[WIDTH]);
        self.tensor(&format!("{name}.bias"), &[WIDTH]);
    }

    fn bytes(self) -> Vec<u8> {
        let mut file = Vec::new();
        self.0.write(&mut file).expect("memory takes it");
        file
    }
}

fn encoder_layers(file: &mut File) {
    for i in 0..LAYERS {
        for part in ["q", "k", "v", "output"] {
            file.layer(&format!("blk.{i}.attn_{part}"), WIDTH, WIDTH);
        }
        file.norm(&format!("blk.{i}.attn_output_norm"));
        file.layer(&format!("blk.{i}.ffn_up"), WIDTH, FF);
        file.layer(&format!("blk.{i}.ffn_down"), FF, WIDTH);
        file.norm(&format!("blk.{i}.layer_output_norm"));
    }
}

/// A cross-encoder with a vocabulary of words.
fn bert() -> Vec<u8> {
    let mut file = File::new("bert");
    file.set("bert.attention.layer_norm_epsilon", Value::F32(1e-12));
    file.set("bert.attention.causal", Value::Bool(false));
    file.set("tokenizer.ggml.model", Value::Str("bert".into()));
    file.set("tokenizer.ggml.token_type_count", Value::U32(2));
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let words = "what is a cat an animal the rain on roof dog and house by sea of";
    let words = words.split(' ').map(|w| format!("\u{2581}{w}"));
    let rest = ["s", ",", ".", "\u{2581},", "\u{2581}."].map(String::from);
    let tokens: Vec<String> =
        special.map(String::from).into_iter().chain(words).chain(rest).collect();
    let kinds = (0..tokens.len()).map(|i| if i < 5 { 3 } else { 1 }).collect();
    let n_vocab = tokens.len() as u64;
    file.strings("tokenizer.ggml.tokens", tokens);
    file.set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)));
    for (role, id) in [("bos", 2), ("seperator", 3), ("unknown", 1), ("padding", 0), ("mask", 4)] {
        file.set(&format!("tokenizer.ggml.{role}_token_id"), Value::U32(id));
    }
    file.tensor("token_embd.weight", &[WIDTH, n_vocab]);
    file.tensor("position_embd.weight", &[WIDTH, CONTEXT.into()]);
    file.tensor("token_types.weight", &[WIDTH, 2]);
    file.norm("token_embd_norm");
    encoder_layers(&mut file);
    file.layer("cls", WIDTH, WIDTH);
    file.layer("cls.output", WIDTH, 1);
    file.bytes()
}

/// The characters that stand for bytes in byte-level vocabularies.
fn byte_characters() -> Vec<char> {
    let shown = |b: u32| (33..127).contains(&b) || (161..173).contains(&b) || b >= 174;
    let mut others = (256..).filter_map(char::from_u32);
    let of = |b: u32| if shown(b) { char::from_u32(b) } else { others.next() };
    (0..256).map_while(of).collect()
}

/// A generator that was made a reranker: two rows of its head are left, and a template.
fn qwen3() -> Vec<u8> {
    let mut file = File::new("qwen3");
    for (key, value) in [("head_count_kv", 2), ("key_length", 8), ("value_length", 8)] {
        file.set(&format!("qwen3.attention.{key}"), Value::U32(value));
    }
    file.set("qwen3.attention.layer_norm_rms_epsilon", Value::F32(1e-6));
    file.set("qwen3.rope.freq_base", Value::F32(10_000.0));
    file.strings("qwen3.classifier.output_labels", ["yes", "no"]);
    file.set("tokenizer.ggml.model", Value::Str("gpt2".into()));
    file.set("tokenizer.ggml.pre", Value::Str("qwen2".into()));
    let bytes = byte_characters().into_iter().map(String::from);
    let special = ["<|q|>", "<|d|>", "<|e|>"].map(String::from);
    let tokens: Vec<String> = bytes.chain(special).chain(["at".to_string()]).collect();
    let kinds = (0..tokens.len()).map(|i| if (256..259).contains(&i) { 3 } else { 1 }).collect();
    let n_vocab = tokens.len() as u64;
    file.strings("tokenizer.ggml.tokens", tokens);
    file.strings("tokenizer.ggml.merges", ["a t"]);
    file.set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)));
    file.set("tokenizer.ggml.eos_token_id", Value::U32(258));
    file.set("tokenizer.ggml.padding_token_id", Value::U32(258));
    file.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
    let template = "<|q|>{query}<|d|>{document}<|e|>";
    file.set("tokenizer.chat_template.rerank", Value::Str(template.into()));
    file.tensor("token_embd.weight", &[WIDTH, n_vocab]);
    for i in 0..LAYERS {
        let name = |part: &str| format!("blk.{i}.{part}.weight");
        file.tensor(&name("attn_norm"), &[WIDTH]);
        for (part, cols, rows) in [
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", WIDTH, 16),
            ("attn_v", WIDTH, 16),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_gate", WIDTH, FF),
            ("ffn_up", WIDTH, FF),
            ("ffn_down", FF, WIDTH),
        ] {
            file.tensor(&name(part), &[cols, rows]);
        }
        file.tensor(&name("attn_q_norm"), &[8]);
        file.tensor(&name("attn_k_norm"), &[8]);
        file.tensor(&name("ffn_norm"), &[WIDTH]);
    }
    file.tensor("output_norm.weight", &[WIDTH]);
    file.tensor("cls.output.weight", &[WIDTH, 2]);
    file.bytes()
}

fn written(folder: &Path, name: &str, bytes: Vec<u8>) -> PathBuf {
    let path = folder.join(format!("{name}.gguf"));
    std::fs::write(&path, bytes).expect("written");
    path
}

#[test]
#[ignore = "writes the files that the scores below are of, into the folder RANKERS"]
fn the_models_are_written() {
    let folder = PathBuf::from(std::env::var_os("RANKERS").expect("RANKERS"));
    written(&folder, "bert", bert());
    written(&folder, "qwen3", qwen3());
}

fn load(bytes: Vec<u8>, executor: Executor, threads: usize) -> Model {
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(folder.path(), "model", bytes);
    let builder = Model::builder(ModelSource::File(path)).executor(executor).threads(threads);
    builder.load().expect("it loads")
}

/// By document.
fn scores(model: &Model, query: &str, documents: &[&str]) -> Vec<f32> {
    let ranking = model.rerank(&RerankRequest::new(query, documents.to_vec())).expect("ranked");
    assert!(ranking.results.is_sorted_by(|a, b| a.score >= b.score));
    let mut results = ranking.results;
    results.sort_by_key(|r| r.index);
    results.into_iter().map(|r| r.score).collect()
}

/// Whether every score is within this of llama.cpp's.
fn check(name: &str, bytes: &[u8], expected: [f32; 4], bar: f32) {
    for executor in [Executor::Cpu, Executor::Candle] {
        let got = scores(&load(bytes.to_vec(), executor, 1), QUERY, &DOCUMENTS);
        println!("{name} {executor:?} {got:?}");
        let near = got.iter().zip(expected).all(|(got, want)| (got - want).abs() < bar);
        assert!(near, "{name} {executor:?}: {got:?}, not {expected:?}");
    }
}

#[test]
fn a_cross_encoder_gives_the_scores_of_llama_cpp() {
    // Its GELU comes from a table of f16.
    check("bert", &bert(), [0.828_631, 0.936_120, 1.129_743, 0.249_393], 1e-3);
}

#[test]
fn a_generator_made_a_reranker_gives_the_scores_of_llama_cpp() {
    // Theirs keeps keys and values in f32, candle's here too; ours in f16.
    check("qwen3", &qwen3(), [0.784_687, 0.458_780, 0.915_874, 0.001_488_6], 1e-3);
}

#[test]
fn documents_score_the_same_alone_and_together_whatever_the_threads() {
    let documents: Vec<String> = (0..40).map(|i| DOCUMENTS[i % 4].repeat(1 + i / 8)).collect();
    let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
    for bytes in [bert(), qwen3()] {
        let one = load(bytes.clone(), Executor::Cpu, 1);
        let alone: Vec<u32> =
            documents.iter().map(|d| scores(&one, QUERY, &[d])[0].to_bits()).collect();
        for threads in [1, 3] {
            let model = load(bytes.clone(), Executor::Cpu, threads);
            let together = scores(&model, QUERY, &documents);
            let together: Vec<u32> = together.into_iter().map(f32::to_bits).collect();
            assert_eq!(together, alone, "{threads} threads");
        }
    }
}

#[test]
fn a_document_that_is_too_long_is_cut_or_refused() {
    let long = DOCUMENTS[0].repeat(200);
    for bytes in [bert(), qwen3()] {
        let model = load(bytes, Executor::Cpu, 1);
        let mut request = RerankRequest::new(QUERY, [&long]);
        let cut = model.rerank(&request).expect("it is cut");
        assert!((CONTEXT - 8..=CONTEXT).contains(&cut.usage.prompt_tokens), "{:?}", cut.usage);
        request.truncate = false;
        let error = model.rerank(&request).expect_err("it is too long");
        assert!(error.to_string().contains("at most 128"), "{error}");
    }
}

#[test]
fn a_reranker_does_nothing_else_and_others_do_not_rank() {
    let model = load(bert(), Executor::Cpu, 1);
    assert!(model.ranks() && !model.only_embeds());
    let refused = model.generate(Request::raw("a")).expect_err("it makes no text").to_string();
    assert!(refused.contains("ranks documents"), "{refused}");
    let refused = model.embed(&EmbedRequest::new(["a"])).expect_err("no vectors").to_string();
    assert!(refused.contains("ranks documents"), "{refused}");
    let demo = Model::demo().expect("the demo");
    let refused = demo.rerank(&RerankRequest::new("a", ["b"])).expect_err("it never ranks");
    assert!(refused.to_string().contains("no ranking head"), "{refused}");
    let none = RerankRequest::new("a", [""; 0]);
    assert!(model.rerank(&none).expect_err("nothing to rank").to_string().contains("documents"));
}

#[test]
fn a_ranking_head_that_is_not_in_the_file_is_an_error() {
    let mut file = File::new("bert");
    file.set("bert.attention.layer_norm_epsilon", Value::F32(1e-12));
    file.strings("tokenizer.ggml.tokens", ["a"]);
    file.tensor("token_embd.weight", &[WIDTH, 1]);
    file.tensor("position_embd.weight", &[WIDTH, CONTEXT.into()]);
    file.norm("token_embd_norm");
    encoder_layers(&mut file);
    let file = oprel_gguf::Gguf::from_bytes(file.bytes()).expect("a GGUF file");
    let error = oprel_models::describe(&file).expect_err("no head").to_string();
    assert!(error.contains("cls.weight"), "{error}");
}
