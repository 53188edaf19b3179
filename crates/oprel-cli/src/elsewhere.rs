//! Models that other servers have, from the command line and the environment.

use std::sync::Arc;

use oprel::OprelError;
use oprel_api::Failure;
use oprel_backend::Backend;
use oprel_remote::{Patience, Place, Remote};
use oprel_server::Elsewhere;

/// The models of `--remote`.
pub(crate) fn models(places: &[String]) -> Result<Vec<Elsewhere>, OprelError> {
    let mut models: Vec<Elsewhere> = Vec::new();
    for text in places {
        let place = Place::parse(text).map_err(refused)?;
        let name = place.name.clone();
        if models.iter().any(|known| known.name.key() == name.key()) {
            let message = format!("--remote names '{name}' twice; list its servers with commas");
            return Err(OprelError::validation(message));
        }
        let read = |name: &String| std::env::var(name).ok().filter(|key| !key.is_empty());
        let key = place.key_variables().iter().find_map(read);
        let start = move || -> Result<Arc<dyn Backend>, Failure> {
            Ok(Arc::new(Remote::start(&place, key.as_deref(), Patience::default(), None)?))
        };
        models.push(Elsewhere { name, start: Arc::new(start) });
    }
    Ok(models)
}

fn refused(failure: Failure) -> OprelError {
    OprelError::validation(format!("--remote: {failure}"))
}
