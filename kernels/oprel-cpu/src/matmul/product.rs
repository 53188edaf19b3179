//! A product of a matrix and activations, some rows and some tokens at a time.

use super::MatRef;
use crate::Worker;
use crate::act::{ActFormat, Acts, SCALED};
use crate::table::{BlockKernels, Kernels, NumberKernels, Panel, Rows, TypeKernels};
use std::ops::Range;

/// `scale * (acts (n, cols) times the transpose of w (rows, cols)) + bias (rows)`: (n, rows).
#[derive(Clone, Copy)]
pub struct Product<'a> {
    w: MatRef<'a>,
    acts: Acts<'a>,
    scale: Option<f32>,
    bias: Option<&'a [f32]>,
}

/// Tokens whose results are kept beside a panel before they are written out: whole register tiles
/// of all tiers.
const TILE_TOKENS: usize = 96;
/// Bytes of rows that stay in cache while they meet tokens a few at a time.
const CACHED_BYTES: usize = 128 << 10;
/// Tokens of a tile of registers in most kernels.
const REGISTER_TOKENS: usize = 6;
/// f32 words of a tile of results.
const TILE_WORDS: usize = 32 * TILE_TOKENS;

/// A thread's scratch: tiles of results and memory of panels, of a product and of its gate.
pub(super) struct Scratch<'w> {
    pub(super) tiles: [&'w mut [f32]; 2],
    pub(super) panels: [&'w mut [f32]; 2],
}

impl<'w> Scratch<'w> {
    pub(super) fn of(worker: &'w mut Worker, gated: bool) -> Scratch<'w> {
        let (tile, rest) = aligned(worker.scratch()).split_at_mut(TILE_WORDS);
        let (gate_tile, memory) = rest.split_at_mut(TILE_WORDS);
        let gate = if gated { memory.len() / 2 } else { 0 };
        let (panel, rest) = memory.split_at_mut(memory.len() - gate);
        Scratch { tiles: [tile, gate_tile], panels: [panel, aligned(rest)] }
    }
}

/// Memory from its first whole cache line on.
fn aligned(memory: &mut [f32]) -> &mut [f32] {
    let before = memory.as_ptr().align_offset(64).min(memory.len());
    &mut memory[before..]
}

/// How many rows and tokens are taken at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) rows: usize,
    pub(super) tokens: usize,
}

impl Shape {
    /// What suits two products.
    pub(super) fn both(self, other: Shape) -> Shape {
        Shape { rows: self.rows.min(other.rows), tokens: self.tokens.min(other.tokens) }
    }
}

/// Rows that are ready to meet tokens.
pub(super) enum Ready<'r> {
    /// As they are stored.
    Stored(Rows<'r>),
    /// Unpacked.
    Panel(Panel<'r>),
}

/// Results of some tokens for some rows: (tokens, stride), of which the first `n_rows` count.
pub(super) struct Tile<'t> {
    pub(super) y: &'t mut [f32],
    pub(super) stride: usize,
    pub(super) n_rows: usize,
}

impl<'a> Product<'a> {
    /// The product of `w` and `acts`, plus `bias`.
    ///
    /// # Panics
    /// If shapes do not fit each other, or the activations are not what `w` wants.
    pub fn new(w: MatRef<'a>, acts: Acts<'a>, bias: Option<&'a [f32]>) -> Product<'a> {
        assert_eq!(w.cols(), acts.k(), "a matrix meets activations of its width");
        assert!(bias.is_none_or(|bias| bias.len() == w.rows()), "a bias for each row");
        let format = match acts {
            Acts::F32(_) => ActFormat::F32,
            Acts::Q8(acts) => ActFormat::Q8(acts.share()),
        };
        assert_eq!(format, w.act_format(), "{} wants other activations", w.ty());
        Product { w, acts, scale: None, bias }
    }

    /// The product times a factor, before the bias is added.
    #[must_use]
    pub fn scaled(self, factor: f32) -> Product<'a> {
        Product { scale: Some(factor), ..self }
    }

    /// How many tokens.
    pub fn n(&self) -> usize {
        self.acts.n()
    }

    /// Elements of a token's result.
    pub fn rows(&self) -> usize {
        self.w.rows()
    }

    /// Elements of all results.
    pub(super) fn len(&self) -> usize {
        self.n() * self.rows()
    }

    /// What a row costs, in bytes read, arithmetic counted at eight multiplications a byte.
    pub(super) fn row_cost(&self) -> usize {
        self.w.rows.row_bytes + self.w.cols() * self.n() / 8
    }

    fn kernels(&self, kernels: &Kernels) -> TypeKernels {
        match kernels.of(self.w.ty()) {
            Some(of) => of,
            None => unreachable!("a matrix is of a type with kernels"),
        }
    }

    /// Whether tokens are as panels meet them.
    fn are_turned(&self, kernels: &Kernels) -> bool {
        match (self.acts, kernels.turn(self.w.ty())) {
            (Acts::F32(acts), Some(turn)) => acts.are_turned(turn),
            _ => true,
        }
    }

    /// What is taken at once, with so much memory for a panel.
    pub(super) fn shape(&self, kernels: &Kernels, memory: usize) -> Shape {
        let (ty, k, n) = (self.w.ty(), self.w.cols(), self.n());
        let panel = (kernels.panel_size)(ty, k);
        if n == 1 {
            return Shape { rows: TILE_WORDS, tokens: 1 };
        }
        let few = kernels.few(ty);
        if n <= few.most || panel.words > memory || !self.are_turned(kernels) {
            // Parts of equal size; where there are several, rows stay in cache for the next.
            let parts = n.div_ceil(few.at_once).max(1);
            let cached = if parts == 1 { TILE_WORDS } else { CACHED_BYTES / self.w.rows.row_bytes };
            let tokens = n.div_ceil(parts).max(1);
            // Whole registers of rows, where there are many.
            let most = TILE_WORDS / tokens / SCALED * SCALED;
            return Shape { rows: cached.clamp(1, most), tokens };
        }
        let tokens = TILE_WORDS / panel.rows / REGISTER_TOKENS * REGISTER_TOKENS;
        Shape { rows: panel.rows, tokens: tokens.min(TILE_TOKENS) }
    }

    /// Makes `rows` ready for tokens that come in so many, at most as [`Product::shape`] said.
    pub(super) fn ready<'r>(
        &self,
        kernels: &Kernels,
        rows: Range<usize>,
        tokens: usize,
        memory: &'r mut [f32],
    ) -> Ready<'r>
    where
        'a: 'r,
    {
        let rows = self.w.rows.range(rows.start, rows.end);
        if tokens <= kernels.few(rows.ty).at_once {
            return Ready::Stored(rows);
        }
        let unpack_panel = match self.kernels(kernels) {
            TypeKernels::Block(of) => of.unpack_panel,
            TypeKernels::Number(of) => of.unpack_panel,
        };
        let words = (kernels.panel_size)(rows.ty, rows.k).words;
        let memory = &mut memory[..words];
        let mut panel = Panel { ty: rows.ty, k: rows.k, n_rows: rows.n(), memory };
        unpack_panel(rows, &mut panel);
        Ready::Panel(panel)
    }

    /// Rows as they are stored, which suit one token.
    pub(super) fn stored(&self, rows: Range<usize>) -> Ready<'a> {
        Ready::Stored(self.w.rows.range(rows.start, rows.end))
    }

    /// Results of `tokens` for rows that are ready; they begin at row `first`.
    pub(super) fn multiply<'t>(
        &self,
        kernels: &Kernels,
        ready: &Ready<'_>,
        first: usize,
        tokens: Range<usize>,
        tile: &'t mut [f32],
    ) -> Tile<'t> {
        let n = tokens.len();
        let (n_rows, stride) = match ready {
            Ready::Stored(rows) => (rows.n(), rows.n()),
            Ready::Panel(panel) => (panel.n_rows, (kernels.panel_size)(panel.ty, panel.k).rows),
        };
        let y = &mut tile[..n * stride];
        match self.kernels(kernels) {
            TypeKernels::Block(of) => self.blocks(of, ready, tokens, y),
            TypeKernels::Number(of) => self.numbers(of, ready, tokens, y),
        }
        let tile = Tile { y, stride, n_rows };
        self.finish(first, tile)
    }

    fn blocks(&self, of: BlockKernels, ready: &Ready<'_>, tokens: Range<usize>, y: &mut [f32]) {
        let Acts::Q8(acts) = self.acts else { unreachable!("checked when it was made") };
        match ready {
            Ready::Panel(panel) => (of.gemm)(panel, acts.range(tokens.start, tokens.end), y),
            Ready::Stored(rows) if tokens.len() == 1 => {
                (of.dot)(*rows, acts.range(tokens.start, tokens.end), y);
            }
            Ready::Stored(rows) => {
                (of.dot_n)(*rows, acts.range(tokens.start, tokens.end), y);
            }
        }
    }

    fn numbers(&self, of: NumberKernels, ready: &Ready<'_>, tokens: Range<usize>, y: &mut [f32]) {
        let Acts::F32(acts) = self.acts else { unreachable!("checked when it was made") };
        match ready {
            Ready::Panel(panel) => (of.gemm)(panel, acts.range(tokens.start, tokens.end), y),
            Ready::Stored(rows) if tokens.len() == 1 => {
                (of.dot)(*rows, acts.row(tokens.start), y);
            }
            Ready::Stored(rows) => {
                (of.dot_n)(*rows, acts.range(tokens.start, tokens.end), y);
            }
        }
    }

    /// The factor, and the bias after it.
    fn finish<'t>(&self, first: usize, tile: Tile<'t>) -> Tile<'t> {
        if let Some(scale) = self.scale {
            tile.y.iter_mut().for_each(|y| *y *= scale);
        }
        if let Some(bias) = self.bias {
            let bias = &bias[first..first + tile.n_rows];
            for row in tile.y.chunks_exact_mut(tile.stride) {
                row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
        }
        tile
    }
}
