use super::*;

fn quantized(isa: Isa, x: &[f32]) -> Vec<ActGroup> {
    let mut groups =
        vec![ActGroup { codes: [99; GROUP], ..ActGroup::zeroed() }; x.len().div_ceil(GROUP)];
    quantize_row(isa, x, &mut groups);
    groups
}

/// Element `i` as the codes have it, and its scale.
fn element(groups: &[ActGroup], i: usize) -> (f32, f32) {
    let group = &groups[i / GROUP];
    let scale = group.scales[i % GROUP / SCALED];
    (f32::from(group.codes[i % GROUP]) * scale, scale)
}

fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * i) as f32 * 0.37).sin() * (1.0 + i as f32)).collect()
}

#[test]
fn codes_and_scales_give_the_elements_back_within_half_a_step() {
    for isa in Isa::supported() {
        for k in [1, 31, 32, 33, 100, 128, 384, 1000] {
            let x = wave(k);
            let groups = quantized(isa, &x);
            for (i, v) in x.iter().enumerate() {
                let (y, scale) = element(&groups, i);
                assert!((y - v).abs() <= scale * 0.5001, "{isa} {k} {i}");
            }
            assert!((k..groups.len() * GROUP).all(|i| element(&groups, i).0 == 0.0));
            let sum = |codes: &[i8]| codes.iter().map(|c| i32::from(*c)).sum::<i32>();
            for group in &groups {
                for (b, block) in group.codes.chunks_exact(SCALED).enumerate() {
                    assert_eq!(group.sums[0][b], sum(&block[..SUMMED]));
                    assert_eq!(group.sums[1][b], sum(&block[SUMMED..]));
                    assert_eq!(group.totals[b], sum(block));
                }
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
            let scales = quantized(isa, &x)[0].scales;
            assert!(!scales[2].is_finite());
            assert!(scales[0].is_finite() && scales[1].is_finite() && scales[3].is_finite());
        }
    }
}

#[test]
fn many_tokens_are_quantized_like_one_and_can_be_chosen() {
    let (n, k) = (5, 200);
    let x = wave(n * k);
    let mut memory = vec![0.0; q8_words(Share::Block, n, k)];
    let mut pool = Pool::new(2).unwrap();
    let acts = quantize_acts(&mut pool, Isa::SCALAR, Share::Block, &x, k, &mut memory);
    assert_eq!((acts.n(), acts.k()), (n, k));
    let chosen = acts.select(&[4, 1]);
    assert_eq!(chosen.n(), 2);
    for (i, token) in [4, 1].into_iter().enumerate() {
        let groups = quantized(Isa::SCALAR, &x[token * k..][..k]);
        assert_eq!(chosen.row(i), groups);
        assert_eq!(acts.row(token), groups);
    }
}

fn whole(isa: Isa, x: &[f32]) -> Vec<WholeGroup> {
    let zeros = WholeGroup { codes: [99; GROUP], ..WholeGroup::zeroed() };
    let mut groups = vec![zeros; x.len().div_ceil(GROUP)];
    quantize_whole(isa, x, &mut groups);
    groups
}

#[test]
fn a_group_with_one_scale_gives_its_elements_back_within_half_a_step() {
    for isa in Isa::supported() {
        for k in [1, 31, 255, 256, 257, 1000] {
            let x = wave(k);
            let groups = whole(isa, &x);
            assert_eq!(groups, whole(Isa::SCALAR, &x), "{isa} {k}");
            for (g, group) in groups.iter().enumerate() {
                for (i, code) in group.codes.iter().enumerate() {
                    let v = x.get(g * GROUP + i).copied().unwrap_or(0.0);
                    let y = f32::from(*code) * group.scale;
                    assert!((y - v).abs() <= group.scale * 0.5001, "{isa} {k} {i}");
                    assert_eq!(i32::from(group.raised[i]), i32::from(*code) + 128);
                }
                let sum = |codes: &[i8]| codes.iter().map(|c| i16::from(*c)).sum::<i16>();
                for (run, codes) in group.codes.chunks_exact(SUMMED).enumerate() {
                    assert_eq!(group.runs[run], sum(codes));
                }
                for (b, codes) in group.codes.chunks_exact(SCALED).enumerate() {
                    assert_eq!(group.totals[b], sum(codes));
                }
            }
        }
    }
}

#[test]
fn what_is_no_number_is_the_scale_of_its_group() {
    for isa in Isa::supported() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = wave(512);
            x[300] = bad;
            let groups = whole(isa, &x);
            assert!(groups[0].scale.is_finite() && !groups[1].scale.is_finite());
        }
    }
}
