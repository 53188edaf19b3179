//! A matrix for each head: MLA's ways into the latent and out of it.

use std::sync::Arc;

use oprel_cpu::act::{ActFormat, quantize_acts};
use oprel_cpu::{Acts, F32Acts, MatMul, MatRef, matmul_all};
use oprel_quant::QuantType;

use super::arena::Buf;
use super::compile::Compiler;
use super::run::Run;
use crate::weights::{QMatrix, WeightId};
use crate::{Error, Result};

/// Heads in one region.
const REGION: usize = 8;

/// A matrix (rows, cols) for each head, among the rows of one matrix.
#[derive(Debug)]
pub(super) struct PerHead {
    matrix: QMatrix,
    heads: usize,
    /// First row of the first head, and rows from one head to the next.
    first: usize,
    stride: usize,
    rows: usize,
    cols: usize,
    /// Which rows of activations (n, heads) each head reads: (heads, most tokens).
    reads: Arc<[u32]>,
    most: usize,
    /// What heads give, head by head (heads, n, rows).
    by_head: Buf,
}

impl PerHead {
    /// A matrix of (heads, rows, cols).
    pub(super) fn split(
        c: &mut Compiler<'_>,
        id: WeightId,
        (heads, rows, cols): (usize, usize, usize),
    ) -> Result<PerHead> {
        let matrix = c.weights.matrix(id).clone();
        let found = (matrix.experts as usize, matrix.rows as usize, matrix.cols as usize);
        if found != (heads, rows, cols) {
            let name = &matrix.name;
            let what = format!("'{name}' is {found:?}, not {:?}", (heads, rows, cols));
            return Err(Error::Description(what));
        }
        c.reads(id);
        PerHead::new(c, matrix, (0, rows), (heads, rows, cols))
    }

    /// Of a matrix (heads * (skipped + rows), cols) the last `rows` rows of each head.
    pub(super) fn tail_of(
        c: &mut Compiler<'_>,
        id: WeightId,
        skipped: usize,
        (heads, rows, cols): (usize, usize, usize),
    ) -> Result<PerHead> {
        let matrix = joint(c, id, heads * (skipped + rows), cols)?;
        c.reads(id);
        PerHead::new(c, matrix, (skipped, skipped + rows), (heads, rows, cols))
    }

    /// Of a matrix (heads * (cols + skipped), rows) the first `cols` rows of each head, transposed:
    /// a copy in f32.
    pub(super) fn transposed_head_of(
        c: &mut Compiler<'_>,
        id: WeightId,
        skipped: usize,
        (heads, rows, cols): (usize, usize, usize),
    ) -> Result<PerHead> {
        let matrix = joint(c, id, heads * (cols + skipped), rows)?;
        let shape = (heads as u32, rows as u32, cols as u32);
        let name = format!("{} (transposed)", matrix.name);
        c.converted += (heads * rows * cols * 4) as u64;
        if c.only_counts {
            let matrix = QMatrix::outline(&name, QuantType::F32, shape);
            return PerHead::new(c, matrix, (0, rows), (heads, rows, cols));
        }
        let all = matrix.to_f32()?;
        let mut bytes = Vec::with_capacity(heads * rows * cols * 4);
        for head in all.chunks_exact((cols + skipped) * rows) {
            for row in 0..rows {
                for col in 0..cols {
                    bytes.extend_from_slice(&head[col * rows + row].to_le_bytes());
                }
            }
        }
        let matrix = QMatrix::in_memory(&name, QuantType::F32, shape, bytes.into())?;
        PerHead::new(c, matrix, (0, rows), (heads, rows, cols))
    }

    fn new(
        c: &mut Compiler<'_>,
        matrix: QMatrix,
        (first, stride): (usize, usize),
        (heads, rows, cols): (usize, usize, usize),
    ) -> Result<PerHead> {
        c.turns(heads, matrix.ty, cols);
        if let ActFormat::Q8(share) = ActFormat::of(matrix.ty) {
            c.quantizes(share, heads, cols);
        }
        let most = c.layout.rows();
        let reads = c.reads_of_heads(heads);
        let by_head = c.layout.buf(heads * rows)?;
        let per_head = PerHead { matrix, heads, first, stride, rows, cols, reads, most, by_head };
        if !c.only_counts {
            per_head.all()?;
        }
        Ok(per_head)
    }

    /// The whole matrix.
    fn all(&self) -> Result<MatRef<'_>> {
        let rows = self.matrix.rows as usize * self.matrix.experts as usize;
        Ok(MatRef::new(self.matrix.ty, rows, self.cols, self.matrix.bytes())?)
    }

    /// Takes each head of `x` (n, heads * cols) through its matrix, to some columns of each head of
    /// `out`: (n, heads * `head_dim`), from the first on.
    pub(super) fn run(&self, run: &mut Run<'_>, x: Buf, out: Buf, head_dim: usize) -> Result<()> {
        let (n, all) = (run.n, self.all()?);
        let [x, by_head, out] = run.mem.arena.rows(n, [x, self.by_head, out]);
        let acts = match all.act_format() {
            ActFormat::F32 => {
                let (types, memory) = ([all.ty()].into_iter(), &mut run.mem.acts.turned);
                let acts = F32Acts::new(x, self.cols);
                Acts::F32(acts.turned(run.pool, run.kernels, types, memory))
            }
            ActFormat::Q8(share) => {
                let memory = &mut run.mem.acts.inner;
                Acts::Q8(quantize_acts(run.pool, run.kernels.isa(), share, x, self.cols, memory))
            }
        };
        let mut rest = &mut *by_head;
        for first in (0..self.heads).step_by(REGION) {
            let n_jobs = REGION.min(self.heads - first);
            let mut muls: [MatMul<'_>; REGION] = std::array::from_fn(|i| {
                // Places beyond the heads hold jobs of no rows.
                let (head, n) = if i < n_jobs { (first + i, n) } else { (first, 0) };
                let start = self.first + head * self.stride;
                let acts = select(acts, &self.reads[head * self.most..][..n]);
                let (mine, others) = std::mem::take(&mut rest).split_at_mut(n * self.rows);
                rest = others;
                MatMul::new(all.slice(start, start + self.rows), acts, None, mine)
            });
            matmul_all(run.pool, run.kernels, &mut muls[..n_jobs]);
        }
        let heads = by_head.chunks_exact(n * self.rows);
        for (head, rows) in heads.enumerate() {
            for (t, row) in rows.chunks_exact(self.rows).enumerate() {
                let at = (t * self.heads + head) * head_dim;
                out[at..at + self.rows].copy_from_slice(row);
            }
        }
        Ok(())
    }
}

/// Some rows of activations, in this order.
fn select<'a>(acts: Acts<'a>, rows: &'a [u32]) -> Acts<'a> {
    match acts {
        Acts::F32(acts) => Acts::F32(acts.select(rows)),
        Acts::Q8(acts) => Acts::Q8(acts.select(rows)),
    }
}

fn joint(c: &Compiler<'_>, id: WeightId, rows: usize, cols: usize) -> Result<QMatrix> {
    let matrix = c.weights.matrix(id);
    c.expect(&matrix.name, matrix.cols as usize, cols)?;
    c.expect(&matrix.name, matrix.rows as usize * matrix.experts as usize, rows)?;
    Ok(matrix.clone())
}
