//! The bytes of pages and recurrent rows, each slot on the device of the layers that use it.

use candle_core::{DType, Device, Tensor};

use super::EXECUTOR;
use super::check::unsupported;
use crate::describe::{Decoder, Op, SlotId, StateSpec, VDim};
use crate::exec::{Dev, Limits, Placement};
use crate::state::{Group, KvType, PAGE_LEN, PageId, PageTable, RowId, groups};
use crate::{Error, Result};

/// All state of a model.
pub(super) struct State {
    groups: Vec<Group>,
    slots: Vec<Slot>,
}

/// The state of one slot.
struct Slot {
    dev: Dev,
    /// Which page table leads to it; unused by recurrent slots.
    group: usize,
    store: Store,
}

enum Store {
    /// (pages * PAGE_LEN, heads * k) and (pages * PAGE_LEN, heads * v); no values where they are part
    /// of the keys.
    Kv { k: Tensor, v: Option<Tensor> },
    /// (rows, state + conv).
    Recurrent(Tensor),
}

impl State {
    /// Takes the memory of every slot; gives its bytes.
    pub(super) fn new(
        decoder: &Decoder,
        placement: &Placement,
        limits: &Limits,
        devices: &[Device],
    ) -> Result<(State, u64)> {
        let groups = groups(&decoder.slots);
        let devs = slot_devs(decoder, placement)?;
        let mut slots = Vec::with_capacity(decoder.slots.len());
        let mut bytes = 0;
        for (i, (spec, dev)) in decoder.slots.iter().zip(devs).enumerate() {
            let group = groups.iter().position(|g| g.slots.contains(&i)).unwrap_or(0);
            let pages = limits.pages.get(group).copied().unwrap_or(0);
            let (store, taken) = Store::new(spec, pages, limits, &devices[dev.0 as usize])?;
            slots.push(Slot { dev, group, store });
            bytes += taken;
        }
        Ok((State { groups, slots }, bytes))
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The device a slot lies on.
    pub(super) fn dev(&self, slot: SlotId) -> Dev {
        self.slots[slot.0 as usize].dev
    }

    /// The group whose page table leads to a slot.
    pub(super) fn group(&self, slot: SlotId) -> usize {
        self.slots[slot.0 as usize].group
    }

    fn kv(&self, slot: SlotId) -> Result<(&Tensor, Option<&Tensor>)> {
        match &self.slots[slot.0 as usize].store {
            Store::Kv { k, v } => Ok((k, v.as_ref())),
            Store::Recurrent(_) => Err(wrong_kind(slot)),
        }
    }

    /// Stores the keys (n, heads * k), and values (n, heads * v) unless they are part of the keys, of
    /// the positions from `start` on.
    pub(super) fn append(
        &self,
        slot: SlotId,
        pages: PageTable<'_>,
        start: usize,
        k: &Tensor,
        v: Option<&Tensor>,
    ) -> Result<()> {
        let (keys, values) = self.kv(slot)?;
        write_rows(keys, pages, start, k)?;
        match (values, v) {
            (Some(values), Some(v)) => write_rows(values, pages, start, v),
            (None, _) => Ok(()),
            (Some(_), None) => Err(wrong_kind(slot)),
        }
    }

    /// Keys of positions `from..to`, (to - from, heads * k), f32.
    pub(super) fn keys(
        &self,
        slot: SlotId,
        pages: PageTable<'_>,
        from: usize,
        to: usize,
    ) -> Result<Tensor> {
        read_rows(self.kv(slot)?.0, pages, from, to)
    }

    /// Values of positions `from..to`, (to - from, heads * v), f32.
    pub(super) fn values(
        &self,
        slot: SlotId,
        pages: PageTable<'_>,
        from: usize,
        to: usize,
    ) -> Result<Tensor> {
        read_rows(self.kv(slot)?.1.ok_or_else(|| wrong_kind(slot))?, pages, from, to)
    }

    fn recurrent(&self, slot: SlotId) -> Result<&Tensor> {
        match &self.slots[slot.0 as usize].store {
            Store::Recurrent(rows) => Ok(rows),
            Store::Kv { .. } => Err(wrong_kind(slot)),
        }
    }

    /// The recurrent state (state + conv) in a row; zeros for `None`.
    pub(super) fn row(&self, slot: SlotId, row: Option<RowId>) -> Result<Tensor> {
        let rows = self.recurrent(slot)?;
        match row {
            Some(RowId(r)) => Ok(rows.get(r as usize)?.copy()?),
            None => Ok(Tensor::zeros(rows.dim(1)?, rows.dtype(), rows.device())?),
        }
    }

    /// Replaces the recurrent state (state + conv) of a row.
    pub(super) fn set_row(&self, slot: SlotId, row: RowId, value: &Tensor) -> Result<()> {
        let value = value.contiguous()?.unsqueeze(0)?;
        Ok(self.recurrent(slot)?.slice_set(&value, 0, row.0 as usize)?)
    }

    /// What the slots of a group keep in pages: keys, then values, slot after slot.
    pub(super) fn paged(&self, group: usize) -> impl Iterator<Item = &Tensor> {
        let slots = self.slots.iter().filter(move |slot| slot.group == group);
        slots
            .flat_map(|slot| match &slot.store {
                Store::Kv { k, v } => [Some(k), v.as_ref()],
                Store::Recurrent(_) => [None, None],
            })
            .flatten()
    }

    /// What recurrent slots keep in rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Tensor> {
        self.slots.iter().filter_map(|slot| match &slot.store {
            Store::Kv { .. } => None,
            Store::Recurrent(rows) => Some(rows),
        })
    }
}

