//! The binary `oprel`: parses, calls the library, prints. The only code that prints.

mod args;
mod bench;
mod commands;
mod daemon;
mod engine;
mod files;
mod generate;
mod interactive;
#[cfg(unix)]
mod key;
mod outcome;
mod sampling;
#[cfg(unix)]
mod serve;
mod systemd;

use clap::Parser;

fn main() -> std::process::ExitCode {
    let args = args::Args::parse();
    outcome::exit_code(commands::run(args.command))
}
