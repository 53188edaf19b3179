//! What a template can say, found by asking it.

use crate::{ChatTemplate, LocalTime, RenderInput, ThinkTags, ToolFormat};
use serde_json::{Value, json};

/// A word that no template writes of its own accord.
const PROBE: &str = "oprel_probe_5f2c";

/// What a template can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// It writes a system message.
    pub system: bool,
    /// It tells the model about tools.
    pub tools: bool,
    /// It knows of thinking.
    pub thinking: bool,
    /// How thinking is marked, where it is marked.
    pub think_tags: Option<ThinkTags>,
    /// How calls of tools are written, where the way is known.
    pub tool_format: Option<ToolFormat>,
}

impl Capabilities {
    /// Renders small conversations and looks whether what was put in comes out.
    pub fn of(template: &ChatTemplate) -> Capabilities {
        let source = template.source();
        let user = json!({"role": "user", "content": "hi"});
        let system = [json!({"role": "system", "content": PROBE}), user.clone()];
        let tools = [probe_tool()];
        // Some templates are for conversations with tools only.
        let with_system =
            writes(template, &system, None) || writes(template, &system, Some(&tools));
        let tools = writes(template, &[user], Some(&tools));
        let think_tags = ThinkTags::of(source);
        let switches = ["enable_thinking", "thinking", "reasoning_effort", "thinking_budget"];
        Capabilities {
            system: with_system,
            tools,
            thinking: think_tags.is_some() || switches.iter().any(|name| template.reads(name)),
            think_tags,
            tool_format: ToolFormat::of(source).filter(|_| tools),
        }
    }
}

fn probe_tool() -> Value {
    let parameters = json!({"type": "object", "properties": {
        "a": {"type": "string", "description": "d"}}, "required": ["a"]});
    json!({"type": "function", "function": {
        "name": PROBE, "description": "d", "parameters": parameters}})
}

/// Whether the probe comes out; a template that refuses it cannot say it.
fn writes(template: &ChatTemplate, messages: &[Value], tools: Option<&[Value]>) -> bool {
    let input = RenderInput { tools, ..RenderInput::new(messages, LocalTime::utc(0)) };
    template.render(&input).is_ok_and(|text| text.contains(PROBE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SpecialTokens;

    fn capabilities(source: &str) -> Capabilities {
        let special = SpecialTokens { bos: Some("<s>".into()), ..SpecialTokens::default() };
        Capabilities::of(&ChatTemplate::compile(source, special).unwrap())
    }

    #[test]
    fn a_template_that_writes_every_message_has_a_system() {
        let plain =
            capabilities("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}");
        assert!(plain.system && !plain.tools && !plain.thinking);
    }

    #[test]
    fn a_template_that_refuses_a_system_message_has_none() {
        let source = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}x";
        assert!(!capabilities(source).system);
    }

    #[test]
    fn tools_and_thinking_are_found() {
        let source = "{% if tools %}{{ tools|tojson }} answer with <tool_call>{% endif %}\
                      {% for m in messages %}{{ m.content }}{% endfor %}\
                      {% if enable_thinking is false %}<think></think>{% endif %}";
        let found = capabilities(source);
        assert!(found.tools && found.thinking);
        assert_eq!(found.think_tags, Some(ThinkTags::new("<think>", "</think>")));
        assert_eq!(found.tool_format, Some(ToolFormat::Tagged));
    }
}
