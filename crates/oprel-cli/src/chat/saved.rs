//! Conversations in files: `chats/NAME.json` in `OPREL_HOME`, which only their owner reads.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use oprel::{Message, OprelError};
use serde::{Deserialize, Serialize};

use super::wrong;
use crate::settings::Settings;

/// A conversation with its model and settings.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) model: String,
    pub(super) settings: Settings,
    pub(super) messages: Vec<Message>,
}

/// A model as it is found from every folder.
pub(super) fn whole(model: &str) -> String {
    let path = std::path::Path::new(model);
    let found = std::path::absolute(path).ok().filter(|_| model != "demo" && path.exists());
    found.map_or_else(|| model.to_string(), |path| path.to_string_lossy().into_owned())
}

/// Whether a text can name a conversation: what cannot names a model, or nothing.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    // The demo is always the model.
    name.len() <= 100 && !name.starts_with('.') && name != "demo" && name.chars().all(plain)
}

fn place(name: &str) -> Option<PathBuf> {
    Some(oprel_config::home()?.join("chats").join(format!("{name}.json")))
}

impl Saved {
    /// The conversation of a name, if there is one.
    pub(super) fn read(name: &str) -> anyhow::Result<Option<Saved>> {
        let Some(path) = place(name).filter(|path| is_name(name) && path.exists()) else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read '{}'", path.display()))?;
        let saved = serde_json::from_str(&text)
            .map_err(|e| wrong(format!("'{}' is no conversation: {e}", path.display())))?;
        Ok(Some(saved))
    }

    /// Writes it under a name, whole or not at all; where it is now.
    pub(super) fn write(&self, name: &str) -> anyhow::Result<PathBuf> {
        if !is_name(name) {
            let message = format!("'{name}' cannot name a conversation");
            let hint =
                Some("a name has letters, digits, '-', '_' and '.'; `demo` is a model".into());
            return Err(OprelError::Validation { message, hint, source: None }.into());
        }
        let path = place(name).context("set HOME or OPREL_HOME: conversations have no place")?;
        let cannot = || format!("cannot write '{}'", path.display());
        let folder = path.parent().context("a conversation has no place")?;
        std::fs::create_dir_all(folder).with_context(cannot)?;
        let text = serde_json::to_string_pretty(self)?;
        let fresh = path.with_extension("json.new");
        let mut options = std::fs::OpenOptions::new();
        options.create(true).write(true).truncate(true);
        crate::platform::private(&mut options);
        let mut file = options.open(&fresh).with_context(cannot)?;
        file.write_all(text.as_bytes()).with_context(cannot)?;
        std::fs::rename(&fresh, &path).with_context(cannot)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_paths() {
        for name in ["x", "my-chat_2.1", "Büro"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["../x", "/etc/passwd", "a/b", ".hidden", "demo", "a b"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
