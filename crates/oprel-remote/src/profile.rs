//! What is known of each kind of server: names of fields, routes, ranges. Data, and no code.

/// How a kind of server is spoken to.
#[derive(Debug, PartialEq)]
pub struct Profile {
    /// What users call it.
    pub name: &'static str,
    /// What answers of it are marked with.
    pub kind: &'static str,
    /// Where it says that it is well.
    pub(crate) health: &'static str,
    /// Numbers that it takes.
    pub(crate) knobs: &'static [Knob],
    /// The number that stands for "all" in `top_k`.
    pub(crate) every_top_k: i64,
    /// Most texts that end an answer.
    pub(crate) most_stops: usize,
    pub(crate) constraints: Constraints,
    pub(crate) thinks: Thinks,
    /// The name of what was thought, in messages that it is sent. In answers both names are read.
    pub(crate) thought: &'static str,
    /// How a last message of the assistant is gone on with.
    pub(crate) goes_on: GoesOn,
    pub(crate) tokens: Option<&'static Tokens>,
    /// Whether an answer to a bare text ends after a few tokens unless it is bounded.
    pub(crate) texts_end_soon: bool,
    /// Whether the arguments of calls are held to their schema only where a tool says `strict`.
    pub(crate) strict_if_said: bool,
    /// Whether `/v1/rerank` is there.
    pub(crate) reranks: bool,
}

/// A number: our name of it, its own, and what it may be.
#[derive(Debug, PartialEq)]
pub(crate) struct Knob {
    pub(crate) ours: &'static str,
    pub(crate) theirs: &'static str,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Where constraints go: the field, or the field and one within it. `None` has no place.
#[derive(Debug, PartialEq)]
pub(crate) struct Constraints {
    pub(crate) regex: Option<&'static [&'static str]>,
    pub(crate) gbnf: Option<&'static [&'static str]>,
    pub(crate) choice: Choice,
}

/// How one of several texts is asked for.
#[derive(Debug, PartialEq)]
pub(crate) enum Choice {
    /// As a list.
    List(&'static [&'static str]),
    /// As a regular expression.
    Regex,
    /// As a grammar.
    Gbnf,
    /// Not at all.
    Unknown,
}

/// How thinking is turned on and off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Thinks {
    /// By variables of the template.
    Kwargs,
    /// By `reasoning_effort`.
    Effort,
}

/// How an answer is begun for a model.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GoesOn {
    /// By the fields of vLLM.
    Fields,
    /// Not.
    Unknown,
}

/// Routes of a vocabulary.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) tokenize: &'static str,
    pub(crate) detokenize: &'static str,
    /// The field of the text.
    pub(crate) text: &'static str,
    /// The field that asks for BOS and EOS.
    pub(crate) special: &'static str,
    /// The field that asks for special tokens in the text to be found, if there is one.
    pub(crate) parse: Option<&'static str>,
    /// The field of the text that tokens make.
    pub(crate) back: &'static str,
    /// How the tokens of a conversation are had.
    pub(crate) prompt: PromptTokens,
}

/// How the tokens of a conversation are had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PromptTokens {
    /// By giving messages to the route for texts.
    SameRoute,
    /// By a route that renders messages, whose text is then tokenized.
    Render(&'static str),
    /// Not.
    Unknown,
}

const fn knob(ours: &'static str, theirs: &'static str, least: f64, most: f64) -> Knob {
    Knob { ours, theirs, least, most }
}

const BIG: f64 = 1e6;
const WHOLE: f64 = i32::MAX as f64;
/// The largest integer that every JSON reader keeps.
const SEED: f64 = 9_007_199_254_740_991.0;
const TOKENS: f64 = WHOLE;

const OPENAI: &[Knob] = &[
    knob("temperature", "temperature", 0.0, 2.0),
    knob("top_p", "top_p", 0.0, 1.0),
    knob("presence_penalty", "presence_penalty", -2.0, 2.0),
    knob("frequency_penalty", "frequency_penalty", -2.0, 2.0),
    knob("seed", "seed", 0.0, SEED),
];

const VLLM: &[Knob] = &[
    knob("temperature", "temperature", 0.0, BIG),
    knob("top_p", "top_p", f64::MIN_POSITIVE, 1.0),
    knob("top_k", "top_k", -1.0, WHOLE),
    knob("min_p", "min_p", 0.0, 1.0),
    knob("repeat_penalty", "repetition_penalty", f64::MIN_POSITIVE, BIG),
    knob("presence_penalty", "presence_penalty", -2.0, 2.0),
    knob("frequency_penalty", "frequency_penalty", -2.0, 2.0),
    knob("seed", "seed", 0.0, SEED),
    knob("min_tokens", "min_tokens", 0.0, TOKENS),
    knob("ignore_eos", "ignore_eos", 0.0, 1.0),
    knob("stop_token_ids", "stop_token_ids", 0.0, TOKENS),
    knob("cache_salt", "cache_salt", 0.0, 0.0),
];

