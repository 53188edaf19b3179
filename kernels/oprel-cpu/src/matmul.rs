//! Matrix times activations on the pool: any quant type, any number of tokens, several matrices
//! in one region.
//!
//! One token meets each row where it lies; a few tokens share the unpacking of a row; many tokens
//! meet panels of unpacked rows in a thread's scratch. All give the same bits.

use crate::act::{ActFormat, Acts, F32Acts, Q8Acts};
use crate::disjoint::Disjoint;
use crate::table::{
    BlockKernels, DOT_N, Kernels, NumberKernels, Panel, PanelSize, Rows, TypeKernels, is_multiplied,
};
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

/// One multiplication: `out` (n, rows) = `acts` (n, cols) times the transpose of `w` (rows, cols),
/// plus `bias` (rows).
pub struct MatMul<'a> {
    w: MatRef<'a>,
    acts: Acts<'a>,
    bias: Option<&'a [f32]>,
    out: Disjoint<'a, f32>,
}

impl<'a> MatMul<'a> {
    /// A multiplication to be done by [`matmul_all`].
    ///
    /// # Panics
    /// If shapes do not fit each other, or the activations are not what `w` wants.
    pub fn new(
        w: MatRef<'a>,
        acts: Acts<'a>,
        bias: Option<&'a [f32]>,
        out: &'a mut [f32],
    ) -> MatMul<'a> {
        assert_eq!(w.cols(), acts.k(), "a matrix meets activations of its width");
        assert_eq!(out.len(), acts.n() * w.rows(), "a result for each token and row");
        assert!(bias.is_none_or(|bias| bias.len() == w.rows()), "a bias for each row");
        let format = match acts {
            Acts::F32(_) => ActFormat::F32,
            Acts::Q8(_) => ActFormat::Q8,
        };
        assert_eq!(format, w.act_format(), "{} wants other activations", w.ty());
        MatMul { w, acts, bias, out: Disjoint::new(out) }
    }

    /// What a row costs, in bytes read, arithmetic counted at eight multiplications a byte.
    fn row_cost(&self) -> usize {
        self.w.rows.row_bytes + self.w.cols() * self.acts.n() / 8
    }

    /// Rows of a chunk that costs about `chunk_cost`.
    fn chunk_rows(&self, chunk_cost: usize) -> usize {
        let rows = chunk_cost / self.row_cost().max(1);
        rows.max(1).next_multiple_of(ROW_MULTIPLE)
    }

    /// Chunks of about `chunk_cost`.
    fn n_chunks(&self, chunk_cost: usize) -> usize {
        if self.acts.n() == 0 {
            return 0;
        }
        self.w.rows().div_ceil(self.chunk_rows(chunk_cost))
    }
}

/// Chunks that each thread finds, so that one which is held up leaves its share to others.
const CHUNKS_PER_THREAD: usize = 8;
/// A chunk is not worth taking for less, in the measure of [`MatMul::row_cost`].
const MIN_CHUNK_COST: usize = 16 << 10;
/// Chunks have rows by this number, so that threads do not write to the same cache lines, and panels
/// are full.
const ROW_MULTIPLE: usize = 32;
/// f32 words of a panel of numbers: what stays in a core's cache beside the activations that it meets.
const PANEL_WORDS: usize = 24 << 10;
/// Rows of a panel of numbers at most.
const PANEL_ROWS: usize = 16;
/// Tokens whose results are kept beside a panel before they are written out: whole register tiles
/// of all tiers.
const TILE_TOKENS: usize = 96;

/// Multiplies once; see [`MatMul`].
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
    let total: usize = jobs.iter().map(|job| job.row_cost() * job.w.rows()).sum();
    let chunk_cost = (total / (pool.n_threads() * CHUNKS_PER_THREAD)).max(MIN_CHUNK_COST);
    let n_chunks = jobs.iter().map(|job| job.n_chunks(chunk_cost)).sum();
    pool.run(n_chunks, |mut chunk, worker| {
        for job in jobs {
            let n = job.n_chunks(chunk_cost);
            if chunk < n {
                let chunk_rows = job.chunk_rows(chunk_cost);
                let start = chunk * chunk_rows;
                run_rows(kernels, job, start, (start + chunk_rows).min(job.w.rows()), worker);
                return;
            }
            chunk -= n;
        }
    });
}

/// Computes results of rows `start..end` for all tokens; no other thread has these rows.
fn run_rows(kernels: &Kernels, job: &MatMul<'_>, start: usize, end: usize, worker: &mut Worker) {
    let rows = job.w.rows.range(start, end);
    let out = Columns { job, start };
    match (kernels.of(job.w.ty()), job.acts) {
        (Some(TypeKernels::Block(of)), Acts::Q8(acts)) => {
            run_blocks(kernels, of, rows, acts, &out, worker.scratch());
        }
        (Some(TypeKernels::Number(of)), Acts::F32(acts)) => {
            run_numbers(kernels, of, rows, acts, &out, worker.scratch());
        }
        _ => unreachable!("a job's activations are what its matrix wants"),
    }
}

