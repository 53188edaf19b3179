//! A smaller model that proposes tokens for another one: it must mean the same by each of them.

use oprel_engine::why_no_draft;
use oprel_models::Model;
use oprel_tokenizer::Tokenizer;

use crate::{Error, Facts, LoadOptions, ModelSource, Result};

/// The smaller model that a large one is loaded with.
#[derive(Default)]
pub(crate) struct Chosen {
    /// What it is.
    pub(crate) model: Option<Model>,
    /// Why the usual one is not it.
    pub(crate) missing: Option<String>,
}

/// The smaller model that options name, else the usual one, if that can propose tokens for the model of these facts.
///
/// # Errors
/// As [`describe`], for one that was named for this model.
pub(crate) fn choose(source: &ModelSource, options: &LoadOptions, large: &Facts) -> Result<Chosen> {
    if let Some(draft) = &options.draft {
        return Ok(Chosen { model: Some(describe(draft, large)?), missing: None });
    }
    // A model proposes nothing to itself.
    let usual = options.usual_draft.as_ref().filter(|usual| *usual != source);
    let Some(usual) = usual else { return Ok(Chosen::default()) };
    Ok(match describe(usual, large) {
        Err(error) => Chosen { model: None, missing: Some(error.to_string()) },
        Ok(model) => match why_no_draft(&model.decoder, large.n_vocab) {
            Some(why) => Chosen { model: None, missing: Some(why) },
            None => Chosen { model: Some(model), missing: None },
        },
    })
}

/// Describes a smaller model for the model of these facts.
///
/// # Errors
/// If there is no such file, it is damaged or not supported, or what differs in its vocabulary.
fn describe(source: &ModelSource, large: &Facts) -> Result<Model> {
    let file = source.open()?;
    let model = oprel_models::describe(&file)?;
    let tokenizer = Tokenizer::from_metadata(file.metadata())?;
    let differs = match large.pooling {
        Some(_) => Some("the model makes embeddings, for which nothing can be proposed".into()),
        None => difference(&tokenizer, &large.tokenizer),
    };
    let value = match source {
        ModelSource::File(path) => format!("'{}'", path.display()),
        ModelSource::Demo => "the demo model".into(),
    };
    match differs {
        Some(why) => Err(Error::Option { option: "draft", value, why }),
        None => Ok(model),
    }
}

/// What differs between two vocabularies: in numbers, in the texts of tokens, in those that begin and end
/// texts.
fn difference(small: &Tokenizer, large: &Tokenizer) -> Option<String> {
    let (n, of) = (small.n_tokens(), large.n_tokens());
    if n != of {
        return Some(format!("its vocabulary has {n} tokens, that of the model {of}"));
    }
    let ids = 0..n as u32;
    let other = ids.into_iter().find(|&id| small.raw_piece(id) != large.raw_piece(id));
    if let Some(id) = other {
        let text = |t: &Tokenizer| t.raw_piece(id).unwrap_or_default().to_string();
        let (its, that) = (text(small), text(large));
        return Some(format!("its token {id} is {its:?}, that of the model {that:?}"));
    }
    let specials = [("first", small.bos(), large.bos()), ("last", small.eos(), large.eos())];
    for (which, its, that) in specials {
        if its != that {
            let name = |id: Option<u32>| id.map_or("none".to_string(), |id| id.to_string());
            let (its, that) = (name(its), name(that));
            return Some(format!("its {which} token of a text is {its}, that of the model {that}"));
        }
    }
    let (its, that) = (small.end_ids(), large.end_ids());
    (its != that).then(|| {
        format!("the tokens that end its answers are {its:?}, those of the model {that:?}")
    })
}
