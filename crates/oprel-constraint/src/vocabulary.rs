//! A model's tokens as a constraint sees them: bytes to search, ends, and how a text that must
//! come is cut into tokens.

use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::earley::SlicedBiasComputer;
use oprel_tokenizer::{Algorithm, TokenKind, Tokenizer};
use toktrie::{
    INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};

use crate::{Error, Mask, Result};

/// Longest token that is searched, in bytes; the search tree has room for a path of 1024.
const LONGEST_TOKEN: usize = 1000;

/// Most ids; the search tree counts its nodes in 22 bits.
const MOST_TOKENS: usize = 1 << 21;

/// Bytes that no UTF-8 text has.
const NEVER_IN_TEXT: fn(u8) -> bool = |byte| matches!(byte, 0xc0 | 0xc1 | 0xf5..);

/// The tokens of a model, ready to be searched. Made once a model; requests share it.
pub struct Vocabulary {
    factory: ParserFactory,
    /// `None` for bytes, which are their own tokens.
    tokenizer: Option<Tokenizer>,
    n_vocab: usize,
    ends: Vec<u32>,
    producible: Mask,
    canonical: bool,
}

/// The way from bytes to tokens and back that llguidance wants.
struct Env {
    trie: TokTrie,
    tokenizer: Option<Tokenizer>,
    canonical: bool,
}

impl Vocabulary {
    /// The vocabulary of a tokenizer, padded to the `n_vocab` ids that the model's logits cover.
    /// Ids that no token has, and tokens that are never to be produced, are never allowed.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] if there are more ids than any model has, or tokens are not the pieces
    /// of a text, as those of BERT are not.
    pub fn new(tokenizer: &Tokenizer, n_vocab: usize) -> Result<Arc<Vocabulary>> {
        if n_vocab == 0 || n_vocab > MOST_TOKENS {
            let reason = format!("it has {n_vocab} ids; 1 to {MOST_TOKENS} are supported");
            return Err(Error::Vocabulary { reason });
        }
        if !spells_texts(tokenizer) {
            let reason = "its tokens are not the pieces that a text is made of".into();
            return Err(Error::Vocabulary { reason });
        }
        // The search tree asserts its limits.
        let build = AssertUnwindSafe(|| Vocabulary::build(tokenizer, n_vocab));
        catch_unwind(build).unwrap_or_else(|_| {
            Err(Error::Vocabulary { reason: "its tokens are too many or too long".into() })
        })
    }

    fn build(tokenizer: &Tokenizer, n_vocab: usize) -> Result<Arc<Vocabulary>> {
        let suppressed: HashSet<u32> = tokenizer.suppressed().iter().copied().collect();
        let word = |id| if suppressed.contains(&id) { vec![] } else { word(tokenizer, id) };
        let words: Vec<Vec<u8>> = (0..n_vocab as u32).map(word).collect();
        let mut producible = Mask::none(n_vocab);
        for (id, word) in (0u32..).zip(&words) {
            if !word.is_empty() {
                producible.insert(id);
            }
        }
        let is_id = |id: &u32| (*id as usize) < n_vocab;
        let ends: Vec<u32> = tokenizer.end_ids().iter().copied().filter(is_id).collect();
        let canonical = covers_all_texts(&words) && tokenizes_as_written(tokenizer);
        let info = TokRxInfo::new(n_vocab as u32, ends.first().copied().unwrap_or(INVALID_TOKEN));
        let mut trie = TokTrie::from(&info, &words);
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(&ends);
        }
        let tokenizer = Some(tokenizer.clone());
        let factory = factory(Env { trie, tokenizer: tokenizer.clone(), canonical })?;
        Ok(Arc::new(Vocabulary { factory, tokenizer, n_vocab, ends, producible, canonical }))
    }

    /// The 256 bytes as tokens, for texts that come without any.
    pub(crate) fn of_bytes() -> Result<Arc<Vocabulary>> {
        let words: Vec<Vec<u8>> = (0..=254u8).map(|byte| vec![byte]).chain([vec![]]).collect();
        let n_vocab = words.len();
        let trie = TokTrie::from(&TokRxInfo::new(n_vocab as u32, INVALID_TOKEN), &words);
        let factory = factory(Env { trie, tokenizer: None, canonical: false })?;
        let mut producible = Mask::none(n_vocab);
        (0..255).for_each(|byte| producible.insert(byte));
        let (tokenizer, ends, canonical) = (None, Vec::new(), false);
        Ok(Arc::new(Vocabulary { factory, tokenizer, n_vocab, ends, producible, canonical }))
    }

    /// How many ids the model's logits cover.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// The tokens that end a generation, ascending.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Whether texts that must come are given as tokens, see [`crate::Matcher::forced`]. They are
    /// where the tokenizer gives every text back as it was.
    pub fn forces(&self) -> bool {
        self.canonical
    }

    /// The bytes that `token` adds to an answer; none for control tokens and unknown ids.
    pub fn bytes(&self, token: u32) -> &[u8] {
        match self.trie().token(token) {
            [TokTrie::SPECIAL_TOKEN_MARKER, ..] => &[],
            bytes => bytes,
        }
    }

    /// The bytes of `token`, or its name for a control token.
    pub(crate) fn spelling(&self, token: u32) -> &[u8] {
        match self.trie().token(token) {
            [TokTrie::SPECIAL_TOKEN_MARKER, name @ ..] => name,
            bytes => bytes,
        }
    }

    /// The control token that is called `name`.
    pub fn control(&self, name: &str) -> Option<u32> {
        let id = self.tokenizer.as_ref()?.id_of(name)?;
        let bytes = self.trie().token(id);
        matches!(bytes, [TokTrie::SPECIAL_TOKEN_MARKER, ..]).then_some(id)
    }

    /// The tokens of a text in an answer.
    #[cfg(test)]
    pub(crate) fn tokenize(&self, text: &str) -> Vec<u32> {
        self.factory.tok_env().tokenize_bytes(text.as_bytes())
    }

    /// All tokens that a model may produce.
    pub(crate) fn producible(&self) -> &Mask {
        &self.producible
    }

    pub(crate) fn factory(&self) -> &ParserFactory {
        &self.factory
    }

    fn trie(&self) -> &TokTrie {
        self.factory.tok_env().tok_trie()
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary")
            .field("n_vocab", &self.n_vocab)
            .field("forces", &self.canonical)
            .finish_non_exhaustive()
    }
}

