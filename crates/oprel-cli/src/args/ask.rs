//! `oprel run` and `oprel chat`, and how their answers are made.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use super::{Load, Place};
use crate::sampling::Sampling;

#[derive(Debug, ClapArgs)]
pub(crate) struct Run {
    /// Name of a model, which is fetched if it is not here; path of a GGUF file; or `demo` for the built-in one.
    pub(crate) model: String,
    /// What to answer. Piped input is put before it. With neither, an interactive chat starts.
    #[arg(allow_hyphen_values = false)]
    pub(crate) prompt: Vec<String>,
    /// Continue the prompt as it is, without the chat template.
    #[arg(long, conflicts_with = "system")]
    pub(crate) raw: bool,
    /// Print JSON in the shape of /api/generate, once the answer is whole.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Chat {
    /// Name of a model, which is fetched if it is not here; path of a GGUF file; or `demo` for the built-in one.
    #[arg(default_value = "demo")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

// How answers are made. (A doc comment would become the text of each command.)
#[derive(Debug, ClapArgs)]
pub(crate) struct Ask {
    #[command(flatten)]
    pub(crate) sampling: Sampling,
    /// Most tokens to make [default: until the model ends]
    #[arg(
        long,
        short = 'n',
        value_name = "N",
        visible_alias = "max-tokens",
        allow_negative_numbers = true
    )]
    pub(crate) num_predict: Option<u32>,
    /// Text that ends the answer; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// System prompt.
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Let the model think before it answers, or not.
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) think: Option<ThinkArg>,
    /// Most tokens of thinking; then it is closed, and the answer comes.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) max_thinking: Option<u32>,
    /// What the answer must be: `json`, or a file with a JSON Schema.
    #[arg(long, value_name = "json|FILE")]
    pub(crate) format: Option<PathBuf>,
    /// A file with a grammar that the answer must follow: GBNF, or Lark if it ends in .lark.
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    pub(crate) grammar: Option<PathBuf>,
    /// A regular expression that the whole answer must match.
    #[arg(long, value_name = "REGEX", conflicts_with_all = ["format", "grammar"])]
    pub(crate) regex: Option<String>,
    /// When the context is full, forget the older half of the text after the first N tokens, and go on.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "0", require_equals = true)]
    pub(crate) shift: Option<u32>,
    /// A smaller model of the same vocabulary, by name or path, which proposes tokens where that makes the answer faster.
    #[arg(long, value_name = "MODEL", conflicts_with = "server")]
    pub(crate) draft: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) load: Load,
    /// Break no lines between words.
    #[arg(long)]
    pub(crate) nowordwrap: bool,
    /// Print timing to standard error.
    #[arg(long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ThinkArg {
    True,
    False,
    Low,
    Medium,
    High,
}
