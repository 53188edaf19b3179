//! What is known of a loaded model beside its weights: vocabulary, template, abilities.

use std::sync::Arc;

use oprel_api::{Sampling, SamplingPatch};
use oprel_chat::{Capabilities, ChatTemplate, SpecialTokens, Templates};
use oprel_gguf::{Gguf, Value};
use oprel_models::Model;
use oprel_nn::Pooling;
use oprel_tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::{Result, gap};

/// What a model can do, as clients of the field name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Continues text.
    Completion,
    /// Calls tools.
    Tools,
    /// Thinks before it answers.
    Thinking,
    /// Fills gaps.
    Insert,
    /// Makes vectors of texts.
    Embedding,
    /// Ranks documents by a query.
    Rerank,
}

impl Capability {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Capability::Completion => "completion",
            Capability::Tools => "tools",
            Capability::Thinking => "thinking",
            Capability::Insert => "insert",
            Capability::Embedding => "embedding",
            Capability::Rerank => "rerank",
        }
    }
}

type Compiled = Result<ChatTemplate, oprel_chat::Error>;

/// What a template can say that is none.
const NOTHING: Capabilities = Capabilities {
    system: false,
    tools: false,
    thinking: false,
    think_tags: None,
    tool_format: None,
};

/// What is known of a model beside its weights.
#[derive(Debug)]
pub struct Facts {
    /// The file.
    pub file: Gguf,
    /// Its vocabulary.
    pub tokenizer: Tokenizer,
    /// Whether it brings a chat template; ChatML stands in for conversations with those that do not.
    pub has_template: bool,
    /// The chat template that it was loaded with instead of the file's.
    pub template: Option<String>,
    /// What its chat template can say.
    pub can: Capabilities,
    /// One that cannot be compiled keeps no model from being used without it.
    plain: Compiled,
    /// For conversations with tools, where it is another one.
    with_tools: Option<Compiled>,
    /// Context length of training.
    pub context_length: u32,
    /// Elements of the residual stream.
    pub width: u32,
    /// Tokens that its logits cover.
    pub n_vocab: u32,
    /// How it makes vectors, if that is what it is for.
    pub pooling: Option<Pooling>,
    /// Whether it ranks documents: its vectors go through a classifier.
    pub ranks: bool,
    /// What takes the places of query and document, where the file says it.
    pub(crate) pair: Option<String>,
    /// How its makers suggest to choose tokens.
    pub suggested: SamplingPatch,
    /// Tokens that end a text.
    pub(crate) ends: Arc<[u32]>,
}

impl Facts {
    /// `template` stands for the file's own.
    pub(crate) fn of(file: Gguf, model: &Model, template: Option<&str>) -> Result<Facts> {
        let tokenizer = Tokenizer::from_metadata(file.metadata())?;
        let templates = templates(&file, template)?;
        let compile = |source: &str| ChatTemplate::compile(source, special_tokens(&tokenizer));
        let (chosen, for_tools) = (templates.choose(false), templates.choose(true));
        let plain = compile(chosen.source);
        let with_tools = (for_tools.source != chosen.source).then(|| compile(for_tools.source));
        let richest = with_tools.as_ref().unwrap_or(&plain);
        Ok(Facts {
            suggested: suggested(&file)?,
            ends: tokenizer.end_ids().into(),
            tokenizer,
            has_template: !chosen.stands_in,
            can: richest.as_ref().map_or(NOTHING, Capabilities::of),
            plain,
            with_tools,
            context_length: model.decoder.context_length,
            width: model.decoder.width,
            n_vocab: model.decoder.n_vocab,
            pooling: model.pooling,
            template: template.map(str::to_owned),
            ranks: model.decoder.classifier.is_some(),
            pair: file.metadata().str("tokenizer.chat_template.rerank")?.map(str::to_string),
            file,
        })
    }

    /// The template for a conversation with or without tools.
    pub(crate) fn template(&self, with_tools: bool) -> Result<&ChatTemplate> {
        let compiled = self.with_tools.as_ref().filter(|_| with_tools).unwrap_or(&self.plain);
        Ok(compiled.as_ref().map_err(Clone::clone)?)
    }

    /// Whether tokenizing puts this token behind a text.
    pub(crate) fn ends_texts(&self, token: u32) -> bool {
        [self.tokenizer.eos(), self.tokenizer.sep()].contains(&Some(token))
    }
}

