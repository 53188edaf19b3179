//! The families that can be converted. Each is a table of names, its metadata, and what is done to the tensors
//! whose layout differs in GGUF.

mod bert;
mod dense;
mod experts;
mod hybrid;
mod shared;

use super::config::Config;
use super::keys::Keys;
use super::out::Out;
use crate::error::{Error, Result};

/// How one family is converted.
pub(super) struct Family {
    /// `general.architecture`.
    pub(super) architecture: &'static str,
    /// Names of tensors that differ from the common table.
    pub(super) names: &'static [(&'static str, &'static str)],
    /// Writes the hyper-parameters.
    pub(super) keys: fn(&mut Keys<'_>) -> Result<()>,
    /// Changes one tensor; may give several, or none.
    pub(super) shape: fn(&Config, Out) -> Result<Vec<Out>>,
    /// Tensors that no file holds.
    pub(super) extra: fn(&Config) -> Result<Vec<Out>>,
}

/// A family whose tensors are taken as they are.
const PLAIN: Family = Family {
    architecture: "",
    names: &[],
    keys: |k| k.transformer(),
    shape: |_, out| Ok(vec![out]),
    extra: |_| Ok(Vec::new()),
};

/// Class names of models, and how they are converted.
const ALL: &[(&str, &Family)] = &[
    ("BertModel", &bert::BERT),
    ("BertForMaskedLM", &bert::BERT),
    ("BertForSequenceClassification", &bert::BERT),
    ("RobertaModel", &bert::ROBERTA),
    ("XLMRobertaModel", &bert::ROBERTA),
    ("XLMRobertaForSequenceClassification", &bert::ROBERTA),
    ("RobertaForSequenceClassification", &bert::ROBERTA),
    ("DeepseekV2ForCausalLM", &experts::DEEPSEEK2),
    ("DeepseekV3ForCausalLM", &experts::DEEPSEEK2),
    ("FalconH1ForCausalLM", &hybrid::FALCON_H1),
    ("Gemma2ForCausalLM", &dense::GEMMA2),
    ("Gemma3ForCausalLM", &dense::GEMMA3),
    ("Gemma3ForConditionalGeneration", &dense::GEMMA3),
    ("GemmaForCausalLM", &dense::GEMMA),
    ("Glm4ForCausalLM", &dense::GLM4),
    ("Glm4MoeLiteForCausalLM", &experts::DEEPSEEK2),
    ("GptOssForCausalLM", &experts::GPT_OSS),
    ("GraniteForCausalLM", &dense::GRANITE),
    ("GraniteMoeForCausalLM", &experts::GRANITE_MOE),
    ("GraniteMoeSharedForCausalLM", &experts::GRANITE_MOE),
    ("Lfm2ForCausalLM", &hybrid::LFM2),
    ("Lfm2MoeForCausalLM", &hybrid::LFM2_MOE),
    ("LlamaForCausalLM", &dense::LLAMA),
    ("MistralForCausalLM", &dense::LLAMA),
    ("MixtralForCausalLM", &dense::LLAMA),
    ("Mistral3ForConditionalGeneration", &dense::MISTRAL3),
    ("Ministral3ForCausalLM", &dense::MISTRAL3),
    ("MambaForCausalLM", &hybrid::MAMBA),
    ("FalconMambaForCausalLM", &hybrid::MAMBA),
    ("Mamba2ForCausalLM", &hybrid::MAMBA2),
    ("NemotronHForCausalLM", &hybrid::NEMOTRON_H),
    ("Olmo2ForCausalLM", &dense::OLMO2),
    ("Olmo3ForCausalLM", &dense::OLMO2),
    ("Phi3ForCausalLM", &dense::PHI3),
    ("Qwen2ForCausalLM", &dense::QWEN2),
    ("Qwen2MoeForCausalLM", &experts::QWEN2_MOE),
    ("Qwen3ForCausalLM", &dense::QWEN3),
    ("Qwen3ForSequenceClassification", &dense::QWEN3),
    ("Qwen3MoeForCausalLM", &experts::QWEN3_MOE),
    ("Qwen3_5ForCausalLM", &hybrid::QWEN35),
    ("Qwen3_5ForConditionalGeneration", &hybrid::QWEN35),
    ("Qwen3_5MoeForCausalLM", &hybrid::QWEN35_MOE),
    ("Qwen3_5MoeForConditionalGeneration", &hybrid::QWEN35_MOE),
];

/// How the model of this configuration is converted.
pub(super) fn find(config: &Config) -> Result<&'static Family> {
    let name = config.architecture()?;
    let has_experts = config.maybe_u32(&["num_experts_per_tok"])?.is_some_and(|n| n > 0);
    match name {
        "NemotronHForCausalLM" if has_experts => return Ok(&hybrid::NEMOTRON_H_MOE),
        "GraniteMoeHybridForCausalLM" => return granite_hybrid(config, has_experts),
        _ => {}
    }
    let found = ALL.iter().find(|(class, _)| *class == name).map(|(_, family)| *family);
    found.ok_or_else(|| unsupported(name))
}

/// Granite 4 without state spaces is plain Granite; with them no engine here runs it.
fn granite_hybrid(config: &Config, has_experts: bool) -> Result<&'static Family> {
    let types = config.layer_types("layer_types").unwrap_or_default();
    if types.is_empty() || types.iter().any(|t| *t != "attention") {
        return Err(unsupported("GraniteMoeHybridForCausalLM with Mamba layers"));
    }
    Ok(if has_experts { &experts::GRANITE_MOE } else { &dense::GRANITE })
}

fn unsupported(name: &str) -> Error {
    Error::Architecture { name: name.to_owned(), supported: classes() }
}

/// Class names (`architectures` in `config.json`) of the models that can be converted, sorted.
pub(super) fn classes() -> Vec<&'static str> {
    let mut names: Vec<&str> = ALL.iter().map(|(class, _)| *class).collect();
    names.sort_unstable();
    names
}
