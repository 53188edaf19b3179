//! What a user types, and where that model comes from.
//!
//! Two things follow from a reference: the name under which the model is kept, and the source that it
//! is fetched from. Whoever runs a model looks for the name in the store first, and what is there is the model,
//! wherever it came from; the source is for who fetches it, for the first time or anew. What wins where a text could
//! mean several things:
//!
//! 1. A text that looks like a path (it begins with `/`, `./`, `../`, `~/` or a drive, or ends in `.gguf`)
//!    is a file. `https://...gguf` is a file of a server; `http://...gguf` too, for those who say that this is well.
//! 2. `hf.co/user/repository[:quant]`, or with `huggingface.co/` or the address of its page, is a
//!    repository of the hub.
//! 3. Any other text is a name. If the catalogue has it as an alias, the alias says which file of which repository
//!    of the hub it is; it is kept under the name that was typed. A name with a host is never an alias.
//! 4. Else `user/repository[:quant]` is a repository of the hub if the catalogue, the store or a cache of the hub
//!    has that repository.
//! 5. Else it is a name of a registry: of Ollama's where no host was said.

use std::fmt;

use oprel_api::ollama::{ModelName, ModelRef};

use crate::catalog::Catalog;
use crate::{Error, Result, Store};

/// Hosts of the hub.
const HUB_HOSTS: [&str; 4] = ["hf.co", "huggingface.co", "www.huggingface.co", "hub.hf.co"];
/// The host under which models of the hub are kept.
const HUB: &str = "hf.co";
const REGISTRY: &str = "registry.ollama.ai";

/// A repository of the hub, and which of its files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HubRef {
    /// `user/repository`.
    pub repository: String,
    /// A file type (`Q4_K_M`), the name of a file, or a pattern with `*`; `None` leaves it to the one who fetches.
    pub pick: Option<String>,
}

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// It comes with the program.
    Demo,
    /// A file or folder of this machine, as it was written. It runs where it is.
    File(String),
    /// A file of a server, by its address.
    Url(String),
    /// A repository of the hub.
    Hub(HubRef),
    /// A registry that speaks Ollama's protocol.
    Registry(ModelName),
}

/// What a user typed, understood.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The name under which the store keeps it; `None` for what is not kept.
    pub name: Option<ModelName>,
    /// Where it comes from if the store does not have it.
    pub source: Source,
}

impl Reference {
    /// Understands a text without a catalogue and without a store.
    ///
    /// # Errors
    /// If it can name no model.
    pub fn parse(text: &str) -> Result<Reference> {
        Reference::understand(text, None, None)
    }

    /// Understands a text; see the module for what wins.
    ///
    /// # Errors
    /// If it can name no model, or the store cannot be read.
    pub fn resolve(text: &str, catalog: &Catalog, store: &Store) -> Result<Reference> {
        Reference::understand(text, Some(catalog), Some(store))
    }

    fn understand(
        text: &str,
        catalog: Option<&Catalog>,
        store: Option<&Store>,
    ) -> Result<Reference> {
        let text = text.trim();
        if let Some(reference) = of_address(text)? {
            return Ok(reference);
        }
        let bare = |source| Ok(Reference { name: None, source });
        let name = match ModelRef::parse(text).map_err(|_| wrong(text))? {
            ModelRef::Demo => return bare(Source::Demo),
            ModelRef::Path(path) => return bare(Source::File(path)),
            ModelRef::Name(name) => name,
        };
        if is_hub(&name.host) {
            return hub(&format!("{}/{}", name.namespace, name.model), said_tag(text, &name));
        }
        let said_host = !name.host.eq_ignore_ascii_case(REGISTRY) || text.matches('/').count() > 1;
        if let Some(alias) = catalog.filter(|_| !said_host).and_then(|c| c.alias(text)) {
            let source = Source::Hub(HubRef {
                repository: alias.repository.clone(),
                pick: Some(alias.file.clone()),
            });
            return Ok(Reference { name: Some(as_stored(name, store)?), source });
        }
        let repository = format!("{}/{}", name.namespace, name.model);
        let known = catalog.is_some_and(|catalog| catalog.has_repository(&repository))
            || store.is_some_and(|store| store.has_repository(&repository));
        if !said_host && text.contains('/') && known {
            return hub(&repository, said_tag(text, &name));
        }
        let source = Source::Registry(name.clone());
        Ok(Reference { name: Some(as_stored(name, store)?), source })
    }
}

