//! Constraints of requests, for the engine: compiled over the model's vocabulary, held back while it
//! thinks, their masks computed beside the forward pass.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use oprel_api::{Chat, Input, Request, ToolChoice};
use oprel_chat::{ThinkTags, ToolFormat};
use oprel_constraint::{
    Ahead, CallFormat, Gate, GateOptions, Matcher, Pending, Prepared, Vocabulary, Watch,
    tool_call_matcher,
};
use oprel_engine::{Constraint, Guide};
use oprel_tokenizer::Tokenizer;

use crate::calls::{call_format, certain_opens, opens};
use crate::{Error, Facts, Result};

type SharedVocabulary = Arc<OnceLock<Result<Arc<Vocabulary>, oprel_constraint::Error>>>;

/// What all constraints of a model share; made when the first one comes.
#[derive(Debug, Default)]
pub(crate) struct Guides {
    vocabulary: SharedVocabulary,
    ahead: OnceLock<Result<Arc<Ahead>, oprel_constraint::Error>>,
}

impl Guides {
    /// The constraint of a request, if it has one. `rendered` is its prompt as a template made it.
    ///
    /// # Errors
    /// If the constraint is wrong, or asks for what the vocabulary or the format of calls cannot give.
    pub(crate) fn of(
        &self,
        facts: &Facts,
        request: &Request,
        rendered: Option<&str>,
    ) -> Result<Option<Guide>> {
        let chat = match &request.input {
            Input::Messages(chat) => Some(chat),
            _ => None,
        };
        let choice = chat.map_or(&ToolChoice::None, |chat| &chat.tool_choice);
        let must_call = matches!(choice, ToolChoice::Required | ToolChoice::Named(_));
        let may_call = chat.filter(|c| {
            rendered.is_some() && !c.tools.is_empty() && c.tool_choice == ToolChoice::Auto
        });
        let may_call = may_call.zip(facts.can.tool_format);
        if request.constraint.is_none() && !must_call && may_call.is_none() {
            return Ok(None);
        }
        let mut options = GateOptions::default();
        if let (Some(prompt), Some(tags)) = (rendered, &facts.can.think_tags) {
            options = gate_options(tags, prompt, must_call || request.constraint.is_none());
            options.think_open = options.think_open.filter(|_| !request.input.thinks_not());
        }
        if let Some((chat, format)) = may_call {
            if request.constraint.is_none() {
                options.call_opens = certain_opens(format);
                return self.watching(facts, chat, format, &options);
            }
            options.call_opens = opens(format);
        }
        let vocabulary = vocabulary(&self.vocabulary, &facts.tokenizer, facts.n_vocab)?;
        let matcher = if let Some(chat) = chat.filter(|_| must_call) {
            let format = facts.can.tool_format.map(call_format);
            let format = format.ok_or(Error::Unsupported { field: "tool_choice" })?;
            tool_call_matcher(&vocabulary, &format, &chat.tools, choice)?
        } else {
            let constraint = request.constraint.as_ref();
            constraint.map(|constraint| Matcher::new(&vocabulary, constraint)).transpose()?
        };
        let Some(matcher) = matcher else { return Ok(None) };
        let place = Place::Here(Box::new(Gate::new(matcher, &options)));
        Ok(Some(Guide(Box::new(Gated {
            place: Mutex::new(place),
            ends: facts.ends.clone(),
            ahead: self.ahead()?,
            ended: false,
            by_choice: false,
        }))))
    }

    /// A guide for calls that the model may make: from where one opens, it is held to its tool. `None`
    /// where calls of this format cannot be, or not with these tools.
    fn watching(
        &self,
        facts: &Facts,
        chat: &Chat,
        format: ToolFormat,
        options: &GateOptions,
    ) -> Result<Option<Guide>> {
        let format = call_format(format);
        if options.call_opens.is_empty() || matches!(format, CallFormat::Other(_)) {
            return Ok(None);
        }
        // It is a help, so what is in its way is no reason to refuse.
        let Ok(ahead) = self.ahead() else { return Ok(None) };
        let prepared = Prepared::default();
        let (filled, tools) = (prepared.clone(), chat.tools.clone());
        let (shared, tokenizer, n_vocab) =
            (self.vocabulary.clone(), facts.tokenizer.clone(), facts.n_vocab);
        // Nobody waits for it before a call opens.
        let compile = move || {
            let compile = || {
                let vocabulary = vocabulary(&shared, &tokenizer, n_vocab).ok()?;
                tool_call_matcher(&vocabulary, &format, &tools, &ToolChoice::Required).ok()?
            };
            let _ = filled.set(catch_unwind(AssertUnwindSafe(compile)).ok().flatten());
        };
        if thread::Builder::new().name("calls".into()).spawn(compile).is_err() {
            return Ok(None);
        }
        let place = Place::Watching(Watch::new(&facts.tokenizer, options, prepared));
        Ok(Some(Guide(Box::new(Gated {
            place: Mutex::new(place),
            ends: facts.ends.clone(),
            ahead,
            ended: false,
            by_choice: true,
        }))))
    }

    fn ahead(&self) -> Result<Arc<Ahead>> {
        Ok(self.ahead.get_or_init(|| Ahead::new().map(Arc::new)).clone()?)
    }
}

fn vocabulary(
    shared: &SharedVocabulary,
    tokenizer: &Tokenizer,
    n_vocab: u32,
) -> Result<Arc<Vocabulary>, oprel_constraint::Error> {
    shared.get_or_init(|| Vocabulary::new(tokenizer, n_vocab as usize)).clone()
}

