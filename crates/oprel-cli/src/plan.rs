//! `oprel plan`: what a model needs here, and how fast it will be.

mod absent;

use std::io::Write;

use anyhow::Context;
use oprel::OprelError;
use oprel_telemetry::Host;
use oprel_tools::plan::{
    self, Candidate, Fits, Isa, MOST_THREADS, PlanOptions, Recommendation, Speeds,
};
use serde_json::json;

use crate::args::{Plan, Size};
use crate::commands::{Meant, meant, most_memory, print};
use crate::config;
use crate::convert::of_tools;
use crate::outcome::harmless;

pub(crate) fn run(args: &Plan) -> anyhow::Result<()> {
    let options = options(&args.size)?;
    let source = match (crate::commands::source(&args.model), meant(&args.model)) {
        (Err(absent @ OprelError::ModelNotFound { .. }), Meant::Named(_)) => {
            return absent::run(args, &args.model, absent);
        }
        (source, _) => source?,
    };
    let file = source.open().map_err(OprelError::from)?;
    let host = Host::read();
    let plan = plan::plan(&file, &options, &host).map_err(of_tools)?;
    let speeds = if args.measure { Speeds::measure(&plan, &file, &host) } else { None };
    let candidates = candidates(args, &plan)?;
    let read = speeds.as_ref().map(|speeds| speeds.rates.read);
    let chosen = plan::recommend(&candidates, (&file, &options), &host, read).map_err(of_tools)?;
    let speed = speeds.as_ref().map(|speeds| speeds.predict(&plan, args.depth));
    if args.json {
        let all = json!({
            "plan": plan, "speed": speed, "measured": speeds, "recommended": chosen,
        });
        return print(&serde_json::to_string_pretty(&all)?);
    }
    tell(args, &plan, speed, &chosen)
}

/// How it would be loaded, as arguments say, else as settings do.
fn options(size: &Size) -> Result<PlanOptions, OprelError> {
    let set = config::get()?;
    let wrong = |what: String| Err(OprelError::validation(what));
    match (size.ctx_size, size.threads) {
        (Some(0), _) => return wrong("--ctx-size is 0; it must be 1 or more".into()),
        (_, Some(n)) if !(1..=MOST_THREADS).contains(&n) => {
            return wrong(format!("--threads is {n}; it must be from 1 to {MOST_THREADS}"));
        }
        _ => {}
    }
    Ok(PlanOptions {
        context: size.ctx_size.or(set.number("context_length").filter(|n| *n > 0)),
        kv: size.kv()?,
        parallel: set.number("num_parallel").filter(|n| *n > 0),
        threads: size.threads.or(set.number("threads").filter(|n| *n > 0)),
        batch: size.batch_size()?,
        isa: set.text("isa").and_then(|name| Isa::parse(name).ok()),
        most_memory: most_memory()?,
    })
}

/// The file itself, and others of the same model.
fn candidates(args: &Plan, plan: &plan::Plan) -> anyhow::Result<Vec<Candidate>> {
    let own =
        Candidate { name: args.model.clone(), quant: plan.quant.clone(), bytes: plan.file_bytes };
    let mut all = vec![own];
    for path in &args.others {
        let what = || format!("cannot read '{}'", path.display());
        let bytes = std::fs::metadata(path).with_context(what)?.len();
        let name = path.display().to_string();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        all.push(Candidate { quant: stem.unwrap_or_default(), name, bytes });
    }
    Ok(all)
}

fn tell(
    args: &Plan,
    plan: &plan::Plan,
    speed: Option<plan::Prediction>,
    chosen: &Recommendation,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let bytes = &plan.bytes;
    writeln!(out, "{} {}, {} layers", harmless(&plan.architecture), plan.quant, plan.layers.len())?;
    let parts = [
        ("weights", bytes.weights + bytes.converted),
        ("state", bytes.state),
        ("activations", bytes.scratch),
        ("threads", bytes.threads),
        ("vocabulary", bytes.vocabulary),
        ("program", bytes.process),
        ("all", bytes.total),
    ];
    for (name, bytes) in parts {
        writeln!(out, "{name:12} {:12.1} MB", mb(bytes))?;
    }
    writeln!(out, "one text of {} tokens, keys and values in {}", plan.context, plan.kv)?;
    if args.layers {
        for layer in &plan.layers {
            let (weights, state) = (layer.weights + layer.experts, layer.state_bytes);
            writeln!(out, "layer {:3} {:12.1} MB {:12.1} MB", layer.index, mb(weights), mb(state))?;
        }
        for one in &plan.outside {
            writeln!(out, "{:9} {:12.1} MB", harmless(&one.name), mb(one.bytes))?;
        }
    }
    if plan.context > plan.trained_context {
        writeln!(out, "the model was trained for {} tokens", plan.trained_context)?;
    }
    if let Some(most) = plan.most_bytes {
        writeln!(out, "at most      {:12.1} MB, the setting max_memory_mb", mb(most))?;
    }
    let free = plan.free_bytes.map_or("?".to_string(), |free| format!("{:.1} MB", mb(free)));
    writeln!(out, "free         {free}: {}", fits(plan.fits))?;
    if let Some(instead) = &plan.instead {
        writeln!(out, "instead      {instead}")?;
    }
    if let Some(speed) = speed {
        let (decode, prefill) = (speed.decode_tok_s, speed.prefill_tok_s);
        writeln!(out, "speed        about {decode:.1} tokens/s, a prompt {prefill:.0} tokens/s")?;
    }
    for reason in &chosen.reasons {
        writeln!(out, "- {}", harmless(reason))?;
    }
    Ok(())
}

fn fits(fits: Fits) -> &'static str {
    match fits {
        Fits::Yes => "it fits",
        Fits::Tight => "it fits, with little left for all else",
        Fits::No => "it does not fit",
        Fits::Unknown => "whether it fits is not known",
    }
}
