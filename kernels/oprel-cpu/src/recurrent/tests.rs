use super::*;
use crate::matmul::tests::numbers;

/// Runs `step(isa, n_threads, from, to, state) -> y` for the whole and cut in two at every point,
/// in all tiers, and checks that all give the same bits; gives them.
fn alike(
    n: usize,
    state: &[f32],
    step: impl Fn(Isa, &mut Pool, usize, usize, &mut [f32]) -> Vec<f32>,
) -> (Vec<f32>, Vec<f32>) {
    let mut whole_state = state.to_vec();
    let whole = step(Isa::SCALAR, &mut Pool::new(1).unwrap(), 0, n, &mut whole_state);
    for isa in Isa::supported() {
        let mut pool = Pool::new(3).unwrap();
        for cut in 0..=n {
            let mut state = state.to_vec();
            let mut y = step(isa, &mut pool, 0, cut, &mut state);
            y.extend(step(isa, &mut pool, cut, n, &mut state));
            assert_eq!(y, whole, "{isa} cut at {cut}");
            assert_eq!(state, whole_state, "{isa} cut at {cut}");
        }
    }
    (whole, whole_state)
}

fn assert_near(got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (g, e) in got.iter().zip(expected) {
        assert!((f64::from(*g) - e).abs() <= 1e-5 * (1.0 + e.abs()), "{g} is not {e}");
    }
}

/// Rows `from..to` of `x` (n, width).
fn columns(x: &[f32], n: usize, from: usize, to: usize) -> Columns<'_> {
    let width = x.len() / n;
    Columns::all(&x[from * width..to * width], width)
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

#[test]
fn a_convolution_sums_the_last_inputs() {
    for (channels, taps, n) in [(1, 2, 3), (70, 4, 9), (200, 3, 2), (5, 1, 4)] {
        let (weight, bias) = (numbers(1, channels * taps), numbers(2, channels));
        let (x, past) = (numbers(3, n * channels), numbers(4, (taps - 1) * channels));
        for bias in [None, Some(&bias[..])] {
            let conv = Conv1d { weight: &weight, bias, taps };
            let (y, state) = alike(n, &past, |isa, pool, from, to, state| {
                let mut y = vec![0.0; (to - from) * channels];
                let x = Columns::all(&x[from * channels..to * channels], channels);
                conv1d(pool, isa, &conv, state, to - from, x, &mut y);
                y
            });
            let all = wide(&[&past[..], &x].concat());
            let mut expected = Vec::new();
            for t in 0..n {
                for c in 0..channels {
                    let taps = (0..taps)
                        .map(|i| f64::from(weight[c * taps + i]) * all[(t + i) * channels + c]);
                    expected.push(bias.map_or(0.0, |b| f64::from(b[c])) + taps.sum::<f64>());
                }
            }
            assert_near(&y, &expected);
            assert_eq!(wide(&state), all[n * channels..]);
        }
    }
}

#[test]
fn mamba_follows_its_recurrence() {
    let (inner, n_state, n) = (70, 16, 5);
    let a: Vec<f32> = numbers(1, inner * n_state).iter().map(|a| -a.abs() * 4.0).collect();
    let d = numbers(2, inner);
    let x = numbers(3, n * inner);
    let dt: Vec<f32> = numbers(4, n * inner).iter().map(|x| x.abs()).collect();
    // b and c lie side by side in one matrix, behind three columns of something else.
    let width = 3 + 2 * n_state;
    let bc = numbers(5, n * width);
    let start = numbers(6, inner * n_state);
    let (y, state) = alike(n, &start, |isa, pool, from, to, state| {
        let mut y = vec![0.0; (to - from) * inner];
        let bc = &bc[from * width..to * width];
        let inputs = MambaInputs {
            x: columns(&x, n, from, to),
            dt: columns(&dt, n, from, to),
            b: Columns::new(bc, width, 3, n_state),
            c: Columns::new(bc, width, 3 + n_state, n_state),
        };
        mamba_scan(pool, isa, &MambaWeights { a: &a, d: &d }, state, to - from, &inputs, &mut y);
        y
    });
    let (mut h, mut expected) = (wide(&start), Vec::new());
    for t in 0..n {
        for i in 0..inner {
            let (x, dt) = (f64::from(x[t * inner + i]), f64::from(dt[t * inner + i]));
            let mut sum = f64::from(d[i]) * x;
            for s in 0..n_state {
                let (b, c) = (bc[t * width + 3 + s], bc[t * width + 3 + n_state + s]);
                let at = i * n_state + s;
                h[at] = h[at] * (dt * f64::from(a[at])).exp() + dt * x * f64::from(b);
                sum += h[at] * f64::from(c);
            }
            expected.push(sum);
        }
    }
    assert_near(&y, &expected);
    assert_near(&state, &h);
}

