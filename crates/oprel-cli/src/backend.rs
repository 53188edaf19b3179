//! `oprel backend`: llama.cpp's server, installed, listed and removed.

use std::path::Path;

use anyhow::Context;
use oprel::OprelError;
use oprel_hub::Digest;
use oprel_hub::backends::{Error, Folder, Installed, LLAMA_RELEASES, Platform, Version, Wanted};
use oprel_hub::fetch::{Progress, Status};
use serde_json::{Value, json};

use crate::args::{BackendCommand, Install, ProgramArg};
use crate::columns::table;
use crate::commands::print;
use crate::interrupt;
use crate::outcome::harmless;
use crate::transfer::{Told, wait};

pub(crate) fn run(command: &BackendCommand) -> anyhow::Result<()> {
    match command {
        BackendCommand::Install(args) => install(args),
        BackendCommand::List { json } => list(*json),
        BackendCommand::Remove { versions, json } => remove(versions, *json),
    }
}

fn install(args: &Install) -> anyhow::Result<()> {
    let ProgramArg::LlamaServer = args.program;
    let folder = folder()?;
    let set = crate::config::get()?;
    let source = args.source.as_deref().or(set.text("backend_source")).unwrap_or(LLAMA_RELEASES);
    let digest = args.sha256.as_deref().map(str::parse::<Digest>).transpose();
    let wanted = Wanted {
        source: source.to_owned(),
        version: args.version.as_deref().map(version).transpose()?,
        variant: args.variant.clone(),
        digest: digest.map_err(|error| OprelError::validation(error.to_string()))?,
        platform: Platform::here(),
    };
    let fetcher = oprel::fetcher()?;
    let told = Told::new(args.json);
    let tell = |name: &str, digest, Progress { completed, total, .. }: Progress| {
        let status = format!("pulling {name}");
        told.tell(&Status { status, digest: Some(digest), total, completed });
    };
    interrupt::watch()?;
    let work = oprel_hub::backends::install(&fetcher, &folder, &wanted, &says, &tell);
    let outcome = wait(work)?.map_err(OprelError::from)?;
    let installed = &outcome.installed;
    if args.json {
        let done =
            json!({"status": "success", "installed": !outcome.was_there, "says": outcome.says});
        return print(&merged(done, shown(installed)).to_string());
    }
    let (version, program) = (installed.version, installed.program.display());
    let what = if outcome.was_there { "is installed already" } else { "is installed" };
    print(&harmless(&format!("llama-server {version} {what}: {program}")))
}

fn list(json: bool) -> anyhow::Result<()> {
    let all = folder()?.installed();
    let used = used();
    let is_used = |installed: &Installed| used.as_deref() == Some(installed.program.as_path());
    if json {
        let one = |installed| merged(shown(installed), json!({"used": is_used(installed)}));
        let all: Vec<Value> = all.iter().map(one).collect();
        return print(&json!({"backends": all, "used": used}).to_string());
    }
    let rows = all.iter().map(|installed| {
        let used = if is_used(installed) { "yes" } else { "-" };
        let asset = installed.record.as_ref().map_or("-", |record| record.asset.as_str());
        let folder = installed.folder.display().to_string();
        [Folder::PROGRAM, &installed.version.to_string(), used, asset, &folder].map(harmless)
    });
    let heads = ["NAME", "VERSION", "USED", "FROM", "FOLDER"].map(String::from);
    table(std::iter::once(heads).chain(rows).collect())?;
    match used.filter(|used| !all.iter().any(|installed| installed.program == *used)) {
        Some(other) => print(&harmless(&format!("used is {}", other.display()))),
        None => Ok(()),
    }
}

fn remove(versions: &[String], json: bool) -> anyhow::Result<()> {
    let folder = folder()?;
    for text in versions {
        let version = version(text)?;
        folder.remove(version).map_err(OprelError::from)?;
        match json {
            true => print(&json!({"removed": version.to_string()}).to_string())?,
            false => print(&format!("removed llama-server {version}"))?,
        }
    }
    Ok(())
}

/// Which version a program says it is.
fn says(program: &Path) -> Result<String, String> {
    let version = oprel_remote::version(program);
    version.map(|version| version.to_string()).map_err(|failure| failure.message)
}

/// The program that the server would start.
fn used() -> Option<std::path::PathBuf> {
    oprel_remote::find()
}

fn shown(installed: &Installed) -> Value {
    let record = installed.record.as_ref();
    json!({
        "name": Folder::PROGRAM,
        "version": installed.version.to_string(),
        "program": installed.program,
        "asset": record.map(|record| &record.asset),
        "digest": record.map(|record| &record.digest),
        "url": record.map(|record| &record.url),
    })
}

/// One object with the fields of both.
fn merged(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(mut one), Value::Object(other)) => {
            one.extend(other);
            Value::Object(one)
        }
        (one, _) => one,
    }
}

fn version(text: &str) -> anyhow::Result<Version> {
    text.parse().map_err(|error: Error| OprelError::from(error).into())
}

fn folder() -> anyhow::Result<Folder> {
    let backends = oprel_config::backends();
    let backends =
        backends.context("set HOME, OPREL_HOME or OPREL_BACKENDS: backends have no place")?;
    Ok(Folder::of(&backends))
}
