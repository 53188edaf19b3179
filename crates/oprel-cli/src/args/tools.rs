//! Commands for looking at a model: its prompts, its logits, its speed.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use super::Load;

#[derive(Debug, ClapArgs)]
#[command(group(clap::ArgGroup::new("from").required(true).args(["model", "template"])))]
pub(crate) struct Render {
    /// Name of a model, path of a GGUF file, or `demo`.
    pub(crate) model: Option<String>,
    /// A file with a template, in Jinja or Go's language.
    #[arg(long, value_name = "FILE")]
    pub(crate) template: Option<PathBuf>,
    /// JSON file with a list of messages.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) messages: PathBuf,
    /// JSON file with a list of tools.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) tools: Option<PathBuf>,
    /// Further variables of the template, a JSON object.
    #[arg(long, value_name = "JSON")]
    pub(crate) kwargs: Option<String>,
    /// Text of BOS (with --template).
    #[arg(long, value_name = "TEXT", requires = "template", conflicts_with = "model")]
    pub(crate) bos: Option<String>,
    /// Text of EOS (with --template).
    #[arg(long, value_name = "TEXT", requires = "template", conflicts_with = "model")]
    pub(crate) eos: Option<String>,
    /// Do not end with the beginning of the answer.
    #[arg(long)]
    pub(crate) no_generation_prompt: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Logits {
    /// Name of a model, path of a GGUF file, or `demo`.
    pub(crate) model: String,
    /// Token ids.
    #[arg(
        long,
        value_name = "ID,...",
        value_delimiter = ',',
        required = true,
        allow_negative_numbers = true
    )]
    pub(crate) tokens: Vec<u32>,
    /// File to write: tensor `logits` (n_tokens, n_vocab) in f32.
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) out: PathBuf,
    /// Feed the first N tokens, then the rest.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) split: Option<usize>,
    /// Who computes: our kernels, or candle as the reference.
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub(crate) exec: ExecArg,
    /// Print what was written, as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) load: Load,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ExecArg {
    Cpu,
    Candle,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Bench {
    /// Name of a model, path of a GGUF file, or `demo`.
    pub(crate) model: String,
    /// Tokens of a prompt.
    #[arg(
        long,
        short = 'p',
        value_name = "N",
        default_value_t = 512,
        allow_negative_numbers = true
    )]
    pub(crate) prompt_tokens: u32,
    /// Tokens to make.
    #[arg(
        long,
        short = 'n',
        value_name = "N",
        default_value_t = 64,
        allow_negative_numbers = true
    )]
    pub(crate) gen_tokens: u32,
    /// Tokens already in the context before either.
    #[arg(long, short, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) depth: u32,
    /// How often; medians are printed.
    #[arg(long, short, value_name = "N", default_value_t = 3, allow_negative_numbers = true)]
    pub(crate) repeat: u32,
    /// Measure N sequences at once instead, each with such a prompt.
    #[arg(long, value_name = "N", conflicts_with_all = ["depth", "repeat"], allow_negative_numbers = true)]
    pub(crate) parallel: Option<u32>,
    /// Tokens that all prompts begin with.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        requires = "parallel",
        allow_negative_numbers = true
    )]
    pub(crate) shared_prefix: u32,
    /// Take prompt and answer from a text, or from a JSON list of token ids, whatever the model says.
    #[arg(long, value_name = "FILE", requires = "parallel")]
    pub(crate) replay: Option<PathBuf>,
    /// Let a smaller model of the same vocabulary, by name or path, propose tokens (one sequence without --parallel).
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["depth", "repeat"])]
    pub(crate) draft: Option<String>,
    /// Propose no tokens, neither from what the text repeats nor from another model.
    #[arg(long, requires = "parallel")]
    pub(crate) no_speculation: bool,
    #[command(flatten)]
    pub(crate) load: Load,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
