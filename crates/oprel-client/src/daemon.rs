//! A daemon: where it is, and whether it may be started.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::program::{self, Log};
use crate::{AsyncClient, Endpoint, Error, Result, platform};

/// How long a daemon may take to start.
const START: Duration = Duration::from_secs(20);
/// How long another one, which took its place, may take.
const OTHER: Duration = Duration::from_secs(2);
/// How often it is asked whether it is there.
const ASK: Duration = Duration::from_millis(10);

/// A daemon: where it is, with which key it is spoken to, and whether it is started where none answers.
#[derive(Clone, Debug)]
#[must_use = "nothing is spoken to or started until `connect`"]
pub struct Daemon {
    endpoint: Endpoint,
    key: Option<Arc<str>>,
    starts: bool,
    program: Option<PathBuf>,
}

impl Daemon {
    /// The daemon of this user: at `OPREL_HOST`, then `OLLAMA_HOST`, then `host` in `config.yaml`, then its usual
    /// place; with the key that `OPREL_API_KEY` holds, or `api_key` there. It is not started.
    ///
    /// # Errors
    /// [`Error::Settings`] if what is set cannot be used.
    pub fn from_env() -> Result<Daemon> {
        let key = oprel_config::setting("api_key");
        let daemon = Daemon::at(Endpoint::from_env()?);
        Ok(Daemon { key: key.map(Arc::from), ..daemon })
    }

    /// The daemon at a place. It is not started.
    pub fn at(endpoint: Endpoint) -> Daemon {
        Daemon { endpoint, key: None, starts: false, program: None }
    }

    /// The same at another place, with the same key.
    pub fn moved(self, endpoint: Endpoint) -> Daemon {
        Daemon { endpoint, ..self }
    }

    /// Speaks with a key.
    pub fn key(mut self, key: &str) -> Daemon {
        self.key = Some(key.into());
        self
    }

    /// Starts it where none answers: the program that `OPREL_BIN` names, else `oprel` on `PATH`. It stays when
    /// this process ends; what it says is in `logs/serve.log` in `OPREL_HOME`.
    pub fn started(mut self) -> Daemon {
        self.starts = true;
        self
    }

    /// As [`Daemon::started`], with this program.
    pub fn started_as(mut self, program: impl Into<PathBuf>) -> Daemon {
        self.program = Some(program.into());
        self.started()
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether it is started where none answers.
    pub fn starts(&self) -> bool {
        self.starts
    }

    /// A client of it, whether it answers or not.
    pub fn client(&self) -> AsyncClient {
        let client = AsyncClient::new(self.endpoint.clone());
        self.key.iter().fold(client, |client, key| client.with_key(key))
    }

    /// A client of it once it answers, started if it may be.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if none answers and none may be started, [`Error::NoProgram`] if there is none that
    /// could be, [`Error::NotStarted`] with what it said if it ended or does not answer.
    pub async fn connect(&self) -> Result<AsyncClient> {
        let client = self.client();
        if client.is_there().await {
            return Ok(client);
        }
        if !self.starts {
            let why = match client.get("/health").await {
                Err(error @ (Error::Unreachable { .. } | Error::Untrusted { .. })) => {
                    return Err(error);
                }
                Err(Error::Refused { status: 503, .. }) => "it is stopping",
                _ => "what answers there is another program",
            };
            let endpoint = self.endpoint.to_string();
            return Err(Error::Unreachable { endpoint, why: why.into() });
        }
        let program = match &self.program {
            Some(program) => program.clone(),
            None => program::find()?,
        };
        let (log, child) = self.spawn(&program)?;
        self.wait(&client, log, child).await?;
        Ok(client)
    }

    fn spawn(&self, program: &PathBuf) -> Result<(Option<Log>, Child)> {
        let mut command = Command::new(program);
        command.arg("serve").args(self.place()?);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let log = Log::open().map(|(log, file)| {
            command.stderr(file);
            log
        });
        // What interrupts this program does not interrupt it.
        platform::detach(&mut command);
        let child = command.spawn().map_err(|e| Error::NoProgram {
            what: format!("'{}' cannot be started: {e}", program.display()),
        })?;
        Ok((log, child))
    }

    /// Options that let it listen where it is looked for. It is never opened to other machines.
    fn place(&self) -> Result<Vec<String>> {
        match &self.endpoint {
            Endpoint::Tcp { host, port } => {
                if !self.endpoint.is_here() {
                    return Err(Error::Elsewhere { endpoint: self.endpoint.to_string() });
                }
                Ok(vec!["--host".into(), host.clone(), "--port".into(), port.to_string()])
            }
            // It would need a certificate.
            Endpoint::Tls { .. } => Err(Error::Elsewhere { endpoint: self.endpoint.to_string() }),
            // The usual port may be another one's; nobody looks for this one there.
            Endpoint::Socket(path) | Endpoint::Pipe(path) => {
                if !self.endpoint.is_here() {
                    return Err(Error::Elsewhere { endpoint: self.endpoint.to_string() });
                }
                let path = path.display().to_string();
                Ok(vec!["--socket".into(), path, "--port".into(), "0".into()])
            }
        }
    }

    async fn wait(&self, client: &AsyncClient, log: Option<Log>, mut child: Child) -> Result<()> {
        let mut until = Instant::now() + START;
        let mut ended = None;
        while Instant::now() < until {
            if client.is_there().await {
                // Whoever started it is told of its end.
                std::thread::spawn(move || child.wait());
                return Ok(());
            }
            if let (None, Ok(Some(status))) = (ended, child.try_wait()) {
                // Somebody else may have started one at the same moment.
                ended = Some(status);
                until = Instant::now() + OTHER;
            }
            tokio::time::sleep(ASK).await;
        }
        if ended.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let said = log.and_then(|log| log.error());
        let (why, hint) = said.unwrap_or_else(|| match ended {
            Some(status) => (format!("it ended at once with {status}"), None),
            None => (format!("it does not answer at {}", self.endpoint), None),
        });
        Err(Error::NotStarted { why, hint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_started_where_it_is_looked_for_and_on_this_machine_alone() {
        let at = |place: &str| Daemon::at(Endpoint::parse(place).unwrap());
        let words = |place: &str| at(place).place().map(|w| w.join(" "));
        assert_eq!(words("127.0.0.1:7").unwrap(), "--host 127.0.0.1 --port 7");
        assert_eq!(words("[::1]:7").unwrap(), "--host [::1] --port 7");
        assert_eq!(words("0.0.0.0:7").unwrap(), "--host 127.0.0.1 --port 7");
        assert_eq!(words("unix:/a/b.sock").unwrap(), "--socket /a/b.sock --port 0");
        assert_eq!(words("pipe:o").unwrap(), r"--socket \\.\pipe\o --port 0");
        for elsewhere in ["192.0.2.1:7", "box.lan", r"\\box\pipe\o"] {
            assert!(matches!(words(elsewhere), Err(Error::Elsewhere { .. })), "{elsewhere}");
        }
    }
}
