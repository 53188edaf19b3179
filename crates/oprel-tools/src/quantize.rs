//! Quantizing a model: a GGUF file in, a GGUF file out, tensor by tensor.
//!
//! Which type a tensor gets follows from the mix ([`FileType`]) as in llama.cpp, or from measured errors and a
//! size ([`Mix::Size`]). Memory is bounded by the piece of a tensor that is being converted; the output has its
//! name once all of it is on disk.

mod choose;
mod measure;
mod part;
mod rows;
mod rules;
mod size;

use std::cell::RefCell;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use oprel_gguf::{Gguf, QuantType, TensorInfo, Value, Writer};

use crate::error::{Error, Result};
use crate::imatrix::Imatrix;
use crate::output::{check_space, refuse_same};
pub use oprel_gguf::FileType;
use rows::Converter;

/// How to quantize.
#[derive(Clone, Debug, Default)]
pub struct QuantizeOptions {
    /// How much columns matter.
    pub imatrix: Option<Imatrix>,
    /// The file of the importance matrix, for the metadata.
    pub imatrix_path: Option<PathBuf>,
    /// Weights that are quantized already may be quantized again.
    pub allow_requantize: bool,
    /// Every matrix has the main type of the mix.
    pub pure: bool,
    /// `output.weight` stays as it is.
    pub keep_output: bool,
    /// The type of `output.weight`.
    pub output_type: Option<QuantType>,
    /// The type of the embedding.
    pub embedding_type: Option<QuantType>,
    /// Types of tensors whose names contain a text; the first that fits counts.
    pub overrides: Vec<(String, QuantType)>,
    /// Threads; 0 for as many as there are CPUs.
    pub threads: usize,
}

/// What the result shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// A mix by name.
    Named(FileType),
    /// What loses least of all files of at most so many bytes.
    Size(u64),
}

/// What is being done.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// Errors of types are being measured, before anything is written.
    pub measuring: bool,
    /// The tensor.
    pub tensor: &'a str,
    /// How it is stored.
    pub from: QuantType,
    /// How it will be; `from` while errors are measured.
    pub to: QuantType,
    /// Bytes of the input that are done.
    pub done_bytes: u64,
    /// Bytes of the input.
    pub total_bytes: u64,
}

/// Told of progress; may ask to stop.
pub type OnProgress<'a> = dyn FnMut(&Progress<'_>) -> ControlFlow<()> + 'a;

/// What a tensor became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The tensor.
    pub name: String,
    /// How it was stored.
    pub from: QuantType,
    /// How it is.
    pub to: QuantType,
    /// Bytes it takes now.
    pub n_bytes: u64,
}

/// What was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The mix that the file calls itself.
    pub file_type: Option<FileType>,
    /// Every tensor, in the order of the file.
    pub tensors: Vec<Chosen>,
    /// Bytes of the input.
    pub bytes_before: u64,
    /// Bytes of the output.
    pub bytes_after: u64,
    /// Matrices of fewer than three bits a weight that nothing is known of the importance of.
    pub without_importance: Vec<String>,
}

/// The mix of this name.
///
/// # Errors
/// [`Error::UnknownFileType`].
pub fn file_type(name: &str) -> Result<FileType> {
    FileType::parse(name).ok_or_else(|| Error::UnknownFileType { name: name.to_owned() })
}

/// What will be made: every tensor with its type.
struct Plan<'a> {
    file_type: Option<FileType>,
    types: Vec<(&'a TensorInfo, QuantType)>,
}

/// Quantizes the model at `input` (any part of a split one) to `output`.
///
/// # Errors
/// What cannot be read or written; [`Error::Requantize`] unless that is allowed; [`Error::TargetTooSmall`]; a model
/// with weights that are no numbers; an importance matrix of another model. Nothing is left at `output` then, and
/// what was there before stays.
pub fn quantize(
    input: &Path,
    output: &Path,
    mix: Mix,
    options: &QuantizeOptions,
    on_progress: &mut OnProgress<'_>,
) -> Result<Report> {
    quantize_model(&Gguf::open(input)?, output, mix, options, on_progress)
}

