//! Where traces go, as OpenTelemetry's variables say. Those for traces alone win over those for all.

use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use oprel_client::Endpoint;

use super::Error;

/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is told.
const EVERY: Duration = Duration::from_secs(5);

/// Where traces go.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) endpoint: Endpoint,
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) timeout: Duration,
    pub(super) every: Duration,
    /// What is told of this program.
    pub(super) resource: Vec<(String, String)>,
}

impl Settings {
    /// What the variables of this process say; `None` if traces go nowhere.
    ///
    /// # Errors
    /// By the name of a variable that makes no sense.
    pub fn from_env() -> Result<Option<Settings>, Error> {
        Settings::read(&|name| std::env::var(name).ok())
    }

    pub(super) fn read(
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Settings>, Error> {
        let set = |name: &str| {
            let value = variable(name)?.trim().to_string();
            (!value.is_empty()).then_some(value)
        };
        // The variable for traces, else that for all, and which of them it was.
        let chosen = |name: &str| {
            let names = ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"];
            names
                .into_iter()
                .map(|start| format!("{start}{name}"))
                .find_map(|n| Some((set(&n)?, n)))
        };
        let is_off = set("OTEL_SDK_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|name| name == "none");
        let Some((url, name)) = chosen("ENDPOINT").filter(|_| !is_off) else { return Ok(None) };
        if let Some((protocol, variable)) = chosen("PROTOCOL").filter(|(p, _)| p == "grpc") {
            return Err(Error::Protocol { variable, name: protocol });
        }
        let (endpoint, mut path) = address(&url)
            .ok_or_else(|| Error::Endpoint { variable: name.clone(), url: url.clone() })?;
        if !name.contains("TRACES") {
            path = format!("{}/v1/traces", path.trim_end_matches('/'));
        }
        let number = |said: Option<(String, String)>, usual| match said {
            None => Ok(usual),
            Some((text, variable)) => {
                text.parse().map(Duration::from_millis).map_err(|_| Error::Unreadable { variable })
            }
        };
        let delay = "OTEL_BSP_SCHEDULE_DELAY";
        Ok(Some(Settings {
            endpoint,
            path,
            headers: headers(chosen("HEADERS"))?,
            timeout: number(chosen("TIMEOUT"), TIMEOUT)?,
            every: number(set(delay).map(|text| (text, delay.into())), EVERY)?,
            resource: resource(set("OTEL_RESOURCE_ATTRIBUTES"), set("OTEL_SERVICE_NAME")),
        }))
    }

    /// The whole address.
    pub(super) fn address(&self) -> String {
        self.endpoint.uri(&self.path)
    }
}

/// Whom to connect to, and the path there.
fn address(url: &str) -> Option<(Endpoint, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
    let is_address = matches!(scheme, "http" | "https") && host.chars().all(plain);
    if !is_address || host.is_empty() {
        return None;
    }
    Some((Endpoint::parse(&format!("{scheme}://{host}")).ok()?, format!("/{path}")))
}

/// `name=value,...` with `%20` for what cannot stand there.
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_string(), decoded(value.trim())))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn headers(said: Option<(String, String)>) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
    let Some((text, variable)) = said else { return Ok(Vec::new()) };
    let header = |(name, value): (String, String)| {
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
    };
    let all: Option<Vec<_>> = pairs(&text).map(header).collect();
    all.ok_or(Error::Unreadable { variable })
}

/// What is told of this program; its name is its own if nobody says another.
fn resource(attributes: Option<String>, name: Option<String>) -> Vec<(String, String)> {
    const NAME: &str = "service.name";
    let mut all: Vec<_> =
        attributes.as_deref().map(|text| pairs(text).collect()).unwrap_or_default();
    let known = all.iter().position(|(key, _)| key == NAME).map(|at| all.remove(at).1);
    let name = name.or(known).unwrap_or_else(|| "oprel".into());
    all.push((NAME.into(), name));
    if !all.iter().any(|(key, _)| key == "service.version") {
        all.push(("service.version".into(), env!("CARGO_PKG_VERSION").into()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Option<Settings>, Error> {
        let value = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        Settings::read(&value)
    }

    #[test]
    fn it_goes_where_the_variables_say() {
        let all = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let traces = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        let address = |set: &[_]| read(set).unwrap().unwrap().address();
        assert_eq!(address(&[(all, "http://a:4318")]), "http://a:4318/v1/traces");
        assert_eq!(address(&[(all, "https://a/otlp/")]), "https://a:443/otlp/v1/traces");
        assert_eq!(address(&[(all, "http://a"), (traces, "http://b:1/x")]), "http://b:1/x");
        let off = [(all, "http://a"), ("OTEL_SDK_DISABLED", "TRUE")];
        assert!(read(&off).unwrap().is_none() && read(&[]).unwrap().is_none());
        assert!(read(&[(all, "http://a"), ("OTEL_TRACES_EXPORTER", "none")]).unwrap().is_none());
        let grpc = [(all, "http://a"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
        assert!(read(&grpc).unwrap_err().to_string().contains("http/json"));
        for url in ["a:4318", "http://", "http://u:key@a", "ftp://a"] {
            assert!(read(&[(all, url)]).unwrap_err().to_string().contains(all), "{url}");
        }
    }

    #[test]
    fn headers_times_and_names_are_read() {
        let mut set = vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, a=b=c"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment=here"),
        ];
        let settings = read(&set).unwrap().unwrap();
        let headers: Vec<_> =
            settings.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(headers, [("authorization", "Bearer x"), ("a", "b=c")]);
        assert_eq!((settings.timeout, settings.every), (Duration::from_millis(250), EVERY));
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        assert!(settings.resource.contains(&pair("deployment", "here")));
        assert!(settings.resource.contains(&pair("service.name", "other")));
        set.push(("OTEL_SERVICE_NAME", "mine"));
        assert!(read(&set).unwrap().unwrap().resource.contains(&pair("service.name", "mine")));
        set.push(("OTEL_BSP_SCHEDULE_DELAY", "soon"));
        assert!(read(&set).unwrap_err().to_string().contains("OTEL_BSP_SCHEDULE_DELAY"));
    }
}