/// Begins the answer of a model that writes messages on channels.
const ANSWER: &str = "<|channel|>final<|message|>";

/// Where thinking begins and ends behind this prompt; `called` if a call follows it.
fn gate_options(tags: &ThinkTags, prompt: &str, called: bool) -> GateOptions {
    let inside = tags.left_open_by(prompt);
    let mut options = GateOptions {
        inside,
        think_open: (!inside).then(|| tags.open.clone()),
        think_close: Some(tags.close.clone()),
        ..GateOptions::default()
    };
    if tags.are_channels() && called {
        options.think_close = Some("<|end|>".into());
    } else if tags.are_channels() {
        // Whatever comes before the answer is a head of a message, thinking or a call.
        let last = prompt.rsplit("<|start|>").next().unwrap_or_default();
        options.think_close = Some(ANSWER.into());
        options.inside = !last.contains(ANSWER);
        options.calls_within = true;
    }
    options
}

/// A gate, here or on the thread that computes its mask.
enum Place {
    Here(Box<Gate>),
    Away(Pending),
    /// No call has opened yet.
    Watching(Watch),
    /// Nothing is held.
    Free,
    /// It did not come back.
    Lost(oprel_constraint::Error),
}

struct Gated {
    place: Mutex<Place>,
    ends: Arc<[u32]>,
    ahead: Arc<Ahead>,
    /// One of the model's ends was taken.
    ended: bool,
    /// The model chose to call: what cannot be kept is let go.
    by_choice: bool,
}

/// The gate, waited for if it is away.
fn gate(place: &mut Place) -> Result<Option<&mut Gate>, String> {
    if matches!(place, Place::Away(_)) {
        let away = std::mem::replace(place, Place::Lost(oprel_constraint::Error::Lost));
        if let Place::Away(pending) = away {
            *place = match pending.finish() {
                Ok(gate) => Place::Here(Box::new(gate)),
                Err(error) => Place::Lost(error),
            };
        }
    }
    match place {
        Place::Here(gate) => Ok(Some(gate)),
        Place::Watching(_) | Place::Free => Ok(None),
        Place::Away(_) => Err(oprel_constraint::Error::Lost.to_string()),
        Place::Lost(error) => Err(error.to_string()),
    }
}

fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gated {
    fn place(&mut self) -> &mut Place {
        self.place.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gated {
    /// An error where the constraint was asked for, nothing where the model chose it.
    fn or_free<T>(&mut self, done: Result<T, String>, free: T) -> Result<T, String> {
        match done {
            Err(_) if self.by_choice => {
                *self.place() = Place::Free;
                Ok(free)
            }
            other => other,
        }
    }

    fn take(&mut self, token: u32) -> Result<(), String> {
        let place = self.place();
        if let Place::Watching(watch) = place {
            if let Some(gate) = watch.accept(token).map_err(|e| e.to_string())? {
                *place = Place::Here(Box::new(gate));
            }
            return Ok(());
        }
        match gate(place)? {
            Some(gate) => gate.accept(token).map_err(|e| e.to_string()),
            None => Ok(()),
        }
    }
}

impl Constraint for Gated {
    fn prepare(&mut self) {
        let ahead = self.ahead.clone();
        let place = self.place();
        if matches!(gate(place), Ok(Some(_))) {
            let here = std::mem::replace(place, Place::Lost(oprel_constraint::Error::Lost));
            *place = match here {
                Place::Here(gate) => Place::Away(ahead.begin(*gate)),
                other => other,
            };
        }
    }

    fn allowed(&mut self) -> Result<Option<&[u32]>, String> {
        let held = match gate(self.place()) {
            Ok(Some(gate)) => gate.allowed().map(|_| true).map_err(|e| e.to_string()),
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        if !self.or_free(held, false)? {
            return Ok(None);
        }
        let Some(gate) = gate(self.place())? else { return Ok(None) };
        // It keeps the mask that was just computed.
        Ok(Some(gate.allowed().map_err(|e| e.to_string())?.words()))
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        if self.ends.contains(&token) {
            // Where the model's ends are ignored, they still end what is constrained.
            self.ended = !matches!(self.place(), Place::Watching(_) | Place::Free);
            return Ok(());
        }
        let taken = self.take(token);
        self.or_free(taken, ())
    }

    fn forced(&mut self) -> Vec<u32> {
        let gate = gate(self.place()).ok().flatten();
        gate.and_then(|gate| gate.forced().ok()).unwrap_or_default()
    }

    fn is_complete(&mut self) -> bool {
        self.ended || matches!(gate(self.place()), Ok(Some(gate)) if gate.is_complete())
    }

    fn fork(&self) -> Box<dyn Constraint> {
        let mut place = lock(&self.place);
        let copy = match &*place {
            Place::Watching(watch) => Place::Watching(watch.clone()),
            _ => match gate(&mut place) {
                Ok(Some(gate)) => Place::Here(Box::new(gate.fork())),
                Ok(None) => Place::Free,
                Err(_) => Place::Lost(oprel_constraint::Error::Lost),
            },
        };
        Box::new(Gated {
            place: Mutex::new(copy),
            ends: self.ends.clone(),
            ahead: self.ahead.clone(),
            ended: self.ended,
            by_choice: self.by_choice,
        })
    }
}

#[cfg(test)]
mod tests;