/// As [`quantize`], of a model that is open.
///
/// # Errors
/// The same.
pub fn quantize_model(
    model: &Gguf,
    output: &Path,
    mix: Mix,
    options: &QuantizeOptions,
    on_progress: &mut OnProgress<'_>,
) -> Result<Report> {
    refuse_same(model, output)?;
    let mut converter = Converter::new(options.threads)?;
    let plan = match mix {
        Mix::Named(file_type) => {
            let types = choose::types(model, file_type, options)?;
            Plan { file_type: Some(file_type), types }
        }
        Mix::Size(bytes) => size::plan(model, bytes, options, &mut converter, on_progress)?,
    };
    for (tensor, to) in &plan.types {
        check(tensor, *to, options)?;
    }
    let report = report(model, &plan, options)?;
    check_space(output, report.bytes_after)?;
    write(model, &plan, output, options, converter, on_progress)?;
    Ok(report)
}

/// Which type each tensor would have, and how large the file would be; nothing is written.
///
/// # Errors
/// As [`quantize`], of what can be known without converting.
pub fn preview(input: &Path, file_type: FileType, options: &QuantizeOptions) -> Result<Report> {
    let model = Gguf::open(input)?;
    let types = choose::types(&model, file_type, options)?;
    report(&model, &Plan { file_type: Some(file_type), types }, options)
}

/// Whether the tensor can become `to`.
fn check(tensor: &TensorInfo, to: QuantType, options: &QuantizeOptions) -> Result<()> {
    let (name, ty) = (tensor.name.clone(), tensor.ty);
    if ty == to {
        return Ok(());
    }
    if !tensor.cols().is_multiple_of(to.block_len() as u64) {
        return Err(Error::Shape { tensor: name, columns: tensor.cols(), ty: to });
    }
    if ty.is_quantized() && !options.allow_requantize {
        return Err(Error::Requantize { tensor: name, ty, to });
    }
    Ok(())
}

fn report(model: &Gguf, plan: &Plan<'_>, options: &QuantizeOptions) -> Result<Report> {
    let chosen = |(tensor, to): &(&TensorInfo, QuantType)| Chosen {
        name: tensor.name.clone(),
        from: tensor.ty,
        to: *to,
        n_bytes: stored_bytes(tensor, *to),
    };
    let tensors: Vec<_> = plan.types.iter().map(chosen).collect();
    let is_known = |name: &str| options.imatrix.as_ref().is_some_and(|i| i.entry(name).is_some());
    let is_poor = |t: &&Chosen| t.from != t.to && size::bits(t.to) < 3.1 && !is_known(&t.name);
    let makes_logits = |name: &str| name == "output.weight" || name == "token_embd.weight";
    Ok(Report {
        file_type: plan.file_type,
        bytes_before: model.total_bytes(),
        bytes_after: file_bytes(model, plan, options)?,
        without_importance: tensors
            .iter()
            .filter(is_poor)
            .filter(|t| !makes_logits(&t.name))
            .map(|t| t.name.clone())
            .collect(),
        tensors,
    })
}

/// Bytes of the file that `plan` makes.
fn file_bytes(model: &Gguf, plan: &Plan<'_>, options: &QuantizeOptions) -> Result<u64> {
    let mut writer = Writer::new();
    for (key, value) in metadata(model, plan.file_type, options) {
        writer.set(&key, value)?;
    }
    for (tensor, to) in &plan.types {
        writer.tensor_with(&tensor.name, &tensor.shape, *to, |_| Ok(()))?;
    }
    Ok(writer.file_bytes()?)
}

/// Bytes of the tensor's data as `ty`.
fn stored_bytes(tensor: &TensorInfo, ty: QuantType) -> u64 {
    tensor.n_elements() / ty.block_len() as u64 * ty.block_bytes() as u64
}

/// The metadata of the output: the input's, without what it says of its parts, and the mix.
fn metadata(
    model: &Gguf,
    file_type: Option<FileType>,
    options: &QuantizeOptions,
) -> Vec<(String, Value)> {
    const REPLACED: [&str; 5] = [
        "split.no",
        "split.count",
        "split.tensors.count",
        "general.quantization_version",
        "general.file_type",
    ];
    let kept = |(key, _): &(&str, &Value)| {
        let is_of_imatrix = options.imatrix.is_some() && key.starts_with("quantize.imatrix.");
        !is_of_imatrix && !REPLACED.contains(key)
    };
    let mut out: Vec<_> = model
        .metadata()
        .iter()
        .filter(kept)
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect();
    out.push(("general.quantization_version".into(), Value::U32(2)));
    if let Some(file_type) = file_type {
        out.push(("general.file_type".into(), Value::U32(file_type.gguf_number())));
    }
    if let Some(imatrix) = &options.imatrix {
        let mut add =
            |key: &str, value: Value| out.push((format!("quantize.imatrix.{key}"), value));
        if let Some(path) = &options.imatrix_path {
            add("file", path.to_string_lossy().into_owned().into());
        }
        if let Some(dataset) = imatrix.datasets.last() {
            add("dataset", dataset.as_str().into());
        }
        add("entries_count", (imatrix.entries.len() as u32).into());
        if imatrix.chunk_count > 0 {
            add("chunks_count", imatrix.chunk_count.into());
        }
    }
    out
}

