//! A request's conversation to its prompt.

use crate::{ChatTemplate, LocalTime, RenderInput, Result, message_json, tool_json};
use oprel_api::{Chat, Think, ToolChoice};
use serde_json::{Map, Value, json};

impl ChatTemplate {
    /// The prompt of a request's conversation. Its `template` is not looked at: compile that
    /// instead of the model's where it is set.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_chat(&self, chat: &Chat, now: LocalTime) -> Result<String> {
        let messages: Vec<Value> = chat.messages.iter().map(message_json).collect();
        let tools: Vec<Value> = chat.tools.iter().map(tool_json).collect();
        let with_tools = !tools.is_empty() && chat.tool_choice != ToolChoice::None;
        let mut kwargs = think_kwargs(chat.think);
        kwargs.extend(chat.template_kwargs.clone());
        self.render(&RenderInput {
            tools: with_tools.then_some(&tools[..]),
            add_generation_prompt: !chat.continue_last,
            continue_last: chat.continue_last,
            kwargs: Some(&kwargs),
            ..RenderInput::new(&messages, now)
        })
    }
}

/// The variables by which templates are told whether, and how hard, to think. Left to the
/// template, none is set.
fn think_kwargs(think: Option<Think>) -> Map<String, Value> {
    let mut kwargs = Map::new();
    if let Some(think) = think {
        kwargs.insert("enable_thinking".into(), json!(think.is_on()));
        kwargs.insert("thinking".into(), json!(think.is_on()));
        if let Some(effort) = think.effort() {
            kwargs.insert("reasoning_effort".into(), json!(effort));
        }
    }
    kwargs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SpecialTokens;
    use oprel_api::{Message, Tool};

    const SOURCE: &str = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}\
        {% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}\
        {% if add_generation_prompt %}>{% endif %}\
        {{ enable_thinking }}{{ reasoning_effort }}{{ extra }}";

    fn prompt(chat: &Chat) -> String {
        let template = ChatTemplate::compile(SOURCE, SpecialTokens::default()).unwrap();
        template.render_chat(chat, LocalTime::utc(0)).unwrap()
    }

    #[test]
    fn what_a_request_says_reaches_the_template() {
        let mut chat = Chat { messages: vec![Message::user("Hi")], ..Chat::default() };
        assert_eq!(prompt(&chat), "user:Hi;>");
        chat.tools.push(Tool::new("f", "does it", json!({"type": "object"})));
        chat.think = Some(Think::High);
        chat.template_kwargs.insert("extra".into(), json!(1));
        assert_eq!(prompt(&chat), "user:Hi;[f]>Truehigh1");
        chat.tool_choice = ToolChoice::None;
        chat.think = Some(Think::Off);
        assert_eq!(prompt(&chat), "user:Hi;>False1");
    }

    #[test]
    fn the_last_message_is_continued() {
        let messages = vec![Message::user("Hi"), Message::assistant("It is")];
        let chat = Chat { messages, continue_last: true, ..Chat::default() };
        assert_eq!(prompt(&chat), "user:Hi;assistant:It is");
    }
}
