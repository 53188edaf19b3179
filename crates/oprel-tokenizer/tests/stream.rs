//! Tokens back to text: all at once, one by one, and with bytes that are no characters.

mod toy;

use oprel_tokenizer::{DetokenizeOptions, TokenKind, TokenizeOptions, Tokenizer};
use proptest::prelude::*;

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = tokenizer.stream(DetokenizeOptions::default());
    let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
    text += &stream.finish();
    text
}

/// Vocabularies that can spell any text; `▁` they cannot tell from a space.
const LOSSLESS: [&str; 5] = ["pre.gguf", "spm.gguf", "gemma4.gguf", "plamo2.gguf", "rwkv.gguf"];

/// Whether bytes say `▁` where the text had a space: some merges of the toy vocabularies make no token, and
/// what they made is spelled in bytes as it stands, marker and all, as llama.cpp does.
fn spells_a_marker(bytes: &[u8]) -> bool {
    bytes.windows(3).any(|w| w == "▁".as_bytes())
}

proptest! {
    #[test]
    fn text_comes_back_byte_for_byte(text in "(\\PC|[ \\n\\t\\r\u{0}-\u{1f}a-e']){0,40}") {
        prop_assume!(!text.contains(['▁', '\u{feff}']));
        for file in LOSSLESS {
            let tokenizer = toy::named(file);
            let ids = tokenizer.tokenize(&text, TokenizeOptions::default());
            // Text after a token that the makers added gets a space prefix of its own, as in llama.cpp.
            let added = ids.iter().any(|&id| tokenizer.kind(id) == TokenKind::UserDefined);
            if added && tokenizer.add_space_prefix() {
                continue;
            }
            let back = tokenizer.detokenize_bytes(&ids, DetokenizeOptions::default());
            if spells_a_marker(&back) {
                continue;
            }
            prop_assert_eq!(&back, text.as_bytes(), "{}", file);
        }
    }

    #[test]
    fn text_that_goes_on_is_the_pieces_of_its_tokens(text in "(\\PC|[ \\n\\ta-e<>|]){0,40}") {
        prop_assume!(!text.contains(['▁', '\u{feff}']));
        for file in LOSSLESS {
            let tokenizer = toy::named(file);
            let ids = tokenizer.tokenize_rest(&text);
            let pieces: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.piece(id).to_vec()).collect();
            if spells_a_marker(&pieces) {
                continue;
            }
            prop_assert_eq!(&pieces, text.as_bytes(), "{}", file);
        }
    }

    #[test]
    fn a_stream_of_any_tokens_is_the_text_of_all_together(seed in any::<u64>()) {
        for file in toy::files() {
            let tokenizer = toy::named(&file);
            let n = tokenizer.n_tokens() as u64;
            let ids: Vec<u32> = (0..40u64)
                .map(|i| (seed.wrapping_mul(i + 1).rotate_left(i as u32) % (n + 2)) as u32)
                .collect();
            let bytes: Vec<u8> = ids
                .iter()
                .filter(|&&id| !matches!(tokenizer.kind(id), TokenKind::Control | TokenKind::Unknown))
                .flat_map(|&id| tokenizer.piece(id).to_vec())
                .collect();
            prop_assert_eq!(streamed(&tokenizer, &ids), String::from_utf8_lossy(&bytes), "{}", file);
        }
    }
}

#[test]
fn a_character_comes_out_when_its_last_byte_is_in() {
    let tokenizer = toy::named("spm.gguf");
    let byte = |b: u8| tokenizer.id_of(&format!("<0x{b:02X}>")).expect("a byte token");
    let mut stream = tokenizer.stream(DetokenizeOptions::default());
    let steps = [(0xF0, ""), (0x9F, ""), (0x9A, ""), (0x80, "🚀"), (b'a', "a"), (0xC3, "")];
    for (b, text) in steps {
        assert_eq!(stream.push(byte(b)), text);
    }
    assert_eq!(stream.push(byte(b'z')), "\u{FFFD}z", "a byte that did not fit shows at once");
    assert_eq!(stream.push(byte(0x80)), "\u{FFFD}");
    assert_eq!(stream.push(byte(0xE2)), "");
    assert_eq!(stream.finish(), "\u{FFFD}", "what never became a character shows at the end");
    assert_eq!(stream.finish(), "");
}

#[test]
fn control_tokens_show_only_when_asked_for() {
    let tokenizer = toy::named("spm.gguf");
    let options = TokenizeOptions { add_special: true, parse_special: true };
    let ids = tokenizer.tokenize("<think>the<|im_end|>", options);
    let shown = DetokenizeOptions { special: true, ..Default::default() };
    assert_eq!(tokenizer.detokenize(&ids, DetokenizeOptions::default()), "<think> the");
    assert_eq!(tokenizer.detokenize(&ids, shown), "<s><think> the<|im_end|></s>");
}

#[test]
fn a_user_defined_token_is_found_although_special_ones_are_not_read() {
    let tokenizer = toy::named("llama3.gguf");
    let ids = tokenizer.tokenize("<think><|im_end|>", TokenizeOptions::default());
    assert_eq!(Some(ids[0]), tokenizer.id_of("<think>"));
    assert!(ids.len() > 2, "the end of a turn is only text here");
    assert_eq!(tokenizer.kind(ids[0]), TokenKind::UserDefined);
}

#[test]
fn spaces_are_cleaned_as_the_reference_cleans_them() {
    let tokenizer = toy::named("rwkv.gguf");
    let clean = DetokenizeOptions { clean_spaces: true, ..Default::default() };
    for (text, cleaned) in [
        ("a , b . c ! d ?", "a, b. c! d?"),
        (
            "do n't it 's I 'm we 've they 're he 'll I 'd",
            "do n't it's I'm we've they're he 'll I 'd",
        ),
        ("a ' b", "a'b"),
        ("a ' ' b", "a'' b"),
        (" .", "."),
        (".", "."),
        ("", ""),
    ] {
        let ids = tokenizer.tokenize(text, TokenizeOptions::default());
        assert_eq!(tokenizer.detokenize(&ids, clean), cleaned);
    }
}
