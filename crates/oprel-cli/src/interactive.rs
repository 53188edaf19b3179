//! A chat in the terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use oprel::{InputOverflow, Message};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::args::Run;
use crate::engine::Engine;
use crate::generate::{chat_input, request, speak, timing};
use crate::outcome;

const HELP: &str = "\
/clear   forget the conversation
/bye     leave (also Ctrl-D)
/help    this list
\"\"\"      begins and ends a message of several lines
Ctrl-C   stops an answer";

/// What a line of the user asks for.
enum Line {
    Say(String),
    Clear,
    Help,
    Unknown(String),
    Bye,
    Nothing,
}

/// Reads, answers, until the user leaves.
pub(crate) fn chat(engine: &Engine, args: &Run) -> anyhow::Result<()> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .context("cannot watch for Ctrl-C")?;
    let mut editor = DefaultEditor::new().context("cannot use this terminal")?;
    let system: Vec<Message> = args.system.as_deref().map(Message::system).into_iter().collect();
    let mut messages = system.clone();
    println!("Ask something (/help for commands, /bye to leave)");
    loop {
        match read(&mut editor)? {
            Line::Bye => return Ok(()),
            Line::Nothing => {}
            Line::Help => println!("{HELP}"),
            Line::Unknown(command) => println!("'{command}' is no command; /help lists them"),
            Line::Clear => messages.clone_from(&system),
            Line::Say(text) => {
                interrupted.store(false, Ordering::Relaxed);
                messages.push(Message::user(text));
                if let Err(error) = answer(engine, args, &mut messages, &interrupted) {
                    outcome::explain(&error);
                    messages.pop();
                    if !messages.is_empty() {
                        outcome::tell("(/clear forgets the conversation)");
                    }
                }
            }
        }
    }
}

/// Answers the last message. An answer that was stopped stays in the conversation.
fn answer(
    engine: &Engine,
    args: &Run,
    messages: &mut Vec<Message>,
    interrupted: &AtomicBool,
) -> anyhow::Result<()> {
    let mut request = request(args, chat_input(args, messages))?;
    request.limits.input_overflow = InputOverflow::DropOldest;
    let stream = engine.generate(request, &args.sampling.patch())?;
    let said = speak(stream, || interrupted.load(Ordering::Relaxed))?;
    if args.verbose {
        timing(engine, &said.usage);
    }
    println!();
    messages.push(Message::assistant(said.text));
    Ok(())
}

fn read(editor: &mut DefaultEditor) -> anyhow::Result<Line> {
    let line = match read_line(editor, ">>> ")? {
        Typed::Line(line) => line,
        Typed::Interrupt => {
            println!("(Ctrl-D or /bye to leave)");
            return Ok(Line::Nothing);
        }
        Typed::End => return Ok(Line::Bye),
    };
    let trimmed = line.trim();
    if let Some(begun) = trimmed.strip_prefix("\"\"\"") {
        return read_lines(editor, begun);
    }
    Ok(match trimmed {
        "" => Line::Nothing,
        "/bye" | "/exit" => Line::Bye,
        "/clear" => Line::Clear,
        "/help" | "/?" => Line::Help,
        command if command.starts_with('/') => Line::Unknown(command.to_string()),
        _ => Line::Say(line),
    })
}

/// Lines up to one that ends with three quotes. Ctrl-C drops them all.
fn read_lines(editor: &mut DefaultEditor, begun: &str) -> anyhow::Result<Line> {
    let mut text = begun.to_string();
    loop {
        if let Some(whole) = text.strip_suffix("\"\"\"") {
            let nothing = whole.trim().is_empty();
            return Ok(if nothing { Line::Nothing } else { Line::Say(whole.to_string()) });
        }
        match read_line(editor, "... ")? {
            Typed::Line(line) => {
                text.push('\n');
                text.push_str(line.trim_end());
            }
            Typed::Interrupt => return Ok(Line::Nothing),
            Typed::End => return Ok(Line::Bye),
        }
    }
}

/// What a line editor gives.
enum Typed {
    Line(String),
    Interrupt,
    End,
}

fn read_line(editor: &mut DefaultEditor, prompt: &str) -> anyhow::Result<Typed> {
    match editor.readline(prompt) {
        Ok(line) => {
            // History only helps; a line that it refuses is still a line.
            let _ = editor.add_history_entry(line.as_str());
            Ok(Typed::Line(line))
        }
        Err(ReadlineError::Interrupted) => Ok(Typed::Interrupt),
        Err(ReadlineError::Eof) => Ok(Typed::End),
        Err(error) => Err(error).context("cannot read from the terminal"),
    }
}
