//! From the tokens of a sequence to the events of its stream: text, thinking, calls of tools, stop
//! texts, the end.

use oprel_api::{EndReason, Event, Input, Piece, Request, Sampled, ToolChoice, Usage};
use oprel_chat::{Said, Spoken, ThinkSplitter, ThinkTags, ToolCallParser};
use oprel_tokenizer::{Detokenizer, Tokenizer};

use crate::Facts;
use crate::thinking::Meter;

/// Speaks for one sequence.
pub(crate) struct Speaker {
    tokenizer: Tokenizer,
    detokenizer: Detokenizer,
    stops: Vec<String>,
    /// Tokens to come before a stop text counts.
    too_early: u32,
    /// Text that may be the beginning of a stop text, and the tokens that made it.
    held: Piece,
    think: Option<ThinkSplitter>,
    calls: Option<ToolCallParser>,
    /// Control tokens that mark thinking and calls: their text is read, though never shown.
    tags: Vec<u32>,
    /// Tokens whose text was read as a tag or is held back: they go with the next text.
    silent: Vec<Sampled>,
    meter: Option<Meter>,
}

/// Whether a sequence goes on after what was said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum After {
    /// It goes on.
    Goes,
    /// A stop text came up.
    Stopped(EndReason),
}

impl Speaker {
    /// `rendered` is the prompt that a template made, if one did: then thinking and calls of tools
    /// are told apart from the answer.
    pub(crate) fn new(facts: &Facts, request: &Request, rendered: Option<&str>) -> Speaker {
        let tags = rendered.and(facts.can.think_tags.as_ref());
        let tools = match (&request.input, rendered) {
            (Input::Messages(chat), Some(_)) if chat.tool_choice != ToolChoice::None => {
                &chat.tools[..]
            }
            _ => &[],
        };
        let format = facts.can.tool_format.filter(|_| !tools.is_empty());
        let mut marks = Vec::new();
        let mut add = |mark: &str| marks.extend(facts.tokenizer.id_of(mark));
        tags.into_iter().for_each(|tags| tags.tokens().for_each(&mut add));
        format.into_iter().for_each(|format| format.tokens().for_each(&mut add));
        let meter = |(tags, prompt): (&ThinkTags, &str)| {
            Meter::new(&facts.tokenizer, tags, tags.left_open_by(prompt))
        };
        let splitter =
            |(tags, prompt): (&ThinkTags, &str)| ThinkSplitter::behind(tags.clone(), prompt);
        Speaker {
            detokenizer: facts.tokenizer.stream(Default::default()),
            tokenizer: facts.tokenizer.clone(),
            stops: request.stop.clone(),
            too_early: request.limits.min_tokens,
            held: Piece::default(),
            meter: tags.zip(rendered).map(meter),
            think: tags.zip(rendered).map(splitter),
            calls: format.map(|f| ToolCallParser::new(f, tools)),
            tags: marks,
            silent: Vec::new(),
        }
    }

    /// Takes tokens that were said before.
    pub(crate) fn resume(&mut self, tokens: &[u32]) {
        let mut said = Vec::new();
        for &id in tokens {
            self.token(Sampled { id, ..Sampled::default() }, &mut said);
        }
        // Those that made no text yet were told of too.
        self.silent.clear();
        self.held.tokens.clear();
    }

    /// Takes a token; appends what can be said now.
    pub(crate) fn token(&mut self, token: Sampled, events: &mut Vec<Event>) -> After {
        let mut text = self.detokenizer.push(token.id);
        if text.is_empty() && self.tags.contains(&token.id) {
            text = self.tokenizer.raw_piece(token.id).unwrap_or_default().to_string();
        }
        if let Some(meter) = &mut self.meter {
            meter.take(token.id);
        }
        self.held.tokens.push(self.with_bytes(token));
        self.held.text.push_str(&text);
        self.too_early = self.too_early.saturating_sub(1);
        if self.too_early == 0
            && let Some((at, stop)) = self.stop()
        {
            self.held.text.truncate(at);
            self.flush(events);
            // What comes after the stop text is nobody's, be it the beginning of a character.
            let _ = self.detokenizer.finish();
            return After::Stopped(EndReason::StopText(stop));
        }
        let said = self.held.text.len() - self.unsure();
        let rest = self.held.text.split_off(said);
        if said > 0 || rest.is_empty() {
            self.flush(events);
        }
        self.held.text.push_str(&rest);
        After::Goes
    }

