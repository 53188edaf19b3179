//! `CandleExec`: runs a description by composing candle operations, on every device that candle has.
//!
//! The reference: simple and readable, f32 activations, one operation after another. It never hides a
//! copy between devices: weights are kept for each device, an operation sees those of its own, and a
//! value that crosses is moved explicitly and counted.

mod attention;
mod check;
mod feed_forward;
mod head;
mod input;
mod mla;
mod moe;
mod ops;
mod pass;
mod recurrent;
mod state;
mod swap;
mod token_embed;
mod uses;
mod visible;
mod weights;

pub use candle_core::Device;

use crate::batch::Bounds;
use crate::describe::{Decoder, Op};
use crate::exec::{Dev, Exec, Limits, Memory, Observer, Placement, StepOut};
use crate::rope::{Angles, FreqFactors};
use crate::state::{PageId, RowId, StateView};
use crate::weights::Weights;
use crate::{Batch, Error, Result};

use pass::Pass;
use state::State;
use weights::Tables;

/// Name in errors.
const EXECUTOR: &str = "the candle executor";

/// Runs a description on candle devices.
pub struct CandleExec {
    devices: Vec<Device>,
    model: Option<Prepared>,
    moved: u64,
}

/// What `prepare` laid out.
struct Prepared {
    decoder: Decoder,
    placement: Placement,
    bounds: Bounds,
    tables: Tables,
    state: State,
    /// One for each rope of the decoder.
    angles: Vec<Angles>,
}

impl CandleExec {
    /// An executor over these devices: `Dev(0)`, `Dev(1)`, ... One device may stand twice; its two
    /// places share nothing.
    pub fn new(devices: Vec<Device>) -> CandleExec {
        CandleExec { devices, model: None, moved: 0 }
    }

    /// An executor on the CPU alone.
    pub fn cpu() -> CandleExec {
        CandleExec::new(vec![Device::Cpu])
    }

    /// Values that have crossed from one device of the list to another, since the start.
    pub fn moved(&self) -> u64 {
        self.moved
    }
}

impl Exec for CandleExec {
    fn prepare(
        &mut self,
        decoder: &Decoder,
        weights: &Weights,
        placement: &Placement,
        limits: &Limits,
    ) -> Result<Memory> {
        check::description(decoder, placement, self.devices.len())?;
        weights.check()?;
        let bounds = Bounds::new(EXECUTOR, decoder, limits)?;
        let used = uses::all(decoder, placement);
        let (tables, weight_bytes) = Tables::load(weights, &used, &self.devices)?;
        let (state, state_bytes) = State::new(decoder, placement, limits, &self.devices)?;
        self.model = Some(Prepared {
            decoder: decoder.clone(),
            placement: placement.clone(),
            bounds,
            tables,
            state,
            angles: angles(decoder, weights, limits)?,
        });
        Ok(Memory { mapped: 0, weights: weight_bytes, state: state_bytes, scratch: 0 })
    }

    fn step(
        &mut self,
        batch: &Batch<'_>,
        state: &StateView<'_>,
        out: &mut StepOut,
        watch: Option<&mut dyn Observer>,
    ) -> Result<()> {
        let model = self.model.as_ref().ok_or_else(not_prepared)?;
        model.bounds.check(batch, state, &mut Vec::new())?;
        let mut pass = Pass::new(model, &self.devices, batch, state);
        if let Some(watch) = watch {
            pass.watch = Some(watch);
        }
        let result = pass.run(out);
        self.moved += pass.moved();
        result
    }

    fn copy_pages(&mut self, group: usize, pages: &[(PageId, PageId)]) -> Result<()> {
        let model = self.model.as_ref().ok_or_else(not_prepared)?;
        for &(from, to) in pages {
            let (from, to) = (model.bounds.page(group, from)?, model.bounds.page(group, to)?);
            model.state.copy_page(group, from, to)?;
        }
        Ok(())
    }

    fn page_bytes(&self, group: usize) -> usize {
        self.model.as_ref().map_or(0, |model| model.state.page_bytes(group))
    }

    fn read_page(&self, group: usize, page: PageId, to: &mut [u8]) -> Result<()> {
        let model = self.model.as_ref().ok_or_else(not_prepared)?;
        model.state.read_page(group, model.bounds.page(group, page)?, to)
    }

    fn write_page(&mut self, group: usize, page: PageId, from: &[u8]) -> Result<()> {
        let model = self.model.as_ref().ok_or_else(not_prepared)?;
        model.state.write_page(group, model.bounds.page(group, page)?, from)
    }

    fn row_bytes(&self) -> usize {
        self.model.as_ref().map_or(0, |model| model.state.row_bytes())
    }

    fn read_row(&self, row: RowId, to: &mut [u8]) -> Result<()> {
        let model = self.model.as_ref().ok_or_else(not_prepared)?;
        model.state.read_row(model.bounds.row(row)?, to)
    }

    fn write_row(&mut self, row: RowId, from: &[u8]) -> Result<()> {
        let model = self.model.as_ref().ok_or_else(not_prepared)?;
        model.state.write_row(model.bounds.row(row)?, from)
    }
}

fn not_prepared() -> Error {
    Error::Description("no model has been prepared".into())
}

/// The angles of every rope, with its frequency factors for this context length.
fn angles(decoder: &Decoder, weights: &Weights, limits: &Limits) -> Result<Vec<Angles>> {
    let one = |rope: &crate::rope::Rope| {
        let id = rope.factors.map(|f| match f {
            FreqFactors::Fixed(id) => id,
            FreqFactors::ByContext { long, original, .. } if limits.context > original => long,
            FreqFactors::ByContext { short, .. } => short,
        });
        let factors = id.map(|id| weights.vector(id)).transpose()?;
        if factors.as_ref().is_some_and(|f| f.len() != rope.dims as usize / 2) {
            return Err(Error::Description("a rope has not one frequency factor a pair".into()));
        }
        Ok(Angles::new(rope, factors.as_deref()))
    };
    decoder.ropes.iter().map(one).collect()
}

/// The device that an operation, and the block around it, runs on: mixers and feed-forwards may be
/// placed apart.
fn dev_of(op: &Op, place: &crate::Place) -> Dev {
    match op {
        Op::Ffn(_) | Op::Moe(_) | Op::TokenEmbed(_) => place.ffn,
        _ => place.mixer,
    }
}
