//! `oprel chat`: asks, answers, and commands that begin with a slash.

mod command;
mod help;
mod input;
mod parameters;
mod saved;
mod show;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use oprel::{Constraint, InputOverflow, Message, Model, OprelError, Think};

use crate::args::Ask;
use crate::commands::print;
use crate::engine;
use crate::outcome::{INTERRUPTED, explain, tell};
use crate::settings::Settings;
use crate::speak::{Style, speak, timing};
use command::{Command, Set};
use input::{Entered, Input};
use saved::Saved;

/// Chats until the user leaves, or the pipe ends.
pub(crate) fn run(model: &str, ask: &Ask) -> anyhow::Result<()> {
    let mut input = Input::open()?;
    let settings = Settings::of(ask)?;
    let interrupts = Arc::new(Interrupts::default());
    // What comes from a pipe is stopped as a whole.
    if input.is_terminal() {
        interrupts.watch()?;
    }
    let mut chat = Chat {
        ask,
        name: model.to_string(),
        model: open(model, ask, &interrupts)?,
        first: settings.clone(),
        settings,
        messages: Vec::new(),
        verbose: ask.verbose,
        wraps: !ask.nowordwrap,
        interrupts,
    };
    if input.is_terminal() {
        print("Ask something (/? for commands, /bye to leave)")?;
    }
    loop {
        let text = match input.read()? {
            Entered::Text(text) => text,
            Entered::Interrupt => {
                print("(Ctrl-D or /bye to leave)")?;
                continue;
            }
            Entered::End => return Ok(()),
        };
        match Command::read(&text) {
            Command::Bye => return Ok(()),
            Command::Set(Set::History(wanted)) => input.remember(wanted),
            command => {
                let Err(error) = chat.obey(command) else { continue };
                // A program that asks must learn that it has no answer.
                if !input.is_terminal() {
                    return Err(error);
                }
                explain(&error);
            }
        }
    }
}

/// What Ctrl-C does outside of the editor, for which it is a key.
#[derive(Default)]
struct Interrupts {
    /// It was pressed, and nobody has looked yet.
    pressed: AtomicBool,
    /// Nobody can look before a model is there.
    loading: AtomicBool,
}

impl Interrupts {
    /// From now on it ends the program only while a model is loaded, or when it is pressed again before
    /// anybody looked.
    fn watch(self: &Arc<Self>) -> anyhow::Result<()> {
        let interrupts = self.clone();
        let press = move || {
            let unheard = interrupts.pressed.swap(true, Ordering::Relaxed);
            if unheard || interrupts.loading.load(Ordering::Relaxed) {
                std::process::exit(INTERRUPTED.into());
            }
        };
        ctrlc::set_handler(press).context("cannot watch for Ctrl-C")
    }

    fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    fn forget(&self) {
        self.pressed.store(false, Ordering::Relaxed);
    }
}

/// A conversation, and how it is answered.
struct Chat<'a> {
    ask: &'a Ask,
    /// The model, as the user named it.
    name: String,
    model: Model,
    /// What the command line said.
    first: Settings,
    settings: Settings,
    messages: Vec<Message>,
    verbose: bool,
    wraps: bool,
    interrupts: Arc<Interrupts>,
}

fn open(model: &str, ask: &Ask, interrupts: &Interrupts) -> anyhow::Result<Model> {
    interrupts.loading.store(true, Ordering::Relaxed);
    let model = engine::open(model, &ask.load, &ask.place, ask.draft.as_deref());
    interrupts.loading.store(false, Ordering::Relaxed);
    let model = model?;
    engine::check_speaks(&model)?;
    Ok(model)
}

fn wrong(message: impl Into<String>) -> anyhow::Error {
    OprelError::validation(message).into()
}

