//! Which pre-tokenizer a vocabulary of byte-pair encoding was made with, by the patterns in `tokenizer.json`.
//!
//! GGUF files name pre-tokenizers; folders hold their patterns. A pattern that no name stands for is noted, and
//! the likeliest name taken.

use serde_json::Value as Json;

/// A pattern of the table.
struct Known {
    /// Patterns that are looked for, all of them, in order.
    patterns: &'static [&'static str],
    name: &'static str,
    /// The name where words that are tokens are taken whole.
    whole_words: Option<&'static str>,
}

const CONTRACTIONS: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|";
const LONG_CONTRACTIONS: &str =
    "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|";
const CASED: &str = "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*";

#[rustfmt::skip]
const TABLE: &[Known] = &[
    Known { patterns: &[CONTRACTIONS, "\\p{N}{1,3}|"], name: "dbrx", whole_words: Some("llama-bpe") },
    Known { patterns: &[LONG_CONTRACTIONS, "\\p{N}{1,3}|"], name: "dbrx", whole_words: Some("llama-bpe") },
    Known { patterns: &[CONTRACTIONS, "\\p{N}|"], name: "qwen2", whole_words: None },
    Known { patterns: &[LONG_CONTRACTIONS, "\\p{N}|"], name: "qwen2", whole_words: None },
    Known { patterns: &["[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}|"], name: "qwen35", whole_words: None },
    Known { patterns: &[CASED, "(?i:'s|", "\\p{N}{1,3}|"], name: "gpt-4o", whole_words: None },
    Known { patterns: &[CASED, "\\p{N}|"], name: "tekken", whole_words: None },
    Known { patterns: &["\\p{N}{1,3}", "一-龥", "[!\"#$%&'()*+,\\-./:;<=>?@"], name: "deepseek-v3", whole_words: None },
    Known { patterns: &["[\\r\\n]", "\\s?[A-Za-z"], name: "deepseek-llm", whole_words: None },
    Known { patterns: &["[\\r\\n]", "\\s?\\p{L}+"], name: "deepseek-coder", whole_words: None },
];

/// The name of the pre-tokenizer, and whether it is a guess.
pub(super) fn name(tokenizer: &Json, architecture: &str) -> (String, bool) {
    let mut steps = Vec::new();
    collect(tokenizer.get("pre_tokenizer").unwrap_or(&Json::Null), &mut steps, 0);
    let whole_words = tokenizer
        .get("model")
        .and_then(|m| m.get("ignore_merges"))
        .and_then(Json::as_bool)
        .unwrap_or(false);
    // One line, real line ends as their escapes, for comparing.
    let patterns = steps.iter().filter_map(|step| step.pattern.as_deref()).collect::<Vec<_>>();
    let joined = patterns.join("\n").replace('\r', "\\r").replace('\n', "\\n");
    for known in TABLE {
        let mut rest = joined.as_str();
        let all = known.patterns.iter().all(|p| match rest.find(p) {
            Some(at) => {
                rest = rest.get(at + p.len()..).unwrap_or_default();
                true
            }
            None => false,
        });
        if all {
            let named = known.whole_words.filter(|_| whole_words).unwrap_or(known.name);
            return (of_family(named, architecture).to_owned(), false);
        }
    }
    if !patterns.is_empty() {
        return (of_family("gpt-2", architecture).to_owned(), true);
    }
    let digits = steps.iter().any(|s| s.single_digits);
    let named = match (digits, architecture) {
        (true, "granite" | "granitemoe") => "refact",
        (true, "llama") => "smollm",
        (true, _) => "starcoder",
        (false, "bert") => "roberta-bpe",
        (false, _) => "gpt-2",
    };
    (named.to_owned(), false)
}

/// The name that a family's files have for the same patterns.
fn of_family<'n>(name: &'n str, architecture: &str) -> &'n str {
    match (name, architecture) {
        ("llama-bpe" | "dbrx", "glm4") => "glm4",
        ("llama-bpe", "falcon-h1") => "falcon-h1",
        ("llama-bpe", "lfm2" | "lfm2moe") => "lfm2",
        (name, _) => name,
    }
}

/// The name for vocabularies without `tokenizer.json`.
pub(super) fn of_class(class: &str) -> (&'static str, bool) {
    match class {
        "Qwen2Tokenizer" | "Qwen2TokenizerFast" => ("qwen2", false),
        "RobertaTokenizer" | "RobertaTokenizerFast" => ("roberta-bpe", false),
        "GPT2Tokenizer" | "GPT2TokenizerFast" | "GPTNeoXTokenizerFast" => ("gpt-2", false),
        _ => ("gpt-2", true),
    }
}

struct Step {
    pattern: Option<String>,
    single_digits: bool,
}

/// Steps of a pre-tokenizer, also of one made of several.
fn collect(of: &Json, steps: &mut Vec<Step>, depth: u8) {
    if depth > 4 {
        return;
    }
    for inner in of.get("pretokenizers").and_then(Json::as_array).into_iter().flatten() {
        collect(inner, steps, depth + 1);
    }
    match of.get("type").and_then(Json::as_str) {
        Some("Split") => {
            let pattern = of.get("pattern").and_then(|p| p.get("Regex").or(p.get("String")));
            let pattern = pattern.and_then(Json::as_str).map(str::to_owned);
            steps.push(Step { pattern, single_digits: false });
        }
        Some("Digits") => {
            let single = of.get("individual_digits").and_then(Json::as_bool);
            steps.push(Step { pattern: None, single_digits: single == Some(true) });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::name;

    fn split(patterns: &[&str], ignore_merges: bool) -> serde_json::Value {
        let steps: Vec<_> =
            patterns.iter().map(|p| json!({"type": "Split", "pattern": {"Regex": p}})).collect();
        json!({"model": {"ignore_merges": ignore_merges},
               "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}})
    }

    const TAIL: &str = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

    #[test]
    fn patterns_of_published_models_are_named() {
        let start = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|";
        let (three, one) =
            (format!("{start}\\p{{N}}{{1,3}}|{TAIL}"), format!("{start}\\p{{N}}|{TAIL}"));
        let cased = "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+";
        let gpt_4o = format!("{cased}(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{{N}}{{1,3}}|{TAIL}");
        let tekken = format!("{cased}|\\p{{N}}|{TAIL}");
        for (tokenizer, family, wanted) in [
            (split(&[&three], true), "llama", "llama-bpe"),
            (split(&[&three], true), "lfm2", "lfm2"),
            (split(&[&three], false), "olmo2", "dbrx"),
            (split(&[&three], false), "glm4", "glm4"),
            (split(&[&one], false), "qwen3", "qwen2"),
            (split(&[&gpt_4o], false), "gpt-oss", "gpt-4o"),
            (split(&[&tekken], true), "mistral3", "tekken"),
        ] {
            assert_eq!(name(&tokenizer, family), (wanted.to_owned(), false));
        }
        let unknown = split(&["\\w+"], false);
        assert_eq!(name(&unknown, "llama"), ("gpt-2".to_owned(), true));
        let digits = json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, {"type": "ByteLevel"}]}});
        assert_eq!(name(&digits, "granite").0, "refact");
    }
}
