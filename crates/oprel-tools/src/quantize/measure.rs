//! How much a tensor loses in a type: noise to signal of what the matrix gives, over a sample of its rows.

use oprel_cpu::Isa;
use oprel_gguf::QuantType;
use oprel_quant::dequantize;

use super::rows::Matrix;
use crate::error::Result;

/// Weights of a sample, about.
const SAMPLE: usize = 1 << 17;
/// Rows that are taken together.
const TOGETHER: usize = 4;

/// Squared error over squared weights in `ty`, each times its importance.
pub(crate) fn loss(isa: Isa, matrix: &Matrix<'_>, ty: QuantType) -> Result<f64> {
    let wanted = (SAMPLE / matrix.columns.max(1)).clamp(TOGETHER, matrix.n_rows.max(TOGETHER));
    let step = (matrix.n_rows / wanted.div_ceil(TOGETHER)).max(TOGETHER);
    let (mut numbers, mut back, mut sums) = (Vec::new(), Vec::new(), (0.0, 0.0));
    for start in (0..matrix.n_rows).step_by(step) {
        // One importance for all: rows of an expert.
        for row in start..(start + TOGETHER).min(matrix.n_rows) {
            add(isa, matrix, row, ty, [&mut numbers, &mut back], &mut sums)?;
        }
    }
    Ok(if sums.1 > 0.0 { sums.0 / sums.1 } else { 0.0 })
}

fn add(
    isa: Isa,
    matrix: &Matrix<'_>,
    row: usize,
    ty: QuantType,
    [numbers, back]: [&mut Vec<f32>; 2],
    sums: &mut (f64, f64),
) -> Result<()> {
    let mut bytes = vec![0; matrix.columns / ty.block_len() * ty.block_bytes()];
    matrix.convert(isa, row..row + 1, ty, numbers, &mut bytes)?;
    back.resize(numbers.len(), 0.0);
    if dequantize(ty, &bytes, back).is_err() {
        return Ok(());
    }
    let importance = matrix.importance_of(row);
    for (i, (x, y)) in numbers.iter().zip(&*back).enumerate() {
        let w = importance.map_or(1.0, |w| f64::from(w[i]));
        sums.0 += w * f64::from(x - y).powi(2);
        sums.1 += w * f64::from(*x).powi(2);
    }
    Ok(())
}
