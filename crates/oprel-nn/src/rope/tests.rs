use super::*;

fn plain() -> Rope {
    Rope {
        dims: 64,
        pairing: Pairing::Halves,
        base: 500_000.0,
        freq_scale: 1.0,
        yarn: None,
        magnitude: 1.0,
        factors: None,
        sections: None,
    }
}

/// The angle of each pair at a text position, and the magnitude, as executors see them.
fn angles(rope: &Rope, factors: Option<&[f32]>, pos: i32) -> (Vec<f64>, f64) {
    let pairs = rope.dims as usize / 2;
    let (mut cos, mut sin) = (vec![0.0; pairs], vec![0.0; pairs]);
    Angles::new(rope, factors).at([pos; 4], &mut cos, &mut sin);
    let angle = |(c, s): (&f32, &f32)| f64::from(*s).atan2(f64::from(*c));
    let all = cos.iter().zip(&sin).map(angle).collect();
    (all, f64::from(cos[0]).hypot(f64::from(sin[0])))
}

/// Checks angles, given in turns or not, against wanted ones.
fn assert_angles(got: &[f64], want: impl Fn(usize) -> f64) {
    for (i, got) in got.iter().enumerate() {
        let off = (got - want(i)).rem_euclid(std::f64::consts::TAU);
        let off = off.min(std::f64::consts::TAU - off);
        assert!(off < 2e-4, "pair {i}: {got} instead of {}", want(i));
    }
}

/// base^(-2i/dims): the angle of pair i at position 1.
fn frequency(rope: &Rope, i: usize) -> f64 {
    f64::from(rope.base).powf(-2.0 * i as f64 / f64::from(rope.dims))
}

#[test]
fn a_plain_rope_turns_pair_i_by_base_to_the_minus_2i_over_dims() {
    let rope = plain();
    let (got, magnitude) = angles(&rope, None, 777);
    assert_angles(&got, |i| 777.0 * frequency(&rope, i));
    assert!((magnitude - 1.0).abs() < 1e-6);
}

#[test]
fn linear_scaling_shortens_positions() {
    let rope = Rope { freq_scale: 0.25, ..plain() };
    let (got, _) = angles(&rope, None, 1000);
    assert_angles(&got, |i| 250.0 * frequency(&rope, i));
}

#[test]
fn frequency_factors_divide() {
    let rope = plain();
    let factors: Vec<f32> = (0..32).map(|i| 1.0 + i as f32 / 8.0).collect();
    let (got, _) = angles(&rope, Some(&factors), 500);
    assert_angles(&got, |i| 500.0 * frequency(&rope, i) / f64::from(factors[i]));
}

/// YaRN as its paper has it: pairs that turn more often than beta_fast over the original context keep
/// their frequency, those that turn less often than beta_slow are interpolated, between them a ramp over
/// the pair's index, whose ends are rounded outwards.
#[test]
fn yarn_keeps_fast_pairs_and_interpolates_slow_ones() {
    let yarn = Yarn { extrapolation: 1.0, beta_fast: 32.0, beta_slow: 1.0, original_context: 4096 };
    let rope = Rope { freq_scale: 0.125, yarn: Some(yarn), ..plain() };
    let (got, magnitude) = angles(&rope, None, 3000);
    let pair_turning = |turns: f64| {
        let wavelength = 4096.0 / (turns * std::f64::consts::TAU);
        32.0 * wavelength.ln() / f64::from(rope.base).ln()
    };
    let (low, high) = (pair_turning(32.0).floor(), pair_turning(1.0).ceil());
    assert!(low > 2.0 && high < 30.0, "both ends of the ramp are inside: {low}, {high}");
    assert_angles(&got, |i| {
        let slow = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
        3000.0 * frequency(&rope, i) * (0.125 * slow + (1.0 - slow))
    });
    assert!((magnitude - (1.0 + 0.1 * 8.0_f64.ln())).abs() < 1e-5);
}

#[test]
fn magnitude_is_a_factor_on_cosine_and_sine() {
    let (_, magnitude) = angles(&Rope { magnitude: 1.19, ..plain() }, None, 12);
    assert!((magnitude - 1.19).abs() < 1e-5);
}

/// Which of four positions, of very different size, turns each pair.
fn components(sections: Sections) -> Vec<u8> {
    let rope = Rope { sections: Some(sections), base: 1.0, ..plain() };
    let (mut cos, mut sin) = (vec![0.0; 32], vec![0.0; 32]);
    Angles::new(&rope, None).at([0, 1, 2, 3], &mut cos, &mut sin);
    let angle = |(c, s): (&f32, &f32)| s.atan2(*c).round() as u8;
    cos.iter().zip(&sin).map(angle).collect()
}

#[test]
fn sections_in_runs_take_their_pairs_one_after_another() {
    let got = components(Sections { pairs: [8, 12, 10, 2], interleaved: false });
    let want = [vec![0; 8], vec![1; 12], vec![2; 10], vec![3; 2]].concat();
    assert_eq!(got, want);
}

#[test]
fn interleaved_sections_alternate_until_one_is_used_up() {
    let got = components(Sections { pairs: [12, 10, 10, 0], interleaved: true });
    let mut want: Vec<u8> = (0..30).map(|i| i % 3).collect();
    want.extend([0, 3]);
    assert_eq!(got, want);
}
