//! CPU kernels for every quant type and instruction set, the thread pool, attention.
