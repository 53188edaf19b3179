//! The mix that loses least of all that fit a size.
//!
//! Each matrix is measured in each type ([`measure`](super::measure)): what it loses is the noise of its results over
//! the signal, the same for large and small ones. What makes the logits counts as much as all layers together: of
//! the residual, whose noise the logits show, each layer's two halves write a part, but its own noise is all in them. From the
//! smallest types, whatever gains most for a byte is bought, along the convex hull of each matrix, until nothing
//! more fits.

use oprel_gguf::{Gguf, QuantType, TensorInfo};

use super::FileType;
use super::choose::{keep, layers, makes_logits, sorted};
use super::measure::loss;
use super::rows::{Converter, Matrix};
use super::{
    OnProgress, Plan, Progress, QuantizeOptions, file_bytes, importance, stored_bytes, tell,
};
use crate::error::{Error, Result};

/// Types that are tried; those that rows do not divide into are left out. Any row is stored as F16.
const TYPES: &[QuantType] = {
    use QuantType::*;
    &[Q2_K, Q3_K, Q4_K, Q4_0, Q5_K, Q5_0, Q6_K, Q8_0, F16]
};
/// Types that are tried besides where it is known how much each column matters: they are made for that, and without
/// it what is measured says little of them.
const OF_IMPORTANCE: &[QuantType] = {
    use QuantType::*;
    &[IQ1_M, IQ2_XXS, IQ2_S, IQ3_XXS, IQ3_S, IQ4_XS]
};

/// A type that a matrix may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    pub ty: QuantType,
    pub n_bytes: u64,
    pub loss: f64,
}

/// Bits of a weight.
pub(crate) fn bits(ty: QuantType) -> f64 {
    8.0 * ty.block_bytes() as f64 / ty.block_len() as f64
}

/// Measures, and chooses.
pub(crate) fn plan<'a>(
    model: &'a Gguf,
    target_bytes: u64,
    options: &QuantizeOptions,
    converter: &mut Converter,
    on_progress: &mut OnProgress<'_>,
) -> Result<Plan<'a>> {
    let tensors = sorted(model);
    let total_bytes = tensors.iter().map(|tensor| tensor.n_bytes()).sum();
    let is_tied = !tensors.iter().any(|tensor| tensor.name == "output.weight");
    let halves = 2.0 * layers(model.metadata())?.max(1) as f64;
    let (mut done_bytes, mut choices) = (0, Vec::with_capacity(tensors.len()));
    for tensor in &tensors {
        let (from, name) = (tensor.ty, tensor.name.as_str());
        let measuring = true;
        tell(
            on_progress,
            &Progress { measuring, tensor: name, from, to: from, done_bytes, total_bytes },
        )?;
        let mut all = measured(model, tensor, options, converter)?;
        if makes_logits(&tensor.name, is_tied) {
            all.iter_mut().for_each(|choice| choice.loss *= halves);
        }
        choices.push(all);
        done_bytes += tensor.n_bytes();
    }
    // Everything that is not data is the same for every mix, but for the place of the mix's own number.
    let smallest = tensors.iter().zip(&choices).map(|(tensor, all)| (*tensor, all[0].ty)).collect();
    let smallest = Plan { file_type: Some(FileType::F32), types: smallest };
    let least_bytes = file_bytes(model, &smallest, options)?;
    let data_bytes: u64 = choices.iter().map(|all| all[0].n_bytes).sum();
    let room = target_bytes.checked_sub(least_bytes.saturating_sub(data_bytes));
    let Some(picked) = room.and_then(|room| pick(&choices, room)) else {
        return Err(Error::TargetTooSmall { least_bytes, target_bytes });
    };
    let types: Vec<_> =
        picked.iter().enumerate().map(|(i, at)| (tensors[i], choices[i][*at].ty)).collect();
    Ok(Plan { file_type: most(&types), types })
}

