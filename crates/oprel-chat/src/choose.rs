//! Which of a model's templates to use.

/// What is used for a model that brings no template, as llama.cpp does: ChatML.
pub const CHATML: &str = "{% for message in messages %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// The templates that a model brings: `tokenizer.chat_template`, and by name
/// `tokenizer.chat_template.NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Templates {
    /// The one without a name.
    pub default: Option<String>,
    /// Those with a name, such as `tool_use` and `rag`.
    pub named: Vec<(String, String)>,
}

/// The template that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// Its text.
    pub source: &'a str,
    /// Whether the model brings none, so that a common one stands in: what a user is to be warned
    /// of, since the model may have been trained on another.
    pub stands_in: bool,
}

impl Templates {
    /// The template for a conversation with or without tools: `tool_use` if there are tools and it
    /// exists, else the one without a name, else the one called `default`, else [`CHATML`].
    pub fn choose(&self, with_tools: bool) -> Chosen<'_> {
        let tool_use = if with_tools { self.named("tool_use") } else { None };
        let own = tool_use.or(self.default.as_deref()).or_else(|| self.named("default"));
        let own = own.or_else(|| self.named.first().map(|(_, source)| source.as_str()));
        Chosen { source: own.unwrap_or(CHATML), stands_in: own.is_none() }
    }

    /// The template of a name.
    pub fn named(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(n, _)| n == name).map(|(_, source)| source.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChatTemplate, LocalTime, RenderInput, SpecialTokens};
    use serde_json::json;

    #[test]
    fn tools_choose_the_template_that_is_made_for_them() {
        let templates = Templates {
            default: Some("plain".into()),
            named: vec![("rag".into(), "rag".into()), ("tool_use".into(), "tools".into())],
        };
        assert_eq!(templates.choose(true).source, "tools");
        assert_eq!(templates.choose(false).source, "plain");
        let none = Templates::default();
        assert!(none.choose(true).stands_in && !templates.choose(true).stands_in);
    }

    #[test]
    fn chatml_stands_in_where_there_is_none() {
        let chosen = Templates::default();
        let template =
            ChatTemplate::compile(chosen.choose(false).source, SpecialTokens::default()).unwrap();
        let messages = [json!({"role": "user", "content": "Hi"})];
        let text = template.render(&RenderInput::new(&messages, LocalTime::utc(0))).unwrap();
        assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    }
}
