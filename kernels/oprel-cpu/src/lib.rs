//! CPU kernels for every quant type and instruction set, the thread pool, attention.
//!
//! Slices in, slices out: no tensors, no allocation in a step, no I/O. What runs is chosen once
//! ([`Isa`]) by what the CPU has. Results do not depend on the instruction set, on how many
//! tokens are computed together, nor on how work is split over threads: each kind of sum has one
//! order, written down where its scalar form is ([`table`], [`attention`](mod@attention)).

pub mod act;
pub mod activation;
pub mod attention;
mod disjoint;
mod error;
pub mod isa;
mod lanes;
mod math;
pub mod matmul;
pub mod norm;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod numbers;
pub mod pool;
pub mod probe;
pub mod quantize;
pub mod recurrent;
pub mod rope;
mod row_panel;
pub mod sampling;
pub mod softmax;
pub mod table;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod block_panel;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod blocks;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

pub use act::{ActFormat, Acts, F32Acts, Q8Acts, Share};
pub use disjoint::Parts;
pub use error::Error;
pub use isa::{Isa, Tier};
pub use matmul::{MatMul, MatRef, Product, embed_rows, matmul, matmul_all};
pub use pool::{Pool, Worker};
pub use table::Kernels;
