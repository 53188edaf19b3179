//! What an executor is: prepared once with a description, weights, a placement and limits, then
//! stepped with batches.

use crate::Result;
use crate::batch::Batch;
use crate::describe::{Decoder, SiteId};
use crate::state::{KvTypes, PageId, RowId, StateView};
use crate::weights::Weights;

/// A device, by its place in the executor's list; 0 is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dev(pub u8);

/// Which part of the model runs where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// One for each [`Step::Layer`](crate::describe::Step::Layer), in order.
    pub layers: Vec<Place>,
    /// Token embeddings.
    pub embed: Dev,
    /// Final norm and heads.
    pub head: Dev,
}

/// Where the parts of one layer run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Attention or recurrence.
    pub mixer: Dev,
    /// Dense feed-forward, router and shared experts.
    pub ffn: Dev,
    /// Routed experts: often the CPU while the rest is on a GPU.
    pub experts: Dev,
    /// KV pages and recurrent rows; attention over them runs here.
    pub state: Dev,
}

impl Placement {
    /// Everything on one device.
    pub fn all_on(dev: Dev, n_layers: usize) -> Placement {
        let place = Place { mixer: dev, ffn: dev, experts: dev, state: dev };
        Placement { layers: vec![place; n_layers], embed: dev, head: dev }
    }
}

/// What memory is taken for when a model is prepared; a step never takes more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most tokens of a batch.
    pub tokens: u32,
    /// Most spans of a batch.
    pub spans: u32,
    /// Most rows whose logits one step gives.
    pub logit_rows: u32,
    /// Context length: most positions of one sequence. Chooses long or short rope factors.
    pub context: u32,
    /// Pages of each group, in the order of [`groups`](crate::state::groups).
    pub pages: Vec<u32>,
    /// Rows of recurrent state.
    pub recurrent_rows: u32,
    /// How keys and values are stored.
    pub kv: KvTypes,
}

/// Bytes that preparing took, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Weights read in place from the mapped file.
    pub mapped: u64,
    /// Weights copied to a device or converted.
    pub weights: u64,
    /// KV pages and recurrent rows.
    pub state: u64,
    /// Activations and scratch.
    pub scratch: u64,
}

/// What preparing will take, known before it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bytes, by purpose: what [`Exec::prepare`] says when it has taken them.
    pub memory: Memory,
    /// Of scratch, what usual batches never touch: the system gives no memory for it.
    pub idle: u64,
    /// Bytes of small weights that are read once and decoded: pages of the file that come along.
    pub decoded: u64,
    /// By slot: bytes of one page, or of one row of recurrent state.
    pub slot_bytes: Vec<u64>,
    /// By group of pages: bytes of one page of all its slots.
    pub page_bytes: Vec<u64>,
    /// Bytes of one row of recurrent state of all slots.
    pub row_bytes: u64,
}

/// What a step gives back, one entry for each [`Want`](crate::Want), in order. Reused from step to step.
#[derive(Clone, Debug, Default)]
pub struct StepOut {
    /// The entries.
    pub got: Vec<Got>,
}

/// The answer to one want.
#[derive(Clone, Debug, Default)]
pub struct Got {
    /// Rows of `values`.
    pub rows: usize,
    /// (rows, columns), row-major; columns is n_vocab, the number of ids, `k` or the width.
    pub values: Vec<f32>,
    /// Ids of `values` for top-k, (rows, k); else empty.
    pub ids: Vec<u32>,
}

impl StepOut {
    /// Makes exactly `n` entries, keeping their memory.
    pub fn reset(&mut self, n: usize) {
        self.got.resize_with(n, Got::default);
        for got in &mut self.got {
            got.rows = 0;
            got.values.clear();
            got.ids.clear();
        }
    }
}

/// Sees the input rows of linear layers while a step runs: importance matrices, steering.
pub trait Observer {
    /// `rows` is (n, cols) of the linear layer at `site`; `experts` names the expert of each row of
    /// a routed layer, and is empty for others.
    fn input(&mut self, site: SiteId, rows: &[f32], cols: usize, experts: &[u32]);
}

/// Runs a description. One executor holds one model.
pub trait Exec: Send {
    /// Takes memory and lays everything out. Called once, before any step.
    ///
    /// # Errors
    /// If the description asks for what this executor cannot do, contradicts its weights, or memory
    /// cannot be had.
    fn prepare(
        &mut self,
        decoder: &Decoder,
        weights: &Weights,
        placement: &Placement,
        limits: &Limits,
    ) -> Result<Memory>;

    /// Runs a batch: appends to the state of its sequences and fills `out`.
    ///
    /// # Errors
    /// If the batch breaks its rules or the limits, or a device or the mapped file fails. The state
    /// of the batch's sequences is then undefined; other sequences are untouched.
    fn step(
        &mut self,
        batch: &Batch<'_>,
        state: &StateView<'_>,
        out: &mut StepOut,
        watch: Option<&mut dyn Observer>,
    ) -> Result<()>;

    /// Copies whole pages of a group (copy-on-write forks), first to second.
    ///
    /// # Errors
    /// If there is no such group or page, or the device fails.
    fn copy_pages(&mut self, group: usize, pages: &[(PageId, PageId)]) -> Result<()>;

    /// Bytes of one page of all slots of a group, keys and values; 0 if there is no such group.
    fn page_bytes(&self, group: usize) -> usize;

    /// Copies a page out, as it lies in memory: only an executor of the same kind that was prepared
    /// with the same model and types can take it in. `to` is as long as [`Exec::page_bytes`] says.
    ///
    /// # Errors
    /// If there is no such group or page, `to` has another length, or the device fails.
    fn read_page(&self, group: usize, page: PageId, to: &mut [u8]) -> Result<()>;

    /// Copies a page in, as [`Exec::read_page`] gave it.
    ///
    /// # Errors
    /// If there is no such group or page, `from` has another length, or the device fails.
    fn write_page(&mut self, group: usize, page: PageId, from: &[u8]) -> Result<()>;

    /// Bytes of one row of recurrent state of all slots; 0 if the model has none.
    fn row_bytes(&self) -> usize;

    /// Copies a row of recurrent state out, as [`Exec::read_page`] does a page.
    ///
    /// # Errors
    /// If there is no such row, `to` has another length, or the device fails.
    fn read_row(&self, row: RowId, to: &mut [u8]) -> Result<()>;

    /// Copies a row of recurrent state in, as [`Exec::read_row`] gave it.
    ///
    /// # Errors
    /// If there is no such row, `from` has another length, or the device fails.
    fn write_row(&mut self, row: RowId, from: &[u8]) -> Result<()>;
}
