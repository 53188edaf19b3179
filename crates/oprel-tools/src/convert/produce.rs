//! Making the bytes of a described tensor: read by rows, change, store; never more than a matrix at a time.

use std::io::{self, Write};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use oprel_quant::{QuantType, quantize};

use super::out::{Change, Out, Run, Source};
use super::tensors::{Stored, Tensors};

/// Bytes that are read at once.
const PIECE: usize = 4 << 20;
/// Smaller tensors are read whole where their rows are wanted in another order.
const KEPT: u64 = 64 << 20;
/// Weights of an FP4 block.
const FP4_BLOCK: usize = 32;

/// Writes the elements of `out` as `ty`.
pub(super) fn write(
    out: &Out,
    ty: QuantType,
    tensors: &Tensors,
    to: &mut dyn Write,
) -> io::Result<()> {
    match &out.source {
        Source::Values(values) => to.write_all(&stored(ty, values)?),
        Source::Rows { stored: Stored::U8, runs, len, scales: Some(scales), .. } => {
            fp4(runs, *len as usize, *scales, tensors, to)
        }
        Source::Rows { stored, runs, len, columns, .. } => {
            let plain = out.change == Change::Nothing && columns.is_none() && !out.transposed;
            let row_bytes = stored.n_bytes().saturating_mul(*len);
            let mut rows = Rows::new(tensors, runs, row_bytes);
            if plain && same_type(*stored, ty) {
                return copy(&mut rows, to);
            }
            let made = Made { out, ty, stored: *stored, len: *len as usize, columns };
            made.write(&mut rows, tensors, to)
        }
    }
}

fn same_type(stored: Stored, ty: QuantType) -> bool {
    matches!(
        (stored, ty),
        (Stored::F32, QuantType::F32)
            | (Stored::F16, QuantType::F16)
            | (Stored::BF16, QuantType::BF16)
    )
}

/// The rows of a list of runs, read in order.
struct Rows<'a> {
    tensors: &'a Tensors,
    runs: std::slice::Iter<'a, Run>,
    now: Option<Run>,
    row_bytes: u64,
    kept: Option<(usize, Vec<u8>)>,
    keeps: bool,
    /// What the latest [`Rows::take`] took.
    taken: Vec<Run>,
}

impl<'a> Rows<'a> {
    fn new(tensors: &'a Tensors, runs: &'a [Run], row_bytes: u64) -> Rows<'a> {
        // Long runs are read as they are; of short ones a small tensor is read once.
        let rows: u64 = runs.iter().map(|r| r.n).sum();
        let mean = rows.saturating_mul(row_bytes) / (runs.len() as u64).max(1);
        let keeps = mean < 1 << 16;
        Rows {
            tensors,
            runs: runs.iter(),
            now: None,
            row_bytes,
            kept: None,
            keeps,
            taken: Vec::new(),
        }
    }

    /// Fills `to` with at most `most` more rows. How many; 0 when there are no more.
    fn take(&mut self, most: u64, to: &mut Vec<u8>) -> io::Result<u64> {
        self.taken.clear();
        let (mut taken, mut at) = (0, 0);
        while taken < most {
            let Some(run) = self.now.take().or_else(|| self.runs.next().copied()) else { break };
            let n = run.n.min(most - taken);
            let end = at + (n * self.row_bytes) as usize;
            // What is there from before is written over: zeros are written where there is nothing yet.
            if to.len() < end {
                to.resize(end, 0);
            }
            self.read(run.tensor, run.first * self.row_bytes, &mut to[at..end])?;
            at = end;
            self.taken.push(Run { n, ..run });
            taken += n;
            if n < run.n {
                self.now = Some(Run { first: run.first + n, n: run.n - n, ..run });
            }
        }
        to.truncate(at);
        Ok(taken)
    }

    fn read(&mut self, tensor: usize, at: u64, to: &mut [u8]) -> io::Result<()> {
        let n_bytes = self.tensors.get(tensor).map_or(u64::MAX, |t| t.n_bytes);
        if !self.keeps || n_bytes > KEPT {
            return self.tensors.read(tensor, at, to);
        }
        if self.kept.as_ref().is_none_or(|(kept, _)| *kept != tensor) {
            let mut bytes = vec![0; n_bytes as usize];
            self.tensors.read(tensor, 0, &mut bytes)?;
            self.kept = Some((tensor, bytes));
        }
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "a row outside its tensor");
        let bytes = self.kept.as_ref().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
        to.copy_from_slice(
            bytes.get(at as usize..).and_then(|b| b.get(..to.len())).ok_or_else(outside)?,
        );
        Ok(())
    }
}

