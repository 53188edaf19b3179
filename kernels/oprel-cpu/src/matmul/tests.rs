use super::*;
use crate::Isa;
use crate::act::{F32Acts, SCALED, q8_words, quantize_acts};
use oprel_quant::{dequantize, quantize};

/// Types with kernels.
fn types() -> impl Iterator<Item = QuantType> {
    QuantType::all().filter(|ty| is_multiplied(*ty))
}

/// Bytes from a seed.
pub(crate) fn noise(seed: u64, n: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..n).map(|_| next()).collect()
}

/// Numbers between -1 and 1 from a seed.
pub(crate) fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let bytes = noise(seed, 2 * n);
    let of = |b: &[u8; 2]| f32::from(i16::from_le_bytes(*b)) / 32768.0;
    bytes.as_chunks().0.iter().map(of).collect()
}

/// Where a block of `ty` has f16 numbers.
fn f16_offsets(ty: QuantType) -> &'static [usize] {
    use QuantType::*;
    match ty {
        Q4_1 | Q5_1 | Q4_K | Q5_K => &[0, 2],
        Q2_K => &[80, 82],
        Q3_K => &[108],
        Q6_K => &[208],
        TQ1_0 => &[52],
        TQ2_0 => &[64],
        MXFP4 | NVFP4 | IQ1_M => &[],
        _ => &[0],
    }
}

/// `rows` x `cols` random weights of `ty` with scales of moderate size.
pub(crate) fn weights(ty: QuantType, rows: usize, cols: usize, seed: u64) -> Vec<u8> {
    let bytes = ty.row_bytes(rows * cols).unwrap();
    if !ty.is_quantized() {
        let mut stored = vec![0; bytes];
        quantize(ty, &numbers(seed, rows * cols), &mut stored).unwrap();
        return stored;
    }
    let mut stored = noise(seed, bytes);
    for block in stored.chunks_exact_mut(ty.block_bytes()) {
        for at in f16_offsets(ty) {
            // Exponents 2^-7 to 2^-4, any sign and mantissa.
            block[at + 1] = block[at + 1] & 0x83 | 0x20 | block[at + 1] >> 2 & 0x0c;
        }
        match ty {
            QuantType::MXFP4 => block[0] = 120 + block[0] % 8,
            QuantType::NVFP4 => block[..4].iter_mut().for_each(|s| *s = 0x20 + (*s & 0x0f)),
            QuantType::IQ1_M => block[55] = block[55] & 0x0f | 0x20,
            _ => {}
        }
    }
    stored
}

/// Activations in the format of `ty`.
fn acts<'a>(
    pool: &mut Pool,
    isa: Isa,
    ty: QuantType,
    x: &'a [f32],
    k: usize,
    memory: &'a mut Vec<f32>,
) -> Acts<'a> {
    match ActFormat::of(ty) {
        ActFormat::F32 => {
            let kernels = Kernels::new(isa);
            memory.resize(x.len() / k * kernels.turned_words(ty, k), 0.0);
            Acts::F32(F32Acts::new(x, k).turned(pool, kernels, [ty].into_iter(), memory))
        }
        ActFormat::Q8(share) => {
            memory.resize(q8_words(share, x.len() / k, k), 0.0);
            Acts::Q8(quantize_acts(pool, isa, share, x, k, memory))
        }
    }
}

fn product(n_threads: usize, isa: Isa, w: MatRef<'_>, x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let mut pool = Pool::new(n_threads).unwrap();
    let mut memory = Vec::new();
    let acts = acts(&mut pool, isa, w.ty(), x, w.cols(), &mut memory);
    let mut out = vec![f32::NAN; acts.n() * w.rows()];
    matmul(&mut pool, Kernels::new(isa), w, acts, bias, &mut out);
    out
}

/// Whether products of `ty` are the same in `isa` as in portable code.
fn is_exact(isa: Isa, ty: QuantType) -> bool {
    isa.name() != "avx512bf16" || ty != QuantType::BF16
}

