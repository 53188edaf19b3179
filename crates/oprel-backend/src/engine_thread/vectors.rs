//! Texts that become vectors, or what a ranking head says: requests take turns, so that one with very many
//! texts keeps nobody waiting, and end early when nobody wants them any more.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

use oprel_engine::{Becomes, Engine, Says, SeqId};

use crate::hearing::Hearing;
use crate::{Error, Result};

/// Texts that wait in the engine; the others wait here. More than fit into a step.
const FED: usize = 1024;

/// Vectors that are wanted, all or none.
pub(crate) struct Embed {
    pub(crate) inputs: Vec<Vec<u32>>,
    pub(crate) becomes: Becomes,
    pub(crate) hearing: Hearing<Vec<Vec<f32>>>,
    pub(crate) submitted: Instant,
}

/// All requests for vectors.
#[derive(Default)]
pub(super) struct Requests {
    open: BTreeMap<u64, Request>,
    /// Which text of which request a sequence makes a vector of.
    texts: HashMap<SeqId, (u64, usize)>,
    next: u64,
    /// Who was fed last.
    fed: u64,
}

/// One request, and its vectors as they come.
struct Request {
    backlog: VecDeque<(usize, Vec<u32>)>,
    becomes: Becomes,
    submitted: Duration,
    vectors: Vec<Vec<f32>>,
    missing: usize,
    hearing: Hearing<Vec<Vec<f32>>>,
}

impl Requests {
    /// Takes a request whose texts can all be read; others are told why not.
    pub(super) fn take(&mut self, engine: &mut Engine, embed: Embed, submitted: Duration) {
        let Embed { inputs, becomes, hearing, .. } = embed;
        let checked: Result<()> =
            inputs.iter().try_for_each(|tokens| Ok(engine.check_text(tokens)?));
        let n = inputs.len();
        if checked.is_err() || n == 0 {
            hearing.tell(checked.map(|()| Vec::new()));
            return;
        }
        let backlog = inputs.into_iter().enumerate().collect();
        let vectors = vec![Vec::new(); n];
        self.next += 1;
        let request = Request { backlog, becomes, submitted, vectors, missing: n, hearing };
        self.open.insert(self.next, request);
        self.feed(engine);
    }

    /// Gives the engine texts, of each request in turn.
    pub(super) fn feed(&mut self, engine: &mut Engine) {
        while engine.n_texts() < FED {
            let later = self.open.range((Excluded(self.fed), Unbounded));
            let waiting = |(_, request): &(&u64, &Request)| !request.backlog.is_empty();
            let next = later.chain(self.open.iter()).find(waiting).map(|(id, _)| *id);
            let Some(id) = next else { return };
            self.fed = id;
            let Some(request) = self.open.get_mut(&id) else { return };
            let Some((at, tokens)) = request.backlog.pop_front() else { return };
            match engine.submit_text(tokens, request.becomes, request.submitted) {
                Ok(text) => drop(self.texts.insert(text, (id, at))),
                Err(error) => self.fail(engine, id, error.into()),
            }
        }
    }

    /// Whether a sequence is one of its texts.
    pub(super) fn has(&self, text: SeqId) -> bool {
        self.texts.contains_key(&text)
    }

    /// A vector has come, or will not.
    pub(super) fn hear(&mut self, engine: &mut Engine, text: SeqId, said: Says) {
        let Some(&(id, at)) = self.texts.get(&text) else { return };
        match said {
            Says::Vector(vector) => {
                let Some(request) = self.open.get_mut(&id) else { return };
                request.vectors[at] = vector;
                request.missing -= 1;
                if request.missing == 0
                    && let Some(done) = self.open.remove(&id)
                {
                    done.hearing.tell(Ok(done.vectors));
                }
            }
            Says::Failed(failure) => self.fail(engine, id, Error::Failed(failure)),
            _ => drop(self.texts.remove(&text)),
        }
    }

    /// Ends a request, and what the engine has of it.
    fn fail(&mut self, engine: &mut Engine, id: u64, error: Error) {
        if let Some(request) = self.open.remove(&id) {
            request.hearing.tell(Err(error));
        }
        for (text, _) in self.texts.extract_if(|_, (of, _)| *of == id) {
            engine.cancel(text);
        }
    }

    /// Ends what nobody wants any more.
    pub(super) fn forget_unwanted(&mut self, engine: &mut Engine) {
        let gone = |(id, request): (&u64, &Request)| (!request.hearing.is_wanted()).then_some(*id);
        let gone: Vec<u64> = self.open.iter().filter_map(gone).collect();
        for id in gone {
            self.fail(engine, id, crate::native::stopped());
        }
    }
}
