//! The gated short convolution of LFM2.

use candle_core::Tensor;

use crate::Result;
use crate::candle::pass::Pass;
use crate::describe::ShortConv;

impl Pass<'_> {
    /// `out(c * conv(b * x))` with b, c and x from one projection of (n, width).
    pub(in crate::candle) fn short_conv(&mut self, s: &ShortConv, x: &Tensor) -> Result<Tensor> {
        let dev = self.place.mixer;
        let channels = s.conv.channels as usize;
        let all = self.linear(&s.input, x, dev)?;
        let part = |i| all.narrow(1, i * channels, channels);
        let (b, c, x) = (part(0)?, part(1)?, part(2)?);
        let (carried, convolved) = self.convolve(s.slot, &s.conv, &(b * x)?)?;
        for (rows, one) in self.spans().zip(&carried) {
            for done in 0..=rows.n {
                self.store_after(s.slot, &rows, done, None, &one.inputs)?;
            }
        }
        self.linear(&s.out, &(c * convolved)?, dev)
    }
}