/// The products of tokens alone, on one thread: by portable code where `isa` computes the same.
fn one_by_one(isa: Isa, w: MatRef<'_>, x: &[f32]) -> Vec<f32> {
    let isa = if is_exact(isa, w.ty()) { Isa::SCALAR } else { isa };
    x.chunks_exact(w.cols()).flat_map(|x| product(1, isa, w, x, None)).collect()
}

/// `x` as the kernels of `ty` see it: rounded to int8, to bf16 or not.
fn seen(isa: Isa, ty: QuantType, x: &[f32], k: usize) -> Vec<f32> {
    if !is_exact(isa, ty) {
        return x.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect();
    }
    let ActFormat::Q8(share) = ActFormat::of(ty) else { return x.to_vec() };
    let mut pool = Pool::new(1).unwrap();
    let mut memory = vec![0.0; q8_words(share, x.len() / k, k)];
    let acts = quantize_acts(&mut pool, Isa::SCALAR, share, x, k, &mut memory);
    let element = |t: usize, i: usize| {
        let (scale, codes) = acts.block(t, i / SCALED);
        f32::from(codes[i % SCALED]) * scale
    };
    (0..acts.n()).flat_map(|t| (0..k).map(move |i| (t, i))).map(|(t, i)| element(t, i)).collect()
}

#[test]
fn every_type_and_tier_is_near_an_f64_reference() {
    let (rows, n) = (5, 6);
    for ty in types() {
        for k in [1, 2, 3].map(|blocks| blocks * ty.block_len().max(32)) {
            let stored = weights(ty, rows, k, k as u64 + 9);
            let mut w = vec![0.0; rows * k];
            dequantize(ty, &stored, &mut w).unwrap();
            let (x, bias) = (numbers(k as u64, n * k), numbers(5, rows));
            for isa in Isa::supported() {
                let seen = seen(isa, ty, &x, k);
                let matrix = MatRef::new(ty, rows, k, &stored).unwrap();
                let out = product(2, isa, matrix, &x, Some(&bias));
                for (i, y) in out.iter().enumerate() {
                    let (t, r) = (i / rows, i % rows);
                    let terms = w[r * k..][..k].iter().zip(&seen[t * k..][..k]);
                    let terms = terms.map(|(w, x)| f64::from(*w) * f64::from(*x));
                    let (sum, size) = terms.fold((0.0, 0.0), |(s, a), p| (s + p, a + p.abs()));
                    let expected = sum + f64::from(bias[r]);
                    // Codes are summed exactly; scales, fma and the last additions round.
                    let tolerance = (size + 1.0) * (k as f64 / 16.0 + 8.0) * 2f64.powi(-24) * 4.0;
                    let error = (f64::from(*y) - expected).abs();
                    assert!(error <= tolerance, "{isa} {ty} k {k}: {y} is not {expected}");
                }
            }
        }
    }
}

#[test]
fn tokens_threads_and_tiers_do_not_change_a_bit() {
    let (rows, n) = (37, 50);
    for ty in types() {
        let k = 3 * ty.block_len().max(32);
        let stored = weights(ty, rows, k, 77);
        let matrix = MatRef::new(ty, rows, k, &stored).unwrap();
        let x = numbers(3, n * k);
        for isa in Isa::supported() {
            let expected = one_by_one(isa, matrix, &x);
            let expected: Vec<u32> = expected.iter().map(|y| y.to_bits()).collect();
            for n in (1..=12).chain([15, 17, 33, 48, n]) {
                let n_threads = 1 + n % 5;
                let out = product(n_threads, isa, matrix, &x[..n * k], None);
                let bits: Vec<u32> = out.iter().map(|y| y.to_bits()).collect();
                assert_eq!(bits, expected[..n * rows], "{isa} {ty} n {n}");
            }
        }
    }
}

