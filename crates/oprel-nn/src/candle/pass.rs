//! One step while it runs: the residual, where it is, and the operations on it.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use super::{Prepared, check, dev_of};
use crate::batch::{Batch, Span};
use crate::describe::{
    Block, Branch, DepthAttention, Layer, Op, Read, Reg, RopeId, SlotId, Step, Term, Write,
};
use crate::exec::{Dev, Observer, StepOut};
use crate::state::{PageTable, RowId, StateView, Transfer};
use crate::{Place, Result};

/// A step in progress.
pub(super) struct Pass<'a> {
    pub(super) model: &'a Prepared,
    pub(super) devices: &'a [Device],
    pub(super) batch: &'a Batch<'a>,
    pub(super) view: &'a StateView<'a>,
    /// Who sees the inputs of linear layers.
    pub(super) watch: Option<&'a mut dyn Observer>,
    /// Where the parts of the current layer run.
    pub(super) place: Place,
    /// The first residual (n, width), and where it is.
    pub(super) first: Option<(Tensor, Dev)>,
    /// Cosine and sine of the batch's positions, made when first asked for.
    pub(super) rotations: HashMap<(RopeId, Dev), (Tensor, Tensor)>,
    registers: HashMap<Reg, (Tensor, Dev)>,
    /// The residual before each layer that somebody wants.
    pub(super) taps: HashMap<u32, Tensor>,
    moved: u64,
}

