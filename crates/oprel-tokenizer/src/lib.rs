//! Vocabularies of GGUF files: text to token ids and back.
//!
//! A [`Tokenizer`] is read from a file's metadata and gives the ids that llama.cpp gives, for every
//! kind of vocabulary and pre-tokenizer that it knows. It knows no model and applies no chat
//! template. Metadata is not trusted: a damaged vocabulary is an [`Error`], an odd one comes with
//! [`Warning`]s, and no text and no id makes a method panic.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use oprel_tokenizer::{DetokenizeOptions, TokenizeOptions, Tokenizer};
//!
//! let file = oprel_gguf::Gguf::open("model.gguf")?;
//! let tokenizer = Tokenizer::from_metadata(file.metadata())?;
//! let ids = tokenizer.tokenize("Hello", TokenizeOptions::default());
//! assert_eq!(tokenizer.detokenize(&ids, DetokenizeOptions::default()), "Hello");
//! # Ok(())
//! # }
//! ```

mod bpe;
mod cache;
mod charsmap;
mod detokenize;
mod error;
mod hash;
mod load;
mod merge;
mod partition;
mod plamo2;
mod pre;
mod rwkv;
mod seam;
mod special;
mod spm;
mod strings;
mod trie;
mod unicode;
mod unigram;
mod vocab;
mod wordpiece;

use std::fmt;
use std::sync::{Arc, OnceLock};

use oprel_gguf::Metadata;

pub use detokenize::Detokenizer;
pub use error::{Error, Result, Warning};
pub use special::Fim;
pub use vocab::TokenKind;

use detokenize::{Pieces, Spelling};
use partition::{Part, Specials};
use special::Special;
use vocab::Vocab;

/// Texts longer than this are tokenized in parts.
const LONGEST_PART: usize = 1 << 30;

/// A vocabulary with the way texts become tokens of it. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    vocab: Vocab,
    specials: Specials,
    special: Special,
    model: Model,
    flags: Flags,
    spelling: Spelling,
    pieces: OnceLock<Pieces>,
    warnings: Vec<Warning>,
}

/// What a text goes through; each variant holds what its algorithm needs beside the vocabulary.
enum Model {
    None,
    Test,
    Bpe(Box<bpe::Bpe>),
    SentencePiece(spm::Spm),
    Unigram(Box<unigram::Unigram>),
    WordPiece(wordpiece::WordPiece),
    Rwkv(rwkv::Rwkv),
    Plamo2(Box<plamo2::Plamo2>),
}

/// The kinds of vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// There is no vocabulary; only ids go in and out.
    None,
    /// A hash of every five bytes, for tests.
    Test,
    /// Byte-pair encoding by a list of merges (`gpt2`, `gemma4`).
    Bpe,
    /// SentencePiece's byte-pair encoding by scores (`llama`).
    SentencePiece,
    /// SentencePiece's Unigram model (`t5`).
    Unigram,
    /// BERT's WordPiece (`bert`).
    WordPiece,
    /// RWKV's longest match (`rwkv`).
    Rwkv,
    /// PLaMo 2's own (`plamo2`).
    Plamo2,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    add_space_prefix: bool,
    add_bos: bool,
    add_eos: bool,
    add_sep: bool,
    clean_spaces: bool,
}

/// How a text is tokenized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenizeOptions {
    /// Put BOS, EOS or SEP around the tokens where the model wants them.
    pub add_special: bool,
    /// Read `<|im_end|>` and the like as the control tokens that they name. Without it such text is
    /// text: what users write must not be able to end their turn.
    pub parse_special: bool,
}

/// How tokens become text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DetokenizeOptions {
    /// Show control tokens by their names instead of leaving them out.
    pub special: bool,
    /// Take out spaces before punctuation, as is done for BERT. The text then need not be the one
    /// that was tokenized.
    pub clean_spaces: bool,
}

impl Tokenizer {
    /// Reads the vocabulary of a file.
    ///
    /// # Errors
    ///
    /// A kind of vocabulary that is unknown, a list that is missing, too short or of the wrong
    /// type, a damaged table of character replacements.
    pub fn from_metadata(m: &Metadata) -> Result<Tokenizer> {
        load::load(m).map(|inner| Tokenizer(Arc::new(inner)))
    }