const SGLANG: &[Knob] = &[
    knob("temperature", "temperature", 0.0, BIG),
    knob("top_p", "top_p", f64::MIN_POSITIVE, 1.0),
    knob("top_k", "top_k", -1.0, WHOLE),
    knob("min_p", "min_p", 0.0, 1.0),
    knob("repeat_penalty", "repetition_penalty", 0.0, 2.0),
    knob("presence_penalty", "presence_penalty", -2.0, 2.0),
    knob("frequency_penalty", "frequency_penalty", -2.0, 2.0),
    knob("seed", "seed", 0.0, SEED),
    knob("min_tokens", "min_tokens", 0.0, TOKENS),
    knob("ignore_eos", "ignore_eos", 0.0, 1.0),
    knob("stop_token_ids", "stop_token_ids", 0.0, TOKENS),
];

const TABBY: &[Knob] = &[
    knob("temperature", "temperature", 0.0, 10.0),
    knob("top_p", "top_p", 0.0, 1.0),
    knob("top_k", "top_k", 0.0, WHOLE),
    knob("min_p", "min_p", 0.0, 1.0),
    knob("typical_p", "typical", f64::MIN_POSITIVE, 1.0),
    knob("repeat_penalty", "repetition_penalty", f64::MIN_POSITIVE, BIG),
    knob("repeat_last_n", "penalty_range", -1.0, WHOLE),
    knob("presence_penalty", "presence_penalty", -BIG, BIG),
    knob("frequency_penalty", "frequency_penalty", -BIG, BIG),
    knob("xtc_probability", "xtc_probability", 0.0, 1.0),
    knob("xtc_threshold", "xtc_threshold", 0.0, 1.0),
    knob("dry_multiplier", "dry_multiplier", 0.0, BIG),
    knob("dry_base", "dry_base", 0.0, BIG),
    knob("dry_allowed_length", "dry_allowed_length", 0.0, WHOLE),
    knob("dry_penalty_last_n", "dry_range", 0.0, WHOLE),
    knob("dry_sequence_breakers", "dry_sequence_breakers", 0.0, 0.0),
    knob("seed", "seed", 0.0, SEED),
    knob("min_tokens", "min_tokens", 0.0, TOKENS),
    knob("ignore_eos", "ban_eos_token", 0.0, 1.0),
];

const LLAMA_SERVER: &[Knob] = &[
    knob("temperature", "temperature", 0.0, BIG),
    knob("dynatemp_range", "dynatemp_range", 0.0, BIG),
    knob("dynatemp_exponent", "dynatemp_exponent", 0.0, BIG),
    knob("top_p", "top_p", 0.0, 1.0),
    knob("top_k", "top_k", 0.0, WHOLE),
    knob("min_p", "min_p", 0.0, 1.0),
    knob("typical_p", "typical_p", 0.0, 1.0),
    knob("top_n_sigma", "top_n_sigma", -BIG, BIG),
    knob("repeat_penalty", "repeat_penalty", f64::MIN_POSITIVE, BIG),
    knob("repeat_last_n", "repeat_last_n", -1.0, WHOLE),
    knob("presence_penalty", "presence_penalty", -BIG, BIG),
    knob("frequency_penalty", "frequency_penalty", -BIG, BIG),
    knob("mirostat", "mirostat", 0.0, 2.0),
    knob("mirostat_tau", "mirostat_tau", 0.0, BIG),
    knob("mirostat_eta", "mirostat_eta", 0.0, BIG),
    knob("dry_multiplier", "dry_multiplier", 0.0, BIG),
    knob("dry_base", "dry_base", 1.0, BIG),
    knob("dry_allowed_length", "dry_allowed_length", 0.0, WHOLE),
    knob("dry_penalty_last_n", "dry_penalty_last_n", -1.0, WHOLE),
    knob("dry_sequence_breakers", "dry_sequence_breakers", 0.0, 0.0),
    knob("xtc_probability", "xtc_probability", 0.0, 1.0),
    knob("xtc_threshold", "xtc_threshold", 0.0, 1.0),
    knob("seed", "seed", 0.0, 4_294_967_294.0),
    knob("ignore_eos", "ignore_eos", 0.0, 1.0),
    knob("cache_prompt", "cache_prompt", 0.0, 1.0),
    knob("max_thinking_tokens", "thinking_budget_tokens", 0.0, TOKENS),
];

const VLLM_TOKENS: Tokens = Tokens {
    tokenize: "/tokenize",
    detokenize: "/detokenize",
    text: "prompt",
    special: "add_special_tokens",
    parse: None,
    back: "prompt",
    prompt: PromptTokens::SameRoute,
};

