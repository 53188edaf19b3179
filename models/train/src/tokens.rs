//! The tokenizer: byte-level BPE, trained here on the corpus. Its pre-tokenizer is GPT-2's, which
//! GGUF calls `gpt-2`.

use crate::corpus::Document;
use anyhow::{Result, anyhow};
use std::path::Path;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// Tokens of the vocabulary, all kinds together.
pub const VOCAB: usize = 2048;
pub const END_OF_TEXT: &str = "<|endoftext|>";
pub const END_OF_MESSAGE: &str = "<|im_end|>";
/// Tokens that only a template writes.
pub const CONTROL: [&str; 3] = [END_OF_TEXT, "<|im_start|>", END_OF_MESSAGE];
/// Tokens that the model writes and a reader sees.
pub const MARKS: [&str; 4] = ["<think>", "</think>", "<tool_call>", "</tool_call>"];

/// Learns the vocabulary from documents.
pub fn learn(documents: &[Document]) -> Result<Tokenizer> {
    let specials = || CONTROL.iter().chain(&MARKS);
    let mut trainer = TrainerWrapper::BpeTrainer(
        BpeTrainer::builder()
            .vocab_size(VOCAB)
            .show_progress(false)
            .min_frequency(2)
            .special_tokens(specials().map(|s| AddedToken::from(*s, true)).collect())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build(),
    );
    let mut tokenizer = Tokenizer::new(BPE::default());
    let bytes = || ByteLevel::new(false, true, true);
    tokenizer.with_pre_tokenizer(Some(bytes()));
    tokenizer.with_decoder(Some(bytes()));
    let texts: Vec<String> = documents
        .iter()
        .map(|d| {
            let text: String = d.iter().map(|p| p.0.as_str()).collect();
            specials().fold(text, |text, s| text.replace(s, "\n"))
        })
        .collect();
    tokenizer.train(&mut trainer, texts.iter()).map_err(|e| anyhow!(e))?;
    Ok(tokenizer)
}

/// Reads a vocabulary that was saved.
pub fn load(path: &Path) -> Result<Tokenizer> {
    Tokenizer::from_file(path).map_err(|e| anyhow!("{}: {e}", path.display()))
}

/// The token ids of a text; special tokens in it are parsed.
pub fn ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    Ok(tokenizer.encode_fast(text, false).map_err(|e| anyhow!(e))?.get_ids().to_vec())
}

/// A document as tokens, with the weight of each.
pub struct Tokens {
    pub ids: Vec<u32>,
    pub weights: Vec<f32>,
}

/// Tokenizes a document, cut to the context.
pub fn tokens(tokenizer: &Tokenizer, document: &Document, context: usize) -> Result<Tokens> {
    let mut out = Tokens { ids: Vec::new(), weights: Vec::new() };
    for (text, weight) in document {
        let ids = ids(tokenizer, text)?;
        out.weights.extend(std::iter::repeat_n(*weight, ids.len()));
        out.ids.extend(ids);
    }
    out.ids.truncate(context);
    out.weights.truncate(context);
    Ok(out)
}