/// The rows of one span in the batch.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// Which span.
    pub(super) index: usize,
    /// First row.
    pub(super) start: usize,
    /// Rows.
    pub(super) n: usize,
    /// The span itself.
    pub(super) span: Span<'a>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        model: &'a Prepared,
        devices: &'a [Device],
        batch: &'a Batch<'a>,
        view: &'a StateView<'a>,
    ) -> Pass<'a> {
        Pass {
            model,
            devices,
            batch,
            view,
            watch: None,
            place: Place::default(),
            first: None,
            rotations: HashMap::new(),
            registers: HashMap::new(),
            taps: HashMap::new(),
            moved: 0,
        }
    }

    /// Values that have crossed between devices.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Runs the steps and gives back what is wanted.
    pub(super) fn run(&mut self, out: &mut StepOut) -> Result<()> {
        let wanted = self.wanted()?;
        let model = self.model;
        let mut here = model.placement.embed;
        let mut x = self.embed(here)?;
        self.first = Some((x.clone(), here));
        let mut layers = 0;
        for step in &model.decoder.steps {
            match step {
                Step::Layer(layer) => {
                    if self.is_tapped(layers) {
                        self.taps.insert(layers, x.clone());
                    }
                    self.place = model.placement.layers[layers as usize];
                    (x, here) = self.layer(layer, x, here)?;
                    layers += 1;
                }
                Step::Save(reg) => {
                    self.registers.insert(*reg, (x.clone(), here));
                }
                Step::Load(reg) => x = self.register(*reg, here)?,
                Step::Add(reg) => x = (x + self.register(*reg, here)?)?,
                Step::AddRow { table, row } => {
                    let row = self.matrix(*table, here)?.get(*row as usize)?;
                    x = x.broadcast_add(&row)?;
                }
                Step::Norm(norm) => x = self.norm(norm, &x, here)?,
                Step::Mix(read) => x = self.read(read, &x, here)?,
                Step::AltUp(_) => return Err(check::unsupported("alternating updates of lanes")),
            }
        }
        let x = self.to(&x, here, model.placement.head)?;
        self.answer(&x, &wanted, out)
    }

    fn register(&mut self, reg: Reg, here: Dev) -> Result<Tensor> {
        let Some((x, at)) = self.registers.get(&reg).cloned() else {
            let why = format!("register {} is read before it is saved", reg.0);
            return Err(crate::Error::Description(why));
        };
        self.to(&x, at, here)
    }

    fn layer(&mut self, layer: &Layer, mut x: Tensor, mut here: Dev) -> Result<(Tensor, Dev)> {
        for block in &layer.blocks {
            let dev = dev_of(&block.branches[0].op, &self.place);
            x = self.to(&x, here, dev)?;
            here = dev;
            x = self.block(block, &x, here)?;
        }
        if let Some(scale) = layer.out_scale {
            x = x.broadcast_mul(&self.vector(scale, here)?)?;
        }
        Ok((x, here))
    }

    fn block(&mut self, block: &Block, residual: &Tensor, here: Dev) -> Result<Tensor> {
        let read = self.read(&block.read, residual, here)?;
        let mut sum: Option<Tensor> = None;
        for branch in &block.branches {
            let y = self.branch(branch, &read, residual, here)?;
            sum = Some(match sum {
                Some(sum) => (sum + y)?,
                None => y,
            });
        }
        let Some(mut sum) = sum else { return Ok(residual.clone()) };
        if let Some(post) = &block.post {
            sum = self.norm(post, &sum, here)?;
        }
        let (scale, norm) = match &block.write {
            Write::Add { scale, norm } => (scale, norm),
            Write::Replace => return Ok(sum),
            Write::HyperConnection => return Err(check::unsupported("hyper-connections")),
        };
        if *scale != 1.0 {
            sum = (sum * f64::from(*scale))?;
        }
        let x = (residual + sum)?;
        match norm {
            Some(norm) => self.norm(norm, &x, here),
            None => Ok(x),
        }
    }

    /// What is read of the residual, on its device.
    fn read(&mut self, read: &Read, residual: &Tensor, here: Dev) -> Result<Tensor> {
        match read {
            Read::Plain(Some(norm)) => self.norm(norm, residual, here),
            Read::Plain(None) => Ok(residual.clone()),
            Read::DepthAttention(depth) => self.depth_attention(depth, residual, here),
            Read::HyperConnection(_) => Err(check::unsupported("hyper-connections")),
        }
    }

    /// A softmax-weighed sum, for each token, of its residual and of earlier ones.
    fn depth_attention(
        &mut self,
        depth: &DepthAttention,
        residual: &Tensor,
        here: Dev,
    ) -> Result<Tensor> {
        let query = self.vector(depth.query, here)?.unsqueeze(1)?;
        let mut rows = Vec::with_capacity(depth.over.len() + 1);
        for &reg in &depth.over {
            rows.push(self.register(reg, here)?);
        }
        rows.push(residual.clone());
        let mut scores = Vec::with_capacity(rows.len());
        for row in &rows {
            scores.push(self.norm(&depth.norm, row, here)?.matmul(&query)?);
        }
        let weights = candle_nn::ops::softmax(&Tensor::cat(&scores, 1)?, 1)?;
        let weighed = |(i, row): (usize, &Tensor)| row.broadcast_mul(&weights.narrow(1, i, 1)?);
        let mut sum = weighed((0, &rows[0]))?;
        for (i, row) in rows.iter().enumerate().skip(1) {
            sum = (sum + weighed((i, row))?)?;
        }
        Ok(sum)
    }

    fn branch(
        &mut self,
        branch: &Branch,
        read: &Tensor,
        residual: &Tensor,
        here: Dev,
    ) -> Result<Tensor> {
        let dev = dev_of(&branch.op, &self.place);
        let mut x = self.to(read, here, dev)?;
        if let Some(norm) = &branch.norm {
            x = self.norm(norm, &x, dev)?;
        }
        let residual = self.to(residual, here, dev)?;
        let mut y = self.op(&branch.op, &x, &residual)?;
        if let Some(post) = &branch.post {
            y = self.norm(post, &y, dev)?;
        }
        if branch.scale != 1.0 {
            y = (y * f64::from(branch.scale))?;
        }
        self.to(&y, dev, here)
    }

    /// Runs an operation on `x` (n, width), which is on its device, as is `residual`.
    fn op(&mut self, op: &Op, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match op {
            Op::Attn(attn) => self.attention(attn, x),
            Op::Ffn(ffn) => self.feed_forward(ffn, x, self.place.ffn),
            Op::Moe(moe) => self.moe(moe, x, residual),
            Op::TokenEmbed(embed) => self.token_embed(embed, x),
            Op::Mla(mla) => self.mla(mla, x),
            Op::Mamba(mamba) => self.mamba(mamba, x),
            Op::Mamba2(mamba) => self.mamba2(mamba, x),
            Op::Delta(delta) => self.delta(delta, x),
            Op::Conv(conv) => self.short_conv(conv, x),
            Op::LowRank(l) => {
                let low = self.linear(&l.down, x, self.place.mixer)?;
                self.linear(&l.up, &low, self.place.mixer)
            }
            Op::Term(Term::Input) => Ok(x.clone()),
            Op::Term(Term::Residual) => Ok(residual.clone()),
            Op::Compressed(_) => Err(check::unsupported("attention over compressed blocks")),
            Op::Cross(_) => Err(check::unsupported("cross-attention")),
            Op::Rwkv(_) => Err(check::unsupported("RWKV time mix")),
        }
    }

    /// A value on another device of the list: a real copy, also between two places of the CPU.
    pub(super) fn to(&mut self, x: &Tensor, from: Dev, to: Dev) -> Result<Tensor> {
        if from == to {
            return Ok(x.clone());
        }
        self.moved += 1;
        let device = &self.devices[to.0 as usize];
        let moved = x.to_device(device)?;
        // Between equal devices candle only shares the storage.
        Ok(if x.device().same_device(device) { moved.copy()? } else { moved })
    }

    /// The device behind a place of the list.
    pub(super) fn device(&self, dev: Dev) -> &'a Device {
        &self.devices[dev.0 as usize]
    }

    /// The rows of every span.
    pub(super) fn spans(&self) -> impl Iterator<Item = Rows<'a>> + use<'a> {
        let mut start = 0;
        self.batch.spans.iter().enumerate().map(move |(index, &span)| {
            let rows = Rows { index, start, n: span.n as usize, span };
            start += rows.n;
            rows
        })
    }

    /// The page table of a span in a group.
    pub(super) fn pages(&self, span: usize, group: usize) -> PageTable<'a> {
        self.view.pages[span * self.model.state.groups().len() + group]
    }

    /// Where the recurrent state of a span comes from and goes to.
    pub(super) fn transfer(&self, span: usize) -> Transfer<'a> {
        self.view.recurrent.get(span).copied().unwrap_or_default()
    }

    /// The recurrent state (state + conv) of a slot before a span, brought to the mixer's device.
    pub(super) fn recall(&mut self, slot: SlotId, span: usize) -> Result<Tensor> {
        let row = self.model.state.row(slot, self.transfer(span).from)?;
        self.to(&row, self.model.state.dev(slot), self.place.mixer)
    }

    /// Stores a recurrent state (state + conv) from the mixer's device in a row of a slot.
    pub(super) fn store(&mut self, slot: SlotId, row: RowId, value: &Tensor) -> Result<()> {
        let value = self.to(value, self.place.mixer, self.model.state.dev(slot))?;
        self.model.state.set_row(slot, row, &value)
    }
}
