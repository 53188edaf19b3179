//! `oprel bench`: how fast a model runs here.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use oprel::{BenchOptions, OprelError, ParallelOptions, TokenizeOptions};

use crate::args::Bench;
use crate::commands::{builder, print, source};

pub(crate) fn run(args: &Bench) -> anyhow::Result<()> {
    // Measurements of one after another propose nothing.
    match args.parallel.or(args.draft.as_ref().map(|_| 1)) {
        Some(sequences) => together(args, sequences),
        None => alone(args),
    }
}

/// One sequence after another.
fn alone(args: &Bench) -> anyhow::Result<()> {
    let options = BenchOptions {
        prompt_tokens: args.prompt_tokens,
        gen_tokens: args.gen_tokens,
        depth: args.depth,
        repeat: args.repeat,
    };
    let mut builder = builder(&args.model, &args.load)?;
    if args.load.size.ctx_size.is_none() {
        builder = builder.context(options.context());
    }
    let bench = builder.load()?.bench(&options)?;
    if args.json {
        return print(&serde_json::to_string(&bench)?);
    }
    let mut out = std::io::stdout();
    writeln!(out, "prefill    {:10.2} tokens/s", bench.prefill_tok_s)?;
    writeln!(out, "decode     {:10.2} tokens/s", bench.decode_tok_s)?;
    writeln!(out, "load       {:10.3} s", bench.load_s)?;
    if let Some(bytes) = bench.peak_rss_bytes {
        writeln!(out, "peak RSS   {:10.1} MB", bytes as f64 / 1e6)?;
    }
    writeln!(out, "raw read   {:10.1} GB/s", bench.raw_read_gb_s)?;
    Ok(writeln!(out, "{} threads, {}", bench.threads, bench.isa)?)
}

/// Several sequences at once.
fn together(args: &Bench, sequences: u32) -> anyhow::Result<()> {
    let options = ParallelOptions {
        sequences,
        prompt_tokens: args.prompt_tokens,
        shared_prefix: args.shared_prefix,
        gen_tokens: args.gen_tokens,
        replay: args.replay.as_deref().map(|path| tokens_of(args, path)).transpose()?,
        speculate: !args.no_speculation,
    };
    let mut builder = builder(&args.model, &args.load)?.parallel(sequences);
    if args.load.size.ctx_size.is_none() {
        builder = builder.context(options.context());
    }
    if let Some(draft) = &args.draft {
        builder = builder.draft(source(draft)?);
    }
    let bench = builder.load()?.bench_parallel(&options)?;
    if args.json {
        return print(&serde_json::to_string(&bench)?);
    }
    let mut out = std::io::stdout();
    writeln!(out, "total        {:10.3} s for {sequences} sequences", bench.total_s)?;
    writeln!(out, "prefill      {:10.2} tokens/s", bench.prefill_tok_s)?;
    writeln!(out, "decode       {:10.2} tokens/s", bench.decode_tok_s)?;
    let [p50, p99] = bench.first_token_s;
    writeln!(out, "first token  {p50:10.3} s, 99th percentile {p99:.3} s")?;
    let [p50, p99] = bench.gap_s.map(|s| s * 1e3);
    writeln!(out, "gap          {p50:10.1} ms, 99th percentile {p99:.1} ms")?;
    writeln!(out, "cached       {:10} prompt tokens", bench.cached_tokens)?;
    let (drafted, accepted) = (bench.drafted_tokens, bench.accepted_tokens);
    writeln!(out, "speculation  {drafted:10} tokens proposed, {accepted} taken")?;
    Ok(writeln!(out, "{} threads, {}", bench.threads, bench.isa)?)
}

/// The tokens of a file: a JSON list of ids, or else a text.
fn tokens_of(args: &Bench, path: &Path) -> anyhow::Result<Vec<u32>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read '{}'", path.display()))?;
    if text.trim_start().starts_with('[') {
        let wrong = |e| OprelError::validation(format!("'{}': {e}", path.display()));
        return Ok(serde_json::from_str(&text).map_err(wrong)?);
    }
    let options = TokenizeOptions { add_special: true, parse_special: true };
    Ok(oprel::tokenize(&source(&args.model)?, &text, options)?)
}
