//! A model of a daemon.

use std::time::Instant;

use oprel_api::native::{Generate, Tokenize};
use oprel_api::{EmbedRequest, Embeddings, Ranking, Request, RerankRequest};
use oprel_backend::{Capability, Description};
use oprel_client::{Client, Daemon, Error};
use oprel_tokenizer::TokenizeOptions;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{OprelError, Result, Show, Stream};

/// A model of a daemon.
#[derive(Debug)]
pub(crate) struct Served {
    daemon: Daemon,
    client: Client,
    name: String,
    /// Most tokens of prompt and answer that were asked for.
    context: Option<u32>,
    about: Description,
}

impl Served {
    pub(crate) fn load(daemon: Daemon, name: String, context: Option<u32>) -> Result<Served> {
        let client = Client::connect(&daemon)?;
        let start = Instant::now();
        let mut about: Description = shaped(client.load(&name)?)?;
        // A model that was there already took no time.
        about.load_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Ok(Served { daemon, client, name, context, about })
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What was known of it when it was loaded.
    pub(crate) fn about(&self) -> &Description {
        &self.about
    }

    pub(crate) fn context(&self) -> u32 {
        self.context.unwrap_or(u32::MAX).min(self.about.context)
    }

    pub(crate) fn ranks(&self) -> bool {
        self.about.capabilities.contains(&Capability::Rerank)
    }

    pub(crate) fn generate(&self, request: Request) -> Result<Stream> {
        let mut streams = self.generate_all(request)?;
        streams.pop().ok_or_else(|| OprelError::validation("n must be 1 or more, not 0"))
    }

    pub(crate) fn generate_all(&self, mut request: Request) -> Result<Vec<Stream>> {
        // Numbers that JSON has no way to write must not get lost on the way.
        request.validate().map_err(|e| OprelError::from(oprel_api::Failure::from(e)))?;
        request.limits.context = request.limits.context.or(self.context);
        let answers = usize::try_from(request.n).unwrap_or(usize::MAX);
        let body = Generate::of(&self.name, request);
        let events = self.ask(|client| client.generate(&body))?;
        Ok(Stream::there(events, answers))
    }

    pub(crate) fn embed(&self, request: &EmbedRequest) -> Result<Embeddings> {
        self.ask(|client| client.embed(&self.name, request))
    }

    pub(crate) fn rerank(&self, request: &RerankRequest) -> Result<Ranking> {
        self.ask(|client| client.rerank(&self.name, request))
    }

    pub(crate) fn tokenize(&self, text: &str, options: TokenizeOptions) -> Result<Vec<u32>> {
        let TokenizeOptions { add_special, parse_special } = options;
        let request = Tokenize { text: text.into(), add_special, parse_special };
        self.ask(|client| client.tokenize(&self.name, &request))
    }

    pub(crate) fn detokenize(&self, tokens: &[u32]) -> Result<String> {
        self.ask(|client| client.detokenize(&self.name, tokens))
    }

    pub(crate) fn show(&self, verbose: bool) -> Result<Show> {
        shaped(self.ask(|client| client.show(&self.name, verbose))?)
    }

    pub(crate) fn unload(&self) -> Result<()> {
        self.client.unload(&self.name)?;
        Ok(())
    }

    /// Asks the daemon; where it is gone and may be started, it is, and asked again: of what a daemon does
    /// that is gone, nothing is left.
    fn ask<T>(&self, ask: impl Fn(&Client) -> oprel_client::Result<T>) -> Result<T> {
        match ask(&self.client) {
            Err(Error::Unreachable { .. }) if self.daemon.starts() => {
                self.client.reach(&self.daemon)?;
                Ok(ask(&self.client)?)
            }
            asked => Ok(asked?),
        }
    }
}

/// What a daemon told, in its shape here.
pub(crate) fn shaped<T: DeserializeOwned>(told: Value) -> Result<T> {
    serde_json::from_value(told).map_err(|e| Error::Answer { what: e.to_string() }.into())
}
