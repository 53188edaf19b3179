//! Matrix times activations on the pool: any quant type, any number of tokens, several matrices
//! in one region.
//!
//! One token meets each row where it lies; a few tokens share the unpacking of a row; many tokens
//! meet panels of unpacked rows in a thread's scratch. All give the same bits. What becomes of a
//! result (stored, added, activated, quantized) happens where it was computed, while it is in cache.

mod experts;
mod product;
mod result;

pub use experts::{Activated, Places, activated_experts, matmul_experts, sum_products};
pub use product::Product;

use self::product::{Scratch, Shape};
use self::result::{To, activated};
use crate::act::{ActFormat, Acts, Q8Mut, SCALED, Share};
use crate::activation::Activation;
use crate::disjoint::Disjoint;
use crate::table::{Kernels, Rows, is_multiplied};
use crate::{Error, Parts, Pool, Worker};
use oprel_quant::QuantType;

/// A matrix as stored: `rows` rows of `cols` weights.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a> {
    rows: Rows<'a>,
    n_rows: usize,
}

impl<'a> MatRef<'a> {
    /// A matrix (rows, cols) of `ty` in `bytes`.
    ///
    /// # Errors
    /// [`Error::Type`] for types that cannot be multiplied, [`Error::Matrix`] if `bytes` is not
    /// exactly what the shape takes.
    pub fn new(ty: QuantType, rows: usize, cols: usize, bytes: &'a [u8]) -> Result<Self, Error> {
        if !is_multiplied(ty) {
            return Err(Error::Type { ty });
        }
        let row_bytes = ty.row_bytes(cols).filter(|bytes| *bytes > 0);
        let total = row_bytes.and_then(|row| row.checked_mul(rows));
        let (Some(row_bytes), true) = (row_bytes, total == Some(bytes.len())) else {
            return Err(Error::Matrix { ty, rows, cols, bytes: bytes.len() });
        };
        Ok(MatRef { rows: Rows { ty, k: cols, row_bytes, bytes }, n_rows: rows })
    }

    /// How the weights are stored.
    pub fn ty(&self) -> QuantType {
        self.rows.ty
    }

    /// How many rows: elements of a result.
    pub fn rows(&self) -> usize {
        self.n_rows
    }

    /// Weights of a row: elements of an activation.
    pub fn cols(&self) -> usize {
        self.rows.k
    }

    /// What its activations must be.
    pub fn act_format(&self) -> ActFormat {
        ActFormat::of(self.rows.ty)
    }

    /// Rows `start..end` alone.
    ///
    /// # Panics
    /// If they are not rows of the matrix.
    pub fn slice(&self, start: usize, end: usize) -> MatRef<'a> {
        MatRef { rows: self.rows.range(start, end), n_rows: end - start }
    }
}

/// One multiplication, to be done by [`matmul_all`]: what is multiplied, and what becomes of it.
pub struct MatMul<'a>(Job<'a>);

/// A multiplication. Copies write to the same memory: only one is run.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    product: Product<'a>,
    /// Multiplies the result, activated.
    gate: Option<Product<'a>>,
    /// On the gate, or on the product where there is none.
    activation: Option<Activation>,
    to: To<'a>,
}

