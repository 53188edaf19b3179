//! The program that makes the demo model: `corpus`, `train`, `export`, `exam`, `ask`.

mod corpus;
mod dialog;
mod exam;
mod export;
mod facts;
mod grammar;
mod infer;
mod model;
mod ops;
mod optim;
mod random;
mod stories;
mod tokens;
mod tools;
mod train;

use anyhow::{Result, bail};
use std::path::PathBuf;

/// Everything random follows from it.
const SEED: u64 = 11434;

/// Settings of the allocator and of candle that halve the processor time of a step: freed buffers
/// are kept for the next use, and candle's own pool, which waits by spinning, stays empty (its
/// matrix products run on rayon's).
const SETTINGS: [(&str, &str); 4] = [
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
    ("MALLOC_TRIM_THRESHOLD_", "8589934592"),
    ("MALLOC_TOP_PAD_", "268435456"),
    ("CANDLE_NUM_THREADS", "1"),
];

fn main() -> Result<()> {
    if SETTINGS.iter().any(|(name, _)| std::env::var_os(name).is_none()) {
        let mut again = std::process::Command::new(std::env::current_exe()?);
        let status = again.args(std::env::args_os().skip(1)).envs(SETTINGS).status()?;
        std::process::exit(status.code().unwrap_or(1));
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value =
        |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)).cloned();
    let number = |name: &str, default: f64| -> Result<f64> {
        Ok(value(name).map(|v| v.parse()).transpose()?.unwrap_or(default))
    };
    let demo = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../demo");
    let checkpoints =
        value("--checkpoints").map_or_else(|| demo.join("../train/checkpoints"), PathBuf::from);
    let model = value("--model").map_or_else(|| demo.join("oprel-demo-q8_0.gguf"), PathBuf::from);
    match args.first().map(String::as_str) {
        Some("corpus") => {
            let corpus = corpus::Corpus::read()?;
            let mut random = random::Random::new(SEED);
            for _ in 0..number("--documents", 1000.)? as usize {
                let text: String = corpus.document(&mut random)?.into_iter().map(|p| p.0).collect();
                println!("{text}\n");
            }
            Ok(())
        }
        Some("held-out") => Ok(std::fs::write(demo.join("heldout.txt"), corpus::held_out(SEED)?)?),
        Some("train") => train::train(&train::Plan {
            seed: SEED,
            steps: number("--steps", 880.)? as usize,
            batch: number("--batch", 2048.)? as usize,
            warm_up: 40,
            descent: number("--descent", 0.4318)?,
            rates: optim::Rates {
                muon: number("--muon", 0.02)?,
                adam: number("--adam", 0.004)?,
                decay: 0.02,
            },
            log: value("--log").map_or_else(|| demo.join("train.log"), PathBuf::from),
            checkpoints,
            resume: args.iter().any(|a| a == "--resume"),
        }),
        Some("export") => {
            let tokenizer = tokens::load(&checkpoints.join("tokenizer.json"))?;
            export::export(&checkpoints.join("last.safetensors"), &tokenizer, &model)
        }
        Some("exam") => exam::exam(&model, &demo.join("questions.json")),
        Some("ask") => {
            let most = number("--most", 200.)? as usize;
            let demo = infer::Demo::open(&model)?;
            let questions = args.iter().skip(1).filter(|a| a.contains(' ') || a.ends_with('?'));
            for q in questions {
                println!("{q}\n    {}", demo.answer(q, most)?);
            }
            Ok(())
        }
        _ => bail!("usage: corpus | held-out | train [--resume] | export | exam | ask QUESTION"),
    }
}