/// What the producers of tensors share while the file is written.
struct Run<'r, 'p> {
    converter: Converter,
    on_progress: &'r mut OnProgress<'p>,
    done_bytes: u64,
    total_bytes: u64,
    /// What stopped the writing, since a writer only knows errors of the system.
    failed: Option<Error>,
}

fn write(
    model: &Gguf,
    plan: &Plan<'_>,
    output: &Path,
    options: &QuantizeOptions,
    converter: Converter,
    on_progress: &mut OnProgress<'_>,
) -> Result<()> {
    let total_bytes = plan.types.iter().map(|(tensor, _)| tensor.n_bytes()).sum();
    let run = Run { converter, on_progress, done_bytes: 0, total_bytes, failed: None };
    let run = RefCell::new(run);
    let mut writer = Writer::new();
    for (key, value) in metadata(model, plan.file_type, options) {
        writer.set(&key, value)?;
    }
    for (tensor, to) in &plan.types {
        let run = &run;
        writer.tensor_with(&tensor.name, &tensor.shape, *to, move |out| {
            let mut run = run.borrow_mut();
            let produced = run.produce(model, tensor, *to, options, out);
            produced.map_err(|error| {
                run.failed = Some(error);
                io::Error::other("stopped")
            })
        })?;
    }
    // What was read while the file changed must not get the name.
    let written = writer.write_checked(output, |_| Ok::<_, Error>(model.check()?));
    match run.into_inner().failed {
        Some(error) => Err(error),
        None => written,
    }
}

impl Run<'_, '_> {
    /// Writes the data of one tensor.
    fn produce(
        &mut self,
        model: &Gguf,
        tensor: &TensorInfo,
        to: QuantType,
        options: &QuantizeOptions,
        out: &mut dyn Write,
    ) -> Result<()> {
        let bytes = model.bytes(tensor);
        let mut told = Progress {
            measuring: false,
            tensor: &tensor.name,
            from: tensor.ty,
            to,
            done_bytes: self.done_bytes,
            total_bytes: self.total_bytes,
        };
        tell(self.on_progress, &told)?;
        let put = |out: &mut dyn Write, bytes: &[u8]| {
            out.write_all(bytes).map_err(Error::io("write", Path::new("the output")))
        };
        if tensor.ty == to {
            put(out, &bytes)?;
            self.done_bytes += tensor.n_bytes();
            return Ok(());
        }
        let importance = importance(tensor, options)?;
        let matrix = rows::Matrix::new(tensor, &bytes, importance.as_deref())?;
        for piece in matrix.pieces() {
            let (n_bytes, converted) = self.converter.convert(&matrix, piece, to)?;
            put(out, converted)?;
            self.done_bytes += n_bytes;
            told.done_bytes = self.done_bytes;
            tell(self.on_progress, &told)?;
        }
        Ok(())
    }
}

fn tell(on_progress: &mut OnProgress<'_>, progress: &Progress<'_>) -> Result<()> {
    match on_progress(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Stopped),
    }
}

/// What is known of the inputs of a tensor: (experts, columns).
fn importance(tensor: &TensorInfo, options: &QuantizeOptions) -> Result<Option<Vec<f32>>> {
    let Some(imatrix) = &options.imatrix else { return Ok(None) };
    let experts = tensor.shape.get(2).copied().unwrap_or(1) as usize;
    match imatrix.importance(&tensor.name, tensor.cols() as usize, experts) {
        // Where an embedding makes the logits too, its importance may be of either.
        Err(Error::ImportanceSize { .. }) if tensor.name == "token_embd.weight" => Ok(None),
        other => other,
    }
}

#[cfg(test)]
mod tests;
