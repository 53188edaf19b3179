//! Kernels allocate nothing: what a step needs is there before it begins.
#![expect(unsafe_code, reason = "a global allocator that counts")]

use oprel_cpu::act::{Share, q8_words, quantize_acts};
use oprel_cpu::activation::{Activation, activate_gated};
use oprel_cpu::attention::{
    AppendSpan, AttnSpan, Heads, Kv, KvLayout, KvMut, KvType, Seen, append, attention, partial_len,
};
use oprel_cpu::norm::{Norm, NormKind, normalize};
use oprel_cpu::recurrent::{Columns, Conv1d, DeltaInputs, DeltaRule, conv1d, delta_scan};
use oprel_cpu::{Acts, F32Acts, Isa, Kernels, MatMul, MatRef, Pool, embed_rows, matmul_all};
use oprel_quant::QuantType;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// All that some steps read and write.
struct Memory {
    q4: Vec<u8>,
    f16: Vec<u8>,
    x: Vec<f32>,
    acts: Vec<f32>,
    out: [Vec<f32>; 2],
    kv: Vec<f32>,
    cache: [Vec<u8>; 2],
    partials: Vec<f32>,
    state: Vec<f32>,
}

const WIDTH: usize = 256;
const ROWS: usize = 512;

fn layout() -> KvLayout {
    KvLayout::new(KvType::default().into(), 4, 64, 64, 64)
}

fn memory(n: usize) -> Memory {
    let page = layout().k_page_bytes();
    Memory {
        q4: vec![0x11; QuantType::Q4_K.row_bytes(ROWS * WIDTH).unwrap()],
        f16: vec![0x11; 2 * ROWS * WIDTH],
        x: vec![0.5; n * WIDTH],
        acts: vec![0.0; q8_words(Share::Group, n, WIDTH)],
        out: [vec![0.0; n * ROWS], vec![0.0; n * ROWS]],
        kv: vec![0.1; 2 * 4 * 64 * 64],
        cache: [vec![0; 5 * page], vec![0; 5 * page]],
        partials: vec![0.0; partial_len(4, 64, 300)],
        state: vec![0.0; 4 * 64 * 64],
    }
}

/// One of each kernel.
fn step(pool: &mut Pool, isa: Isa, memory: &mut Memory) {
    let Memory { q4, f16, x, acts, out: [a, b], kv, cache, partials, state } = memory;
    let n = x.len() / WIDTH;
    let q4 = MatRef::new(QuantType::Q4_K, ROWS, WIDTH, q4).unwrap();
    let f16 = MatRef::new(QuantType::F16, ROWS, WIDTH, f16).unwrap();
    let quantized = quantize_acts(pool, isa, Share::Group, x, WIDTH, acts);
    let mut jobs = [
        MatMul::new(q4, Acts::Q8(quantized), None, a),
        MatMul::new(f16, Acts::F32(F32Acts::new(x, WIDTH)), None, b),
    ];
    matmul_all(pool, Kernels::new(isa), &mut jobs);
    activate_gated(isa, Activation::Silu, a, b);
    embed_rows(pool, q4, &[7], &mut x[..WIDTH]).unwrap();
    let norm = Norm { kind: NormKind::Rms, eps: 1e-5, groups: 4, weight: None, bias: None };
    normalize(isa, &norm, &x[..WIDTH], &mut b[..WIDTH]);
    let heads = Heads { n_heads: 4, scale: 0.1, soft_cap: None, sinks: None, alibi: None };
    let seen = [Seen { start: 0, end: 300, at: 299 }];
    let layout = layout();
    let pages = &[0, 1, 2, 3, 4];
    let new = AppendSpan { pages, first: 0, start: 299, n: 1 };
    let [k, v] = cache;
    append(pool, isa, &layout, KvMut { k, v }, &[new], &x[..WIDTH], &x[..WIDTH]);
    let span = AttnSpan { pages, first: 0, seen: &seen, mask: None };
    let (cells, out) = (Kv { k, v }, &mut a[..WIDTH]);
    attention(pool, isa, &heads, &layout, cells, &[span], &x[..WIDTH], out, partials);
    let conv = Conv1d { weight: &kv[..3 * WIDTH], bias: None, taps: 3 };
    let out = &mut b[..n * WIDTH];
    conv1d(pool, isa, &conv, &mut state[..2 * WIDTH], n, Columns::all(x, WIDTH), out);
    let rule =
        DeltaRule { n_k_heads: 4, n_v_heads: 4, tiled: false, k_dim: 64, v_dim: 64, scale: 1.0 };
    let all = Columns::all(x, WIDTH);
    let four = Columns::new(x, WIDTH, 0, 4);
    let inputs = DeltaInputs { q: all, k: all, v: all, log_decay: four, beta: four };
    delta_scan(pool, isa, &rule, state, n, &inputs, &mut a[..n * WIDTH]);
}

fn main() {
    a_step_allocates_nothing_with_any_number_of_tokens_and_threads();
    println!("a step allocates nothing: ok");
}

fn a_step_allocates_nothing_with_any_number_of_tokens_and_threads() {
    for isa in Isa::supported() {
        for (n_threads, n) in [(1, 1), (3, 1), (3, 3), (2, 20)] {
            let mut pool = Pool::new(n_threads).unwrap();
            let mut memory = memory(n);
            // What a thread takes when it starts is no part of a step: wait until all run.
            let all = Barrier::new(n_threads);
            pool.run(n_threads, |_, _| {
                all.wait();
            });
            step(&mut pool, isa, &mut memory);
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for _ in 0..5 {
                step(&mut pool, isa, &mut memory);
            }
            let after = ALLOCATIONS.load(Ordering::Relaxed);
            assert_eq!(after, before, "{isa}, {n_threads} threads, {n} tokens");
        }
    }
}
