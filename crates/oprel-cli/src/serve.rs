//! `oprel serve`: the daemon, from the command line and the environment.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use oprel::OprelError;
use oprel_backend::{LoadOptions, ModelSource, PromptCache};
use oprel_config::{Address, PORT, home};
use oprel_hub::{Access, Grace, Store};
use oprel_server::conversations::{self, Bounds, Embedded};
use oprel_server::tls::Acceptor;
use oprel_server::{
    Gate, Given, KeepAlive, Keys, Limits, Options, Policy, Server, Spans, keep_alive,
};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::args::{Load, LogFormat, Serve};
use crate::commands::{most_memory, usual_draft};
use crate::outcome::tell;
use crate::platform::Ends;
use crate::terminal::has_colours;
use crate::{config, files, platform, systemd};

/// The version of Ollama whose routes these are, for clients that ask.
const SPEAKS: &str = "0.32.0";
/// Longer than any machine runs; clocks can still count it.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Most bytes of a body: images come in base64.
const MOST_BODY: usize = 64 << 20;

pub(crate) fn run(args: &Serve) -> anyhow::Result<()> {
    log(args)?;
    let mut options = options(args)?;
    options.limits.connections = files::connections(options.limits.connections)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the server's threads")?;
    runtime.block_on(async {
        let ends = Ends::watch().context("cannot watch for signals")?;
        let (first, socket) = (options.addresses.first().copied(), options.socket.clone());
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let server = match Server::bind(options).await {
            Ok(server) => server,
            Err(error) => return Err(taken(error, first)),
        };
        for address in server.addresses() {
            tell(&format!("oprel listens on {scheme}://{address}"));
        }
        if let Some(path) = &socket {
            tell(&format!("oprel listens on {}", path.display()));
        }
        systemd::notify("READY=1");
        let (asked, stop) = watch::channel(0);
        tokio::spawn(count(ends, asked));
        server.run(stop).await;
        Ok(())
    })
}

/// Counts how often an end was asked for.
async fn count(mut ends: Ends, asked: watch::Sender<u32>) {
    loop {
        ends.next().await;
        if *asked.borrow() == 0 {
            systemd::notify("STOPPING=1");
        }
        asked.send_modify(|n| *n += 1);
    }
}

