//! Who answers a request: the native engine on a thread of this process, or a worker process that is supervised.
//!
//! A [`Native`] holds one loaded model. Requests are rendered and tokenized on the caller's thread,
//! run on the engine's, and come back as a stream of events. Nothing here knows HTTP or prints.

mod backend;
mod bench;
mod calls;
mod disk;
mod draft;
mod engine_thread;
mod error;
mod events;
mod facts;
mod fingerprint;
mod gap;
mod guide;
mod hearing;
mod load;
mod native;
mod process;
mod prompt;
mod rank;
mod speaker;
mod template;
mod thinking;

pub use backend::{Backend, Description, Health, Later};
pub use bench::{Bench, BenchOptions, Parallel, ParallelOptions, Spread};
pub use error::{Error, Result};
pub use events::{Events, Listener, Mouth, wait, wait_until, way};
pub use facts::{Capability, Facts, capabilities};
pub use load::{
    Executor, LoadOptions, Machine, ModelSource, PromptCache, has_room, needed_bytes, needs,
    why_unsupported,
};
pub use native::{Native, normalize};
#[cfg(unix)]
pub use process::leash;
pub use process::{Launch, Patience, Worker, run_worker};
pub use template::{RawChat, compile_template, render_raw, template_of};