const SGLANG_TOKENS: Tokens = Tokens {
    tokenize: "/v1/tokenize",
    detokenize: "/v1/detokenize",
    text: "prompt",
    special: "add_special_tokens",
    parse: None,
    back: "text",
    prompt: PromptTokens::Unknown,
};

const TABBY_TOKENS: Tokens = Tokens {
    tokenize: "/v1/token/encode",
    detokenize: "/v1/token/decode",
    text: "text",
    special: "add_bos_token",
    parse: Some("encode_special_tokens"),
    back: "text",
    prompt: PromptTokens::Unknown,
};

const LLAMA_TOKENS: Tokens = Tokens {
    tokenize: "/tokenize",
    detokenize: "/detokenize",
    text: "content",
    special: "add_special",
    parse: Some("parse_special"),
    back: "content",
    prompt: PromptTokens::Render("/apply-template"),
};

const NO_LIMIT: usize = usize::MAX;

static PROFILES: [Profile; 5] = [
    Profile {
        name: "vllm",
        kind: "remote-vllm",
        health: "/health",
        knobs: VLLM,
        every_top_k: -1,
        most_stops: NO_LIMIT,
        constraints: Constraints {
            regex: Some(&["structured_outputs", "regex"]),
            gbnf: Some(&["structured_outputs", "grammar"]),
            choice: Choice::List(&["structured_outputs", "choice"]),
        },
        thinks: Thinks::Kwargs,
        thought: "reasoning",
        goes_on: GoesOn::Fields,
        tokens: Some(&VLLM_TOKENS),
        texts_end_soon: true,
        strict_if_said: true,
        reranks: true,
    },
    Profile {
        name: "sglang",
        kind: "remote-sglang",
        health: "/health",
        knobs: SGLANG,
        every_top_k: -1,
        most_stops: NO_LIMIT,
        constraints: Constraints {
            regex: Some(&["regex"]),
            gbnf: Some(&["ebnf"]),
            choice: Choice::Regex,
        },
        thinks: Thinks::Kwargs,
        thought: "reasoning_content",
        goes_on: GoesOn::Fields,
        tokens: Some(&SGLANG_TOKENS),
        texts_end_soon: true,
        strict_if_said: false,
        reranks: true,
    },
    Profile {
        name: "tabby",
        kind: "remote-tabby",
        health: "/health",
        knobs: TABBY,
        every_top_k: 0,
        most_stops: NO_LIMIT,
        constraints: Constraints {
            regex: Some(&["regex_pattern"]),
            gbnf: None,
            choice: Choice::Regex,
        },
        thinks: Thinks::Kwargs,
        thought: "reasoning_content",
        goes_on: GoesOn::Unknown,
        tokens: Some(&TABBY_TOKENS),
        texts_end_soon: false,
        strict_if_said: false,
        reranks: false,
    },
    Profile {
        name: "llama-server",
        kind: "remote-llama-server",
        health: "/health",
        knobs: LLAMA_SERVER,
        every_top_k: 0,
        most_stops: NO_LIMIT,
        constraints: Constraints { regex: None, gbnf: Some(&["grammar"]), choice: Choice::Gbnf },
        thinks: Thinks::Kwargs,
        thought: "reasoning_content",
        goes_on: GoesOn::Fields,
        tokens: Some(&LLAMA_TOKENS),
        texts_end_soon: false,
        strict_if_said: false,
        reranks: true,
    },
    Profile {
        name: "generic",
        kind: "remote-generic",
        health: "/v1/models",
        knobs: OPENAI,
        every_top_k: 0,
        most_stops: 4,
        constraints: Constraints { regex: None, gbnf: None, choice: Choice::Unknown },
        thinks: Thinks::Effort,
        thought: "reasoning_content",
        goes_on: GoesOn::Unknown,
        tokens: None,
        texts_end_soon: true,
        strict_if_said: false,
        reranks: false,
    },
];

impl Profile {
    /// The profile that users call so.
    pub fn named(name: &str) -> Option<&'static Profile> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// What users may call one.
    pub fn names() -> String {
        PROFILES.each_ref().map(|profile| profile.name).join(", ")
    }

    pub(crate) fn knob(&self, ours: &str) -> Option<&'static Knob> {
        self.knobs.iter().find(|knob| knob.ours == ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_has_a_name_and_no_number_twice() {
        for profile in &PROFILES {
            assert_eq!(Profile::named(profile.name), Some(profile));
            assert_eq!(profile.kind, format!("remote-{}", profile.name));
            for (at, knob) in profile.knobs.iter().enumerate() {
                assert!(knob.least <= knob.most, "{}", knob.ours);
                let rest = &profile.knobs[at + 1..];
                assert!(rest.iter().all(|k| k.ours != knob.ours && k.theirs != knob.theirs));
            }
        }
        assert_eq!(Profile::named("ollama"), None);
    }
}
