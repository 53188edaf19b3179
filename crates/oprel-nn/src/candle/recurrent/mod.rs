//! Mixers with a state of fixed size, token by token: what they share.
//!
//! A recurrent row holds the state and then the last `kernel - 1` inputs of the convolution, oldest
//! first, (kernel - 1, channels). What a token gives depends on its row and the state before it
//! alone, so a batch may be split anywhere.

mod delta;
mod mamba;
mod short_conv;

use candle_core::Tensor;

use super::check::unsupported;
use super::pass::{Pass, Rows};
use crate::batch::See;
use crate::describe::{Conv1d, SlotId};
use crate::{Error, Result};

/// What one span carries from before it: the state, and the convolution's inputs.
struct Carried {
    /// All elements in a row; empty for mixers that only convolve.
    state: Option<Tensor>,
    /// Inputs from before the span and of it, (kernel - 1 + n, channels).
    inputs: Tensor,
}

impl Pass<'_> {
    /// Reads the state of every span, and convolves `x` (n, channels) over time.
    fn convolve(
        &mut self,
        slot: SlotId,
        conv: &Conv1d,
        x: &Tensor,
    ) -> Result<(Vec<Carried>, Tensor)> {
        let mut carried = Vec::with_capacity(self.batch.spans.len());
        let mut outs = Vec::with_capacity(self.batch.spans.len());
        // All are read before any is written: a row may go from one sequence to another.
        for rows in self.spans() {
            if matches!(rows.span.see, See::Tree(_)) {
                return Err(unsupported("trees of drafts through recurrent layers"));
            }
            let own = x.narrow(0, rows.start, rows.n)?;
            let one = self.carried(slot, conv, &rows, &own)?;
            outs.push(self.taps(conv, &one.inputs, rows.n)?);
            carried.push(one);
        }
        Ok((carried, Tensor::cat(&outs, 0)?))
    }

    fn carried(
        &mut self,
        slot: SlotId,
        conv: &Conv1d,
        rows: &Rows<'_>,
        x: &Tensor,
    ) -> Result<Carried> {
        let row = self.recall(slot, rows.index)?;
        let (past, channels) = (conv.kernel as usize - 1, conv.channels as usize);
        let Some(state) = row.dim(0)?.checked_sub(past * channels) else {
            return Err(Error::Description("a slot without room for its convolution".into()));
        };
        let past = row.narrow(0, state, past * channels)?.reshape((past, channels))?;
        let state = (state > 0).then(|| row.narrow(0, 0, state)).transpose()?;
        Ok(Carried { state, inputs: Tensor::cat(&[&past, x], 0)? })
    }

    /// The convolution at the last `n` of its inputs (kernel - 1 + n, channels), bias added.
    fn taps(&self, conv: &Conv1d, inputs: &Tensor, n: usize) -> Result<Tensor> {
        let dev = self.place.mixer;
        let weight = self.matrix(conv.weight, dev)?.t()?.contiguous()?;
        let mut y = inputs.narrow(0, 0, n)?.broadcast_mul(&weight.narrow(0, 0, 1)?)?;
        for tap in 1..conv.kernel as usize {
            let of_tap = inputs.narrow(0, tap, n)?.broadcast_mul(&weight.narrow(0, tap, 1)?)?;
            y = (y + of_tap)?;
        }
        match conv.bias {
            Some(bias) => Ok(y.broadcast_add(&self.vector(bias, dev)?)?),
            None => Ok(y),
        }
    }

    /// Runs `step` on every token of every span, and stores the states that the batch asks for.
    ///
    /// `step` gets the state before a token and the token's index in the batch; it gives the state
    /// after it and what the token gives, (any).
    fn scan(
        &mut self,
        slot: SlotId,
        carried: Vec<Carried>,
        mut step: impl FnMut(Tensor, usize) -> Result<(Tensor, Tensor)>,
    ) -> Result<Tensor> {
        let mut outs = Vec::with_capacity(self.batch.tokens.len());
        for (rows, one) in self.spans().zip(carried) {
            let Some(mut state) = one.state else {
                return Err(Error::Description("a scan without a state".into()));
            };
            self.store_after(slot, &rows, 0, Some(&state), &one.inputs)?;
            for t in 0..rows.n {
                let (after, y) = step(state, rows.start + t)?;
                state = after;
                outs.push(y);
                self.store_after(slot, &rows, t + 1, Some(&state), &one.inputs)?;
            }
        }
        Ok(Tensor::stack(&outs, 0)?)
    }

    /// Stores the state after the first `done` tokens of a span wherever the batch wants it.
    fn store_after(
        &mut self,
        slot: SlotId,
        rows: &Rows<'_>,
        done: usize,
        state: Option<&Tensor>,
        inputs: &Tensor,
    ) -> Result<()> {
        let transfer = self.transfer(rows.index);
        let back = rows.n - done;
        let to = match back.checked_sub(1) {
            None => transfer.to,
            Some(kept) => transfer.keep.get(kept).copied(),
        };
        let Some(to) = to else { return Ok(()) };
        let past = inputs.dim(0)? - rows.n;
        let past = inputs.narrow(0, done, past)?.contiguous()?.flatten_all()?;
        let row = match state {
            Some(state) => Tensor::cat(&[&state.flatten_all()?, &past], 0)?,
            None => past,
        };
        self.store(slot, to, &row)
    }
}

/// `ln(1 + exp(x))`, without overflow.
fn softplus(x: &Tensor) -> Result<Tensor> {
    Ok((x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?)
}
