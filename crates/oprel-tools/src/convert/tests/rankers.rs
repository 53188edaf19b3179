//! Generators that become rerankers, and folders with a ranking head of their own.

use oprel_gguf::Gguf;
use serde_json::json;

use super::super::{ConvertOptions, Weights, convert};
use super::folders::Folder;
use super::{case, converted, elements};
use crate::Error;
use std::ops::ControlFlow;

/// Tokens of the labels.
const NO: usize = 10;
const YES: usize = 11;

/// A folder of qwen3 whose vocabulary has the labels.
fn folder() -> Folder {
    let folder = Folder::of(&case("qwen3"), false);
    let mut tokenizer: serde_json::Value =
        serde_json::from_str(&folder.read("tokenizer.json")).unwrap();
    tokenizer["model"]["vocab"]["no"] = NO.into();
    tokenizer["model"]["vocab"]["yes"] = YES.into();
    folder.write("tokenizer.json", &tokenizer.to_string());
    folder
}

fn made(folder: &Folder, reranker: bool) -> Result<(Gguf, Vec<String>), Error> {
    let to = folder.path().join("out.gguf");
    let options = ConvertOptions { weights: Weights::F32, reranker, name: None };
    let told = convert(folder.path(), &to, &options, &mut |_| ControlFlow::Continue(()))?;
    Ok((Gguf::open(&to).unwrap(), told.notes))
}

#[test]
fn a_reranker_keeps_the_rows_of_yes_and_no_in_this_order() {
    let folder = folder();
    let (plain, _) = made(&folder, false).unwrap();
    let head = elements(&plain, "output.weight");
    let width = plain.metadata().u32("qwen3.embedding_length").unwrap().unwrap() as usize;
    let (file, notes) = made(&folder, true).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    let cls = elements(&file, "cls.output.weight");
    assert_eq!(cls[..width], head[YES * width..][..width]);
    assert_eq!(cls[width..], head[NO * width..][..width]);
    assert!(file.tensor("output.weight").is_none());
    let m = file.metadata();
    assert_eq!(m.u32("qwen3.pooling_type").unwrap(), Some(4));
    let template = m.str("tokenizer.chat_template.rerank").unwrap().unwrap();
    assert!(template.contains("{query}") && template.contains("{document}"));
    let labels = m.strs("qwen3.classifier.output_labels").unwrap().unwrap();
    assert_eq!(labels.iter().collect::<Vec<_>>(), ["yes", "no"]);
    let described = oprel_models::describe(&file).unwrap();
    assert!(described.decoder.classifier.is_some_and(|c| c.softmax));
}

#[test]
fn without_a_matrix_of_its_own_the_rows_are_those_of_the_token_table() {
    let folder = folder();
    folder.configure("tie_word_embeddings", true.into());
    let (file, _) = made(&folder, true).unwrap();
    let (cls, table) = (elements(&file, "cls.output.weight"), elements(&file, "token_embd.weight"));
    let width = cls.len() / 2;
    assert_eq!(cls[..width], table[YES * width..][..width]);
}

#[test]
fn what_is_called_a_reranker_becomes_one_and_says_so() {
    let folder = folder();
    folder.write("README.md", "---\nlicense: x\n---\n# Qwen3-Reranker-0.6B\n");
    let (file, notes) = made(&folder, false).unwrap();
    assert!(file.tensor("cls.output.weight").is_some());
    assert!(notes.iter().any(|note| note.contains("reranker")), "{notes:?}");
    folder.write("README.md", "made for use beside Qwen3-Reranker-0.6B\n");
    let (file, _) = made(&folder, false).unwrap();
    assert!(file.tensor("cls.output.weight").is_none());
}

#[test]
fn what_cannot_rank_is_refused() {
    let folder = Folder::of(&case("qwen3"), false);
    let error = made(&folder, true).unwrap_err().to_string();
    assert!(error.contains("'yes' and 'no'"), "{error}");
    let other = Folder::of(&case("llama"), false);
    assert!(made(&other, true).unwrap_err().to_string().contains("Qwen3ForCausalLM"));
}

#[test]
fn a_folder_with_one_label_ranks_by_its_number() {
    let folder = Folder::of(&case("qwen3"), false);
    folder.configure("architectures", json!(["Qwen3ForSequenceClassification"]));
    folder.configure("tie_word_embeddings", true.into());
    let width = 64_usize;
    let row: Vec<u8> = (0..width).flat_map(|i| (i as f32).to_le_bytes()).collect();
    folder.add("score.weight", "F32", &[1, width as u64], &row);
    let (file, _) = converted(&folder, Weights::F32);
    assert_eq!(file.metadata().u32("qwen3.pooling_type").unwrap(), Some(4));
    let described = oprel_models::describe(&file).unwrap();
    assert!(described.decoder.classifier.is_some_and(|c| !c.softmax));
}
