//! `oprel run`: one answer, or a chat.

use std::io::IsTerminal;
use std::time::SystemTime;

use oprel::{Answer, Model, OprelError};
use oprel_api::dialect::Moment;
use oprel_api::ollama;
use serde_json::json;

use crate::args::Run;
use crate::commands::{is_interactive, print, stdin_text};
use crate::settings::Settings;
use crate::speak::{Style, speak, timing};
use crate::{chat, engine};

pub(crate) fn run(args: &Run) -> anyhow::Result<()> {
    let prompt = prompt(args)?;
    let Some(text) = prompt else {
        if !is_interactive() {
            return Err(OprelError::validation("no prompt: give one, or pipe one in").into());
        }
        for (given, option) in [(args.raw, "--raw"), (args.json, "--json")] {
            if given {
                let message = format!("{option} needs a prompt: a chat goes by a template");
                return Err(OprelError::validation(message).into());
            }
        }
        return chat::run(&args.model, &args.ask);
    };
    let ask = &args.ask;
    let settings = Settings::of(ask)?;
    let model = engine::open(&args.model, &ask.load, &ask.place, ask.draft.as_deref())?;
    engine::check_speaks(&model)?;
    let stream = model.generate(settings.request(&model, settings.prompt(text, args.raw)))?;
    let answer = match args.json {
        true => stream.answer()?,
        false => speak(stream, &Style::of_output(!ask.nowordwrap), || false)?.answer,
    };
    if ask.verbose {
        timing(&model, &answer.usage);
    }
    if args.json { print_json(&args.model, &model, answer) } else { Ok(()) }
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

/// The body that a server would answer with.
fn print_json(name: &str, model: &Model, mut answer: Answer) -> anyhow::Result<()> {
    answer.usage.load_ns = u64::try_from(model.load_time().as_nanos()).unwrap_or(u64::MAX);
    let body = json!({"model": name, "prompt": "x", "stream": false}).to_string();
    let read = ollama::generate(body.as_bytes()).map_err(OprelError::from)?;
    let ollama::Generate::Call(mut call) = read else {
        return Err(OprelError::validation("this request has no answer").into());
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let unix_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    let moment = Moment { unix_ns, model: name.into(), ..Moment::default() };
    print(&call.voice.whole(&moment, vec![answer]).to_string())
}