/// The log goes to standard error; the setting `log` says what of it, as in `debug` or `oprel_server=debug`.
fn log(args: &Serve) -> Result<(), OprelError> {
    let wanted = oprel_config::setting("log").unwrap_or_else(|| "info".into());
    let filter = EnvFilter::try_new(&wanted).map_err(|_| {
        let form =
            "it must be a level, such as debug, or levels by part, such as oprel_server=debug";
        OprelError::validation(format!("the setting log is '{wanted}'; {form}"))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(has_colours(&std::io::stderr()))
        .with_writer(std::io::stderr)
        // It would say so where it just could not write, and panic.
        .log_internal_errors(false);
    match args.log {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

fn options(args: &Serve) -> anyhow::Result<Options> {
    let given = systemd::sockets()?;
    // Sockets that are handed over are instead of those that would be opened.
    let addresses = if given.is_empty() { addresses(args)? } else { Vec::new() };
    let handed = given.iter().filter_map(Given::address);
    let all: Vec<SocketAddr> = handed.chain(addresses.iter().copied()).collect();
    let open = all.iter().find(|a| !a.ip().is_loopback());
    let path = keys_file().unwrap_or_default();
    let keys = Keys::at(&path);
    let has_keys = !keys.list().map_err(|error| lost_keys(&path, &error))?.is_empty();
    if let Some(address) = open.filter(|_| !args.insecure_no_auth && !has_keys) {
        return Err(OprelError::Validation {
            message: format!("{address} can be reached from other machines, by anybody"),
            hint: Some("make a key with `oprel key create`, listen on 127.0.0.1, or allow it with --insecure-no-auth".into()),
            source: None,
        }
        .into());
    }
    let set = config::get()?;
    let load_timeout = time("load_timeout", "5m, or seconds")?.map(longest_load);
    let own = platform::own_program().context("cannot find this program")?;
    let start = crate::backends::starts(own, args.backend, load_timeout)?;
    let keep = time("keep_alive", "5m, or -1")?;
    let models = Policy {
        start,
        elsewhere: crate::backends::models(&args.remote)?,
        store: store()?,
        fetcher: Some(oprel::fetcher()?),
        catalog: oprel::catalog()?,
        load: LoadOptions { usual_draft: draft(args)?, ..load_options(&args.load)? },
        keep_alive: keep.unwrap_or(KeepAlive::For(Duration::from_secs(300))),
        most: set.number("max_loaded_models").filter(|&n| n > 0),
        most_waiting: set.number("max_queue").unwrap_or(512),
        patience: Duration::from_secs(60),
    };
    Ok(Options {
        gate: gate(args, &all),
        socket: socket(args).filter(|_| given.is_empty()),
        addresses,
        given,
        keys,
        keys_for_all: args.require_key,
        conversations: conversations(args)?,
        models,
        tls: tls(args)?,
        spans: spans(),
        limits: Limits { grace: Duration::from_secs(args.grace), ..Limits::default() },
        most_body: MOST_BODY,
        version: SPEAKS.into(),
        context: set.number("context_length").filter(|&n| n > 0),
    })
}

/// A setting that is a time.
fn time(key: &str, such_as: &str) -> Result<Option<KeepAlive>, OprelError> {
    let set = config::get()?;
    let read = |text| {
        let why = format!("the setting {key} is '{text}'; it must be a time such as {such_as}");
        keep_alive(text).ok_or_else(|| OprelError::validation(why))
    };
    set.text(key).map(read).transpose()
}

/// How long a model may take to load: nothing and less are for ever, as in Ollama.
fn longest_load(time: KeepAlive) -> Duration {
    match time {
        KeepAlive::For(time) if !time.is_zero() => time.min(FOREVER),
        _ => FOREVER,
    }
}

/// The store of models; files that nothing needs any more are removed from it.
fn store() -> Result<Option<Store>, OprelError> {
    let places = match oprel::places() {
        Ok(places) => places,
        Err(error) => {
            tell(&format!("there is no store of models: {error}"));
            return Ok(None);
        }
    };
    let store = match Store::at(places.clone(), Access::Write) {
        Ok(store) => store,
        Err(error) => {
            tell(&format!("the store of models is only read: {error}"));
            return Ok(Some(Store::at(places, Access::Read)?));
        }
    };
    if let Err(error) = store.collect(Grace::default()) {
        tracing::warn!(%error, "nothing was removed from the store");
    }
    Ok(Some(store))
}

/// The certificate and its key, if there are any.
fn tls(args: &Serve) -> Result<Option<Acceptor>, OprelError> {
    let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) else { return Ok(None) };
    Acceptor::load(cert, key).map(Some).map_err(|error| OprelError::Validation {
        message: error.to_string(),
        hint: error.hint().map(Into::into),
        source: None,
    })
}

fn load_options(load: &Load) -> Result<LoadOptions, OprelError> {
    let set = config::get()?;
    let cache = load.prompt_cache()?;
    Ok(LoadOptions {
        context: load.size.ctx_size,
        longest: load.size.ctx_size.is_none(),
        threads: load.size.threads.or(set.number("threads").filter(|n| *n > 0)),
        parallel: set.number("num_parallel").filter(|n| *n > 0),
        batch: load.size.batch_size()?,
        gpu_layers: set.number("gpu_layers"),
        kv: load.size.kv()?,
        prompt_cache: cache.map(|(folder, most_bytes)| PromptCache { folder, most_bytes }),
        isa: set.text("isa").map(str::to_owned),
        overcommit: load.overcommits()?,
        most_memory: most_memory()?,
        ..LoadOptions::default()
    })
}

/// The smaller model of the whole server. One that cannot be read is told before any model is asked for.
fn draft(args: &Serve) -> Result<Option<ModelSource>, OprelError> {
    let draft = usual_draft(args.draft.as_deref())?;
    if let Some(source) = &draft {
        source.open()?;
    }
    Ok(draft)
}

/// Where to listen: what was typed, then `OPREL_HOST`, then `OLLAMA_HOST`, then this machine only.
fn addresses(args: &Serve) -> anyhow::Result<Vec<SocketAddr>> {
    let said = args.host.as_deref().map(Address::parse).transpose();
    let said = said.map_err(|error| OprelError::validation(format!("--host: {error}")))?;
    let (host, port) = match said.or(config::get()?.address("host")) {
        None => (String::new(), PORT),
        Some(Address::Net(net)) => (net.host, net.port),
        Some(Address::Socket(path) | Address::Pipe(path)) => return Err(no_host(&path).into()),
    };
    let port = args.port.unwrap_or(port);
    if host.is_empty() {
        return Ok(vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)]);
    }
    let unknown = || OprelError::validation(format!("'{host}' is no address of this machine"));
    let found: Vec<_> = (host.as_str(), port).to_socket_addrs().map_err(|_| unknown())?.collect();
    // A name may stand for two addresses; both are this machine.
    if found.is_empty() { Err(unknown().into()) } else { Ok(found) }
}

/// Clients are told of a socket in the same place; who listens on one listens on a port, too.
fn no_host(path: &Path) -> OprelError {
    let place = path.display();
    OprelError::Validation {
        message: format!("'{place}' is no host to listen on"),
        hint: Some(format!("give it as --socket {place}, and a host with --host")),
        source: None,
    }
}

fn gate(args: &Serve, addresses: &[SocketAddr]) -> Gate {
    let own = addresses.iter().map(|a| a.ip()).filter(|ip| !ip.is_unspecified());
    let names = args.allow_host.iter().map(|h| h.to_ascii_lowercase());
    let set = oprel_config::current().ok();
    let origins = set.into_iter().flat_map(|set| set.list("origins"));
    Gate {
        hosts: own.map(|ip| ip.to_string()).chain(names).collect(),
        origins: origins.map(str::to_string).chain(args.allow_origin.iter().cloned()).collect(),
    }
}

fn socket(args: &Serve) -> Option<PathBuf> {
    if args.no_socket {
        return None;
    }
    args.socket.clone().or_else(platform::local_place)
}

/// Conversations are kept in `OPREL_HOME`, or where it is said; a server without them still serves all else.
fn conversations(args: &Serve) -> Result<Option<Arc<dyn conversations::Store>>, OprelError> {
    if let Some(url) = args.conversations.clone().or_else(|| oprel_config::setting("conversations"))
    {
        return shared(&url).map(Some);
    }
    let Some(home) = home() else { return Ok(None) };
    match Embedded::open(&home.join("conversations.redb"), Bounds::default()) {
        Ok(store) => Ok(Some(Arc::new(store))),
        Err(error) => {
            tell(&format!("conversations are not remembered: {error}"));
            Ok(None)
        }
    }
}

/// Conversations that several servers share.
#[cfg(feature = "redis")]
fn shared(url: &str) -> Result<Arc<dyn conversations::Store>, OprelError> {
    match oprel_server::conversations::Shared::at(url, Bounds::default()) {
        Ok(store) => Ok(Arc::new(store)),
        // The address may have a password.
        Err(_) => Err(OprelError::validation(
            "--conversations is no address of a Redis: redis://host[:port]",
        )),
    }
}

/// Conversations that several servers share.
#[cfg(not(feature = "redis"))]
fn shared(_: &str) -> Result<Arc<dyn conversations::Store>, OprelError> {
    Err(OprelError::Validation {
        message: "this program was built without Redis".into(),
        hint: Some("build it with `--features redis`, or leave --conversations out".into()),
        source: None,
    })
}

/// Who keeps what is traced of requests. Without them all else is served.
#[cfg(feature = "otel")]
fn spans() -> Option<Arc<dyn Spans>> {
    use oprel_server::otel::{Exporter, Settings};
    let started = Settings::from_env().and_then(|set| set.map(Exporter::start).transpose());
    let exporter = started.unwrap_or_else(|error| {
        tell(&format!("nothing is traced: {error}"));
        None
    });
    exporter.map(|exporter| Arc::new(exporter) as Arc<dyn Spans>)
}

/// Who keeps what is traced of requests.
#[cfg(not(feature = "otel"))]
fn spans() -> Option<Arc<dyn Spans>> {
    const WHERE: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    let set = |name: &&str| std::env::var_os(name).is_some_and(|url| !url.is_empty());
    if let Some(name) = WHERE.iter().find(|name| set(name)) {
        tell(&format!(
            "nothing is traced: {name} is set, and this program was built without OpenTelemetry (--features otel)"
        ));
    }
    None
}

/// Keys that are there and cannot be read: a server that went on would not know whom to let in.
fn lost_keys(path: &Path, error: &std::io::Error) -> OprelError {
    OprelError::Validation {
        message: format!("cannot read the keys of clients in '{}': {error}", path.display()),
        hint: Some(
            "put their file back and let this user read it, or move away what is there: \
             `oprel key create` then makes new ones"
                .into(),
        ),
        source: None,
    }
}

/// Where keys are kept.
pub(crate) fn keys_file() -> Option<PathBuf> {
    Some(home()?.join("keys"))
}

/// Why a server cannot listen, and on what else it could.
fn taken(error: std::io::Error, address: Option<SocketAddr>) -> anyhow::Error {
    let mut message = error.to_string();
    let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
    if let Some(who) = address.filter(|_| in_use).and_then(who_listens) {
        message.push_str(&format!("; {who} is there"));
    }
    let hint = in_use
        .then(|| "stop it, or choose another place with --port, --socket or OPREL_HOST".into());
    OprelError::Validation { message, hint, source: None }.into()
}

/// What answers at an address.
fn who_listens(address: SocketAddr) -> Option<String> {
    let time = Duration::from_millis(500);
    let mut stream = TcpStream::connect_timeout(&address, time).ok()?;
    stream.set_read_timeout(Some(time)).ok()?;
    let ask = format!("GET /api/version HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(ask.as_bytes()).ok()?;
    let mut answer = String::new();
    let _ = stream.take(4096).read_to_string(&mut answer);
    let is_oprel = answer.to_ascii_lowercase().contains("x-request-id");
    let version = answer.split("\"version\":\"").nth(1).and_then(|v| v.split('"').next());
    match (is_oprel, version) {
        (true, Some(_)) => Some("another oprel".into()),
        (false, Some(version)) => Some(format!("Ollama {version}")),
        _ => Some("another program".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_may_load_for_ever_where_no_time_is_said() {
        for (text, seconds) in [("5m", 300), ("90", 90), ("1h30m", 5400)] {
            let time = keep_alive(text).map(longest_load);
            assert_eq!(time, Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["0", "-1", "-5m"] {
            assert_eq!(keep_alive(text).map(longest_load), Some(FOREVER), "{text}");
        }
        assert_eq!(keep_alive("soon"), None);
    }
}
