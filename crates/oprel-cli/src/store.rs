//! Commands over the store of models: `list`, `cp`, `rm`, `create`, `verify`, parts of `show`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use oprel::OprelError;
use oprel_api::Failure;
use oprel_api::ollama::{ModelName, Tag, Timestamp, parameter_lines};
use oprel_hub::modelfile::{self, Modelfile};
use oprel_hub::{Access, Damage, Entry, Error, Store, StoredModel};
use serde_json::{Value, json};

use crate::args::{Copy, Create, List, Remove, Show, Verify};
use crate::columns::{ago, bytes, table};
use crate::commands::{Meant, meant, print};
use crate::outcome::{harmless, tell};

/// Hexadecimal digits of a digest that are shown.
const ID: usize = 12;

pub(crate) fn list(args: &List) -> anyhow::Result<()> {
    let store = open(Access::Read)?;
    let listing = store.list().map_err(OprelError::from)?;
    let prefix = args.prefix.clone().unwrap_or_default().to_lowercase();
    let is_meant = |entry: &Entry| entry.name.to_string().to_lowercase().starts_with(&prefix);
    let models: Vec<Entry> = listing.models.into_iter().filter(is_meant).collect();
    for broken in &listing.broken {
        tell(&format!("warning: {}", broken.why));
    }
    if args.json {
        let models: Vec<Tag> = models.iter().map(|entry| tag(&store, entry)).collect();
        return print(&json!({"models": models}).to_string());
    }
    let rows = models.iter().map(|entry| {
        // Programs that read columns need one in each.
        let id = entry.digest().map_or("-".into(), |d| d.hex().chars().take(ID).collect());
        [entry.name.to_string(), id, bytes(entry.size), ago(entry.modified)]
    });
    let heads = ["NAME", "ID", "SIZE", "MODIFIED"].map(String::from);
    table(std::iter::once(heads).chain(rows).collect())
}

/// A model as /api/tags has it, in the time of this place.
fn tag(store: &Store, entry: &Entry) -> Tag {
    // Of what cannot be read there is the name; `oprel verify` tells why.
    let bare =
        || Tag { name: entry.name.to_string(), model: entry.name.to_string(), ..Tag::default() };
    let mut tag = store.tag(entry).unwrap_or_else(|_| bare());
    let here = jiff::Timestamp::try_from(entry.modified);
    let here = here.map(|time| jiff::tz::TimeZone::system().to_offset(time).seconds());
    tag.modified_at = Timestamp { offset_s: here.unwrap_or(0), ..entry.modified.into() };
    tag
}

pub(crate) fn copy(args: &Copy) -> anyhow::Result<()> {
    let (from, to) = (name(&args.source)?, name(&args.destination)?);
    open(Access::Write)?.copy(&from, &to).map_err(OprelError::from)?;
    print(&harmless(&format!("copied '{}' to '{}'", args.source, args.destination)))
}

pub(crate) fn remove(args: &Remove) -> anyhow::Result<()> {
    let store = open(Access::Write)?;
    for model in &args.models {
        store.remove(&name(model)?).map_err(OprelError::from)?;
        print(&harmless(&format!("deleted '{model}'")))?;
    }
    Ok(())
}

pub(crate) fn create(args: &Create) -> anyhow::Result<()> {
    let called = name(&args.model)?;
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
    let recipe = file.resolve(&folder, home.as_deref()).map_err(OprelError::from)?;
    let store = open(Access::Write)?;
    let mut step = |step: modelfile::Step| tell(&step.to_string());
    modelfile::create(&store, &called, &recipe, &mut step).map_err(OprelError::from)?;
    Ok(())
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
                let message = format!("specified Modelfile wasn't found: {}", path.display());
                Err(OprelError::validation(message).into())
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
    let damages = store.verify(&mut read).map_err(OprelError::from)?;
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
    /// Its file.
    File(PathBuf),
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
        return file.map(Shown::File).ok_or_else(|| OprelError::validation(what).into());
    };
    print(harmless(&part).trim_end())?;
    Ok(Shown::Done)
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

fn name(text: &str) -> anyhow::Result<ModelName> {
    ModelName::parse(text).map_err(|failure| OprelError::from(failure).into())
}
