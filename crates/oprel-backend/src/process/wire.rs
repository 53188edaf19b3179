//! What a daemon and its worker processes say to each other: frames of a length (4 bytes, little-endian)
//! and a message (MessagePack) over a private socket. Both ends are one build, so nothing here is versioned
//! beyond the greeting.

use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;

use oprel_api::{
    Cause, EmbedRequest, Embeddings, Event, Failure, Gauges, Ranking, Request, RerankRequest,
};
use oprel_tokenizer::TokenizeOptions;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Description, Executor, LoadOptions, ModelSource, PromptCache};

/// Changes whenever messages do.
const PROTOCOL: u32 = 5;
/// Longest frame.
const MOST_BYTES: usize = 512 << 20;

/// What a build calls itself in the greeting.
pub(super) fn build() -> String {
    format!("{} {PROTOCOL}", env!("CARGO_PKG_VERSION"))
}

/// To a worker. An `id` names a call, or one answer of a generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum ToWorker {
    /// The first message.
    Load(Box<Load>),
    /// One answer for each id.
    Generate {
        ids: Vec<u64>,
        request: Box<Request>,
    },
    Cancel {
        id: u64,
    },
    Embed {
        id: u64,
        request: EmbedRequest,
    },
    Rerank {
        id: u64,
        request: RerankRequest,
    },
    PromptTokens {
        id: u64,
        request: Box<Request>,
    },
    Tokenize {
        id: u64,
        text: String,
        add_special: bool,
        parse_special: bool,
    },
    Detokenize {
        id: u64,
        tokens: Vec<u32>,
    },
    Gauges {
        id: u64,
    },
    Ping,
    /// Finish: what was computed is written out first.
    Stop,
}

impl ToWorker {
    /// The call, where it is one that has a reply of its own.
    pub(super) fn id(&self) -> Option<u64> {
        use ToWorker::{Detokenize, Embed, Gauges, PromptTokens, Rerank, Tokenize};
        match self {
            Embed { id, .. }
            | Rerank { id, .. }
            | PromptTokens { id, .. }
            | Tokenize { id, .. }
            | Detokenize { id, .. }
            | Gauges { id } => Some(*id),
            _ => None,
        }
    }
}

/// From a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromWorker {
    /// The first message.
    Hello {
        build: String,
    },
    Loaded(Box<Description>),
    /// The last message.
    NotLoaded(Failure),
    /// Events of one answer, all or none.
    Said {
        id: u64,
        events: Vec<Event>,
    },
    /// To a call, or to the first id of a generation.
    Reply {
        id: u64,
        reply: Result<Reply, Failure>,
    },
    Pong {
        /// Turns that the engine's thread made.
        turns: u64,
        /// Whether it has something to do.
        busy: bool,
    },
}

impl FromWorker {
    /// The failure of an engine whose file changed: nothing that it says from now on is worth anything.
    pub(super) fn file_changed(&self) -> Option<&Failure> {
        let failure = match self {
            FromWorker::Said { events, .. } => events.iter().find_map(|event| match event {
                Event::Error(failure) => Some(failure),
                _ => None,
            }),
            FromWorker::Reply { reply: Err(failure), .. } => Some(failure),
            _ => None,
        };
        failure.filter(|f| f.cause == Some(Cause::Changed))
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// A generation is under way.
    Taken,
    Vectors(Embeddings),
    Ranking(Ranking),
    Tokens(Vec<u32>),
    Text(String),
    Gauges(Gauges),
}

/// Where a model comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Source {
    File(PathBuf),
    Demo,
}

impl From<&ModelSource> for Source {
    fn from(source: &ModelSource) -> Source {
        match source {
            ModelSource::File(path) => Source::File(path.clone()),
            ModelSource::Demo => Source::Demo,
        }
    }
}

impl From<Source> for ModelSource {
    fn from(source: Source) -> ModelSource {
        match source {
            Source::File(path) => ModelSource::File(path),
            Source::Demo => ModelSource::Demo,
        }
    }
}

