//! What regions do besides multiplying gives the bits of doing it afterwards.

use super::tests::{numbers, weights};
use super::*;
use crate::Isa;
use crate::act::{F32Acts, Q8Acts, Share, q8_words, quantize_acts, quantized};
use crate::activation::{activate, activate_gated};

/// Weights, activations and what they are multiplied to, one after another.
struct Case {
    ty: QuantType,
    rows: usize,
    k: usize,
    stored: Vec<u8>,
    x: Vec<f32>,
    memory: Vec<f32>,
}

impl Case {
    fn new(ty: QuantType, rows: usize, k: usize, n: usize, seed: u64) -> Case {
        let memory = vec![0.0; q8_words(Share::of(ty), n, k)];
        let (stored, x) = (weights(ty, rows, k, seed), numbers(3, n * k));
        Case { ty, rows, k, stored, x, memory }
    }

    fn n(&self) -> usize {
        self.x.len() / self.k
    }

    /// Fills the memory of quantized activations.
    fn quantize(&mut self) {
        let mut pool = Pool::new(1).unwrap();
        let share = Share::of(self.ty);
        quantize_acts(&mut pool, Isa::SCALAR, share, &self.x, self.k, &mut self.memory);
    }

    fn mat(&self) -> MatRef<'_> {
        MatRef::new(self.ty, self.rows, self.k, &self.stored).unwrap()
    }

    fn acts(&self) -> Acts<'_> {
        match ActFormat::of(self.ty) {
            ActFormat::F32 => Acts::F32(F32Acts::new(&self.x, self.k)),
            ActFormat::Q8(share) => Acts::Q8(quantized(share, &self.memory, self.n(), self.k)),
        }
    }

    /// The plain result (n, rows).
    fn plain(&self, pool: &mut Pool, isa: Isa, bias: Option<&[f32]>) -> Vec<f32> {
        let mut out = vec![0.0; self.n() * self.rows];
        matmul(pool, Kernels::new(isa), self.mat(), self.acts(), bias, &mut out);
        out
    }
}

/// Types with all kinds of kernels, and a mix of them for products and gates.
const PAIRS: [(QuantType, QuantType); 5] = [
    (QuantType::Q4_K, QuantType::Q4_K),
    (QuantType::Q6_K, QuantType::Q4_K),
    (QuantType::Q8_0, QuantType::F16),
    (QuantType::BF16, QuantType::Q5_0),
    (QuantType::F32, QuantType::F32),
];

/// Runs `each` for shapes, numbers of tokens, threads and tiers.
fn for_all(each: impl Fn(&mut Pool, Isa, &Case, &Case)) {
    for (ty, gate_ty) in PAIRS {
        for (rows, n) in [(37, 1), (100, 3), (70, 6), (64, 131), (300, 20)] {
            let k = 512;
            let (mut product, mut gate) =
                (Case::new(ty, rows, k, n, 5), Case::new(gate_ty, rows, k, n, 6));
            product.quantize();
            gate.quantize();
            for isa in Isa::supported() {
                for n_threads in [1, 3] {
                    each(&mut Pool::new(n_threads).unwrap(), isa, &product, &gate);
                }
            }
        }
    }
}

#[track_caller]
fn assert_rows(acts: Q8Acts<'_>, expected: Q8Acts<'_>) {
    assert_eq!((acts.n(), acts.k()), (expected.n(), expected.k()));
    for t in 0..acts.n() {
        match acts.share() {
            Share::Block => assert_eq!(acts.row(t), expected.row(t)),
            Share::Group => assert_eq!(acts.whole_row(t), expected.whole_row(t)),
        }
    }
}

#[test]
fn results_are_scaled_then_biased_then_added() {
    for_all(|pool, isa, case, _| {
        let bias = numbers(9, case.rows);
        for factor in [1.0, 0.3] {
            let mut expected = numbers(4, case.n() * case.rows);
            let mut to = expected.clone();
            let rows = case.plain(pool, isa, None);
            for (i, (e, y)) in expected.iter_mut().zip(&rows).enumerate() {
                *e += factor * (y * 0.7 + bias[i % case.rows]);
            }
            let product = Product::new(case.mat(), case.acts(), Some(&bias)).scaled(0.7);
            matmul_all(pool, Kernels::new(isa), &mut [MatMul::add(product, &mut to, factor)]);
            assert_eq!(to, expected, "{isa} {}", case.ty);
        }
    });
}