fn copy(rows: &mut Rows<'_>, to: &mut dyn Write) -> io::Result<()> {
    let most = (PIECE as u64 / rows.row_bytes.max(1)).max(1);
    let mut bytes = Vec::new();
    while rows.take(most, &mut bytes)? > 0 {
        to.write_all(&bytes)?;
    }
    Ok(())
}

/// A tensor whose elements are changed or stored otherwise.
struct Made<'a> {
    out: &'a Out,
    ty: QuantType,
    stored: Stored,
    /// Elements of a stored row.
    len: usize,
    columns: &'a Option<Vec<u32>>,
}

impl Made<'_> {
    fn write(&self, rows: &mut Rows<'_>, tensors: &Tensors, to: &mut dyn Write) -> io::Result<()> {
        let mut fp8 = (self.stored == Stored::F8).then_some(Fp8Scales { tensors, kept: None });
        let matrix_rows = match self.out.shape.as_slice() {
            [.., rows, _] if self.out.transposed => Some(*rows),
            _ => None,
        };
        let usual = (PIECE / (4 * self.len.max(1))).max(1) as u64;
        let most = matrix_rows.unwrap_or(usual);
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let (mut bytes, mut first) = (Vec::new(), 0);
        loop {
            let n = rows.take(most, &mut bytes)?;
            if n == 0 {
                return Ok(());
            }
            if matrix_rows.is_some() || fp8.is_some() {
                to.write_all(&self.piece(&bytes, first, n, &rows.taken, fp8.as_mut())?)?;
            } else {
                let share = n.div_ceil(threads as u64).max(1);
                for made in self.shared(&bytes, first, share) {
                    to.write_all(&made?)?;
                }
            }
            first += n;
        }
    }

    /// The bytes of some rows, `share` of them on each thread, in order.
    fn shared(&self, bytes: &[u8], first: u64, share: u64) -> Vec<io::Result<Vec<u8>>> {
        let row_bytes = (self.stored.n_bytes() as usize).saturating_mul(self.len).max(1);
        let parts = bytes.chunks(row_bytes.saturating_mul(share as usize));
        std::thread::scope(|scope| {
            let work = |(i, part): (u64, &'_ [u8])| {
                self.piece(part, first + i * share, (part.len() / row_bytes) as u64, &[], None)
            };
            let started: Vec<_> =
                (0..).zip(parts).map(|part| scope.spawn(move || work(part))).collect();
            let gone = |_| Err(io::Error::other("a thread failed"));
            started.into_iter().map(|thread| thread.join().unwrap_or_else(gone)).collect()
        })
    }

    /// The bytes of `n` rows, the first of which is row `first` of the tensor.
    fn piece(
        &self,
        bytes: &[u8],
        first: u64,
        n: u64,
        runs: &[Run],
        fp8: Option<&mut Fp8Scales<'_>>,
    ) -> io::Result<Vec<u8>> {
        let mut values = Vec::new();
        to_f32(self.stored, bytes, &mut values);
        if let Some(scales) = fp8 {
            scales.apply(&mut values, self.len, runs)?;
        }
        if let Some(columns) = self.columns {
            values = values
                .chunks_exact(self.len)
                .flat_map(|row| columns.iter().map(|c| row[*c as usize]))
                .collect();
        }
        self.change(&mut values, first);
        if self.out.transposed {
            values = transposed(&values, n as usize);
        }
        stored(self.ty, &values)
    }

    fn change(&self, values: &mut [f32], first: u64) {
        match &self.out.change {
            Change::Nothing => {}
            Change::Plus(x) => values.iter_mut().for_each(|v| *v += x),
            Change::Times(x) => values.iter_mut().for_each(|v| *v *= x),
            Change::NegExp => values.iter_mut().for_each(|v| *v = -v.exp()),
            Change::TimesByRow(factors) => {
                for (row, values) in (first..).zip(values.chunks_mut(self.len.max(1))) {
                    let factor = factors.iter().find(|(end, _)| row < *end).map_or(1.0, |f| f.1);
                    values.iter_mut().for_each(|v| *v *= factor);
                }
            }
        }
    }
}

fn to_f32(stored: Stored, bytes: &[u8], values: &mut Vec<f32>) {
    values.clear();
    match stored {
        Stored::F32 => values.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        Stored::F16 => {
            values.extend(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()));
        }
        Stored::BF16 => {
            values.extend(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()));
        }
        Stored::F8 => values.extend(bytes.iter().map(|b| e4m3(*b))),
        Stored::U8 | Stored::Other(_) => {}
    }
}

