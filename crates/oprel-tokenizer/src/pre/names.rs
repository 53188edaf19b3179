//! The pre-tokenizers by the names that files give them (`tokenizer.ggml.pre`).

use super::Rule;
use super::words::{Cased, LLAMA3, Lines, Tail, Words};
use crate::unicode::class::{L, M};

/// A pre-tokenizer: its rules, and the defaults that its name stands for.
#[derive(Clone, Copy)]
pub(crate) struct Pre {
    pub(crate) rules: &'static [Rule],
    /// A word that is a token is that token, whatever the merges.
    pub(crate) ignore_merges: bool,
    /// Begin with BOS unless the file says otherwise.
    pub(crate) add_bos: bool,
    /// End with SEP unless the file says otherwise.
    pub(crate) add_sep: bool,
    /// There is no BOS unless the file names one.
    pub(crate) no_default_bos: bool,
    /// Decoded text is cleaned of spaces before punctuation where that is asked for.
    pub(crate) clean_spaces: bool,
    /// Merges run over UTF-8 with `▁` for a space, not over GPT-2's byte letters.
    pub(crate) escape_spaces: bool,
    /// Words are spelled in GPT-2's byte letters; otherwise bytes are tokens `<0xXX>`.
    pub(crate) byte_letters: bool,
    /// Gemma 4: a run of line ends that is a token is that token, and BOS is always added.
    pub(crate) gemma4: bool,
    /// Text is not lower-cased unless the file says so.
    pub(crate) keep_case: bool,
}

const PLAIN: Pre = Pre {
    rules: &[],
    ignore_merges: false,
    add_bos: false,
    add_sep: false,
    no_default_bos: false,
    clean_spaces: false,
    escape_spaces: false,
    byte_letters: true,
    gemma4: false,
    keep_case: false,
};

/// The pre-tokenizer of files that name none.
pub(crate) const DEFAULT: Pre = Pre {
    rules: &[
        Rule::Punctuation { backtick: false },
        Rule::Gpt2,
        Rule::Digits(usize::MAX),
        Rule::ThreeDigits,
    ],
    clean_spaces: true,
    ..PLAIN
};

const LLAMA3_WORDS: Rule = Rule::Words(LLAMA3);
const QWEN2_WORDS: Rule = Rule::Words(Words { digits: 1, ..LLAMA3 });
const GPT4O: Cased = Cased { marks: false, split_case: true, contractions: true, digits: 3 };
const DIGIT: Rule = Rule::Digits(1);

/// Every name that [`named`] knows.
#[cfg(test)]
pub(crate) const ALL: &[&str] = &[
    "default",
    "minicpm5",
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "spark2_5",
    "youtu",
    "falcon",
    "mpt",
    "starcoder",
    "gpt-2",
    "phi-2",
    "jina-es",
    "jina-de",
    "gigachat",
    "jina-v2-es",
    "jina-v2-de",
    "a.x-4.0",
    "mellum",
    "modern-bert",
    "jais-2",
    "gemma4",
    "granite-embed-multi-311m",
    "sarvam-moe",
    "jina-v1-en",
    "jina-v2-code",
    "roberta-bpe",
    "whitespace",
    "refact",
    "command-r",
    "qwen2",
    "deepseek-r1-qwen",
    "kormo",
    "f2llmv2",
    "qwen35",
    "stablelm2",
    "olmo",
    "dbrx",
    "smaug-bpe",
    "poro-chat",
    "chatglm-bpe",
    "glm4",
    "glm5",
    "viking",
    "jais",
    "tekken",
    "smollm",
    "codeshell",
    "bloom",
    "gpt3-finnish",
    "exaone",
    "exaone4",
    "exaone-moe",
    "chameleon",
    "minerva-7b",
    "megrez",
    "gpt-4o",
    "llama4",
    "kanana2",
    "talkie",
    "granite-embed-multi-97m",
    "tiny_aya",
    "cohere2moe",
    "superbpe",
    "trillion",
    "granite-docling",
    "bailingmoe",
    "bailingmoe2",
    "llada-moe",
    "seed-coder",
    "hunyuan",
    "hunyuan-dense",
    "hy_v4",
    "joyai-llm",
    "kimi-k2",
    "ufakzeka",
    "grok-2",
    "afmoe",
    "laguna",
    "minimax-m2",
    "solar-open",
    "mellum2",
];

