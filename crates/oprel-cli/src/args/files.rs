//! Commands that make files of files.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

#[derive(Debug, ClapArgs)]
pub(crate) struct Convert {
    /// A folder with a model of Hugging Face: safetensors, config.json and a tokenizer.
    pub(crate) folder: PathBuf,
    /// The GGUF file to write.
    #[arg(long, short, value_name = "FILE.gguf")]
    pub(crate) out: PathBuf,
    /// How matrices are stored.
    #[arg(long = "type", value_enum, value_name = "TYPE", default_value = "auto")]
    pub(crate) weights: WeightsArg,
    /// The model's name in the file [default: the folder's]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Make a reranker of a Qwen 3 that answers "yes" or "no"; those called so become one anyway.
    #[arg(long)]
    pub(crate) reranker: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum WeightsArg {
    /// As the folder has them.
    Auto,
    F32,
    F16,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
}

#[derive(Debug, ClapArgs)]
#[command(group(clap::ArgGroup::new("mix").required(true).args(["file_type", "target_size"])))]
pub(crate) struct Quantize {
    /// The GGUF file to read: F32, F16 or BF16.
    pub(crate) input: PathBuf,
    /// The GGUF file to write.
    pub(crate) output: PathBuf,
    /// The file type: Q4_K_M, Q8_0, IQ3_XXS and all others of llama.cpp.
    pub(crate) file_type: Option<String>,
    /// Choose types by measured error, so that the file has at most so many bytes: 4GB, 700MB, or a number.
    #[arg(long, value_name = "SIZE")]
    pub(crate) target_size: Option<String>,
    /// How much each column matters: a file that `oprel imatrix` made.
    #[arg(long, value_name = "FILE")]
    pub(crate) imatrix: Option<PathBuf>,
    /// Take a file that is quantized already; the result is worse than one of the original.
    #[arg(long)]
    pub(crate) allow_requantize: bool,
    /// Give every matrix the main type.
    #[arg(long)]
    pub(crate) pure: bool,
    /// Leave the output matrix as it is.
    #[arg(long)]
    pub(crate) leave_output: bool,
    /// The type of the output matrix.
    #[arg(long, value_name = "TYPE")]
    pub(crate) output_type: Option<String>,
    /// The type of the embedding.
    #[arg(long, value_name = "TYPE")]
    pub(crate) embedding_type: Option<String>,
    /// The type of tensors whose names contain a text; may be given several times.
    #[arg(long, value_name = "TEXT=TYPE")]
    pub(crate) tensor_type: Vec<String>,
    /// CPU threads [default: one for each CPU]
    #[arg(long, short = 't', value_name = "N", allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// Print JSON: every tensor and its type.
    #[arg(long)]
    pub(crate) json: bool,
}

// A model and a text that it is run over.
#[derive(Debug, ClapArgs)]
pub(crate) struct Over {
    /// Name of a model, path of a GGUF file, or `demo`.
    pub(crate) model: String,
    /// The text [default: standard input]
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Tokens of a window, which begins anew.
    #[arg(long, short = 'c', value_name = "N", default_value_t = 512)]
    pub(crate) ctx_size: u32,
    /// Most windows [default: all of the text]
    #[arg(long, value_name = "N")]
    pub(crate) chunks: Option<usize>,
    /// CPU threads [default: one for each physical core]
    #[arg(long, short = 't', value_name = "N", allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Imatrix {
    #[command(flatten)]
    pub(crate) over: Over,
    /// The file to write.
    #[arg(long, short, value_name = "FILE.gguf")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Perplexity {
    #[command(flatten)]
    pub(crate) over: Over,
    /// Write what the model foretells to a file, for --kl-base.
    #[arg(long, value_name = "FILE", conflicts_with = "kl_base")]
    pub(crate) save_base: Option<PathBuf>,
    /// Measure how far the model is from the one that wrote this file, on the text that is in it; with --file it is
    /// looked whether that is the same.
    #[arg(long, value_name = "FILE")]
    pub(crate) kl_base: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Gguf {
    /// Split a model into several files.
    Split {
        /// The model.
        input: PathBuf,
        /// What the names of the parts begin with.
        prefix: PathBuf,
        /// Most bytes of a part: 2GB, 500MB, or a number.
        #[arg(long, value_name = "SIZE", required_unless_present = "tensors")]
        size: Option<String>,
        /// Most tensors of a part.
        #[arg(long, value_name = "N", conflicts_with = "size")]
        tensors: Option<usize>,
    },
    /// Make one file of a split model.
    Merge {
        /// Any of its parts.
        input: PathBuf,
        /// The file to write.
        output: PathBuf,
    },
    /// Change the metadata of a file.
    Edit {
        /// The file.
        file: PathBuf,
        /// Where the changed one goes [default: in its place]
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
        /// A key and its value: KEY=VALUE, or KEY:TYPE=VALUE with u8 to u64, i8 to i64, f32, f64, bool or str.
        #[arg(long, value_name = "KEY[:TYPE]=VALUE")]
        set: Vec<String>,
        /// A key that is to go.
        #[arg(long, value_name = "KEY")]
        remove: Vec<String>,
    },
    /// Tell what two models differ in; the exit code is 1 if they do.
    Diff {
        /// One.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// What takes how much of the disk.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove models; as `oprel rm`.
    Delete {
        /// The models.
        #[arg(required = true, value_name = "MODEL")]
        models: Vec<String>,
    },
    /// Remove what no model needs, and downloads that were begun.
    Clear {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read every file of the store and tell which are damaged; as `oprel verify`.
    Verify(super::Verify),
}
