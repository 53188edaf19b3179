use super::*;

/// A token's codes, scales, totals and sums.
type Quantized = (Vec<i8>, Vec<f32>, Vec<f32>, Vec<i32>);

fn quantized(isa: Isa, x: &[f32]) -> Quantized {
    let padded = x.len().next_multiple_of(GROUP);
    let mut codes = vec![99; padded];
    let mut scales = vec![9.0; padded / SCALED];
    let (mut totals, mut sums) = (scales.clone(), vec![9; padded / SUMMED]);
    let (scales_of, totals_of) = (&mut scales[..], &mut totals[..]);
    let to = ActRowMut { codes: &mut codes, scales: scales_of, totals: totals_of, sums: &mut sums };
    quantize_row(isa, x, to);
    (codes, scales, totals, sums)
}

fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * i) as f32 * 0.37).sin() * (1.0 + i as f32)).collect()
}

#[test]
fn codes_and_scales_give_the_elements_back_within_half_a_step() {
    for isa in Isa::supported() {
        for k in [1, 31, 32, 33, 100, 128, 384, 1000] {
            let x = wave(k);
            let (codes, scales, totals, sums) = quantized(isa, &x);
            for (i, v) in x.iter().enumerate() {
                let scale = scales[i / SCALED];
                let error = (f32::from(codes[i]) * scale - v).abs();
                assert!(error <= scale * 0.5001, "{isa} {k} {i}");
            }
            assert!(codes[k..].iter().all(|c| *c == 0));
            let sum = |codes: &[i8]| codes.iter().map(|c| i32::from(*c)).sum::<i32>();
            for (b, block) in codes.chunks_exact(SCALED).enumerate() {
                let at = b / BLOCKS * 2 * BLOCKS + b % BLOCKS;
                assert_eq!(sums[at], sum(&block[..SUMMED]));
                assert_eq!(sums[at + BLOCKS], sum(&block[SUMMED..]));
                assert_eq!(totals[b], sum(block) as f32);
            }
        }
    }
}

#[test]
fn tiers_quantize_alike() {
    let mut x = wave(500);
    x[40] = f32::MIN_POSITIVE / 4.0;
    x[64..96].fill(0.0);
    x[100] = 3e38;
    let scalar = quantized(Isa::SCALAR, &x);
    for isa in Isa::supported() {
        assert_eq!(quantized(isa, &x), scalar, "{isa}");
    }
}

#[test]
fn what_is_no_number_stays_visible_in_its_block_alone() {
    for isa in Isa::supported() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = wave(128);
            x[70] = bad;
            let (_, scales, ..) = quantized(isa, &x);
            assert!(!scales[2].is_finite());
            assert!(scales[0].is_finite() && scales[1].is_finite() && scales[3].is_finite());
        }
    }
}

#[test]
fn many_tokens_are_quantized_like_one_and_can_be_chosen() {
    let (n, k) = (5, 200);
    let x = wave(n * k);
    let mut memory = vec![0.0; q8_words(n, k)];
    let mut pool = Pool::new(2).unwrap();
    let acts = quantize_acts(&mut pool, Isa::SCALAR, &x, k, &mut memory);
    assert_eq!((acts.n(), acts.k()), (n, k));
    let chosen = acts.select(&[4, 1]);
    assert_eq!(chosen.n(), 2);
    for (i, token) in [4, 1].into_iter().enumerate() {
        let (codes, scales, totals, sums) = quantized(Isa::SCALAR, &x[token * k..][..k]);
        let row = chosen.row(i);
        assert_eq!((row.codes, row.scales), (&codes[..], &scales[..]));
        assert_eq!((row.totals, row.sums), (&totals[..], &sums[..]));
        assert_eq!(acts.row(token).codes, &codes[..]);
    }
}
