//! Making a model of what a Modelfile names.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use oprel_api::ollama::ModelName;
use oprel_api::{ErrorKind, Failure};
use oprel_gguf::{FileType, Gguf};
use serde_json::Value;

use super::{Command, Modelfile, Piece, PieceAt, Recipe};
use crate::store::{Blob, StoredModel};
use crate::{Config, Digest, Error, Facts, Layer, LayerKind, Manifest, Result, Source, Store};

/// The version of Ollama from which it reads split GGUF files.
const READS_PARTS: &str = "0.35.0";
/// What the model that comes with the program is called in a manifest.
const DEMO: &str = "demo";
/// File types of weights that nothing was lost of yet.
const WHOLE: [FileType; 3] = [FileType::F32, FileType::F16, FileType::BF16];

/// Who makes a model with this crate: is told what is done, and does what only floors above can.
pub trait Maker {
    /// Something was done.
    fn step(&mut self, step: Step);

    /// Whether a text is a chat template.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    fn check_template(&self, text: &str) -> Result<(), Failure>;

    /// What the model of a file can do with this chat template, else with its own: words of the field.
    fn capabilities(&self, file: &Gguf, template: Option<&str>) -> Vec<&'static str>;

    /// The file of the model that comes with the program.
    fn demo(&self) -> &'static [u8];

    /// Writes the model of a file to `path`, its weights stored as `to`.
    ///
    /// # Errors
    /// If that cannot be done. Nothing is left at `path` then.
    fn quantize(&mut self, file: &Gguf, to: FileType, path: &Path) -> Result<(), Failure>;
}

/// Something that was done. Written out, it is what clients of the field are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A GGUF file is being read.
    Parsing,
    /// A file is part of the model.
    Layer(Blob),
    /// All files are there, the manifest is written.
    Manifest,
    /// The model is there.
    Success,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Parsing => f.write_str("parsing GGUF"),
            Step::Layer(Blob { digest, new: true, .. }) => write!(f, "creating new layer {digest}"),
            Step::Layer(Blob { digest, .. }) => write!(f, "using existing layer {digest}"),
            Step::Manifest => f.write_str("writing manifest"),
            Step::Success => f.write_str("success"),
        }
    }
}

/// Makes a model in a store. Files are not copied where the disk can give them a further name.
///
/// # Errors
/// [`Error::NotFound`] if it is to begin with a model that is not there; what is wrong with a file or the template;
/// [`Error::Quantize`].
pub fn create(
    store: &Store,
    name: &ModelName,
    recipe: &Recipe,
    maker: &mut dyn Maker,
) -> Result<Manifest> {
    if let Some(template) = &recipe.template {
        maker.check_template(template).map_err(Error::Template)?;
    }
    let (layers, config) = (Vec::new(), Config::default());
    let mut making = Making { store, maker, quantize: recipe.quantize, layers, config };
    if let Some(model) = &recipe.model {
        making.begin_with(model)?;
    }
    making.add_files(&recipe.files, None)?;
    making.add_files(&recipe.adapters, Some(LayerKind::Adapter))?;
    making.add_files(&recipe.drafts, Some(LayerKind::Draft))?;
    if !making.layers.iter().any(|layer| layer.kind() == LayerKind::Model) {
        return Err(Error::Source {
            path: PathBuf::from(recipe.model.as_deref().unwrap_or_default()),
            why: "neither 'from' or 'files' was specified".into(),
        });
    }
    making.overlay(recipe)?;
    making.judge()?;
    making.finish(name, recipe)
}

/// A GGUF file of this machine with all its parts, and their names.
///
/// # Errors
/// If it cannot be read, or is of another format.
pub fn parts(path: &Path) -> Result<(Gguf, Vec<(PathBuf, String)>)> {
    let file = Gguf::open(path).map_err(|error| not_gguf(path, error))?;
    let parts = file.paths().map(|part| (part.to_owned(), file_name(part))).collect();
    Ok((file, parts))
}

/// A model that is coming into being.
struct Making<'a> {
    store: &'a Store,
    maker: &'a mut dyn Maker,
    quantize: Option<FileType>,
    layers: Vec<Layer>,
    config: Config,
}

