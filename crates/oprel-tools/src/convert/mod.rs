//! A folder of a Hugging Face model to one GGUF file: tensors, hyper-parameters and vocabulary.
//!
//! Families are tables (`families`). Tensors are described first, without reading them (`out`), then read,
//! changed and written one after another by rows (`produce`), so that a model larger than memory can be converted.
//! Nothing in a folder is trusted: sizes are checked before anything is allocated, and every malformed file is an
//! error that says what to do.

mod config;
mod families;
mod keys;
mod names;
mod out;
mod packed;
mod produce;
mod rerank;
mod tensors;
mod tokenizer;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use oprel_gguf::{FileType, Gguf, QuantType, Value, Writer};
use oprel_tokenizer::Tokenizer;

use crate::error::{Error, Result};
use crate::output::{check_space, refuse_input};
use config::{Config, read_json};
use families::Family;
use keys::Keys;
use out::{Out, Source};
use tensors::{Stored, Tensors};

/// How weights are stored in the file that is written. Vectors, norms, routers and convolutions are always F32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// As the folder has them, FP8 as BF16.
    #[default]
    AsStored,
    /// 32 bits.
    F32,
    /// 16 bits, of range up to 65504.
    F16,
    /// 16 bits with the range of F32.
    BF16,
    /// Blocks of 32 with a scale; rows that are no whole blocks are F16.
    Q8_0,
}

/// What is converted how.
#[derive(Clone, Debug, Default)]
pub struct ConvertOptions {
    /// How weights are stored.
    pub weights: Weights,
    /// The model's name in the file; the folder's if none.
    pub name: Option<String>,
    /// Makes a reranker of a generator that was trained to answer "yes" or "no"; one that is called so becomes one
    /// without being asked.
    pub reranker: bool,
}

/// How far a conversion is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The tensor that is written now.
    pub tensor: &'a str,
    /// Bytes of tensors that are written.
    pub done_bytes: u64,
    /// Bytes of all tensors.
    pub total_bytes: u64,
}

/// Told of progress; may ask to stop.
pub type OnProgress<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;

/// What was written.
#[derive(Clone, Debug)]
pub struct Converted {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// How many tensors.
    pub n_tensors: usize,
    /// Bytes of all tensors.
    pub n_bytes: u64,
    /// What a user should know: tokens left out, guesses about the pre-tokenizer.
    pub notes: Vec<String>,
}

/// Class names (`architectures` in `config.json`) of the models that [`convert`] takes, sorted.
pub fn convertible() -> Vec<&'static str> {
    families::classes()
}

/// Converts the model in `folder` to the GGUF file `to`, which appears when all is written.
///
/// # Errors
/// If a file of the folder is missing or malformed, the architecture is not one of [`convertible`], its tensors are
/// not those that `config.json` calls for, or `to` cannot be written. What was there before stays then.
pub fn convert(
    folder: &Path,
    to: &Path,
    options: &ConvertOptions,
    on_progress: &mut OnProgress<'_>,
) -> Result<Converted> {
    refuse_input(folder, to)?;
    let config = Config::open(folder)?;
    let family = families::find(&config)?;
    let mut notes = Vec::new();
    let reranks = rerank::is_one(options.reranker, folder, &config, &mut notes)?;
    packed::check(folder, &config)?;
    let tensors = Tensors::open(folder)?;
    packed::check_names(tensors.iter().map(|(_, tensor)| tensor.name.as_str()))?;
    let mut outs = describe(&config, family, &tensors)?;
    let n_vocab = vocabulary_rows(&outs);
    let mut vocabulary =
        tokenizer::read(folder, &config, family.architecture, n_vocab, &mut notes)?;
    if reranks {
        rerank::head(&mut outs, &vocabulary)?;
        rerank::template(&mut vocabulary);
    }
    let typed: Vec<(Out, QuantType)> =
        outs.into_iter().map(|out| with_type(out, options.weights)).collect::<Result<_>>()?;
    let total_bytes = typed.iter().map(|(out, ty)| n_bytes(out, *ty)).sum();
    let run = RefCell::new(Run { done_bytes: 0, total_bytes, on_progress, failed: None });

    let mut writer = Writer::new();
    general(&mut writer, folder, family, options, &typed)?;
    let mut keys = Keys::new(&config, family.architecture);
    (family.keys)(&mut keys)?;
    pooling(&mut keys, folder)?;
    if reranks {
        rerank::keys(&mut keys);
    }
    for (key, value) in keys.into_entries() {
        writer.set(&key, value)?;
    }
    sampling(&mut writer, folder)?;
    for (key, value) in vocabulary {
        writer.set(&key, value)?;
    }
    for (out, ty) in &typed {
        let (run, tensors) = (&run, &tensors);
        writer.tensor_with(&out.name, &out.gguf_shape(), *ty, move |file| {
            let mut run = run.borrow_mut();
            let run = &mut *run;
            run.tell(&out.name)?;
            produce::write(out, *ty, tensors, &mut Watched { run, file, tensor: &out.name })
        })?;
    }
    check_space(to, writer.file_bytes()?)?;
    let written = writer.write_checked(to, check_written);
    if let Some(error) = run.into_inner().failed {
        return Err(error);
    }
    written?;
    let (architecture, n_tensors) = (family.architecture, typed.len());
    Ok(Converted { architecture, n_tensors, n_bytes: total_bytes, notes })
}

