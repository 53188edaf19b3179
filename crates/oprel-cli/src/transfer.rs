//! `oprel pull`, `push`, `search`, `list-models`: between the store and where models come from.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use indicatif::{MultiProgress, ProgressBar};
use oprel::{Client, OprelError};
use oprel_hub::catalog::Alias;
use oprel_hub::fetch::{self, Found, Status};
use oprel_hub::{Access, Reference, Source, Store};
use serde_json::json;

use crate::args::{ListModels, Push, Search, Transfer};
use crate::columns::{bytes, table};
use crate::commands::print;
use crate::interrupt;
use crate::outcome::{harmless, tell};
use crate::store::{follow, name, open};
use crate::terminal::bar_style;

/// A bar that moves and takes what the line has left, with bytes, rate and the time that is left.
const MOVING: &str = "{msg}: {percent:>3}% ▕{wide_bar}▏ {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta}";
/// How often it is looked whether Ctrl-C was pressed.
const LOOKED_EVERY: Duration = Duration::from_millis(50);
/// What a search without hits comes to.
const NOTHING: &str = "nothing was found; fewer words find more";
/// What is no bar.
const LINE: &str = "{msg}";
/// One that is done.
const DONE: &str = "{msg}: {percent:>3}% ▕{wide_bar}▏ {decimal_total_bytes}";

pub(crate) fn pull(args: &Transfer) -> anyhow::Result<()> {
    let (way, told) = (&args.way, Told::new(args.way.json));
    match way.at.elsewhere()? {
        Some(client) => fetch_there(&client, &args.model, way.insecure, &told),
        None => {
            interrupt::watch()?;
            fetch(&args.model, way.insecure, &told)
        }
    }
}

/// Has a daemon fetch a model.
pub(crate) fn fetch_there(
    client: &Client,
    model: &str,
    insecure: bool,
    told: &Told,
) -> anyhow::Result<()> {
    follow(client, "/api/pull", json!({"model": model, "insecure": insecure}), told)
}

/// Fetches a model that is not here, and tells how far it is on standard error.
pub(crate) fn fetch_absent(model: &str) -> anyhow::Result<()> {
    fetch(model, false, &Told::new(false))
}

/// Fetches the model that another one is made of.
pub(crate) fn fetch_base(store: &Store, base: &Reference, told: &Told) -> anyhow::Result<()> {
    let fetcher = oprel::fetcher()?;
    let work = async {
        let tell = |status: Status| told.tell(&status);
        oprel_hub::pull_base(&fetcher, store, base, &tell).await
    };
    Ok(wait(work)?.map_err(OprelError::from)?)
}

/// Of a model that is neither here nor there, both are told.
pub(crate) fn instead(error: anyhow::Error, absent: anyhow::Error) -> anyhow::Error {
    match error.downcast::<OprelError>() {
        Ok(OprelError::Download { message, hint, .. }) => OprelError::ModelNotFound {
            message: format!("{absent}, and it cannot be fetched: {message}"),
            hint,
            source: None,
        }
        .into(),
        Ok(other) => other.into(),
        Err(other) => other,
    }
}

fn fetch(model: &str, insecure: bool, told: &Told) -> anyhow::Result<()> {
    let (store, fetcher) = (open(Access::Write)?, oprel::fetcher()?);
    let catalog = oprel::catalog()?;
    let reference = Reference::resolve(model, &catalog, &store).map_err(OprelError::from)?;
    match &reference.source {
        Source::Demo => {
            // It is part of the program.
            told.tell(&Status { status: "success".into(), ..Status::default() });
            return Ok(());
        }
        Source::File(path) => {
            return Err(OprelError::Validation {
                message: format!("'{path}' is a path: nothing is fetched, it runs where it is"),
                hint: Some(format!("oprel run {path}")),
                source: None,
            }
            .into());
        }
        _ => {}
    }
    let work = async {
        let tell = |status: Status| told.tell(&status);
        oprel_hub::pull(&fetcher, &store, &reference, insecure, &tell).await
    };
    Ok(wait(work)?.map_err(OprelError::from)?)
}

pub(crate) fn push(args: &Push) -> anyhow::Result<()> {
    let (way, told) = (&args.way, Told::new(args.way.json));
    if let Some(client) = way.at.elsewhere()? {
        let body = json!({"model": args.model, "insecure": way.insecure});
        return follow(&client, "/api/push", body, &told);
    }
    let (store, fetcher) = (open(Access::Write)?, oprel::fetcher()?);
    let name = name(&args.model)?;
    let work = async {
        let tell = |status: Status| told.tell(&status);
        oprel_hub::push(&fetcher, &store, &name, way.insecure, &tell).await
    };
    Ok(wait(work)?.map_err(OprelError::from)?)
}

/// Waits for work that speaks to others, or for Ctrl-C where that is watched for.
pub(crate) fn wait<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of a download")?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = work => Some(done),
            () = pressed() => None,
        }
    });
    // What was begun notes what has come before it ends.
    drop(runtime);
    done.ok_or_else(|| OprelError::from(fetch::Error::Stopped).into())
}

/// Comes back once Ctrl-C was pressed.
async fn pressed() {
    while !interrupt::is_pressed() {
        tokio::time::sleep(LOOKED_EVERY).await;
    }
}

