//! Models that are split over several files.
//!
//! Each part is a whole GGUF file with `split.no` (from 0), `split.count` and `split.tensors.count` in its
//! metadata; the first has the rest of the metadata too. The names of the other parts follow from the name
//! of the given one, `PREFIX-00001-of-00003.gguf`: no path is ever taken from a file.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result, SplitProblem};
use crate::file::{Part, in_file, open_part};
use crate::limits;
use crate::metadata::Metadata;
use crate::parse::Parsed;

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// Which part of how many a file is.
#[derive(Clone, Copy)]
pub(crate) struct Position {
    /// From 0.
    no: u64,
    count: u64,
}

impl Position {
    /// The error for a part given as bytes.
    pub(crate) fn alone(self) -> Error {
        let problem = SplitProblem::Alone { no: self.no.saturating_add(1), count: self.count };
        Error::Split { path: PathBuf::from("model in memory"), problem }
    }
}

/// Which part a file with this metadata is, `None` if it is a model by itself.
pub(crate) fn position(metadata: &Metadata) -> Result<Option<Position>> {
    let count = metadata.u64(COUNT)?.unwrap_or(0);
    if count <= 1 {
        return Ok(None);
    }
    let fits = |key: &str, n, expected| Error::OutOfRange {
        key: key.into(),
        expected,
        found: format!("{n}"),
    };
    if count > limits::PARTS.into() {
        return Err(fits(COUNT, count, "at most 65535 parts"));
    }
    let no = metadata.u64(NO)?.unwrap_or(0);
    if no >= count {
        return Err(fits(NO, no, "less than `split.count`"));
    }
    Ok(Some(Position { no, count }))
}

/// Opens the other parts of the one `given` at `path`, and joins all.
pub(crate) fn open_all(
    path: &Path,
    at: Position,
    given: (Part, Parsed),
) -> Result<(Parsed, Vec<Part>)> {
    let prefix = prefix(path, at)?;
    let mut given = Some(given);
    let mut opened = Vec::new();
    for no in 0..at.count {
        let path = part_path(path, &prefix, Position { no, ..at });
        let part = match if no == at.no { given.take() } else { None } {
            Some(part) => part,
            None => open_part(&path).map_err(|e| missing(e, Position { no, ..at }))?,
        };
        opened.push((path, part));
    }
    join(opened)
}

/// Joins opened parts, which must be all of one model, in their order. A single one need be no part.
pub(crate) fn join(opened: Vec<(PathBuf, (Part, Parsed))>) -> Result<(Parsed, Vec<Part>)> {
    let count = opened.len() as u64;
    let first = opened.first().map(|(path, _)| path.clone()).unwrap_or_default();
    let mut parts = Vec::new();
    let mut joined: Option<Parsed> = None;
    for (no, (path, (part, mut parsed))) in (0..).zip(opened) {
        if count > 1 || position(&parsed.metadata).map_err(|e| in_file(&path, e))?.is_some() {
            agree(&path, &parsed.metadata, NO, no)?;
            agree(&path, &parsed.metadata, COUNT, count)?;
        }
        for tensor in &mut parsed.tensors {
            tensor.part = parts.len();
        }
        parts.push(part);
        match &mut joined {
            None => joined = Some(parsed),
            Some(joined) => append(joined, parsed, &path)?,
        }
    }
    let Some(joined) = joined else { return Err(Position { no: 0, count }.alone()) };
    if joined.metadata.contains(TENSORS) {
        agree(&first, &joined.metadata, TENSORS, joined.tensors.len() as u64)?;
    }
    Ok((joined, parts))
}

/// Adds the tensors of the part at `path` to those of the parts before it.
fn append(joined: &mut Parsed, part: Parsed, path: &Path) -> Result<()> {
    let refuse = |problem| Err(Error::Split { path: path.to_owned(), problem });
    if joined.tensors.len().saturating_add(part.tensors.len()) as u64 > limits::TENSORS {
        return refuse(SplitProblem::Tensors { limit: limits::TENSORS });
    }
    for mut tensor in part.tensors {
        tensor.index = joined.tensors.len();
        if joined.names.insert(tensor.name.as_str().into(), tensor.index).is_some() {
            return refuse(SplitProblem::Duplicate { tensor: tensor.name });
        }
        joined.tensors.push(tensor);
    }
    Ok(())
}

/// What the names of all parts begin with.
fn prefix(path: &Path, at: Position) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let expected = ending(at);
    match name.strip_suffix(&expected) {
        Some(prefix) => Ok(prefix.to_owned()),
        None => Err(Error::Split {
            path: path.to_owned(),
            problem: SplitProblem::Name { no: at.no.saturating_add(1), count: at.count, expected },
        }),
    }
}

fn ending(at: Position) -> String {
    format!("-{:05}-of-{:05}.gguf", at.no.saturating_add(1), at.count)
}

fn part_path(given: &Path, prefix: &str, at: Position) -> PathBuf {
    given.with_file_name(format!("{prefix}{}", ending(at)))
}

/// A part that cannot be opened is a missing part; what is malformed stays what it is.
fn missing(error: Error, at: Position) -> Error {
    match error {
        Error::Io { path, source, .. } => {
            let problem =
                SplitProblem::Missing { no: at.no.saturating_add(1), count: at.count, source };
            Error::Split { path, problem }
        }
        other => other,
    }
}

/// Fails unless `key` is `expected`.
fn agree(path: &Path, metadata: &Metadata, key: &'static str, expected: u64) -> Result<()> {
    let found = metadata.u64(key).map_err(|e| in_file(path, e))?;
    if found == Some(expected) || (found.is_none() && key == NO && expected == 0) {
        return Ok(());
    }
    let found = found.map_or_else(|| "absent".to_owned(), |n| n.to_string());
    Err(Error::Split {
        path: path.to_owned(),
        problem: SplitProblem::Mismatch { key, found, expected },
    })
}
