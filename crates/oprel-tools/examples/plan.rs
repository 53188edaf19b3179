//! What a model needs here, and how fast it will be: `cargo run --release -p oprel-tools --example plan -- MODEL
//! [DEPTH]`.

use std::time::Instant;

use oprel_gguf::Gguf;
use oprel_telemetry::Host;
use oprel_tools::plan::{PlanOptions, Speeds, plan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let model = args.next().ok_or("which model?")?;
    let depth = args.next().map_or(Ok(512), |n| n.parse())?;
    let (host, file) = (Host::read(), Gguf::open(&model)?);
    let start = Instant::now();
    let plan = plan(&file, &PlanOptions::default(), &host)?;
    println!("{} ({:?}, planned in {:.1?})", plan.sum(), plan.fits, start.elapsed());
    let start = Instant::now();
    let Some(speeds) = Speeds::measure(&plan, &file, &host) else { return Err("no memory".into()) };
    let speed = speeds.predict(&plan, depth);
    println!("measured in {:.1?}: {speeds:?}", start.elapsed());
    println!(
        "decode {:.2} tokens/s, prefill {:.1} tokens/s at a depth of {depth}",
        speed.decode_tok_s, speed.prefill_tok_s
    );
    Ok(())
}
