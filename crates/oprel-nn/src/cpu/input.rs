//! The first residual: token embeddings, positions, constant rows, rows that the batch brings.

use std::sync::Arc;

use super::arena::Buf;
use super::compile::{Compiler, unsupported};
use super::run::Run;
use crate::batch::Batch;
use crate::describe;
use crate::weights::{QMatrix, WeightId};
use crate::{Error, Result};

/// Terms of the first residual.
#[derive(Debug)]
pub(super) struct Inputs {
    terms: Vec<Input>,
    /// Where one looked-up row is decoded before it is added.
    row: Buf,
}

#[derive(Debug)]
enum Input {
    Token { table: QMatrix, scale: f32 },
    Position { table: QMatrix, offset: usize },
    Row(Arc<[f32]>),
}

impl Inputs {
    pub(super) fn compile(c: &mut Compiler<'_>) -> Result<Inputs> {
        let mark = c.layout.mark();
        let row = c.layout.buf(c.width)?;
        c.layout.release(mark);
        let terms: Result<_> = c.decoder.inputs.iter().map(|i| Input::compile(c, i)).collect();
        Ok(Inputs { terms: terms?, row })
    }

    /// Fills the residual (n, width).
    pub(super) fn run(&self, run: &mut Run<'_>, residual: Buf) -> Result<()> {
        run.mem.arena.row(run.n, residual).fill(0.0);
        for term in &self.terms {
            term.add(run, residual, self.row)?;
        }
        Ok(())
    }
}

impl Input {
    fn compile(c: &mut Compiler<'_>, input: &describe::Input) -> Result<Input> {
        Ok(match input {
            describe::Input::Token { table, scale } => {
                Input::Token { table: table_of(c, *table)?, scale: *scale }
            }
            describe::Input::Position { table, offset } => {
                Input::Position { table: table_of(c, *table)?, offset: *offset as usize }
            }
            describe::Input::Row { table, row } => {
                Input::Row(constant_row(c.weights.matrix(*table), *row, c.width)?)
            }
            describe::Input::NGram { .. } => return Err(unsupported("n-gram embeddings")),
        })
    }

    fn add(&self, run: &mut Run<'_>, residual: Buf, row: Buf) -> Result<()> {
        let (n, batch) = (run.n, run.batch);
        let spans = &run.mem.spans;
        let positions = spans.iter().flat_map(|s| s.start..s.start + s.n);
        let [residual, row] = run.mem.arena.ranges([residual.range(n), row.range(1)]);
        let rows = residual.chunks_exact_mut(row.len());
        match self {
            Input::Token { table, scale } => {
                for (i, (y, &token)) in rows.zip(batch.tokens).enumerate() {
                    if let Some(own) = brought_row(batch, i, row.len()) {
                        y.iter_mut().zip(own).for_each(|(y, x)| *y += x);
                        continue;
                    }
                    decode_row(table, token as usize, row)?;
                    y.iter_mut().zip(&*row).for_each(|(y, x)| *y += scale * x);
                }
            }
            Input::Position { table, offset } => {
                for (y, position) in rows.zip(positions) {
                    decode_row(table, position + offset, row)?;
                    y.iter_mut().zip(&*row).for_each(|(y, x)| *y += x);
                }
            }
            Input::Row(constant) => {
                for y in rows {
                    y.iter_mut().zip(&**constant).for_each(|(y, x)| *y += x);
                }
            }
        }
        Ok(())
    }
}

/// The row that the batch brings for token `i`, if it does.
fn brought_row<'a>(batch: &Batch<'a>, i: usize, width: usize) -> Option<&'a [f32]> {
    batch.embeds.iter().find_map(|e| {
        let start = i.checked_sub(e.at as usize)? * width;
        e.rows.get(start..start + width)
    })
}

fn table_of(c: &mut Compiler<'_>, id: WeightId) -> Result<QMatrix> {
    let table = c.weights.matrix(id);
    c.expect(&table.name, table.cols as usize, c.width)?;
    c.reads(id);
    Ok(table.clone())
}

/// One row of a table of rows of `width` elements.
pub(super) fn constant_row(table: &QMatrix, row: u32, width: usize) -> Result<Arc<[f32]>> {
    if table.cols as usize != width || row >= table.rows {
        return Err(Error::Description(format!("'{}' has no row {row} of {width}", table.name)));
    }
    let mut values = vec![0.0; width];
    decode_row(table, row as usize, &mut values)?;
    Ok(values.into())
}

/// Row `row` of a table as f32.
fn decode_row(table: &QMatrix, row: usize, out: &mut [f32]) -> Result<()> {
    let len = table.row_bytes();
    let bytes = table.bytes().chunks_exact(len).nth(row).ok_or_else(|| {
        Error::Batch(format!("row {row} of '{}', which has {}", table.name, table.rows))
    })?;
    Ok(oprel_quant::dequantize(table.ty, bytes, out)?)
}
