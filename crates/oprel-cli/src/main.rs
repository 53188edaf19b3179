//! The binary `oprel`: parses, calls the library, prints. The only code that prints.

mod args;
mod backend;
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
mod files;
mod generate;
#[cfg(unix)]
mod install;
mod interrupt;
mod key;
mod machine;
mod outcome;
mod pages;
mod plan;
mod platform;
mod sampling;
mod serve;
mod settings;
mod speak;
mod store;
mod systemd;
mod terminal;
mod transfer;

use clap::Parser;

fn main() -> std::process::ExitCode {
    platform::prepare_terminal();
    let args = args::Args::parse();
    outcome::exit_code(commands::run(args.command))
}