impl Making<'_> {
    /// All files of a model that is there.
    fn begin_with(&mut self, text: &str) -> Result<()> {
        let catalog = crate::catalog::Catalog::built_in();
        let reference = crate::Reference::resolve(text, catalog, self.store)?;
        if reference.source == Source::Demo {
            return self.begin_with_demo();
        }
        let name = reference.name.ok_or_else(|| Error::Name { name: text.to_owned() })?;
        let model = self.store.model(&name)?;
        match &model.entry.manifest {
            Some(manifest) => {
                self.layers = manifest.layers().to_vec();
                self.config = model.config;
                self.quantize_inherited(&model.files)?;
            }
            None => {
                let files = model.files.iter().chain(&model.projectors).cloned();
                self.add_files(&files.map(piece).collect::<Vec<_>>(), None)?;
            }
        }
        Ok(())
    }

    /// The model that comes with the program, which gets a file of the store.
    fn begin_with_demo(&mut self) -> Result<()> {
        let (bytes, name) = (self.maker.demo(), DEMO);
        self.maker.step(Step::Parsing);
        let file = Gguf::from_static(bytes)?;
        if !self.add_quantized(&file, name)? {
            self.describe(LayerKind::Model, &Facts::of(&file), 1);
            let blob = self.store.put_blob(bytes, Some(Digest::of(bytes)))?;
            self.add_blob(LayerKind::Model, blob, name, false);
        }
        Ok(())
    }

    /// GGUF files, as what they are or as what they are to be.
    fn add_files(&mut self, pieces: &[Piece], as_kind: Option<LayerKind>) -> Result<()> {
        let mut done: Vec<PathBuf> = Vec::new();
        for piece in pieces {
            let path = self.path_of(piece)?;
            if done.contains(&path) {
                continue;
            }
            self.maker.step(Step::Parsing);
            let (file, parts) = self.open(piece, &path, pieces)?;
            done.extend(parts.iter().map(|(path, _)| path.clone()));
            let facts = Facts::of(&file);
            let kind = as_kind.unwrap_or(facts.kind);
            if (kind == LayerKind::Adapter) != (facts.kind == LayerKind::Adapter) {
                let why = match kind == LayerKind::Adapter {
                    true => "it is no adapter",
                    false => "it is an adapter: name it with ADAPTER, and its model with FROM",
                };
                return Err(Error::Source { path, why: why.into() });
            }
            let name = parts.first().map_or(piece.name.as_str(), |(_, name)| name);
            if kind == LayerKind::Model && self.add_quantized(&file, name)? {
                continue;
            }
            self.describe(kind, &facts, parts.len());
            drop(file);
            for (path, name) in &parts {
                self.add(kind, path, name, parts.len() > 1)?;
            }
        }
        Ok(())
    }

    /// A file with all its parts: those beside it on the disk, or those that the pieces name.
    fn open(
        &self,
        piece: &Piece,
        path: &Path,
        pieces: &[Piece],
    ) -> Result<(Gguf, Vec<(PathBuf, String)>)> {
        let PieceAt::Blob(_) = piece.at else { return parts(path) };
        let Some((prefix, _, count)) = crate::quant::part_of(&piece.name) else {
            let file = Gguf::open(path).map_err(|error| not_gguf(path, error))?;
            return Ok((file, vec![(path.to_owned(), piece.name.clone())]));
        };
        let mut parts = Vec::new();
        for other in pieces {
            if let Some((other_prefix, no, _)) = crate::quant::part_of(&other.name)
                && other_prefix == prefix
            {
                parts.push((no, self.path_of(other)?, other.name.clone()));
            }
        }
        parts.sort();
        if parts.len() != count as usize {
            let why = format!("{} of its {count} parts are there", parts.len());
            return Err(Error::Source { path: piece.name.clone().into(), why });
        }
        let parts: Vec<_> = parts.into_iter().map(|(_, path, name)| (path, name)).collect();
        let paths: Vec<_> = parts.iter().map(|(path, _)| path).collect();
        Ok((Gguf::open_parts(&paths).map_err(Error::NoModel)?, parts))
    }

    fn describe(&mut self, kind: LayerKind, facts: &Facts, n_parts: usize) {
        match kind {
            LayerKind::Model => facts.fill(&mut self.config),
            LayerKind::Draft => {
                let (model_format, architecture) = ("gguf".into(), facts.architecture.clone());
                self.config.draft = Some(crate::DraftConfig { model_format, architecture });
            }
            _ => {}
        }
        if n_parts > 1 && self.config.requires.is_empty() {
            self.config.requires = READS_PARTS.into();
        }
    }

    /// The weights of the model that this one begins with, if they are to be stored otherwise.
    fn quantize_inherited(&mut self, files: &[PathBuf]) -> Result<()> {
        if self.quantize.is_none() || files.is_empty() {
            return Ok(());
        }
        let file = Gguf::open_parts(files)?;
        let inherited = std::mem::take(&mut self.layers);
        let name = inherited.iter().find(|layer| layer.kind() == LayerKind::Model);
        let name = name.and_then(|layer| layer.from.clone()).unwrap_or_default();
        let replaced = self.add_quantized(&file, &name)?;
        let stays = |layer: &Layer| !(replaced && layer.kind() == LayerKind::Model);
        self.layers.extend(inherited.into_iter().filter(stays));
        Ok(())
    }

    /// Adds the model of a file with weights of the type that was asked for; `false` if the file has that type.
    fn add_quantized(&mut self, file: &Gguf, name: &str) -> Result<bool> {
        let from = file.file_type();
        let Some(to) = self.quantize.filter(|to| to.name() != from) else { return Ok(false) };
        if !WHOLE.iter().any(|whole| whole.name() == from) {
            let message = format!(
                "only models of F32, F16 or BF16 are quantized, and this one is {from}: {name}"
            );
            let failure = Failure::new(ErrorKind::Validation, message)
                .with_hint("begin with the model that it was quantized from");
            return Err(Error::Quantize(failure));
        }
        let maker = &mut *self.maker;
        let make = |path: &Path| maker.quantize(file, to, path).map_err(Error::Quantize);
        let blob = self.store.put_made(make)?;
        let made = Gguf::open(self.store.blob_path(&blob.digest))?;
        self.config.file_type.clear();
        self.describe(LayerKind::Model, &Facts::of(&made), 1);
        self.add_blob(LayerKind::Model, blob, name, false);
        Ok(true)
    }

    fn add(&mut self, kind: LayerKind, path: &Path, name: &str, is_part: bool) -> Result<()> {
        let blob = self.store.put_file(path)?;
        self.add_blob(kind, blob, name, is_part);
        Ok(())
    }

    fn add_blob(&mut self, kind: LayerKind, blob: Blob, name: &str, is_part: bool) {
        self.maker.step(Step::Layer(blob));
        let mut layer = Layer::new(kind, blob.digest, blob.size);
        layer.from = Some(name.to_owned());
        layer.name = is_part.then(|| name.to_owned());
        self.layers.push(layer);
    }

    fn path_of(&self, piece: &Piece) -> Result<PathBuf> {
        match &piece.at {
            PieceAt::Path(path) => Ok(path.clone()),
            PieceAt::Blob(digest) => {
                self.store.find_blob(digest)?.ok_or_else(|| missing(piece, digest))
            }
        }
    }

    /// What the recipe says in place of, or in addition to, what is there.
    fn overlay(&mut self, recipe: &Recipe) -> Result<()> {
        for (kind, text) in
            [(LayerKind::Template, &recipe.template), (LayerKind::System, &recipe.system)]
        {
            if let Some(text) = text {
                self.replace(kind, text.as_bytes())?;
            }
        }
        for license in &recipe.licenses {
            self.append(LayerKind::License, license.as_bytes())?;
        }
        if !recipe.params.is_empty() {
            let mut params: BTreeMap<String, Value> = BTreeMap::new();
            for layer in self.layers.iter().filter(|layer| layer.kind() == LayerKind::Params) {
                let more: BTreeMap<String, Value> =
                    self.store.json("the model that it begins with", "the parameters", layer)?;
                params.extend(more);
            }
            params.extend(recipe.params.clone());
            self.replace(LayerKind::Params, &json(&params))?;
        }
        if !recipe.messages.is_empty() {
            self.replace(LayerKind::Messages, &json(&recipe.messages))?;
        }
        Ok(())
    }

    fn replace(&mut self, kind: LayerKind, bytes: &[u8]) -> Result<()> {
        self.layers.retain(|layer| layer.kind() != kind);
        self.append(kind, bytes)
    }

    fn append(&mut self, kind: LayerKind, bytes: &[u8]) -> Result<()> {
        let blob = self.store.put_blob(bytes, Some(Digest::of(bytes)))?;
        self.maker.step(Step::Layer(blob));
        self.layers.push(Layer::new(kind, blob.digest, blob.size));
        Ok(())
    }

    /// Writes down what the model can do with the chat template that it has now.
    fn judge(&mut self) -> Result<()> {
        const NEW: &str = "the new model";
        let (mut files, mut template) = (Vec::new(), None);
        for layer in &self.layers {
            match layer.kind() {
                LayerKind::Model => files.push(self.store.blob_of(NEW, layer)?),
                LayerKind::Template => {
                    template = Some(self.store.text(NEW, "the template", layer)?);
                }
                _ => {}
            }
        }
        let mut words = self.maker.capabilities(&Gguf::open_parts(&files)?, template.as_deref());
        if self.layers.iter().any(|layer| layer.kind() == LayerKind::Projector) {
            words.push("vision");
        }
        self.config.capabilities = Some(words.into_iter().map(str::to_owned).collect());
        Ok(())
    }

    fn finish(mut self, name: &ModelName, recipe: &Recipe) -> Result<Manifest> {
        let said = [
            (&mut self.config.renderer, &recipe.renderer),
            (&mut self.config.parser, &recipe.parser),
            (&mut self.config.requires, &recipe.requires),
        ];
        for (slot, text) in said {
            if let Some(text) = text {
                slot.clone_from(text);
            }
        }
        self.config.finish(&self.layers);
        let bytes = self.config.to_bytes();
        let blob = self.store.put_blob(bytes.as_slice(), Some(Digest::of(&bytes)))?;
        let config = Layer::new(LayerKind::Config, blob.digest, blob.size);
        let manifest = Manifest::new(config, self.layers);
        self.maker.step(Step::Manifest);
        self.store.put_manifest(name, &manifest)?;
        self.maker.step(Step::Success);
        Ok(manifest)
    }
}

