//! What a terminal is given that a file is not: colours, a spinner, lines that break between words.

use indicatif::ProgressStyle;
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use unicode_width::UnicodeWidthChar;

/// How long something may take before it is said.
const SOON: Duration = Duration::from_millis(400);
/// How long a picture of the spinner stays.
const TURN: Duration = Duration::from_millis(100);
/// Columns of a terminal that does not tell.
const USUAL_WIDTH: usize = 80;

/// Whether an output is a terminal that may be given colours.
pub(crate) fn has_colours(output: &impl IsTerminal) -> bool {
    let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    output.is_terminal() && !is_unwanted && !is_dumb()
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Columns of the terminal at standard output.
pub(crate) fn width() -> usize {
    crate::platform::width().unwrap_or(USUAL_WIDTH)
}

/// Says on a terminal at standard error that something takes its time, until it is dropped.
pub(crate) struct Spinner(Option<(Sender<()>, JoinHandle<()>)>);

impl Spinner {
    pub(crate) fn start(what: &'static str) -> Spinner {
        if !std::io::stderr().is_terminal() || is_dumb() {
            return Spinner(None);
        }
        let (stop, stopped) = channel();
        let turn = move || {
            let mut wait = SOON;
            let pictures = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏".chars().cycle();
            for picture in pictures {
                if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
                wait = TURN;
                let _ = write!(std::io::stderr(), "\r{picture} {what}");
            }
            if wait == TURN {
                let _ = write!(std::io::stderr(), "\r\x1b[K");
            }
        };
        let thread = std::thread::Builder::new().name("spinner".into()).spawn(turn);
        Spinner(thread.ok().map(|thread| (stop, thread)))
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

/// Breaks lines between words; words of a block of code stay where they are.
pub(crate) struct Wrap {
    width: usize,
    column: usize,
    /// A word that is not over yet, and its columns.
    word: String,
    word_width: usize,
    /// Spaces before it that are not written yet.
    spaces: usize,
    /// The beginning of the line, as far as it tells of a block of code.
    head: String,
    in_code: bool,
}

impl Wrap {
    pub(crate) fn new(width: usize) -> Wrap {
        Wrap {
            width,
            column: 0,
            word: String::new(),
            word_width: 0,
            spaces: 0,
            head: String::new(),
            in_code: false,
        }
    }

    /// What can be written of a text by now.
    pub(crate) fn push(&mut self, text: &str) -> String {
        let mut out = String::new();
        for c in text.chars() {
            if c != '\n' && self.head.len() < 3 {
                self.head.push(c);
                self.in_code ^= self.head == "```";
            }
            match c {
                '\n' => {
                    self.finish_word(&mut out);
                    out.push('\n');
                    (self.column, self.spaces) = (0, 0);
                    self.head.clear();
                }
                ' ' if !self.in_code => {
                    self.finish_word(&mut out);
                    self.spaces += 1;
                }
                c => {
                    self.word.push(c);
                    self.word_width += c.width().unwrap_or(0);
                    // Text without spaces breaks anywhere.
                    if self.in_code || c.width() == Some(2) {
                        self.finish_word(&mut out);
                    }
                }
            }
        }
        out
    }

    /// What is left.
    pub(crate) fn finish(&mut self) -> String {
        let mut out = String::new();
        self.finish_word(&mut out);
        out
    }

    fn finish_word(&mut self, out: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let fits = self.column + self.spaces + self.word_width <= self.width;
        if fits || self.in_code || self.column == 0 {
            out.extend(std::iter::repeat_n(' ', self.spaces));
            self.column += self.spaces + self.word_width;
        } else {
            out.push('\n');
            self.column = self.word_width;
        }
        // The terminal itself breaks what is longer than a line.
        if self.column > self.width && !self.in_code {
            self.column = (self.column - 1) % self.width.max(1) + 1;
        }
        out.push_str(&self.word);
        self.word.clear();
        (self.word_width, self.spaces) = (0, 0);
    }
}

/// How a bar looks that is made of this template.
pub(crate) fn bar_style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▉▊▋▌▍▎▏ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(width: usize, pieces: &[&str]) -> String {
        let mut wrap = Wrap::new(width);
        let mut out: String = pieces.iter().map(|piece| wrap.push(piece)).collect();
        out.push_str(&wrap.finish());
        out
    }

    #[test]
    fn lines_break_between_words_wherever_the_pieces_end() {
        let text = "one two three four";
        assert_eq!(wrapped(9, &[text]), "one two\nthree\nfour");
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(wrapped(9, &letters), "one two\nthree\nfour");
        assert_eq!(wrapped(80, &["a  b\n\n  c "]), "a  b\n\n  c");
        assert_eq!(wrapped(4, &["abcdefgh ij k"]), "abcdefgh\nij k");
    }

    #[test]
    fn code_stays_as_it_is_and_wide_letters_take_two_columns() {
        let code = "```\nlet a = 1;    // b\n```\none two three";
        assert_eq!(wrapped(8, &[code]), "```\nlet a = 1;    // b\n```\none two\nthree");
        assert_eq!(wrapped(4, &["漢字漢字"]), "漢字\n漢字");
    }
}
