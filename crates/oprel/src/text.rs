//! What can be asked of a file without loading its weights: tokens and prompts.

use std::path::PathBuf;

use oprel_backend::{ModelSource, RawChat};
use oprel_tokenizer::{TokenizeOptions, Tokenizer};

use crate::{OprelError, Result};

/// Token ids of a text in the vocabulary of a file, without loading its weights.
///
/// # Errors
/// If there is no such file, or its vocabulary cannot be used.
///
/// # Examples
/// ```
/// use oprel::{ModelSource, TokenizeOptions, tokenize};
///
/// let as_text = TokenizeOptions::default();
/// let as_token = TokenizeOptions { parse_special: true, ..as_text };
/// assert_eq!(tokenize(&ModelSource::Demo, "<|im_end|>", as_token)?.len(), 1);
/// assert!(tokenize(&ModelSource::Demo, "<|im_end|>", as_text)?.len() > 1);
/// # Ok::<(), oprel::OprelError>(())
/// ```
pub fn tokenize(source: &ModelSource, text: &str, options: TokenizeOptions) -> Result<Vec<u32>> {
    let file = source.open()?;
    let tokenizer =
        Tokenizer::from_metadata(file.metadata()).map_err(oprel_backend::Error::from)?;
    Ok(tokenizer.tokenize(text, options))
}

/// Where [`render`] takes its template from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// The chat template of a model, with its BOS and EOS.
    Model(ModelSource),
    /// A file with a Jinja template.
    File {
        /// The file.
        path: PathBuf,
        /// Text of BOS.
        bos: Option<String>,
        /// Text of EOS.
        eos: Option<String>,
    },
}

/// The prompt that a template makes of a conversation, without loading weights.
///
/// # Errors
/// If a file is missing, or the template is wrong or refuses the messages.
///
/// # Examples
/// ```
/// use oprel::{ModelSource, RawChat, Template, render};
///
/// let messages = vec![serde_json::json!({"role": "user", "content": "Hi"})];
/// let chat = RawChat { messages, add_generation_prompt: true, ..RawChat::default() };
/// let prompt = render(&Template::Model(ModelSource::Demo), &chat)?;
/// assert_eq!(prompt, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
/// # Ok::<(), oprel::OprelError>(())
/// ```
pub fn render(template: &Template, chat: &RawChat) -> Result<String> {
    let compiled = match template {
        Template::Model(source) => {
            oprel_backend::template_of(&source.open()?, chat.tools.is_some())?
        }
        Template::File { path, bos, eos } => {
            let text = std::fs::read_to_string(path).map_err(|e| OprelError::ModelNotFound {
                message: format!("cannot read the template '{}': {e}", path.display()),
                hint: None,
                source: None,
            })?;
            oprel_backend::compile_template(&text, bos.clone(), eos.clone())?
        }
    };
    Ok(oprel_backend::render_raw(&compiled, chat)?)
}
