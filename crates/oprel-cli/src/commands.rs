//! The commands that answer at once; `run` is in `generate`.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use oprel::{
    EmbedRequest, Executor, KvTypes, Model, ModelBuilder, ModelSource, OprelError, Ranked, RawChat,
    RerankRequest, Template, TokenizeOptions,
};
use oprel_api::ollama::ModelRef;
use oprel_hub::Reference;
use serde_json::{Value, json};

use crate::args::{Command, Embed, ExecArg, Load, Logits, Render, Rerank, Show, Size, Tokenize};
use crate::outcome::harmless;
use crate::{
    bench, cache, chat, config, convert, daemon, engine, generate, pages, store, transfer,
};

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    if !command.is_internal() {
        config::warn()?;
    }
    match command {
        Command::Config(command) => config::run(&command),
        Command::Run(args) => generate::run(&args),
        Command::Chat(args) => chat::run(&args.model, &args.ask),
        Command::Tokenize(args) => tokenize(&args),
        Command::Show(args) => show(&args),
        Command::Embed(args) => embed(&args),
        Command::Rerank(args) => rerank(&args),
        Command::Render(args) => render(args),
        Command::Logits(args) => logits(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Plan(args) => crate::plan::run(&args),
        Command::Info(args) => crate::machine::info(&args),
        Command::Doctor(args) => crate::machine::check(&args),
        Command::Serve(args) if args.install => crate::platform::install(&args),
        Command::Serve(args) => crate::serve::run(&args),
        Command::List(args) => store::list(&args),
        Command::Cp(args) => store::copy(&args),
        Command::Rm(args) => store::remove(&args),
        Command::Create(args) => store::create(&args),
        Command::Verify(args) => store::verify(&args),
        Command::Backend(command) => crate::backend::run(&command),
        Command::Cache(command) => cache::run(&command),
        Command::Convert(args) => convert::convert(&args),
        Command::Quantize(args) => convert::quantize(&args),
        Command::Imatrix(args) => convert::imatrix(&args),
        Command::Perplexity(args) => convert::perplexity(&args),
        Command::Gguf(command) => convert::gguf(&command),
        Command::Pull(args) => transfer::pull(&args),
        Command::Push(args) => transfer::push(&args),
        Command::Search(args) => transfer::search(&args),
        Command::ListModels(args) => transfer::list_models(&args),
        Command::Ps(args) => daemon::ps(&args),
        Command::Stop(args) => daemon::stop(&args),
        Command::Key(command) => crate::key::run(&command),
        Command::Completions { shell } => pages::completions(shell),
        Command::Man { folder } => pages::manual(folder.as_deref()),
        Command::Worker => oprel::run_worker().context("this is started by `oprel serve`"),
        #[cfg(unix)]
        Command::Leash { parent, program, args } => {
            let error = oprel_backend::leash(parent, &program, &args);
            Err(error).context(format!("cannot run {}", program.display()))
        }
    }
}

/// Which model a user means.
pub(crate) enum Meant {
    /// A file, or the built-in model.
    Source(ModelSource),
    /// One that has a name, in the store or at a server.
    Named(String),
}

/// `demo` is the built-in model; what looks like a path or is a file is one; anything else is a name, and an address
/// is the name under which its model is kept.
pub(crate) fn meant(model: &str) -> Meant {
    if model.contains("://")
        && let Ok(Reference { name: Some(name), .. }) = Reference::parse(model)
    {
        return Meant::Named(name.to_string());
    }
    match ModelRef::parse(model) {
        Ok(ModelRef::Demo) => Meant::Source(ModelSource::Demo),
        Ok(ModelRef::Name(_)) if !is_there(Path::new(model)) => Meant::Named(model.into()),
        _ => Meant::Source(ModelSource::File(model.into())),
    }
}

/// Whether there is something that may be a file.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir())
}

/// The file of a model.
///
/// # Errors
/// If the store has no model of this name.
pub(crate) fn source(model: &str) -> Result<ModelSource, OprelError> {
    match meant(model) {
        Meant::Source(source) => Ok(source),
        Meant::Named(name) => oprel::locate(&name),
    }
}

