//! Splitting a model over several files, and joining them.
//!
//! Parts are called `PREFIX-00001-of-00003.gguf`. The first has all metadata; each says which part it is
//! (`split.no`, from 0), of how many (`split.count`), and how many tensors all have (`split.tensors.count`).

use std::path::{Path, PathBuf};

use oprel_gguf::{Gguf, TensorInfo, Value, Writer};

use super::{GoesOn, add, like, write};
use crate::error::{Error, Result};
use crate::output::{check_space, refuse_same};

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// How much a part holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxPart {
    /// Bytes of tensor data; a larger tensor has a part of its own.
    Bytes(u64),
    /// Tensors.
    Tensors(usize),
}

/// The path of part `no`, from 0, of `count`.
pub fn part_path(prefix: &Path, no: usize, count: usize) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(format!("-{:05}-of-{count:05}.gguf", no + 1));
    PathBuf::from(name)
}

/// Splits the model at `input` into files whose names begin with `prefix`, and gives their paths. A part that is
/// there already is replaced.
///
/// # Errors
/// What cannot be read or written; a limit of nothing; a model of which more than 65535 parts would become. Parts that
/// were written before are removed then.
pub fn split(
    input: &Path,
    prefix: &Path,
    max: MaxPart,
    goes_on: &GoesOn<'_>,
) -> Result<Vec<PathBuf>> {
    if matches!(max, MaxPart::Bytes(0) | MaxPart::Tensors(0)) {
        return Err(Error::Request("a part holds at least one tensor or one byte"));
    }
    let model = Gguf::open(input)?;
    let parts = parts(&model, max);
    let paths: Vec<_> = (0..parts.len()).map(|no| part_path(prefix, no, parts.len())).collect();
    if parts.len() > usize::from(u16::MAX) {
        return Err(Error::Request("more than 65535 parts: let each hold more"));
    }
    for path in &paths {
        refuse_same(&model, path)?;
    }
    check_space(&paths[0], model.total_bytes())?;
    let write_one = |(no, tensors): (usize, &Vec<&TensorInfo>)| {
        let writer = part(&model, (no, parts.len()), tensors, goes_on)?;
        write(writer, &paths[no], &model, goes_on)
    };
    if let Err(error) = parts.iter().enumerate().try_for_each(write_one) {
        for path in &paths {
            // Parts without the others are of no use; that one stays is not the first concern.
            let _ = std::fs::remove_file(path);
        }
        return Err(error);
    }
    Ok(paths)
}

/// The tensors of each part, of which there is at least one.
fn parts(model: &Gguf, max: MaxPart) -> Vec<Vec<&TensorInfo>> {
    let mut parts: Vec<Vec<&TensorInfo>> = vec![Vec::new()];
    let mut n_bytes = 0;
    let align = model.alignment().max(1);
    for tensor in model.tensors() {
        let more = tensor.n_bytes().next_multiple_of(align);
        let n_tensors = parts.last().map_or(0, Vec::len);
        let is_full = match max {
            MaxPart::Bytes(most) => n_bytes + more > most,
            MaxPart::Tensors(most) => n_tensors >= most,
        };
        if is_full && n_tensors > 0 {
            parts.push(Vec::new());
            n_bytes = 0;
        }
        n_bytes += more;
        if let Some(last) = parts.last_mut() {
            last.push(tensor);
        }
    }
    parts
}

/// Part `no` of `count`.
fn part<'a>(
    model: &'a Gguf,
    (no, count): (usize, usize),
    tensors: &[&'a TensorInfo],
    goes_on: &'a GoesOn<'_>,
) -> Result<Writer<'a>> {
    let mut writer = like(model)?;
    let alignment = |key: &str| no > 0 && key == "general.alignment";
    for (key, value) in model.metadata().iter() {
        let is_split = [NO, COUNT, TENSORS].contains(&key);
        if !is_split && (no == 0 || alignment(key)) {
            writer.set(key, value.clone())?;
        }
    }
    writer.set(NO, no as u16)?;
    writer.set(COUNT, count as u16)?;
    writer.set(TENSORS, model.tensors().len() as i32)?;
    for tensor in tensors {
        add(&mut writer, model, tensor, goes_on)?;
    }
    Ok(writer)
}

/// Joins a model that is split; `input` is any of its parts. Of a model that was split by [`split`] the result is the
/// file it was split from, byte for byte, if that was written as GGUF files usually are.
///
/// # Errors
/// What cannot be read or written; a model that is not split.
pub fn merge(input: &Path, output: &Path, goes_on: &GoesOn<'_>) -> Result<()> {
    let model = Gguf::open(input)?;
    if model.paths().count() < 2 && model.metadata().u64(COUNT)?.is_none() {
        return Err(Error::Request("the model is one file already"));
    }
    refuse_same(&model, output)?;
    check_space(output, model.total_bytes())?;
    let mut writer = like(&model)?;
    let kept = |(key, _): &(&str, &Value)| ![NO, COUNT, TENSORS].contains(key);
    for (key, value) in model.metadata().iter().filter(kept) {
        writer.set(key, value.clone())?;
    }
    for tensor in model.tensors() {
        add(&mut writer, &model, tensor, goes_on)?;
    }
    write(writer, output, &model, goes_on)
}
