//! The catalogue: short names of today's models, and which file of which repository each is.
//!
//! It is data (`catalog/catalog.json`), to which users add their own. It knows no network: a search goes
//! through what is written here. Whether the native engine runs a model follows from its architecture, which is
//! known at a higher floor.

use std::collections::HashMap;
use std::sync::OnceLock;

use oprel_api::ollama::{ModelName, ModelRef};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const BUILT_IN: &str = include_str!("catalog/catalog.json");

/// A short name and what it stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// The short name: `llama3.2:1b`.
    pub name: String,
    /// Further names for the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// The repository of the hub: `user/repository`.
    pub repository: String,
    /// The file, or a pattern with `*` that fits one file and its parts.
    pub file: String,
    /// `general.architecture` of the file.
    pub architecture: String,
    /// Whether the native engine runs this architecture. A test holds it against the engine's own table.
    #[serde(default = "yes")]
    pub native: bool,
    /// Number of weights, as its makers say it: `1.2B`.
    #[serde(default)]
    pub parameters: String,
    /// About how many bytes the file has.
    #[serde(default)]
    pub about_bytes: u64,
    /// Context length that it was trained for.
    #[serde(default)]
    pub context: u64,
    /// Licence.
    #[serde(default)]
    pub license: String,
    /// What it is good for, in a few words.
    #[serde(default)]
    pub good_for: String,
}

/// Aliases, found by name.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    aliases: Vec<Alias>,
    by_name: HashMap<String, usize>,
}

#[derive(Deserialize)]
struct File {
    aliases: Vec<Alias>,
}

impl Catalog {
    /// The aliases that come with the program.
    pub fn built_in() -> &'static Catalog {
        static CATALOG: OnceLock<Catalog> = OnceLock::new();
        // A test reads the file; were it wrong all the same, there would be no aliases.
        CATALOG.get_or_init(|| Catalog::default().with_json(BUILT_IN).unwrap_or_default())
    }

    /// These aliases and more: `{"aliases": [...]}`. One that has the name of another takes its place.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn with_json(self, text: &str) -> Result<Catalog> {
        let file: File =
            serde_json::from_str(text).map_err(|why| Error::Catalog { why: why.to_string() })?;
        self.with(file.aliases)
    }

    /// These aliases and more. One that has the name of another takes its place.
    ///
    /// # Errors
    /// If a name is none that can be typed, a repository none that the hub can have, or a file none that can be in it.
    pub fn with(mut self, aliases: Vec<Alias>) -> Result<Catalog> {
        for alias in aliases {
            let wrong = |why: &str| Error::Catalog { why: format!("'{}' {why}", alias.name) };
            if !alias.names().all(is_name) {
                return Err(wrong("can be no short name: write it like mine or mine:small"));
            }
            if !is_repository(&alias.repository) {
                let why = format!("names no repository of a hub: '{}'", alias.repository);
                return Err(wrong(&why));
            }
            if !is_file(&alias.file) {
                return Err(wrong(&format!("names no file of a repository: '{}'", alias.file)));
            }
            for name in alias.names() {
                self.by_name.insert(key(name), self.aliases.len());
            }
            self.aliases.push(alias);
        }
        Ok(self)
    }

    /// The alias of this name; `:latest` is as good as no tag.
    pub fn alias(&self, name: &str) -> Option<&Alias> {
        self.aliases.get(*self.by_name.get(&key(name))?)
    }

    /// Whether an alias stands for a file of this repository.
    pub fn has_repository(&self, repository: &str) -> bool {
        self.aliases().any(|alias| alias.repository.eq_ignore_ascii_case(repository))
    }

    /// All aliases, in the order in which they were written.
    pub fn aliases(&self) -> impl Iterator<Item = &Alias> {
        let is_reached = |(idx, alias): &(usize, &Alias)| {
            alias.names().any(|name| self.by_name.get(&key(name)) == Some(idx))
        };
        self.aliases.iter().enumerate().filter(is_reached).map(|(_, alias)| alias)
    }

    /// Aliases that have every one of the words somewhere, those first that have them in their names.
    pub fn search(&self, words: &str) -> Vec<&Alias> {
        let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
        let mut found: Vec<(bool, &Alias)> = Vec::new();
        for alias in self.aliases() {
            let names = alias.names().collect::<Vec<_>>().join(" ").to_lowercase();
            let all = format!(
                "{names} {} {} {} {}",
                alias.repository, alias.architecture, alias.license, alias.good_for
            );
            let all = all.to_lowercase();
            if words.iter().all(|word| all.contains(word)) {
                found.push((!words.iter().all(|word| names.contains(word)), alias));
            }
        }
        found.sort_by_key(|(elsewhere, _)| *elsewhere);
        found.into_iter().map(|(_, alias)| alias).collect()
    }
}

impl Alias {
    /// All its names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.also.iter().map(String::as_str))
    }
}

/// Whether a text that is typed reaches the catalogue: it is no path, not the demo, and has no host.
fn is_name(text: &str) -> bool {
    let is_plain = |name: &ModelName| name.scheme.is_none() && text.matches('/').count() < 2;
    matches!(ModelRef::parse(text), Ok(ModelRef::Name(name)) if is_plain(&name))
}

/// Whether the hub can have a repository of this name: `user/repository`, each of at most 96 letters, digits, `-`, `_`
/// and `.`, neither beginning nor ending in `-` or `.`, without two of these in a row, and not ending in `.git`.
fn is_repository(text: &str) -> bool {
    const MOST: usize = 96;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_part = |part: &str| {
        (1..=MOST).contains(&part.len())
            && part.chars().all(is_plain)
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !["--", ".."].iter().any(|pair| part.contains(pair))
            && !part.ends_with(".git")
    };
    text.split_once('/').is_some_and(|(user, repository)| is_part(user) && is_part(repository))
}

/// Whether a text can pick a file of a repository: a path below it, a pattern or a quant.
fn is_file(text: &str) -> bool {
    const MOST: usize = 255;
    let is_plain = |c: char| !c.is_control() && !matches!(c, '\\' | '?' | '#');
    (1..=MOST).contains(&text.len())
        && text.trim() == text
        && text.chars().all(is_plain)
        && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn yes() -> bool {
    true
}

fn key(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase();
    let name = name.strip_prefix("library/").unwrap_or(&name);
    name.strip_suffix(":latest").unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests;
