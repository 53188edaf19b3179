//! Where the lines of a chat come from: a terminal with an editor, or a pipe.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use rustyline::Editor;
use rustyline::config::Config;
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;

use super::command::is_open;

/// Lines that are remembered.
const MOST_LINES: usize = 1000;

/// What a user enters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    /// A text, of several lines if quotes say so.
    Text(String),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D, or the end of a pipe.
    End,
}

/// Where lines come from.
#[allow(clippy::large_enum_variant)] // there is one
pub(crate) enum Input {
    Terminal { editor: Editor<(), MemHistory>, history: History },
    Pipe,
}

impl Input {
    pub(crate) fn open() -> anyhow::Result<Input> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return Ok(Input::Pipe);
        }
        let config = Config::builder().max_history_size(MOST_LINES);
        let config = config.and_then(|c| c.history_ignore_dups(true)).map(|c| c.build());
        let history = MemHistory::with_config(config.as_ref().unwrap_or(&Config::default()));
        let editor = config.and_then(|config| Editor::with_history(config, history));
        let mut editor = editor.context("cannot use this terminal")?;
        let history = History::of_user();
        for line in history.read() {
            let _ = editor.add_history_entry(line);
        }
        Ok(Input::Terminal { editor, history })
    }

    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal { .. })
    }

    /// Whether lines are remembered from now on.
    pub(crate) fn remember(&mut self, wanted: bool) {
        if let Input::Terminal { history, .. } = self {
            history.wanted = wanted;
        }
    }

    /// Reads a text.
    pub(crate) fn read(&mut self) -> anyhow::Result<Entered> {
        let mut text = match self.line(">>> ")? {
            Entered::Text(line) => line,
            other => return Ok(other),
        };
        while is_open(&text) {
            match self.line("... ")? {
                Entered::Text(line) => {
                    text.push('\n');
                    text.push_str(&line);
                }
                other => return Ok(other),
            }
        }
        if let Input::Terminal { editor, history } = self {
            // History only helps; a line that it refuses is still a line.
            if history.wanted && !text.trim().is_empty() {
                let _ = editor.add_history_entry(text.as_str());
                history.append(&text);
            }
        }
        Ok(Entered::Text(text))
    }

    fn line(&mut self, prompt: &str) -> anyhow::Result<Entered> {
        let Input::Terminal { editor, .. } = self else { return piped() };
        match editor.readline(prompt) {
            Ok(line) => Ok(Entered::Text(line)),
            Err(ReadlineError::Interrupted) => Ok(Entered::Interrupt),
            Err(ReadlineError::Eof) => Ok(Entered::End),
            Err(error) => Err(error).context("cannot read from the terminal"),
        }
    }
}

fn piped() -> anyhow::Result<Entered> {
    let mut bytes = Vec::new();
    let n = std::io::stdin().lock().read_until(b'\n', &mut bytes);
    if n.context("cannot read standard input")? == 0 {
        return Ok(Entered::End);
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| oprel::OprelError::validation("standard input is not UTF-8 text"))?;
    Ok(Entered::Text(text.trim_end_matches(['\r', '\n']).to_string()))
}

/// Lines of earlier chats: a file that only its owner reads. What goes wrong with it is left so.
pub(crate) struct History {
    file: Option<PathBuf>,
    wanted: bool,
}

impl History {
    /// `history` in `OPREL_HOME`, unless the setting `nohistory` is on.
    fn of_user() -> History {
        let wanted = oprel_config::current().is_ok_and(|set| !set.is_on("nohistory"));
        let file = oprel_config::home().map(|home| home.join("history"));
        History { file: file.filter(|_| wanted), wanted }
    }

    /// The lines that are remembered, the latest ones if there are many; the file then forgets the others.
    fn read(&self) -> Vec<String> {
        let text = self.file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        let text = text.unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        let latest = &all[all.len().saturating_sub(MOST_LINES)..];
        if all.len() > 2 * MOST_LINES {
            self.write(true, &(latest.join("\n") + "\n"));
        }
        latest.iter().map(|line| unescaped(line)).collect()
    }

    fn append(&self, text: &str) {
        self.write(false, &(escaped(text) + "\n"));
    }

    fn write(&self, anew: bool, text: &str) {
        let Some(file) = &self.file else { return };
        let mut options = std::fs::OpenOptions::new();
        options.create(true).write(true).append(!anew).truncate(anew);
        crate::platform::private(&mut options);
        let _ = file.parent().map(std::fs::create_dir_all);
        let _ = options.open(file).and_then(|mut file| file.write_all(text.as_bytes()));
    }
}

/// A text on one line.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\r', "\\r").replace('\n', "\\n")
}

fn unescaped(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => {}
            },
            (c, false) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_comes_back_and_only_its_owner_reads_it() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("home/history");
        let history = History { file: Some(file.clone()), wanted: true };
        assert_eq!(history.read(), Vec::<String>::new());
        let texts = ["one", "two\nlines \\n", "\\"];
        texts.iter().for_each(|text| history.append(text));
        assert_eq!(history.read(), texts);
        #[cfg(unix)]
        {
            let mode = std::fs::metadata(&file).unwrap().permissions();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
        }
        (0..2 * MOST_LINES).for_each(|i| history.append(&i.to_string()));
        assert_eq!(history.read().len(), MOST_LINES);
        let kept = std::fs::read_to_string(&file).unwrap();
        assert_eq!(kept.lines().count(), MOST_LINES);
        assert_eq!(kept.lines().last(), Some("1999"));
    }
}
