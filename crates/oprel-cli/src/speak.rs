//! Saying an answer while it comes.

use std::io::{IsTerminal, Stdout, Write};
use std::task::Poll;
use std::time::Duration;

use oprel::{Answer, EndReason, Event, Model, OprelError, Stream, Usage};

use crate::outcome::{harmless, tell};
use crate::terminal::{self, Spinner, Wrap};

/// How often it is looked whether an answer is still wanted.
const LOOK: Duration = Duration::from_millis(30);

/// How an answer is written.
pub(crate) struct Style {
    /// Columns after which lines break between words.
    pub(crate) width: Option<usize>,
    /// Thoughts are dim.
    dim: bool,
    /// What commands a terminal is not passed on.
    tame: bool,
}

impl Style {
    /// What fits standard output.
    pub(crate) fn of_output(wraps: bool) -> Style {
        let is_terminal = std::io::stdout().is_terminal();
        Style {
            width: (is_terminal && wraps).then(terminal::width),
            dim: terminal::has_colours(&std::io::stdout()),
            tame: is_terminal,
        }
    }
}

/// What was said, and whether somebody stopped it.
pub(crate) struct Said {
    pub(crate) answer: Answer,
    pub(crate) stopped: bool,
}

/// Prints an answer while it comes, until it ends or `stop` says so; then it is cancelled at once.
pub(crate) fn speak(
    mut stream: Stream,
    style: &Style,
    stop: impl Fn() -> bool,
) -> anyhow::Result<Said> {
    let mut said = Said { answer: Answer::default(), stopped: false };
    let mut mouth = Mouth::new(style);
    let mut spinner = Some(Spinner::start("reading the prompt"));
    loop {
        if stop() {
            said.stopped = true;
            break;
        }
        let event = match stream.next_within(LOOK) {
            Poll::Pending => continue,
            Poll::Ready(None) => break,
            Poll::Ready(Some(event)) => event,
        };
        spinner = None;
        let pushed = mouth.say(&event);
        said.answer.push(event).map_err(OprelError::from)?;
        pushed?;
    }
    drop((stream, spinner));
    mouth.finish()?;
    Ok(said)
}

/// Writes events.
struct Mouth<'a> {
    out: Stdout,
    style: &'a Style,
    wrap: Option<Wrap>,
    thinking: bool,
}

impl<'a> Mouth<'a> {
    fn new(style: &'a Style) -> Mouth<'a> {
        let wrap = style.width.map(Wrap::new);
        Mouth { out: std::io::stdout(), style, wrap, thinking: false }
    }

    fn say(&mut self, event: &Event) -> std::io::Result<()> {
        match event {
            Event::Text(piece) => {
                if self.thinking {
                    self.finish_thinking()?;
                    write!(self.out, "...done thinking.\n\n")?;
                }
                self.text(&piece.text)?;
            }
            Event::Thinking(piece) => {
                if !std::mem::replace(&mut self.thinking, true) {
                    writeln!(self.out, "Thinking...")?;
                    self.colour("\x1b[2m")?;
                }
                self.text(&piece.text)?;
            }
            Event::ToolCall(call) => {
                let call = format!("{}({})", call.name, call.arguments);
                let call = if self.style.tame { harmless(&call) } else { call };
                writeln!(self.out, "{call}")?;
            }
            Event::Truncated(t) if t.dropped_messages > 0 => {
                let n = t.dropped_messages;
                tell(&format!("(the context is full: the oldest {n} messages are left out)"));
            }
            Event::End(EndReason::ContextFull) => {
                self.rest()?;
                self.out.flush()?;
                tell("\n(the context is full)");
            }
            Event::End(EndReason::Capped) => {
                self.rest()?;
                self.out.flush()?;
                tell("\n(the model's server allows no more tokens, although more were asked for)");
            }
            _ => {}
        }
        self.out.flush()
    }

    fn text(&mut self, text: &str) -> std::io::Result<()> {
        let tame = self.style.tame.then(|| harmless(text));
        let text = tame.as_deref().unwrap_or(text);
        match &mut self.wrap {
            Some(wrap) => write!(self.out, "{}", wrap.push(text)),
            None => write!(self.out, "{text}"),
        }
    }

    /// Ends what is dim, and its line.
    fn finish_thinking(&mut self) -> std::io::Result<()> {
        self.thinking = false;
        self.rest()?;
        self.wrap = self.style.width.map(Wrap::new);
        self.colour("\x1b[0m")?;
        writeln!(self.out)
    }

    fn rest(&mut self) -> std::io::Result<()> {
        match &mut self.wrap {
            Some(wrap) => write!(self.out, "{}", wrap.finish()),
            None => Ok(()),
        }
    }

    fn colour(&mut self, code: &str) -> std::io::Result<()> {
        if self.style.dim { write!(self.out, "{code}") } else { Ok(()) }
    }

    fn finish(mut self) -> std::io::Result<()> {
        match self.thinking {
            true => self.finish_thinking()?,
            false => {
                self.rest()?;
                writeln!(self.out)?;
            }
        }
        self.out.flush()
    }
}

/// Timing, to standard error.
pub(crate) fn timing(model: &Model, usage: &Usage) {
    let seconds = |ns: u64| format!("{:.3}s", ns as f64 / 1e9);
    let new = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    tell("");
    tell(&format!("total duration:       {}", seconds(usage.total_ns)));
    tell(&format!("load duration:        {:.3}s", model.load_time().as_secs_f64()));
    tell(&format!("prompt eval count:    {new} token(s), {} from the cache", usage.cached_tokens));
    tell(&format!("prompt eval duration: {}", seconds(usage.prefill_ns)));
    tell(&format!("prompt eval rate:     {:.2} tokens/s", usage.prefill_tokens_per_s()));
    tell(&format!("eval count:           {} token(s)", usage.generated_tokens));
    tell(&format!("eval duration:        {}", seconds(usage.decode_ns)));
    tell(&format!("eval rate:            {:.2} tokens/s", usage.decode_tokens_per_s()));
}
