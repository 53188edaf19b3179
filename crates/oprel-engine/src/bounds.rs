//! What a sequence must keep to. Known to callers on other threads, who refuse at once what the engine
//! would refuse later.

use crate::sampler::Sampler;
use crate::{Ask, Error, Result};

/// What a sequence must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most tokens of a sequence.
    pub context: u32,
    /// Most tokens of a text that becomes a vector: those of one step.
    pub longest_embedded: u32,
    /// Tokens that the logits cover.
    pub n_vocab: u32,
    /// Whether the model generates; encoders only make vectors.
    pub generates: bool,
}

impl Bounds {
    /// Most tokens of this sequence.
    pub(crate) fn context_of(&self, ask: &Ask) -> u32 {
        ask.context.unwrap_or(u32::MAX).min(self.context)
    }

    /// Whether an engine of these bounds takes this sequence.
    ///
    /// # Errors
    /// If the prompt is empty, too long, or names tokens that are none; if the model does not
    /// generate; if a number of the sampling is out of range.
    pub fn check(&self, ask: &Ask) -> Result<()> {
        if !self.generates {
            return Err(Error::OnlyEmbeds);
        }
        self.check_tokens(&ask.tokens)?;
        self.known(ask.stop_tokens.iter().copied())?;
        self.known(ask.sampling.logit_bias.iter().map(|b| b.token))?;
        let context = self.context_of(ask);
        if ask.tokens.len() >= context as usize {
            return Err(Error::PromptTooLong { tokens: ask.tokens.len(), context });
        }
        Sampler::check(&ask.sampling)
    }

    /// Whether these are tokens of the model, and any at all.
    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        self.known(tokens.iter().copied())
    }

    fn known(&self, mut tokens: impl Iterator<Item = u32>) -> Result<()> {
        let n_vocab = self.n_vocab;
        match tokens.find(|&t| t >= n_vocab) {
            Some(token) => Err(Error::Token { token, n_vocab }),
            None => Ok(()),
        }
    }
}