/// The pre-tokenizer called `name`.
pub(crate) fn named(name: &str) -> Option<Pre> {
    Some(match name {
        "default" => DEFAULT,
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
        | "lfm2" | "jina-v5-nano" => {
            Pre { ignore_merges: true, add_bos: true, clean_spaces: true, ..rules(&[LLAMA3_WORDS]) }
        }
        "dbrx" | "smaug-bpe" => clean(&[LLAMA3_WORDS]),
        "chatglm-bpe" => Pre { no_default_bos: true, ..clean(&[LLAMA3_WORDS]) },
        "glm4" | "glm5" => {
            Pre { no_default_bos: true, ignore_merges: true, ..clean(&[LLAMA3_WORDS]) }
        }
        "minicpm5" => Pre {
            ignore_merges: true,
            ..clean(&[Rule::Digits(3), Rule::Words(Words { digits: usize::MAX, ..LLAMA3 })])
        },
        "jais-2" => clean(&[Rule::Words(Words { halving_spaces: true, ..LLAMA3 })]),
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "hunyuan" | "solar-open"
        | "grok-2" => rules(&[QWEN2_WORDS]),
        "stablelm2" | "megrez" => clean(&[QWEN2_WORDS]),
        "qwen35" => rules(&[Rule::Words(Words { letters: L | M, digits: 1, ..LLAMA3 })]),
        "ufakzeka" => rules(&[Rule::Words(Words { contractions: false, digits: 1, ..LLAMA3 })]),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => rules(&[QWEN2_WORDS]),
        "seed-coder" => rules(&[Rule::Words(Words { digits: 1, tail: Tail::None, ..LLAMA3 })]),
        "exaone-moe" => clean(&[Rule::Words(Words {
            digits: 1,
            tail: Tail::OneNewlineOrSlash,
            joined: true,
            ..LLAMA3
        })]),
        "laguna" => rules(&[Rule::Lines, QWEN2_WORDS]),
        "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "gigachat" | "jina-v2-es" | "jina-v2-de"
        | "a.x-4.0" | "mellum" | "modern-bert" | "mpt" | "olmo" | "jais" | "exaone4" => {
            clean(&[Rule::Gpt2])
        }
        "jina-v1-en" | "jina-v2-code" | "roberta-bpe" => {
            Pre { add_sep: true, ..clean(&[Rule::Gpt2]) }
        }
        "trillion" | "granite-docling" => rules(&[Rule::Gpt2]),
        "starcoder" | "refact" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
            clean(&[DIGIT, Rule::Gpt2])
        }
        "command-r" | "smollm" => rules(&[DIGIT, Rule::Gpt2]),
        "falcon" => clean(&[Rule::Punctuation { backtick: true }, Rule::Gpt2, Rule::ThreeDigits]),
        "chameleon" => Pre {
            add_bos: true,
            ..rules(&[
                Rule::Sentinel,
                Rule::Image,
                Rule::Indent,
                DIGIT,
                Rule::OnePunctuation,
                Rule::Gpt2,
            ])
        },
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => rules(&[Rule::Cased(GPT4O)]),
        "tekken" => Pre {
            ignore_merges: true,
            add_bos: true,
            ..rules(&[Rule::Cased(Cased { contractions: false, digits: 1, ..GPT4O })])
        },
        "granite-embed-multi-97m" => {
            Pre { ignore_merges: true, ..rules(&[Rule::Cased(Cased { marks: true, ..GPT4O })]) }
        }
        "tiny_aya" | "cohere2moe" => rules(&[
            Rule::DigitsFromRight,
            Rule::Cased(Cased { marks: true, split_case: false, ..GPT4O }),
        ]),
        "youtu" => Pre {
            ignore_merges: true,
            ..rules(&[
                Rule::YoutuScripts,
                Rule::Cased(Cased { marks: true, split_case: false, digits: 1, ..GPT4O }),
            ])
        },
        "deepseek-llm" => rules(&[
            Rule::LineEnd,
            Rule::CasedLetters,
            Rule::WidePunctuation,
            Rule::TrailingSpaces,
            Rule::Eastern,
            Rule::Digits(usize::MAX),
        ]),
        "deepseek-coder" => rules(&[
            Rule::LineEnd,
            Rule::SpacedLetters,
            Rule::SpacedPunctuation,
            Rule::Eastern,
            DIGIT,
        ]),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => {
            rules(&[Rule::Digits(3), Rule::HanAndKana, Rule::DeepSeek3(Lines::Together)])
        }
        "spark2_5" => {
            rules(&[Rule::Digits(3), Rule::HanAndKana, Rule::DeepSeek3(Lines::Single), DIGIT])
        }
        "afmoe" => {
            rules(&[Rule::DigitsFromRight, Rule::AsianScripts, Rule::DeepSeek3(Lines::Together)])
        }
        "kimi-k2" => rules(&[Rule::Kimi]),
        "superbpe" => rules(&[Rule::Digits(usize::MAX), Rule::BeforeThreeDigits]),
        "poro-chat" => rules(&[Rule::NotSentenceMark]),
        "bloom" | "gpt3-finnish" => clean(&[Rule::NotSentenceMark]),
        "viking" => rules(&[Rule::NotSentenceMark, DIGIT]),
        "gemma4" | "granite-embed-multi-311m" => {
            Pre { gemma4: true, escape_spaces: true, byte_letters: false, ..clean(&[Rule::Lines]) }
        }
        "sarvam-moe" => Pre { escape_spaces: true, byte_letters: false, ..rules(&[Rule::Lines]) },
        "whitespace" => Pre { byte_letters: false, keep_case: true, ..clean(&[Rule::NotSpace]) },
        _ => return None,
    })
}

const fn rules(rules: &'static [Rule]) -> Pre {
    Pre { rules, ..PLAIN }
}

const fn clean(rules: &'static [Rule]) -> Pre {
    Pre { rules, clean_spaces: true, ..PLAIN }
}
