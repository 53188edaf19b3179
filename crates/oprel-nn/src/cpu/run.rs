//! A step in progress: what operations work on, and the plain arithmetic between them.

use oprel_cpu::activation::{self, Activation};
use oprel_cpu::attention::Seen;
use oprel_cpu::{Kernels, Parts, Pool, rope as kernel};

use super::acts::ActMemory;
use super::arena::{Arena, Buf, zeroed};
use super::compile::Rope;
use super::fine::Fine;
use super::kv::KvStore;
use super::output::HeadScratch;
use super::recurrent::RecurrentStore;
use super::router::Routes;
use crate::Result;
use crate::batch::Batch;
use crate::describe::Temperature;
use crate::exec::{Observer, StepOut};
use crate::state::StateView;

/// Elements that a thread takes at once in element-wise work.
pub(super) const CHUNK: usize = 1 << 14;
/// Tokens whose heads one thread turns at once.
const TOKENS: usize = 8;

/// All memory of an executor: taken when a model is prepared, used by every step.
#[derive(Debug)]
pub(super) struct Memories {
    pub(super) arena: Arena,
    pub(super) acts: ActMemory,
    /// For encoders.
    pub(super) fine: Option<Fine>,
    /// By slot; `None` for slots of another kind.
    pub(super) kv: Vec<Option<KvStore>>,
    /// Keys and values of attention that keeps none, as pages of one step; by shape.
    pub(super) uncached: Vec<KvStore>,
    /// By slot; `None` for slots of another kind.
    pub(super) recurrent: Vec<Option<RecurrentStore>>,
    /// Spans whose state is where it is worked on.
    pub(super) begun: Vec<bool>,
    pub(super) spans: Vec<SpanAt>,
    pub(super) tables: Tables,
    /// What each token sees in the attention that is running.
    pub(super) seen: Vec<Seen>,
    /// What attention works in where a context is split over threads.
    pub(super) partials: Box<[f32]>,
    /// For each span that is a tree, which of its tokens (n, n) each of them sees.
    pub(super) trees: Box<[bool]>,
    /// By group: how many positions its layers look at, the token itself included.
    pub(super) windows: Vec<usize>,
    pub(super) routes: Routes,
    pub(super) head: HeadScratch,
}

/// Where a span's tokens stand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SpanAt {
    /// First token in the batch.
    pub(super) first: usize,
    /// Tokens.
    pub(super) n: usize,
    /// Cache position of the first token.
    pub(super) start: usize,
}

impl SpanAt {
    /// Cache position of a token of the batch, if it is this span's.
    pub(super) fn position(&self, token: usize) -> Option<usize> {
        let at = token.checked_sub(self.first).filter(|at| *at < self.n)?;
        Some(self.start + at)
    }
}

/// Page numbers of spans: a table for each group, and one for attention that keeps nothing.
#[derive(Debug)]
pub(super) struct Tables {
    pages: Box<[u32]>,
    /// Pages of a table.
    pub(super) len: usize,
    /// Tables of a span.
    pub(super) n_groups: usize,
}

impl Tables {
    /// Tables of `len` pages for so many spans, of `n_groups` groups.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) if they cannot be had.
    pub(super) fn new(spans: usize, n_groups: usize, len: usize) -> Result<Tables> {
        let total = spans.checked_mul(n_groups).and_then(|n| n.checked_mul(len));
        let pages = zeroed(total.unwrap_or(usize::MAX), "page tables")?;
        Ok(Tables { pages, len, n_groups })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.pages.len() as u64 * 4
    }

    /// The table of a span in a group.
    pub(super) fn of(&self, span: usize, group: usize) -> &[u32] {
        &self.pages[(span * self.n_groups + group) * self.len..][..self.len]
    }

    /// The same, to be filled.
    pub(super) fn fill(&mut self, span: usize, group: usize) -> &mut [u32] {
        &mut self.pages[(span * self.n_groups + group) * self.len..][..self.len]
    }
}

/// Factor on the query at a position.
pub(super) fn temperature_at(t: &Temperature, position: i32) -> f32 {
    1.0 + t.scale * (((position as f32 + t.offset) / t.floor).floor() + 1.0).ln()
}

/// A step in progress.
pub(super) struct Run<'a> {
    /// Tokens of the batch.
    pub(super) n: usize,
    pub(super) batch: &'a Batch<'a>,
    pub(super) state: &'a StateView<'a>,
    pub(super) mem: &'a mut Memories,
    pub(super) pool: &'a mut Pool,
    pub(super) kernels: &'static Kernels,
    pub(super) ropes: &'a [Rope],
    pub(super) out: &'a mut StepOut,
    pub(super) watch: Option<&'a mut dyn Observer>,
}

