//! How things are fetched, as the environment says: the variables of Hugging Face's own tools mean here what they
//! mean there.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use super::error::{Error, Result};

/// How things are fetched.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The hub: `HF_ENDPOINT`.
    pub endpoint: Url,
    /// Who asks the hub: `HF_TOKEN`, or the file that `hf auth login` writes.
    pub token: Option<String>,
    /// Connect to nothing: `HF_HUB_OFFLINE`, `OPREL_OFFLINE`.
    pub is_offline: bool,
    /// Authorities to trust besides the usual ones: `OPREL_TLS_CA`.
    pub authorities: Option<PathBuf>,
    /// Private keys that registries know us by, the first that is there: in `OPREL_HOME`, then Ollama's.
    pub keys: Vec<PathBuf>,
    /// Parts that are fetched side by side: `OPREL_DOWNLOAD_STREAMS`.
    pub streams: usize,
    /// Most bytes of a part; by the file's size where nothing is said.
    pub part_bytes: Option<u64>,
    /// Bytes in a second, of all downloads together: `OPREL_DOWNLOAD_RATE`.
    pub bytes_per_second: Option<u64>,
    /// How long a server may send nothing before it is asked anew: `OPREL_DOWNLOAD_STALL` in seconds.
    pub stall: Duration,
    /// Before a second try; doubled for each further one.
    pub backoff: Duration,
}

impl Settings {
    /// As this process' environment says.
    ///
    /// # Errors
    /// If a variable has a value that makes no sense.
    pub fn from_env() -> Result<Settings> {
        Settings::from_lookup(&|name| std::env::var(name).ok())
    }

    /// As these variables say.
    ///
    /// # Errors
    /// If one has a value that makes no sense.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Settings> {
        let set = |name: &str| lookup(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let number = |name: &str| number(name, set(name));
        let home = set("HOME").or_else(|| set("USERPROFILE")).map(PathBuf::from);
        let own =
            set("OPREL_HOME").map(PathBuf::from).or_else(|| Some(home.clone()?.join(".oprel")));
        let theirs = home.map(|home| home.join(".ollama"));
        Ok(Settings {
            endpoint: endpoint_of(&endpoint)?,
            token: token(&set),
            is_offline: ["HF_HUB_OFFLINE", "OPREL_OFFLINE"].iter().any(|name| is_on(set(name))),
            authorities: set("OPREL_TLS_CA").map(PathBuf::from),
            keys: [own, theirs].into_iter().flatten().map(|h| h.join("id_ed25519")).collect(),
            streams: number("OPREL_DOWNLOAD_STREAMS")?.map_or(8, |n| n.clamp(1, 64) as usize),
            part_bytes: None,
            bytes_per_second: number("OPREL_DOWNLOAD_RATE")?,
            stall: Duration::from_secs(number("OPREL_DOWNLOAD_STALL")?.unwrap_or(30).max(1)),
            backoff: Duration::from_secs(1),
        })
    }
}

fn endpoint_of(text: &str) -> Result<Url> {
    let wrong = || {
        Error::Malformed(format!(
            "HF_ENDPOINT is '{text}', which is no address of a hub such as https://huggingface.co"
        ))
    };
    let with_end = format!("{}/", text.trim_end_matches('/'));
    let url: Url = with_end.parse().map_err(|_| wrong())?;
    let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
    is_web.then_some(url).ok_or_else(wrong)
}

fn number(name: &str, value: Option<String>) -> Result<Option<u64>> {
    let wrong = |value: &str| Error::Malformed(format!("{name} is '{value}', which is no number"));
    value.map(|value| value.parse().map_err(|_| wrong(&value))).transpose()
}

/// As Hugging Face's tools read switches.
fn is_on(value: Option<String>) -> bool {
    value.is_some_and(|v| ["1", "on", "yes", "true"].contains(&v.to_ascii_lowercase().as_str()))
}

fn token(set: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    if let Some(token) = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN")) {
        return Some(token);
    }
    if is_on(set("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
        return None;
    }
    let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache")));
    let home = set("HF_HOME").map(PathBuf::from).or_else(|| Some(cache?.join("huggingface")));
    let file = set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home?.join("token")))?;
    let text = std::fs::read_to_string(file).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<Settings> {
        let found = |name: &str| {
            let pair = pairs.iter().find(|(known, _)| *known == name);
            pair.map(|(_, value)| (*value).to_owned())
        };
        Settings::from_lookup(&found)
    }

    #[test]
    fn without_variables_it_is_the_hub_without_a_token() {
        let settings = from(&[]).expect("sensible");
        assert_eq!(settings.endpoint.as_str(), "https://huggingface.co/");
        assert_eq!((settings.token, settings.is_offline), (None, false));
        assert_eq!(settings.stall, Duration::from_secs(30));
    }

    #[test]
    fn variables_mean_what_they_mean_to_others() {
        let settings = from(&[
            ("HF_ENDPOINT", "http://127.0.0.1:8080/hub/"),
            ("HF_TOKEN", " hf_abc\n"),
            ("HF_HUB_OFFLINE", "Yes"),
            ("OPREL_HOME", "/o"),
            ("HOME", "/h"),
        ]);
        let settings = settings.expect("sensible");
        assert_eq!(settings.endpoint.as_str(), "http://127.0.0.1:8080/hub/");
        assert_eq!(settings.token.as_deref(), Some("hf_abc"));
        assert!(settings.is_offline);
        let keys = ["/o/id_ed25519", "/h/.ollama/id_ed25519"].map(PathBuf::from);
        assert_eq!(settings.keys, keys);
        for value in ["ftp://x", "nonsense", "http://"] {
            assert!(from(&[("HF_ENDPOINT", value)]).is_err(), "{value}");
        }
        assert!(from(&[("OPREL_DOWNLOAD_RATE", "fast")]).is_err());
    }

    #[test]
    fn the_file_with_the_token_is_found_where_it_is_said_to_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().to_str().expect("UTF-8");
        let hidden = format!("{home}/.cache/huggingface");
        std::fs::create_dir_all(&hidden).expect("writable");
        std::fs::write(format!("{hidden}/token"), "usual\n").expect("writable");
        std::fs::write(format!("{home}/token"), "named").expect("writable");
        let token = |pairs: &[(&str, &str)]| from(pairs).expect("sensible").token;
        assert_eq!(token(&[("HOME", home)]).as_deref(), Some("usual"));
        assert_eq!(token(&[("HF_HOME", home)]).as_deref(), Some("named"));
        assert_eq!(token(&[("HF_TOKEN_PATH", &format!("{home}/token"))]).as_deref(), Some("named"));
        let implicit = [("HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
        assert_eq!(token(&implicit), None);
    }
}
