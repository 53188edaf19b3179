//! What a folder keeps of prompts: a model that is loaded again goes on where it was, hybrids from the
//! farthest checkpoint, and says the same.

use std::path::Path;

use oprel::{Answer, Model, ModelSource, Request, Sampling};
use oprel_tests::zoo::{Set, Skeleton};

const PROMPT: u32 = 150;

/// The model of a file, with a folder or without.
fn load(file: &Path, folder: Option<&Path>) -> Model {
    let builder = Model::builder(ModelSource::File(file.to_path_buf())).threads(1);
    let builder = match folder {
        Some(folder) => builder.prompt_cache(folder, 1 << 30),
        None => builder,
    };
    builder.load().expect("a model of the zoo")
}

fn answer(model: &Model, tokens: &[u32], salt: Option<&str>) -> Answer {
    let mut request = Request::tokens(tokens.to_vec());
    request.sampling = Sampling::greedy();
    request.ignore_end = true;
    request.limits.max_tokens = Some(20);
    request.cache.salt = salt.map(String::from);
    model.generate(request).and_then(oprel::Stream::answer).expect("an answer")
}

fn ids(answer: &Answer) -> Vec<u32> {
    answer.tokens.iter().map(|t| t.id).collect()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let of = |folder: &Path| std::fs::read_dir(folder).expect("readable");
    let models = of(folder).map(|entry| entry.expect("readable").path());
    models.flat_map(|f| of(&f).map(|entry| entry.expect("readable").path())).collect()
}

/// How many tokens of the second turn a model finds after a restart.
fn check(name: &str) -> u32 {
    let skeleton = Skeleton::load(Set::Plain, name).expect("a skeleton");
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("model.gguf");
    std::fs::write(&file, skeleton.file(1, |_| {})).expect("written");
    let folder = place.path().join("cache");
    let prompt: Vec<u32> = (0..PROMPT).map(|i| i * i % 120).collect();
    let fresh = load(&file, None);
    let first = answer(&load(&file, Some(&folder)), &prompt, None);
    assert_eq!((ids(&first), first.usage.cached_tokens), (ids(&answer(&fresh, &prompt, None)), 0));
    // The next turn has the answer in it.
    let turn = [&prompt[..], &ids(&first), &[7, 8, 9]].concat();
    let expected = ids(&answer(&fresh, &turn, None));
    let again = load(&file, Some(&folder));
    assert_eq!(answer(&again, &turn, Some("tenant")).usage.cached_tokens, 0, "{name}");
    let second = answer(&again, &turn, None);
    assert_eq!(ids(&second), expected, "{name}");
    drop(again);
    // Whatever is damaged is not used.
    for (i, path) in files(&folder).into_iter().enumerate() {
        let mut bytes = std::fs::read(&path).expect("readable");
        let at = i * 7919 % bytes.len();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).expect("written");
    }
    let damaged = answer(&load(&file, Some(&folder)), &turn, None);
    assert_eq!((ids(&damaged), damaged.usage.cached_tokens), (expected, 0), "{name}");
    second.usage.cached_tokens
}

#[test]
fn hybrids_go_on_where_they_ended_after_a_restart() {
    for name in ["qwen35-dense", "falcon-h1-dense", "lfm2-dense", "mamba-dense", "mamba2-dense"] {
        // All but the last token of the answer, which was never fed.
        assert_eq!(check(name), PROMPT + 19, "{name}");
    }
}

#[test]
fn others_go_on_after_the_last_whole_page() {
    for name in ["llama-dense", "gemma3-dense"] {
        assert_eq!(check(name), 128, "{name}");
    }
}
