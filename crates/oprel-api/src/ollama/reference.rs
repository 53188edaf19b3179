//! What a user types to name a model: a name of a registry, a path of a file, or the demo.

use std::fmt;

use crate::Failure;

use super::fields::wrong;

/// Where models are that say nothing else.
const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
const TAG: &str = "latest";
/// The model that needs no file.
const DEMO: &str = "demo";

/// What a user types to name a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ModelRef {
    /// The model that comes with the program.
    Demo,
    /// A file, as it was written.
    Path(String),
    /// A name of a registry.
    Name(ModelName),
}

/// A name of a registry: `host/namespace/model:tag`, parts that are not said filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelName {
    /// `http`, where the registry is to be spoken to like that.
    pub scheme: Option<String>,
    /// The registry, with its port.
    pub host: String,
    /// Whose model it is.
    pub namespace: String,
    /// The model.
    pub model: String,
    /// Which of its variants.
    pub tag: String,
    /// Where it is to run, if that was said.
    pub place: Place,
}

/// Where a model is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Place {
    /// Nothing was said.
    #[default]
    Unsaid,
    /// Here: `:local`.
    Local,
    /// At the registry's own service: `:cloud` or a tag that ends in `-cloud`.
    Cloud,
}

impl ModelRef {
    /// Reads what a user typed.
    ///
    /// # Errors
    /// `model is required` for nothing, `invalid model name` for what can be no name,
    /// `use either :local or :cloud, not both`.
    pub fn parse(text: &str) -> Result<ModelRef, Failure> {
        let text = text.trim();
        if text.is_empty() {
            return Err(wrong("model is required"));
        }
        if is_path(text) {
            return Ok(ModelRef::Path(text.to_owned()));
        }
        let name = ModelName::parse(text)?;
        let demo = ModelName::parse(DEMO)?;
        Ok(if name.key() == demo.key() { ModelRef::Demo } else { ModelRef::Name(name) })
    }

    /// Equal for references to one model, however they are written. Paths are compared as they are.
    pub fn key(&self) -> String {
        match self {
            ModelRef::Demo => DEMO.to_owned(),
            ModelRef::Path(path) => path.clone(),
            ModelRef::Name(name) => name.key(),
        }
    }
}

/// The shortest text that names it, with its tag.
impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelRef::Demo => write!(f, "{DEMO}:{TAG}"),
            ModelRef::Path(path) => f.write_str(path),
            ModelRef::Name(name) => name.fmt(f),
        }
    }
}

impl ModelName {
    /// Reads a name.
    ///
    /// # Errors
    /// As [`ModelRef::parse`].
    pub fn parse(text: &str) -> Result<ModelName, Failure> {
        let (text, place) = take_place(text)?;
        let name = split(&text, place);
        if name.is_valid() { Ok(name) } else { Err(wrong("invalid model name")) }
    }

    /// All parts but the scheme: `registry.ollama.ai/library/m:latest`.
    pub fn full(&self) -> String {
        format!("{}/{}/{}:{}", self.host, self.namespace, self.model, self.tag)
    }

    /// Equal for names that differ in case alone.
    pub fn key(&self) -> String {
        self.full().to_ascii_lowercase()
    }

    /// Whether every part is made of what names are made of: such a name is no path to anywhere else.
    pub fn is_valid(&self) -> bool {
        let known = |scheme: &String| scheme == "http" || scheme == "https";
        self.scheme.as_ref().is_none_or(known)
            && is_part(&self.host, 350, ".:")
            && is_part(&self.namespace, 80, "")
            && is_part(&self.model, 80, ".")
            && is_part(&self.tag, 80, ".")
    }
}

/// Without host and namespace where they are the usual ones.
impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual_host = self.host.eq_ignore_ascii_case(HOST);
        if !usual_host {
            write!(f, "{}/", self.host)?;
        }
        if !usual_host || !self.namespace.eq_ignore_ascii_case(NAMESPACE) {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}:{}", self.model, self.tag)
    }
}

/// Parts from the right: a tag after the last colon if that is right of the last slash, then model,
/// namespace and host between slashes. A part that was begun and is empty stays empty.
fn split(text: &str, place: Place) -> ModelName {
    let (rest, tag) = match text.rsplit_once(':') {
        Some((rest, tag)) if !tag.contains('/') => (rest, tag),
        _ => (text, TAG),
    };
    let (rest, model) = rest.rsplit_once('/').map_or((None, rest), |(r, m)| (Some(r), m));
    let (rest, namespace) = match rest.map(|rest| rest.rsplit_once('/').ok_or(rest)) {
        None => (None, NAMESPACE),
        Some(Err(namespace)) => (None, namespace),
        Some(Ok((rest, namespace))) => (Some(rest), namespace),
    };
    let (scheme, host) = match rest.map(|rest| rest.split_once("://").ok_or(rest)) {
        None => (None, HOST),
        Some(Err(host)) => (None, host),
        Some(Ok((scheme, host))) => (Some(scheme), host),
    };
    ModelName {
        scheme: scheme.map(str::to_ascii_lowercase),
        host: host.to_owned(),
        namespace: namespace.to_owned(),
        model: model.to_owned(),
        tag: tag.to_owned(),
        place,
    }
}

/// A letter, a digit or `_`, then also `-` and what else the part allows.
fn is_part(text: &str, longest: usize, further: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=longest).contains(&text.len())
        && text.starts_with(plain)
        && text.chars().all(|c| plain(c) || c == '-' || further.contains(c))
}

/// A name without what says where it is to run.
fn take_place(text: &str) -> Result<(String, Place), Failure> {
    let (rest, place) = place_of(text);
    if place != Place::Unsaid && place_of(&rest).1 != Place::Unsaid {
        return Err(wrong("use either :local or :cloud, not both"));
    }
    Ok((rest, place))
}

fn place_of(text: &str) -> (String, Place) {
    let Some((rest, end)) = text.rsplit_once(':') else { return (text.to_owned(), Place::Unsaid) };
    let lower = end.trim().to_ascii_lowercase();
    match (lower.as_str(), lower.strip_suffix("-cloud")) {
        ("cloud", _) => (rest.to_owned(), Place::Cloud),
        ("local", _) => (rest.to_owned(), Place::Local),
        (_, Some(tag)) if !tag.contains('/') => {
            (format!("{rest}:{}", &end.trim()[..tag.len()]), Place::Cloud)
        }
        _ => (text.to_owned(), Place::Unsaid),
    }
}

/// Whether a text names a file: it begins like a path, or ends in `.gguf` and is no tag of a
/// registry's model.
fn is_path(text: &str) -> bool {
    const BEGINS: [&str; 8] = ["/", "./", "../", "~/", "\\", ".\\", "..\\", "~\\"];
    let drive = matches!(text.as_bytes(), [d, b':', b'/' | b'\\', ..] if d.is_ascii_alphabetic());
    let gguf = text.len() >= 5
        && text.is_char_boundary(text.len() - 5)
        && text[text.len() - 5..].eq_ignore_ascii_case(".gguf");
    drive || BEGINS.iter().any(|b| text.starts_with(b)) || (gguf && !is_tag_of_host(text))
}

/// `hf.co/user/repository:file.gguf`: registries of files name a variant by its file.
fn is_tag_of_host(text: &str) -> bool {
    let Ok(name) = ModelName::parse(text) else { return false };
    let tagged = text.rsplit_once(':').is_some_and(|(_, tag)| !tag.contains('/'));
    tagged && name.host != HOST && name.host.contains(['.', ':'])
}

#[cfg(test)]
mod tests;
