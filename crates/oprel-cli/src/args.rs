//! What can be typed.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use oprel::KvTypes;

use crate::sampling::Sampling;

/// Run language models from GGUF files on your own machine.
#[derive(Debug, Parser)]
#[command(name = "oprel", version, propagate_version = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer a prompt, or chat.
    Run(Box<Run>),
    /// Print the token ids of a text.
    Tokenize(Tokenize),
    /// Print what a model is.
    Show(Show),
    /// Print vectors of texts.
    Embed(Embed),
    /// Print documents by how well they answer a query.
    Rerank(Rerank),
    /// Print the prompt that a chat template makes of a conversation.
    Render(Render),
    /// Write the logits of every token of a text, for testing.
    Logits(Logits),
    /// Measure how fast a model runs here.
    Bench(Bench),
    /// Serve models to other programs.
    #[cfg(unix)]
    Serve(Serve),
    /// List the models that a server has loaded.
    #[command(visible_alias = "models")]
    Ps(Ps),
    /// Unload a model of a server.
    Stop(Stop),
    /// Make, list and remove the keys of clients of a server.
    #[cfg(unix)]
    #[command(subcommand)]
    Key(Key),
    /// Run one model for the server that started this process.
    #[cfg(unix)]
    #[command(hide = true)]
    Worker,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Run {
    /// Path of a GGUF file, or `demo` for the built-in model.
    pub(crate) model: String,
    /// What to answer. Piped input is put before it. With neither, an interactive chat starts.
    #[arg(allow_hyphen_values = false)]
    pub(crate) prompt: Vec<String>,
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
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub(crate) system: Option<String>,
    /// Continue the prompt as it is, without the chat template.
    #[arg(long)]
    pub(crate) raw: bool,
    /// Let the model think before it answers, or not: true, false, low, medium, high.
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
    /// A smaller model of the same vocabulary, which proposes tokens where that makes the answer faster.
    #[arg(long, value_name = "FILE")]
    pub(crate) draft: Option<String>,
    /// Let a server answer; start one if none does. It stays.
    #[arg(long, conflicts_with_all = ["threads", "prompt_cache", "draft"])]
    pub(crate) server: bool,
    /// Answer in this process, even if a server is there.
    #[arg(long, conflicts_with = "server")]
    pub(crate) local: bool,
    #[command(flatten)]
    pub(crate) load: Load,
    /// Print timing to standard error.
    #[arg(long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Serve {
    /// Address to listen on, with or without a port [default: OPREL_HOST, else OLLAMA_HOST, else 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Port to listen on [default: 11434]
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
    /// Unix socket to listen on besides [default: run/oprel.sock in OPREL_HOME]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Listen on no Unix socket.
    #[arg(long, conflicts_with = "socket")]
    pub(crate) no_socket: bool,
    /// Another name by which this machine may be called; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,
    /// Origin of web pages that may call, with at most one `*`; may be given several times.
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,
    /// Let other machines use this server without a key.
    #[arg(long)]
    pub(crate) insecure_no_auth: bool,
    /// Ask clients of this machine for a key, too.
    #[arg(long)]
    pub(crate) require_key: bool,
    /// Where conversations are kept: redis://host[:port][/number] [default: a file in OPREL_HOME]
    #[arg(long, value_name = "URL")]
    pub(crate) conversations: Option<String>,
    /// Certificate in PEM, its authorities behind it: TCP is then spoken over TLS alone.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// How long answers under way may take when the server is asked to end.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) grace: u64,
    /// How the log is written.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log: LogFormat,
    #[command(flatten)]
    pub(crate) load: Load,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Ps {
    /// Print JSON, as /api/ps.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Stop {
    /// The model, as `oprel ps` names it.
    pub(crate) model: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key; it is shown once.
    Create {
        /// What you call it.
        #[arg(long)]
        name: String,
        /// What it allows: chat, models:read, models:write, metrics, admin.
        #[arg(long, value_delimiter = ',', default_value = "chat,models:read")]
        scope: Vec<String>,
        /// How long it lasts, in days [default: until it is removed]
        #[arg(long, value_name = "DAYS")]
        days: Option<u32>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the keys.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove a key.
    Remove {
        /// Its id or its name.
        key: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ThinkArg {
    True,
    False,
    Low,
    Medium,
    High,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Load {
    /// Context length: most tokens of prompt and answer [default: the model's own, at most 4096]
    #[arg(
        long,
        visible_alias = "ctx",
        short = 'c',
        value_name = "N",
        allow_negative_numbers = true
    )]
    pub(crate) ctx_size: Option<u32>,
    /// CPU threads [default: one for each core]
    #[arg(long, short = 't', value_name = "N", allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// Keep what prompts computed in a folder, so that it is not computed again.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) prompt_cache: Option<PathBuf>,
    /// Most megabytes in that folder.
    #[arg(long, value_name = "MB", default_value_t = 4096, requires = "prompt_cache")]
    pub(crate) prompt_cache_size: u64,
    /// How keys and values are stored: f32, f16, bf16, q8_0 or q4_0; or keys and values, as in
    /// `q8_0,q4_0`. Down to q8_0 answers hardly change; q4_0 is felt, most in keys.
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub(crate) kv: KvTypes,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Tokenize {
    /// Path of a GGUF file, or `demo`.
    pub(crate) model: String,
    /// The text [default: standard input]
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) text: Option<String>,
    /// Add no BOS and EOS, and read special tokens in the text as text.
    #[arg(long)]
    pub(crate) no_special: bool,
    /// Read special tokens in the text as such, also with --no-special.
    #[arg(long)]
    pub(crate) parse_special: bool,
    /// Print a JSON list of ids.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Show {
    /// Path of a GGUF file, or `demo`.
    pub(crate) model: String,
    /// Also print metadata arrays and tensors.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Print JSON in the shape of /api/show.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Embed {
    /// Path of a GGUF file.
    pub(crate) model: String,
    /// The texts [default: standard input, as one text]
    pub(crate) text: Vec<String>,
    /// Keep only the first N numbers of a vector.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) dimensions: Option<u32>,
    /// Print JSON in the shape of /api/embed.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) load: Load,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Rerank {
    /// Path of a GGUF file of a reranker.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) model: String,
    /// What is looked for.
    pub(crate) query: String,
    /// What may answer it [default: the lines of standard input]
    pub(crate) document: Vec<String>,
    /// Print only the best N.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) top_n: Option<u32>,
    /// Print JSON in the shape of /v1/rerank.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) load: Load,
}

#[derive(Debug, ClapArgs)]
#[command(group(clap::ArgGroup::new("from").required(true).args(["model", "template"])))]
pub(crate) struct Render {
    /// Path of a GGUF file, or `demo`.
    pub(crate) model: Option<String>,
    /// A file with a Jinja template.
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
    #[arg(long, value_name = "S", requires = "template", conflicts_with = "model")]
    pub(crate) bos: Option<String>,
    /// Text of EOS (with --template).
    #[arg(long, value_name = "S", requires = "template", conflicts_with = "model")]
    pub(crate) eos: Option<String>,
    /// Do not end with the beginning of the answer.
    #[arg(long)]
    pub(crate) no_generation_prompt: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Logits {
    /// Path of a GGUF file, or `demo`.
    pub(crate) model: String,
    /// Token ids: 1,2,3
    #[arg(long, value_delimiter = ',', required = true, allow_negative_numbers = true)]
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
    /// Path of a GGUF file, or `demo`.
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
    /// Let a smaller model of the same vocabulary propose tokens (one sequence without --parallel).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["depth", "repeat"])]
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
