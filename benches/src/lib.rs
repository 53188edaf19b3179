//! Benchmarks: `cargo bench -p oprel-benches` for kernels and the sampler, `make bench-peers` for whole
//! models beside llama.cpp. Results are kept in `benches/results`.
//!
//! `cargo bench -p oprel-benches --bench kernels -- "avx512.*Q4_K"` measures some of them.
