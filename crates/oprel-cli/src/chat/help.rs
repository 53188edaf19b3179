//! What a chat says of its commands.

use super::parameters;

const ALL: &str = "\
/set            change how answers are made  (/? set lists what)
/show           show what the model is and what was set  (/? show)
/load NAME      another model, or a conversation that was saved
/save NAME      keep the conversation and what was set in a file
/clear          forget the conversation
/reset          forget the conversation and what was set
/? [COMMAND]    help (also /help)
/bye            leave (also /exit, /quit, Ctrl-D)

\"\"\"             begins and ends a text of several lines
Ctrl-C          stops an answer; at the prompt, clears the line
/? keys         what the keys do while you type";

const SET: &str = "\
/set system TEXT             system prompt, in \"\"\" if it has several lines
/set parameter NAME VALUE    how tokens are chosen, and how many; `default` for the usual
/set think [LEVEL]           think first: low, medium, high, max
/set nothink                 do not
/set format json             answers are JSON  (/set noformat: anything)
/set verbose                 show timing  (/set quiet: do not)
/set history                 remember what is typed  (/set nohistory: do not)
/set wordwrap                break lines between words  (/set nowordwrap: do not)

Parameters: ";

const SHOW: &str = "\
/show info          what the model is
/show parameters    what its makers suggest, and what was set
/show system        system prompt
/show template      chat template
/show license       licence
/show modelfile     model and settings, as a Modelfile";

const KEYS: &str = "\
Ctrl-A, Ctrl-E      to the beginning, the end of the line
Alt-B, Alt-F        a word back, forward
Ctrl-U, Ctrl-K      delete to the beginning, to the end
Ctrl-W              delete the word before
Ctrl-L              clear the screen
Up, Down, Ctrl-R    lines of before; find one
Ctrl-Z              suspend
Ctrl-D              leave";

pub(super) fn text(topic: &str) -> String {
    match topic.trim_start_matches('/') {
        "set" => {
            let names: Vec<String> = parameters::names().collect();
            format!("{SET}{}", names.join(", "))
        }
        "show" => SHOW.into(),
        "keys" | "shortcuts" => KEYS.into(),
        _ => ALL.into(),
    }
}