#[test]
fn numbers_beyond_whole_vectors_count_too() {
    for ty in [QuantType::F32, QuantType::F16, QuantType::BF16] {
        for k in 1..=50 {
            let (rows, n) = (5, 7);
            let stored = weights(ty, rows, k, k as u64);
            let mut w = vec![0.0; rows * k];
            dequantize(ty, &stored, &mut w).unwrap();
            let matrix = MatRef::new(ty, rows, k, &stored).unwrap();
            let x = numbers(2, n * k);
            let scalar = product(1, Isa::SCALAR, matrix, &x, None);
            for (i, y) in scalar.iter().enumerate() {
                let (w, x) = (&w[i % rows * k..][..k], &x[i / rows * k..][..k]);
                let sum: f64 = w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                assert!((f64::from(*y) - sum).abs() < 1e-5, "{ty} k {k}");
            }
            for isa in Isa::supported() {
                let expected = one_by_one(isa, matrix, &x);
                assert_eq!(product(1, isa, matrix, &x, None), expected, "{isa} {ty} k {k}");
                let few = product(1, isa, matrix, &x[..3 * k], None);
                assert_eq!(few, expected[..3 * rows], "{isa} {ty} k {k} few");
            }
        }
    }
}

#[test]
fn many_tokens_and_rows_too_long_for_scratch_give_the_same_bits() {
    let isa = Isa::detect();
    let short = [(QuantType::Q8_0, 64, 70), (QuantType::F32, 33, 70), (QuantType::Q5_K, 256, 131)];
    // More groups than are put in order at once.
    let groups = [(QuantType::Q4_K, 70 * 256, 3), (QuantType::Q6_K, 70 * 256, 9)];
    let stretches = [(QuantType::F16, 5000, 9), (QuantType::BF16, 5003, 9)];
    let long = [(QuantType::Q8_0, 800_000, 6), (QuantType::F16, 300_001, 6)];
    for (ty, k, n) in short.into_iter().chain(groups).chain(stretches).chain(long) {
        let rows = 5;
        let stored = weights(ty, rows, k, 5);
        let matrix = MatRef::new(ty, rows, k, &stored).unwrap();
        let x = numbers(6, n * k);
        let together = product(2, isa, matrix, &x, None);
        for t in [0, n / 2, n - 1] {
            let alone = product(1, isa, matrix, &x[t * k..][..k], None);
            assert_eq!(together[t * rows..][..rows], alone, "{ty} k {k} token {t}");
        }
    }
}

/// Numbers meet panels from so many tokens on, in tiles of 96.
#[test]
fn panels_of_numbers_of_any_size_give_the_bits_of_one_token() {
    for ty in [QuantType::F32, QuantType::F16, QuantType::BF16] {
        for (rows, k) in [(1, 1), (17, 15), (37, 33), (33, 100), (18, 4101), (5, 8300)] {
            let stored = weights(ty, rows, k, k as u64);
            let matrix = MatRef::new(ty, rows, k, &stored).unwrap();
            let x = numbers(4, 108 * k);
            for isa in Isa::supported().filter(|isa| *isa != Isa::SCALAR) {
                let n_exact = if k < 1000 { 108 } else { 2 };
                let expected = one_by_one(isa, matrix, &x[..n_exact * k]);
                for n in if k < 1000 { 33..109 } else { 45..46 } {
                    let together = product(2, isa, matrix, &x[..n * k], None);
                    let n = n.min(n_exact);
                    assert_eq!(together[..n * rows], expected[..n * rows], "{isa} {ty} k {k}");
                }
            }
        }
    }
}

/// Tokens that nobody turned meet rows a few at a time.
#[test]
fn turned_or_not_many_tokens_give_the_same_bits() {
    let (isa, rows, k, n) = (Isa::detect(), 40, 70, 50);
    for ty in [QuantType::F32, QuantType::F16, QuantType::BF16] {
        let stored = weights(ty, rows, k, 8);
        let matrix = MatRef::new(ty, rows, k, &stored).unwrap();
        let x = numbers(5, n * k);
        let mut plain = vec![0.0; n * rows];
        let acts = Acts::F32(F32Acts::new(&x, k));
        matmul(&mut Pool::new(2).unwrap(), Kernels::new(isa), matrix, acts, None, &mut plain);
        assert_eq!(product(2, isa, matrix, &x, None), plain, "{ty}");
    }
}

