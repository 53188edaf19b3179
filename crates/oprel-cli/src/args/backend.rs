//! Commands over engines of others.

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum BackendCommand {
    /// Fetch an engine, check it, and keep it in the folder of the setting `backends`.
    Install(Install),
    /// List the engines that are installed, the one that is used first.
    #[command(visible_alias = "ls")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove an engine that was installed.
    #[command(visible_alias = "rm")]
    Remove {
        /// The versions, as b6123.
        #[arg(required = true, value_name = "VERSION")]
        versions: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, ClapArgs)]
// `--version` is the engine's.
#[command(disable_version_flag = true)]
pub(crate) struct Install {
    /// Which engine.
    #[arg(value_enum, default_value = "llama-server")]
    pub(crate) program: ProgramArg,
    /// Which version, as b6123 [default: the newest]
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<String>,
    /// Which build of it, as vulkan or cuda-12.4 [default: the one for the CPU; on a Mac with Metal]
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,
    /// Where releases are described, as GitHub's API does [default: the setting backend_source]
    #[arg(long, value_name = "URL")]
    pub(crate) source: Option<String>,
    /// The archive's SHA-256, to be sure of it, or where the source says none.
    #[arg(long, value_name = "DIGEST")]
    pub(crate) sha256: Option<String>,
    /// Print progress and what was done as JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Engines that can be installed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ProgramArg {
    LlamaServer,
}
