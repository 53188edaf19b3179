//! What this machine has: processors and their caches, memory and what control groups leave of it, accelerators.
//!
//! It reads what the system tells and starts nothing but the vendors' own tools. What cannot be read is
//! absent, never an error and never a guess. All of it is data: [`Host`] can be written to a file on one
//! machine and judged on another.

mod cpu;
mod disk;
mod gpu;
mod groups;
mod host;
mod memory;
mod platform;
mod process;
mod roots;
mod speed;

pub use cpu::{Cache, Cpu, suited_threads};
pub use disk::Disk;
pub use gpu::{Gpu, Share, Vendor, Visible};
pub use groups::Groups;
pub use host::{Host, System};
pub use memory::{HugePages, Memory, Node, free_memory};
pub use process::Limits;
pub use roots::Roots;
pub use speed::{
    AttentionRate, KernelRate, Look, Matrices, Rates, arithmetic_rate, read_bandwidth,
};
