//! What is set where: defaults, `config.yaml` in `OPREL_HOME`, the environment (`OPREL_*`, then
//! `OLLAMA_*`). Each wins over those before it, and arguments over all, at those who have them.
//!
//! [`current`] is what this process was started with, read once. Nothing here is checked beyond what a kind
//! of setting says; what a value means is known to who uses it.

mod address;
mod file;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use address::{Address, Net, PORT};
pub use file::Alias;
pub use table::{Kind, SETTINGS, Setting, named};

/// The file in `OPREL_HOME`.
pub const FILE: &str = "config.yaml";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing was set.
    Default,
    /// A line of a file, counted from 1.
    File(PathBuf, usize),
    /// A variable.
    Variable(String),
}

/// What is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is there and cannot be read.
    #[error("cannot read '{}': {why}", path.display())]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// What should be the folder that the file is in is none.
    #[error("'{}' is no folder, so nothing can be kept in it", path.display())]
    NoFolder {
        /// What stands there.
        path: PathBuf,
    },
    /// This user may not look into the folder, or not read the file.
    #[error("this user may not read '{}'", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
    },
    /// The file is no YAML, or not a list of settings.
    #[error("line {line} of '{}': {why}", path.display())]
    Malformed {
        /// Where it is.
        path: PathBuf,
        /// Where in it, counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A value is not what its setting may be.
    #[error("'{key}' is '{value}' in {origin}; it must be {expected}")]
    Invalid {
        /// The setting.
        key: &'static str,
        /// What it was set to.
        value: String,
        /// Where.
        origin: Origin,
        /// What it may be.
        expected: String,
    },
    /// A text that says where no server can be.
    #[error("'{text}' is no address of a server: {why}; it must be {}", address::FORM)]
    Address {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// What to do about it, where the message does not say that already.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::NoFolder { .. } => {
                Some("set OPREL_HOME to a folder, or unset it: then ~/.oprel is taken")
            }
            Error::Refused { .. } => {
                Some("give this user access to it, or set OPREL_HOME to a folder of this user")
            }
            Error::Unreadable { .. } | Error::Malformed { .. } => {
                Some("correct or remove it; `oprel help config` lists what may stand there")
            }
            Error::Invalid { .. } | Error::Address { .. } => None,
        }
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The value; a list's parts are separated by commas.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// What is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    values: BTreeMap<&'static str, Set>,
    aliases: Vec<Alias>,
    warnings: Vec<String>,
}

/// The folder of all that is kept for a user: `OPREL_HOME`, else `.oprel` in the user's home.
pub fn home() -> Option<PathBuf> {
    let own = std::env::var_os("OPREL_HOME").filter(|h| !h.is_empty()).map(PathBuf::from);
    own.or_else(|| Some(user_home()?.join(".oprel")))
}

/// The user's own folder.
pub fn user_home() -> Option<PathBuf> {
    let variable = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    std::env::var_os(variable).filter(|h| !h.is_empty()).map(PathBuf::from)
}

/// The folder of engines that were installed: the setting `backends`, else a folder in [`home`].
pub fn backends() -> Option<PathBuf> {
    let set = current().ok().and_then(|config| config.path("backends"));
    set.or_else(|| Some(home()?.join("backends")))
}

/// What this process was started with.
///
/// # Errors
/// If the file cannot be used, or a value cannot be.
pub fn current() -> Result<&'static Config, Error> {
    static CURRENT: OnceLock<Result<Config, Error>> = OnceLock::new();
    let read = || {
        let path = home().map(|home| home.join(FILE));
        Config::read(path.as_deref(), &|name| std::env::var(name).ok())
    };
    CURRENT.get_or_init(read).as_ref().map_err(Clone::clone)
}

/// One setting of [`current`], if it is set and can be used.
pub fn setting(key: &str) -> Option<String> {
    current().ok()?.text(key).map(str::to_owned)
}

impl Config {
    /// Reads a file, if it is there, and variables.
    ///
    /// # Errors
    /// As [`current`].
    pub fn read(
        path: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config, Error> {
        let mut config = path.map_or(Ok(Config::default()), file::read)?;
        for setting in SETTINGS {
            let own = Some(setting.variable());
            let known = own.into_iter().chain(setting.ollama_variable());
            let mut set = known.filter_map(|name| Some((plain(&variable(&name)?), name)));
            let Some((value, name)) = set.find(|(value, _)| !value.is_empty()) else { continue };
            config.values.insert(setting.key, Set { value, origin: Origin::Variable(name) });
        }
        for (key, set) in &config.values {
            let Some(setting) = named(key) else { continue };
            if let Some(expected) = what_is_wrong(setting.kind, &set.value) {
                let (value, origin) = (set.value.clone(), set.origin.clone());
                return Err(Error::Invalid { key: setting.key, value, origin, expected });
            }
            if let (Kind::Address, Ok((address, Some(why)))) =
                (setting.kind, address::read(&set.value))
            {
                let used = address.port().unwrap_or(PORT);
                let origin = &set.origin;
                config.warnings.push(format!("{origin} is '{}': {why}; {used} is used", set.value));
            }
        }
        Ok(config)
    }

    /// A value and where it was set; `None` where it was not.
    pub fn get(&self, key: &str) -> Option<&Set> {
        self.values.get(key)
    }

    /// A value, if it was set.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).map(|set| set.value.as_str())
    }

    /// A number, if it was set.
    pub fn number<T: TryFrom<i64>>(&self, key: &str) -> Option<T> {
        self.text(key)?.parse::<i64>().ok()?.try_into().ok()
    }

    /// A path, if it was set; `~/` is the user's home.
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(expanded)
    }

    /// An address, if it was set. What is no port counts as none.
    pub fn address(&self, key: &str) -> Option<Address> {
        address::read(self.text(key)?).ok().map(|(address, _)| address)
    }

    /// Whether a switch is on.
    pub fn is_on(&self, key: &str) -> bool {
        self.text(key).and_then(switch).unwrap_or(false)
    }

    /// The parts of a list.
    pub fn list(&self, key: &str) -> impl Iterator<Item = &str> {
        let parts = self.text(key).unwrap_or_default().split(',');
        parts.map(str::trim).filter(|part| !part.is_empty())
    }

    /// The user's own names of models.
    pub fn aliases(&self) -> &[Alias] {
        &self.aliases
    }

    /// What was found odd and left out, with the line where it stands.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Variable(name) => f.write_str(name),
        }
    }
}

/// Without the spaces and quotes that shells and units leave around a value.
fn plain(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).trim().to_owned()
}

/// A path, where a leading `~/` is the home of whoever runs this process.
pub fn expanded(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), user_home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "t" | "yes" | "y" | "on" => Some(true),
        "0" | "false" | "f" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

/// What a value should have been; `None` if it is.
fn what_is_wrong(kind: Kind, value: &str) -> Option<String> {
    let (fits, expected) = match kind {
        Kind::Address => {
            return address::read(value).err().map(|why| format!("{} ({why})", address::FORM));
        }
        Kind::Number => (value.parse::<i64>().is_ok_and(|n| n >= 0), "a whole number, 0 or more"),
        Kind::Signed => (value.parse::<i64>().is_ok(), "a whole number"),
        Kind::Switch => (switch(value).is_some(), "true or false"),
        Kind::Text | Kind::Path | Kind::List | Kind::Time | Kind::Secret => (true, ""),
    };
    (!fits).then(|| expected.to_owned())
}

#[cfg(test)]
mod tests;