/// Checks that `stored` weights give the same bits, or NaN, in all tiers, for one, few and many tokens.
fn assert_alike(ty: QuantType, rows: usize, k: usize, stored: &[u8], x: &[f32], what: &str) {
    let matrix = MatRef::new(ty, rows, k, stored).unwrap();
    for isa in Isa::supported() {
        let expected = one_by_one(isa, matrix, x);
        for n in [1, 3, 6] {
            let out = product(2, isa, matrix, &x[..n * k], None);
            for (a, b) in out.iter().zip(&expected) {
                let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                assert!(same, "{isa} {ty} k {k} n {n}, {what}: {a} is not {b}");
            }
        }
    }
}

#[test]
fn any_bytes_multiply_alike_in_all_tiers() {
    for ty in types() {
        // Beginnings of groups of 256, and whole ones before them; four blocks, and more.
        for k in [4, 9].map(|blocks| blocks * ty.block_len().max(8)) {
            let rows = 40;
            let fills = [None, Some(0), Some(0xff), Some(0x7f), Some(0x80), Some(0x88), Some(0x07)];
            for (seed, fill) in fills.into_iter().enumerate() {
                let mut stored = noise(seed as u64, ty.row_bytes(rows * k).unwrap());
                let mut x = numbers(8, 6 * k);
                if let Some(fill) = fill {
                    stored.fill(fill);
                    // The largest codes of both signs: sums are as large as they can be.
                    x[..k].fill(1.0);
                    x[k..2 * k].fill(-1.0);
                }
                assert_alike(ty, rows, k, &stored, &x, &format!("filled with {fill:?}"));
            }
        }
    }
}

#[test]
fn scales_that_are_no_numbers_multiply_alike_in_all_tiers() {
    // Infinities, NaN of both kinds, the largest and the smallest number, zeros of both signs.
    let odd =
        [0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff, 0x7bff, 0xfbff, 0x0001, 0x8001, 0, 0x8000u16];
    for ty in types().filter(|ty| ty.is_quantized()) {
        let (rows, k) = (odd.len() + 1, 9 * ty.block_len());
        let x = numbers(8, 6 * k);
        for at in 0..9 {
            let mut stored = weights(ty, rows, k, 7);
            // In each row but the last, one block has an odd scale.
            for (row, odd) in stored.chunks_exact_mut(ty.block_bytes() * 9).zip(odd) {
                let block = &mut row[at * ty.block_bytes()..][..ty.block_bytes()];
                for offset in f16_offsets(ty) {
                    block[*offset..offset + 2].copy_from_slice(&odd.to_le_bytes());
                }
                match ty {
                    // Scales of a byte, and one in parts of four bits.
                    QuantType::MXFP4 => block[0] = (odd >> 8) as u8,
                    QuantType::NVFP4 => block[..4].fill((odd >> 8) as u8),
                    QuantType::IQ1_M => {
                        for (i, part) in
                            [0, 4, 8, 12].map(|by| (odd >> by) as u8).iter().enumerate()
                        {
                            block[49 + 2 * i] = block[49 + 2 * i] & 0x0f | part << 4;
                        }
                    }
                    _ => {}
                }
            }
            assert_alike(ty, rows, k, &stored, &x, &format!("odd scale in block {at}"));
        }
    }
}

#[test]
fn an_activation_that_is_no_number_reaches_every_result_of_its_token_alone() {
    for ty in types() {
        let (rows, k) = (20, 512);
        let stored = weights(ty, rows, k, 3);
        let matrix = MatRef::new(ty, rows, k, &stored).unwrap();
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = numbers(8, 6 * k);
            x[4 * k + 100] = odd;
            for isa in Isa::supported() {
                let out = product(2, isa, matrix, &x, None);
                for (i, y) in out.iter().enumerate() {
                    assert_eq!(!y.is_finite(), i / rows == 4, "{isa} {ty} {odd} result {i}");
                }
            }
        }
    }
}

