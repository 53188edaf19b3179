//! Benchmarks: `cargo bench -p oprel-benches` for kernels, `make bench-peers` for whole models beside
//! llama.cpp. Results are kept in `benches/results`.