/// The name in the case in which a store has it.
fn as_stored(name: ModelName, store: Option<&Store>) -> Result<ModelName> {
    let stored = store.map(|store| store.stored_name(&name)).transpose()?.flatten();
    Ok(stored.unwrap_or(name))
}

/// The shortest text that names it.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, &self.source) {
            (Some(name), _) => name.fmt(f),
            (None, Source::File(text) | Source::Url(text)) => f.write_str(text),
            (None, _) => f.write_str("demo:latest"),
        }
    }
}

/// An address of the web: a page of the hub, or a file.
fn of_address(text: &str) -> Result<Option<Reference>> {
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(None) };
    let path = rest.split(['?', '#']).next().unwrap_or(rest);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [host, user, repository] if is_hub(host) => {
            let (repository, pick) = match repository.split_once(':') {
                Some((repository, pick)) => (repository, Some(pick)),
                None => (*repository, None),
            };
            hub(&format!("{user}/{repository}"), pick.map(str::to_owned)).map(Some)
        }
        [host, user, repository, "blob" | "resolve", _, file @ ..]
            if is_hub(host) && !file.is_empty() =>
        {
            hub(&format!("{user}/{repository}"), Some(file.join("/"))).map(Some)
        }
        [host, .., file] if is_web(scheme) && is_gguf(file) => {
            let name = name_of_file(host, &parts);
            Ok(Some(Reference { name, source: Source::Url(text.to_owned()) }))
        }
        // Registries may be named with their scheme.
        _ => Ok(None),
    }
}

/// `https://host/a/b/file.gguf` is kept as `host/b/file:latest`, if that is a name.
fn name_of_file(host: &str, parts: &[&str]) -> Option<ModelName> {
    let plain = |text: &str| -> String {
        let keep = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        text.chars().map(keep).collect::<String>().trim_matches('-').chars().take(80).collect()
    };
    let file = crate::quant::without_part(parts.last()?);
    let folder = parts.len().checked_sub(2).filter(|&idx| idx > 0).and_then(|idx| parts.get(idx));
    let folder = folder.map_or("files".to_owned(), |folder| plain(folder));
    ModelName::parse(&format!("{host}/{folder}/{}:latest", plain(file))).ok()
}

fn hub(repository: &str, pick: Option<String>) -> Result<Reference> {
    let tag = pick.as_deref().map(|pick| {
        let file = pick.rsplit('/').next().unwrap_or(pick);
        let stem = crate::quant::without_part(file);
        crate::quant_of(file).unwrap_or_else(|| stem.to_owned())
    });
    let text = format!("{HUB}/{repository}:{}", tag.as_deref().unwrap_or("latest"));
    let name = ModelName::parse(&text).map_err(|_| wrong(&text))?;
    let source = Source::Hub(HubRef { repository: repository.to_owned(), pick });
    Ok(Reference { name: Some(name), source })
}

/// The tag, if one was typed.
fn said_tag(text: &str, name: &ModelName) -> Option<String> {
    let typed = text.rsplit_once(':').is_some_and(|(_, tag)| !tag.contains('/'));
    typed.then(|| name.tag.clone())
}

fn is_hub(host: &str) -> bool {
    HUB_HOSTS.iter().any(|known| host.eq_ignore_ascii_case(known))
}

fn is_web(scheme: &str) -> bool {
    ["https", "http"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

fn is_gguf(file: &str) -> bool {
    file.len() > 5 && file.to_ascii_lowercase().ends_with(".gguf")
}

fn wrong(text: &str) -> Error {
    Error::Name { name: text.chars().take(200).collect() }
}

#[cfg(test)]
mod tests;
