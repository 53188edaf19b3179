//! Where stores and caches are, by the environment.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// Where stores and caches are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The store that is written to.
    pub root: PathBuf,
    /// Stores that are only read.
    pub beside: Vec<PathBuf>,
    /// Caches of the hub's own clients, only read.
    pub hub_caches: Vec<PathBuf>,
    /// Whether files that nothing names may be removed.
    pub prune: bool,
}

impl Places {
    /// By the environment: the root is `OPREL_MODELS`, else `OLLAMA_MODELS`, else `models` in `OPREL_HOME`
    /// (`~/.oprel`); beside it Ollama's stores; the hub's caches by `HF_HUB_CACHE` and `HF_HOME`.
    /// `OLLAMA_NOPRUNE` keeps all files.
    ///
    /// # Errors
    /// [`Error::NoHome`] if none of these is set and the user has no home.
    pub fn usual() -> Result<Places> {
        Places::of(&|name| std::env::var_os(name))
    }

    fn of(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Places> {
        let path = |name: &str| trimmed(variable(name)?).map(PathBuf::from);
        let home = path("HOME").or_else(|| path("USERPROFILE"));
        let in_home = |folder: &str| home.as_ref().map(|home| home.join(folder));
        let own_home = path("OPREL_HOME").or_else(|| in_home(".oprel"));
        let root = path("OPREL_MODELS")
            .or_else(|| path("OLLAMA_MODELS"))
            .or_else(|| own_home.map(|home| home.join("models")))
            .ok_or(Error::NoHome)?;
        let ollama = [path("OLLAMA_MODELS"), in_home(".ollama/models")];
        let service = cfg!(target_os = "linux").then(|| "/usr/share/ollama/.ollama/models".into());
        let cache = path("XDG_CACHE_HOME").or_else(|| in_home(".cache"));
        let hub_home = path("HF_HOME").or_else(|| cache.map(|cache| cache.join("huggingface")));
        let hub_cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| hub_home.map(|home| home.join("hub")));
        Ok(Places {
            root,
            beside: ollama.into_iter().flatten().chain(service).collect(),
            hub_caches: hub_cache.into_iter().collect(),
            prune: !variable("OLLAMA_NOPRUNE").and_then(trimmed).is_some_and(|v| is_true(&v)),
        })
    }
}

/// Spaces and quotes around a value are dropped; nothing is as good as not set.
fn trimmed(value: OsString) -> Option<OsString> {
    let Some(text) = value.to_str() else { return Some(value) };
    let text = text.trim().trim_matches(['"', '\'']);
    (!text.is_empty()).then(|| text.into())
}

/// Any text but a no is a yes.
fn is_true(value: &OsString) -> bool {
    !["0", "f", "F", "false", "False", "FALSE"].iter().any(|no| value == *no)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(set: &[(&str, &str)]) -> Places {
        Places::of(&|name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
        .unwrap()
    }

    #[test]
    fn variables_decide_in_their_order() {
        let home = ("HOME", "/h");
        assert_eq!(places(&[home]).root, PathBuf::from("/h/.oprel/models"));
        assert_eq!(places(&[home, ("OPREL_HOME", "/o")]).root, PathBuf::from("/o/models"));
        let both = places(&[home, ("OLLAMA_MODELS", " \"/m\" "), ("OPREL_MODELS", "/p")]);
        assert_eq!(both.root, PathBuf::from("/p"));
        assert_eq!(both.beside[..2], [PathBuf::from("/m"), PathBuf::from("/h/.ollama/models")]);
        assert_eq!(places(&[home, ("OLLAMA_MODELS", "/m")]).root, PathBuf::from("/m"));
        assert_eq!(places(&[home]).hub_caches, [PathBuf::from("/h/.cache/huggingface/hub")]);
        assert_eq!(places(&[home, ("HF_HOME", "/f")]).hub_caches, [PathBuf::from("/f/hub")]);
        assert_eq!(places(&[home, ("HF_HUB_CACHE", "/c")]).hub_caches, [PathBuf::from("/c")]);
    }

    #[test]
    fn pruning_is_turned_off_by_any_yes() {
        for (value, prunes) in
            [("", true), ("0", true), ("false", true), ("1", false), ("please", false)]
        {
            let places = places(&[("HOME", "/h"), ("OLLAMA_NOPRUNE", value)]);
            assert_eq!(places.prune, prunes, "{value}");
        }
    }

    #[test]
    fn who_has_no_home_has_no_store_in_the_working_directory() {
        assert!(matches!(Places::of(&|_| None), Err(Error::NoHome)));
    }
}
