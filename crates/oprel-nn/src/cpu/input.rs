//! The first residual: token embeddings, positions, constant rows, rows that the batch brings.

use std::sync::Arc;

use oprel_cpu::Parts;
use oprel_cpu::pool::SCRATCH_BYTES;

use super::arena::Buf;
use super::compile::{Compiler, unsupported};
use super::run::{Memories, Run};
use crate::batch::Batch;
use crate::describe;
use crate::weights::{QMatrix, WeightId};
use crate::{Error, Result};

/// Elements of a row that a thread has room to decode.
const MOST_WIDTH: usize = SCRATCH_BYTES / 4;

/// Terms of the first residual.
#[derive(Debug)]
pub(super) struct Inputs {
    terms: Vec<Input>,
}

#[derive(Debug)]
enum Input {
    Token { table: QMatrix, scale: f32 },
    Position { table: QMatrix, offset: usize },
    Row(Arc<[f32]>),
}

impl Inputs {
    pub(super) fn compile(c: &mut Compiler<'_>) -> Result<Inputs> {
        if c.width > MOST_WIDTH {
            return Err(unsupported(format!("a residual of {} elements", c.width)));
        }
        let terms: Result<_> = c.decoder.inputs.iter().map(|i| Input::compile(c, i)).collect();
        Ok(Inputs { terms: terms? })
    }

    /// Fills the residual (n, width), tokens shared out among threads.
    pub(super) fn run(&self, run: &mut Run<'_>, residual: Buf) -> Result<()> {
        let (n, batch, width) = (run.n, run.batch, residual.cols);
        let Memories { arena, spans, .. } = &mut *run.mem;
        let positions = |token: usize| spans.iter().find_map(|s| s.position(token)).unwrap_or(0);
        self.terms.iter().try_for_each(|term| term.check(batch, n, &positions))?;
        run.pool.run_parts(Parts::new(arena.row(n, residual), width), |token, y, worker| {
            y.fill(0.0);
            let row = &mut worker.scratch()[..width];
            for term in &self.terms {
                term.add(batch, (token, &positions), y, row);
            }
        });
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

    /// Refuses tokens and positions that have no row.
    fn check(&self, batch: &Batch<'_>, n: usize, position: &impl Fn(usize) -> usize) -> Result<()> {
        match self {
            Input::Token { table, .. } => {
                let brought = |i: usize| brought_row(batch, i, table.cols as usize).is_some();
                let looked_up = batch.tokens.iter().enumerate().filter(|(i, _)| !brought(*i));
                looked_up.map(|(_, &id)| row_of(table, id as usize)).try_for_each(|r| r.map(drop))
            }
            Input::Position { table, offset } => {
                let mut rows = (0..n).map(|token| row_of(table, position(token) + offset));
                rows.try_for_each(|row| row.map(drop))
            }
            Input::Row(_) => Ok(()),
        }
    }

    /// Adds the term of one token; `row` is memory for a decoded row.
    fn add(
        &self,
        batch: &Batch<'_>,
        (token, position): (usize, &impl Fn(usize) -> usize),
        y: &mut [f32],
        row: &mut [f32],
    ) {
        // What cannot be read was refused before.
        let decode = |table: &QMatrix, at: usize, row: &mut [f32]| {
            let bytes = row_of(table, at)?;
            Ok::<_, Error>(oprel_quant::dequantize(table.ty, bytes, row)?)
        };
        match self {
            Input::Token { table, scale } => match brought_row(batch, token, y.len()) {
                Some(own) => y.iter_mut().zip(own).for_each(|(y, x)| *y += x),
                None => {
                    let read = decode(table, batch.tokens[token] as usize, row);
                    debug_assert!(read.is_ok());
                    y.iter_mut().zip(&*row).for_each(|(y, x)| *y += scale * x);
                }
            },
            Input::Position { table, offset } => {
                let read = decode(table, position(token) + offset, row);
                debug_assert!(read.is_ok());
                y.iter_mut().zip(&*row).for_each(|(y, x)| *y += x);
            }
            Input::Row(constant) => y.iter_mut().zip(&**constant).for_each(|(y, x)| *y += x),
        }
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
    // A table that cannot be read is refused here, so that no step meets one.
    constant_row(table, 0, c.width)?;
    c.reads(id);
    Ok(table.clone())
}

/// One row of a table of rows of `width` elements.
pub(super) fn constant_row(table: &QMatrix, row: u32, width: usize) -> Result<Arc<[f32]>> {
    if table.cols as usize != width || row >= table.rows {
        return Err(Error::Description(format!("'{}' has no row {row} of {width}", table.name)));
    }
    let mut values = vec![0.0; width];
    oprel_quant::dequantize(table.ty, row_of(table, row as usize)?, &mut values)?;
    Ok(values.into())
}

/// Row `row` of a table, as stored.
fn row_of(table: &QMatrix, row: usize) -> Result<&[u8]> {
    let len = table.row_bytes();
    let start = row.checked_mul(len);
    let bytes = start.and_then(|start| table.bytes().get(start..)?.get(..len));
    bytes.ok_or_else(|| {
        Error::Batch(format!("row {row} of '{}', which has {}", table.name, table.rows))
    })
}
