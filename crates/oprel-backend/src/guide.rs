//! Constraints of requests, for the engine: compiled over the model's vocabulary, held back while it
//! thinks, their masks computed beside the forward pass.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use oprel_api::{Input, Request, ToolChoice};
use oprel_chat::ToolFormat;
use oprel_constraint::{
    Ahead, CallFormat, Gate, GateOptions, Matcher, Pending, Vocabulary, tool_call_matcher,
};
use oprel_engine::{Constraint, Guide};

use crate::{Error, Facts, Result};

/// What all constraints of a model share; made when the first one comes.
#[derive(Debug, Default)]
pub(crate) struct Guides {
    vocabulary: OnceLock<Result<Arc<Vocabulary>, oprel_constraint::Error>>,
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
        if request.constraint.is_none() && !must_call {
            return Ok(None);
        }
        let vocabulary = self.vocabulary(facts)?;
        let mut options = GateOptions::default();
        if let (Some(prompt), Some(tags)) = (rendered, &facts.can.think_tags) {
            options.inside = tags.left_open_by(prompt);
            let may_open = !options.inside && !request.input.thinks_not();
            options.think_open = may_open.then(|| tags.open.clone());
            options.think_close = Some(tags.close.clone());
        }
        let matcher = if let Some(chat) = chat.filter(|_| must_call) {
            let format = facts.can.tool_format.map(call_format);
            let format = format.ok_or(Error::Unsupported { field: "tool_choice" })?;
            tool_call_matcher(&vocabulary, &format, &chat.tools, choice)?
        } else {
            let calls =
                chat.is_some_and(|c| !c.tools.is_empty() && c.tool_choice == ToolChoice::Auto);
            if calls && rendered.is_some() {
                options.call_opens = facts.can.tool_format.map(opens).unwrap_or_default();
            }
            let constraint = request.constraint.as_ref();
            constraint.map(|constraint| Matcher::new(&vocabulary, constraint)).transpose()?
        };
        let Some(matcher) = matcher else { return Ok(None) };
        let place = Place::Here(Box::new(Gate::new(matcher, &options)));
        Ok(Some(Guide(Box::new(Gated {
            place: Mutex::new(place),
            vocabulary,
            ahead: self.ahead()?,
            ended: false,
        }))))
    }

    fn vocabulary(&self, facts: &Facts) -> Result<Arc<Vocabulary>> {
        let make = || Vocabulary::new(&facts.tokenizer, facts.n_vocab as usize);
        Ok(self.vocabulary.get_or_init(make).clone()?)
    }

    fn ahead(&self) -> Result<Arc<Ahead>> {
        Ok(self.ahead.get_or_init(|| Ahead::new().map(Arc::new)).clone()?)
    }
}

fn call_format(format: ToolFormat) -> CallFormat {
    match format {
        ToolFormat::Tagged => CallFormat::Tagged,
        ToolFormat::Bare => CallFormat::Bare,
        ToolFormat::Listed => CallFormat::Listed,
        other => CallFormat::Other(format!("{other:?}")),
    }
}

/// Texts that open a call. One that looks like any JSON opens none.
fn opens(format: ToolFormat) -> Vec<String> {
    match format {
        ToolFormat::Tagged => vec!["<tool_call>".into()],
        ToolFormat::Listed => vec!["[TOOL_CALLS]".into()],
        ToolFormat::Bare => vec!["<|python_tag|>".into()],
        _ => Vec::new(),
    }
}

/// A gate, here or on the thread that computes its mask.
enum Place {
    Here(Box<Gate>),
    Away(Pending),
    /// It did not come back.
    Lost(oprel_constraint::Error),
}

struct Gated {
    place: Mutex<Place>,
    vocabulary: Arc<Vocabulary>,
    ahead: Arc<Ahead>,
    /// One of the model's ends was taken.
    ended: bool,
}

/// The gate, waited for if it is away.
fn gate(place: &mut Place) -> Result<&mut Gate, String> {
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
        Place::Here(gate) => Ok(gate),
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

impl Constraint for Gated {
    fn prepare(&mut self) {
        let ahead = self.ahead.clone();
        let place = self.place();
        if gate(place).is_ok() {
            let here = std::mem::replace(place, Place::Lost(oprel_constraint::Error::Lost));
            *place = match here {
                Place::Here(gate) => Place::Away(ahead.begin(*gate)),
                other => other,
            };
        }
    }

    fn allowed(&mut self) -> Result<Option<&[u32]>, String> {
        let mask = gate(self.place())?.allowed().map_err(|e| e.to_string())?;
        Ok(Some(mask.words()))
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        if self.vocabulary.ends().contains(&token) {
            // Where the model's ends are ignored, they still end what is constrained.
            self.ended = true;
            return Ok(());
        }
        gate(self.place())?.accept(token).map_err(|e| e.to_string())
    }

    fn forced(&mut self) -> Vec<u32> {
        gate(self.place()).ok().and_then(|gate| gate.forced().ok()).unwrap_or_default()
    }

    fn is_complete(&mut self) -> bool {
        self.ended || gate(self.place()).is_ok_and(|gate| gate.is_complete())
    }

    fn fork(&self) -> Box<dyn Constraint> {
        let mut place = lock(&self.place);
        let copy = match gate(&mut place) {
            Ok(gate) => Place::Here(Box::new(gate.fork())),
            Err(_) => Place::Lost(oprel_constraint::Error::Lost),
        };
        Box::new(Gated {
            place: Mutex::new(copy),
            vocabulary: self.vocabulary.clone(),
            ahead: self.ahead.clone(),
            ended: self.ended,
        })
    }
}