#[test]
fn gates_and_activations_are_applied_to_results() {
    for_all(|pool, isa, case, gate| {
        let product = Product::new(case.mat(), case.acts(), None);
        let gate_product = Product::new(gate.mat(), gate.acts(), None);
        let y = case.plain(pool, isa, None);
        let mut alone = y.clone();
        activate(isa, Activation::GeluTanh, &mut alone);
        let mut gated = gate.plain(pool, isa, None);
        activate_gated(isa, Activation::Silu, &mut gated, &y);
        for (f, gate, expected) in
            [(Activation::GeluTanh, None, alone), (Activation::Silu, Some(gate_product), gated)]
        {
            let mut out = vec![0.0; y.len()];
            let job = MatMul::store(product, &mut out).activated(f, gate);
            matmul_all(pool, Kernels::new(isa), &mut [job]);
            assert_eq!(out, expected, "{isa} {} {f:?}", case.ty);
            let (n, rows) = (case.n(), case.rows);
            for share in Share::ALL {
                let words = q8_words(share, n, rows);
                let (mut memory, mut apart) = (vec![7.0; words], vec![0.0; words]);
                let mut acts = Q8Mut::new(share, &mut memory, n, rows);
                out.fill(0.0);
                let job = MatMul::quantized(product, f, gate, &mut out, &mut acts);
                matmul_all(pool, Kernels::new(isa), &mut [job]);
                let afterwards = quantize_acts(pool, isa, share, &expected, rows, &mut apart);
                assert_rows(acts.finish(), afterwards);
            }
        }
    });
}

/// Places of five experts, one of them without any, and the tokens that they read.
const STARTS: [u32; 6] = [0, 1, 5, 5, 7, 9];
const ACTIVE: [u32; 4] = [0, 1, 3, 4];
const TOKENS: [u32; 9] = [2, 0, 1, 2, 4, 3, 0, 4, 1];

#[test]
fn experts_multiply_the_tokens_of_their_places() {
    for_all(|pool, isa, case, gate| {
        if case.n() < 6 || ActFormat::of(case.ty) != ActFormat::of(gate.ty) {
            return;
        }
        // Odd experts have the other's weights.
        let of = |e: usize, odd: bool| {
            let from = if e.is_multiple_of(2) == odd { gate } else { case };
            let tokens = &TOKENS[STARTS[e] as usize..STARTS[e + 1] as usize];
            let acts = match from.acts() {
                Acts::F32(acts) => Acts::F32(acts.select(tokens)),
                Acts::Q8(acts) => Acts::Q8(acts.select(tokens)),
            };
            Product::new(from.mat(), acts, None)
        };
        let (kernels, rows) = (Kernels::new(isa), case.rows);
        let each = |pool: &mut Pool, odd: bool| {
            let mut all = Vec::new();
            for e in ACTIVE {
                let product = of(e as usize, odd);
                let mut out = vec![0.0; product.len()];
                matmul_all(pool, kernels, &mut [MatMul::store(product, &mut out)]);
                all.extend(out);
            }
            all
        };
        let places = Places::new(&STARTS, &ACTIVE);
        let (plain, mut expected) = (each(pool, false), each(pool, true));
        let mut out = vec![0.0; 9 * rows];
        matmul_experts(pool, kernels, places, |e| of(e, false), rows, &mut out, &mut []);
        assert_eq!(out, plain, "{isa} {}", case.ty);
        activate_gated(isa, Activation::Silu, &mut expected, &plain);
        let products = |e: usize| (of(e, false), Some(of(e, true)));
        let mut beside = vec![0.0; case.n() * rows];
        let mut job = [MatMul::new(case.mat(), case.acts(), None, &mut beside)];
        let to = Activated { wide: &mut out, acts: None };
        activated_experts(pool, kernels, places, products, Activation::Silu, rows, to, &mut job);
        assert_eq!(out, expected, "{isa} {}", case.ty);
        assert_eq!(beside, case.plain(pool, isa, None));
        for share in Share::ALL {
            let words = q8_words(share, 9, rows);
            let (mut memory, mut apart) = (vec![7.0; words], vec![0.0; words]);
            let mut acts = Q8Mut::new(share, &mut memory, 9, rows);
            let to = Activated { wide: &mut out, acts: Some(&mut acts) };
            activated_experts(pool, kernels, places, products, Activation::Silu, rows, to, &mut []);
            let afterwards = quantize_acts(pool, isa, share, &expected, rows, &mut apart);
            assert_rows(acts.finish(), afterwards);
        }
    });
}

#[test]
fn sums_of_products_go_term_by_term() {
    for_all(|pool, isa, case, gate| {
        if case.n() > 1 {
            return;
        }
        let (a, b) = (case.plain(pool, isa, None), gate.plain(pool, isa, None));
        let weights = [0.3, 1.7, -0.2];
        let term = |i: usize| {
            let from = if i == 1 { gate } else { case };
            (Product::new(from.mat(), from.acts(), None), weights[i])
        };
        let sum = |r: usize| (weights[0] * a[r] + weights[1] * b[r]) + weights[2] * a[r];
        let kernels = Kernels::new(isa);
        let mut to = numbers(1, case.rows);
        let added: Vec<f32> = to.iter().enumerate().map(|(r, to)| to + 0.5 * sum(r)).collect();
        sum_products(pool, kernels, 3, term, &mut to, Some(0.5));
        assert_eq!(to, added, "{isa} {}", case.ty);
        sum_products(pool, kernels, 3, term, &mut to, None);
        assert_eq!(to, (0..case.rows).map(sum).collect::<Vec<_>>(), "{isa} {}", case.ty);
    });
}
