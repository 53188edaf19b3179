//! `CpuExec`: runs a description over slices of an arena, with our kernels and threads.
//!
//! [`prepare`](Exec::prepare) compiles the description into a plan: typed operations on resolved
//! buffers of one arena, small vectors decoded, matrices read where the file has them. A step
//! walks the plan; it takes no memory, and a row's result does not depend on what else is in the
//! batch, how a text was split, or how many threads run.

mod acts;
mod arena;
mod attend;
mod attention;
mod classifier;
mod compile;
mod conv;
mod delta;
mod ffn;
mod fine;
mod gate;
mod input;
mod kv;
mod linear;
mod mamba;
mod mamba2;
mod mla;
mod moe;
mod norm;
mod output;
mod per_head;

mod plan;
mod prepare;
mod recurrent;
mod router;
mod run;
mod sizes;
mod spans;
mod swap;

use oprel_cpu::{Isa, Kernels, Pool};

use self::plan::Plan;
use self::run::{Memories, Run};
use crate::batch::{Batch, Bounds};
use crate::describe::Decoder;
use crate::exec::{Exec, Limits, Memory, Needs, Observer, Placement, StepOut};
use crate::state::{PageId, RowId, StateView};
use crate::weights::Weights;
use crate::{Error, Result};

/// Name in errors.
const EXECUTOR: &str = "CpuExec";

/// How an executor uses the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuOptions {
    /// Threads, the caller's among them; at least one. How many suit a machine is not known here.
    pub threads: usize,
    /// Instructions; `None` for the best the CPU has.
    pub isa: Option<Isa>,
}

/// The executor for CPUs.
pub struct CpuExec {
    pool: Pool,
    kernels: &'static Kernels,
    model: Option<Prepared>,
}

/// What [`CpuExec`] will take of memory when it prepares a model, in bytes. Reads no more weights than
/// preparing converts, and takes none of the memory.
///
/// # Errors
/// As [`Exec::prepare`], save that there may not be so much memory.
pub fn needs(decoder: &Decoder, weights: &Weights, limits: &Limits, isa: Isa) -> Result<Needs> {
    prepare::needs(decoder, weights, limits, Kernels::new(isa))
}

/// A model, ready to run.
struct Prepared {
    plan: Plan,
    mem: Memories,
    weights: Weights,
    bounds: Bounds,
}

impl CpuExec {
    /// An executor with threads of its own, and no model yet.
    ///
    /// # Errors
    /// If the system refuses threads.
    pub fn new(options: CpuOptions) -> Result<CpuExec> {
        let pool = Pool::new(options.threads.max(1))?;
        let kernels = Kernels::new(options.isa.unwrap_or_else(Isa::detect));
        Ok(CpuExec { pool, kernels, model: None })
    }

    /// Threads that work in a step.
    pub fn n_threads(&self) -> usize {
        self.pool.n_threads()
    }

    /// Instructions that kernels use.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }
}

impl std::fmt::Debug for CpuExec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CpuExec")
            .field("threads", &self.n_threads())
            .field("isa", &self.isa())
            .field("prepared", &self.model.is_some())
            .finish()
    }
}

impl Exec for CpuExec {
    fn prepare(
        &mut self,
        decoder: &Decoder,
        weights: &Weights,
        placement: &Placement,
        limits: &Limits,
    ) -> Result<Memory> {
        self.model = None;
        let (prepared, memory) =
            prepare::prepare(decoder, weights, placement, limits, self.kernels)?;
        self.model = Some(prepared);
        Ok(memory)
    }

    fn step(
        &mut self,
        batch: &Batch<'_>,
        state: &StateView<'_>,
        out: &mut StepOut,
        watch: Option<&mut dyn Observer>,
    ) -> Result<()> {
        let model = self.model.as_mut().ok_or_else(unprepared)?;
        model.weights.check()?;
        model.bounds.check(batch, state, &mut model.mem.head.rows)?;
        out.reset(batch.want.len());
        let mut run = Run {
            n: batch.tokens.len(),
            batch,
            state,
            mem: &mut model.mem,
            pool: &mut self.pool,
            kernels: self.kernels,
            ropes: &model.plan.ropes,
            out,
            watch: match watch {
                Some(watch) => Some(watch),
                None => None,
            },
        };
        run.note_spans()?;
        model.plan.run(&mut run)?;
        // A file that shrank while it was read gave zeros instead of weights.
        model.weights.check()
    }

    fn copy_pages(&mut self, group: usize, pages: &[(PageId, PageId)]) -> Result<()> {
        let model = self.model.as_mut().ok_or_else(unprepared)?;
        for &(from, to) in pages {
            let (from, to) = (model.bounds.page(group, from)?, model.bounds.page(group, to)?);
            model.slots_mut(group).for_each(|slot| slot.copy_page(from, to));
        }
        Ok(())
    }

    fn page_bytes(&self, group: usize) -> usize {
        self.model.as_ref().map_or(0, |model| model.page_bytes(group))
    }

    fn read_page(&self, group: usize, page: PageId, to: &mut [u8]) -> Result<()> {
        self.model.as_ref().ok_or_else(unprepared)?.read_page(group, page, to)
    }

    fn write_page(&mut self, group: usize, page: PageId, from: &[u8]) -> Result<()> {
        self.model.as_mut().ok_or_else(unprepared)?.write_page(group, page, from)
    }

    fn row_bytes(&self) -> usize {
        self.model.as_ref().map_or(0, Prepared::row_bytes)
    }

    fn read_row(&self, row: RowId, to: &mut [u8]) -> Result<()> {
        self.model.as_ref().ok_or_else(unprepared)?.read_row(row, to)
    }

    fn write_row(&mut self, row: RowId, from: &[u8]) -> Result<()> {
        self.model.as_mut().ok_or_else(unprepared)?.write_row(row, from)
    }
}

fn unprepared() -> Error {
    Error::Batch("no model is prepared".into())
}