/// The results that belong to a chunk of rows: some columns of `out` (n, rows).
struct Columns<'a> {
    job: &'a MatMul<'a>,
    start: usize,
}

impl Columns<'_> {
    /// Results of token `t` for `n` rows from the chunk's row `r`, for `write` to fill; then the
    /// bias is added.
    fn fill(&self, t: usize, r: usize, n: usize, write: impl FnOnce(&mut [f32])) {
        let first = self.start + r;
        let at = t * self.job.w.rows() + first;
        // SAFETY: a chunk's rows belong to one thread, which takes one range at a time.
        #[expect(unsafe_code, reason = "threads write disjoint columns of one matrix")]
        let out = unsafe { self.job.out.range(at..at + n) };
        write(out);
        if let Some(bias) = self.job.bias {
            for (y, b) in out.iter_mut().zip(&bias[first..]) {
                *y += b;
            }
        }
    }

    /// Writes out `n` columns of a tile (tokens, `stride`) that begins at token `t` and the chunk's
    /// row `r`.
    fn put(&self, t: usize, r: usize, n: usize, (tile, stride): (&[f32], usize)) {
        for (i, row) in tile.chunks_exact(stride).enumerate() {
            self.fill(t + i, r, n, |out| out.copy_from_slice(&row[..n]));
        }
    }
}

fn run_blocks(
    kernels: &Kernels,
    of: BlockKernels,
    rows: Rows<'_>,
    acts: Q8Acts<'_>,
    out: &Columns<'_>,
    scratch: &mut [f32],
) {
    let n = acts.n();
    if n == 1 {
        return out.fill(0, 0, rows.n(), |y| (of.dot)(rows, acts.row(0), y));
    }
    let PanelSize { rows: panel_rows, words } = (kernels.panel_size)(rows.ty, rows.k);
    let scratch = aligned(scratch);
    let (tile, memory) = scratch.split_at_mut(panel_rows.max(PANEL_ROWS) * TILE_TOKENS);
    if n <= DOT_N || words > memory.len() {
        return run_few(of, rows, acts, out, tile);
    }
    for r in (0..rows.n()).step_by(panel_rows) {
        let part = rows.range(r, (r + panel_rows).min(rows.n()));
        let memory = &mut memory[..words];
        let mut panel = Panel { ty: rows.ty, k: rows.k, n_rows: part.n(), memory };
        (of.unpack_panel)(part, &mut panel);
        for t in (0..n).step_by(TILE_TOKENS) {
            let acts = acts.range(t, (t + TILE_TOKENS).min(n));
            let tile = &mut tile[..acts.n() * panel_rows];
            (of.gemm)(&panel, acts, tile);
            out.put(t, r, part.n(), (tile, panel_rows));
        }
    }
}

/// Scratch from its first whole cache line on.
fn aligned(scratch: &mut [f32]) -> &mut [f32] {
    let before = scratch.as_ptr().align_offset(64).min(scratch.len());
    &mut scratch[before..]
}

/// Tokens by [`DOT_N`], without a panel.
fn run_few(
    of: BlockKernels,
    rows: Rows<'_>,
    acts: Q8Acts<'_>,
    out: &Columns<'_>,
    tile: &mut [f32],
) {
    let tile_rows = tile.len() / DOT_N;
    for r in (0..rows.n()).step_by(tile_rows) {
        let part = rows.range(r, (r + tile_rows).min(rows.n()));
        for t in (0..acts.n()).step_by(DOT_N) {
            let acts = acts.range(t, (t + DOT_N).min(acts.n()));
            let tile = &mut tile[..acts.n() * part.n()];
            (of.dot_n)(part, acts, tile);
            out.put(t, r, part.n(), (tile, part.n()));
        }
    }
}

fn run_numbers(
    kernels: &Kernels,
    of: NumberKernels,
    rows: Rows<'_>,
    acts: F32Acts<'_>,
    out: &Columns<'_>,
    scratch: &mut [f32],
) {
    let (n, k) = (acts.n(), rows.k);
    let (tile, memory) = scratch.split_at_mut(PANEL_ROWS * TILE_TOKENS);
    if n == 1 || k > memory.len() {
        for t in 0..n {
            out.fill(t, 0, rows.n(), |y| (of.dot)(rows, acts.row(t), y));
        }
        return;
    }
    let panel_rows = (PANEL_WORDS / k).clamp(1, PANEL_ROWS);
    for r in (0..rows.n()).step_by(panel_rows) {
        let part = rows.range(r, (r + panel_rows).min(rows.n()));
        let widened = &mut memory[..part.n() * k];
        (of.widen)(part, widened);
        for t in (0..n).step_by(TILE_TOKENS) {
            let acts = acts.range(t, (t + TILE_TOKENS).min(n));
            let tile = &mut tile[..acts.n() * part.n()];
            (kernels.gemm_f32)(widened, acts, tile);
            out.put(t, r, part.n(), (tile, part.n()));
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
pub(crate) mod tests;
