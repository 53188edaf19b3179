//! `oprel completions` and `oprel man`: what shells and manuals are told of the commands.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;

use crate::args::Args;
use crate::outcome::tell;

pub(crate) fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "oprel", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}

/// Pages into a folder, one a command, or the first of them to standard output.
pub(crate) fn manual(folder: Option<&Path>) -> anyhow::Result<()> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Args::command()).render(&mut page)?;
        return Ok(std::io::stdout().write_all(&page)?);
    };
    let cannot = || format!("cannot write to '{}'", folder.display());
    std::fs::create_dir_all(folder).with_context(cannot)?;
    clap_mangen::generate_to(Args::command(), folder).with_context(cannot)?;
    tell(&format!("wrote the manual pages to {}", folder.display()));
    Ok(())
}
