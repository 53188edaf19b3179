//! Vocabularies to test with, and a fake model that writes at random what is allowed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oprel_constraint::{Mask, Matcher, Vocabulary};
use oprel_gguf::Gguf;
use oprel_tokenizer::Tokenizer;

/// The vocabulary of the demo model.
pub(crate) fn demo() -> Arc<Vocabulary> {
    vocabulary(&demo_path(), 0)
}

pub(crate) fn demo_path() -> PathBuf {
    root().join("models/demo/oprel-demo-q8_0.gguf")
}

/// Real vocabularies, where they are there: name and vocabulary.
pub(crate) fn real(names: &[&str]) -> Vec<(String, Arc<Vocabulary>)> {
    let folder = root().join("../shared/fixtures/vocabs");
    let folders = [folder, root().join("../../shared/fixtures/vocabs")];
    let Some(folder) = folders.iter().find(|f| f.is_dir()) else { return Vec::new() };
    let of = |name: &&str| {
        let path = folder.join(format!("ggml-vocab-{name}.gguf"));
        path.is_file().then(|| (name.to_string(), vocabulary(&path, 37)))
    };
    names.iter().filter_map(of).collect()
}

pub(crate) fn tokenizer(path: &Path) -> Tokenizer {
    let file = Gguf::open(path).expect("a model file");
    Tokenizer::from_metadata(file.metadata()).expect("a vocabulary")
}

fn vocabulary(path: &Path, padding: usize) -> Arc<Vocabulary> {
    let tokenizer = tokenizer(path);
    let n_vocab = tokenizer.n_tokens() + padding;
    Vocabulary::new(&tokenizer, n_vocab).expect("a vocabulary that can be searched")
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Numbers that look random and are the same each time (xorshift).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

/// The bytes of tokens.
pub(crate) fn text(vocabulary: &Vocabulary, tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|&token| vocabulary.bytes(token).to_vec()).collect()
}

/// One of the allowed tokens: rather a closing one the longer the text has become.
pub(crate) fn pick(vocabulary: &Vocabulary, mask: &Mask, random: &mut Random, len: usize) -> u32 {
    let ends = vocabulary.ends();
    let end = ends.iter().copied().find(|&end| mask.allows(end));
    if let Some(end) = end.filter(|_| random.below(100) < 20 + len) {
        return end;
    }
    let tokens: Vec<u32> = mask.tokens().collect();
    if random.below(100) < 30 + 2 * len {
        let closes = |token: &&u32| {
            let bytes = vocabulary.bytes(**token);
            matches!(bytes, [b'"'] | [b'}'] | [b']'] | [b')'] | b"\"}" | b"\"," | b"}]" | b"]}")
        };
        let closing: Vec<&u32> = tokens.iter().filter(closes).collect();
        if !closing.is_empty() {
            return *closing[random.below(closing.len())];
        }
        let short: Vec<&u32> = tokens.iter().filter(|&&t| vocabulary.bytes(t).len() < 2).collect();
        if len > 60 && !short.is_empty() {
            return *short[random.below(short.len())];
        }
    }
    tokens[random.below(tokens.len())]
}

/// What came of a walk.
pub(crate) struct Walked {
    pub(crate) text: Vec<u8>,
    pub(crate) complete: bool,
    pub(crate) n_forced: usize,
    pub(crate) n_sampled: usize,
}

/// Writes until the constraint is complete, or `most` tokens are written.
pub(crate) fn walk(matcher: &mut Matcher, random: &mut Random, most: usize) -> Walked {
    let vocabulary = matcher.vocabulary().clone();
    let mut walked = Walked { text: vec![], complete: false, n_forced: 0, n_sampled: 0 };
    for len in 0..most {
        let forced = matcher.forced().expect("forced tokens");
        for &token in &forced {
            matcher.accept(token).expect("a forced token is allowed");
            walked.text.extend_from_slice(vocabulary.bytes(token));
        }
        walked.n_forced += forced.len();
        if matcher.is_complete() {
            walked.complete = true;
            return walked;
        }
        let mask = matcher.allowed().expect("a mask").clone();
        assert!(!mask.is_empty(), "after {:?}", String::from_utf8_lossy(&walked.text));
        let token = pick(&vocabulary, &mask, random, len);
        matcher.accept(token).expect("an allowed token is accepted");
        walked.text.extend_from_slice(vocabulary.bytes(token));
        walked.n_sampled += 1;
    }
    walked.complete = matcher.is_complete();
    walked
}