impl<'a> MatMul<'a> {
    /// `out` (n, rows) = `acts` (n, cols) times the transpose of `w` (rows, cols), plus `bias` (rows).
    ///
    /// # Panics
    /// If shapes do not fit each other, or the activations are not what `w` wants.
    pub fn new(
        w: MatRef<'a>,
        acts: Acts<'a>,
        bias: Option<&'a [f32]>,
        out: &'a mut [f32],
    ) -> MatMul<'a> {
        MatMul::store(Product::new(w, acts, bias), out)
    }

    /// `out` (n, rows) = the product.
    ///
    /// # Panics
    /// If `out` is not of that shape.
    pub fn store(product: Product<'a>, out: &'a mut [f32]) -> MatMul<'a> {
        assert_eq!(out.len(), product.len(), "a result for each token and row");
        MatMul(Job { product, gate: None, activation: None, to: To::Store(Disjoint::new(out)) })
    }

    /// `to` (n, rows) += `factor` times the product, rounded twice.
    ///
    /// # Panics
    /// If `to` is not of that shape.
    pub fn add(product: Product<'a>, to: &'a mut [f32], factor: f32) -> MatMul<'a> {
        assert_eq!(to.len(), product.len(), "a result for each token and row");
        let to = To::Add(Disjoint::new(to), factor);
        MatMul(Job { product, gate: None, activation: None, to })
    }

    /// The same with the result activated: `f(product)`, or `f(gate) * product`.
    ///
    /// # Panics
    /// If the gate is of another shape.
    pub fn activated(self, f: Activation, gate: Option<Product<'a>>) -> MatMul<'a> {
        let MatMul(job) = self;
        MatMul(Job::activated(job.product, gate, f, job.to))
    }

    /// The activated result quantized to `acts` (n, rows), as [`MatMul::activated`]; `wide` (n, rows)
    /// is memory for it meanwhile.
    ///
    /// # Panics
    /// If shapes do not fit each other.
    pub fn quantized(
        product: Product<'a>,
        f: Activation,
        gate: Option<Product<'a>>,
        wide: &'a mut [f32],
        acts: &'a mut Q8Mut<'_>,
    ) -> MatMul<'a> {
        assert_eq!(wide.len(), product.len(), "a result for each token and row");
        assert_eq!((acts.n(), acts.k()), (product.n(), product.rows()), "a token for each");
        let to = To::Quantize { wide: Disjoint::new(wide), acts, first: 0 };
        MatMul(Job::activated(product, gate, f, to))
    }
}

impl<'a> Job<'a> {
    /// A product that is activated, or gated.
    fn activated(
        product: Product<'a>,
        gate: Option<Product<'a>>,
        f: Activation,
        to: To<'a>,
    ) -> Job<'a> {
        let shape = |p: &Product<'_>| (p.n(), p.rows());
        assert!(gate.is_none_or(|gate| shape(&gate) == shape(&product)), "a gate of its shape");
        Job { product, gate, activation: Some(f), to }
    }

    fn rows(&self) -> usize {
        self.product.rows()
    }

    fn row_cost(&self) -> usize {
        self.product.row_cost() + self.gate.map_or(0, |gate| gate.row_cost())
    }

    /// Rows of a chunk that costs about `chunk_cost`.
    fn chunk_rows(&self, chunk_cost: usize) -> usize {
        chunk_rows(self.row_cost(), chunk_cost).next_multiple_of(self.shared_rows())
    }

    /// Rows of a result that share a scale where it is quantized.
    fn shared_rows(&self) -> usize {
        match self.to {
            To::Quantize { acts, .. } => acts.share().elements(),
            _ => Share::Block.elements(),
        }
    }

    /// Chunks of about `chunk_cost`.
    fn n_chunks(&self, chunk_cost: usize) -> usize {
        if self.product.n() == 0 {
            return 0;
        }
        self.rows().div_ceil(self.chunk_rows(chunk_cost))
    }
}

/// Chunks that each thread finds, so that one which is held up leaves its share to others.
const CHUNKS_PER_THREAD: usize = 8;
/// A chunk is not worth taking for less, in the measure of [`Product::row_cost`].
const MIN_CHUNK_COST: usize = 16 << 10;
/// Chunks have rows by this number, so that threads do not write to the same cache lines, panels are
/// full, and blocks of quantized results are whole.
const ROW_MULTIPLE: usize = SCALED;

/// What a chunk of work that costs `total` should cost.
fn chunk_cost(pool: &Pool, total: usize) -> usize {
    (total / (pool.n_threads() * CHUNKS_PER_THREAD)).max(MIN_CHUNK_COST)
}

/// Rows of a chunk.
fn chunk_rows(row_cost: usize, chunk_cost: usize) -> usize {
    (chunk_cost / row_cost.max(1)).max(1).next_multiple_of(ROW_MULTIPLE)
}

/// Multiplies once; see [`MatMul::new`].
///
/// # Panics
/// As [`MatMul::new`].
pub fn matmul(
    pool: &mut Pool,
    kernels: &Kernels,
    w: MatRef<'_>,
    acts: Acts<'_>,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    matmul_all(pool, kernels, &mut [MatMul::new(w, acts, bias, out)]);
}