impl StoredModel {
    /// The same as text, with the line that builds on it.
    pub fn modelfile_text(&self) -> String {
        let name = &self.entry.name;
        let modelfile = self.modelfile();
        format!(
            "# Modelfile generated by \"oprel show\"\n\
             # To build a new Modelfile based on this, replace FROM with:\n\
             # FROM {name}\n\n{modelfile}"
        )
    }

    /// The Modelfile that would make it again.
    pub fn modelfile(&self) -> Modelfile {
        let path = |path: &PathBuf| path.display().to_string();
        let said = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let mut commands = Vec::new();
        commands.extend(self.files.iter().map(path).map(Command::From));
        commands.extend(self.adapters.iter().map(path).map(Command::Adapter));
        commands.extend(self.projectors.iter().map(path).map(Command::From));
        commands.extend(self.draft.iter().map(path).map(Command::Draft));
        commands.extend(self.template.clone().map(Command::Template));
        commands.extend(said(&self.config.renderer).map(Command::Renderer));
        commands.extend(said(&self.config.parser).map(Command::Parser));
        commands.extend(said(&self.config.requires).map(Command::Requires));
        commands.extend(self.system.clone().map(Command::System));
        for (name, value) in &self.params {
            let values = match value {
                Value::Array(values) => values.as_slice(),
                value => std::slice::from_ref(value),
            };
            commands.extend(values.iter().map(|value| Command::Parameter {
                name: name.clone(),
                value: value.as_str().map_or_else(|| value.to_string(), str::to_owned),
            }));
        }
        commands.extend(self.licenses.iter().cloned().map(Command::License));
        commands.extend(self.messages.iter().map(|message| Command::Message {
            role: message.role.clone(),
            content: message.content.clone(),
        }));
        Modelfile { commands }
    }
}

fn piece(path: PathBuf) -> Piece {
    Piece { name: file_name(&path), at: PieceAt::Path(path) }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn missing(piece: &Piece, digest: &Digest) -> Error {
    Error::Missing { name: piece.name.clone(), digest: *digest }
}

/// Files of other formats have a way to become GGUF.
fn not_gguf(path: &Path, error: oprel_gguf::Error) -> Error {
    let end = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    match matches!(end.as_str(), "safetensors" | "pth" | "json") {
        true => Error::Source {
            path: path.to_owned(),
            why: "only GGUF files become models; `oprel convert` makes one of safetensors".into(),
        },
        false => Error::NoModel(error),
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Strings, numbers and JSON alone: there is nothing that JSON cannot say.
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
