//! What servers say of their model before the first request.

use std::time::Duration;

use oprel_api::{ErrorKind, Failure};
use oprel_backend::{Capability, Description};
use serde_json::Value;

use crate::far::Far;
use crate::fleet::Fleet;
use crate::wire::{Model, Models};

/// How long a server may take to say it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most names that a message lists.
const MOST_NAMES: usize = 8;

/// What is known of a model elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// What it is called there.
    pub(crate) model: String,
    pub(crate) description: Description,
}

/// Asks all servers for the model, and takes what the first that answers says.
///
/// # Errors
/// If none answers, or has it.
pub(crate) async fn probe(fleet: &Fleet, model: Option<&str>) -> Result<Known, Failure> {
    let mut last = None;
    for server in fleet.servers() {
        match tokio::time::timeout(PATIENCE, one(&server.far, model)).await {
            Ok(Ok(known)) => return Ok(known),
            Ok(Err(failure)) => last = Some(failure),
            Err(_) => {
                let message = format!("{}: it does not say what it has", server.far.name());
                last = Some(Failure::new(ErrorKind::Backend, message));
            }
        }
    }
    Err(last.unwrap_or_else(|| Failure::new(ErrorKind::Backend, "there is no server")))
}

async fn one(far: &Far, model: Option<&str>) -> Result<Known, Failure> {
    let models: Models =
        far.ask("/v1/models", None, None).await.map_err(|refusal| refusal.failure)?;
    let found = choose(models, model).map_err(|what| {
        let message = format!("{}: {what}", far.name());
        Failure::new(ErrorKind::ModelNotFound, message)
    })?;
    let props = match found.meta {
        // A server of llama.cpp: what one conversation may hold is told elsewhere.
        Some(_) => far.ask::<Value>("/props", None, None).await.unwrap_or_default(),
        None => Value::Null,
    };
    Ok(Known { model: found.id.clone(), description: described(&found, &props) })
}

/// The model of that name, or the only one.
fn choose(models: Models, wanted: Option<&str>) -> Result<Model, String> {
    let names = || {
        let names: Vec<&str> = models.data.iter().take(MOST_NAMES).map(|m| m.id.as_str()).collect();
        names.join(", ")
    };
    let place = match wanted {
        Some(wanted) => {
            let at = models.data.iter().position(|m| m.id == wanted);
            at.ok_or_else(|| format!("it has no model '{wanted}', but {}", names()))?
        }
        None if models.data.is_empty() => return Err("it has no model".into()),
        None if models.data.len() > 1 => {
            return Err(format!("it has several models; say which with '#': {}", names()));
        }
        None => 0,
    };
    Ok(models.data.into_iter().nth(place).unwrap_or_default())
}

fn described(model: &Model, props: &Value) -> Description {
    let meta = model.meta.as_ref();
    let slot = props["default_generation_settings"]["n_ctx"].as_u64();
    let slot = slot.and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
    let told = model.max_model_len.or(slot).or(meta.and_then(|m| m.n_ctx)).filter(|&n| n > 0);
    Description {
        // What it cannot do, it says when it is asked.
        capabilities: vec![Capability::Completion, Capability::Tools, Capability::Thinking],
        context: told.unwrap_or(u32::MAX),
        trained_context: meta.and_then(|m| m.n_ctx_train).unwrap_or_default(),
        width: meta.and_then(|m| m.n_embd).unwrap_or_default(),
        n_vocab: meta.and_then(|m| m.n_vocab).unwrap_or_default(),
        ..Description::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn models(json: Value) -> Models {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_model_is_the_one_that_is_named_or_the_only_one() {
        let one = || models(json!({"data": [{"id": "a", "max_model_len": 512}]}));
        let two = || models(json!({"data": [{"id": "a"}, {"id": "b"}]}));
        assert_eq!(choose(one(), None).unwrap().id, "a");
        assert_eq!(choose(two(), Some("b")).unwrap().id, "b");
        assert!(choose(two(), None).unwrap_err().contains("say which with '#': a, b"));
        assert!(choose(two(), Some("c")).unwrap_err().contains("no model 'c', but a, b"));
        assert!(choose(Models::default(), None).unwrap_err().contains("no model"));
    }

    #[test]
    fn the_context_is_what_one_conversation_may_hold() {
        let model = |json| choose(models(json!({"data": [json]})), None).unwrap();
        let vllm = model(json!({"id": "a", "max_model_len": 512}));
        assert_eq!(described(&vllm, &Value::Null).context, 512);
        let llama =
            model(json!({"id": "a", "meta": {"n_ctx": 8192, "n_vocab": 321, "n_embd": 64}}));
        let props = json!({"default_generation_settings": {"n_ctx": 2048}});
        let described_llama = described(&llama, &props);
        assert_eq!((described_llama.context, described_llama.n_vocab), (2048, 321));
        assert_eq!(described(&llama, &Value::Null).context, 8192);
        assert_eq!(described(&model(json!({"id": "a"})), &Value::Null).context, u32::MAX);
    }
}