/// What the model of a file can do, most general first, with this chat template or the file's own. What cannot be
/// read counts as absent.
pub fn capabilities(file: &Gguf, template: Option<&str>) -> Vec<Capability> {
    let metadata = file.metadata();
    let architecture = metadata.str("general.architecture").ok().flatten().unwrap_or_default();
    let pools = metadata.u32(&format!("{architecture}.pooling_type")).ok().flatten();
    // 0 is "none"; files of generators also say -1.
    let mut all = vec![match pools {
        Some(1..=3) => Capability::Embedding,
        Some(4) => Capability::Rerank,
        _ => Capability::Completion,
    }];
    let chosen = templates(file, template).ok().filter(|t| !t.choose(true).stands_in);
    let compiled =
        chosen.and_then(|t| ChatTemplate::compile(t.choose(true).source, Default::default()).ok());
    if let Some(can) = compiled.as_ref().map(Capabilities::of) {
        all.extend(can.tools.then_some(Capability::Tools));
        all.extend(can.thinking.then_some(Capability::Thinking));
    }
    let has_marks = || Tokenizer::from_metadata(metadata).is_ok_and(|t| gap::is_in(t.fim()));
    if compiled.is_some_and(|t| t.fills_gaps()) || has_marks() {
        all.push(Capability::Insert);
    }
    all
}

/// The chat templates of a file, or the one that stands for them.
pub(crate) fn templates(file: &Gguf, instead: Option<&str>) -> Result<Templates> {
    if let Some(instead) = instead {
        return Ok(Templates { default: Some(instead.to_owned()), named: Vec::new() });
    }
    const KEY: &str = "tokenizer.chat_template";
    let text = |value: &Value| match value {
        Value::Str(text) => Some(text.clone()),
        _ => None,
    };
    let named = file.metadata().iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(KEY)?.strip_prefix('.')?;
        Some((name.to_string(), text(value)?))
    });
    let default = file.metadata().str(KEY)?.map(str::to_string);
    Ok(Templates { named: named.collect(), default })
}

/// `general.sampling.*` of the file; what makes no sense is left out.
fn suggested(file: &Gguf) -> Result<SamplingPatch> {
    let number = |key: &str| file.metadata().f32(&format!("general.sampling.{key}"));
    let version = file.metadata().u32("general.sampling.mirostat")?;
    let patch = SamplingPatch {
        temperature: number("temp")?,
        top_p: number("top_p")?,
        min_p: number("min_p")?,
        repeat_penalty: number("penalty_repeat")?,
        top_k: file.metadata().u32("general.sampling.top_k")?,
        repeat_last_n: file.metadata().i32("general.sampling.penalty_last_n")?,
        xtc_probability: number("xtc_probability")?,
        xtc_threshold: number("xtc_threshold")?,
        mirostat: version.map(|v| u8::try_from(v).unwrap_or(u8::MAX)),
        mirostat_tau: number("mirostat_tau")?,
        mirostat_eta: number("mirostat_eta")?,
        ..SamplingPatch::default()
    };
    let sane = patch.over(Sampling::default()).validate().is_ok();
    Ok(if sane { patch } else { SamplingPatch::default() })
}

/// BOS and EOS that a vocabulary lacks are empty texts, as in llama.cpp: templates of GGUF files count
/// on them. Others are undefined.
pub(crate) fn special_tokens(tokenizer: &Tokenizer) -> SpecialTokens {
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.raw_piece(id)).map(str::to_string);
    SpecialTokens {
        bos: Some(text(tokenizer.bos()).unwrap_or_default()),
        eos: Some(text(tokenizer.eos()).unwrap_or_default()),
        unk: text(tokenizer.unknown()),
        pad: text(tokenizer.pad()),
    }
}

#[cfg(test)]
mod tests {
    use oprel_api::{Message, Request};
    use oprel_chat::LocalTime;

    use super::*;
    use crate::{Error, ModelSource, prompt};

    #[test]
    fn a_model_with_a_broken_template_still_continues_raw_text() {
        let (mut facts, _) = crate::load::describe(&ModelSource::Demo, None).unwrap();
        facts.plain = ChatTemplate::compile("{% if %}", SpecialTokens::default());
        facts.with_tools = None;
        let made = |request: &Request| {
            prompt::check(&facts, request)?;
            prompt::tokens(&facts, request, u32::MAX, LocalTime::utc(0))
        };
        assert!(!made(&Request::raw("hi")).unwrap().tokens.is_empty());
        for request in [Request::prompt("hi"), Request::chat(vec![Message::user("hi")])] {
            assert!(matches!(made(&request), Err(Error::Template(_))));
        }
    }

    #[test]
    fn the_demo_says_what_it_can() {
        let file = ModelSource::Demo.open().unwrap();
        let can = capabilities(&file, None);
        assert_eq!(can, [Capability::Completion, Capability::Tools, Capability::Thinking]);
    }
}
