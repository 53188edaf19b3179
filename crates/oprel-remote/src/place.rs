//! Where engines of others are, as a user writes it: `NAME=PROFILE:URL[,URL...][#MODEL]`.

use oprel_api::ollama::{ModelName, ModelRef};
use oprel_api::{ErrorKind, Failure};
use oprel_client::Endpoint;

use crate::Profile;

/// Most servers of one model.
const MOST_SERVERS: usize = 64;

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whom to connect to.
    pub(crate) endpoint: Endpoint,
    /// What stands before every path.
    pub(crate) base: String,
}

/// A model that servers elsewhere have.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// What it is called here.
    pub name: ModelName,
    /// How it is spoken to.
    pub profile: &'static Profile,
    /// Who has it.
    pub servers: Vec<Address>,
    /// What it is called there; unset, the only model that there is.
    pub model: Option<String>,
}

impl Place {
    /// Reads what a user wrote.
    ///
    /// # Errors
    /// A `Validation` that says which part is wrong.
    pub fn parse(text: &str) -> Result<Place, Failure> {
        let form = "it must be NAME=PROFILE:URL[,URL...][#MODEL]";
        let wrong = |what: &str| invalid(format!("'{text}' names no place: {what}"));
        let (name, rest) = text.split_once('=').ok_or_else(|| wrong(form))?;
        let name = match ModelRef::parse(name).map_err(|e| wrong(&e.message))? {
            ModelRef::Name(name) => name,
            _ => return Err(wrong("'demo' and paths of files name models of this machine")),
        };
        let (profile, rest) = rest.split_once(':').ok_or_else(|| wrong(form))?;
        let profile = Profile::named(profile.trim())
            .ok_or_else(|| wrong(&format!("a profile is one of {}", Profile::names())))?;
        let (urls, model) = match rest.split_once('#') {
            Some((_, "")) => return Err(wrong("there is no model after '#'")),
            Some((urls, model)) => (urls, Some(model.to_string())),
            None => (rest, None),
        };
        let servers = urls.split(',').map(|url| Address::parse(url.trim()));
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        if servers.len() > MOST_SERVERS {
            return Err(wrong(&format!("at most {MOST_SERVERS} servers may have a model")));
        }
        Ok(Place { name, profile, servers, model })
    }

    /// The variable of the environment with the key for its servers: one of its own, and one for all.
    pub fn key_variables(&self) -> [String; 2] {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let own: String = self.name.model.chars().map(letter).collect();
        [format!("OPREL_REMOTE_KEY_{own}"), "OPREL_REMOTE_KEY".into()]
    }
}

impl Address {
    /// Reads `http[s]://host[:port][/path]` or `unix:/path/of/a.sock`; a last `/v1` is understood.
    ///
    /// # Errors
    /// A `Validation` that says what is wrong.
    pub fn parse(url: &str) -> Result<Address, Failure> {
        let wrong = |what: &str| invalid(format!("'{url}' is no address of a server: {what}"));
        if let Some(path) = url.strip_prefix("unix:") {
            if path.trim_start_matches('/').is_empty() {
                return Err(wrong("there is no path of a socket"));
            }
            return Ok(Address { endpoint: endpoint(url)?, base: String::new() });
        }
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            _ => return Err(wrong("it must begin with http://, https:// or unix:")),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.contains('@') {
            return Err(wrong("a key belongs into the environment"));
        }
        let port = match host.rsplit_once(':') {
            Some((_, port)) if !port.contains(']') => port.parse::<u16>().is_ok_and(|p| p > 0),
            _ => true,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
        if host.is_empty() || host.starts_with(':') || !host.chars().all(plain) || !port {
            return Err(wrong("there is no host, or its port is no number"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./~".contains(c);
        if !path.chars().all(plain) || path.split('/').any(|part| part == "..") {
            return Err(wrong("its path has characters that no path of a server needs"));
        }
        let path = path.trim_end_matches('/');
        let path =
            path.strip_suffix("v1").filter(|p| p.is_empty() || p.ends_with('/')).unwrap_or(path);
        let path = path.trim_end_matches('/');
        let base = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(Address { endpoint: endpoint(&format!("{scheme}://{host}"))?, base })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.endpoint, self.base)
    }
}

fn endpoint(url: &str) -> Result<Endpoint, Failure> {
    Endpoint::parse(url).map_err(|error| invalid(error.to_string()))
}

fn invalid(message: String) -> Failure {
    Failure::new(ErrorKind::Validation, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let place =
            Place::parse("big=vllm:http://a:8000/v1,http://b/llm/v1/#org/Model-7B").unwrap();
        assert_eq!((place.name.to_string().as_str(), place.profile.name), ("big:latest", "vllm"));
        let servers: Vec<_> = place.servers.iter().map(Address::to_string).collect();
        assert_eq!(servers, ["http://a:8000", "http://b:80/llm"]);
        assert_eq!(place.model.as_deref(), Some("org/Model-7B"));
        assert_eq!(place.key_variables(), ["OPREL_REMOTE_KEY_BIG", "OPREL_REMOTE_KEY"]);
        let place = Place::parse("me/q:4b=llama-server:unix:/run/l.sock").unwrap();
        assert_eq!(place.servers[0].to_string(), "unix:/run/l.sock");
        assert_eq!((place.name.tag.as_str(), place.model), ("4b", None));
        let place = Place::parse("x=generic:http://[::1]:7").unwrap();
        assert_eq!(place.servers[0].to_string(), "http://[::1]:7");
        let place = Place::parse("x=generic:https://a/v1,https://b:7/llm").unwrap();
        let servers: Vec<_> = place.servers.iter().map(Address::to_string).collect();
        assert_eq!(servers, ["https://a:443", "https://b:7/llm"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            ("big", "it must be NAME=PROFILE:URL"),
            ("b!g=vllm:http://a", "invalid model name"),
            ("demo=vllm:http://a", "name models of this machine"),
            ("./m=vllm:http://a", "name models of this machine"),
            ("big=ollama:http://a", "vllm, sglang, tabby, llama-server, generic"),
            ("big=vllm:https://", "no host"),
            ("big=vllm:ftp://a", "must begin with http://"),
            ("big=vllm:a:8000", "must begin with http://"),
            ("big=vllm:http://", "no host"),
            ("big=vllm:http://a:b", "no number"),
            ("big=vllm:http://u:key@a", "environment"),
            ("big=vllm:http://a/../b", "path"),
            ("big=vllm:http://a?x=1", "no host"),
            ("big=vllm:http://a#", "no model after"),
            ("big=vllm:http://a,", "must begin with"),
            ("big=vllm:unix:", "no path of a socket"),
        ];
        for (text, wanted) in table {
            let failure = Place::parse(text).unwrap_err();
            assert!(failure.message.contains(wanted), "{text}: {failure}");
        }
    }
}
