//! Importance matrices: how large what each column of a matrix is multiplied by is, in llama.cpp's files.
//!
//! The current format is a GGUF file with two tensors a matrix, `NAME.in_sum2` (experts, columns) and
//! `NAME.counts` (experts, 1). The older one (`.dat`) is read too; it has means times a number of calls.

use std::fs;
use std::path::Path;

use oprel_gguf::{Gguf, QuantType, StrArray, TensorInfo, Writer};

use crate::error::{Error, Result};

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// What is known of the inputs of a model's matrices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// One for each matrix, by name.
    pub entries: Vec<Entry>,
    /// Texts that it was collected from.
    pub datasets: Vec<String>,
    /// Pieces of text that were read.
    pub chunk_count: u32,
    /// Tokens of a piece.
    pub chunk_size: u32,
}

/// What is known of the inputs of one matrix, or of a stack of experts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// The tensor's name: `blk.0.attn_q.weight`.
    pub name: String,
    /// Sums of squares (experts, columns).
    pub sums: Vec<f32>,
    /// How many inputs were summed: one for each expert, or one for all.
    pub counts: Vec<f32>,
}

impl Imatrix {
    /// Reads a file of either format.
    ///
    /// # Errors
    /// What the system or the GGUF reader says; [`Error::Imatrix`] if the file is something else.
    pub fn read(path: impl AsRef<Path>) -> Result<Imatrix> {
        let path = path.as_ref();
        let mut magic = [0; 4];
        let read = |mut file: fs::File| std::io::Read::read(&mut file, &mut magic);
        let n = fs::File::open(path).and_then(read).map_err(Error::io("read", path))?;
        if &magic[..n] == b"GGUF" {
            return from_gguf(&Gguf::open(path)?).map_err(|problem| malformed(path, problem));
        }
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        from_dat(&bytes).ok_or_else(|| malformed(path, "it ends too early, or is no such file"))
    }

    /// Writes a GGUF file, replacing `path` when it is whole.
    ///
    /// # Errors
    /// What the GGUF writer says.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut writer = Writer::new();
        writer.set("general.type", "imatrix")?;
        let datasets = StrArray::try_from_iter(&self.datasets).unwrap_or_default();
        writer.set("imatrix.datasets", datasets)?;
        writer.set("imatrix.chunk_count", self.chunk_count)?;
        writer.set("imatrix.chunk_size", self.chunk_size)?;
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            let experts = entry.counts.len();
            let Some(columns) = entry.sums.len().checked_div(experts) else { continue };
            let shape = [columns as u64, experts as u64];
            writer.tensor(&format!("{}{SUMS}", entry.name), &shape, F32, bytes(&entry.sums))?;
            let shape = [1, experts as u64];
            writer.tensor(&format!("{}{COUNTS}", entry.name), &shape, F32, bytes(&entry.counts))?;
        }
        Ok(writer.write_file(path)?)
    }

    /// The entry of this tensor.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Mean squares (experts, columns) of the inputs of a tensor, for `quantize_weighted`; `None` if nothing is
    /// known of it. An expert that was never used has ones.
    ///
    /// # Errors
    /// [`Error::ImportanceSize`] if the tensor has another shape, [`Error::NotFinite`] if a number is none.
    pub fn importance(
        &self,
        name: &str,
        columns: usize,
        experts: usize,
    ) -> Result<Option<Vec<f32>>> {
        let Some(entry) = self.entry(name) else { return Ok(None) };
        let (found, expected) = (entry.sums.len(), columns.saturating_mul(experts));
        let parts = entry.counts.len();
        if found != expected || parts == 0 || !found.is_multiple_of(parts) {
            return Err(Error::ImportanceSize { tensor: name.to_owned(), found, expected });
        }
        let mut means = Vec::with_capacity(found);
        for (sums, count) in entry.sums.chunks(found / parts).zip(&entry.counts) {
            let mean = |sum: &f32| if *count > 0.0 { sum / count } else { 1.0 };
            means.extend(sums.iter().map(mean));
        }
        match means.iter().all(|mean| mean.is_finite() && *mean >= 0.0) {
            true => Ok(Some(means)),
            false => Err(Error::NotFinite { tensor: format!("the importance of {name}") }),
        }
    }
}

use QuantType::F32;

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn malformed(path: &Path, problem: impl Into<String>) -> Error {
    Error::Imatrix { path: path.to_owned(), problem: problem.into() }
}

fn values(file: &Gguf, tensor: &TensorInfo) -> Result<Vec<f32>, String> {
    if tensor.ty != F32 {
        return Err(format!("{} is stored as {} and not as F32", tensor.name, tensor.ty));
    }
    let bytes = file.bytes(tensor);
    Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn from_gguf(file: &Gguf) -> Result<Imatrix, String> {
    let text = |error: oprel_gguf::Error| error.to_string();
    let metadata = file.metadata();
    let mut out = Imatrix {
        datasets: metadata
            .strs("imatrix.datasets")
            .map_err(text)?
            .map(|all| all.iter().map(str::to_owned).collect())
            .unwrap_or_default(),
        chunk_count: metadata.u32("imatrix.chunk_count").map_err(text)?.unwrap_or(0),
        chunk_size: metadata.u32("imatrix.chunk_size").map_err(text)?.unwrap_or(0),
        entries: Vec::new(),
    };
    for tensor in file.tensors() {
        let Some(name) = tensor.name.strip_suffix(SUMS) else { continue };
        let counts = file.tensor(&format!("{name}{COUNTS}"));
        let counts = counts.ok_or_else(|| format!("{name} has sums without counts"))?;
        let (sums, counts) = (values(file, tensor)?, values(file, counts)?);
        out.entries.push(Entry { name: name.to_owned(), sums, counts });
    }
    match out.entries.is_empty() {
        true => Err("it has no sums of squares".into()),
        false => Ok(out),
    }
}

/// The older format: count of entries; of each the length of its name, the name, calls, numbers, these; then
/// perhaps calls in all and the name of the text. `None` if it does not end where it should.
fn from_dat(mut rest: &[u8]) -> Option<Imatrix> {
    let mut out = Imatrix::default();
    let n_entries = number(&mut rest)?;
    for _ in 0..n_entries {
        let name = text(&mut rest)?;
        let calls = number(&mut rest)? as f32;
        let n = number(&mut rest)? as usize;
        let sums = rest.split_off(..n.checked_mul(4)?)?.as_chunks().0;
        let sums = sums.iter().map(|b| f32::from_le_bytes(*b)).collect();
        // No calls mean that the numbers are means already.
        out.entries.push(Entry { name, sums, counts: vec![calls.max(1.0)] });
    }
    if !rest.is_empty() {
        out.chunk_count = number(&mut rest)?;
        out.datasets.extend(text(&mut rest));
    }
    (!out.entries.is_empty()).then_some(out)
}

/// A number of 32 bits, not negative.
fn number(rest: &mut &[u8]) -> Option<u32> {
    let number = i32::from_le_bytes(*rest.split_off(..4)?.as_array()?);
    u32::try_from(number).ok()
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let len = number(rest)? as usize;
    String::from_utf8(rest.split_off(..len)?.to_vec()).ok()
}

#[cfg(test)]
mod tests;
