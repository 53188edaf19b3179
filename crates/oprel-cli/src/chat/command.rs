//! What a line of a chat asks for.

/// What a line of a chat asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Say(String),
    Set(Set),
    Show(Show),
    Load(String),
    Save(String),
    /// Forgets the conversation.
    Clear,
    /// Forgets the conversation and what was set.
    Reset,
    Help(String),
    Bye,
    Nothing,
    /// No command, or not all of one: what to say.
    Wrong(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    System(String),
    Parameter(String, Vec<String>),
    Think(Option<String>),
    NoThink,
    FormatJson,
    NoFormat,
    Verbose(bool),
    History(bool),
    WordWrap(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    Info,
    Parameters,
    System,
    Template,
    License,
    Modelfile,
}

/// What begins and ends a text of several lines.
pub(crate) const QUOTES: &str = "\"\"\"";

/// Whether a text of several lines is begun and not ended.
pub(crate) fn is_open(text: &str) -> bool {
    let begins = text.trim_start();
    let quoted = begins.starts_with(QUOTES) || begins.starts_with("/set system");
    quoted && begins.matches(QUOTES).count() % 2 == 1
}

impl Command {
    /// Reads a whole input, which may have several lines.
    pub(crate) fn read(text: &str) -> Command {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Command::Nothing;
        }
        if trimmed.starts_with(QUOTES) {
            let said = unquoted(trimmed);
            return if said.trim().is_empty() { Command::Nothing } else { Command::Say(said) };
        }
        // A path at the beginning of a question is no command.
        let word = trimmed.split_whitespace().next().unwrap_or_default();
        if !word.starts_with('/') || word[1..].contains('/') {
            return Command::Say(text.trim_end_matches(['\r', '\n']).to_string());
        }
        let rest = trimmed[word.len()..].trim();
        match word {
            "/bye" | "/exit" | "/quit" => Command::Bye,
            "/clear" => Command::Clear,
            "/reset" => Command::Reset,
            "/?" | "/help" => Command::Help(rest.trim_start_matches('/').to_string()),
            "/load" if !rest.is_empty() => Command::Load(rest.to_string()),
            "/load" => wrong("/load MODEL: which one?"),
            "/save" if !rest.is_empty() => Command::Save(rest.to_string()),
            "/save" => wrong("/save NAME: under which name?"),
            "/set" => set(rest),
            "/show" => show(rest),
            _ => wrong(&format!("'{word}' is no command; /? lists them")),
        }
    }
}

fn wrong(say: &str) -> Command {
    Command::Wrong(say.to_string())
}

/// A text without the quotes around it.
fn unquoted(text: &str) -> String {
    let text = text.trim();
    let inner = text.strip_prefix(QUOTES).map(|t| t.strip_suffix(QUOTES).unwrap_or(t));
    let plain = inner.or_else(|| text.strip_prefix('"')?.strip_suffix('"'));
    plain.unwrap_or(text).to_string()
}

fn set(rest: &str) -> Command {
    let (what, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let value = value.trim();
    Command::Set(match (what, value) {
        ("", _) => return Command::Help("set".into()),
        ("system", "") => return wrong("/set system TEXT: what is the text?"),
        ("system", text) => Set::System(unquoted(text)),
        ("parameter", _) => {
            let mut words = value.split_whitespace().map(str::to_string);
            match (words.next(), words.collect::<Vec<_>>()) {
                (Some(name), values) if !values.is_empty() => Set::Parameter(name, values),
                _ => return wrong("/set parameter NAME VALUE: /? set lists the names"),
            }
        }
        ("think", "") => Set::Think(None),
        ("think", level) => Set::Think(Some(level.to_string())),
        ("nothink", _) => Set::NoThink,
        ("format", "json") => Set::FormatJson,
        ("format", _) => return wrong("/set format json: there is no other"),
        ("noformat", _) => Set::NoFormat,
        ("verbose", _) => Set::Verbose(true),
        ("quiet", _) => Set::Verbose(false),
        ("history", _) => Set::History(true),
        ("nohistory", _) => Set::History(false),
        ("wordwrap", _) => Set::WordWrap(true),
        ("nowordwrap", _) => Set::WordWrap(false),
        _ => return wrong(&format!("'{what}' cannot be set; /? set lists what can")),
    })
}

fn show(rest: &str) -> Command {
    Command::Show(match rest {
        "" => return Command::Help("show".into()),
        "info" => Show::Info,
        "parameters" => Show::Parameters,
        "system" => Show::System,
        "template" => Show::Template,
        "license" => Show::License,
        "modelfile" => Show::Modelfile,
        _ => return wrong(&format!("'{rest}' cannot be shown; /? show lists what can")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_or_are_said() {
        let say = |text: &str| Command::Say(text.to_string());
        let table = [
            ("Hello  there", say("Hello  there")),
            ("  \n", Command::Nothing),
            ("/usr/bin/oprel is what?", say("/usr/bin/oprel is what?")),
            ("/bye", Command::Bye),
            ("/quit", Command::Bye),
            ("/exit now", Command::Bye),
            ("/? set", Command::Help("set".into())),
            ("/help /show", Command::Help("show".into())),
            ("/set", Command::Help("set".into())),
            ("/load  a model.gguf ", Command::Load("a model.gguf".into())),
            ("/save x", Command::Save("x".into())),
            ("\"\"\"a\nb\"\"\"", say("a\nb")),
            ("\"\"\"\"\"\"", Command::Nothing),
            ("/set system \"\"\"be\nbrief\"\"\"", Command::Set(Set::System("be\nbrief".into()))),
            ("/set system \"be brief\"", Command::Set(Set::System("be brief".into()))),
            (
                "/set parameter stop a b",
                Command::Set(Set::Parameter("stop".into(), vec!["a".into(), "b".into()])),
            ),
            ("/set think high", Command::Set(Set::Think(Some("high".into())))),
            ("/set format json", Command::Set(Set::FormatJson)),
            ("/set nowordwrap", Command::Set(Set::WordWrap(false))),
            ("/show modelfile", Command::Show(Show::Modelfile)),
        ];
        for (line, command) in table {
            assert_eq!(Command::read(line), command, "{line}");
        }
        for line in ["/what", "/load", "/save", "/set x", "/set parameter top_k", "/show x", "/"] {
            assert!(matches!(Command::read(line), Command::Wrong(_)), "{line}");
        }
    }

    #[test]
    fn quotes_that_are_open_want_more_lines() {
        for open in ["\"\"\"a", "  \"\"\"", "/set system \"\"\"a\nb"] {
            assert!(is_open(open), "{open}");
        }
        for whole in ["\"\"\"a\"\"\"", "a \"\"\"", "/set system a", "/show \"\"\""] {
            assert!(!is_open(whole), "{whole}");
        }
    }
}
