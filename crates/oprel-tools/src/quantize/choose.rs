//! The type of every tensor of a model in a mix.

use oprel_gguf::{Gguf, Metadata, QuantType, TensorInfo};

use super::FileType;
use super::QuantizeOptions;
use super::part::{self, Part};
use super::rules::{self, Facts, Place};
use crate::error::Result;

/// Counts tensors of a kind as they come.
#[derive(Default)]
struct Counts {
    v_like: usize,
    down: usize,
    gate: usize,
    up: usize,
}

/// The tensors in the order of the output, each with its type in it.
pub(crate) fn types<'a>(
    model: &'a Gguf,
    mix: FileType,
    options: &QuantizeOptions,
) -> Result<Vec<(&'a TensorInfo, QuantType)>> {
    let tensors = sorted(model);
    let facts = facts(model.metadata(), options.imatrix.is_some())?;
    let is_tied = !tensors.iter().any(|tensor| tensor.name == "output.weight");
    let n_layers = layers(model.metadata())?;
    let n_v_like = tensors.iter().filter(|tensor| Part::of(&tensor.name).is_v_like()).count();
    let mut counts = Counts::default();
    let mut chosen = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let ty = match fixed(tensor, mix, options) {
            Some(ty) => ty,
            None if makes_logits(&tensor.name, is_tied) => {
                rules::output(mix, &facts, tensor.cols())
            }
            None => {
                let at = counts.place(tensor, &facts, n_layers, n_v_like);
                let experts = tensor.shape.get(2).copied().unwrap_or(1);
                rules::inner(mix, Part::of(&tensor.name), &facts, at, experts)
            }
        };
        let converts = part::is_quantized(tensor) && keep(tensor, options).is_none();
        let fitting = if converts { rules::fitting(ty, tensor.cols()) } else { ty };
        chosen.push((tensor, fitting));
    }
    Ok(chosen)
}

/// The tensors in the order of the output.
pub(crate) fn sorted(model: &Gguf) -> Vec<&TensorInfo> {
    let mut tensors: Vec<_> = model.tensors().iter().collect();
    tensors.sort_by(|a, b| part::order(&a.name).cmp(&part::order(&b.name)));
    tensors
}

/// The tensor stays as it is stored, whatever the mix.
pub(crate) fn keep(tensor: &TensorInfo, options: &QuantizeOptions) -> Option<QuantType> {
    let kept =
        !part::is_quantized(tensor) || (options.keep_output && tensor.name == "output.weight");
    kept.then_some(tensor.ty)
}

/// The tensor's type where no rule of the mix is asked.
fn fixed(tensor: &TensorInfo, mix: FileType, options: &QuantizeOptions) -> Option<QuantType> {
    let part = Part::of(&tensor.name);
    if let Some(ty) = keep(tensor, options) {
        return Some(ty);
    }
    let asked = match part {
        Part::Embedding => options.embedding_type,
        Part::Output => options.output_type,
        _ => None,
    };
    let named = || {
        let mut overrides = options.overrides.iter();
        overrides.find(|(name, _)| tensor.name.contains(name)).map(|(_, ty)| *ty)
    };
    let main = mix.main_type();
    asked.or_else(named).or_else(|| (options.pure || !main.is_quantized()).then_some(main))
}

/// The output, or the embedding where it is the output too.
pub(crate) fn makes_logits(name: &str, is_tied: bool) -> bool {
    match Part::of(name) {
        Part::Output => true,
        Part::Embedding => is_tied,
        _ => false,
    }
}

impl Counts {
    /// Where the tensor is among its kind, which it joins.
    fn place(
        &mut self,
        tensor: &TensorInfo,
        facts: &Facts,
        n_layers: usize,
        n_v_like: usize,
    ) -> Place {
        let (count, of) = match Part::of(&tensor.name) {
            part if part.is_v_like() => (&mut self.v_like, n_v_like),
            Part::Down => (&mut self.down, n_layers),
            Part::Gate => (&mut self.gate, n_layers),
            Part::Up => (&mut self.up, n_layers),
            _ => return Place { nth: 0, layer: 0, of: 0 },
        };
        let nth = *count;
        *count += 1;
        // Where there are experts their matrices may be apart, and are not counted.
        let is_feed_forward = !Part::of(&tensor.name).is_v_like();
        let by_name = (facts.n_experts > 1 && is_feed_forward)
            .then(|| part::layer(&tensor.name))
            .flatten()
            .filter(|layer| *layer < n_layers);
        Place { nth, layer: by_name.unwrap_or(nth), of }
    }
}

/// Layers of the model.
pub(crate) fn layers(metadata: &Metadata) -> Result<usize> {
    let arch = metadata.str("general.architecture")?.unwrap_or_default();
    Ok(metadata.u32(&format!("{arch}.block_count"))?.unwrap_or(0) as usize)
}

fn facts(metadata: &Metadata, has_imatrix: bool) -> Result<Facts> {
    let arch = metadata.str("general.architecture")?.unwrap_or_default();
    let key = |name: &str| format!("{arch}.{name}");
    let first = |name: &str| -> Result<Option<u64>> {
        let key = key(name);
        match metadata.get(&key) {
            Some(oprel_gguf::Value::Array(_)) => {
                Ok(metadata.u64s(&key)?.and_then(|all| all.first().copied()))
            }
            _ => Ok(metadata.u64(&key)?),
        }
    };
    let heads = first("attention.head_count")?.unwrap_or(0);
    let kv_heads = first("attention.head_count_kv")?.unwrap_or(heads);
    let n_layers = layers(metadata)?;
    let is_70b = match arch {
        "llama" => n_layers == 80 && heads != kv_heads,
        "qwen2" | "deci" => n_layers == 80,
        "jais2" => n_layers == 68,
        _ => false,
    };
    Ok(Facts {
        is_falcon: arch == "falcon",
        is_bailingmoe3: arch == "bailingmoe3",
        is_70b,
        n_experts: metadata.u64(&key("expert_count"))?.unwrap_or(0),
        n_shared: heads.checked_div(kv_heads).unwrap_or(0),
        has_imatrix,
    })
}