impl Chat<'_> {
    fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Nothing | Command::Bye => {}
            Command::Say(text) => return self.say(text),
            Command::Set(set) => return self.set(set),
            Command::Show(what) => return print(&show::text(self, what)?),
            Command::Load(name) => return self.load(&name),
            Command::Save(name) => return self.save(&name),
            Command::Clear => self.forget(),
            Command::Reset => {
                self.settings = self.first.clone();
                (self.verbose, self.wraps) = (self.ask.verbose, !self.ask.nowordwrap);
                self.forget();
            }
            Command::Help(topic) => return print(&help::text(&topic)),
            Command::Wrong(what) => return Err(wrong(what)),
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.messages.clear();
        tell("(the conversation is forgotten)");
    }

    /// Answers, until Ctrl-C. An answer that was stopped stays in the conversation; a question without any does not.
    fn say(&mut self, text: String) -> anyhow::Result<()> {
        self.interrupts.forget();
        self.messages.push(Message::user(text));
        let answered = self.answer();
        self.interrupts.forget();
        if answered.is_err() {
            self.messages.pop();
        }
        answered
    }

    fn answer(&mut self) -> anyhow::Result<()> {
        let asked = self.settings.chat(&self.messages);
        let mut request = self.settings.request(&self.model, asked);
        request.limits.input_overflow = InputOverflow::DropOldest;
        let stream = self.model.generate(request)?;
        let stop = || self.interrupts.is_pressed();
        let said = speak(stream, &Style::of_output(self.wraps), stop)?;
        if said.stopped {
            tell("(stopped)");
        } else if self.verbose {
            timing(&self.model, &said.answer.usage);
        }
        print("")?;
        match said.stopped && said.answer.text.is_empty() {
            true => drop(self.messages.pop()),
            false => self.messages.push(Message::assistant(said.answer.text)),
        }
        Ok(())
    }

    fn set(&mut self, set: Set) -> anyhow::Result<()> {
        let settings = &mut self.settings;
        match set {
            Set::System(text) => settings.system = Some(text).filter(|text| !text.is_empty()),
            Set::Parameter(name, values) => parameters::set(settings, &name, &values)?,
            Set::Think(level) => settings.think = Some(think(level.as_deref())?),
            Set::NoThink => settings.think = Some(Think::Off),
            Set::FormatJson => settings.constraint = Some(Constraint::JsonObject),
            Set::NoFormat => settings.constraint = None,
            Set::Verbose(wanted) => self.verbose = wanted,
            Set::WordWrap(wanted) => self.wraps = wanted,
            // The input does that.
            Set::History(_) => {}
        }
        Ok(())
    }

    /// Goes on with a conversation that was saved, or begins one with another model.
    fn load(&mut self, name: &str) -> anyhow::Result<()> {
        let Some(saved) = Saved::read(name)? else {
            self.model = open(name, self.ask, &self.interrupts)?;
            self.name = name.to_string();
            self.messages.clear();
            tell(&format!("(a new conversation with {name})"));
            return Ok(());
        };
        if saved.model != self.name {
            self.model = open(&saved.model, self.ask, &self.interrupts)?;
        }
        (self.name, self.settings, self.messages) = (saved.model, saved.settings, saved.messages);
        let n = self.messages.len();
        tell(&format!("(a conversation of {n} messages with {})", self.name));
        Ok(())
    }

    fn save(&self, name: &str) -> anyhow::Result<()> {
        let saved = Saved {
            model: saved::whole(&self.name),
            settings: self.settings.clone(),
            messages: self.messages.clone(),
        };
        let path = saved.write(name)?;
        tell(&format!("(saved to {}; /load {name} goes on with it)", path.display()));
        Ok(())
    }
}

fn think(level: Option<&str>) -> anyhow::Result<Think> {
    Ok(match level {
        None | Some("true") => Think::On,
        Some("false") => Think::Off,
        Some("low") => Think::Low,
        Some("medium") => Think::Medium,
        Some("high") => Think::High,
        Some("max") => Think::Max,
        Some(other) => return Err(wrong(format!("'{other}' is none of low, medium, high, max"))),
    })
}