/// What was written can be described, and its vocabulary read: `config.json` and tensors fit each other.
fn check_written(path: &Path) -> Result<()> {
    let file = Gguf::open(path)?;
    oprel_models::describe(&file).map_err(Error::NoModel)?;
    Tokenizer::from_metadata(file.metadata()).map_err(Error::NoVocabulary)?;
    Ok(())
}

/// How far it is, and who is told.
struct Run<'r, 'p> {
    done_bytes: u64,
    total_bytes: u64,
    on_progress: &'r mut OnProgress<'p>,
    /// What stopped the writing, since a writer only knows errors of the system.
    failed: Option<Error>,
}

impl Run<'_, '_> {
    fn tell(&mut self, tensor: &str) -> io::Result<()> {
        let Run { done_bytes, total_bytes, .. } = *self;
        match (self.on_progress)(Progress { tensor, done_bytes, total_bytes }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                self.failed = Some(Error::Stopped);
                Err(io::Error::other("stopped"))
            }
        }
    }
}

/// The file, as bytes of a tensor go to it.
struct Watched<'w, 'r, 'p> {
    run: &'w mut Run<'r, 'p>,
    file: &'w mut dyn Write,
    tensor: &'w str,
}

impl Write for Watched<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.run.done_bytes = self.run.done_bytes.saturating_add(n as u64);
        self.run.tell(self.tensor)?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Describes every tensor of the file that will be written, in its order: token table and head, then by layer.
fn describe(config: &Config, family: &Family, tensors: &Tensors) -> Result<Vec<Out>> {
    let mut outs: Vec<Out> = Vec::new();
    let mut experts: BTreeMap<String, BTreeMap<u32, Out>> = BTreeMap::new();
    let n_layers = config.n_layers().ok();
    let tied = config.bool("tie_word_embeddings") == Some(true);
    for (index, tensor) in tensors.iter() {
        let packed = tensor.name.ends_with("_scales") && tensor.stored == Stored::U8;
        if names::is_other(&tensor.name)
            || packed
            || (tied && tensor.name.ends_with("lm_head.weight"))
        {
            continue;
        }
        // What has no elements may claim any number of rows.
        if tensor.n_bytes == 0 {
            return Err(Error::tensor(&tensor.name, "is empty"));
        }
        let stored = names::parse(&tensor.name);
        // Layers beyond the last only draft.
        if stored.layer.zip(n_layers).is_some_and(|(layer, n)| layer >= n) {
            continue;
        }
        let Some(name) = names::gguf(&stored, family.names) else {
            return Err(Error::tensor(&tensor.name, "is not known in models of this architecture"));
        };
        let mut out = Out::of(index, tensor, name.clone());
        if let (Some(base), Source::Rows { scales, .. }) =
            (tensor.name.strip_suffix("_blocks"), &mut out.source)
        {
            *scales = tensors.find(&format!("{base}_scales"));
        }
        match stored.expert {
            Some(expert) => {
                experts.entry(name).or_default().insert(expert, out);
            }
            None => outs.extend((family.shape)(config, out)?),
        }
    }
    for (name, parts) in experts {
        let n = config.n_experts()?.unwrap_or(0);
        if !parts.keys().copied().eq(0..n) {
            let problem = format!("has {} experts, config.json says {n}", parts.len());
            return Err(Error::tensor(&name, problem));
        }
        outs.extend((family.shape)(config, Out::stacked(name, parts.into_values().collect())?)?);
    }
    outs.extend((family.extra)(config)?);
    // Of one layer, tensors stay in the order of the folder.
    outs.sort_by_key(|out| out.layer().map_or(0, |i| u64::from(i) + 1));
    Ok(outs)
}

/// Rows of the token table.
fn vocabulary_rows(outs: &[Out]) -> Option<u32> {
    let table = outs.iter().find(|out| out.name == "token_embd.weight")?;
    u32::try_from(table.n_rows()).ok()
}

/// Parts of names whose tensors stay F32 whatever is asked for: small, and read as such.
const ALWAYS_F32: &[&str] = &[
    "ffn_gate_inp.weight",
    "ffn_gate_inp_shexp.weight",
    "position_embd.weight",
    "token_types.weight",
    "ssm_conv1d.weight",
    "shortconv.conv.weight",
];

