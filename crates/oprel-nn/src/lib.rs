//! The description of a model, and the two executors that run it.
//!
//! `models/` writes a [`Decoder`]: switches, sizes and weight names, no arithmetic. An executor
//! ([`Exec`]) runs it on ragged batches ([`Batch`]): `CandleExec` by composing candle
//! operations (the reference, on any device), `CpuExec` through a few coarse operations over
//! an arena laid out once. This crate knows no architecture by name.

pub mod batch;
pub mod candle;
pub mod cpu;
pub mod describe;
mod error;
pub mod exec;
pub mod rope;
pub mod state;
pub mod weights;

pub use batch::{Batch, EmbedRows, Pooling, Pos, RowSet, See, Span, Tap, Want, What};
pub use describe::Decoder;
pub use error::{Error, Result};
pub use exec::{Dev, Exec, Limits, Memory, Needs, Observer, Place, Placement, StepOut};
pub use state::{KvType, KvTypes, PAGE_LEN, PageTable, StateView, Transfer};
pub use weights::{QMatrix, WeightId, Weights};
