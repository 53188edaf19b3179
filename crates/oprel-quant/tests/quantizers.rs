//! Quantizers of the IQ, ternary, fp4 and one-bit types: no more error than ggml's, its bytes where it
//! follows a rule, and defined results for whatever weights.
//!
//! `benches/quantizers.py --golden` writes the golden files.

use half::f16;
use oprel_quant::QuantType::{self, *};
use oprel_quant::{dequantize, quantize_weighted};

const TYPES: [QuantType; 14] = [
    IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ4_NL, IQ4_XS, TQ1_0, TQ2_0, MXFP4,
    NVFP4, Q1_0,
];
const COLUMNS: usize = 1024;
const WEIGHTS: usize = 8 * COLUMNS;
const ERRORS: &str = include_str!("golden/quantize_errors.txt");
const DIGESTS: &str = include_str!("golden/quantize_digests.txt");
const REAL: &[u8] = include_bytes!("golden/real.f16");

/// splitmix64.
fn hash(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Normally distributed numbers: sums of twelve uniform ones of 16 bits.
fn normal(seed: u64, n: usize) -> Vec<f64> {
    let sixteens = |h: u64| (0..4).map(|i| (h >> (16 * i) & 0xffff) as i64).sum::<i64>();
    let sum = |i: u64| (0..3).map(|k| sixteens(hash(seed + 3 * i + k))).sum::<i64>();
    (0..n as u64).map(|i| (sum(i) - 393_210) as f64 / 65_536.0).collect()
}

fn rows(kind: &str) -> Vec<f32> {
    let f32s = |x: Vec<f64>| x.into_iter().map(|x| (x * 0.02) as f32).collect();
    match kind {
        "normal" => f32s(normal(1, WEIGHTS)),
        "heavy" => f32s(normal(1_000_000_000, WEIGHTS).iter().map(|x| x * x.abs()).collect()),
        "real" => REAL.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        _ => {
            let power = |i: usize| 2f64.powi((i / 64 % 20) as i32 - 10);
            let x = normal(3_000_000_000, WEIGHTS).into_iter().enumerate();
            x.map(|(i, x)| ((x * 4.0).floor() / 4.0 * power(i)) as f32).collect()
        }
    }
}

fn importance() -> Vec<f32> {
    normal(2_000_000_000, COLUMNS).iter().map(|g| (g * g * g * g + 0.01) as f32).collect()
}

fn stored(ty: QuantType, x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0; ty.row_bytes(x.len()).unwrap()];
    quantize_weighted(ty, x, COLUMNS.min(x.len()), importance, &mut bytes).unwrap();
    bytes
}

fn round_trip(ty: QuantType, x: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
    let mut back = vec![0.0; x.len()];
    dequantize(ty, &stored(ty, x, importance), &mut back).unwrap();
    back
}

/// Squared error over squared weights, each times the column's importance.
fn error(x: &[f32], back: &[f32], importance: Option<&[f32]>) -> f64 {
    let (mut off, mut all) = (0.0, 0.0);
    for (i, (x, y)) in x.iter().zip(back).enumerate() {
        let w = importance.map_or(1.0, |w| f64::from(w[i % COLUMNS]));
        off += w * (f64::from(*x) - f64::from(*y)).powi(2);
        all += w * f64::from(*x).powi(2);
    }
    off / all
}

#[test]
fn errors_are_no_larger_than_ggmls() {
    let importance = importance();
    let mut n_seen = 0;
    for line in ERRORS.lines() {
        let [name, kind, weighted, theirs] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("not a line of errors: {line}");
        };
        let ty = QuantType::from_name(name).unwrap();
        let importance = (weighted == "importance").then_some(&importance[..]);
        let x = rows(kind);
        let ours = error(&x, &round_trip(ty, &x, importance), importance);
        let theirs: f64 = theirs.parse().unwrap();
        assert!(ours <= theirs + 1e-9, "{line}: oprel's is {ours:.9}");
        n_seen += 1;
    }
    assert_eq!(n_seen, TYPES.len() * 6);
}

#[test]
fn types_with_a_rule_have_ggmls_bytes() {
    let digest = |bytes: Vec<u8>| {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        })
    };
    let mut n_seen = 0;
    for line in DIGESTS.lines() {
        let [name, kind, theirs] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("not a line of digests: {line}");
        };
        let ty = QuantType::from_name(name).unwrap();
        let ours = digest(stored(ty, &rows(kind), None));
        assert_eq!(format!("{ours:#018x}"), theirs, "{name} {kind}");
        n_seen += 1;
    }
    assert_eq!(n_seen, 15);
}

#[test]
fn zeros_stay_zeros() {
    for ty in TYPES {
        for zero in [0.0, -0.0] {
            assert!(round_trip(ty, &[zero; 256], None).iter().all(|y| *y == 0.0), "{ty}");
        }
        assert!(round_trip(ty, &[0.0; 1024], Some(&importance())).iter().all(|y| *y == 0.0));
    }
}

