//! The dialect of Ollama: `/api/generate`, `/api/chat`, `/api/embed` and what goes with them.
//!
//! Keys of a body match whatever their case, null is as if it were not there, and the content type
//! is not looked at. A field that changes nothing here is named in the call's `ignored`; one that
//! would change the answer and is not done here is refused by its name. What is wrong is wrong with
//! the words that clients of the field look for.

use serde_json::Value;

use crate::dialect::Problem;
use crate::{ErrorKind, Failure};

mod embed;
mod fields;
mod inventory;
pub(crate) mod keep_alive;
pub(crate) mod media;
mod messages;
mod named;
mod options;
mod preset;
mod reference;
mod request;
mod store;
mod time;
mod voice;
mod wire;

pub use embed::{embed, embeddings};
pub use inventory::{
    Details, RUNNING, Running, Show, Tag, parameter_lines, ps, show, tags, version,
};
pub use keep_alive::env_keep_alive;
pub use named::{Named, named};
pub use preset::Preset;
pub use reference::{ModelName, ModelRef, Place};
pub use request::{Generate, Idle, bound, chat, generate};
pub use store::{Copy, Create, Transfer, copy, create, progress, transfer};
pub use time::Timestamp;

/// How the dialect says that a request failed: `{"error": ...}`. A [`crate::dialect::Complaint`].
pub fn complaint(problem: &Problem) -> Value {
    voice::complaint(&problem.failure)
}

/// The same, of requests for vectors: a model that is not here is told of in other words.
pub fn complaint_of_embed(problem: &Problem) -> Value {
    let failure = &problem.failure;
    let name = failure.message.strip_prefix("model '").and_then(|m| m.strip_suffix("' not found"));
    match name.filter(|_| failure.kind == ErrorKind::ModelNotFound) {
        Some(name) => voice::complaint(&absent_embedder(name)),
        None => voice::complaint(failure),
    }
}

/// The failure of a model that is not here, named as the client did.
pub fn absent(model: &str) -> Failure {
    Failure::new(ErrorKind::ModelNotFound, format!("model '{model}' not found"))
}

/// The same, of a request for vectors.
pub fn absent_embedder(model: &str) -> Failure {
    let text = format!("model {model:?} not found, try pulling it first");
    Failure::new(ErrorKind::ModelNotFound, text)
}

/// The failure of a model that cannot do what is asked: `chat`, `generate`, `thinking`, `tools`,
/// `insert`. The last two name the model in full.
pub fn cannot(model: &ModelRef, what: &str) -> Failure {
    let text = match (what, model) {
        ("tools" | "insert", ModelRef::Name(name)) => {
            format!("{} does not support {what}", name.full())
        }
        ("tools" | "insert", other) => format!("{other} does not support {what}"),
        (_, other) => format!("{:?} does not support {what}", other.to_string()),
    };
    Failure::new(ErrorKind::Validation, text)
}

/// The failure of a server whose queue is full: HTTP status 503.
pub fn busy() -> Failure {
    let text = "server busy, please try again.  maximum pending requests exceeded";
    Failure::new(ErrorKind::Backend, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_words_that_clients_look_for() {
        let name = ModelRef::parse("llama3.2").unwrap();
        let table = [
            (absent("x"), "model 'x' not found"),
            (absent_embedder("x"), "model \"x\" not found, try pulling it first"),
            (cannot(&name, "chat"), "\"llama3.2:latest\" does not support chat"),
            (cannot(&name, "thinking"), "\"llama3.2:latest\" does not support thinking"),
            (
                cannot(&name, "tools"),
                "registry.ollama.ai/library/llama3.2:latest does not support tools",
            ),
            (cannot(&ModelRef::Demo, "insert"), "demo:latest does not support insert"),
            (busy(), "server busy, please try again.  maximum pending requests exceeded"),
        ];
        for (failure, text) in table {
            let problem = Problem { status: 400, failure, id: String::new() };
            assert_eq!(complaint(&problem), serde_json::json!({ "error": text }));
        }
    }

    #[test]
    fn an_absent_embedder_is_told_of_in_its_own_words() {
        let told = |failure| {
            complaint_of_embed(&Problem { status: 404, failure, id: String::new() })["error"]
                .clone()
        };
        assert_eq!(told(absent("a'b")), "model \"a'b\" not found, try pulling it first");
        assert_eq!(
            told(Failure::new(ErrorKind::Validation, "model 'x' not found")),
            "model 'x' not found"
        );
    }
}
