//! What a model of a store brings with it: options, a system message, messages before every conversation.

use serde_json::{Map, Value};

use super::options::Options;
use crate::{Chat, Failure, Input, Message, Prompt, Request, Role, Sampling, SamplingPatch};

/// What a model brings with it, for requests that do not say otherwise.
#[derive(Debug, Default, PartialEq)]
pub struct Preset {
    options: Options,
    system: Option<String>,
    messages: Vec<Message>,
}

impl Preset {
    /// Of a model's parameters, with the names that requests have for them; its system message; and messages
    /// before every conversation, as role and content.
    ///
    /// # Errors
    /// By the name of a parameter that is not of its type, or of a role that there is not.
    pub fn new(
        params: &Map<String, Value>,
        system: Option<String>,
        messages: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Preset, Failure> {
        let message = |(role, content): (String, String)| {
            let role = match role.as_str() {
                "system" => Role::System,
                "user" => Role::User,
                "assistant" => Role::Assistant,
                other => {
                    let why = format!("the model has a message of the role '{other}'");
                    return Err(super::fields::wrong(why));
                }
            };
            Ok(Message::new(role, content))
        };
        Ok(Preset {
            options: Options::of(params.clone())?,
            system: system.filter(|text| !text.is_empty()),
            messages: messages.into_iter().map(message).collect::<Result<_, _>>()?,
        })
    }

    /// What the model says of sampling, over what is below it.
    pub fn sampling(&self, below: Sampling) -> Sampling {
        self.options.wish.over(below)
    }

    /// Threads that the model wants.
    pub fn threads(&self) -> Option<usize> {
        self.options.threads
    }

    /// What the model says of sampling, and below it what its makers do.
    pub fn suggested(&self, below: SamplingPatch) -> SamplingPatch {
        self.options.wish.clone().or(below)
    }

    /// Fills in what a request does not say, but for sampling.
    pub fn fill(&self, request: &mut Request) {
        if request.stop.is_empty() {
            request.stop.clone_from(&self.options.stop);
        }
        let limits = &mut request.limits;
        limits.context = limits.context.or(self.options.context);
        limits.max_tokens = limits.max_tokens.or(self.options.max_tokens);
        let said_before = !self.messages.is_empty();
        if let Input::Prompt(prompt) = &mut request.input {
            let is_bare = !prompt.raw && prompt.context.is_empty() && prompt.suffix.is_none();
            if is_bare && said_before {
                request.input = Input::Messages(conversation(std::mem::take(prompt)));
            }
        }
        match &mut request.input {
            Input::Prompt(prompt) if !prompt.raw && prompt.suffix.is_none() => {
                prompt.system = prompt.system.take().or_else(|| self.system.clone());
            }
            Input::Messages(chat) => {
                let has_system =
                    |all: &[Message]| all.first().is_some_and(|m| m.role == Role::System);
                let asked = std::mem::take(&mut chat.messages);
                let own = !has_system(&asked) && !has_system(&self.messages);
                let system = self.system.as_deref().filter(|_| own).map(Message::system);
                chat.messages = system.into_iter().chain(self.messages.iter().cloned()).collect();
                chat.messages.extend(asked);
            }
            _ => {}
        }
    }
}

/// A prompt as the conversation that it stands for.
fn conversation(prompt: Prompt) -> Chat {
    let system = prompt.system.as_deref().map(Message::system);
    let user = Message::user(prompt.text.as_str());
    Chat {
        messages: system.into_iter().chain([user]).collect(),
        think: prompt.think,
        template: prompt.template,
        ..Chat::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Call;
    use serde_json::json;

    fn preset(messages: &[(&str, &str)]) -> Preset {
        let params =
            json!({"temperature": 0.25, "num_ctx": 99, "num_predict": 7, "stop": ["</s>"]});
        let messages = messages.iter().map(|(r, c)| (r.to_string(), c.to_string()));
        Preset::new(params.as_object().unwrap(), Some("Be kind.".into()), messages).unwrap()
    }

    fn chat(body: Value) -> Call {
        match super::super::chat(body.to_string().as_bytes()).unwrap() {
            super::super::Generate::Call(call) => call,
            _ => panic!("a call"),
        }
    }

    fn generate(body: Value) -> Call {
        match super::super::generate(body.to_string().as_bytes()).unwrap() {
            super::super::Generate::Call(call) => call,
            _ => panic!("a call"),
        }
    }

    fn said(call: &Call) -> Vec<String> {
        let Input::Messages(chat) = &call.request.input else { panic!("messages") };
        chat.messages.iter().map(|m| format!("{}: {}", m.role.as_str(), m.content.text())).collect()
    }

    #[test]
    fn what_a_request_does_not_say_the_model_does() {
        let ask = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
        let mut call = chat(ask.clone());
        let preset = preset(&[("user", "1"), ("assistant", "2")]);
        preset.fill(&mut call.request);
        assert_eq!(said(&call), ["system: Be kind.", "user: 1", "assistant: 2", "user: Hi"]);
        assert_eq!(call.request.stop, ["</s>"]);
        assert_eq!(call.request.limits.context, Some(99));
        assert_eq!(call.request.limits.max_tokens, Some(7));
        assert_eq!(preset.sampling(Sampling::default()).temperature, 0.25);
    }

    #[test]
    fn what_a_request_says_wins() {
        let mut call =
            chat(json!({"model": "m", "options": {"num_ctx": 8, "stop": ["x"]}, "messages": [
            {"role": "system", "content": "Be rude."}, {"role": "user", "content": "Hi"}]}));
        preset(&[]).fill(&mut call.request);
        assert_eq!(said(&call), ["system: Be rude.", "user: Hi"]);
        assert_eq!((call.request.limits.context, call.request.stop), (Some(8), vec!["x".into()]));
    }

    #[test]
    fn a_prompt_has_the_models_system_and_messages() {
        let mut call = generate(json!({"model": "m", "prompt": "Hi"}));
        preset(&[]).fill(&mut call.request);
        let Input::Prompt(prompt) = &call.request.input else { panic!("a prompt") };
        assert_eq!(prompt.system.as_deref(), Some("Be kind."));
        let mut call = generate(json!({"model": "m", "prompt": "Hi", "system": "S"}));
        preset(&[("user", "1"), ("assistant", "2")]).fill(&mut call.request);
        assert_eq!(said(&call), ["user: 1", "assistant: 2", "system: S", "user: Hi"]);
        let mut raw = generate(json!({"model": "m", "prompt": "Hi", "raw": true}));
        preset(&[("user", "1")]).fill(&mut raw.request);
        assert!(matches!(&raw.request.input, Input::Prompt(p) if p.system.is_none()));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let params = json!({"temperature": "hot"});
        assert!(Preset::new(params.as_object().unwrap(), None, []).is_err());
        assert!(Preset::new(&Map::new(), None, [("robot".into(), String::new())]).is_err());
    }
}