#[test]
fn constant_blocks_keep_their_size() {
    for ty in TYPES {
        // A power of two times at most six, or few steps of E4M3 when small; all others have a word of equal values.
        let most = if ty == MXFP4 {
            0.34
        } else if ty == NVFP4 {
            0.2
        } else {
            0.01
        };
        for value in [1.0f32, -1.0, 1e-2, -300.0, 2e3] {
            for y in round_trip(ty, &[value; 256], None) {
                assert!(((y - value) / value).abs() <= most, "{ty}: {value} became {y}");
            }
        }
    }
}

/// Rows that searches may stumble over.
fn awkward_rows() -> Vec<Vec<f32>> {
    let normal: Vec<f32> = normal(77, 1024).iter().map(|x| *x as f32).collect();
    let with = |values: &[(usize, f32)]| {
        let mut row = normal.clone();
        for (at, value) in values {
            row[*at] = *value;
        }
        row
    };
    let scaled = |by: f32| normal.iter().map(|x| x * by).collect::<Vec<f32>>();
    let mut alone = vec![0.0; 1024];
    alone[300] = -1e-3;
    vec![
        with(&[(3, f32::NAN), (40, f32::INFINITY), (300, f32::NEG_INFINITY)]),
        with(&[(100, f32::MAX), (101, f32::MIN), (600, 1e20)]),
        with(&[(5, f32::MIN_POSITIVE / 8.0), (6, -f32::MIN_POSITIVE)]),
        vec![f32::NAN; 1024],
        vec![f32::INFINITY; 1024],
        vec![f32::NEG_INFINITY; 1024],
        scaled(1e-40),
        scaled(1e-20),
        scaled(1e-7),
        scaled(3e-5),
        scaled(1e4),
        scaled(1e30),
        normal.iter().map(|x| x.abs()).collect(),
        normal.iter().map(|x| -x.abs()).collect(),
        alone,
    ]
}

#[test]
fn whatever_the_weights_results_are_numbers() {
    let mut importances = vec![vec![0.0; COLUMNS], vec![f32::MAX; COLUMNS], importance()];
    importances.push(importance().iter().map(|w| w * 1e-40).collect());
    importances.push((0..COLUMNS).map(|i| if i % 97 == 0 { 1e30 } else { 0.0 }).collect());
    for ty in TYPES {
        for (i, row) in awkward_rows().iter().enumerate() {
            for importance in std::iter::once(None).chain(importances.iter().map(Some)) {
                let back = round_trip(ty, row, importance.map(|w| &w[..]));
                assert!(back.iter().all(|y| y.is_finite()), "{ty}, row {i}: {back:?}");
            }
        }
    }
}

#[test]
fn one_wild_weight_spoils_its_block_alone() {
    for ty in TYPES {
        let x = normal(5, 1024).iter().map(|x| *x as f32).collect::<Vec<_>>();
        for wild in [f32::NAN, f32::INFINITY, 1e9] {
            let mut spoiled = x.clone();
            spoiled[300] = wild;
            let (a, b) = (round_trip(ty, &x, None), round_trip(ty, &spoiled, None));
            assert_eq!(a[..256], b[..256], "{ty}");
            assert_eq!(a[512..], b[512..], "{ty}");
        }
    }
}

#[test]
fn a_block_is_never_worse_than_nothing() {
    // Ternary and one-bit types follow rules that do not look at the error.
    for ty in TYPES.into_iter().filter(|ty| !matches!(ty, TQ1_0 | TQ2_0)) {
        for seed in 0..40 {
            // From nearly normal to a few spikes.
            let power = 1 + seed % 5;
            let x = normal(seed * 10_000, 256);
            let x: Vec<f32> = x.iter().map(|x| (x * x.abs().powi(power as i32)) as f32).collect();
            let off = error(&x, &round_trip(ty, &x, None), None);
            assert!(off < 1.0, "{ty}: {off} of the squares of row {seed}");
        }
    }
}

#[test]
fn rows_do_not_look_at_each_other() {
    let (x, importance) = (rows("normal"), importance());
    for ty in TYPES {
        let all = stored(ty, &x, Some(&importance));
        let one_by_one = x
            .chunks(COLUMNS)
            .flat_map(|row| stored(ty, row, Some(&importance)))
            .collect::<Vec<_>>();
        assert_eq!(all, one_by_one, "{ty}");
    }
}

#[test]
fn importance_lessens_the_error_where_it_matters() {
    let (x, importance) = (rows("normal"), importance());
    for ty in TYPES {
        let with = error(&x, &round_trip(ty, &x, Some(&importance)), Some(&importance));
        let without = error(&x, &round_trip(ty, &x, None), Some(&importance));
        assert!(with < without, "{ty}: {with} is not below {without}");
    }
}