/// Does all of `jobs` in one region.
pub fn matmul_all(pool: &mut Pool, kernels: &Kernels, jobs: &mut [MatMul<'_>]) {
    let jobs = &*jobs;
    run_jobs(pool, kernels, jobs.len(), |i| jobs[i].0);
}

/// Does `n` jobs in one region; what they write does not overlap.
fn run_jobs<'j>(
    pool: &mut Pool,
    kernels: &Kernels,
    n: usize,
    job: impl Fn(usize) -> Job<'j> + Sync,
) {
    let total = (0..n).map(&job).map(|job| job.row_cost() * job.rows()).sum();
    let chunk_cost = chunk_cost(pool, total);
    let n_chunks = (0..n).map(|i| job(i).n_chunks(chunk_cost)).sum();
    pool.run(n_chunks, |mut chunk, worker| {
        for job in (0..n).map(&job) {
            let n = job.n_chunks(chunk_cost);
            if chunk < n {
                let chunk_rows = job.chunk_rows(chunk_cost);
                let start = chunk * chunk_rows;
                run_rows(kernels, &job, start, (start + chunk_rows).min(job.rows()), worker);
                return;
            }
            chunk -= n;
        }
    });
}

/// Computes results of rows `start..end` for all tokens; no other thread has these rows.
fn run_rows(kernels: &Kernels, job: &Job<'_>, start: usize, end: usize, worker: &mut Worker) {
    let Job { product, gate, activation, to } = *job;
    let (isa, n) = (kernels.isa(), product.n());
    let Scratch { tiles: [tile, gate_tile], panels: [panel, gate_panel] } =
        Scratch::of(worker, gate.is_some());
    let shape = product.shape(kernels, panel.len());
    let Shape { rows, tokens } =
        gate.map_or(shape, |gate| shape.both(gate.shape(kernels, gate_panel.len())));
    let in_blocks = rows.is_multiple_of(job.shared_rows()) || end - start <= rows;
    for r in (start..end).step_by(rows) {
        let part = r..(r + rows).min(end);
        let ready = product.ready(kernels, part.clone(), tokens, panel);
        let gate_ready = gate.map(|gate| gate.ready(kernels, part, tokens, gate_panel));
        for t in (0..n).step_by(tokens) {
            let of = t..(t + tokens).min(n);
            let y = product.multiply(kernels, &ready, r, of.clone(), tile);
            let gate = gate.zip(gate_ready.as_ref());
            let gate = gate.map(|(gate, ready)| gate.multiply(kernels, ready, r, of, gate_tile));
            let y = activated(isa, activation, y, gate);
            // SAFETY: a chunk's rows belong to one thread, and jobs do not overlap.
            #[expect(unsafe_code, reason = "threads write disjoint columns of one matrix")]
            unsafe {
                to.put(isa, job.rows(), (t, r), &y, in_blocks);
            }
        }
    }
    if !in_blocks {
        // SAFETY: as above.
        #[expect(unsafe_code, reason = "threads write disjoint columns of one matrix")]
        unsafe {
            to.finish(isa, job.rows(), n, (start, end));
        }
    }
}

/// Writes rows `ids` of `w` to `out` (ids, cols) as f32.
///
/// # Errors
/// [`Error::Token`] for an id beyond the rows; nothing is written then.
///
/// # Panics
/// If `out` is not of that shape.
pub fn embed_rows(
    pool: &mut Pool,
    w: MatRef<'_>,
    ids: &[u32],
    out: &mut [f32],
) -> Result<(), Error> {
    assert_eq!(out.len(), ids.len() * w.cols(), "a row for each token");
    if let Some(id) = ids.iter().find(|id| **id as usize >= w.rows()) {
        return Err(Error::Token { id: *id, rows: w.rows() });
    }
    pool.run_parts(Parts::new(out, w.cols()), |i, out, _| {
        let row = w.rows.range(ids[i] as usize, ids[i] as usize + 1);
        // A row of the right length and of a type with kernels: this cannot fail.
        let read = oprel_quant::dequantize(row.ty, row.bytes, out);
        debug_assert!(read.is_ok());
    });
    Ok(())
}

#[cfg(test)]
mod fused_tests;
#[cfg(test)]
pub(crate) mod tests;
