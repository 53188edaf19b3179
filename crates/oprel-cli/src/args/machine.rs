//! Commands about the machine and what fits on it.

use clap::Args as ClapArgs;

use super::Size;

#[derive(Debug, ClapArgs)]
pub(crate) struct Plan {
    /// Name of a model, path of a GGUF file, or `demo`; of a model that is not here it is told which file to fetch.
    pub(crate) model: String,
    /// Further files of the same model in other quants, to choose among.
    #[arg(value_name = "FILE")]
    pub(crate) others: Vec<std::path::PathBuf>,
    #[command(flatten)]
    pub(crate) size: Size,
    /// Measure this machine and say how fast the model will be.
    #[arg(long)]
    pub(crate) measure: bool,
    /// Tokens of the text before the one whose speed is told.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) depth: u32,
    /// List all layers.
    #[arg(long)]
    pub(crate) layers: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Info {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Doctor {
    /// Port of the daemon [default: that of the setting `host`]
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
    /// Measure nothing: neither memory nor disks.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