impl Store {
    fn new(spec: &StateSpec, pages: u32, limits: &Limits, device: &Device) -> Result<(Store, u64)> {
        let positions = pages as usize * PAGE_LEN;
        match *spec {
            StateSpec::Kv { heads, k, v, .. } => {
                let heads = heads as usize;
                let (k, k_bytes) =
                    zeros(positions, heads * k as usize, dtype(limits.kv.k)?, device)?;
                let (v, v_bytes) = match v {
                    VDim::Own(v) => {
                        let dtype = dtype(limits.kv.v)?;
                        let (v, bytes) = zeros(positions, heads * v as usize, dtype, device)?;
                        (Some(v), bytes)
                    }
                    VDim::AliasK(_) => (None, 0),
                };
                Ok((Store::Kv { k, v }, k_bytes + v_bytes))
            }
            StateSpec::Recurrent { state, conv } => {
                let rows = limits.recurrent_rows as usize;
                let (rows, bytes) = zeros(rows, state + conv, DType::F32, device)?;
                Ok((Store::Recurrent(rows), bytes))
            }
            StateSpec::Index { .. } | StateSpec::Blocks { .. } | StateSpec::Cross { .. } => {
                Err(Error::Unsupported { executor: EXECUTOR, what: format!("a state of {spec:?}") })
            }
        }
    }
}

/// The type that tensors of keys or values have: candle has no attention in integers, for which half
/// precision stands in.
fn dtype(ty: KvType) -> Result<DType> {
    match ty.in_floats() {
        KvType::F32 => Ok(DType::F32),
        KvType::F16 => Ok(DType::F16),
        KvType::Bf16 => Ok(DType::BF16),
        KvType::I16 | KvType::Q8_0 | KvType::Q4_0 => {
            Err(unsupported(format!("a KV cache of {ty}")))
        }
    }
}

fn zeros(rows: usize, cols: usize, dtype: DType, device: &Device) -> Result<(Tensor, u64)> {
    let bytes =
        (rows as u64).saturating_mul(cols as u64).saturating_mul(dtype.size_in_bytes() as u64);
    let enough =
        usize::try_from(bytes).is_ok_and(|b| Vec::<u8>::new().try_reserve_exact(b).is_ok());
    if !enough {
        return Err(Error::Memory { what: "the state of sequences", bytes });
    }
    Ok((Tensor::zeros((rows, cols), dtype, device)?, bytes))
}

/// Every run of positions `start..end` that lies in one page: (first row of the store, rows).
fn runs(
    pages: PageTable<'_>,
    start: usize,
    end: usize,
) -> impl Iterator<Item = Result<(usize, usize)>> {
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let n = (PAGE_LEN - at % PAGE_LEN).min(end - at);
        let run = match pages.0.get(at / PAGE_LEN) {
            Some(&page) if page != PageId::NONE => {
                Ok((page.0 as usize * PAGE_LEN + at % PAGE_LEN, n))
            }
            _ => Err(Error::Batch(format!("no page holds position {at}"))),
        };
        at += n;
        Some(run)
    })
}

fn write_rows(store: &Tensor, pages: PageTable<'_>, start: usize, rows: &Tensor) -> Result<()> {
    let rows = rows.to_dtype(store.dtype())?.contiguous()?;
    let mut done = 0;
    for run in runs(pages, start, start + rows.dim(0)?) {
        let (at, n) = run?;
        store.slice_set(&rows.narrow(0, done, n)?.contiguous()?, 0, at)?;
        done += n;
    }
    Ok(())
}

fn read_rows(store: &Tensor, pages: PageTable<'_>, from: usize, to: usize) -> Result<Tensor> {
    let mut parts = Vec::new();
    for run in runs(pages, from, to) {
        let (at, n) = run?;
        parts.push(store.narrow(0, at, n)?);
    }
    // A copy in any case: what was read must not change when the page is written.
    Ok(Tensor::cat(&parts, 0)?.to_dtype(DType::F32)?.copy()?)
}

/// The device of each slot: that of the layers which name it; all of them must agree.
fn slot_devs(decoder: &Decoder, placement: &Placement) -> Result<Vec<Dev>> {
    let mut devs: Vec<Option<Dev>> = vec![None; decoder.slots.len()];
    for (layer, place) in decoder.layers().zip(&placement.layers) {
        let ops = layer.blocks.iter().flat_map(|b| &b.branches).map(|b| &b.op);
        for slot in ops.filter_map(slot_of) {
            let dev = devs.get_mut(slot.0 as usize).ok_or_else(|| wrong_kind(slot))?;
            if dev.is_some_and(|d| d != place.state) {
                let why = "layers that share a slot are placed on different devices";
                return Err(Error::Description(why.into()));
            }
            *dev = Some(place.state);
        }
    }
    Ok(devs.into_iter().map(Option::unwrap_or_default).collect())
}

/// The slot that an operation keeps its state in.
pub(super) fn slot_of(op: &Op) -> Option<SlotId> {
    match op {
        Op::Attn(attn) => attn.slot,
        Op::Mla(mla) => Some(mla.slot),
        Op::Compressed(attn) => Some(attn.slot),
        Op::Mamba(mamba) => Some(mamba.slot),
        Op::Mamba2(mamba) => Some(mamba.slot),
        Op::Delta(delta) => Some(delta.slot),
        Op::Conv(conv) => Some(conv.slot),
        Op::Rwkv(rwkv) => Some(rwkv.slot),
        Op::Cross(cross) => Some(cross.slot),
        Op::Ffn(_) | Op::Moe(_) | Op::TokenEmbed(_) | Op::LowRank(_) | Op::Term(_) => None,
    }
}

fn wrong_kind(slot: SlotId) -> Error {
    Error::Description(format!("slot {} is not of the kind its layer needs", slot.0))
}
