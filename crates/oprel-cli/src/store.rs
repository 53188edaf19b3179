//! Commands over the store of models: `list`, `cp`, `rm`, `create`, `verify`, parts of `show`.

mod far;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use oprel::{Making, OprelError};
use oprel_api::Failure;
use oprel_api::ollama::{ModelName, ModelRef, Tag, Timestamp, parameter_lines};
use oprel_hub::fetch::Status;
use oprel_hub::modelfile::{self, Modelfile};
use oprel_hub::{Access, Damage, Entry, Error, Store, StoredModel};
use serde_json::{Value, json};

use crate::args::{Copy, Create, List, Remove, Show, Verify};
use crate::columns::{ago, bytes, table};
use crate::commands::{Meant, meant, print};
use crate::interrupt;
use crate::outcome::{harmless, tell};
use crate::terminal::Spinner;
use crate::transfer::{self, Told};
pub(crate) use far::follow;

/// Hexadecimal digits of a digest that are shown.
const ID: usize = 12;

pub(crate) fn list(args: &List) -> anyhow::Result<()> {
    let mut models = match args.at.elsewhere()? {
        Some(client) => client.list().map_err(OprelError::from)?,
        None => tags()?,
    };
    let prefix = args.prefix.clone().unwrap_or_default().to_lowercase();
    let name = |model: &Value| model["name"].as_str().unwrap_or_default().to_owned();
    models.retain(|model| name(model).to_lowercase().starts_with(&prefix));
    if args.json {
        return print(&json!({"models": models}).to_string());
    }
    let rows = models.iter().map(|model| {
        let changed = model["modified_at"].as_str().unwrap_or_default().parse();
        let changed = changed.map(|time: jiff::Timestamp| ago(time.into()));
        let size = bytes(model["size"].as_u64().unwrap_or(0));
        [name(model), short_id(model), size, changed.unwrap_or_else(|_| "-".into())]
    });
    let heads = ["NAME", "ID", "SIZE", "MODIFIED"].map(String::from);
    table(std::iter::once(heads).chain(rows).collect())
}

/// The first digits of a model's digest. Programs that read columns need one in each.
pub(crate) fn short_id(model: &Value) -> String {
    let id: String = model["digest"].as_str().unwrap_or_default().chars().take(ID).collect();
    if id.is_empty() { "-".into() } else { id }
}

/// The models of this user's store, as /api/tags has them. What cannot be read is told.
fn tags() -> anyhow::Result<Vec<Value>> {
    let store = open(Access::Read)?;
    let listing = store.list().map_err(OprelError::from)?;
    for broken in &listing.broken {
        tell(&format!("warning: {}", broken.why));
    }
    listing.models.iter().map(|entry| Ok(serde_json::to_value(tag(&store, entry))?)).collect()
}

/// A model as /api/tags has it, in the time of this place.
fn tag(store: &Store, entry: &Entry) -> Tag {
    // Of what cannot be read there is the name; `oprel verify` tells why.
    let name = entry.name.to_string();
    let bare = || Tag { model: name.clone(), name, size: entry.size, ..Tag::default() };
    let mut tag = store.tag(entry).unwrap_or_else(|_| bare());
    let here = jiff::Timestamp::try_from(entry.modified);
    let here = here.map(|time| jiff::tz::TimeZone::system().to_offset(time).seconds());
    tag.modified_at = Timestamp { offset_s: here.unwrap_or(0), ..entry.modified.into() };
    tag
}

pub(crate) fn copy(args: &Copy) -> anyhow::Result<()> {
    match args.at.elsewhere()? {
        Some(client) => {
            client.copy(&args.source, &args.destination).map_err(OprelError::from)?;
        }
        None => {
            let from = ModelRef::parse(&args.source).map_err(OprelError::from)?;
            let to = new_name(&args.destination)?;
            oprel::copy(&open(Access::Write)?, &from, &to).map_err(OprelError::from)?;
        }
    }
    print(&harmless(&format!("copied '{}' to '{}'", args.source, args.destination)))
}

pub(crate) fn remove(args: &Remove) -> anyhow::Result<()> {
    match args.at.elsewhere()? {
        Some(client) => removed(&args.models, |model| {
            client.remove(model).map_err(OprelError::from)?;
            Ok(())
        }),
        None => remove_here(&args.models),
    }
}

/// Removes models of this user's store.
pub(crate) fn remove_here(models: &[String]) -> anyhow::Result<()> {
    let store = open(Access::Write)?;
    removed(models, |model| {
        store.remove(&name(model)?).map_err(OprelError::from)?;
        Ok(())
    })
}

