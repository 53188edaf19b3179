//! The binary `oprel`: parses, calls the library, prints. The only code that prints.

mod args;
mod backend;
#[cfg(unix)]
mod backends;
mod bench;
mod cache;
mod chat;
mod columns;
mod commands;
mod config;
mod convert;
mod daemon;
mod engine;
#[cfg(unix)]
mod files;
mod generate;
#[cfg(unix)]
mod install;
mod interrupt;
#[cfg(unix)]
mod key;
mod machine;
mod outcome;
mod pages;
mod plan;
mod sampling;
#[cfg(unix)]
mod serve;
mod settings;
mod speak;
mod store;
#[cfg(unix)]
mod systemd;
mod terminal;
mod transfer;

use clap::Parser;

fn main() -> std::process::ExitCode {
    let args = args::Args::parse();
    outcome::exit_code(commands::run(args.command))
}