    /// The tokens of `text`.
    pub fn tokenize(&self, text: &str, options: TokenizeOptions) -> Vec<u32> {
        let inner = &*self.0;
        let mut out = Vec::with_capacity(text.len() / 4 + 4);
        if options.add_special {
            out.extend(inner.opening());
        }
        let mut after_special = true;
        for part in inner.specials.cut(&inner.vocab, text, options.parse_special) {
            match part {
                Part::Token(id) => {
                    out.push(id);
                    after_special = true;
                }
                Part::Text(text) => {
                    inner.tokenize_text(text, after_special, &mut out);
                    after_special = false;
                }
            }
        }
        if options.add_special {
            out.extend(inner.closing());
        }
        out
    }

    /// The tokens of a text that goes on where another ended: nothing is put before or around it,
    /// and control tokens that it names are text.
    ///
    /// Vocabularies of [`Algorithm::Unigram`] normalize every text as if it began there, so that
    /// their tokens may stand for another text than this.
    pub fn tokenize_rest(&self, text: &str) -> Vec<u32> {
        let inner = &*self.0;
        let mut out = Vec::with_capacity(text.len() / 4 + 4);
        for part in inner.specials.cut(&inner.vocab, text, false) {
            match part {
                Part::Token(id) => out.push(id),
                Part::Text(text) => inner.tokenize_text(text, false, &mut out),
            }
        }
        out
    }

    /// The token's text as bytes: with spaces and bytes as they are, control tokens by their names.
    /// Empty for an id outside the vocabulary.
    pub fn piece(&self, id: u32) -> &[u8] {
        let inner = &*self.0;
        let dna = matches!(&inner.model, Model::Bpe(bpe) if bpe.reading == bpe::Reading::HybridDna);
        inner.pieces.get_or_init(|| Pieces::new(&inner.vocab, inner.spelling, dna)).of(id)
    }

    /// The token as the file spells it, with its way to write spaces and bytes.
    pub fn raw_piece(&self, id: u32) -> Option<&str> {
        ((id as usize) < self.n_tokens()).then(|| self.0.vocab.text(id))
    }

    /// The id of the token that the file spells `piece`.
    pub fn id_of(&self, piece: &str) -> Option<u32> {
        self.0.vocab.id(piece)
    }

    /// How many tokens there are.
    pub fn n_tokens(&self) -> usize {
        self.0.vocab.len()
    }

    /// What the token is for.
    pub fn kind(&self, id: u32) -> TokenKind {
        self.0.vocab.kind(id)
    }

    /// The token's score, 0 where the file gives none.
    pub fn score(&self, id: u32) -> f32 {
        self.0.vocab.score(id)
    }

    /// The kind of vocabulary.
    pub fn algorithm(&self) -> Algorithm {
        match &self.0.model {
            Model::None => Algorithm::None,
            Model::Test => Algorithm::Test,
            Model::Bpe(_) => Algorithm::Bpe,
            Model::SentencePiece(_) => Algorithm::SentencePiece,
            Model::Unigram(_) => Algorithm::Unigram,
            Model::WordPiece(_) => Algorithm::WordPiece,
            Model::Rwkv(_) => Algorithm::Rwkv,
            Model::Plamo2(_) => Algorithm::Plamo2,
        }
    }