/// What a tensor may become, from the smallest on along the convex hull: each next one costs more for what it gains.
fn measured(
    model: &Gguf,
    tensor: &TensorInfo,
    options: &QuantizeOptions,
    converter: &mut Converter,
) -> Result<Vec<Choice>> {
    let align = model.alignment().max(1);
    let padded = |n_bytes: u64| n_bytes.next_multiple_of(align);
    let stays = Choice { ty: tensor.ty, n_bytes: padded(tensor.n_bytes()), loss: 0.0 };
    if keep(tensor, options).is_some() || tensor.ty.is_quantized() && !options.allow_requantize {
        return Ok(vec![stays]);
    }
    let bytes = model.bytes(tensor);
    let importance = importance(tensor, options)?;
    let matrix = Matrix::new(tensor, &bytes, importance.as_deref())?;
    let fits = |ty: &&QuantType| {
        tensor.cols().is_multiple_of(ty.block_len() as u64) && bits(**ty) < bits(tensor.ty)
    };
    let more = if importance.is_some() { OF_IMPORTANCE } else { &[] };
    let types: Vec<_> = TYPES.iter().chain(more).filter(fits).copied().collect();
    let isa = converter.isa();
    let losses = converter.each(types.len(), |i| loss(isa, &matrix, types[i]));
    let mut all = Vec::with_capacity(types.len() + 1);
    for (ty, loss) in types.iter().zip(losses) {
        // A weight that a type cannot hold is lost altogether.
        let Some(loss) = loss.transpose()?.filter(|loss| loss.is_finite()) else { continue };
        all.push(Choice { ty: *ty, n_bytes: padded(stored_bytes(tensor, *ty)), loss });
    }
    all.push(stays);
    Ok(hull(all))
}

/// The choices on the lower convex hull, by size.
pub(crate) fn hull(mut all: Vec<Choice>) -> Vec<Choice> {
    all.sort_by(|a, b| a.n_bytes.cmp(&b.n_bytes).then(a.loss.total_cmp(&b.loss)));
    let mut kept: Vec<Choice> = Vec::new();
    for next in all {
        if kept.last().is_some_and(|last| next.loss >= last.loss) {
            continue;
        }
        while let [.., a, b] = kept[..]
            && gain(&a, &b) <= gain(&b, &next)
        {
            kept.pop();
        }
        kept.push(next);
    }
    kept
}

/// What a byte gains from `a` to the larger `b`.
fn gain(a: &Choice, b: &Choice) -> f64 {
    (a.loss - b.loss) / (b.n_bytes - a.n_bytes).max(1) as f64
}

/// Which choice of each, so that all together take at most `room`; `None` if even the smallest do not.
pub(crate) fn pick(choices: &[Vec<Choice>], room: u64) -> Option<Vec<usize>> {
    let least: u64 = choices.iter().map(|all| all[0].n_bytes).sum();
    let mut left = room.checked_sub(least)?;
    let mut steps = Vec::new();
    for (i, all) in choices.iter().enumerate() {
        for at in 1..all.len() {
            steps.push((gain(&all[at - 1], &all[at]), i, at));
        }
    }
    // By gain; steps of one tensor stay in order, since along the hull gains fall.
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut picked = vec![0; choices.len()];
    for (_, i, at) in steps {
        let more = choices[i][at].n_bytes - choices[i][at - 1].n_bytes;
        if picked[i] + 1 == at && more <= left {
            (picked[i], left) = (at, left - more);
        }
    }
    Some(picked)
}

/// The mix that the file calls itself: that of the type that most weights have.
fn most(types: &[(&TensorInfo, QuantType)]) -> Option<FileType> {
    let of = |ty: QuantType| -> u64 {
        let same = types.iter().filter(|(_, other)| *other == ty);
        same.map(|(tensor, _)| tensor.n_elements()).sum()
    };
    let most = types.iter().map(|(_, ty)| *ty).max_by_key(|ty| of(*ty))?;
    FileType::mostly(most)
}

#[cfg(test)]
mod tests;