impl Run<'_> {
    /// Copies rows from one buffer to another.
    pub(super) fn copy(&mut self, from: Buf, to: Buf) {
        let [from, to] = self.mem.arena.rows(self.n, [from, to]);
        to.copy_from_slice(from);
    }

    /// `to += scale * from`.
    pub(super) fn add(&mut self, to: Buf, from: Buf, scale: f32) {
        let isa = self.kernels.isa();
        let [to, from] = self.mem.arena.rows(self.n, [to, from]);
        self.pool.run_parts(Parts::new(to, CHUNK), |i, to, _| {
            activation::add_times(isa, to, &from[i * CHUNK..][..to.len()], scale);
        });
    }

    /// Multiplies each row by one factor, or by one an element.
    pub(super) fn scale_by(&mut self, buf: Buf, scale: &[f32]) {
        let rows = self.mem.arena.row(self.n, buf);
        match scale {
            [one] => rows.iter_mut().for_each(|y| *y *= one),
            all => {
                for row in rows.chunks_exact_mut(all.len()) {
                    row.iter_mut().zip(all).for_each(|(y, s)| *y *= s);
                }
            }
        }
    }

    /// Fills the table of a rope for the positions of the batch.
    pub(super) fn fill_angles(&mut self, rope: &Rope) {
        let [cos, sin] = self.mem.arena.rows(self.n, [rope.cos, rope.sin]);
        let (pairs, pos) = (rope.cos.cols, self.batch.pos);
        let parts = (Parts::new(cos, TOKENS * pairs), Parts::new(sin, TOKENS * pairs));
        self.pool.run_parts(parts, |i, (cos, sin), _| {
            let rows = cos.chunks_exact_mut(pairs).zip(sin.chunks_exact_mut(pairs));
            for (j, (cos, sin)) in rows.enumerate() {
                rope.angles.at(pos.components(i * TOKENS + j), cos, sin);
            }
        });
    }

    /// Turns the heads of a buffer by the angles of a rope; `offset` elements of a head stay.
    pub(super) fn rotate(&mut self, rope: usize, buf: Buf, (head_dim, offset): (usize, usize)) {
        let (isa, rope) = (self.kernels.isa(), &self.ropes[rope]);
        let rotation = kernel::Rotation { head_dim, offset, pairing: rope.pairing() };
        let pairs = rope.cos.cols;
        let [rows, cos, sin] = self.mem.arena.rows(self.n, [buf, rope.cos, rope.sin]);
        self.pool.run_parts(Parts::new(rows, TOKENS * buf.cols), |i, rows, _| {
            for (j, row) in rows.chunks_exact_mut(buf.cols).enumerate() {
                let at = (i * TOKENS + j) * pairs;
                kernel::rotate(isa, rotation, row, &cos[at..][..pairs], &sin[at..][..pairs]);
            }
        });
    }

    /// Multiplies each token's row by its temperature.
    pub(super) fn heat(&mut self, t: &Temperature, buf: Buf) {
        let rows = self.mem.arena.row(self.n, buf);
        for (i, row) in rows.chunks_exact_mut(buf.cols).enumerate() {
            let factor = temperature_at(t, self.batch.pos.components(i)[0]);
            row.iter_mut().for_each(|x| *x *= factor);
        }
    }

    /// Copies some columns of one buffer to some of another.
    pub(super) fn copy_columns(
        &mut self,
        (from, start): (Buf, usize),
        (to, at): (Buf, usize),
        len: usize,
    ) {
        let (from_cols, to_cols) = (from.cols, to.cols);
        let [from, to] = self.mem.arena.rows(self.n, [from, to]);
        for (from, to) in from.chunks_exact(from_cols).zip(to.chunks_exact_mut(to_cols)) {
            to[at..at + len].copy_from_slice(&from[start..start + len]);
        }
    }

    /// Replaces each element of a buffer by a function of it.
    pub(super) fn activate(&mut self, f: Activation, buf: Buf) {
        let isa = self.kernels.isa();
        let rows = self.mem.arena.row(self.n, buf);
        self.pool.run_parts(Parts::new(rows, CHUNK), |_, x, _| activation::activate(isa, f, x));
    }

    /// `gate = f(gate) * x`.
    pub(super) fn gate(&mut self, f: Activation, gate: Buf, x: Buf) {
        let isa = self.kernels.isa();
        let [gate, x] = self.mem.arena.rows(self.n, [gate, x]);
        self.pool.run_parts(Parts::new(gate, CHUNK), |i, gate, _| {
            activation::activate_gated(isa, f, gate, &x[i * CHUNK..][..gate.len()]);
        });
    }

    /// Adds a row to every row of a buffer.
    pub(super) fn add_row(&mut self, to: Buf, row: &[f32]) {
        let isa = self.kernels.isa();
        for to in self.mem.arena.row(self.n, to).chunks_exact_mut(row.len()) {
            activation::add(isa, to, row);
        }
    }

    /// Takes heads apart: the first elements of each go to one buffer, the rest to another.
    pub(super) fn split_heads(&mut self, (from, first): (Buf, usize), to: [Buf; 2], heads: usize) {
        let head = from.cols / heads;
        let [from, a, b] = self.mem.arena.rows(self.n, [from, to[0], to[1]]);
        let parts = a.chunks_exact_mut(first).zip(b.chunks_exact_mut(head - first));
        for (from, (a, b)) in from.chunks_exact(head).zip(parts) {
            a.copy_from_slice(&from[..first]);
            b.copy_from_slice(&from[first..]);
        }
    }
}