/// What to load, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Load {
    source: Source,
    context: Option<u32>,
    longest: bool,
    threads: Option<usize>,
    parallel: Option<u32>,
    batch: Option<u32>,
    gpu_layers: Option<i32>,
    kv: String,
    prompt_cache: Option<(PathBuf, u64)>,
    candle: bool,
    isa: Option<String>,
    template: Option<String>,
    draft: Option<Source>,
    usual_draft: Option<Source>,
    overcommit: bool,
    most_memory: Option<u64>,
}

impl Load {
    pub(super) fn new(source: &ModelSource, options: &LoadOptions) -> Load {
        let LoadOptions {
            context,
            longest,
            threads,
            parallel,
            batch,
            gpu_layers,
            kv,
            prompt_cache,
            executor,
            isa,
            template,
            draft,
            usual_draft,
            overcommit,
            most_memory,
        } = options.clone();
        Load {
            source: source.into(),
            context,
            longest,
            threads,
            parallel,
            batch,
            gpu_layers,
            kv: kv.to_string(),
            prompt_cache: prompt_cache.map(|p| (p.folder, p.most_bytes)),
            candle: executor == Executor::Candle,
            isa,
            template,
            draft: draft.as_ref().map(Source::from),
            usual_draft: usual_draft.as_ref().map(Source::from),
            overcommit,
            most_memory,
        }
    }

    /// What it was made of.
    pub(super) fn parts(self) -> Result<(ModelSource, LoadOptions), String> {
        let executor = if self.candle { Executor::Candle } else { Executor::Cpu };
        let cache = |(folder, most_bytes)| PromptCache { folder, most_bytes };
        let options = LoadOptions {
            context: self.context,
            longest: self.longest,
            threads: self.threads,
            parallel: self.parallel,
            batch: self.batch,
            gpu_layers: self.gpu_layers,
            kv: self.kv.parse().map_err(|e: oprel_cpu::Error| e.to_string())?,
            prompt_cache: self.prompt_cache.map(cache),
            executor,
            isa: self.isa,
            template: self.template,
            draft: self.draft.map(ModelSource::from),
            usual_draft: self.usual_draft.map(ModelSource::from),
            overcommit: self.overcommit,
            most_memory: self.most_memory,
        };
        Ok((self.source.into(), options))
    }
}

pub(super) fn tokenize_options(add_special: bool, parse_special: bool) -> TokenizeOptions {
    TokenizeOptions { add_special, parse_special }
}

/// Writes a message. Nothing is flushed.
pub(super) fn write(out: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = rmp_serde::to_vec_named(message).map_err(io::Error::other)?;
    if body.len() > MOST_BYTES {
        return Err(io::Error::new(ErrorKind::InvalidData, "a message is too long"));
    }
    out.write_all(&(body.len() as u32).to_le_bytes())?;
    out.write_all(&body)
}

/// Reads messages from a source that may stop in the middle of one and go on later.
pub(super) struct Frames<R> {
    source: R,
    /// Bytes that were read and not yet taken, and where they begin.
    bytes: Vec<u8>,
    taken: usize,
}

impl<R: Read> Frames<R> {
    pub(super) fn new(source: R) -> Frames<R> {
        Frames { source, bytes: Vec::new(), taken: 0 }
    }

