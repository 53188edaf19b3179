//! Hyper-parameters: from the names of `config.json` to the metadata of GGUF.

use oprel_gguf::{Array, Value};

use super::config::Config;
use crate::error::{Error, Result};

/// Metadata in the making. A later value takes the place of an earlier one.
pub(super) struct Keys<'a> {
    pub(super) config: &'a Config,
    architecture: &'static str,
    entries: Vec<(String, Value)>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(config: &'a Config, architecture: &'static str) -> Keys<'a> {
        Keys { config, architecture, entries: Vec::new() }
    }

    pub(super) fn into_entries(self) -> Vec<(String, Value)> {
        self.entries
    }

    /// Sets `architecture.key`.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        let (key, value) = (format!("{}.{key}", self.architecture), value.into());
        match self.entries.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key, value)),
        }
    }

    /// Sets a count that `config.json` must have.
    pub(super) fn count(&mut self, key: &str, of: &[&str]) -> Result<()> {
        let n = self.config.u32(of)?;
        self.set(key, n);
        Ok(())
    }

    /// Sets a count where `config.json` has it.
    pub(super) fn maybe_count(&mut self, key: &str, of: &[&str]) -> Result<()> {
        if let Some(n) = self.config.maybe_u32(of)? {
            self.set(key, n);
        }
        Ok(())
    }

    /// Sets a number that `config.json` must have.
    pub(super) fn number(&mut self, key: &str, of: &[&str]) -> Result<()> {
        let x = self.config.f64(of)? as f32;
        self.set(key, x);
        Ok(())
    }

    /// Sets a number where `config.json` has it.
    pub(super) fn maybe_number(&mut self, key: &str, of: &[&str]) -> Result<()> {
        if let Some(x) = self.config.maybe_f64(of)? {
            self.set(key, x as f32);
        }
        Ok(())
    }

    /// Sets a count a layer.
    pub(super) fn by_layer(&mut self, key: &str, counts: Vec<u32>) {
        let counts: Vec<i32> = counts.into_iter().map(|n| i32::try_from(n).unwrap_or(0)).collect();
        self.set(key, Array::I32(counts));
    }

    /// Sizes of layers and residual, where the model has them.
    pub(super) fn sizes(&mut self) -> Result<()> {
        let n_layers = self.config.n_layers()?;
        self.set("block_count", n_layers);
        self.maybe_count(
            "context_length",
            &["max_position_embeddings", "n_ctx", "n_positions", "max_sequence_length"],
        )?;
        let width = self.config.width()?;
        self.set("embedding_length", width);
        self.maybe_count("feed_forward_length", &["intermediate_size", "n_inner"])?;
        self.maybe_count("vocab_size", &["vocab_size"])?;
        self.maybe_number("attention.layer_norm_rms_epsilon", &["rms_norm_eps", "norm_eps"])?;
        self.maybe_number(
            "attention.layer_norm_epsilon",
            &["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"],
        )
    }

    /// Query, key and value heads.
    pub(super) fn heads(&mut self) -> Result<()> {
        let (heads, kv_heads) = (self.config.n_heads()?, self.config.n_kv_heads()?);
        self.set("attention.head_count", heads);
        self.set("attention.head_count_kv", kv_heads);
        if self.config.maybe_u32(&["head_dim"])?.is_some() {
            let dim = self.config.head_dim()?;
            self.set("attention.key_length", dim);
            self.set("attention.value_length", dim);
        }
        Ok(())
    }

    /// What a decoder with attention in all layers has.
    pub(super) fn transformer(&mut self) -> Result<()> {
        self.sizes()?;
        self.heads()?;
        self.rope()?;
        self.experts()
    }

    /// Base and stretching of the rope.
    pub(super) fn rope(&mut self) -> Result<()> {
        let rope = self.config.rope();
        let theta = match rope.maybe_f64(&["rope_theta"])? {
            Some(theta) => Some(theta),
            None => {
                self.config.maybe_f64(&["rope_theta", "rotary_emb_base", "global_rope_theta"])?
            }
        };
        if let Some(theta) = theta {
            self.set("rope.freq_base", theta as f32);
        }
        if let Some(theta) = self.config.window_theta()? {
            self.set("rope.freq_base_swa", theta as f32);
        }
        self.stretching(&rope)?;
        if let Ok(mut pairs) = rope.numbers("mrope_section", 3) {
            pairs.resize(4, 0.0);
            self.by_layer("rope.dimension_sections", pairs.into_iter().map(|n| n as u32).collect());
        }
        Ok(())
    }

    fn stretching(&mut self, rope: &Config) -> Result<()> {
        let kind = rope.str("rope_type").or_else(|| rope.str("type")).unwrap_or("default");
        let factor = rope.maybe_f64(&["factor"])?;
        match (kind, factor) {
            ("linear", Some(factor)) => {
                self.set("rope.scaling.type", "linear");
                self.set("rope.scaling.factor", factor as f32);
            }
            ("yarn", Some(factor)) => {
                self.set("rope.scaling.type", "yarn");
                self.set("rope.scaling.factor", factor as f32);
                self.yarn(rope)?;
            }
            ("su" | "longrope", _) => self.set("rope.scaling.type", "longrope"),
            // The factors of llama3 become a tensor.
            ("default" | "llama3" | "mrope" | "linear" | "yarn" | "dynamic", _) => {}
            (other, _) => {
                let problem = format!("is '{other}', a rope that GGUF files cannot describe");
                return Err(Error::config("rope_type", problem));
            }
        }
        Ok(())
    }

    fn yarn(&mut self, rope: &Config) -> Result<()> {
        let original = rope.maybe_u32(&["original_max_position_embeddings"])?;
        let original =
            original.map_or_else(|| self.config.u32(&["max_position_embeddings"]), Ok)?;
        self.set("rope.scaling.original_context_length", original);
        for (key, of) in [
            ("yarn_ext_factor", ["extrapolation_factor", "extrapolation_factor"]),
            ("yarn_attn_factor", ["attention_factor", "attn_factor"]),
            ("yarn_beta_fast", ["beta_fast", "beta_fast"]),
            ("yarn_beta_slow", ["beta_slow", "beta_slow"]),
        ] {
            if let Some(x) = rope.maybe_f64(&of)? {
                self.set(&format!("rope.scaling.{key}"), x as f32);
            }
        }
        Ok(())
    }

    /// How many experts there are and how they are chosen.
    pub(super) fn experts(&mut self) -> Result<()> {
        if let Some(n) = self.config.maybe_u32(&["num_local_experts", "num_experts"])? {
            self.set("expert_count", n);
        }
        let used = ["num_experts_per_tok", "num_experts_per_token", "experts_per_token"];
        self.maybe_count("expert_used_count", &used)?;
        self.maybe_count("expert_group_count", &["n_group"])?;
        self.maybe_count("expert_group_used_count", &["topk_group"])?;
        let gating = ["score_function", "scoring_func", "score_func", "moe_router_activation"];
        match gating.iter().find_map(|key| self.config.str(key)) {
            Some("sigmoid") => self.set("expert_gating_func", 2u32),
            Some("softmax") => self.set("expert_gating_func", 1u32),
            Some(other) => {
                let problem = format!("is '{other}', which GGUF files cannot describe");
                return Err(Error::config("scoring_func", problem));
            }
            None => {}
        }
        Ok(())
    }

    /// The window of some layers, and which those are.
    pub(super) fn windows(&mut self, every: Option<u32>) -> Result<()> {
        let Some(len) = self.config.maybe_u32(&["sliding_window"])? else { return Ok(()) };
        self.set("attention.sliding_window", len);
        let by_layer: Vec<bool> = match (self.config.layer_types("layer_types"), every) {
            (Some(types), _) => types.iter().map(|t| *t == "sliding_attention").collect(),
            (None, Some(every)) => {
                (1..=self.config.n_layers()?).map(|i| i % every.max(1) != 0).collect()
            }
            (None, None) => return Ok(()),
        };
        self.set("attention.sliding_window_pattern", Array::Bool(by_layer));
        Ok(())
    }
}