/// The type that a tensor is stored in.
fn with_type(out: Out, weights: Weights) -> Result<(Out, QuantType)> {
    let stored = match &out.source {
        Source::Values(_) => return Ok((out, QuantType::F32)),
        Source::Rows { stored: Stored::U8, scales: Some(_), .. } => {
            return Ok((out, QuantType::MXFP4));
        }
        Source::Rows { stored, .. } => *stored,
    };
    if matches!(stored, Stored::U8 | Stored::Other(_)) {
        return Err(
            out.wrong("is stored in a type that no weight has; quantized folders are not read")
        );
    }
    let vector = out.shape.len() <= 1 || out.name.ends_with("_norm.weight");
    let always = ALWAYS_F32.contains(&out.part()) || !out.name.ends_with(".weight");
    if vector || always {
        return Ok((out, QuantType::F32));
    }
    let row_len = out.gguf_shape().first().copied().unwrap_or(0);
    let ty = match (weights, stored) {
        (Weights::F32, _) | (Weights::AsStored, Stored::F32) => QuantType::F32,
        (Weights::F16, _) | (Weights::AsStored, Stored::F16) => QuantType::F16,
        (Weights::Q8_0, _) if row_len.is_multiple_of(32) => QuantType::Q8_0,
        (Weights::Q8_0, _) => QuantType::F16,
        (Weights::BF16 | Weights::AsStored, _) => QuantType::BF16,
    };
    Ok((out, ty))
}

fn n_bytes(out: &Out, ty: QuantType) -> u64 {
    let elements = out.shape.iter().fold(1u64, |n, d| n.saturating_mul(*d));
    elements / ty.block_len() as u64 * ty.block_bytes() as u64
}

/// What every file says of itself.
fn general(
    writer: &mut Writer<'_>,
    folder: &Path,
    family: &Family,
    options: &ConvertOptions,
    typed: &[(Out, QuantType)],
) -> Result<()> {
    let of_folder = || folder.file_name().and_then(|n| n.to_str()).unwrap_or("model").to_owned();
    writer.set("general.architecture", family.architecture)?;
    writer.set("general.type", "model")?;
    writer.set("general.name", options.name.clone().unwrap_or_else(of_folder))?;
    writer.set("general.file_type", file_type(typed))?;
    writer.set("general.quantization_version", 2u32)?;
    Ok(())
}

/// The number of the file type: that of the type which holds most.
fn file_type(typed: &[(Out, QuantType)]) -> u32 {
    let of = |wanted: QuantType| -> u64 {
        typed.iter().filter(|(_, ty)| *ty == wanted).map(|(out, ty)| n_bytes(out, *ty)).sum()
    };
    use FileType::*;
    let known = [F32, F16, Q8_0, BF16, MXFP4_MOE];
    let most = known.into_iter().max_by_key(|ty| of(ty.main_type()));
    most.map_or(0, FileType::gguf_number)
}

/// How an embedder makes one vector of a text: what its sentence-transformers module says.
fn pooling(keys: &mut Keys<'_>, folder: &Path) -> Result<()> {
    let classifies = keys.config.architecture()?.ends_with("ForSequenceClassification");
    if classifies {
        keys.set("pooling_type", 4u32);
        return Ok(());
    }
    let Some(json) = read_json(&folder.join("1_Pooling/config.json"))? else { return Ok(()) };
    let says = |key: &str| json.get(key).and_then(serde_json::Value::as_bool) == Some(true);
    let kinds = [
        ("pooling_mode_mean_tokens", 1u32),
        ("pooling_mode_cls_token", 2),
        ("pooling_mode_lasttoken", 3),
    ];
    if let Some((_, kind)) = kinds.into_iter().find(|(key, _)| says(key)) {
        keys.set("pooling_type", kind);
    }
    Ok(())
}

/// What the model's makers advise for sampling.
fn sampling(writer: &mut Writer<'_>, folder: &Path) -> Result<()> {
    let Some(json) = read_json(&folder.join("generation_config.json"))? else { return Ok(()) };
    let number = |key: &str| json.get(key).and_then(serde_json::Value::as_f64);
    for (key, of) in [
        ("temp", "temperature"),
        ("top_p", "top_p"),
        ("min_p", "min_p"),
        ("penalty_repeat", "repetition_penalty"),
    ] {
        if let Some(x) = number(of).filter(|x| x.is_finite()) {
            writer.set(&format!("general.sampling.{key}"), Value::F32(x as f32))?;
        }
    }
    if let Some(k) = number("top_k").filter(|k| (0.0..2e9).contains(k)) {
        writer.set("general.sampling.top_k", Value::I32(k as i32))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
