//! Opens a file ten times and says how long it took: `cargo run --release --example open -- FILE...`

use std::time::Instant;

use oprel_gguf::Gguf;

fn main() {
    for path in std::env::args().skip(1) {
        let mut best = f64::INFINITY;
        for _ in 0..10 {
            let start = Instant::now();
            let model = Gguf::open(&path);
            best = best.min(start.elapsed().as_secs_f64() * 1e3);
            if let Err(e) = model {
                println!("{e}\n  {}", e.hint());
                return;
            }
        }
        println!("{best:8.2} ms  {path}");
    }
}
