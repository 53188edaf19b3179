//! What a family reads a model from: metadata under the architecture's prefix, tensors by name.

use oprel_gguf::{Gguf, Metadata};
use oprel_nn::describe::{Linear, Norm, NormKind, RopeId, SiteId, SlotId, StateSpec};
use oprel_nn::rope::Rope;
use oprel_nn::{QMatrix, WeightId, Weights};
use oprel_quant::QuantType;

use crate::{Error, Result};

/// Most layers a file may claim.
const MAX_LAYERS: u32 = 1024;

/// A file being described: its metadata, and the tables that the description fills.
pub(crate) struct Source<'a> {
    file: &'a Gguf,
    architecture: &'a str,
    weights: Weights,
    sites: u32,
    /// Slots named so far.
    pub(crate) slots: Vec<StateSpec>,
    /// Ropes named so far.
    pub(crate) ropes: Vec<Rope>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a Gguf, architecture: &'a str) -> Self {
        let weights = Weights::of(file);
        Source { file, architecture, weights, sites: 0, slots: Vec::new(), ropes: Vec::new() }
    }

    pub(crate) fn into_weights(self) -> Weights {
        self.weights
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    pub(crate) fn architecture(&self) -> &'a str {
        self.architecture
    }

    pub(crate) fn metadata(&self) -> &'a Metadata {
        self.file.metadata()
    }

    /// `architecture.key`.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    pub(crate) fn missing(&self, key: &str) -> Error {
        Error::MissingKey { key: self.key(key) }
    }

    pub(crate) fn wrong(&self, key: &str, value: impl ToString, why: &'static str) -> Error {
        Error::Value { key: self.key(key), value: value.to_string(), why }
    }

    pub(crate) fn unsupported(&self, what: &'static str) -> Error {
        Error::Unsupported { architecture: self.architecture.into(), what }
    }

    /// An integer; `None` if absent.
    pub(crate) fn maybe_u32(&self, key: &str) -> Result<Option<u32>> {
        Ok(self.metadata().u32(&self.key(key))?)
    }

    /// An integer that must be there.
    pub(crate) fn u32(&self, key: &str) -> Result<u32> {
        self.maybe_u32(key)?.ok_or_else(|| self.missing(key))
    }

    /// An integer, or 0 if absent: files write a default either way.
    pub(crate) fn u32_or_zero(&self, key: &str) -> Result<u32> {
        Ok(self.maybe_u32(key)?.unwrap_or(0))
    }

    /// A finite number; `None` if absent.
    pub(crate) fn maybe_f32(&self, key: &str) -> Result<Option<f32>> {
        match self.metadata().f32(&self.key(key))? {
            Some(x) if !x.is_finite() => Err(self.wrong(key, x, "must be a finite number")),
            x => Ok(x),
        }
    }

    /// A number where 0 means the same as absent.
    pub(crate) fn nonzero_f32(&self, key: &str) -> Result<Option<f32>> {
        Ok(self.maybe_f32(key)?.filter(|&x| x != 0.0))
    }

    pub(crate) fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.metadata().bool(&self.key(key))?.unwrap_or(default))
    }

    pub(crate) fn maybe_str(&self, key: &str) -> Result<Option<&'a str>> {
        Ok(self.metadata().str(&self.key(key))?)
    }

    /// A value a layer: an array of `n`, or one number for all. `None` if absent.
    pub(crate) fn per_layer_u32(&self, key: &str, n: u32) -> Result<Option<Vec<u32>>> {
        let full = self.key(key);
        if self.metadata().get(&full).is_none() {
            return Ok(None);
        }
        if let Ok(Some(one)) = self.metadata().u32(&full) {
            return Ok(Some(vec![one; n as usize]));
        }
        let all = self.metadata().u32s(&full)?.unwrap_or_default().to_vec();
        if all.len() < n as usize {
            return Err(self.wrong(key, all.len(), "needs one value for each layer"));
        }
        Ok(Some(all))
    }

    /// Number of layers, in `1..=1024`.
    pub(crate) fn n_layers(&self) -> Result<u32> {
        let n = self.u32("block_count")?;
        if n == 0 || n > MAX_LAYERS {
            return Err(self.wrong("block_count", n, "must be from 1 to 1024"));
        }
        Ok(n)
    }

    /// A tensor that may be absent. `shape` is GGUF's, fastest dimension first.
    pub(crate) fn maybe_tensor(&mut self, name: &str, shape: &[u32]) -> Result<Option<WeightId>> {
        let shape: Vec<u64> = shape.iter().map(|&d| u64::from(d)).collect();
        Ok(self.weights.take(name, &shape)?)
    }

    /// A tensor that must be there.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[u32]) -> Result<WeightId> {
        self.maybe_tensor(name, shape)?
            .ok_or_else(|| oprel_nn::Error::MissingTensor { name: name.into() }.into())
    }

    /// Whether the file has this tensor, whatever its shape.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_some()
    }

    /// Shape of a tensor in GGUF order, if the file has it.
    pub(crate) fn shape(&self, name: &str) -> Option<&[u64]> {
        self.file.tensor(name).map(|t| t.shape.as_slice())
    }

    fn site(&mut self) -> SiteId {
        self.sites += 1;
        SiteId(self.sites - 1)
    }

    /// `NAME.weight` of (rows, cols), with `NAME.bias` and `NAME.scale` where the file has them.
    pub(crate) fn linear(&mut self, name: &str, cols: u32, rows: u32) -> Result<Linear> {
        match self.maybe_linear(name, cols, rows)? {
            Some(linear) => Ok(linear),
            None => Err(oprel_nn::Error::MissingTensor { name: format!("{name}.weight") }.into()),
        }
    }

    /// Like [`Source::linear`], if the file has the weight.
    pub(crate) fn maybe_linear(
        &mut self,
        name: &str,
        cols: u32,
        rows: u32,
    ) -> Result<Option<Linear>> {
        let Some(w) = self.maybe_tensor(&format!("{name}.weight"), &[cols, rows])? else {
            return Ok(None);
        };
        let bias = self.maybe_tensor(&format!("{name}.bias"), &[rows])?;
        let scale = self.maybe_tensor(&format!("{name}.scale"), &[1])?;
        Ok(Some(Linear { w, rows: 0..rows, bias, scale, site: self.site() }))
    }

    /// `NAME.weight` of (experts, rows, cols), with bias and scale an expert where there are any.
    pub(crate) fn experts(
        &mut self,
        name: &str,
        (cols, rows, experts): (u32, u32, u32),
    ) -> Result<Option<Linear>> {
        let weight = format!("{name}.weight");
        let Some(w) = self.maybe_tensor(&weight, &[cols, rows, experts])? else {
            return Ok(None);
        };
        let bias = self.maybe_tensor(&format!("{name}.bias"), &[rows, experts])?;
        let scale = self.maybe_tensor(&format!("{name}.scale"), &[experts])?;
        Ok(Some(Linear { w, rows: 0..rows, bias, scale, site: self.site() }))
    }

    /// A matrix in memory, of (rows, cols): what the file holds in another shape, or not at all.
    pub(crate) fn in_memory(
        &mut self,
        name: &str,
        (rows, cols): (u32, u32),
        values: &[f32],
    ) -> Result<WeightId> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let matrix = QMatrix::in_memory(name, QuantType::F32, (1, rows, cols), bytes.into())?;
        Ok(self.weights.add(matrix))
    }

    /// A linear layer over a matrix of (rows, cols) that is taken already, without bias or scale.
    pub(crate) fn over(&mut self, w: WeightId, rows: u32) -> Linear {
        Linear { w, rows: 0..rows, bias: None, scale: None, site: self.site() }
    }

    /// Some rows of a linear layer, as a layer of its own: parts of fused tensors.
    pub(crate) fn part(&mut self, of: &Linear, rows: std::ops::Range<u32>) -> Linear {
        Linear { rows, site: self.site(), ..of.clone() }
    }

    /// A norm over rows of `len` elements: `NAME.weight`, and `NAME.bias` if there is one.
    pub(crate) fn norm(&mut self, name: &str, len: u32, kind: NormKind, eps: f32) -> Result<Norm> {
        match self.maybe_norm(name, len, kind, eps)? {
            Some(norm) => Ok(norm),
            None => Err(oprel_nn::Error::MissingTensor { name: format!("{name}.weight") }.into()),
        }
    }

    /// Like [`Source::norm`], if the file has the weight.
    pub(crate) fn maybe_norm(
        &mut self,
        name: &str,
        len: u32,
        kind: NormKind,
        eps: f32,
    ) -> Result<Option<Norm>> {
        let Some(weight) = self.maybe_tensor(&format!("{name}.weight"), &[len])? else {
            return Ok(None);
        };
        let bias = self.maybe_tensor(&format!("{name}.bias"), &[len])?;
        Ok(Some(Norm { kind, eps, groups: 1, weight: Some(weight), bias }))
    }

    /// A new slot of state.
    pub(crate) fn slot(&mut self, spec: StateSpec) -> SlotId {
        self.slots.push(spec);
        SlotId((self.slots.len() - 1) as u16)
    }

    /// A rope, shared with equal ones.
    pub(crate) fn rope(&mut self, rope: Rope) -> RopeId {
        let at = self.ropes.iter().position(|r| *r == rope).unwrap_or_else(|| {
            self.ropes.push(rope);
            self.ropes.len() - 1
        });
        RopeId(at as u16)
    }
}
