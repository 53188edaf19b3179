//! Model folders made for a test.

use std::path::Path;

use half::bf16;
use serde_json::{Map, Value as Json, json};

/// A folder with `config.json`, a small vocabulary and weights in two files.
pub(super) struct Folder {
    dir: tempfile::TempDir,
}

struct Tensor {
    name: String,
    ty: &'static str,
    shape: Vec<u64>,
    bytes: Vec<u8>,
}

impl Folder {
    pub(super) fn empty() -> Folder {
        Folder { dir: tempfile::tempdir().expect("a folder") }
    }

    /// The folder of an oracle's case; floats as F32 or as BF16.
    pub(super) fn of(case: &Json, halved: bool) -> Folder {
        let folder = Folder::empty();
        folder.write("config.json", &case["config"].to_string());
        folder.write("tokenizer.json", &small_vocabulary(case["arch"] == "bert").to_string());
        let all = case["hf"].as_array().expect("tensors");
        let all: Vec<Tensor> = all.iter().map(|t| tensor(t, halved)).collect();
        let (first, second) = all.split_at(all.len() / 2);
        let mut map = Map::new();
        for (file, tensors) in [
            ("model-00001-of-00002.safetensors", first),
            ("model-00002-of-00002.safetensors", second),
        ] {
            map.extend(tensors.iter().map(|t| (t.name.clone(), Json::from(file))));
            folder.write_bytes(file, &safetensors(tensors));
        }
        folder.write("model.safetensors.index.json", &json!({"weight_map": map}).to_string());
        folder
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        self.write_bytes(name, text.as_bytes());
    }

    pub(super) fn write_bytes(&self, name: &str, bytes: &[u8]) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).expect("read")
    }

    pub(super) fn remove(&self, name: &str) {
        std::fs::remove_file(self.path().join(name)).expect("removed");
    }

    /// Changes `config.json`; null removes.
    pub(super) fn configure(&self, key: &str, value: Json) {
        let mut config: Json = serde_json::from_str(&self.read("config.json")).expect("JSON");
        config[key] = value;
        self.write("config.json", &config.to_string());
    }

    /// Puts a tensor in the place of one of this name, in a file of its own.
    pub(super) fn replace(&self, name: &str, ty: &'static str, shape: &[u64], bytes: &[u8]) {
        for file in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
            let path = self.path().join(file);
            let old = std::fs::read(&path).expect("read");
            let len = u64::from_le_bytes(old[..8].try_into().expect("eight")) as usize;
            let mut header: Json = serde_json::from_slice(&old[8..8 + len]).expect("JSON");
            header.as_object_mut().expect("an object").shift_remove(name);
            let header = header.to_string();
            let mut new = (header.len() as u64).to_le_bytes().to_vec();
            new.extend(header.as_bytes());
            new.extend(&old[8 + len..]);
            std::fs::write(path, new).expect("written");
        }
        self.add(name, ty, shape, bytes);
    }

    /// Adds a tensor in a file of its own.
    pub(super) fn add(&self, name: &str, ty: &'static str, shape: &[u64], bytes: &[u8]) {
        let tensor = Tensor { name: name.into(), ty, shape: shape.to_vec(), bytes: bytes.to_vec() };
        let file = format!("extra-{name}.safetensors");
        self.write_bytes(&file, &safetensors(&[tensor]));
        let index = "model.safetensors.index.json";
        let mut json: Json = serde_json::from_str(&self.read(index)).expect("JSON");
        json["weight_map"][name] = file.into();
        self.write(index, &json.to_string());
    }
}

fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::<u8>::new());
    for t in tensors {
        let start = data.len();
        data.extend(&t.bytes);
        let entry = json!({"dtype": t.ty, "shape": t.shape, "data_offsets": [start, data.len()]});
        header.insert(t.name.clone(), entry);
    }
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let header = Json::from(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// A tensor of a case: name, shape and how it is made.
fn tensor(of: &Json, halved: bool) -> Tensor {
    let name = of[0].as_str().expect("a name").to_owned();
    let shape: Vec<u64> = of[1].as_array().expect("dims").iter().filter_map(Json::as_u64).collect();
    let random = random(&name, shape.iter().product());
    let float = |z: u64| {
        let u = (z >> 40) as f64 / f64::from(1 << 24) * 2.0 - 1.0;
        ((u * 16.0).round_ties_even() / 64.0) as f32
    };
    let (ty, bytes) = match of[2].as_str() {
        Some("U8") => ("U8", random.map(|z| z as u8).collect()),
        Some("E8") => ("U8", random.map(|z| (z % 8) as u8 + 120).collect()),
        _ if halved => {
            ("BF16", random.flat_map(|z| bf16::from_f32(float(z)).to_le_bytes()).collect())
        }
        _ => ("F32", random.flat_map(|z| float(z).to_le_bytes()).collect()),
    };
    Tensor { name, ty, shape, bytes }
}

/// The oracle's numbers: SplitMix64 from the name's FNV-1a.
fn random(name: &str, n: u64) -> impl Iterator<Item = u64> {
    let step = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3);
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325, step);
    (1..=n).map(move |i| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

fn small_vocabulary(is_bert: bool) -> Json {
    let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "ab", "##b"];
    let vocab: Map<String, Json> =
        words.iter().zip(0..).map(|(w, i)| ((*w).to_owned(), Json::from(i))).collect();
    if is_bert {
        return json!({"model": {"type": "WordPiece", "vocab": vocab}, "added_tokens": [
            {"id": 2, "content": "[CLS]", "special": true}, {"id": 3, "content": "[SEP]", "special": true}]});
    }
    json!({"model": {"type": "BPE", "vocab": vocab, "merges": ["a b"]}, "pre_tokenizer": {"type": "ByteLevel"},
           "added_tokens": [{"id": 2, "content": "[CLS]", "special": true}]})
}
