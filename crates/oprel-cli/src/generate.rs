//! `oprel run`: one answer, or a chat.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use oprel::{
    Chat, Constraint, EndReason, Event, GrammarSyntax, Input, Message, OprelError, OutputOverflow,
    Prompt, Request, Think, Usage,
};

use crate::args::{Run, ThinkArg};
use crate::commands::{is_interactive, stdin_text};
use crate::engine::Engine;
use crate::interactive;
use crate::outcome::tell;

pub(crate) fn run(args: &Run) -> anyhow::Result<()> {
    let prompt = prompt(args)?;
    if prompt.is_none() && !is_interactive() {
        return Err(OprelError::validation("no prompt: give one, or pipe one in").into());
    }
    if prompt.is_none() && args.raw {
        return Err(
            OprelError::validation("--raw needs a prompt: a chat goes by a template").into()
        );
    }
    let engine = Engine::of(args)?;
    match prompt {
        Some(text) => one_shot(&engine, args, text),
        None => interactive::chat(&engine, args),
    }
}

/// What is to be answered: piped input, then the words of the command line.
fn prompt(args: &Run) -> anyhow::Result<Option<String>> {
    let words = (!args.prompt.is_empty()).then(|| args.prompt.join(" "));
    let piped = if std::io::stdin().is_terminal() { String::new() } else { stdin_text()? };
    let piped = piped.trim_end_matches(['\r', '\n']);
    match (piped.is_empty(), words) {
        (true, words) => Ok(words),
        (false, None) => Ok(Some(piped.to_string())),
        (false, Some(words)) => Ok(Some(format!("{piped}\n{words}"))),
    }
}

fn one_shot(engine: &Engine, args: &Run, text: String) -> anyhow::Result<()> {
    let input = Input::Prompt(Prompt {
        text,
        system: args.system.clone(),
        think: think(args),
        raw: args.raw,
        parse_special: args.raw,
        ..Prompt::default()
    });
    let stream = engine.generate(request(args, input)?, &args.sampling.patch())?;
    let said = speak(stream, || false)?;
    if args.verbose {
        timing(engine, &said.usage);
    }
    Ok(())
}

/// A request with the options of the command line, but those of sampling.
///
/// # Errors
/// If a file with a schema or a grammar cannot be read.
pub(crate) fn request(args: &Run, input: Input) -> anyhow::Result<Request> {
    let mut request = Request::new(input);
    request.limits.context = args.load.ctx_size;
    request.stop = args.stop.clone();
    request.limits.max_tokens = args.num_predict;
    request.limits.max_thinking_tokens = args.max_thinking;
    request.constraint = constraint(args)?;
    if let Some(keep) = args.shift {
        request.limits.output_overflow = OutputOverflow::Shift { keep };
    }
    Ok(request)
}

/// What the command line says that the answer must be.
fn constraint(args: &Run) -> anyhow::Result<Option<Constraint>> {
    if let Some(regex) = &args.regex {
        return Ok(Some(Constraint::Regex(regex.clone())));
    }
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read '{}'", path.display()))
    };
    if let Some(path) = &args.grammar {
        let is_lark = path.extension().is_some_and(|e| e == "lark");
        let syntax = if is_lark { GrammarSyntax::Lark } else { GrammarSyntax::Gbnf };
        return Ok(Some(Constraint::Grammar { syntax, text: read(path)? }));
    }
    match &args.format {
        None => Ok(None),
        Some(word) if word.as_os_str() == "json" => Ok(Some(Constraint::JsonObject)),
        Some(path) => {
            let wrong = |e| OprelError::validation(format!("'{}': {e}", path.display()));
            let schema = serde_json::from_str(&read(path)?).map_err(wrong)?;
            Ok(Some(Constraint::JsonSchema(schema)))
        }
    }
}

/// A conversation with the options of the command line.
pub(crate) fn chat_input(args: &Run, messages: &[Message]) -> Input {
    let messages = messages.to_vec();
    Input::Messages(Chat { messages, think: think(args), ..Chat::default() })
}

fn think(args: &Run) -> Option<Think> {
    args.think.map(|level| match level {
        ThinkArg::True => Think::On,
        ThinkArg::False => Think::Off,
        ThinkArg::Low => Think::Low,
        ThinkArg::Medium => Think::Medium,
        ThinkArg::High => Think::High,
    })
}

/// What was said in one answer.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) usage: Usage,
}

/// Prints an answer while it comes, until it ends or `stop` says so.
pub(crate) fn speak(
    stream: impl Iterator<Item = Event>,
    stop: impl Fn() -> bool,
) -> anyhow::Result<Said> {
    let mut out = std::io::stdout();
    let mut said = Said::default();
    let mut thinking = false;
    for event in stream {
        if stop() {
            break;
        }
        match event {
            Event::Text(piece) => {
                if std::mem::take(&mut thinking) {
                    writeln!(out, "\n...done thinking.\n")?;
                }
                write!(out, "{}", piece.text)?;
                said.text.push_str(&piece.text);
            }
            Event::Thinking(piece) => {
                if !std::mem::replace(&mut thinking, true) {
                    writeln!(out, "Thinking...")?;
                }
                write!(out, "{}", piece.text)?;
            }
            Event::ToolCall(call) => writeln!(out, "{}({})", call.name, call.arguments)?,
            Event::Usage(usage) => said.usage = usage,
            Event::Truncated(t) if t.dropped_messages > 0 => {
                let n = t.dropped_messages;
                tell(&format!("(the context is full: the oldest {n} messages are left out)"));
            }
            Event::End(EndReason::ContextFull) => tell("\n(the context is full)"),
            Event::Error(failure) => return Err(OprelError::from(failure).into()),
            _ => {}
        }
        out.flush()?;
    }
    writeln!(out)?;
    Ok(said)
}

/// Timing, to standard error.
pub(crate) fn timing(engine: &Engine, usage: &Usage) {
    let seconds = |ns: u64| format!("{:.3}s", ns as f64 / 1e9);
    let new = usage.prompt_tokens - usage.cached_tokens;
    tell("");
    tell(&format!("total duration:       {}", seconds(usage.total_ns)));
    let load_ns = engine.load_time().map_or(usage.load_ns, |time| time.as_nanos() as u64);
    tell(&format!("load duration:        {}", seconds(load_ns)));
    tell(&format!("prompt eval count:    {new} token(s), {} from the cache", usage.cached_tokens));
    tell(&format!("prompt eval duration: {}", seconds(usage.prefill_ns)));
    tell(&format!("prompt eval rate:     {:.2} tokens/s", usage.prefill_tokens_per_s()));
    tell(&format!("eval count:           {} token(s)", usage.generated_tokens));
    tell(&format!("eval duration:        {}", seconds(usage.decode_ns)));
    tell(&format!("eval rate:            {:.2} tokens/s", usage.decode_tokens_per_s()));
}
