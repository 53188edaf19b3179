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

    fn is_valid(&self) -> bool {
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
mod tests {
    use super::*;

    fn name(text: &str) -> ModelName {
        ModelName::parse(text).unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn parts_that_are_not_said_are_filled_in() {
        let table = [
            ("m", "registry.ollama.ai/library/m:latest", "m:latest"),
            ("llama3.2:1b", "registry.ollama.ai/library/llama3.2:1b", "llama3.2:1b"),
            ("ns/m", "registry.ollama.ai/ns/m:latest", "ns/m:latest"),
            ("host/ns/m", "host/ns/m:latest", "host/ns/m:latest"),
            ("localhost:5000/ns/m:t", "localhost:5000/ns/m:t", "localhost:5000/ns/m:t"),
            ("localhost:5000/ns/m", "localhost:5000/ns/m:latest", "localhost:5000/ns/m:latest"),
            ("hf.co/user/repo:Q4_K_M", "hf.co/user/repo:Q4_K_M", "hf.co/user/repo:Q4_K_M"),
            ("host/library/m", "host/library/m:latest", "host/library/m:latest"),
            ("Registry.Ollama.AI/Library/M:T", "Registry.Ollama.AI/Library/M:T", "M:T"),
            ("_m-1.5:a.b-c_d", "registry.ollama.ai/library/_m-1.5:a.b-c_d", "_m-1.5:a.b-c_d"),
        ];
        for (text, full, short) in table {
            let name = name(text);
            assert_eq!((name.full().as_str(), name.to_string().as_str()), (full, short));
            assert_eq!(ModelName::parse(short).unwrap().key(), name.key());
        }
        let insecure = name("http://host:80/ns/m");
        assert_eq!((insecure.scheme.as_deref(), insecure.host.as_str()), (Some("http"), "host:80"));
    }

    #[test]
    fn what_can_be_no_name_is_refused() {
        let long = "m".repeat(81);
        let bad = [
            ":",
            "m:",
            ":t",
            "ns/",
            "/m",
            "ns/m:",
            "a/b/c/d",
            "-m",
            ".m",
            "m m",
            "mé",
            "m:t:u",
            "n.s/m",
            "host//m",
            "h/n/",
            "m@sha256",
            "m:-t",
            "http://host/m",
            "ftp://h/n/m",
            "m\n",
            "m\0",
            "m?",
            "%2e%2e/m",
            "h/../m",
            "h/n/..",
            &long,
        ];
        for text in bad {
            let why = ModelName::parse(text).expect_err(text).message;
            assert_eq!(why, "invalid model name", "{text:?}");
        }
        assert!(ModelName::parse(&"m".repeat(80)).is_ok());
        let host = |n: usize| format!("{}/n/m", "h".repeat(n));
        assert!(ModelName::parse(&host(350)).is_ok() && ModelName::parse(&host(351)).is_err());
    }

    #[test]
    fn keys_are_the_same_in_any_case() {
        assert_eq!(name("Llama3.2").key(), name("llama3.2:LATEST").key());
        assert_eq!(name("LIBRARY/m").key(), name("registry.ollama.ai/library/m").key());
        assert_ne!(name("m:a").key(), name("m:b").key());
        let typed = ModelRef::parse(" M ").unwrap();
        assert_eq!((typed.to_string(), typed.key()), ("M:latest".into(), name("m").key()));
    }

    #[test]
    fn nothing_is_no_model() {
        for text in ["", " ", "\n"] {
            assert_eq!(ModelRef::parse(text).unwrap_err().message, "model is required");
        }
    }

    #[test]
    fn the_place_is_no_part_of_the_name() {
        let table = [
            ("m:cloud", "m:latest", Place::Cloud),
            ("m:20b-cloud", "m:20b", Place::Cloud),
            ("m:20b-CLOUD", "m:20b", Place::Cloud),
            ("m:local", "m:latest", Place::Local),
            ("m:20b:local", "m:20b", Place::Local),
            ("ns/m:Cloud", "ns/m:latest", Place::Cloud),
            ("m-cloud", "m-cloud:latest", Place::Unsaid),
            ("m:cloudy", "m:cloudy", Place::Unsaid),
        ];
        for (text, short, place) in table {
            let name = name(text);
            assert_eq!((name.to_string().as_str(), name.place), (short, place), "{text}");
        }
        for text in ["m:local:cloud", "m:cloud:local", "m:20b-cloud:local"] {
            let why = ModelName::parse(text).unwrap_err().message;
            assert_eq!(why, "use either :local or :cloud, not both", "{text}");
        }
        assert!(ModelName::parse("m:-cloud").is_err());
    }

    #[test]
    fn paths_and_the_demo_are_no_names() {
        let paths = [
            "/m",
            "./m",
            "../m",
            "~/m",
            "m.gguf",
            "M.GGUF",
            "dir/m.gguf",
            "a/b/c:d.gguf",
            "C:\\m",
            "c:/m",
            ".\\m",
            "..\\m",
            "\\\\server\\m",
            "m é.gguf",
            ".gguf",
        ];
        for text in paths {
            assert_eq!(ModelRef::parse(text), Ok(ModelRef::Path(text.into())), "{text}");
        }
        for text in ["demo", "Demo:latest", "library/demo"] {
            assert_eq!(ModelRef::parse(text), Ok(ModelRef::Demo), "{text}");
        }
        assert_eq!(ModelRef::Demo.to_string(), "demo:latest");
        for text in ["demo:1b", "ns/demo", "hf.co/u/r:m.gguf", "localhost:5000/u/r:m.gguf", "é"] {
            assert!(!matches!(ModelRef::parse(text), Ok(ModelRef::Demo | ModelRef::Path(_))));
        }
    }
}