fn factory(env: Env) -> Result<ParserFactory> {
    let caps = InferenceCapabilities { ff_tokens: env.canonical, ..Default::default() };
    let env: TokEnv = Arc::new(env);
    let mut factory = ParserFactory::new(&env, caps, &SlicedBiasComputer::general_slices())
        .map_err(|e| Error::Vocabulary { reason: e.to_string() })?;
    factory.quiet();
    *factory.limits_mut() = limits();
    Ok(factory)
}

/// What one constraint may cost: a fifth of a second to compile and some hundred megabytes.
fn limits() -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        max_lexer_states: 100_000,
        max_grammar_size: 200_000,
        max_items_in_row: 2000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

/// The bytes under which a token is found: its text, its name behind a byte that no text has for a
/// control token, nothing for what is never produced.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let piece = tokenizer.piece(id);
    let control = || [&[TokTrie::SPECIAL_TOKEN_MARKER], piece].concat();
    if piece.is_empty() || piece.len() > LONGEST_TOKEN {
        return Vec::new();
    }
    match tokenizer.kind(id) {
        _ if tokenizer.is_end_of_generation(id) => control(),
        TokenKind::Control => control(),
        TokenKind::Normal | TokenKind::UserDefined | TokenKind::Byte => {
            if piece[0] == TokTrie::SPECIAL_TOKEN_MARKER { Vec::new() } else { piece.to_vec() }
        }
        _ => Vec::new(),
    }
}

/// Whether every byte of a text has a token, so that every text has tokens.
fn covers_all_texts(words: &[Vec<u8>]) -> bool {
    let mut found = [false; 256];
    for word in words {
        if let [byte] = word[..] {
            found[byte as usize] = true;
        }
    }
    (0..=255u8).all(|byte| found[byte as usize] || NEVER_IN_TEXT(byte))
}

/// Whether a text is the bytes of its tokens, one after the other.
fn spells_texts(tokenizer: &Tokenizer) -> bool {
    use Algorithm::{None, Test, WordPiece};
    !matches!(tokenizer.algorithm(), None | Test | WordPiece)
}

/// Whether tokens of a text stand for that text, neither normalized nor with anything added.
fn tokenizes_as_written(tokenizer: &Tokenizer) -> bool {
    use Algorithm::{Bpe, Rwkv, SentencePiece};
    matches!(tokenizer.algorithm(), Bpe | SentencePiece | Rwkv)
}

impl Env {
    /// The tokenizer's tokens of `text` where they stand for it, else the longest that fit.
    fn tokenize_text(&self, text: &str) -> Vec<TokenId> {
        let Some(tokenizer) = &self.tokenizer else {
            return self.trie.greedy_tokenize(text.as_bytes());
        };
        let ids = tokenizer.tokenize_rest(text);
        let mut rest = text.as_bytes();
        for &id in &ids {
            let word = self.trie.token(id);
            match rest.strip_prefix(word).filter(|_| !word.is_empty()) {
                Some(after) => rest = after,
                None => return self.trie.greedy_tokenize(text.as_bytes()),
            }
        }
        if rest.is_empty() { ids } else { self.trie.greedy_tokenize(text.as_bytes()) }
    }
}

impl TokenizerEnv for Env {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let mut ids = Vec::new();
        for chunk in bytes.utf8_chunks() {
            if !chunk.valid().is_empty() {
                ids.extend(self.tokenize_text(chunk.valid()));
            }
            ids.extend(self.trie.greedy_tokenize(chunk.invalid()));
        }
        ids
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.canonical
    }
}