    /// The sequence is over: what was held back is said, then usage and the end.
    pub(crate) fn end(&mut self, reason: EndReason, mut usage: Usage, events: &mut Vec<Event>) {
        let rest = self.detokenizer.finish();
        self.held.text.push_str(&rest);
        self.flush(events);
        for said in self.think.take().map(ThinkSplitter::finish).unwrap_or_default() {
            self.say(said, events);
        }
        for spoken in self.calls.take().map(ToolCallParser::finish).unwrap_or_default() {
            self.speak(spoken, events);
        }
        if !self.silent.is_empty() {
            let tokens = std::mem::take(&mut self.silent);
            events.push(Event::Text(Piece { text: String::new(), tokens }));
        }
        usage.thinking_tokens = self.meter.as_ref().map_or(0, Meter::thought);
        events.push(Event::Usage(usage));
        events.push(Event::End(reason));
    }

    /// Fills in the bytes of prompt tokens.
    pub(crate) fn prompt(&self, tokens: Vec<Sampled>) -> Event {
        Event::Prompt(tokens.into_iter().map(|t| self.with_bytes(t)).collect())
    }

    fn with_bytes(&self, mut token: Sampled) -> Sampled {
        token.bytes = self.tokenizer.piece(token.id).to_vec();
        for top in &mut token.top {
            top.bytes = self.tokenizer.piece(top.id).to_vec();
        }
        token
    }

    /// Lets what is held go on to thinking, calls and answer.
    fn flush(&mut self, events: &mut Vec<Event>) {
        let Piece { text, tokens } = std::mem::take(&mut self.held);
        self.silent.extend(tokens);
        if text.is_empty() {
            return;
        }
        match &mut self.think {
            Some(splitter) => {
                for said in splitter.push(&text) {
                    self.say(said, events);
                }
            }
            None => self.say(Said::Answer(text), events),
        }
    }

    fn say(&mut self, said: Said, events: &mut Vec<Event>) {
        match said {
            Said::Thinking(text) => {
                let tokens = std::mem::take(&mut self.silent);
                events.push(Event::Thinking(Piece { text, tokens }));
            }
            Said::Answer(text) => match &mut self.calls {
                Some(parser) => {
                    for spoken in parser.push(&text) {
                        self.speak(spoken, events);
                    }
                }
                None => self.speak(Spoken::Text(text), events),
            },
        }
    }

    fn speak(&mut self, spoken: Spoken, events: &mut Vec<Event>) {
        match spoken {
            Spoken::Text(text) => {
                let tokens = std::mem::take(&mut self.silent);
                events.push(Event::Text(Piece { text, tokens }));
            }
            Spoken::Call(call) => {
                // Its tokens are told of with it: whoever resumes after them must not call again.
                if !self.silent.is_empty() {
                    let tokens = std::mem::take(&mut self.silent);
                    events.push(Event::Text(Piece { text: String::new(), tokens }));
                }
                events.push(Event::ToolCall(call));
            }
        }
    }

    /// The first stop text in what is held, and where it begins.
    fn stop(&self) -> Option<(usize, String)> {
        let found = self.stops.iter().filter_map(|s| Some((self.held.text.find(s)?, s.clone())));
        found.min_by_key(|(at, stop)| (*at, stop.len()))
    }

    /// Bytes at the end of what is held that may be the beginning of a stop text.
    fn unsure(&self) -> usize {
        let text = &self.held.text;
        let begun = |stop: &String| {
            (1..stop.len())
                .rev()
                .find(|&n| stop.is_char_boundary(n) && text.ends_with(&stop[..n]))
                .unwrap_or(0)
        };
        self.stops.iter().map(begun).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
