//! Dense feed-forward: gate and up, activated, in one region; down in another.

use oprel_cpu::act::{ActFormat, Share};

use super::arena::Buf;
use super::compile::{Compiler, Site};
use super::linear::{Linear, Middle};
use super::norm::Norm;
use super::run::Run;
use crate::Result;
use crate::describe::{self, Activation};

/// A dense feed-forward with its buffers.
#[derive(Debug)]
pub(super) struct Ffn {
    gate: Option<Linear>,
    up: Linear,
    pub(super) down: Linear,
    act: Activation,
    norm: Option<Norm>,
    /// (n, ff); the same as `up_out` without a gate.
    gate_out: Buf,
    up_out: Buf,
    site: Site,
}

impl Ffn {
    pub(super) fn compile(c: &mut Compiler<'_>, ffn: &describe::Ffn, site: Site) -> Result<Ffn> {
        let up = c.linear(&ffn.up, c.width)?;
        let ff = up.rows();
        let gate = ffn.gate.as_ref().map(|g| c.linear(g, c.width)).transpose()?;
        if let Some(gate) = &gate {
            c.expect("the gate of a feed-forward", gate.rows(), ff)?;
        }
        let down = c.linear(&ffn.down, ff)?;
        c.expect("the down projection", down.rows(), c.width)?;
        let norm = ffn.norm.as_ref().map(|n| c.norm(n, ff)).transpose()?;
        let quantized = norm.is_none() && down.act_format() != ActFormat::F32 && c.is_plain();
        // What is quantized in pieces never stands whole, and what is multiplied with it never at all.
        let gate_out = match quantized && down.share() == Share::Block {
            true => c.layout.spare(ff)?,
            false => c.layout.buf(ff)?,
        };
        let up_out = match gate.is_some() {
            true if quantized => c.layout.spare(ff)?,
            true => c.layout.buf(ff)?,
            false => gate_out,
        };
        Ok(Ffn { gate, up, down, act: ffn.act, norm, gate_out, up_out, site })
    }

    pub(super) fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let middle = self.middle();
        if self.may_quantize(run) {
            run.quantize_middle(self.site.input, middle, self.down.share());
            run.project_quantized(&self.down, self.site.out);
            return Ok(());
        }
        run.project_middle(self.site.input, middle);
        if let Some(norm) = &self.norm {
            norm.in_place(run, self.gate_out);
        }
        run.project_out(self.gate_out, &self.down, self.site.out);
        Ok(())
    }

    /// Whether what the down projection reads may stand quantized alone.
    pub(super) fn may_quantize(&self, run: &Run<'_>) -> bool {
        self.norm.is_none() && run.may_quantize_for(&self.down)
    }

    /// Everything before the down projection.
    pub(super) fn middle(&self) -> Middle<'_> {
        Middle {
            up: &self.up,
            gate: self.gate.as_ref(),
            act: self.act,
            up_out: self.up_out,
            out: self.gate_out,
        }
    }
}

/// Two linear layers through few elements.
#[derive(Debug)]
pub(super) struct LowRank {
    down: Linear,
    up: Linear,
    /// (n, rank).
    low: Buf,
    site: Site,
}

impl LowRank {
    pub(super) fn compile(
        c: &mut Compiler<'_>,
        l: &describe::LowRank,
        site: Site,
    ) -> Result<LowRank> {
        let down = c.linear(&l.down, c.width)?;
        let up = c.linear(&l.up, down.rows())?;
        c.expect("the second of two linear layers", up.rows(), c.width)?;
        Ok(LowRank { low: c.layout.buf(down.rows())?, down, up, site })
    }

    pub(super) fn run(&self, run: &mut Run<'_>) -> Result<()> {
        run.project(self.site.input, &[(&self.down, self.low)]);
        run.project_out(self.low, &self.up, self.site.out);
        Ok(())
    }
}
