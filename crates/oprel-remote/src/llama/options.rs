//! How a model is loaded, in the words of llama.cpp's server: typed, and within what it takes.

use std::ffi::OsString;

use oprel_api::{ErrorKind, Failure};
use oprel_backend::{Capability, LoadOptions};

/// Sequences that run at a time, where nobody says otherwise.
const USUAL_PARALLEL: u32 = 4;
/// Context length of each, likewise: its memory is taken at once.
const USUAL_CONTEXT: u32 = 4096;
const MOST_PARALLEL: u32 = 64;
const MOST_CONTEXT: u32 = 1 << 22;
const MOST_THREADS: usize = 512;
const MOST_BATCH: u32 = 8192;
const MOST_LAYERS: i32 = 9999;

/// The arguments for these options, and for a model that can do this.
///
/// # Errors
/// By the name of an option that is out of its range, or that this program does not have.
pub(super) fn arguments(
    options: &LoadOptions,
    can: &[Capability],
) -> Result<Vec<OsString>, Failure> {
    if options.draft.is_some() {
        return Err(wrong("a model that proposes tokens is not supported by llama-server"));
    }
    if options.prompt_cache.is_some() {
        tracing::warn!("llama-server keeps no prompts on disk");
    }
    let parallel = within("parallel", options.parallel.unwrap_or(USUAL_PARALLEL), MOST_PARALLEL)?;
    let context = within("ctx_size", options.context.unwrap_or(USUAL_CONTEXT), MOST_CONTEXT)?;
    let mut arguments: Vec<OsString> = [
        "--parallel",
        &parallel.to_string(),
        // It divides what it is given among its sequences.
        "--ctx-size",
        &context.saturating_mul(parallel).to_string(),
        "--cache-type-k",
        options.kv.k.in_floats().name(),
        "--cache-type-v",
        options.kv.v.in_floats().name(),
        // Gigabytes otherwise, without being asked.
        "--cache-ram",
        "0",
        "--jinja",
        "--no-webui",
        "--offline",
    ]
    .map(OsString::from)
    .into();
    // What makes vectors makes nothing else.
    let vectors = [(Capability::Embedding, "--embeddings"), (Capability::Rerank, "--reranking")];
    let wanted = vectors.into_iter().filter(|(what, _)| can.contains(what));
    arguments.extend(wanted.map(|(_, argument)| argument.into()));
    if let Some(threads) = options.threads {
        let threads = within("threads", threads, MOST_THREADS)?;
        arguments.extend(["--threads".into(), threads.to_string().into()]);
    }
    if let Some(batch) = options.batch {
        let batch = within("batch_size", batch, MOST_BATCH)?.to_string();
        arguments.extend(["--ubatch-size", &batch, "--batch-size", &batch].map(OsString::from));
    }
    if let Some(layers) = options.gpu_layers {
        // What is more than there are means all.
        let layers = if layers < 0 { MOST_LAYERS } else { layers };
        arguments.extend(["--n-gpu-layers".into(), layers.to_string().into()]);
    }
    Ok(arguments)
}

fn within<T>(option: &str, value: T, most: T) -> Result<T, Failure>
where
    T: PartialOrd + From<u8> + std::fmt::Display,
{
    if value < T::from(1) || value > most {
        return Err(wrong(&format!("{option} must be between 1 and {most}, not {value}")));
    }
    Ok(value)
}

fn wrong(message: &str) -> Failure {
    Failure::new(ErrorKind::Validation, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(options: &LoadOptions) -> Result<String, Failure> {
        let arguments = arguments(options, &[])?;
        Ok(arguments.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn options_become_arguments_within_their_ranges() {
        let options = LoadOptions {
            context: Some(512),
            parallel: Some(2),
            threads: Some(3),
            kv: "q8_0,f16".parse().unwrap(),
            ..LoadOptions::default()
        };
        let said = line(&options).unwrap();
        assert!(
            said.starts_with("--parallel 2 --ctx-size 1024 --cache-type-k q8_0 --cache-type-v f16")
        );
        assert!(said.ends_with("--threads 3"), "{said}");
        let usual = line(&LoadOptions::default()).unwrap();
        assert!(usual.contains("--cache-type-k f16 --cache-type-v f16"), "{usual}");
        let ranks = arguments(&options, &[Capability::Rerank]).unwrap();
        assert!(ranks.contains(&"--reranking".into()));
        assert!(!line(&LoadOptions::default()).unwrap().contains("--threads"));
        for (wrong, name) in [
            (LoadOptions { context: Some(0), ..LoadOptions::default() }, "ctx_size"),
            (LoadOptions { parallel: Some(65), ..LoadOptions::default() }, "parallel"),
            (LoadOptions { threads: Some(0), ..LoadOptions::default() }, "threads"),
            (LoadOptions { batch: Some(0), ..LoadOptions::default() }, "batch_size"),
        ] {
            assert!(line(&wrong).unwrap_err().message.starts_with(name));
        }
    }
}
