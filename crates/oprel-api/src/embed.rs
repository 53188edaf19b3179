//! Texts to vectors.

use crate::{Error, Result, Trace, Usage};
use serde::{Deserialize, Serialize};

/// Texts to be embedded, in one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedRequest {
    /// What to embed, each on its own.
    pub input: Vec<EmbedInput>,
    /// Cut an input that is longer than the context, instead of refusing it.
    pub truncate: bool,
    /// Keep only so many numbers of a vector; it is normalized again after.
    pub dimensions: Option<u32>,
    /// Scale vectors to length 1.
    pub normalize: bool,
    /// Most tokens of an input, those that begin and end every text included; `None` and what is more leave it to the
    /// model. Servers elsewhere have limits of their own.
    #[serde(default)]
    pub context: Option<u32>,
    /// What it is a step of.
    #[serde(skip)]
    pub trace: Option<Trace>,
}

/// One thing to embed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EmbedInput {
    /// A text, to which the model's BOS and EOS are added.
    Text(String),
    /// Tokens, taken as they are.
    Tokens(Vec<u32>),
}

/// Vectors in the order of the inputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Embeddings {
    /// One vector for each input.
    pub vectors: Vec<Vec<f32>>,
    /// What they took; nothing is generated.
    pub usage: Usage,
}

impl EmbedRequest {
    /// Normalized vectors of full length; inputs that are too long are cut.
    pub fn new(texts: impl IntoIterator<Item = impl Into<String>>) -> EmbedRequest {
        EmbedRequest {
            input: texts.into_iter().map(|text| EmbedInput::Text(text.into())).collect(),
            truncate: true,
            dimensions: None,
            normalize: true,
            context: None,
            trace: None,
        }
    }

    /// Checks what can be checked without a model.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for vectors of no dimension, [`Error::Empty`] for tokens that are none.
    pub fn validate(&self) -> Result<()> {
        if self.dimensions == Some(0) {
            return Err(Error::OutOfRange {
                field: "dimensions",
                expected: "1 or more",
                value: "0".into(),
            });
        }
        if self.input.iter().any(|i| matches!(i, EmbedInput::Tokens(t) if t.is_empty())) {
            return Err(Error::Empty { field: "input" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_embeds_but_no_tokens_and_no_dimensions_do_not() {
        let mut request = EmbedRequest::new([""]);
        assert_eq!(request.validate(), Ok(()));
        request.dimensions = Some(0);
        assert_eq!(request.validate().unwrap_err().field(), "dimensions");
        let tokens =
            EmbedRequest { input: vec![EmbedInput::Tokens(vec![])], ..EmbedRequest::new([""]) };
        assert_eq!(tokens.validate().unwrap_err().field(), "input");
    }
}
