//! What can be typed.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use oprel::KvTypes;

mod ask;
mod backend;
mod files;
mod machine;
mod store;
mod tools;

pub(crate) use ask::{Ask, Chat, Run, ThinkArg};
pub(crate) use backend::{BackendCommand, Install, ProgramArg};
pub(crate) use files::{Cache, Convert, Gguf, Imatrix, Over, Perplexity, Quantize, WeightsArg};
pub(crate) use machine::{Doctor, Info, Plan};
pub(crate) use store::{
    Copy, Create, List, ListModels, Push, Remove, Search, Show, Transfer, Verify,
};
pub(crate) use tools::{Bench, ExecArg, Logits, Render};

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
    /// Chat in the terminal.
    Chat(Box<Chat>),
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
    /// Print what a model needs on this machine, and whether that fits.
    Plan(Plan),
    /// Print what this machine is.
    Info(Info),
    /// Look for what is wrong with this machine or installation, and say what to do about it.
    Doctor(Doctor),
    /// Serve models to other programs.
    Serve(Serve),
    /// List the models that are here.
    #[command(visible_alias = "ls")]
    List(List),
    /// Give a model a further name.
    Cp(Copy),
    /// Remove models.
    Rm(Remove),
    /// Make a model of a Modelfile.
    Create(Create),
    /// Read every file of the store and tell which are damaged.
    Verify(Verify),
    /// List the models that a server has loaded.
    #[command(visible_alias = "models")]
    Ps(Ps),
    /// Fetch a model into the store. What has come is kept when it is stopped, and goes on from there.
    Pull(Transfer),
    /// Give a model of the store to the registry of its name.
    Push(Push),
    /// Look for models: in the catalogue and at the hub.
    Search(Search),
    /// Models that have short names, and whether our engine runs them.
    ListModels(ListModels),
    /// How much of the disk the store takes, and giving some of it back.
    #[command(subcommand)]
    Cache(Cache),
    /// Install, list and remove llama.cpp's server, for files that our engine does not know.
    #[command(subcommand)]
    Backend(BackendCommand),
    /// Make a GGUF file of a model of Hugging Face.
    Convert(Convert),
    /// Store the weights of a model as another type.
    Quantize(Quantize),
    /// Measure how much each column of a model's matrices matters, over a text.
    Imatrix(Imatrix),
    /// Measure how well a model foretells a text, or how far it is from another.
    Perplexity(Perplexity),
    /// Split, merge, change and compare GGUF files.
    #[command(subcommand)]
    Gguf(Gguf),
    /// Unload a model of a server.
    Stop(Stop),
    /// Make, list and remove the keys of clients of a server.
    #[command(subcommand)]
    Key(Key),
    /// What is set where: defaults, config.yaml in OPREL_HOME, the environment. Arguments win over all.
    #[command(subcommand, after_help = crate::config::what_may_be_set())]
    Config(Config),
    /// Print a script that completes commands and options in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, or print the first of them.
    Man {
        /// Folder to write them to [default: print `oprel.1`]
        folder: Option<PathBuf>,
    },
    /// Run one model for the server that started this process.
    #[command(hide = true)]
    Worker,
    /// Run another program, which dies with the process that started this one.
    #[cfg(unix)]
    #[command(hide = true)]
    Leash {
        /// Who started this process.
        parent: u32,
        /// The program.
        program: std::ffi::OsString,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Serve {
    /// Address to listen on, with or without a port [default: OPREL_HOST, else OLLAMA_HOST, else 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Port to listen on [default: 11434]
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
    /// Unix socket to listen on besides [default: run/oprel.sock in OPREL_HOME]; on Windows a named pipe [default:
    /// \\.\pipe\oprel]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Listen on no Unix socket, and on no named pipe.
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
    /// Who runs files: our engine; llama.cpp's server, named by OPREL_LLAMA_SERVER, installed or on PATH; or auto, that server for
    /// files whose architecture our engine does not know, if it is found.
    #[arg(long, value_enum, value_name = "NAME", default_value = "auto")]
    pub(crate) backend: BackendArg,
    /// A model that other servers have: NAME=PROFILE:URL[,URL...][#MODEL]; may be given several times.
    ///
    /// PROFILE is vllm, sglang, tabby, llama-server or generic (any that speaks OpenAI's protocol); URL is
    /// http[s]://host[:port][/path] or unix:/path/of/a.sock; MODEL is what they call it, if they have several. Their key
    /// is read from OPREL_REMOTE_KEY_NAME (NAME in capitals, `_` for what is no letter or digit), else from
    /// OPREL_REMOTE_KEY.
    #[arg(long, value_name = "NAME=PROFILE:URL")]
    pub(crate) remote: Vec<String>,
    /// A smaller model, by name or path: it proposes tokens for all models of its vocabulary, whose answers stay the
    /// same and come sooner where that pays [default: the setting draft]
    #[arg(long, value_name = "MODEL")]
    pub(crate) draft: Option<String>,
    /// Write a systemd unit that serves with these options at every login, instead of serving.
    #[arg(long)]
    pub(crate) install: bool,
    /// Write the unit for the whole system, to run at every boot as a user of its own.
    #[arg(long, requires = "install")]
    pub(crate) system: bool,
    /// Print JSON (with --install).
    #[arg(long, requires = "install")]
    pub(crate) json: bool,
    /// Where conversations are kept: redis://host[:port][/number], of a program built with Redis [default: a file in OPREL_HOME]
    #[arg(long, value_name = "URL")]
    pub(crate) conversations: Option<String>,
    /// Certificate in PEM, its authorities behind it: TCP is then spoken over TLS alone.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Seconds that answers under way may take when the server is asked to end.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) grace: u64,
    /// How the log is written.
    #[arg(long, value_enum, value_name = "FORM", default_value = "text")]
    pub(crate) log: LogFormat,
    #[command(flatten)]
    pub(crate) load: Load,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Every setting, its value, and where that comes from.
    Show {
        /// Also print what each is for, and its variable.
        #[arg(long, short)]
        all: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Ps {
    /// Print JSON in the shape of /api/ps.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) at: At,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Stop {
    /// The model, as `oprel ps` names it.
    pub(crate) model: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) at: At,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key; it is shown once.
    Create {
        /// What you call it.
        #[arg(long)]
        name: String,
        /// What it allows: chat, models:read, models:write, metrics, admin.
        #[arg(
            long,
            value_name = "SCOPE,...",
            value_delimiter = ',',
            default_value = "chat,models:read"
        )]
        scope: Vec<String>,
        /// How long it lasts, in days [default: until it is removed]
        #[arg(long, value_name = "N")]
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
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendArg {
    Auto,
    Native,
    LlamaServer,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

// Whose store.
#[derive(Debug, ClapArgs)]
pub(crate) struct At {
    /// The server: http[s]://host[:port] or unix:/path [default: OPREL_HOST; commands over models then take the store of
    /// this user, unless OPREL_HOST is another machine]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
}

// Who answers.
#[derive(Debug, ClapArgs)]
pub(crate) struct Place {
    /// Let a server answer, the one of OPREL_HOST if no URL is said. Where none answers on this machine, one is started;
    /// it stays.
    #[arg(
        long,
        value_name = "URL",
        num_args = 0..=1,
        require_equals = true,
        conflicts_with_all = ["threads", "batch_size", "kv", "prompt_cache", "overcommit"]
    )]
    pub(crate) server: Option<Option<String>>,
    /// Answer in this process, even if a server is there.
    #[arg(long, conflicts_with = "server")]
    pub(crate) local: bool,
}

// What decides how much memory a model takes.
#[derive(Debug, ClapArgs)]
pub(crate) struct Size {
    /// Context length: most tokens of prompt and answer [default: the model's own, at most 4096; of a server, what fits]
    #[arg(
        long,
        visible_alias = "ctx",
        short = 'c',
        value_name = "N",
        allow_negative_numbers = true
    )]
    pub(crate) ctx_size: Option<u32>,
    /// CPU threads [default: one for each physical core]
    #[arg(long, short = 't', value_name = "N", allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// Most tokens of prompts in one step [default: 512]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) batch_size: Option<u32>,
    /// How keys and values are stored: i16, f32, f16, bf16, q8_0 or q4_0; or keys and values, as in
    /// `q8_0,q4_0`. Down to q8_0 answers hardly change; q4_0 is felt, most in keys [default: i16]
    #[arg(long, value_name = "TYPE")]
    pub(crate) kv: Option<KvTypes>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) size: Size,
    /// Keep what prompts computed in a folder, so that it is not computed again [default: the setting prompt_cache]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) prompt_cache: Option<PathBuf>,
    /// Most megabytes in that folder [default: 4096]
    #[arg(long, value_name = "MB", requires = "prompt_cache")]
    pub(crate) prompt_cache_size: Option<u64>,
    /// Load the model even if it needs more memory than is free: slow, and the system may end the process.
    #[arg(long)]
    pub(crate) overcommit: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Tokenize {
    /// Name of a model, path of a GGUF file, or `demo`.
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
pub(crate) struct Embed {
    /// Name of a model, path of a GGUF file, or `demo`.
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
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) load: Load,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Rerank {
    /// Name of a reranker, or path of its GGUF file.
    #[arg(long, short, value_name = "MODEL")]
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
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) load: Load,
}