/// A model that is to be loaded in this process, as arguments say, else as settings do.
pub(crate) fn builder(model: &str, load: &Load) -> Result<ModelBuilder, OprelError> {
    let set = config::get()?;
    let model = match meant(model) {
        Meant::Source(source) => Model::builder(source),
        Meant::Named(name) => Model::named(name),
    };
    let mut builder = model.kv(load.size.kv()?);
    if let Some(tokens) = load.size.ctx_size.or(set.number("context_length").filter(|n| *n > 0)) {
        builder = builder.context(tokens);
    }
    if let Some(threads) = load.size.threads.or(set.number("threads").filter(|n| *n > 0)) {
        builder = builder.threads(threads);
    }
    if let Some(tokens) = load.size.batch_size()? {
        builder = builder.batch(tokens);
    }
    if let Some((folder, bytes)) = load.prompt_cache()? {
        builder = builder.prompt_cache(folder, bytes);
    }
    if let Some(bytes) = most_memory()? {
        builder = builder.max_memory(bytes);
    }
    builder = builder.overcommit(load.overcommits()?);
    Ok(match set.text("isa") {
        Some(isa) => builder.isa(isa),
        None => builder,
    })
}

/// Most bytes that a model may need, if that is set.
pub(crate) fn most_memory() -> Result<Option<u64>, OprelError> {
    let megabytes = config::get()?.number::<u64>("max_memory_mb").filter(|n| *n > 0);
    Ok(megabytes.map(|megabytes| megabytes.saturating_mul(1 << 20)))
}

/// The smaller model that proposes tokens where it can: as it was typed, else as it is set.
///
/// # Errors
/// If the store has no model of this name.
pub(crate) fn usual_draft(typed: Option<&str>) -> Result<Option<ModelSource>, OprelError> {
    let set = config::get()?.text("draft").map(oprel_config::expanded);
    let set = set.map(|text| text.to_string_lossy().into_owned());
    typed.map(str::to_owned).or(set).map(|draft| source(&draft)).transpose()
}

/// What arguments leave to the settings.
impl Size {
    pub(crate) fn kv(&self) -> Result<KvTypes, OprelError> {
        let wrong = |text: &str| {
            OprelError::validation(format!(
                "the setting kv_cache_type is '{text}', which is no type"
            ))
        };
        match (self.kv, config::get()?.text("kv_cache_type")) {
            (Some(kv), _) => Ok(kv),
            (None, Some(text)) => text.parse().map_err(|_| wrong(text)),
            (None, None) => Ok(KvTypes::default()),
        }
    }

    pub(crate) fn batch_size(&self) -> Result<Option<u32>, OprelError> {
        Ok(self.batch_size.or(config::get()?.number("batch_size").filter(|n| *n > 0)))
    }
}

/// What arguments leave to the settings.
impl Load {
    pub(crate) fn overcommits(&self) -> Result<bool, OprelError> {
        Ok(self.overcommit || config::get()?.is_on("overcommit"))
    }

    /// The folder, and most bytes in it.
    pub(crate) fn prompt_cache(&self) -> Result<Option<(PathBuf, u64)>, OprelError> {
        let set = config::get()?;
        let megabytes = self.prompt_cache_size.or(set.number("prompt_cache_size")).unwrap_or(4096);
        let folder = self.prompt_cache.clone().or_else(|| set.path("prompt_cache"));
        Ok(folder.map(|folder| (folder, megabytes.saturating_mul(1 << 20))))
    }
}

impl Command {
    /// Whether this is started by another process of ours.
    fn is_internal(&self) -> bool {
        match self {
            Command::Worker => true,
            #[cfg(unix)]
            Command::Leash { .. } => true,
            _ => false,
        }
    }
}

/// All of standard input as text.
pub(crate) fn stdin_text() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
    let text = String::from_utf8(bytes);
    text.map_err(|_| OprelError::validation("standard input is not UTF-8 text").into())
}

