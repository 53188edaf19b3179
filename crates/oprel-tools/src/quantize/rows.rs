//! Rows of a matrix from one type to another, on all threads, a bounded number at a time.

use std::ops::Range;

use oprel_cpu::pool::MOST_THREADS;
use oprel_cpu::quantize::quantize_weighted;
use oprel_cpu::{Isa, Parts, Pool};
use oprel_gguf::{QuantType, TensorInfo};
use oprel_quant::dequantize;

use crate::error::{Error, Result, check_threads};

/// Weights that a thread converts at once, about.
const BATCH: usize = 1 << 16;
/// Batches of a piece, which is converted before it is written.
const BATCHES: usize = 32;

/// A tensor whose rows are converted.
pub(crate) struct Matrix<'a> {
    name: &'a str,
    ty: QuantType,
    bytes: &'a [u8],
    /// Weights of a row.
    pub columns: usize,
    /// Rows, of all experts.
    pub n_rows: usize,
    /// Rows of one expert.
    expert_rows: usize,
    /// (experts, columns)
    importance: Option<&'a [f32]>,
}

impl<'a> Matrix<'a> {
    pub(crate) fn new(
        tensor: &'a TensorInfo,
        bytes: &'a [u8],
        importance: Option<&'a [f32]>,
    ) -> Result<Matrix<'a>> {
        use QuantType::*;
        if matches!(tensor.ty, F64 | I8 | I16 | I32 | I64 | Q8_1 | Q8_K) {
            return Err(Error::Unconvertible { tensor: tensor.name.clone(), ty: tensor.ty });
        }
        Ok(Matrix {
            name: &tensor.name,
            ty: tensor.ty,
            bytes,
            columns: tensor.cols() as usize,
            n_rows: tensor.rows() as usize,
            expert_rows: tensor.shape.get(1).map_or(1, |rows| (*rows).max(1) as usize),
            importance,
        })
    }

    /// Rows of a batch.
    fn batch_rows(&self) -> usize {
        (BATCH / self.columns.max(1)).max(1)
    }

    /// Rows that are converted together, piece after piece.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (step, n_rows) = (self.batch_rows() * BATCHES, self.n_rows);
        (0..n_rows).step_by(step).map(move |start| start..(start + step).min(n_rows))
    }

    fn row_bytes(&self) -> usize {
        self.columns / self.ty.block_len() * self.ty.block_bytes()
    }

    /// The weights of `rows`, as numbers.
    pub(crate) fn numbers(&self, rows: Range<usize>, to: &mut Vec<f32>) -> Result<()> {
        let row_bytes = self.row_bytes();
        let bytes = &self.bytes[rows.start * row_bytes..rows.end * row_bytes];
        to.resize(rows.len() * self.columns, 0.0);
        let unconvertible = |_| Error::Unconvertible { tensor: self.name.to_owned(), ty: self.ty };
        dequantize(self.ty, bytes, to).map_err(unconvertible)?;
        let finite = to.iter().fold(0, |most, x| (x.to_bits() & 0x7fff_ffff).max(most));
        if finite >= 0x7f80_0000 {
            return Err(Error::NotFinite { tensor: self.name.to_owned() });
        }
        Ok(())
    }

    /// The importance for a row.
    pub(crate) fn importance_of(&self, row: usize) -> Option<&'a [f32]> {
        let importance = self.importance?;
        let experts = (importance.len() / self.columns.max(1)).max(1);
        let expert = row / self.expert_rows % experts;
        importance.get(expert * self.columns..(expert + 1) * self.columns)
    }

    /// Rows from `start` on, at most to `end`, that have one importance.
    fn of_one_expert(&self, start: usize, end: usize) -> Range<usize> {
        start..end.min((start / self.expert_rows + 1) * self.expert_rows)
    }

    /// Converts `rows` to `ty`, into `to`.
    pub(crate) fn convert(
        &self,
        isa: Isa,
        rows: Range<usize>,
        ty: QuantType,
        numbers: &mut Vec<f32>,
        to: &mut [u8],
    ) -> Result<()> {
        let row_bytes = self.columns / ty.block_len() * ty.block_bytes();
        let mut start = rows.start;
        while start < rows.end {
            let part = self.of_one_expert(start, rows.end);
            self.numbers(part.clone(), numbers)?;
            let at = (part.start - rows.start) * row_bytes;
            let to = &mut to[at..at + part.len() * row_bytes];
            let importance = self.importance_of(part.start);
            quantize_weighted(isa, ty, numbers, self.columns, importance, to)
                .map_err(|_| Error::Unconvertible { tensor: self.name.to_owned(), ty })?;
            start = part.end;
        }
        Ok(())
    }
}

/// The threads, and what was converted last.
pub(crate) struct Converter {
    pool: Pool,
    isa: Isa,
    converted: Vec<u8>,
    /// Of each thread, the numbers between both types.
    numbers: Vec<Vec<f32>>,
}

impl Converter {
    /// With so many threads; 0 for as many as there are CPUs.
    pub(crate) fn new(threads: usize) -> Result<Converter> {
        check_threads(threads, 0)?;
        let there =
            || std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS));
        let threads = if threads == 0 { there() } else { threads };
        Ok(Converter {
            pool: Pool::new(threads)?,
            isa: Isa::detect(),
            converted: Vec::new(),
            numbers: vec![Vec::new(); threads],
        })
    }

    /// The instructions that are used.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// Converts `rows`: how many bytes they had, and what they are.
    pub(crate) fn convert(
        &mut self,
        matrix: &Matrix<'_>,
        rows: Range<usize>,
        ty: QuantType,
    ) -> Result<(u64, &[u8])> {
        let row_bytes = matrix.columns / ty.block_len() * ty.block_bytes();
        let n_bytes = (rows.len() * matrix.row_bytes()) as u64;
        self.converted.resize(rows.len() * row_bytes, 0);
        if self.converted.is_empty() {
            return Ok((n_bytes, &[]));
        }
        let batch = matrix.batch_rows();
        let failed = std::sync::Mutex::new(None);
        let isa = self.isa;
        let numbers: Vec<_> = self.numbers.iter_mut().map(std::sync::Mutex::new).collect();
        self.pool.run_parts(Parts::new(&mut self.converted, batch * row_bytes), |i, to, worker| {
            let start = rows.start + i * batch;
            let of_batch = start..(start + batch).min(rows.end);
            let Some(Ok(mut numbers)) = numbers.get(worker.index()).map(std::sync::Mutex::lock)
            else {
                return;
            };
            if let Err(error) = matrix.convert(isa, of_batch, ty, &mut numbers, to)
                && let Ok(mut failed) = failed.lock()
            {
                failed.get_or_insert(error);
            }
        });
        match failed.into_inner() {
            Ok(Some(error)) => Err(error),
            _ => Ok((n_bytes, &self.converted)),
        }
    }

    /// Runs `f` for every number below `n`, on all threads.
    pub(crate) fn each<T: Send>(
        &mut self,
        n: usize,
        f: impl Fn(usize) -> T + Sync,
    ) -> Vec<Option<T>> {
        let mut out: Vec<Option<T>> = Vec::new();
        out.resize_with(n, || None);
        if n > 0 {
            self.pool.run_parts(Parts::new(&mut out, 1), |i, to, _| to[0] = Some(f(i)));
        }
        out
    }
}
