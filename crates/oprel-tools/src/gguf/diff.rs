//! What two models differ in.

use std::path::Path;

use oprel_gguf::{Gguf, QuantType, TensorInfo, Value};
use oprel_quant::dequantize;

use crate::error::Result;

/// One difference between two models.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// A key has another value, or is in one of the files alone.
    Key {
        /// The key.
        key: String,
        /// Its value in the first.
        first: Option<Value>,
        /// Its value in the second.
        second: Option<Value>,
    },
    /// A tensor is in one of the files alone.
    Tensor {
        /// The tensor.
        name: String,
        /// It is in the first.
        in_first: bool,
    },
    /// A tensor has another shape.
    Shape {
        /// The tensor.
        name: String,
        /// In the first.
        first: Vec<u64>,
        /// In the second.
        second: Vec<u64>,
    },
    /// A tensor is stored as another type.
    Type {
        /// The tensor.
        name: String,
        /// In the first.
        first: QuantType,
        /// In the second.
        second: QuantType,
        /// Squared difference of the weights over the first's squares; `None` if they are not read as numbers.
        error: Option<f64>,
    },
    /// A tensor has other bytes.
    Content {
        /// The tensor.
        name: String,
        /// Bytes that differ.
        n_bytes: u64,
        /// As above.
        error: Option<f64>,
    },
    /// Tensors that both have are in another order.
    Order,
}

/// Compares the models at two paths: metadata, then tensors in the order of the first.
///
/// # Errors
/// What cannot be read.
pub fn diff(first: &Path, second: &Path) -> Result<Vec<Difference>> {
    let (a, b) = (Gguf::open(first)?, Gguf::open(second)?);
    let mut found = Vec::new();
    keys(&a, &b, &mut found);
    for tensor in a.tensors() {
        match b.tensor(&tensor.name) {
            Some(other) => found.extend(tensors(&a, tensor, &b, other)),
            None => found.push(Difference::Tensor { name: tensor.name.clone(), in_first: true }),
        }
    }
    for tensor in b.tensors().iter().filter(|tensor| a.tensor(&tensor.name).is_none()) {
        found.push(Difference::Tensor { name: tensor.name.clone(), in_first: false });
    }
    let common = |of: &Gguf, other: &Gguf| -> Vec<String> {
        let both = of.tensors().iter().filter(|tensor| other.tensor(&tensor.name).is_some());
        both.map(|tensor| tensor.name.clone()).collect()
    };
    if common(&a, &b) != common(&b, &a) {
        found.push(Difference::Order);
    }
    a.check()?;
    b.check()?;
    Ok(found)
}

fn keys(a: &Gguf, b: &Gguf, found: &mut Vec<Difference>) {
    let (a, b) = (a.metadata(), b.metadata());
    for (key, value) in a.iter() {
        let other = b.get(key);
        if other.is_none_or(|other| !same(value, other)) {
            let (first, second) = (Some(value.clone()), other.cloned());
            found.push(Difference::Key { key: key.to_owned(), first, second });
        }
    }
    for (key, value) in b.iter().filter(|(key, _)| !a.contains(key)) {
        let (first, second) = (None, Some(value.clone()));
        found.push(Difference::Key { key: key.to_owned(), first, second });
    }
}

/// Equal, a NaN being equal to itself.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::F32(a), Value::F32(b)) => a.to_bits() == b.to_bits(),
        (Value::F64(a), Value::F64(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

fn tensors(a: &Gguf, first: &TensorInfo, b: &Gguf, second: &TensorInfo) -> Option<Difference> {
    let name = first.name.clone();
    if first.shape != second.shape {
        let (first, second) = (first.shape.clone(), second.shape.clone());
        return Some(Difference::Shape { name, first, second });
    }
    let (x, y) = (a.bytes(first), b.bytes(second));
    if first.ty == second.ty {
        let n_bytes = x.iter().zip(y.iter()).filter(|(x, y)| x != y).count() as u64;
        let error = || error(first, &x, second, &y);
        return (n_bytes > 0).then(|| Difference::Content { name, n_bytes, error: error() });
    }
    let error = error(first, &x, second, &y);
    Some(Difference::Type { name, first: first.ty, second: second.ty, error })
}

/// Squared difference over squares, row by row.
fn error(first: &TensorInfo, x: &[u8], second: &TensorInfo, y: &[u8]) -> Option<f64> {
    let columns = usize::try_from(first.cols()).ok()?;
    let (mut numbers, mut others) = (vec![0.0; columns], vec![0.0; columns]);
    let row = |tensor: &TensorInfo| tensor.ty.row_bytes(columns).filter(|n| *n > 0);
    let (mut off, mut all) = (0.0, 0.0);
    for (x, y) in x.chunks(row(first)?).zip(y.chunks(row(second)?)) {
        dequantize(first.ty, x, &mut numbers).ok()?;
        dequantize(second.ty, y, &mut others).ok()?;
        for (x, y) in numbers.iter().zip(&others) {
            off += f64::from(x - y).powi(2);
            all += f64::from(*x).powi(2);
        }
    }
    Some(if all > 0.0 { off / all } else { off })
}