pub(crate) fn print(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn tokenize(args: &Tokenize) -> anyhow::Result<()> {
    let text = match &args.text {
        Some(text) => text.clone(),
        None => stdin_text()?,
    };
    let options = TokenizeOptions {
        add_special: !args.no_special,
        parse_special: args.parse_special || !args.no_special,
    };
    let ids = oprel::tokenize(&source(&args.model)?, &text, options)?;
    if args.json {
        return print(&json!(ids).to_string());
    }
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    print(&ids.join(" "))
}

fn show(args: &Show) -> anyhow::Result<()> {
    let is_there = args.at.server.is_some() || matches!(meant(&args.model), Meant::Named(_));
    if let Some(client) = args.at.elsewhere()?.filter(|_| is_there) {
        let shown = client.show(&args.model, args.verbose).map_err(OprelError::from)?;
        return match store::part_of_answer(&shown, args) {
            Some(part) => print(harmless(part).trim_end()),
            None if args.json => print(&serde_json::to_string_pretty(&shown)?),
            None => tell_show(&serde_json::from_value(shown)?, args),
        };
    }
    let stored = store::stored(&args.model)?;
    let (source, template) = match &stored {
        Some(model) => match store::show_part(model, args)? {
            store::Shown::Done => return Ok(()),
            store::Shown::File(path, template) => (ModelSource::File(path), template),
        },
        None => (source(&args.model)?, None),
    };
    let show = match template {
        Some(template) => oprel::show_with_template(&source, &template, args.verbose)?,
        None => oprel::show(&source, args.verbose)?,
    };
    if let Some(part) = store::part_of_file(&show, args)? {
        return print(&harmless(&part));
    }
    let body = serde_json::to_value(store::show_body(show, stored.as_ref(), &args.model))?;
    match args.json {
        true => print(&serde_json::to_string_pretty(&body)?),
        false => tell_show(&serde_json::from_value(body)?, args),
    }
}

fn tell_show(show: &oprel::Show, args: &Show) -> anyhow::Result<()> {
    print(&harmless(&summary(show)))?;
    for (what, text) in [("Parameters", &show.parameters), ("System", &show.system)] {
        if !text.is_empty() {
            let lines: String = text.lines().map(|line| format!("\n  {line}")).collect();
            print(&harmless(&format!("\n{what}{lines}")))?;
        }
    }
    if args.verbose {
        print("\nMetadata")?;
        for (key, value) in &show.model_info {
            print(&harmless(&format!("  {key:<44}{}", shortened(value))))?;
        }
        print("\nTensors")?;
        for t in &show.tensors {
            let (name, ty) = (t["name"].as_str().unwrap_or(""), t["type"].as_str().unwrap_or(""));
            print(&harmless(&format!("  {name:<44}{ty:<9}{}", t["shape"])))?;
        }
    }
    Ok(())
}

/// What a model is, in a few lines.
pub(crate) fn summary(show: &oprel::Show) -> String {
    let info = |key: &str| {
        let full = format!("{}.{key}", show.details.family);
        show.model_info.get(&full).map(Value::to_string)
    };
    let mut out = String::new();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|v| !v.is_empty() && v != "null") {
            out.push_str(&format!("  {name:<18}{value}\n"));
        }
    };
    line("architecture", Some(show.details.family.clone()));
    line("parameters", Some(show.details.parameter_size.clone()));
    line("context length", info("context_length"));
    line("embedding length", info("embedding_length"));
    line("layers", info("block_count"));
    line("quantization", Some(show.details.quantization_level.clone()));
    line("capabilities", Some(show.capabilities.join(", ")));
    line("license", Some(show.license.lines().next().unwrap_or_default().to_string()));
    format!("Model\n{}", out.trim_end())
}

/// A value on one line: long ones are cut.
fn shortened(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= MOST {
        return text;
    }
    text.chars().take(MOST).chain("...".chars()).collect()
}

