//! The form of a conversation, as the chat template prints it: pieces of text, each with the
//! weight that its tokens have in the loss.

use serde_json::Value;

/// Text and the weight of its tokens.
pub type Piece = (String, f32);

/// Weight of what the model reads and never has to write.
const READ: f32 = 0.1;

/// What a tool result, a question or an answer looks like in the prompt.
#[derive(Default)]
pub struct Dialog {
    pub pieces: Vec<Piece>,
}

impl Dialog {
    /// The system message, with tools if there are any.
    pub fn system(&mut self, text: Option<&str>, tools: &[Value]) {
        if text.is_none() && tools.is_empty() {
            return;
        }
        let mut out = String::from("<|im_start|>system\n");
        if let Some(text) = text {
            out.push_str(text);
            out.push_str(if tools.is_empty() { "" } else { "\n\n" });
        }
        if !tools.is_empty() {
            out.push_str("You can call these tools:\n");
            for tool in tools {
                out.push_str(&spaced(tool));
                out.push('\n');
            }
            out.push_str(
                "To call one, answer with <tool_call>{\"name\": NAME, \"arguments\": {...}}</tool_call>.",
            );
        }
        out.push_str("<|im_end|>\n");
        self.pieces.push((out, READ));
    }

    pub fn user(&mut self, text: &str) {
        self.pieces.push((format!("<|im_start|>user\n{text}<|im_end|>\n"), READ));
    }

    pub fn tool(&mut self, text: &str) {
        self.pieces.push((format!("<|im_start|>tool\n{text}<|im_end|>\n"), READ));
    }

    /// An answer. With a thought, the prompt itself opens the thought.
    pub fn assistant(&mut self, thought: Option<&str>, text: &str) {
        let open = if thought.is_some() { "<think>\n" } else { "" };
        self.pieces.push((format!("<|im_start|>assistant\n{open}"), READ));
        let thought = thought.map_or_else(String::new, |t| format!("{t}\n</think>\n\n"));
        self.pieces.push((format!("{thought}{text}<|im_end|>"), 1.));
        self.pieces.push(("\n".to_owned(), 0.));
    }

    /// A tool call as an answer.
    pub fn call(&mut self, call: &Value) {
        self.assistant(None, &format!("<tool_call>\n{}\n</tool_call>", spaced(call)));
    }
}

/// JSON with a space after `:` and `,`, as chat templates print it.
pub fn spaced(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields =
                map.iter().map(|(k, v)| format!("{}: {}", Value::from(k.as_str()), spaced(v)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::Array(all) => format!("[{}]", all.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
