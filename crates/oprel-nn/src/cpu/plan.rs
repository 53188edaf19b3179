//! What a description becomes: typed operations on resolved buffers, run one after another.

use std::sync::Arc;

use super::acts::Shares;
use super::arena::Buf;
use super::attention::Attn;
use super::compile::Rope;
use super::conv::ShortConv;
use super::delta::Delta;
use super::ffn::{Ffn, LowRank};
use super::input::Inputs;
use super::linear::Out;
use super::mamba::Mamba;
use super::mamba2::Mamba2;
use super::mla::Mla;
use super::moe::Moe;
use super::norm::Norm;
use super::output::Head;
use super::run::Run;
use crate::Result;

/// A compiled model.
#[derive(Debug)]
pub(super) struct Plan {
    /// (n, width).
    pub(super) residual: Buf,
    pub(super) inputs: Inputs,
    pub(super) nodes: Vec<Node>,
    pub(super) head: Head,
    pub(super) ropes: Vec<Rope>,
}

/// A step of the description.
#[derive(Debug)]
pub(super) enum Node {
    Layer(Layer),
    Copy { from: Buf, to: Buf },
    Add { from: Buf },
    AddRow(Arc<[f32]>),
    Norm(Norm),
}

/// Blocks, run one after another.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) blocks: Vec<Block>,
    /// One factor on the residual, or one an element.
    pub(super) out_scale: Option<Arc<[f32]>>,
}

/// Reads the residual, sums its branches, writes the sum back.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) residual: Buf,
    pub(super) read: Option<Read>,
    /// The residual itself where it is read as it is.
    pub(super) input: Buf,
    pub(super) sum: Buf,
    pub(super) branches: Vec<Branch>,
    pub(super) post: Option<Norm>,
    pub(super) write: Write,
    pub(super) write_norm: Option<Norm>,
}

/// A norm of what operations read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) norm: Norm,
    /// How some of them read it quantized.
    pub(super) shares: Shares,
}

/// How a block's sum reaches the residual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Write {
    /// The only branch has added it.
    Done,
    /// It is added, times a factor.
    Add(f32),
    /// It becomes the residual.
    Replace,
}

/// One operation of a block.
#[derive(Debug)]
pub(super) struct Branch {
    /// A norm of its own, from the block's input to the branch's.
    pub(super) norm: Option<(Read, Buf, Buf)>,
    pub(super) op: Op,
    pub(super) post: Option<Norm>,
    pub(super) scale: f32,
    /// Where what it gives is, and what is left to do with it.
    pub(super) out: Out,
}

/// An operation with its buffers: (n, width) to (n, width).
#[derive(Debug)]
pub(super) enum Op {
    Attn(Box<Attn>),
    Mla(Box<Mla>),
    Mamba(Box<Mamba>),
    Mamba2(Box<Mamba2>),
    Delta(Box<Delta>),
    Conv(Box<ShortConv>),
    Ffn(Box<Ffn>),
    Moe(Box<Moe>),
    LowRank(Box<LowRank>),
    Copy { from: Buf, to: Buf },
}

impl Op {
    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        match self {
            Op::Attn(op) => op.run(run),
            Op::Mla(op) => op.run(run),
            Op::Mamba(op) => op.run(run),
            Op::Mamba2(op) => op.run(run),
            Op::Delta(op) => op.run(run),
            Op::Conv(op) => op.run(run),
            Op::Ffn(op) => op.run(run),
            Op::Moe(op) => op.run(run),
            Op::LowRank(op) => op.run(run),
            Op::Copy { from, to } => {
                run.copy(*from, *to);
                Ok(())
            }
        }
    }
}

impl Plan {
    /// Runs everything up to the heads.
    pub(super) fn run(&self, run: &mut Run<'_>) -> Result<()> {
        for rope in &self.ropes {
            run.fill_angles(rope);
        }
        run.begin_recurrent()?;
        self.inputs.run(run, self.residual)?;
        let mut layer_idx = 0;
        for node in &self.nodes {
            match node {
                Node::Layer(layer) => {
                    self.head.tap_layer(run, self.residual, layer_idx)?;
                    layer.run(run, self.residual)?;
                    layer_idx += 1;
                }
                Node::Copy { from, to } => run.copy(*from, *to),
                Node::Add { from } => run.add(self.residual, *from, 1.0),
                Node::AddRow(row) => run.add_row(self.residual, row),
                Node::Norm(norm) => norm.in_place(run, self.residual),
            }
        }
        self.head.run(run, self.residual)
    }
}

impl Layer {
    fn run(&self, run: &mut Run<'_>, residual: Buf) -> Result<()> {
        for block in &self.blocks {
            block.run(run)?;
        }
        if let Some(scale) = &self.out_scale {
            run.scale_by(residual, scale);
        }
        Ok(())
    }
}

impl Block {
    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        run.mem.acts.of = None;
        if let Some(read) = &self.read {
            read.run(run, self.residual, self.input);
        }
        for branch in &self.branches {
            branch.run(run)?;
        }
        run.mem.acts.of = None;
        if let Some(post) = &self.post {
            post.in_place(run, self.sum);
        }
        match self.write {
            Write::Done => {}
            Write::Add(scale) => run.add(self.residual, self.sum, scale),
            Write::Replace => run.copy(self.sum, self.residual),
        }
        if let Some(norm) = &self.write_norm {
            norm.in_place(run, self.residual);
        }
        Ok(())
    }
}

impl Read {
    fn run(&self, run: &mut Run<'_>, from: Buf, to: Buf) {
        match self.shares.any() {
            true => self.norm.apply_quantized(run, from, to, self.shares),
            false => self.norm.apply(run, from, to),
        }
    }
}

impl Branch {
    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        if let Some((norm, from, to)) = &self.norm {
            norm.run(run, *from, *to);
        }
        self.op.run(run)?;
        if let Some(post) = &self.post {
            post.in_place(run, self.out.buf);
        }
        if self.scale != 1.0 {
            run.scale_by(self.out.buf, &[self.scale]);
        }
        run.write_out(self.out);
        Ok(())
    }
}
