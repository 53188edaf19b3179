//! Mixes are those of llama.cpp, tensor by tensor, and plain types its bytes: `tests/mixes/make_golden.py`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use oprel_gguf::{Gguf, QuantType, Writer};
use oprel_tools::imatrix::{Entry, Imatrix};
use oprel_tools::quantize::{FileType, Mix, Progress, QuantizeOptions, preview, quantize};
use sha2::{Digest, Sha256};

/// A model of `models.txt`.
#[derive(Default)]
struct Model {
    name: String,
    arch: String,
    layers: u64,
    metadata: Vec<(String, String, String)>,
    tensors: Vec<(String, Vec<u64>)>,
}

fn models() -> Vec<Model> {
    let mut models: Vec<Model> = Vec::new();
    for line in include_str!("mixes/models.txt").lines() {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["model", name, arch, layers] => models.push(Model {
                name: name.into(),
                arch: arch.into(),
                layers: layers.parse().unwrap(),
                ..Model::default()
            }),
            ["kv", key, ty, value] => {
                let entry = (key.to_owned(), ty.to_owned(), value.to_owned());
                models.last_mut().unwrap().metadata.push(entry);
            }
            ["tensor", name, ..] => {
                let shape = words[2..].iter().map(|n| n.parse().unwrap()).collect();
                models.last_mut().unwrap().tensors.push((name.to_owned(), shape));
            }
            _ => assert!(line.is_empty() || line.starts_with('#'), "{line}"),
        }
    }
    models
}

impl Model {
    /// The names that one line of tensors stands for.
    fn names(&self, pattern: &str) -> Vec<String> {
        let Some((before, rest)) = pattern.split_once('{') else { return vec![pattern.into()] };
        let (range, after) = rest.split_once('}').unwrap();
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
            None => (0, self.layers - 1),
        };
        (first..=last).map(|layer| format!("{before}{layer}{after}")).collect()
    }

    fn write(&self, path: &Path) {
        let mut writer = Writer::new();
        writer.set("general.architecture", self.arch.as_str()).unwrap();
        let key = |name: &str| format!("{}.{name}", self.arch);
        writer.set(&key("block_count"), self.layers as u32).unwrap();
        for (name, ty, value) in &self.metadata {
            match ty.as_str() {
                "u32" => writer.set(&key(name), value.parse::<u32>().unwrap()).unwrap(),
                _ => writer.set(&key(name), value.parse::<f32>().unwrap()).unwrap(),
            }
        }
        for (pattern, shape) in &self.tensors {
            let ty = if shape.len() > 1 { QuantType::F16 } else { QuantType::F32 };
            let n_bytes = shape.iter().product::<u64>() as usize * ty.block_bytes();
            for name in self.names(pattern) {
                writer.tensor(&name, shape, ty, vec![0; n_bytes]).unwrap();
            }
        }
        writer.write_file(path).unwrap();
    }

    fn imatrix(&self) -> Imatrix {
        let mut imatrix = Imatrix::default();
        for (pattern, shape) in self.tensors.iter().filter(|(_, shape)| shape.len() > 1) {
            let experts = shape.get(2).copied().unwrap_or(1) as usize;
            for name in self.names(pattern) {
                let (sums, counts) = (vec![1.0; shape[0] as usize * experts], vec![1.0; experts]);
                imatrix.entries.push(Entry { name, sums, counts });
            }
        }
        imatrix
    }
}

/// `Q4_K:2,Q6_K:1`.
fn runs(types: &[QuantType]) -> String {
    let runs = types.chunk_by(|a, b| a == b);
    runs.map(|run| format!("{}:{}", run[0], run.len())).collect::<Vec<_>>().join(",")
}

#[test]
fn every_tensor_of_every_mix_has_llama_cpps_type() {
    let folder = tempfile::tempdir().unwrap();
    let models = models();
    let mut n_cases = 0;
    for model in &models {
        model.write(&folder.path().join(&model.name));
    }
    let mut wrong = Vec::new();
    for line in include_str!("mixes/mixes.txt").lines() {
        let words: Vec<_> = line.split(' ').collect();
        let model = models.iter().find(|model| model.name == words[0]).unwrap();
        let imatrix = (words[2] == "imatrix").then(|| model.imatrix());
        let options = QuantizeOptions { imatrix, ..QuantizeOptions::default() };
        let mix = FileType::parse(words[1]).unwrap();
        let report = preview(&folder.path().join(&model.name), mix, &options).unwrap();
        let of = |name: &String| report.tensors.iter().find(|t| &t.name == name).unwrap().to;
        let kinds = model.tensors.iter().filter(|(_, shape)| shape.len() > 1);
        for ((pattern, _), expected) in kinds.zip(&words[3..]) {
            let types: Vec<_> = model.names(pattern).iter().map(of).collect();
            if runs(&types) != *expected {
                wrong.push(format!(
                    "{} {pattern}: {} not {expected}",
                    words[..3].join(" "),
                    runs(&types)
                ));
            }
        }
        n_cases += 1;
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
    assert!(n_cases > 400, "{n_cases}");
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo/oprel-demo-q8_0.gguf")
}

#[test]
fn plain_types_give_llama_cpps_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    for line in include_str!("mixes/sums.txt").lines() {
        let (name, expected) = line.split_once(' ').unwrap();
        let mix = FileType::parse(name).unwrap();
        let pure = matches!(mix, FileType::Q4_0 | FileType::Q4_1 | FileType::Q5_0 | FileType::Q5_1);
        let allow_requantize = true;
        let options = QuantizeOptions { pure, allow_requantize, ..QuantizeOptions::default() };
        let on_progress = &mut |_: &Progress<'_>| ControlFlow::Continue(());
        let report = quantize(&demo(), &path, Mix::Named(mix), &options, on_progress).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let sum: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(sum, expected, "{name}");
        assert_eq!(report.bytes_after, bytes.len() as u64);
        Gguf::open(&path).unwrap();
    }
}
