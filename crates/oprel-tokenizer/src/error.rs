//! What may be wrong with a vocabulary, and what may be odd about one that works.

/// Why metadata is no vocabulary.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The metadata has no tokenizer, or part of one is missing.
    #[error("the file has no `{key}`: it brings no complete tokenizer")]
    Missing {
        /// The metadata key.
        key: &'static str,
    },
    /// A value is of the wrong type.
    #[error("cannot read the tokenizer")]
    Metadata(#[from] oprel_gguf::Error),
    /// `tokenizer.ggml.model` names something unknown.
    #[error(
        "unknown tokenizer model `{name}`; known are llama, gpt2, gemma4, bert, t5, rwkv, plamo2, hybriddna, whitespace, none, test"
    )]
    UnknownModel {
        /// The name in the file.
        name: String,
    },
    /// A list that goes with the tokens is shorter than the list of tokens.
    #[error("`{key}` has {found} entries for {tokens} tokens")]
    TooShort {
        /// The metadata key.
        key: &'static str,
        /// How many entries it has.
        found: usize,
        /// How many tokens there are.
        tokens: usize,
    },
    /// A list, a token in it, or the table that is made of it is larger than any real one.
    #[error("`{key}` is too large: {found}, and at most {limit} is read")]
    TooLong {
        /// The metadata key.
        key: &'static str,
        /// How large: entries, bytes of a token, or steps to make a table.
        found: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// The table of character replacements of a Unigram vocabulary points outside itself.
    #[error("`tokenizer.ggml.precompiled_charsmap` is damaged: {why}")]
    CharsMap {
        /// What does not fit.
        why: &'static str,
    },
    /// A vocabulary that spells unknown characters in bytes lacks a byte.
    #[error("the vocabulary has no token for the byte 0x{byte:02X}")]
    MissingByte {
        /// The byte.
        byte: u8,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Something odd about a vocabulary that can be used all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The pre-tokenizer is unknown; the default is used, and words may be cut in other places.
    #[error(
        "unknown pre-tokenizer `{name}`: the default is used, and text may be cut in other places than the model has learnt"
    )]
    UnknownPre {
        /// The name in the file.
        name: String,
    },
    /// The file names no pre-tokenizer; the default is used.
    #[error(
        "the file names no pre-tokenizer: the default is used, and text may be cut in other places than the model has learnt"
    )]
    NoPre,
    /// A special token id lies outside the vocabulary and is ignored.
    #[error("`{key}` is {id}, outside the vocabulary; it is ignored")]
    BadSpecial {
        /// The metadata key.
        key: &'static str,
        /// The id in the file.
        id: u32,
    },
    /// Two tokens are spelled alike; text becomes the later one.
    #[error("tokens {first} and {second} are spelled alike; text becomes the latter")]
    Duplicate {
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
    },
}
