//! Quant types of GGUF: how many weights a block holds, how many bytes it takes, what they mean.
//!
//! Plain and slow on purpose: this crate is the definition that kernels are tested against.
//! No I/O, no unsafe.
//!
//! Every type stored in blocks is the same thing once unpacked: small integer codes, and for each
//! run of 16 weights one scale and perhaps one minimum ([`Unpacked`]). A type's own file says
//! where its bits lie; [`dequantize`] is one multiplication, and one addition where there are
//! minima, in ggml's order, so that results equal ggml's bit for bit.

mod bytes;
pub mod codebook;
mod dequantize;
mod error;
mod file_type;
mod fp4;
mod grid;
mod k_quants;
mod nonlinear;
mod quantize;
mod quantize_k;
mod simple;
mod ternary;
mod types;
mod unpack;
mod whole;

pub use bytes::{e8m0_half, ue4m3_half};
pub use dequantize::dequantize;
pub use error::Error;
pub use file_type::FileType;
pub use quantize::{quantize, quantize_iq, quantize_weighted};
pub use quantize_k::{LANES, Lanes, Portable, quantize_k};
pub use types::QuantType;
pub use unpack::{RUN, Unpacked, has_mins, unpack};
pub use whole::{Whole, unpack_whole};
