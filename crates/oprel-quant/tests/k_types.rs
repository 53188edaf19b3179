//! Quantizers of the k-types: no more error than ggml's, and defined results for whatever weights.

use oprel_quant::QuantType::{self, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};
use oprel_quant::{Error, dequantize, quantize, quantize_weighted};

const TYPES: [QuantType; 5] = [Q2_K, Q3_K, Q4_K, Q5_K, Q6_K];
const ROWS: usize = 16;
const COLUMNS: usize = 512;

/// Numbers between -2 and 2, like a normal distribution.
fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 48) as i32
    };
    (0..n).map(|_| ((0..4).map(|_| draw()).sum::<i32>() - 131_072) as f32 / 65_536.0).collect()
}

fn round_trip(ty: QuantType, x: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
    let mut bytes = vec![0; ty.row_bytes(x.len()).unwrap()];
    quantize_weighted(ty, x, COLUMNS.min(x.len()), importance, &mut bytes).unwrap();
    let mut back = vec![0.0; x.len()];
    dequantize(ty, &bytes, &mut back).unwrap();
    back
}

/// Squared error over squared weights, each times the column's importance.
fn error(x: &[f32], back: &[f32], importance: Option<&[f32]>) -> f64 {
    let (mut off, mut all) = (0.0, 0.0);
    for (i, (x, y)) in x.iter().zip(back).enumerate() {
        let w = importance.map_or(1.0, |w| f64::from(w[i % COLUMNS]));
        off += w * f64::from(x - y).powi(2);
        all += w * f64::from(*x).powi(2);
    }
    off / all
}

/// What ggml's quantizers reach on the same numbers: `tests/k_types.py` prints this table.
#[rustfmt::skip]
const GGML: [(QuantType, [f64; 4]); 5] = [
    (Q2_K, [8.34963e-02, 4.96140e-02, 1.38889e-01, 6.66895e-02]),
    (Q3_K, [2.11007e-02, 1.57491e-02, 2.82461e-02, 2.29314e-02]),
    (Q4_K, [4.73396e-03, 3.65429e-03, 7.96198e-03, 6.68764e-03]),
    (Q5_K, [1.19283e-03, 9.88282e-04, 2.07140e-03, 1.82951e-03]),
    (Q6_K, [2.86767e-04, 2.26326e-04, 4.98437e-04, 4.47671e-04]),
];

#[test]
fn errors_are_no_larger_than_ggmls() {
    let normal = noise(0x9e37_79b9_7f4a_7c15, ROWS * COLUMNS);
    let heavy: Vec<f32> = normal.iter().map(|x| x * x.abs()).collect();
    let importance: Vec<f32> = noise(77, COLUMNS).iter().map(|w| w * w + 0.01).collect();
    for (ty, theirs) in GGML {
        let cases = [(&normal, None), (&normal, Some(&importance[..])), (&heavy, None)];
        let cases = cases.into_iter().chain([(&heavy, Some(&importance[..]))]);
        for ((x, importance), theirs) in cases.zip(theirs) {
            let ours = error(x, &round_trip(ty, x, importance), importance);
            assert!(ours < theirs, "{ty}: {ours:.4e} is not below {theirs:.4e}");
        }
    }
}

#[test]
fn what_is_exact_stays_exact() {
    for ty in TYPES {
        assert_eq!(round_trip(ty, &[0.0; 256], None), [0.0; 256], "{ty}");
        // Two values and zero, which the codes of every type have.
        let x: Vec<f32> = (0..256).map(|i| [0.0, -2.0, 0.0, 0.0][i % 4]).collect();
        let back = round_trip(ty, &x, None);
        assert!(x.iter().zip(&back).all(|(x, y)| (x - y).abs() < 2e-3), "{ty}: {back:?}");
    }
}

#[test]
fn constant_and_tiny_and_huge_blocks_keep_their_size() {
    for ty in TYPES {
        for value in [1.0, -1.0, 1e-3, -3e4, 300.0] {
            let back = round_trip(ty, &[value; 256], None);
            assert!(
                back.iter().all(|y| (y / value - 1.0).abs() < 0.03),
                "{ty} {value}: {}",
                back[0]
            );
        }
        for value in [f32::MIN_POSITIVE, 1e-40, 1e-12, -1e-30] {
            let back = round_trip(ty, &[value; 256], None);
            assert!(back.iter().all(|y| y.abs() <= 1e-7), "{ty} {value}: {}", back[0]);
        }
        for value in [f32::MAX, f32::MIN, 1e30, 1e10] {
            let back = round_trip(ty, &[value; 256], None);
            let fits = |y: &f32| y.is_finite() && y.signum() == value.signum() && y.abs() > 1e5;
            assert!(back.iter().all(fits), "{ty} {value}: {}", back[0]);
        }
    }
}

#[test]
fn numbers_that_are_none_spoil_no_other_block() {
    let mut x = noise(5, 512);
    (x[3], x[40], x[70]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    for ty in TYPES {
        let back = round_trip(ty, &x, None);
        assert!(back.iter().all(|y| y.is_finite()), "{ty}");
        assert_eq!(back[256..], round_trip(ty, &x[256..], None), "{ty}");
        let mut alone = noise(6, 256);
        alone[9] = f32::NAN;
        let mut zero = alone.clone();
        zero[9] = 0.0;
        assert_eq!(round_trip(ty, &alone, None), round_trip(ty, &zero, None), "{ty}: NaN is 0");
    }
}

#[test]
fn importance_moves_error_to_where_it_costs_less() {
    let x = noise(9, 4 * COLUMNS);
    let importance: Vec<f32> = (0..COLUMNS).map(|i| if i % 4 == 0 { 50.0 } else { 0.1 }).collect();
    for ty in TYPES {
        let of = |back: &[f32]| error(&x, back, Some(&importance));
        let (with, without) = (round_trip(ty, &x, Some(&importance)), round_trip(ty, &x, None));
        assert!(of(&with) < 0.9 * of(&without), "{ty}: {} {}", of(&with), of(&without));
        // Scaling all of it changes nothing to speak of; nothing at all of it is like everything.
        let zeros = [0.0; COLUMNS];
        assert!(error(&x, &round_trip(ty, &x, Some(&zeros)), None) < 0.1, "{ty}");
    }
}

#[test]
fn importance_that_fits_no_row_is_refused() {
    let mut to = [0; 144];
    let mut refused = |columns, importance: &[f32]| {
        let result = quantize_weighted(Q4_K, &[0.5; 256], columns, Some(importance), &mut to);
        assert!(matches!(result, Err(Error::Importance { .. })), "{result:?}");
    };
    refused(256, &[1.0; 255]);
    refused(256, &[f32::NAN; 256]);
    refused(256, &[-1.0; 256]);
    refused(512, &[1.0; 512]);
    refused(0, &[]);
    let columns = quantize_weighted(Q4_K, &[0.5; 256], 128, None, &mut to);
    assert!(matches!(columns, Err(Error::Length { .. })));
    assert_eq!(quantize(Q4_K, &[], &mut []), Ok(()));
}
