//! The zoo: tiny models, one an architecture, with llama.cpp's logits.
//!
//! A skeleton holds metadata and tensor shapes; weights come from a generator, for any seed. See
//! `tests/zoo/README.md`.

use std::collections::BTreeMap;
use std::path::Path;

use oprel_gguf::{Array, Gguf, Value, Writer};
use oprel_quant::QuantType;
use serde_json::Value as Json;

use crate::root;

/// Which of the two sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// llama.cpp's own tiny models; logits of all 48 tokens.
    Plain,
    /// Grouped heads, chosen experts, YaRN past the original context; rows 136 to 199 of 200.
    Hard,
}

/// Metadata and shapes of a zoo model.
pub struct Skeleton {
    json: Json,
}

/// Names of the committed skeletons of a set, sorted.
pub fn names(set: Set) -> Vec<String> {
    let files = std::fs::read_dir(root().join("tests/zoo").join(set.folder()));
    let files = files.expect("skeletons are committed").map(|f| f.expect("readable").path());
    let name = |f: std::path::PathBuf| Some(f.file_stem()?.to_str()?.to_string());
    let mut names: Vec<String> = files.filter_map(name).collect();
    names.sort();
    names
}

impl Set {
    fn folder(self) -> &'static str {
        match self {
            Set::Plain => "skeletons",
            Set::Hard => "skeletons-hard",
        }
    }
}

impl Skeleton {
    /// Reads a committed skeleton; `None` if the set has none of this name.
    pub fn load(set: Set, name: &str) -> Option<Skeleton> {
        let folder = set.folder();
        let path = root().join(format!("tests/zoo/{folder}/{name}.json"));
        path.exists().then(|| Skeleton::read(&path))
    }

    /// Reads one.
    fn read(path: &Path) -> Skeleton {
        let text = std::fs::read_to_string(path).expect("a file");
        Skeleton { json: serde_json::from_str(&text).expect("skeletons are JSON") }
    }

    /// Replaces the value of a metadata key, keeping its type.
    ///
    /// # Panics
    /// If the skeleton has no such key.
    pub fn replace(&mut self, key: &str, value: impl Into<Json>) {
        let all = self.json["kv"].as_array_mut().expect("skeletons have lists");
        let entry = all.iter_mut().find(|e| e[0] == key).expect("a key of the skeleton");
        entry[2] = value.into();
    }

    /// Gives every tensor whose name ends like this another shape, fastest dimension first.
    ///
    /// # Panics
    /// If the skeleton has no such tensor.
    pub fn reshape(&mut self, suffix: &str, shape: impl Into<Json>) {
        let (shape, suffix) = (shape.into(), format!(".{suffix}"));
        let all = self.json["tensors"].as_array_mut().expect("skeletons have lists");
        let found = all.iter_mut().filter(|t| text(&t[0]).ends_with(&suffix));
        let changed = found.map(|t| t[1] = shape.clone()).count();
        assert!(changed > 0, "no tensor ends with {suffix}");
    }

    /// The model with the weights of a seed, as a GGUF file in memory.
    pub fn gguf(&self, seed: u64) -> Gguf {
        self.changed_gguf(seed, |_| {})
    }

