//! Memory of quantized activations: those of a block's input, which all its operations share, and
//! those of rows inside an operation. Besides, memory of rows turned for weights stored as numbers.

use oprel_cpu::act::{ActFormat, Q8Acts, quantize_acts, quantized};
use oprel_cpu::{Acts, F32Acts, Kernels, Pool};

use super::arena::{Buf, zeroed};
use super::linear::Linear;
use crate::Result;

/// Quantized and turned activations of a step.
#[derive(Debug)]
pub(super) struct ActMemory {
    /// Rows that a block's norm gave.
    pub(super) input: Box<[f32]>,
    /// Whose rows stand there; `None` where nobody's do.
    pub(super) of: Option<Buf>,
    /// Rows of any other buffer.
    pub(super) inner: Box<[f32]>,
    /// Rows of any buffer, turned.
    pub(super) turned: Box<[f32]>,
}

/// Rows of a buffer, as linear layers want them.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    wide: F32Acts<'a>,
    quantized: Option<Q8Acts<'a>>,
}

impl ActMemory {
    /// Memory of so many f32 words.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) if it cannot be had.
    pub(super) fn new(input: usize, inner: usize, turned: usize) -> Result<ActMemory> {
        let memory = |words| zeroed(words, "activations");
        let (input, inner, turned) = (memory(input)?, memory(inner)?, memory(turned)?);
        Ok(ActMemory { input, of: None, inner, turned })
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.input.len() + self.inner.len() + self.turned.len()) as u64 * 4
    }

    /// Rows of `k` elements of `x`, quantized if one of `readers` wants that and they are not yet,
    /// and turned as they want.
    pub(super) fn source<'a, 'r>(
        &'a mut self,
        pool: &mut Pool,
        kernels: &Kernels,
        (x, k, rows): (Buf, usize, &'a [f32]),
        mut readers: impl Iterator<Item = &'r Linear> + Clone,
    ) -> Source<'a> {
        let types = readers.clone().map(Linear::ty);
        let wide = F32Acts::new(rows, k).turned(pool, kernels, types, &mut self.turned);
        let wanted = readers.any(|reader| reader.act_format() == ActFormat::Q8);
        let quantized = wanted.then(|| match self.of {
            Some(of) if of == x => quantized(&self.input, wide.n(), k),
            _ => quantize_acts(pool, kernels.isa(), rows, k, &mut self.inner),
        });
        Source { wide, quantized }
    }

    /// The same, and memory for quantized results beside it.
    pub(super) fn source_apart<'a, 'r>(
        &'a mut self,
        pool: &mut Pool,
        kernels: &Kernels,
        (x, k, rows): (Buf, usize, &'a [f32]),
        mut readers: impl Iterator<Item = &'r Linear> + Clone,
    ) -> (Source<'a>, &'a mut [f32]) {
        let types = readers.clone().map(Linear::ty);
        let wide = F32Acts::new(rows, k).turned(pool, kernels, types, &mut self.turned);
        let wanted = readers.any(|reader| reader.act_format() == ActFormat::Q8);
        if wanted && self.of != Some(x) {
            // These rows are this operation's own: nobody is told of them.
            self.of = None;
            quantize_acts(pool, kernels.isa(), rows, k, &mut self.input);
        }
        let quantized = wanted.then(|| quantized(&self.input, wide.n(), k));
        (Source { wide, quantized }, &mut self.inner)
    }
}

impl<'a> Source<'a> {
    /// Rows that stand quantized; `wide` is where they would stand otherwise.
    pub(super) fn quantized(wide: &'a [f32], acts: Q8Acts<'a>) -> Source<'a> {
        Source { wide: F32Acts::new(wide, acts.k()), quantized: Some(acts) }
    }

    /// What a linear layer reads.
    pub(super) fn acts(&self, linear: &Linear) -> Acts<'a> {
        match (linear.act_format(), self.quantized) {
            (ActFormat::Q8, Some(acts)) => Acts::Q8(acts),
            _ => Acts::F32(self.wide),
        }
    }

    /// The same rows, some of them, in this order.
    pub(super) fn select(self, rows: &'a [u32]) -> Source<'a> {
        Source {
            wide: self.wide.select(rows),
            quantized: self.quantized.map(|acts| acts.select(rows)),
        }
    }
}
