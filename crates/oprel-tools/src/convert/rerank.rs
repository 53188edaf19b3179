//! Generators that were trained to say "yes" or "no" to whether a document answers a query: what a ranking head
//! keeps of their last matrix.

use std::path::Path;

use oprel_gguf::{Array, StrArray, Value};

use super::config::{Config, read_text};
use super::keys::Keys;
use super::out::Out;
use super::tokenizer::Entries;
use crate::error::{Error, Result};

/// The class of these models; others have no ranking head in GGUF.
const CLASS: &str = "Qwen3ForCausalLM";
/// Words for the answer; the first is what a document is ranked by.
const LABELS: [&str; 2] = ["yes", "no"];
/// GGUF's number for a ranking head.
const RANK: u32 = 4;
const TEMPLATE: &str = "tokenizer.chat_template.rerank";
const TEMPLATES: &str = "tokenizer.chat_templates";

/// How these models are asked, as their makers say; the places are filled when pairs are scored.
const QUESTION: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and \
     the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n\
     <|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n\
     <Query>: {query}\n<Document>: {document}<|im_end|>\n\
     <|im_start|>assistant\n<think>\n\n</think>\n\n";

/// Whether the model of a folder is one: `asked` says so, or else its name does.
///
/// # Errors
/// If it should be one and cannot.
pub(super) fn is_one(
    asked: bool,
    folder: &Path,
    config: &Config,
    notes: &mut Vec<String>,
) -> Result<bool> {
    let fits = config.architecture()? == CLASS;
    if asked && !fits {
        return Err(Error::Request("only models of class Qwen3ForCausalLM can become rerankers"));
    }
    if asked || !fits || !is_called_one(folder)? {
        return Ok(asked);
    }
    notes
        .push("the folder calls itself a reranker: of the last matrix, yes and no are kept".into());
    Ok(true)
}

fn is_called_one(folder: &Path) -> Result<bool> {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let is_named = |text: &str| text.to_ascii_lowercase().contains("qwen3-reranker");
    if whole.file_name().and_then(|name| name.to_str()).is_some_and(is_named) {
        return Ok(true);
    }
    // Folders of the hub's cache are called by commits.
    let readme = read_text(&folder.join("README.md"))?.unwrap_or_default();
    Ok(readme.lines().any(|line| line.starts_with("# ") && is_named(line)))
}

/// Puts the rows of the labels in the place of the whole matrix; of a model without one, rows of the token table.
///
/// # Errors
/// If there is no such matrix, or no tokens for the labels.
pub(super) fn head(outs: &mut Vec<Out>, vocabulary: &Entries) -> Result<()> {
    let rows = label_rows(vocabulary)?;
    let find = |name: &str| outs.iter().find(|out| out.name == name).cloned();
    let whole = find("output.weight").or_else(|| find("token_embd.weight"));
    let whole = whole.ok_or_else(|| Error::tensor("lm_head.weight", "is missing"))?;
    outs.retain(|out| out.name != "output.weight");
    let [yes, no] = rows;
    let head =
        whole.named("cls.output.weight").taken(&[2], |row| if row == 0 { yes } else { no })?;
    outs.insert(0, head);
    Ok(())
}

/// Which tokens the labels are.
fn label_rows(vocabulary: &Entries) -> Result<[u64; 2]> {
    let tokens = vocabulary.iter().find(|(key, _)| key == "tokenizer.ggml.tokens");
    let Some((_, Value::Array(Array::Str(tokens)))) = tokens else {
        return Err(Error::Request("the vocabulary has no tokens"));
    };
    let row = |label: &str| tokens.iter().position(|token| token == label).map(|at| at as u64);
    match LABELS.map(row) {
        [Some(yes), Some(no)] => Ok([yes, no]),
        _ => Err(Error::Request("the vocabulary has no tokens 'yes' and 'no' to rank by")),
    }
}

/// What a file says of its ranking head.
pub(super) fn keys(keys: &mut Keys<'_>) {
    keys.set("pooling_type", RANK);
    keys.set("classifier.output_labels", LABELS.into_iter().collect::<StrArray>());
}

/// Adds how it is asked, where the folder does not say it.
pub(super) fn template(vocabulary: &mut Entries) {
    if vocabulary.iter().any(|(key, _)| key == TEMPLATE) {
        return;
    }
    vocabulary.push((TEMPLATE.into(), QUESTION.into()));
    let named = vocabulary.iter().position(|(key, _)| key == TEMPLATES);
    let before = named.map(|at| vocabulary.remove(at).1);
    let before = match &before {
        Some(Value::Array(Array::Str(names))) => names.iter().collect(),
        _ => Vec::new(),
    };
    let names: StrArray = before.into_iter().chain(["rerank"]).collect();
    vocabulary.push((TEMPLATES.into(), names.into()));
}
