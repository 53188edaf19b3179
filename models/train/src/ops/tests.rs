use super::*;
use candle_core::Var;

/// Compares the derivative of `sum(f(x) * c)` with central differences at some places.
fn check(x: &Var, f: impl Fn(&Tensor) -> Tensor) {
    let y = f(x.as_tensor());
    let c = Tensor::randn(0f32, 1., y.shape(), &Device::Cpu).unwrap();
    let sum = |x: &Tensor| (f(x) * &c).unwrap().sum_all().unwrap();
    let g = flat(sum(x.as_tensor()).backward().unwrap().get(x).unwrap()).unwrap();
    let base = flat(x.as_tensor()).unwrap();
    for i in (0..base.len()).step_by(base.len() / 37 + 1) {
        let at = |d: f32| {
            let mut v = base.clone();
            v[i] += d;
            let v = Tensor::from_vec(v, x.shape(), &Device::Cpu).unwrap();
            sum(&v).to_scalar::<f32>().unwrap()
        };
        let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
        assert!((slope - g[i]).abs() < 0.02 + 0.02 * slope.abs(), "{i}: {slope} {}", g[i]);
    }
}

fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
}

fn random(shape: (usize, usize)) -> Var {
    Var::randn(0f32, 1., shape, &Device::Cpu).unwrap()
}

#[test]
fn the_norm_has_the_derivative_of_its_value() {
    let w = Var::randn(0f32, 1., 32, &Device::Cpu).unwrap();
    let x = random((5, 32));
    let eps = 1e-5;
    check(&x, |x| x.apply_op2(w.as_tensor(), RmsNorm { eps }).unwrap());
    check(&w, |w| x.as_tensor().apply_op2(w, RmsNorm { eps }).unwrap());
}

#[test]
fn the_gate_has_the_derivative_of_its_value() {
    check(&random((5, 64)), |x| x.apply_op1(SwiGlu).unwrap());
}

#[test]
fn attention_has_the_derivative_of_its_value() {
    let rope = Arc::new(Rope::new(16, 1e4));
    let lengths = Arc::new(vec![3, 7]);
    check(&random((10, QKV)), |x| {
        x.apply_op1(Attention { rope: rope.clone(), lengths: lengths.clone() }).unwrap()
    });
}

#[test]
fn attention_sees_no_later_row_and_no_other_document() {
    let rope = Arc::new(Rope::new(16, 1e4));
    let op = |lengths| Attention { rope: rope.clone(), lengths: Arc::new(lengths) };
    let x = random((10, QKV));
    let whole = flat(&x.apply_op1(op(vec![3, 7])).unwrap()).unwrap();
    let first = flat(&x.narrow(0, 0, 2).unwrap().apply_op1(op(vec![2])).unwrap()).unwrap();
    assert!(near(&whole[..first.len()], &first));
    let last = x.narrow(0, 3, 7).unwrap().contiguous().unwrap();
    let last = flat(&last.apply_op1(op(vec![7])).unwrap()).unwrap();
    assert!(near(&whole[3 * OUT..], &last));
}

#[test]
fn the_loss_has_the_derivative_of_its_value() {
    let targets = Arc::new(vec![1, 0, 9, 3]);
    let weights = Arc::new(vec![1., 0., 0.5, 1.]);
    check(&random((4, 10)), |x| {
        x.apply_op1(CrossEntropy { targets: targets.clone(), weights: weights.clone() }).unwrap()
    });
}
