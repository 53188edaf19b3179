//! Commands over the store of models.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::At;

#[derive(Debug, ClapArgs)]
pub(crate) struct List {
    /// Only models whose names begin so.
    pub(crate) prefix: Option<String>,
    /// Print JSON in the shape of /api/tags.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) at: At,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Transfer {
    /// A short name of the catalogue, hf.co/user/repository[:quant], a name of a registry, or the address of a file.
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) way: Way,
}

// How a model goes or comes.
#[derive(Debug, ClapArgs)]
pub(crate) struct Way {
    /// Speak to a registry that has no TLS.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Print progress as JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) at: At,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Push {
    /// Name of a model of the store, which says where it goes: user/name[:tag], or host/user/name[:tag].
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) way: Way,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Search {
    /// Words to look for.
    #[arg(required = true, value_name = "WORD")]
    pub(crate) words: Vec<String>,
    /// Most repositories of the hub.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) limit: usize,
    /// Look in the catalogue alone, without a connection.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ListModels {
    /// Only models of the catalogue with these words.
    #[arg(value_name = "WORD")]
    pub(crate) words: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Copy {
    /// The model.
    pub(crate) source: String,
    /// Its further name.
    pub(crate) destination: String,
    #[command(flatten)]
    pub(crate) at: At,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Remove {
    /// The models.
    #[arg(required = true, value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    #[command(flatten)]
    pub(crate) at: At,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Create {
    /// The name of the new model.
    pub(crate) model: String,
    /// The Modelfile [default: Modelfile, else what is in this folder]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Store the weights of an F32, F16 or BF16 model as another file type: Q4_K_M, Q8_0 and all that `oprel quantize` knows.
    #[arg(long, short, value_name = "TYPE")]
    pub(crate) quantize: Option<String>,
    /// Print progress as JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) at: At,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Verify {
    /// Remove damaged files, so that the next pull or creation of their models brings them anew.
    #[arg(long)]
    pub(crate) remove: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(group(clap::ArgGroup::new("part").args(["license", "modelfile", "parameters", "system", "template"])))]
pub(crate) struct Show {
    /// Name of a model, path of a GGUF file, or `demo`.
    pub(crate) model: String,
    /// Print the licence.
    #[arg(long)]
    pub(crate) license: bool,
    /// Print the Modelfile that would make it again.
    #[arg(long)]
    pub(crate) modelfile: bool,
    /// Print the default options.
    #[arg(long)]
    pub(crate) parameters: bool,
    /// Print the system message.
    #[arg(long)]
    pub(crate) system: bool,
    /// Print the chat template.
    #[arg(long)]
    pub(crate) template: bool,
    /// Also print metadata arrays and tensors.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Print JSON in the shape of /api/show.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) at: At,
}