#[test]
fn mamba2_follows_its_recurrence() {
    let (n_heads, head_dim, n_groups, n_state, n) = (6, 10, 2, 24, 4);
    let inner = n_heads * head_dim;
    let a: Vec<f32> = numbers(1, n_heads).iter().map(|a| -a.abs() * 4.0).collect();
    let d = numbers(2, n_heads);
    let (x, b, c) = (
        numbers(3, n * inner),
        numbers(4, n * n_groups * n_state),
        numbers(5, n * n_groups * n_state),
    );
    let dt: Vec<f32> = numbers(6, n * n_heads).iter().map(|x| x.abs()).collect();
    let start = numbers(7, inner * n_state);
    let (y, state) = alike(n, &start, |isa, pool, from, to, state| {
        let mut y = vec![0.0; (to - from) * inner];
        let inputs = MambaInputs {
            x: columns(&x, n, from, to),
            dt: columns(&dt, n, from, to),
            b: columns(&b, n, from, to),
            c: columns(&c, n, from, to),
        };
        let weights = MambaWeights { a: &a, d: &d };
        mamba2_scan(pool, isa, &weights, n_groups, state, to - from, &inputs, &mut y);
        y
    });
    let (mut h, mut expected) = (wide(&start), Vec::new());
    for t in 0..n {
        for i in 0..inner {
            let head = i / head_dim;
            let group = head / (n_heads / n_groups);
            let (x, dt) = (f64::from(x[t * inner + i]), f64::from(dt[t * n_heads + head]));
            let mut sum = f64::from(d[head]) * x;
            for s in 0..n_state {
                let bc = (t * n_groups + group) * n_state + s;
                let at = i * n_state + s;
                h[at] = h[at] * (dt * f64::from(a[head])).exp() + dt * x * f64::from(b[bc]);
                sum += h[at] * f64::from(c[bc]);
            }
            expected.push(sum);
        }
    }
    assert_near(&y, &expected);
    assert_near(&state, &h);
}

#[test]
fn the_delta_rule_follows_its_recurrence() {
    let (n_k_heads, n_v_heads, k_dim, v_dim, n) = (2, 6, 12, 20, 4);
    for (tiled, per_channel) in [(false, false), (true, false), (true, true)] {
        let rule = DeltaRule { n_k_heads, n_v_heads, tiled, k_dim, v_dim, scale: 0.3 };
        let n_decays = n_v_heads * if per_channel { k_dim } else { 1 };
        let (q, k) = (numbers(1, n * n_k_heads * k_dim), numbers(2, n * n_k_heads * k_dim));
        let v = numbers(3, n * n_v_heads * v_dim);
        let g: Vec<f32> = numbers(4, n * n_decays).iter().map(|x| -x.abs()).collect();
        let beta: Vec<f32> = numbers(5, n * n_v_heads).iter().map(|x| x.abs()).collect();
        let start = numbers(6, n_v_heads * k_dim * v_dim);
        let (y, state) = alike(n, &start, |isa, pool, from, to, state| {
            let mut y = vec![0.0; (to - from) * n_v_heads * v_dim];
            let inputs = DeltaInputs {
                q: columns(&q, n, from, to),
                k: columns(&k, n, from, to),
                v: columns(&v, n, from, to),
                log_decay: columns(&g, n, from, to),
                beta: columns(&beta, n, from, to),
            };
            delta_scan(pool, isa, &rule, state, to - from, &inputs, &mut y);
            y
        });
        let (mut s, mut expected) = (wide(&start), Vec::new());
        for t in 0..n {
            for head in 0..n_v_heads {
                let k_head = if tiled { head % n_k_heads } else { head / 3 };
                let s = &mut s[head * k_dim * v_dim..][..k_dim * v_dim];
                let at = |x: &[f32], i: usize| f64::from(x[(t * n_k_heads + k_head) * k_dim + i]);
                for i in 0..k_dim {
                    let decay = if per_channel {
                        (t * n_v_heads + head) * k_dim + i
                    } else {
                        t * n_v_heads + head
                    };
                    s[i * v_dim..][..v_dim]
                        .iter_mut()
                        .for_each(|s| *s *= f64::from(g[decay]).exp());
                }
                for j in 0..v_dim {
                    let seen: f64 = (0..k_dim).map(|i| s[i * v_dim + j] * at(&k, i)).sum();
                    let v = f64::from(v[(t * n_v_heads + head) * v_dim + j]);
                    let write = f64::from(beta[t * n_v_heads + head]) * (v - seen);
                    (0..k_dim).for_each(|i| s[i * v_dim + j] += at(&k, i) * write);
                    let y: f64 = (0..k_dim).map(|i| s[i * v_dim + j] * at(&q, i)).sum();
                    expected.push(y * 0.3);
                }
            }
        }
        assert_near(&y, &expected);
        assert_near(&state, &s);
    }
}
