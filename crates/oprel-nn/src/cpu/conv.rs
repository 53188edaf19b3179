//! Causal convolutions of recurrent mixers, and LFM2's mixer, which is nothing else.

use std::sync::Arc;

use oprel_cpu::activation::Activation;
use oprel_cpu::recurrent::{Columns, Conv1d, conv1d};

use super::arena::Buf;
use super::compile::{Compiler, Site};
use super::linear::Linear;
use super::recurrent::{Part, RecurrentStore};
use super::run::{Memories, Run};
use crate::describe;
use crate::{Error, Result};

/// A causal convolution with its weight decoded.
#[derive(Debug)]
pub(super) struct Conv {
    weight: Arc<[f32]>,
    bias: Option<Arc<[f32]>>,
    taps: usize,
    channels: usize,
}

impl Conv {
    /// A convolution of `channels` channels.
    pub(super) fn compile(
        c: &mut Compiler<'_>,
        conv: &describe::Conv1d,
        channels: usize,
    ) -> Result<Conv> {
        c.expect("what is convolved", channels, conv.channels as usize)?;
        let taps = conv.kernel as usize;
        if taps == 0 {
            return Err(Error::Description("a convolution without taps".into()));
        }
        let weight = c.vector(conv.weight, channels * taps)?;
        let bias = conv.bias.map(|id| c.vector(id, channels)).transpose()?;
        Ok(Conv { weight, bias, taps, channels })
    }

    /// Elements of the past inputs that a sequence keeps.
    pub(super) fn kept(&self) -> usize {
        (self.taps - 1) * self.channels
    }

    /// Convolves columns of `x` that begin at `start` into `out` (n, channels).
    pub(super) fn run(&self, run: &mut Run<'_>, slot: usize, (x, start): (Buf, usize), out: Buf) {
        let (isa, n, width, channels) = (run.kernels.isa(), run.n, x.cols, self.channels);
        let bias = self.bias.as_deref();
        let conv = Conv1d { weight: &self.weight, bias, taps: self.taps };
        let Memories { arena, recurrent, spans, .. } = &mut *run.mem;
        let [x, out] = arena.rows(n, [x, out]);
        let store = store_of(recurrent, slot);
        store.for_spans(Part::Conv, spans, run.state.recurrent, |state, tokens| {
            let rows = &x[tokens.start * width..tokens.end * width];
            let x = Columns::new(rows, width, start, channels);
            let out = &mut out[tokens.start * channels..tokens.end * channels];
            conv1d(run.pool, isa, &conv, state, tokens.len(), x, out);
        });
    }
}

/// The store of a slot that was checked when it was compiled.
pub(super) fn store_of(stores: &mut [Option<RecurrentStore>], slot: usize) -> &mut RecurrentStore {
    match &mut stores[slot] {
        Some(store) => store,
        None => panic!("slot {slot} was checked when it was compiled"),
    }
}

impl Run<'_> {
    /// Brings the state of every span to its row, in every slot.
    pub(super) fn begin_recurrent(&mut self) -> Result<()> {
        let Memories { recurrent, begun, .. } = &mut *self.mem;
        let mut stores = recurrent.iter_mut().flatten();
        stores.try_for_each(|store| store.begin(self.state.recurrent, begun))
    }
}

/// `out(c * conv(b * x))`.
#[derive(Debug)]
pub(super) struct ShortConv {
    input: Linear,
    conv: Conv,
    out: Linear,
    slot: usize,
    /// b, c and x side by side (n, 3 * width).
    all: Buf,
    /// One part of it at a time (n, width).
    part: Buf,
    /// b * x (n, width).
    product: Buf,
    /// (n, width).
    convolved: Buf,
    site: Site,
}

impl ShortConv {
    pub(super) fn compile(
        c: &mut Compiler<'_>,
        s: &describe::ShortConv,
        site: Site,
    ) -> Result<ShortConv> {
        let input = c.linear(&s.input, c.width)?;
        let channels = s.conv.channels as usize;
        c.expect("the input projection of a short convolution", input.rows(), 3 * channels)?;
        let conv = Conv::compile(c, &s.conv, channels)?;
        let out = c.linear(&s.out, channels)?;
        c.expect("the output projection of a short convolution", out.rows(), c.width)?;
        Ok(ShortConv {
            slot: c.recurrent_slot(s.slot, 0, conv.kept())?,
            all: c.layout.buf(3 * channels)?,
            part: c.layout.buf(channels)?,
            product: c.layout.buf(channels)?,
            convolved: c.layout.buf(channels)?,
            input,
            conv,
            out,
            site,
        })
    }

    pub(super) fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let channels = self.part.cols;
        run.project(self.site.input, &[(&self.input, self.all)]);
        run.copy_columns((self.all, 0), (self.product, 0), channels);
        run.copy_columns((self.all, 2 * channels), (self.part, 0), channels);
        run.gate(Activation::Identity, self.product, self.part);
        self.conv.run(run, self.slot, (self.product, 0), self.convolved);
        run.copy_columns((self.all, channels), (self.part, 0), channels);
        run.gate(Activation::Identity, self.convolved, self.part);
        run.project_out(self.convolved, &self.out, self.site.out);
        Ok(())
    }
}