fn embed(args: &Embed) -> anyhow::Result<()> {
    let texts = match args.text.is_empty() {
        true => vec![stdin_text()?.trim_end_matches(['\r', '\n']).to_string()],
        false => args.text.clone(),
    };
    let model = engine::open(&args.model, &args.load, &args.place, None)?;
    let request = EmbedRequest { dimensions: args.dimensions, ..EmbedRequest::new(texts) };
    let made = model.embed(&request)?;
    if args.json {
        let answer = json!({
            "model": args.model,
            "embeddings": made.vectors,
            "total_duration": made.usage.total_ns,
            "load_duration": model.load_time().as_nanos() as u64,
            "prompt_eval_count": made.usage.prompt_tokens,
        });
        return print(&answer.to_string());
    }
    made.vectors.iter().try_for_each(|v| print(&json!(v).to_string()))
}

fn rerank(args: &Rerank) -> anyhow::Result<()> {
    let documents = match args.document.is_empty() {
        true => stdin_text()?.lines().map(str::to_string).collect(),
        false => args.document.clone(),
    };
    let model = engine::open(&args.model, &args.load, &args.place, None)?;
    let mut request = RerankRequest::new(&args.query, documents);
    request.top_n = args.top_n;
    let ranking = model.rerank(&request)?;
    if args.json {
        let result = |r: &Ranked| json!({"index": r.index, "relevance_score": r.score});
        let tokens = ranking.usage.prompt_tokens;
        let answer = json!({
            "model": args.model,
            "object": "list",
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "results": ranking.results.iter().map(result).collect::<Vec<_>>(),
        });
        return print(&answer.to_string());
    }
    ranking.results.iter().try_for_each(|r| {
        print(&harmless(&format!("{:.6}\t{}", r.score, request.documents[r.index as usize])))
    })
}

fn render(args: Render) -> anyhow::Result<()> {
    let list = |path: &Path, what: &str| -> anyhow::Result<Vec<Value>> {
        match read_json(path)? {
            Value::Array(items) => Ok(items),
            // A whole request: its list is under the name.
            Value::Object(mut all) => match all.remove(what) {
                Some(Value::Array(items)) => Ok(items),
                _ => Err(not_a(path, "a JSON list")),
            },
            _ => Err(not_a(path, "a JSON list")),
        }
    };
    let kwargs = match &args.kwargs {
        None => Default::default(),
        Some(text) => serde_json::from_str(text)
            .map_err(|e| OprelError::validation(format!("--kwargs is no JSON object: {e}")))?,
    };
    let chat = RawChat {
        messages: list(&args.messages, "messages")?,
        tools: args.tools.as_deref().map(|p| list(p, "tools")).transpose()?,
        kwargs,
        add_generation_prompt: !args.no_generation_prompt,
    };
    let template = match (args.template, args.model) {
        (Some(path), _) => Template::File { path, bos: args.bos, eos: args.eos },
        (None, Some(model)) => Template::Model(source(&model)?),
        (None, None) => return Err(OprelError::validation("give a model or --template").into()),
    };
    let text = oprel::render(&template, &chat)?;
    if args.json {
        return print(&json!({"prompt": text}).to_string());
    }
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read '{}'", path.display()))?;
    serde_json::from_str(&text).map_err(|e| not_a(path, &format!("JSON: {e}")))
}

fn not_a(path: &Path, what: &str) -> anyhow::Error {
    OprelError::validation(format!("'{}' is not {what}", path.display())).into()
}

fn logits(args: &Logits) -> anyhow::Result<()> {
    let n = args.tokens.len();
    let mut builder = builder(&args.model, &args.load)?.executor(match args.exec {
        ExecArg::Cpu => Executor::Cpu,
        ExecArg::Candle => Executor::Candle,
    });
    if args.load.size.ctx_size.is_none() {
        builder = builder.context(n as u32 + 1);
    }
    let model = builder.load()?;
    let pieces = args.split.into_iter().collect();
    let logits = model.logits(args.tokens.clone(), pieces)?;
    let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    let shape = vec![n, model.n_vocab()];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &bytes)?;
    let file = safetensors::serialize([("logits", view)], None)?;
    std::fs::write(&args.out, file)
        .with_context(|| format!("cannot write '{}'", args.out.display()))?;
    match args.json {
        true => print(&json!({"out": args.out, "shape": [n, model.n_vocab()]}).to_string()),
        false => Ok(()),
    }
}

/// Whether a person sits in front of both ends.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}
