//! The distributions of a base model in a file, as llama.cpp's tool writes it.
//!
//! Layout: `_logits_`, then as i32 the tokens of a window, the vocabulary's size, the number of windows and all
//! tokens; then for each scored token a row of u16: scale and least logarithm of a probability as two f32, and steps
//! of the scale above it for each token of the vocabulary, padded to an even number.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::base_error;
use super::row::Row;
use crate::error::{Error, Result};
use crate::windows::Text;

const MAGIC: &[u8; 8] = b"_logits_";
/// Logits this far below the largest are stored as that.
const DEPTH: f32 = 16.0;
/// u16 before the steps of a row.
const HEAD: usize = 4;

fn row_len(n_vocab: usize) -> usize {
    n_vocab.next_multiple_of(2) + HEAD
}

/// Writes a base; the file appears when it is whole.
pub(super) struct BaseWriter {
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    row: Vec<u8>,
}

impl BaseWriter {
    pub(super) fn create(path: &Path, text: &Text, n_vocab: usize) -> Result<BaseWriter> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial).map_err(Error::io("write", path))?;
        let mut head = MAGIC.to_vec();
        let tokens = text.tokens.iter().take(text.n_windows * text.context);
        for n in [text.context, n_vocab, text.n_windows] {
            head.extend((n as u32).to_le_bytes());
        }
        tokens.for_each(|t| head.extend(t.to_le_bytes()));
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&head).map_err(Error::io("write", path))?;
        Ok(BaseWriter { path: path.to_owned(), partial, file, row: Vec::new() })
    }

    /// Adds rows.
    pub(super) fn append(&mut self, logits: &[f32], n_vocab: usize) -> Result<()> {
        for logits in logits.chunks_exact(n_vocab.max(1)) {
            let row = Row::of(logits);
            let (most, least) = row.bounds;
            let least = least.max(most - DEPTH);
            let scale = (most - least) / 65535.0;
            self.row.clear();
            self.row.extend(scale.to_le_bytes());
            self.row.extend(((f64::from(least) - row.ln_sum) as f32).to_le_bytes());
            for x in logits {
                let steps = if scale > 0.0 { (x - least).max(0.0) / scale } else { 0.0 };
                self.row.extend((steps.round_ties_even() as u16).to_le_bytes());
            }
            self.row.resize(2 * row_len(n_vocab), 0);
            self.file.write_all(&self.row).map_err(Error::io("write", &self.path))?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.file.flush().map_err(Error::io("write", &self.path))?;
        std::fs::rename(&self.partial, &self.path).map_err(Error::io("write", &self.path))
    }
}

impl Drop for BaseWriter {
    /// What was not finished is not kept; what was finished has another name by now.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.partial);
    }
}

/// A base that is read in order.
pub(super) struct BaseReader {
    path: PathBuf,
    file: BufReader<File>,
    pub(super) context: u32,
    n_vocab: usize,
    pub(super) tokens: Vec<u32>,
    rows: Vec<u16>,
}

/// Rows that were read.
pub(super) struct StoredRows<'a> {
    rows: &'a [u16],
    len: usize,
    n_vocab: usize,
}

/// One row.
#[derive(Clone, Copy)]
pub(super) struct StoredRow<'a> {
    scale: f32,
    least: f32,
    steps: &'a [u16],
}

impl BaseReader {
    pub(super) fn open(path: &Path) -> Result<BaseReader> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let n_bytes = file.metadata().map_err(Error::io("read", path))?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut magic = [0; 8];
        let short = |_| base_error(path, "it ends within its head");
        file.read_exact(&mut magic).map_err(short)?;
        if magic != *MAGIC {
            return Err(base_error(path, "it is no file of distributions"));
        }
        let mut number = || -> Result<u32> {
            let mut bytes = [0; 4];
            file.read_exact(&mut bytes).map_err(short)?;
            Ok(u32::from_le_bytes(bytes))
        };
        let (context, n_vocab, n_windows) = (number()?, number()?, number()?);
        let n_tokens = u64::from(context) * u64::from(n_windows);
        let scored = u64::from(n_windows)
            * (u64::from(context / 2).saturating_sub(1) + u64::from(context % 2));
        let row_bytes = 2 * row_len(n_vocab as usize) as u64;
        let needed =
            n_tokens.checked_mul(4).and_then(|n| scored.checked_mul(row_bytes)?.checked_add(n));
        // Nothing is allocated that the file does not have.
        if context < 8 || needed.is_none_or(|needed| needed.saturating_add(20) > n_bytes) {
            return Err(base_error(path, "it is shorter than its head says"));
        }
        let tokens = (0..n_tokens).map(|_| number()).collect::<Result<Vec<u32>>>()?;
        let (path, n_vocab) = (path.to_owned(), n_vocab as usize);
        Ok(BaseReader { path, file, context, n_vocab, tokens, rows: Vec::new() })
    }

    /// Whether the base is of a model with this vocabulary.
    pub(super) fn check(&self, n_vocab: usize) -> Result<()> {
        if self.n_vocab != n_vocab {
            let problem = format!("its model has {} tokens, this one {n_vocab}", self.n_vocab);
            return Err(base_error(&self.path, problem));
        }
        match self.tokens.iter().find(|t| **t as usize >= n_vocab) {
            Some(token) => Err(base_error(&self.path, format!("it names a token {token}"))),
            None => Ok(()),
        }
    }

    /// Whether the base is of a text that begins with these tokens, or with as many of them as it has.
    pub(super) fn check_text(&self, tokens: &[u32]) -> Result<()> {
        match tokens.starts_with(&self.tokens) {
            true => Ok(()),
            false => Err(base_error(&self.path, "it was made of another text")),
        }
    }

    /// The next rows.
    pub(super) fn next_rows(&mut self, n: usize) -> Result<StoredRows<'_>> {
        let len = row_len(self.n_vocab);
        let mut bytes = vec![0; 2 * len * n];
        self.file.read_exact(&mut bytes).map_err(Error::io("read", &self.path))?;
        self.rows.clear();
        self.rows.extend(bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)));
        Ok(StoredRows { rows: &self.rows, len, n_vocab: self.n_vocab })
    }
}

impl StoredRows<'_> {
    pub(super) fn row(&self, i: usize) -> StoredRow<'_> {
        let row = self.rows.chunks_exact(self.len).nth(i).unwrap_or_default();
        let (head, steps) = row.split_at_checked(HEAD).unwrap_or_default();
        let float = |at: usize| match (head.get(at), head.get(at + 1)) {
            (Some(low), Some(high)) => f32::from_bits(u32::from(*low) | u32::from(*high) << 16),
            _ => 0.0,
        };
        StoredRow {
            scale: float(0),
            least: float(2),
            steps: steps.get(..self.n_vocab).unwrap_or_default(),
        }
    }
}

impl<'a> StoredRow<'a> {
    /// Logarithms of all probabilities.
    pub(super) fn ln_probabilities(self) -> impl Iterator<Item = f32> + use<'a> {
        self.steps.iter().map(move |steps| self.scale * f32::from(*steps) + self.least)
    }

    /// That of one token.
    pub(super) fn ln_probability(self, token: usize) -> f32 {
        self.scale * f32::from(self.steps.get(token).copied().unwrap_or(0)) + self.least
    }
}
