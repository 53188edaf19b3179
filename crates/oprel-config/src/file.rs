//! `config.yaml`.

use std::collections::BTreeMap;
use std::path::Path;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

use crate::{Config, Error, Origin, SETTINGS, Set, named};

/// Longer than any real file.
const MOST_BYTES: u64 = 1 << 20;
/// The key of the user's own names of models.
const ALIASES: &str = "aliases";

/// A user's own name of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The name.
    pub name: String,
    /// What it stands for: a repository of a hub, or another name of the catalogue.
    pub model: String,
    /// Where it stands in the file, counted from 1.
    pub line: usize,
}

/// Reads a file; one that is not there sets nothing.
pub(super) fn read(path: &Path) -> Result<Config, Error> {
    let unreadable = |why: String| Error::Unreadable { path: path.into(), why };
    if let Some(stands) = path.ancestors().skip(1).find(|folder| folder.exists())
        && !stands.is_dir()
    {
        return Err(Error::NoFolder { path: stands.into() });
    }
    match path.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Config::default()),
        Ok(file) if file.len() > MOST_BYTES => {
            return Err(unreadable(format!("it is longer than {MOST_BYTES} bytes")));
        }
        _ => {}
    }
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => Error::Refused { path: path.into() },
        _ => unreadable(error.to_string()),
    })?;
    parse(&text, path)
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Config, Error> {
    let malformed =
        |line: usize, why: String| Error::Malformed { path: path.into(), line: line.max(1), why };
    let documents = MarkedYaml::load_from_str(text)
        .map_err(|error| malformed(error.marker().line(), error.info().to_owned()))?;
    let mut config = Config::default();
    let Some(document) = documents.first() else { return Ok(config) };
    let entries = match &document.data {
        YamlData::Mapping(entries) => entries,
        YamlData::Value(Scalar::Null) => return Ok(config),
        _ => {
            let why = "it must be settings, one in a line: `threads: 4`".to_owned();
            return Err(malformed(document.span.start.line(), why));
        }
    };
    let mut seen = BTreeMap::new();
    for (name, value) in entries {
        let line = name.span.start.line();
        let Some(name) = text_of(name) else {
            return Err(malformed(line, "a setting's name must be a word".into()));
        };
        if name == ALIASES {
            config.aliases = aliases(value).map_err(|(line, why)| malformed(line, why))?;
            continue;
        }
        let Some(setting) = named(&name) else {
            config.warnings.push(unknown(&name, path, line));
            continue;
        };
        if let Some(first) = seen.insert(setting.key, line) {
            let why = format!("'{name}' is set twice, first in line {first}");
            return Err(malformed(line, why));
        }
        let Some(value) = value_of(value) else {
            let why = format!("'{name}' must be a word, a number, or a list of words");
            return Err(malformed(line, why));
        };
        if !value.is_empty() {
            let origin = Origin::File(path.into(), line);
            config.values.insert(setting.key, Set { value, origin });
        }
    }
    Ok(config)
}

fn unknown(name: &str, path: &Path, line: usize) -> String {
    let mut text = format!("{}:{line}: there is no setting '{name}'", path.display());
    if let Some(near) = nearest(name) {
        text.push_str(&format!("; is '{near}' meant?"));
    }
    text
}

/// The setting whose name is most like this one, if any is.
fn nearest(name: &str) -> Option<&'static str> {
    let all = SETTINGS.iter().flat_map(|s| [s.key].into_iter().chain(s.old.iter().copied()));
    let name: String = name.chars().take(64).collect();
    let near = all.chain([ALIASES]).map(|key| (strsim::levenshtein(&name, key), key)).min()?;
    (near.0 <= near.1.len().div_ceil(3)).then_some(near.1)
}

fn text_of(node: &MarkedYaml<'_>) -> Option<String> {
    match &node.data {
        YamlData::Value(scalar) => match scalar {
            Scalar::Null => Some(String::new()),
            Scalar::Boolean(b) => Some(b.to_string()),
            Scalar::Integer(n) => Some(n.to_string()),
            Scalar::FloatingPoint(x) => Some(x.to_string()),
            Scalar::String(text) => Some(text.to_string()),
        },
        YamlData::Representation(text, ..) => Some(text.to_string()),
        _ => None,
    }
}

fn value_of(node: &MarkedYaml<'_>) -> Option<String> {
    let YamlData::Sequence(items) = &node.data else { return text_of(node) };
    let items: Option<Vec<String>> = items.iter().map(text_of).collect();
    Some(items?.join(","))
}

/// `name: model`, or `name: {model: ...}`.
fn aliases(node: &MarkedYaml<'_>) -> Result<Vec<Alias>, (usize, String)> {
    let wrong = |node: &MarkedYaml<'_>| {
        let why = "aliases are names and what they stand for: `mine: hf.co/user/repo:Q4_K_M`";
        (node.span.start.line(), why.to_owned())
    };
    let entries = match &node.data {
        YamlData::Mapping(entries) => entries,
        YamlData::Value(Scalar::Null) => return Ok(Vec::new()),
        _ => return Err(wrong(node)),
    };
    let read = |(name, value): (&MarkedYaml<'_>, &MarkedYaml<'_>)| {
        let model = match &value.data {
            YamlData::Mapping(_) => value.data.as_mapping_get("model").and_then(text_of),
            _ => text_of(value),
        };
        let (name, model) = text_of(name).zip(model).ok_or_else(|| wrong(name))?;
        if name.is_empty() || model.is_empty() {
            return Err(wrong(value));
        }
        Ok(Alias { name, model, line: value.span.start.line() })
    };
    entries.iter().map(read).collect()
}