/// How far it is, told: as bars on a terminal, as lines elsewhere, or as JSON.
pub(crate) struct Told {
    json: bool,
    bars: Option<MultiProgress>,
    files: Mutex<HashMap<String, ProgressBar>>,
    last: Mutex<String>,
}

impl Told {
    pub(crate) fn new(json: bool) -> Told {
        let bars = (!json && std::io::stderr().is_terminal()).then(MultiProgress::new);
        Told { json, bars, files: Mutex::default(), last: Mutex::default() }
    }

    pub(crate) fn tell(&self, status: &Status) {
        if self.json {
            // That nobody reads it stops no download.
            let line = serde_json::to_string(status).unwrap_or_default();
            let _ = print(&line);
            return;
        }
        match &self.bars {
            Some(bars) if status.total > 0 => self.bar(bars, status),
            _ => self.line(status),
        }
    }

    fn bar(&self, bars: &MultiProgress, status: &Status) {
        let Ok(mut files) = self.files.lock() else { return };
        let bar = files.entry(status.status.clone()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(status.total));
            bar.set_style(bar_style(MOVING));
            bar.set_message(harmless(&status.status));
            bar.enable_steady_tick(Duration::from_millis(200));
            // What was there before is no speed.
            bar.set_position(status.completed);
            bar.reset_eta();
            bar
        });
        bar.set_position(status.completed);
        if status.completed >= status.total && !bar.is_finished() {
            bar.set_style(bar_style(DONE));
            bar.finish();
        }
    }

    /// A line for what is new; of files only that they have begun.
    fn line(&self, status: &Status) {
        let Ok(mut last) = self.last.lock() else { return };
        if *last == status.status {
            return;
        }
        last.clone_from(&status.status);
        let text = match status.total {
            0 => status.status.clone(),
            total => format!("{} ({})", status.status, bytes(total)),
        };
        match &self.bars {
            // Among the bars, not above them: it was said after those that are done.
            Some(bars) => {
                let line = bars.add(ProgressBar::new(0));
                line.set_style(bar_style(LINE));
                line.finish_with_message(harmless(&text));
            }
            None => tell(&text),
        }
    }
}

pub(crate) fn search(args: &Search) -> anyhow::Result<()> {
    let words = args.words.join(" ");
    let catalog = oprel::catalog()?;
    let known = catalog.search(&words);
    let found = match args.offline {
        true => Ok(Vec::new()),
        false => {
            let fetcher = oprel::fetcher()?;
            wait(async { fetcher.search(&words, args.limit).await })?
        }
    };
    match found {
        Ok(found) => tell_found(args, &known, &found),
        // What the catalogue knows needs no hub.
        Err(error) => {
            if !known.is_empty() {
                tell_found(args, &known, &[])?;
            }
            Err(OprelError::from(error).into())
        }
    }
}

fn tell_found(args: &Search, known: &[&Alias], found: &[Found]) -> anyhow::Result<()> {
    if args.json {
        let found: Vec<_> = found
            .iter()
            .map(|found| {
                let variants = found.variants.iter().map(|v| json!({"tag": v.tag, "size": v.size}));
                json!({
                    "name": format!("hf.co/{}", found.repo), "downloads": found.downloads,
                    "likes": found.likes, "gated": found.is_gated,
                    "architecture": found.architecture, "parameters": found.parameters,
                    "context_length": found.context_length,
                    "variants": variants.collect::<Vec<_>>(),
                })
            })
            .collect();
        return print(&json!({"catalog": known, "hub": found}).to_string());
    }
    if known.is_empty() && found.is_empty() {
        return print(NOTHING);
    }
    if !known.is_empty() {
        aliases(known)?;
    }
    if found.is_empty() {
        return Ok(());
    }
    print("")?;
    let rows = found.iter().map(|found| {
        let variants = found.variants.iter().map(|v| format!("{} {}", v.tag, bytes(v.size)));
        let gated = if found.is_gated { " (ask its owner)" } else { "" };
        let variants: Vec<String> = variants.take(6).collect();
        [format!("hf.co/{}{gated}", found.repo), found.downloads.to_string(), variants.join(", ")]
    });
    let heads = ["REPOSITORY", "DOWNLOADS", "QUANTS"].map(String::from);
    table(std::iter::once(heads).chain(rows).collect())
}

pub(crate) fn list_models(args: &ListModels) -> anyhow::Result<()> {
    let catalog = oprel::catalog()?;
    let known: Vec<&Alias> = match args.words.is_empty() {
        true => catalog.aliases().collect(),
        false => catalog.search(&args.words.join(" ")),
    };
    if args.json {
        return print(&json!({"models": known}).to_string());
    }
    match known.is_empty() {
        true => print(NOTHING),
        false => aliases(&known),
    }
}

fn aliases(known: &[&Alias]) -> anyhow::Result<()> {
    let rows = known.iter().map(|alias| {
        let runs = if alias.native { "yes" } else { "llama-server" };
        let size = if alias.about_bytes == 0 { "-".into() } else { bytes(alias.about_bytes) };
        let text = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        [
            alias.name.clone(),
            text(&alias.parameters),
            size,
            if alias.context == 0 { "-".into() } else { alias.context.to_string() },
            runs.into(),
            text(&alias.license),
            text(&alias.good_for),
        ]
    });
    let heads = ["NAME", "WEIGHTS", "ABOUT", "CONTEXT", "RUNS", "LICENCE", "GOOD FOR"];
    table(std::iter::once(heads.map(String::from)).chain(rows).collect())
}
