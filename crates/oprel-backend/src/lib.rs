//! Who answers a request. Now: the native engine, on a thread of this process.
//!
//! A [`Native`] holds one loaded model. Requests are rendered and tokenized on the caller's thread,
//! run on the engine's, and come back as a stream of events. Nothing here knows HTTP or prints.

mod bench;
mod disk;
mod error;
mod facts;
mod fingerprint;
mod guide;
mod load;
mod native;
mod prompt;
mod rank;
mod speaker;
mod template;
mod thinking;
mod worker;

pub use bench::{Bench, BenchOptions, Parallel, ParallelOptions, Spread};
pub use error::{Error, Result};
pub use facts::{Capability, Facts, capabilities};
pub use load::{Executor, LoadOptions, Machine, ModelSource, PromptCache};
pub use native::{Events, Native};
pub use oprel_engine::Gauges;
pub use template::{RawChat, compile_template, render_raw, template_of};