    /// The same with metadata or tensors added by the caller.
    pub fn changed_gguf(&self, seed: u64, change: impl FnOnce(&mut Writer<'_>)) -> Gguf {
        Gguf::from_bytes(self.file(seed, change)).expect("zoo models are valid")
    }

    /// The bytes of that file.
    pub fn file(&self, seed: u64, change: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let tensors: Vec<(String, Vec<u64>, Vec<u8>)> =
            self.list("tensors").iter().map(|t| tensor(t, seed)).collect();
        let mut writer = Writer::new();
        for entry in self.list("kv") {
            let (key, ty) = (text(&entry[0]), text(&entry[1]));
            if let Some(value) = value(ty, &entry[2]) {
                writer.set(key, value).expect("skeleton keys are valid");
            }
        }
        for (name, shape, bytes) in &tensors {
            writer.tensor(name, shape, QuantType::F32, bytes).expect("skeleton tensors are valid");
        }
        change(&mut writer);
        let mut file = Vec::new();
        writer.write(&mut file).expect("memory takes it");
        file
    }

    /// Keys of single numbers, with the type's name as in the skeleton.
    pub fn numbers(&self) -> Vec<(&str, &str)> {
        let all = self.list("kv").iter().map(|entry| (text(&entry[0]), text(&entry[1])));
        all.filter(|(_, ty)| ["UINT32", "INT32", "FLOAT32"].contains(ty)).collect()
    }

    fn list(&self, key: &str) -> &[Json] {
        self.json[key].as_array().expect("skeletons have lists")
    }
}

fn text(json: &Json) -> &str {
    json.as_str().expect("a string")
}

/// Numbers that JSON lacks stand as strings.
fn number(json: &Json) -> f64 {
    json.as_f64().unwrap_or_else(|| text(json).parse().expect("a number"))
}

/// One metadata value; `None` for empty arrays, which files leave out.
fn value(ty: &str, json: &Json) -> Option<Value> {
    let all = || json.as_array().expect("an array");
    let array = match ty {
        "UINT32" => return Some(Value::U32(json.as_u64().expect("unsigned") as u32)),
        "INT32" => return Some(Value::I32(json.as_i64().expect("signed") as i32)),
        "FLOAT32" => return Some(Value::F32(number(json) as f32)),
        "BOOL" => return Some(Value::Bool(json.as_bool().expect("a bool"))),
        "STRING" => return Some(Value::Str(text(json).to_string())),
        "ARRAY:UINT32" => Array::U32(all().iter().map(|x| number(x) as u32).collect()),
        "ARRAY:INT32" => Array::I32(all().iter().map(|x| number(x) as i32).collect()),
        "ARRAY:FLOAT32" => Array::F32(all().iter().map(|x| number(x) as f32).collect()),
        "ARRAY:STRING" => Array::Str(all().iter().map(text).collect()),
        other => panic!("a skeleton has a value of type {other}"),
    };
    (!array.is_empty()).then_some(Value::Array(array))
}

fn tensor(json: &Json, seed: u64) -> (String, Vec<u64>, Vec<u8>) {
    let name = text(&json[0]).to_string();
    let shape: Vec<u64> =
        json[1].as_array().expect("a shape").iter().map(|d| d.as_u64().expect("a size")).collect();
    let n = shape.iter().product::<u64>() as usize;
    let bytes = weights(seed, &name, n).into_iter().flat_map(f32::to_le_bytes).collect();
    (name, shape, bytes)
}

/// llama.cpp's logits for seed 1.
pub struct Reference {
    /// The tokens that were fed.
    pub tokens: Vec<u32>,
    /// First token whose logits are kept.
    pub first_row: usize,
    /// Logits by model, row-major.
    pub logits: BTreeMap<String, Vec<f32>>,
}

impl Reference {
    /// Reads the committed reference of a set.
    ///
    /// # Panics
    /// If it is damaged.
    pub fn load(set: Set) -> Reference {
        let name = match set {
            Set::Plain => "logits-seed1",
            Set::Hard => "logits-hard-seed1",
        };
        let bytes = std::fs::read(root().join(format!("tests/zoo/{name}.safetensors")));
        let bytes = bytes.expect("the reference is committed");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("valid safetensors");
        let words = |name: &str| -> Vec<[u8; 4]> {
            let data = file.tensor(name).expect("named by the file").data();
            data.chunks_exact(4).map(|w| [w[0], w[1], w[2], w[3]]).collect()
        };
        let tokens: Vec<u32> = words("tokens").into_iter().map(u32::from_le_bytes).collect();
        let logits: BTreeMap<String, Vec<f32>> = file
            .names()
            .into_iter()
            .filter(|&n| n != "tokens")
            .map(|n| (n.to_string(), words(n).into_iter().map(f32::from_le_bytes).collect()))
            .collect();
        let first_row = match set {
            Set::Plain => 0,
            Set::Hard => 136,
        };
        Reference { tokens, first_row, logits }
    }
}

/// Highest median row error that the hard set allows this model: three times llama.cpp's own, at
/// least 3e-5.
///
/// # Panics
/// If the floor file is damaged.
pub fn hard_bar(name: &str) -> f64 {
    let text = std::fs::read_to_string(root().join("tests/zoo/hard-floor.json"));
    let json: Json = serde_json::from_str(&text.expect("committed")).expect("JSON");
    let median = json["floor"][name]["median"].as_f64().unwrap_or(0.0);
    (3.0 * median).max(3e-5)
}

/// Weights from the generator: an element depends on seed, tensor name and index alone.
pub fn weights(seed: u64, name: &str, n: usize) -> Vec<f32> {
    let state = seed ^ fnv1a64(name);
    let norm = name.contains("norm") && name.ends_with(".weight");
    let decay = name.ends_with("ssm_a");
    let element = |i: usize| {
        let u = uniform(state, i as u64);
        match (norm, decay) {
            (true, _) => 1.0 + 0.1 * u,
            (_, true) => -(u * 0.1732).abs(),
            _ => u * 0.1732,
        }
    };
    (0..n).map(element).collect()
}

fn fnv1a64(s: &str) -> u64 {
    s.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3))
}

/// splitmix64's finaliser over a counter, as a uniform number in [-1, 1).
fn uniform(state: u64, i: u64) -> f32 {
    let mut z = state.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    ((z >> 40) as f64 / f64::from(1 << 24) * 2.0 - 1.0) as f32
}