/// FP8 with four bits of exponent, biased by 7; all bits set is no number.
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * (1.0 / 512.0),
        _ => (1.0 + mantissa / 8.0) * ((exponent - 7) as f32).exp2(),
    };
    if byte >> 7 == 1 { -magnitude } else { magnitude }
}

/// Columns become rows.
fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len().checked_div(rows).unwrap_or(0);
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

/// The values as `ty`.
fn stored(ty: QuantType, values: &[f32]) -> io::Result<Vec<u8>> {
    let uneven = || io::Error::new(io::ErrorKind::InvalidInput, "rows are no whole blocks");
    if ty == QuantType::F16 {
        // The same numbers as one by one, in the CPU's own instruction.
        let mut halves = vec![f16::ZERO; values.len()];
        halves.convert_from_f32_slice(values);
        let mut bytes = vec![0; values.len().saturating_mul(2)];
        for (to, x) in bytes.as_chunks_mut().0.iter_mut().zip(&halves) {
            *to = x.to_le_bytes();
        }
        return Ok(bytes);
    }
    let mut bytes = vec![0; ty.row_bytes(values.len()).ok_or_else(uneven)?];
    quantize(ty, values, &mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// Rows and columns that share an FP8 scale.
const FP8_BLOCK: usize = 128;

/// Scales of FP8 matrices: one, or one for each square block. Those of the latest matrix are kept.
struct Fp8Scales<'a> {
    tensors: &'a Tensors,
    kept: Option<(usize, Vec<f32>, usize)>,
}

impl Fp8Scales<'_> {
    fn apply(&mut self, values: &mut [f32], len: usize, runs: &[Run]) -> io::Result<()> {
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "fewer scales than blocks");
        let rows = runs.iter().flat_map(|r| (r.first..r.first + r.n).map(|row| (r.tensor, row)));
        for ((tensor, row), values) in rows.zip(values.chunks_mut(len.max(1))) {
            if self.kept.as_ref().is_none_or(|(kept, ..)| *kept != tensor) {
                self.kept = Some(self.read(tensor)?);
            }
            let Some((_, scales, columns)) = &self.kept else { return Err(missing()) };
            for (block, values) in values.chunks_mut(FP8_BLOCK).enumerate() {
                let at = match scales.len() {
                    1 => 0,
                    _ => row as usize / FP8_BLOCK * columns + block,
                };
                let scale = *scales.get(at).ok_or_else(missing)?;
                values.iter_mut().for_each(|v| *v *= scale);
            }
        }
        Ok(())
    }

    /// The scales of a matrix, and how many a row of blocks has.
    fn read(&self, tensor: usize) -> io::Result<(usize, Vec<f32>, usize)> {
        let gone = || io::Error::new(io::ErrorKind::InvalidData, "an FP8 tensor without scales");
        let index = self.tensors.scales_of(tensor).ok_or_else(gone)?;
        let scales = self.tensors.get(index).ok_or_else(gone)?;
        let mut bytes = vec![0; scales.n_bytes as usize];
        self.tensors.read(index, 0, &mut bytes)?;
        let mut values = Vec::new();
        to_f32(scales.stored, &bytes, &mut values);
        Ok((tensor, values, scales.shape.last().map_or(1, |n| *n as usize)))
    }
}

/// FP4 in blocks of 32 with a scale each: neighbours share a byte there; in GGUF an element shares it with
/// the one 16 places on, and the scale stands before its block.
fn fp4(
    runs: &[Run],
    row_bytes: usize,
    scales: usize,
    tensors: &Tensors,
    to: &mut dyn Write,
) -> io::Result<()> {
    const HALF: usize = FP4_BLOCK / 2;
    let blocks = row_bytes / HALF;
    let most = (PIECE / row_bytes.max(1)).max(1) as u64;
    let mut codes = Rows::new(tensors, runs, row_bytes as u64);
    let scale_runs: Vec<Run> = runs.iter().map(|r| Run { tensor: scales, ..*r }).collect();
    let mut scales = Rows::new(tensors, &scale_runs, blocks as u64);
    let (mut bytes, mut exponents, mut made) = (Vec::new(), Vec::new(), Vec::new());
    while codes.take(most, &mut bytes)? > 0 {
        scales.take(most, &mut exponents)?;
        made.clear();
        for (block, exponent) in bytes.as_chunks::<HALF>().0.iter().zip(&exponents) {
            let code = |i: usize| block[i / 2] >> (4 * (i % 2)) & 15;
            made.push(*exponent);
            made.extend((0..HALF).map(|i| code(i) | code(i + HALF) << 4));
        }
        to.write_all(&made)?;
    }
    Ok(())
}
