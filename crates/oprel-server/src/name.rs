//! Which model a client means, and whether it may.

use std::fmt;
use std::path::PathBuf;

use oprel_api::Failure;
use oprel_api::ollama::{ModelName, ModelRef, absent};

/// A model that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// The model that is built in.
    Demo,
    /// A file, where it lies.
    Path(PathBuf),
    /// A model that runs elsewhere or is in the store, if there is one of this name; and the name as the client
    /// wrote it.
    Named(ModelName, String),
}

impl Name {
    /// What a client means. `trusted` clients may name files; to others there are none.
    pub(crate) fn parse(text: &str, trusted: bool) -> Result<Name, Failure> {
        match ModelRef::parse(text)? {
            ModelRef::Demo => Ok(Name::Demo),
            ModelRef::Path(path) if trusted => Ok(Name::Path(oprel_config::expanded(&path))),
            ModelRef::Name(name) => Ok(Name::Named(name, text.trim().into())),
            _ => Err(absent(text.trim())),
        }
    }

    /// Equal for names of one model.
    pub(crate) fn key(&self) -> String {
        match self {
            Name::Demo => ModelRef::Demo.key(),
            Name::Path(path) => {
                let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
                whole.to_string_lossy().into_owned()
            }
            Name::Named(name, _) => name.key(),
        }
    }

    /// Its label in metrics: no client makes up a new one.
    pub(crate) fn label(&self) -> String {
        match self {
            Name::Demo => "demo".into(),
            Name::Path(path) => {
                path.file_stem().map_or("file".into(), |n| n.to_string_lossy().into_owned())
            }
            Name::Named(name, _) => name.to_string(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Demo => ModelRef::Demo.fmt(f),
            Name::Path(path) => write!(f, "{}", path.display()),
            Name::Named(name, _) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_for_those_who_are_trusted() {
        assert_eq!(Name::parse("DEMO", false), Ok(Name::Demo));
        assert_eq!(Name::parse("/a/b.gguf", true), Ok(Name::Path("/a/b.gguf".into())));
        assert_eq!(Name::parse("m.gguf", true), Ok(Name::Path("m.gguf".into())));
        for name in ["/a/b.gguf", "m.gguf", "../x"] {
            let message = Name::parse(name, false).unwrap_err().message;
            assert_eq!(message, format!("model '{name}' not found"));
        }
        let elsewhere = Name::parse("llama3", false).unwrap();
        assert_eq!(elsewhere.to_string(), "llama3:latest");
        assert_eq!(elsewhere.key(), Name::parse("Llama3:latest", true).unwrap().key());
    }
}