fn removed(models: &[String], remove: impl Fn(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for model in models {
        remove(model)?;
        print(&harmless(&format!("deleted '{model}'")))?;
    }
    Ok(())
}

pub(crate) fn create(args: &Create) -> anyhow::Result<()> {
    let called = new_name(&args.model)?;
    let (text, folder) = read_modelfile(args.file.as_deref())?;
    let file = Modelfile::parse(&text).map_err(|problem| OprelError::from(Error::from(problem)))?;
    for command in &file.commands {
        if let modelfile::Command::Parameter { name, .. } = command
            && modelfile::deprecated(name)
        {
            tell(&format!("warning: parameter {name} is deprecated"));
        }
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let mut recipe = file.resolve(&folder, home.as_deref()).map_err(OprelError::from)?;
    let quantize = args.quantize.as_deref().map(oprel::file_type).transpose();
    recipe.quantize = quantize.map_err(OprelError::from)?;
    let told = Arc::new(Told::new(args.json));
    if let Some(client) = args.at.elsewhere()? {
        return far::create(&client, &args.model, &recipe, &told);
    }
    let store = open(Access::Write)?;
    let base = oprel_hub::absent_base(&store, &oprel::catalog()?, &mut recipe);
    let base = base.map_err(OprelError::from)?;
    // What may take long is stopped by us; the rest is short, or not begun.
    if recipe.quantize.is_some() || base.is_some() {
        interrupt::watch()?;
    }
    if let Some(base) = base {
        transfer::fetch_base(&store, &base, &told)?;
    }
    oprel::create(&store, &called, &recipe, &mut |making| {
        told.tell(&status(making));
        interrupt::flow()
    })
    .map_err(OprelError::from)?;
    Ok(())
}

fn status(making: &Making) -> Status {
    let (total, completed) = match making {
        Making::Quantizing { total_bytes, done_bytes, .. } => (*total_bytes, *done_bytes),
        Making::Step(_) => (0, 0),
    };
    Status { status: making.to_string(), digest: None, total, completed }
}

/// A Modelfile and the folder that its paths are relative to. Where none was named and none is there, the folder
/// itself is what the model is made from.
fn read_modelfile(said: Option<&Path>) -> anyhow::Result<(Vec<u8>, PathBuf)> {
    let path = said.unwrap_or(Path::new("Modelfile"));
    match std::fs::read(path) {
        Ok(text) => {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            let folder = folder
                .canonicalize()
                .with_context(|| format!("cannot use '{}'", folder.display()))?;
            Ok((text, folder))
        }
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => match said {
            None => Ok((b"FROM .\n".to_vec(), std::env::current_dir()?)),
            Some(_) => {
                Err(OprelError::Validation {
                    message: format!("specified Modelfile wasn't found: {}", path.display()),
                    hint: Some("check the path; without -f a `Modelfile` in this folder is taken, else what is in it".into()),
                    source: None,
                }
                .into())
            }
        },
        Err(why) => Err(why).with_context(|| format!("cannot read '{}'", path.display())),
    }
}

pub(crate) fn verify(args: &Verify) -> anyhow::Result<()> {
    let store = open(if args.remove { Access::Write } else { Access::Read })?;
    let (mut n_files, mut n_bytes) = (0, 0);
    let mut read = |bytes: u64| {
        n_files += 1;
        n_bytes += bytes;
    };
    let spinner = Spinner::start("reading every byte");
    let damages = store.verify(&mut read).map_err(OprelError::from)?;
    drop(spinner);
    if args.json {
        let shown: Vec<Value> = damages.iter().map(damage).collect();
        print(&json!({"files": n_files, "bytes": n_bytes, "damaged": shown}).to_string())?;
    } else {
        for damage in &damages {
            print(&harmless(&line(damage)))?;
        }
        print(&format!("{n_files} files, {}, {} damaged", bytes(n_bytes), damages.len()))?;
    }
    if args.remove {
        let freed = store.remove_damaged(&damages).map_err(OprelError::from)?;
        tell(&format!("{} files removed", freed.files));
    }
    match damages.len() {
        0 => Ok(()),
        n => Err(OprelError::from(Failure {
            hint: Some(
                "take them away with --remove, then pull or create these models again".into(),
            ),
            ..Failure::new(oprel_api::ErrorKind::Backend, format!("{n} files are damaged"))
        })
        .into()),
    }
}

fn damage(damage: &Damage) -> Value {
    let models: Vec<String> = damage.models.iter().map(ModelName::to_string).collect();
    let path = damage.path.display().to_string();
    json!({"models": models, "path": path, "problem": damage.wrong.to_string()})
}

fn line(damage: &Damage) -> String {
    let models: Vec<String> = damage.models.iter().map(ModelName::to_string).collect();
    let models = if models.is_empty() { "no model".into() } else { models.join(", ") };
    format!("{models}: {}: {}", damage.path.display(), damage.wrong)
}

/// What is left to show of a model of the store.
pub(crate) enum Shown {
    /// Nothing.
    Done,
    /// Its file, and the chat template that it has instead of the file's.
    File(PathBuf, Option<String>),
}

/// The model of the store that a text names; `None` if it names a file, the demo or nothing in the store.
pub(crate) fn stored(text: &str) -> anyhow::Result<Option<StoredModel>> {
    let Meant::Named(said) = meant(text) else { return Ok(None) };
    let name = name(&said)?;
    match open(Access::Read)?.model(&name) {
        Ok(model) => Ok(Some(model)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(OprelError::from(error).into()),
    }
}

/// Prints the part of a stored model that was asked for.
pub(crate) fn show_part(model: &StoredModel, args: &Show) -> anyhow::Result<Shown> {
    let name = model.entry.name.to_string();
    let part = if args.modelfile {
        model.modelfile_text()
    } else if args.parameters {
        parameter_lines(&model.params)
    } else if args.system {
        model.system.clone().unwrap_or_default()
    } else if args.license && !model.licenses.is_empty() {
        model.licenses.join("\n")
    } else if let Some(template) = model.template.as_ref().filter(|_| args.template) {
        template.clone()
    } else {
        let file = model.files.first().cloned();
        let what = format!("'{name}' has no GGUF file");
        let shown = file.map(|file| Shown::File(file, model.template.clone()));
        return shown.ok_or_else(|| OprelError::validation(what).into());
    };
    print(harmless(&part).trim_end())?;
    Ok(Shown::Done)
}

/// What is shown of a model, as /api/show has it.
pub(crate) fn show_body(
    show: oprel::Show,
    stored: Option<&StoredModel>,
    name: &str,
) -> oprel_api::ollama::Show {
    let changed = Path::new(name).metadata().and_then(|metadata| metadata.modified());
    let mut body = oprel::show_body(show, name, changed.map(Timestamp::from).unwrap_or_default());
    if let Some(stored) = stored {
        oprel::overlay_show(stored, &serde_json::Map::new(), &mut body);
    }
    body
}

/// The part that was asked for of what a daemon says of a model.
pub(crate) fn part_of_answer<'v>(shown: &'v Value, args: &Show) -> Option<&'v str> {
    let parts = [
        (args.license, "license"),
        (args.modelfile, "modelfile"),
        (args.parameters, "parameters"),
        (args.system, "system"),
        (args.template, "template"),
    ];
    let (_, part) = parts.into_iter().find(|(is_meant, _)| *is_meant)?;
    Some(shown[part].as_str().unwrap_or_default())
}

/// The part of a file that was asked for.
pub(crate) fn part_of_file(show: &oprel::Show, args: &Show) -> anyhow::Result<Option<String>> {
    Ok(if args.license {
        Some(show.license.clone())
    } else if args.template {
        Some(show.template.clone())
    } else if args.modelfile {
        Some(format!("FROM {}", args.model))
    } else if args.parameters || args.system {
        Some(String::new())
    } else {
        None
    })
}

/// The store of this user.
pub(crate) fn open(access: Access) -> Result<Store, OprelError> {
    Ok(Store::at(oprel::places()?, access)?)
}

/// The name that a text is.
pub(crate) fn name(text: &str) -> anyhow::Result<ModelName> {
    let wrong = |_| Error::Name { name: text.chars().take(200).collect() };
    ModelName::parse(text).map_err(wrong).map_err(|error| OprelError::from(error).into())
}

/// A name that may be given to a model, so that it is found by it.
fn new_name(text: &str) -> anyhow::Result<ModelName> {
    let refused = |message: String| OprelError::Validation {
        message,
        hint: Some("write it like mine, mine:small or user/mine:small".into()),
        source: None,
    };
    match ModelRef::parse(text) {
        Ok(ModelRef::Name(name)) => Ok(name),
        Ok(ModelRef::Demo) => Err(refused(format!("'{text}' is the built-in model")).into()),
        Ok(ModelRef::Path(_)) => Err(refused(format!("'{text}' is a path, and no name")).into()),
        Err(failure) => Err(refused(failure.message).into()),
    }
}