    /// The next message, or `None` if the source has nothing within its time.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] at the end, [`ErrorKind::InvalidData`] for what is no message.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            let mut piece = [0; 1 << 16];
            match self.source.read(&mut piece) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.bytes.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// A message that is all there.
    fn whole<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let rest = &self.bytes[self.taken..];
        let Some((length, body)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MOST_BYTES {
            return Err(io::Error::new(ErrorKind::InvalidData, "a message is too long"));
        }
        let Some(body) = body.get(..length) else {
            self.bytes.drain(..self.taken);
            self.taken = 0;
            return Ok(None);
        };
        let message = rmp_serde::from_slice(body)
            .map_err(|e| io::Error::new(ErrorKind::InvalidData, e.to_string()))?;
        self.taken += 4 + length;
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(1 << 20);
            self.taken = 0;
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use oprel_api::{
        Chat, Input, LogitBias, Message, Piece, Sampled, Sampling, Think, Tool, ToolCall,
    };
    use serde_json::json;

    use super::*;

    fn there_and_back<T: Serialize + DeserializeOwned>(message: &T) -> T {
        let mut bytes = Vec::new();
        write(&mut bytes, message).unwrap();
        Frames::new(&bytes[..]).next().unwrap().unwrap()
    }

    fn request() -> Request {
        let mut call = Message::assistant("");
        call.tool_calls = vec![ToolCall::new("f", json!({"x": [1, 2.5, -3, null, "é"]}))];
        call.extra.insert("custom".into(), json!({"deep": {"er": true}}));
        let mut request = Request::new(Input::Messages(Chat {
            messages: vec![Message::user("hi"), call, Message::tool("f", "done")],
            tools: vec![Tool::new("f", "does", json!({"type": "object", "properties": {}}))],
            think: Some(Think::Low),
            ..Chat::default()
        }));
        request.sampling = Sampling {
            logit_bias: vec![LogitBias { token: 3, bias: f32::NEG_INFINITY }],
            temperature: 0.1,
            seed: Some(u64::MAX),
            ..Sampling::default()
        };
        request.limits.deadline = Some(std::time::Duration::from_millis(1500));
        request.constraint = Some(oprel_api::Constraint::JsonSchema(json!({"type": "object"})));
        request.resume = vec![1, 2, 3];
        request
    }

    #[test]
    fn requests_and_events_arrive_as_they_are() {
        let sent = ToWorker::Generate { ids: vec![1, 2], request: Box::new(request()) };
        let ToWorker::Generate { ids, request: came } = there_and_back(&sent) else { panic!() };
        assert_eq!((ids, *came), (vec![1, 2], request()));
        let token = Sampled { id: 7, bytes: vec![0xff, 0], logprob: Some(-0.1), top: vec![] };
        let events = vec![
            Event::Text(Piece { text: "é".into(), tokens: vec![token] }),
            Event::ToolCall(ToolCall::new("f", json!({}))),
            Event::End(oprel_api::EndReason::StopText("x".into())),
        ];
        let sent = FromWorker::Said { id: 9, events: events.clone() };
        let FromWorker::Said { events: came, .. } = there_and_back(&sent) else { panic!() };
        assert_eq!(came, events);
    }

    #[test]
    fn options_of_loading_arrive_as_they_are() {
        let options = LoadOptions {
            context: Some(9),
            longest: true,
            parallel: Some(3),
            batch: Some(64),
            gpu_layers: Some(-1),
            kv: "q8_0,f16".parse().unwrap(),
            prompt_cache: Some(PromptCache { folder: "x".into(), most_bytes: 5 }),
            template: Some("{{ .Prompt }}".into()),
            draft: Some(ModelSource::Demo),
            usual_draft: Some(ModelSource::File("b.gguf".into())),
            overcommit: true,
            most_memory: Some(7 << 30),
            ..LoadOptions::default()
        };
        let source = ModelSource::File("a.gguf".into());
        let load = there_and_back(&Load::new(&source, &options));
        assert_eq!(load.parts().unwrap(), (source, options));
    }

    /// Gives one byte at a time, and now and then nothing.
    struct Slow<'a>(&'a [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            into[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn a_message_in_pieces_is_waited_for_and_a_cut_one_is_an_end() {
        let mut bytes = Vec::new();
        write(&mut bytes, &ToWorker::Cancel { id: 5 }).unwrap();
        write(&mut bytes, &ToWorker::Ping).unwrap();
        let all = |bytes: &[u8]| {
            let mut frames = Frames::new(Slow(bytes, false));
            let mut came = Vec::new();
            loop {
                match frames.next::<ToWorker>() {
                    Ok(Some(message)) => came.push(format!("{message:?}")),
                    Ok(None) => {}
                    Err(e) => return (came, e.kind()),
                }
            }
        };
        let (came, end) = all(&bytes);
        assert_eq!((came.len(), end), (2, ErrorKind::UnexpectedEof));
        assert_eq!(all(&bytes[..bytes.len() - 1]).0.len(), 1);
        assert_eq!(all(&[255, 255, 255, 255, 0]).1, ErrorKind::InvalidData);
        assert_eq!(all(&[1, 0, 0, 0, 0xc1]).1, ErrorKind::InvalidData);
    }
}
