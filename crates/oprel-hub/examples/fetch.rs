//! Fetches the file at an address: `fetch URL PATH [SHA256]`. Says how long it took and how much memory.

use std::time::{Duration, Instant};

use oprel_hub::fetch::{Fetcher, Url};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, path, rest @ ..] = args.as_slice() else {
        return Err("fetch URL PATH [SHA256]".into());
    };
    let url: Url = url.parse()?;
    let digest = rest.first().map(|text| text.parse()).transpose()?;
    let started = Instant::now();
    let download = Fetcher::from_env()?.file(&url, None, digest, path.as_ref())?;
    let tell = |progress: oprel_hub::fetch::Progress| {
        eprint!("\r{} of {} MB", progress.completed / 1_000_000, progress.total / 1_000_000);
    };
    let fetched = download.watch(Duration::from_millis(500), &tell).await;
    let fetched =
        fetched.inspect_err(|error| eprintln!("\n{}", error.hint().unwrap_or_default()))?;
    let seconds = started.elapsed().as_secs_f64();
    let rate = fetched.size as f64 / 1e6 / seconds;
    eprintln!("\n{} bytes, {seconds:.2} s, {rate:.0} MB/s", fetched.size);
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        status
            .lines()
            .filter(|line| line.starts_with("VmHWM"))
            .for_each(|line| eprintln!("{line}"));
    }
    Ok(())
}