#[test]
fn sixteen_threads_give_the_bits_of_one() {
    for ty in types() {
        let (rows, k) = (700, 2 * ty.block_len().max(32));
        let stored = weights(ty, rows, k, 21);
        let matrix = MatRef::new(ty, rows, k, &stored).unwrap();
        let x = numbers(4, 9 * k);
        for n in [1, 3, 9] {
            let of = |n_threads| product(n_threads, Isa::detect(), matrix, &x[..n * k], None);
            assert_eq!(of(16), of(1), "{ty} n {n}");
        }
    }
}

#[test]
fn jobs_of_one_region_keep_apart_and_choose_their_tokens() {
    let (k, n) = (64, 9);
    let x = numbers(1, n * k);
    let shapes = [(QuantType::Q8_0, 50), (QuantType::Q4_0, 3), (QuantType::Q8_0, 17)];
    let stored = shapes.map(|(ty, rows)| weights(ty, rows, k, rows as u64));
    let isa = Isa::detect();
    let mut pool = Pool::new(3).unwrap();
    let mut memory = vec![0.0; q8_words(Share::Block, n, k)];
    let acts = quantize_acts(&mut pool, isa, Share::Block, &x, k, &mut memory);
    let tokens: [&[u32]; 3] = [&[0, 1, 2, 3, 4, 5, 6, 7, 8], &[7, 2], &[3]];
    let mut outs: Vec<Vec<f32>> =
        (0..3).map(|i| vec![0.0; shapes[i].1 * tokens[i].len()]).collect();
    let mut jobs: Vec<MatMul<'_>> = outs
        .iter_mut()
        .enumerate()
        .map(|(i, out)| {
            let w = MatRef::new(shapes[i].0, shapes[i].1, k, &stored[i]).unwrap();
            MatMul::new(w, Acts::Q8(acts.select(tokens[i])), None, out)
        })
        .collect();
    matmul_all(&mut pool, Kernels::new(isa), &mut jobs);
    drop(jobs);
    for i in 0..3 {
        let w = MatRef::new(shapes[i].0, shapes[i].1, k, &stored[i]).unwrap();
        for (j, token) in tokens[i].iter().enumerate() {
            let alone = product(1, isa, w, &x[*token as usize * k..][..k], None);
            assert_eq!(outs[i][j * shapes[i].1..][..shapes[i].1], alone);
        }
    }
}

#[test]
fn embedding_rows_are_dequantized_by_id() {
    let (rows, k) = (7, 64);
    let stored = weights(QuantType::Q5_1, rows, k, 4);
    let mut all = vec![0.0; rows * k];
    dequantize(QuantType::Q5_1, &stored, &mut all).unwrap();
    let w = MatRef::new(QuantType::Q5_1, rows, k, &stored).unwrap();
    let mut pool = Pool::new(2).unwrap();
    let mut out = vec![0.0; 3 * k];
    embed_rows(&mut pool, w, &[6, 0, 6], &mut out).unwrap();
    assert_eq!(out[..k], all[6 * k..]);
    assert_eq!(out[k..2 * k], all[..k]);
    assert_eq!(out[2 * k..], all[6 * k..]);
    let error = embed_rows(&mut pool, w, &[1, 7, 2], &mut out).unwrap_err();
    assert_eq!(error.to_string(), "token 7 is beyond the 7 rows of the embedding");
}

#[test]
fn matrices_that_do_not_fit_their_bytes_are_refused() {
    let shape = |ty, rows, cols, n: usize| MatRef::new(ty, rows, cols, &vec![0; n]).err();
    assert!(matches!(shape(QuantType::Q8_0, 2, 32, 67), Some(Error::Matrix { .. })));
    assert!(matches!(shape(QuantType::Q8_0, 2, 33, 68), Some(Error::Matrix { .. })));
    assert!(matches!(shape(QuantType::F32, usize::MAX, 8, 0), Some(Error::Matrix { .. })));
    assert!(matches!(shape(QuantType::I32, 1, 1, 4), Some(Error::Type { .. })));
    assert!(shape(QuantType::Q8_0, 2, 32, 68).is_none());
}