    /// A generation that has produced this token is over.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.end_ids().binary_search(&id).is_ok()
    }

    /// All tokens that end a generation, ascending.
    pub fn end_ids(&self) -> &[u32] {
        &self.0.special.ends
    }

    /// Tokens that the file wants never to be generated.
    pub fn suppressed(&self) -> &[u32] {
        &self.0.special.suppressed
    }

    /// Begins a sequence; BERT's `[CLS]`.
    pub fn bos(&self) -> Option<u32> {
        self.0.special.bos
    }

    /// Ends a sequence.
    pub fn eos(&self) -> Option<u32> {
        self.0.special.eos
    }

    /// Ends a turn of a conversation.
    pub fn eot(&self) -> Option<u32> {
        self.0.special.eot
    }

    /// Ends a message that a tool is to answer.
    pub fn eom(&self) -> Option<u32> {
        self.0.special.eom
    }

    /// Stands for what has no token.
    pub fn unknown(&self) -> Option<u32> {
        self.0.special.unknown
    }

    /// Stands between two texts.
    pub fn sep(&self) -> Option<u32> {
        self.0.special.sep
    }

    /// Fills up a batch.
    pub fn pad(&self) -> Option<u32> {
        self.0.special.pad
    }

    /// Hides a token that is to be guessed.
    pub fn mask(&self) -> Option<u32> {
        self.0.special.mask
    }

    /// The tokens of fill-in-the-middle prompts.
    pub fn fim(&self) -> Fim {
        self.0.special.fim
    }

    /// `add_special` begins with BOS.
    pub fn add_bos(&self) -> bool {
        self.0.flags.add_bos
    }

    /// `add_special` ends with EOS.
    pub fn add_eos(&self) -> bool {
        self.0.flags.add_eos
    }

    /// Two texts for this model are joined by SEP.
    pub fn add_sep(&self) -> bool {
        self.0.flags.add_sep
    }

    /// A text is tokenized as if a space stood before it.
    pub fn add_space_prefix(&self) -> bool {
        self.0.flags.add_space_prefix
    }

    /// The vocabulary's makers clean spaces from decoded text, see
    /// [`DetokenizeOptions::clean_spaces`].
    pub fn clean_spaces(&self) -> bool {
        self.0.flags.clean_spaces
    }

    /// What is odd about the vocabulary.
    pub fn warnings(&self) -> &[Warning] {
        &self.0.warnings
    }

    fn vocab(&self) -> &Vocab {
        &self.0.vocab
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("algorithm", &self.algorithm())
            .field("n_tokens", &self.n_tokens())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn opening(&self) -> Option<u32> {
        match self.model {
            Model::Bpe(_) | Model::SentencePiece(_) | Model::Unigram(_) if self.flags.add_bos => {
                self.special.bos
            }
            Model::WordPiece(_) => self.special.bos,
            _ => None,
        }
    }

    fn closing(&self) -> Option<u32> {
        match self.model {
            Model::Bpe(_) | Model::SentencePiece(_) | Model::Unigram(_) if self.flags.add_eos => {
                self.special.eos
            }
            Model::WordPiece(_) => self.special.sep,
            _ => None,
        }
    }

    fn tokenize_text(&self, text: &str, after_special: bool, out: &mut Vec<u32>) {
        let mut rest = text;
        while rest.len() > LONGEST_PART {
            let (part, after) = rest.split_at(rest.floor_char_boundary(LONGEST_PART));
            self.tokenize_part(part, after_special && rest.len() == text.len(), out);
            rest = after;
        }
        self.tokenize_part(rest, after_special && rest.len() == text.len(), out);
    }

    fn tokenize_part(&self, text: &str, after_special: bool, out: &mut Vec<u32>) {
        let (vocab, unknown) = (&self.vocab, self.special.unknown);
        match &self.model {
            Model::None => {}
            Model::Test => test_ids(text, vocab.len(), out),
            Model::Bpe(bpe) => bpe.tokenize(vocab, text, out),
            Model::SentencePiece(spm) if self.flags.add_space_prefix && after_special => {
                spm.tokenize(vocab, &format!(" {text}"), unknown, out);
            }
            Model::SentencePiece(spm) => spm.tokenize(vocab, text, unknown, out),
            Model::Unigram(unigram) => unigram.tokenize(vocab, text, unknown, out),
            Model::WordPiece(wordpiece) => wordpiece.tokenize(text, unknown, out),
            Model::Rwkv(rwkv) => rwkv.tokenize(text, unknown, out),
            Model::Plamo2(plamo2) => plamo2.tokenize(text, out),
        }
    }
}

/// The `test` vocabulary: five bytes at a time, hashed.
fn test_ids(text: &str, n_tokens: usize, out: &mut Vec<u32>) {
    if n_tokens == 0 {
        return;
    }
    out.extend(text.as_bytes().chunks(5).map(|chunk| {
        let hash = chunk.iter().fold(0u64, |h, &b| h.wrapping_mul(31).wrapping_add(b.into()));
        (hash % n_tokens as u64) as u32
    }));
}
