//! Making a model of a store: files by `oprel-hub`, weights by `oprel-tools`, and what it can do by `oprel-backend`.

use std::ops::ControlFlow;
use std::path::Path;

use oprel_api::ollama::{ModelName, ModelRef};
use oprel_api::{ErrorKind, Failure};
use oprel_gguf::{FileType, Gguf};
use oprel_hub::modelfile::{self, Maker, Recipe, Step};
use oprel_hub::{Manifest, Store};
use oprel_tools::quantize::{Mix, QuantizeOptions, quantize_model};

/// Something that is done while a model is made. Written out, it is what clients of the field are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Making {
    /// Something was done.
    Step(Step),
    /// Weights are being stored as another type.
    Quantizing {
        /// The file type that they have.
        from: &'static str,
        /// The file type that they get.
        to: &'static str,
        /// Bytes of the input that are done.
        done_bytes: u64,
        /// Bytes of the input.
        total_bytes: u64,
    },
}

impl std::fmt::Display for Making {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Making::Step(step) => step.fmt(f),
            Making::Quantizing { from, to, .. } => write!(f, "quantizing {from} model to {to}"),
        }
    }
}

/// Makes a model in a store. `on` is told what is done, and may stop it while weights are converted.
///
/// # Errors
/// As [`modelfile::create`]. Nothing is left of what was begun.
pub fn create(
    store: &Store,
    name: &ModelName,
    recipe: &Recipe,
    on: &mut dyn FnMut(&Making) -> ControlFlow<()>,
) -> oprel_hub::Result<Manifest> {
    modelfile::create(store, name, recipe, &mut Here(on))
}

/// Gives a model a further name in a store. What comes with the program becomes a model of the store.
///
/// # Errors
/// As [`create`] and [`Store::copy`]; a path is no model of a store.
pub fn copy(store: &Store, from: &ModelRef, to: &ModelName) -> oprel_hub::Result<()> {
    match from {
        ModelRef::Name(from) => store.copy(from, to),
        ModelRef::Demo => {
            let recipe = Recipe { model: Some(from.key()), ..Recipe::default() };
            create(store, to, &recipe, &mut |_| ControlFlow::Continue(())).map(|_| ())
        }
        ModelRef::Path(path) => Err(oprel_hub::Error::Name { name: path.clone() }),
    }
}

/// The file type of a name, for [`Recipe::quantize`].
///
/// # Errors
/// If there is none.
pub fn file_type(name: &str) -> Result<FileType, Failure> {
    Ok(oprel_tools::quantize::file_type(name)?)
}

/// Does what a model takes in this process.
struct Here<'a>(&'a mut dyn FnMut(&Making) -> ControlFlow<()>);

impl Maker for Here<'_> {
    fn step(&mut self, step: Step) {
        // Between its steps it is not stopped: each of them is short.
        let _ = (self.0)(&Making::Step(step));
    }

    fn check_template(&self, text: &str) -> Result<(), Failure> {
        match oprel_backend::compile_template(text, None, None) {
            Ok(_) => Ok(()),
            Err(error) => {
                let why = std::error::Error::source(&error)
                    .map_or(error.to_string(), |why| why.to_string());
                Err(Failure::new(ErrorKind::Validation, format!("template error: {why}"))
                    .with_hint("correct the template: it is in Go's language, or in Jinja's"))
            }
        }
    }

    fn capabilities(&self, file: &Gguf, template: Option<&str>) -> Vec<&'static str> {
        let all = oprel_backend::capabilities(file, template);
        all.into_iter().map(oprel_backend::Capability::as_str).collect()
    }

    fn demo(&self) -> &'static [u8] {
        oprel_models::demo_file()
    }

    fn quantize(&mut self, file: &Gguf, to: FileType, path: &Path) -> Result<(), Failure> {
        let (from, mut all) = (file.file_type(), 0);
        let mut tell = |done_bytes, total_bytes| {
            (self.0)(&Making::Quantizing { from, to: to.name(), done_bytes, total_bytes })
        };
        let options = QuantizeOptions::default();
        quantize_model(file, path, Mix::Named(to), &options, &mut |progress| {
            all = progress.total_bytes;
            tell(progress.done_bytes, all)
        })?;
        // It is done, and too late to stop it.
        let _ = tell(all, all);
        Ok(())
    }
}
