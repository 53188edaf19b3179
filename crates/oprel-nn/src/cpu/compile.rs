//! From a description to a plan: buffers are resolved, small vectors decoded, sizes checked.
//!
//! What [`CpuExec`](super::CpuExec) cannot run is refused here, by name, before any step.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use oprel_cpu::Kernels;
use oprel_cpu::act::{Share, q8_words};
use oprel_cpu::rope::Pairing;
use oprel_quant::QuantType;

use super::EXECUTOR;
use super::acts::Shares;
use super::arena::{Buf, Layout};
use super::attention::Attn;
use super::conv::ShortConv;
use super::delta::Delta;
use super::ffn::{Ffn, LowRank};
use super::input::{Inputs, constant_row};
use super::linear::{Linear, Out};
use super::mamba::Mamba;
use super::mamba2::Mamba2;
use super::mla::Mla;
use super::moe::Moe;
use super::norm::Norm;
use super::output::Head;
use super::plan::{Block, Branch, Layer, Node, Op, Plan, Read, Write};
use crate::describe::{self, Decoder, Reg, RopeId, SlotId, StateSpec, Step, Term, VDim};
use crate::exec::Limits;
use crate::rope::{self, Angles, FreqFactors};
use crate::state::groups;
use crate::weights::{WeightId, Weights};
use crate::{Error, Result};

/// What an operation reads and writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    /// What the branch reads (n, width).
    pub(super) input: Buf,
    /// The residual before the block (n, width).
    pub(super) residual: Buf,
    /// What the branch gives (n, width).
    pub(super) out: Out,
}

/// A rope of the description, ready to fill its table once a step.
#[derive(Debug)]
pub(super) struct Rope {
    pub(super) angles: Angles,
    pub(super) dims: usize,
    pairing: rope::Pairing,
    /// (n, dims / 2) each.
    pub(super) cos: Buf,
    pub(super) sin: Buf,
}

impl Rope {
    /// Which elements turn together, as kernels say it.
    pub(super) fn pairing(&self) -> Pairing {
        match self.pairing {
            rope::Pairing::Adjacent => Pairing::Adjacent,
            rope::Pairing::Halves => Pairing::Halves,
        }
    }
}

/// The compiler's tables while it walks a description.
pub(super) struct Compiler<'a> {
    pub(super) decoder: &'a Decoder,
    pub(super) weights: &'a Weights,
    pub(super) limits: &'a Limits,
    pub(super) layout: Layout,
    /// Page tables of a span.
    pub(super) n_groups: usize,
    pub(super) width: usize,
    ropes: Vec<Option<Rope>>,
    vectors: HashMap<WeightId, Arc<[f32]>>,
    mapped: HashSet<WeightId>,
    /// Bytes of weights that were converted or copied.
    pub(super) converted: u64,
    /// Bytes of the file that are read for it, once.
    pub(super) decoded: u64,
    /// What is compiled never runs: weights that would be converted are only counted.
    pub(super) only_counts: bool,
    /// By number of heads: which rows of activations (n, heads) each head reads, (heads, most tokens).
    head_reads: HashMap<usize, Arc<[u32]>>,
    /// Most f32 words that quantized activations take.
    act_words: [usize; 2],
    /// Most f32 words that quantized inputs of blocks take.
    input_words: [usize; 2],
    kernels: &'a Kernels,
    /// Most f32 words that rows take turned, for weights of BF16 and for others.
    turned_words: [usize; 2],
    /// Quantized matrices so far, by the share of their activations.
    pub(super) n_quantized: [usize; 2],
    /// Most elements that go into a quantized matrix.
    pub(super) widest: usize,
    /// Shapes of attention that keeps nothing: heads, elements of a key and of a value.
    pub(super) uncached: Vec<(usize, usize, usize)>,
    /// Most elements that partial results of attention take.
    pub(super) partials: usize,
    /// Most experts of a router, and most that a token uses.
    pub(super) experts: (usize, usize),
}

impl<'a> Compiler<'a> {
    pub(super) fn new(
        decoder: &'a Decoder,
        weights: &'a Weights,
        limits: &'a Limits,
        kernels: &'a Kernels,
    ) -> Self {
        Compiler {
            decoder,
            weights,
            limits,
            layout: Layout::new(limits.tokens as usize),
            n_groups: groups(&decoder.slots).len(),
            width: decoder.width as usize,
            ropes: decoder.ropes.iter().map(|_| None).collect(),
            vectors: HashMap::new(),
            mapped: HashSet::new(),
            converted: 0,
            decoded: 0,
            only_counts: false,
            head_reads: HashMap::new(),
            act_words: [0; 2],
            partials: 0,
            input_words: Share::ALL.map(|share| q8_words(share, 1, decoder.width as usize)),
            kernels,
            turned_words: [0; 2],
            n_quantized: [0; 2],
            widest: 0,
            uncached: Vec::new(),
            experts: (0, 0),
        }
    }

    /// Notes that weights of `ty` read so many rows of `cols` for each token.
    pub(super) fn turns(&mut self, rows: usize, ty: QuantType, cols: usize) {
        let words = &mut self.turned_words[usize::from(ty == QuantType::BF16)];
        *words = (*words).max(rows.saturating_mul(self.kernels.turned_words(ty, cols)));
    }

    /// Notes that an operation quantizes so many rows of `cols` for each token.
    pub(super) fn quantizes(&mut self, share: Share, rows: usize, cols: usize) {
        let words = &mut self.act_words[share as usize];
        *words = (*words).max(rows.saturating_mul(q8_words(share, 1, cols)));
    }

    /// Notes that an operation keeps one row quantized behind `rows` of them, for each token.
    pub(super) fn quantizes_beside(
        &mut self,
        (share, rows, cols): (Share, usize, usize),
        (beside, beside_cols): (Share, usize),
    ) {
        let mut words = [0; 2];
        words[share as usize] = rows.saturating_mul(q8_words(share, 1, cols));
        words[beside as usize] += q8_words(beside, 1, beside_cols);
        for (most, words) in self.act_words.iter_mut().zip(words) {
            *most = (*most).max(words);
        }
    }

    /// Notes that `rows` of `cols` are the input of a block for each token, however they are quantized.
    pub(super) fn quantizes_inputs(&mut self, rows: usize, cols: usize) {
        for share in Share::ALL {
            let words = &mut self.input_words[share as usize];
            *words = (*words).max(rows.saturating_mul(q8_words(share, 1, cols)));
        }
    }

    /// Most f32 words that quantized inputs of blocks take for a token.
    pub(super) fn input_words(&self) -> usize {
        let used = self.input_words.iter().zip(self.n_quantized).filter(|(_, n)| *n > 0);
        used.map(|(words, _)| words).sum()
    }

    /// Most f32 words that quantized rows inside an operation take for a token.
    pub(super) fn act_words(&self) -> usize {
        self.act_words.iter().sum()
    }

    /// Most f32 words that rows of a token take turned.
    pub(super) fn turned_words(&self) -> usize {
        self.turned_words.iter().sum()
    }

    /// Compiles everything.
    pub(super) fn plan(&mut self) -> Result<Plan> {
        if self.width == 0 {
            return Err(Error::Description("a residual of no elements".into()));
        }
        if self.decoder.lanes != 1 {
            return Err(unsupported("several residual lanes"));
        }
        let residual = self.layout.buf(self.width)?;
        let registers = self.registers()?;
        for i in 0..self.ropes.len() {
            self.ropes[i] = Some(self.rope(i)?);
        }
        let inputs = Inputs::compile(self)?;
        let mut nodes = Vec::with_capacity(self.decoder.steps.len());
        for step in &self.decoder.steps {
            let mark = self.layout.mark();
            nodes.push(self.node(step, residual, &registers)?);
            self.layout.release(mark);
        }
        let head = Head::compile(self)?;
        let ropes = std::mem::take(&mut self.ropes).into_iter().flatten().collect();
        Ok(Plan { residual, inputs, nodes, head, ropes })
    }

    fn registers(&mut self) -> Result<HashMap<Reg, Buf>> {
        let mut registers = HashMap::new();
        for step in &self.decoder.steps {
            if let Step::Save(reg) = step
                && !registers.contains_key(reg)
            {
                registers.insert(*reg, self.layout.buf(self.width)?);
            }
        }
        Ok(registers)
    }

    fn node(&mut self, step: &Step, residual: Buf, registers: &HashMap<Reg, Buf>) -> Result<Node> {
        let register = |reg: &Reg| {
            let never = || Error::Description(format!("register {} is never saved", reg.0));
            registers.get(reg).copied().ok_or_else(never)
        };
        Ok(match step {
            Step::Layer(layer) => Node::Layer(self.layer(layer, residual)?),
            Step::Save(reg) => Node::Copy { from: residual, to: register(reg)? },
            Step::Load(reg) => Node::Copy { from: register(reg)?, to: residual },
            Step::Add(reg) => Node::Add { from: register(reg)? },
            Step::AddRow { table, row } => {
                Node::AddRow(constant_row(self.weights.matrix(*table), *row, self.width)?)
            }
            Step::Norm(norm) => Node::Norm(self.norm(norm, self.width)?),
            Step::Mix(_) => return Err(unsupported("mixes of earlier residuals")),
            Step::AltUp(_) => return Err(unsupported("alternating updates of lanes")),
        })
    }

    fn layer(&mut self, layer: &describe::Layer, residual: Buf) -> Result<Layer> {
        let blocks: Result<_> = layer.blocks.iter().map(|b| self.block(b, residual)).collect();
        let out_scale = layer.out_scale.map(|id| self.any_vector(id)).transpose()?;
        if let Some(scale) = &out_scale
            && scale.len() != 1
            && scale.len() != self.width
        {
            let n = scale.len();
            return Err(Error::Description(format!("a layer's output scale of {n} elements")));
        }
        Ok(Layer { blocks: blocks?, out_scale })
    }

    fn block(&mut self, block: &describe::Block, residual: Buf) -> Result<Block> {
        let norm = match &block.read {
            describe::Read::Plain(norm) => norm,
            describe::Read::HyperConnection(_) => return Err(unsupported("hyper-connections")),
            describe::Read::DepthAttention(_) => return Err(unsupported("attention over depth")),
        };
        let (scale, write_norm) = match &block.write {
            describe::Write::Add { scale, norm } => (Some(*scale), norm.as_ref()),
            describe::Write::Replace => (None, None),
            describe::Write::HyperConnection => return Err(unsupported("hyper-connections")),
        };
        let mark = self.layout.mark();
        let read = norm.as_ref().map(|n| self.norm(n, self.width)).transpose()?;
        let input = if read.is_some() { self.layout.buf(self.width)? } else { residual };
        let sum = self.layout.buf(self.width)?;
        // The sum of one branch goes straight to the residual, if nothing happens to it on the way.
        let into = scale.filter(|_| block.branches.len() == 1 && block.post.is_none());
        let mut branches = Vec::with_capacity(block.branches.len());
        let n_quantized = self.n_quantized;
        for (i, branch) in block.branches.iter().enumerate() {
            let mark = self.layout.mark();
            let out = match i {
                0 => Out { buf: sum, into: into.map(|scale| (residual, scale)) },
                _ => Out { buf: self.layout.buf(self.width)?, into: Some((sum, 1.0)) },
            };
            branches.push(self.branch(branch, Site { input, residual, out })?);
            self.layout.release(mark);
        }
        if branches.is_empty() {
            return Err(Error::Description("a block without branches".into()));
        }
        let post = block.post.as_ref().map(|n| self.norm(n, self.width)).transpose()?;
        let write_norm = write_norm.map(|n| self.norm(n, self.width)).transpose()?;
        self.layout.release(mark);
        let shares = Shares::grown(n_quantized, self.n_quantized);
        let read = read.map(|norm| Read { norm, shares });
        let write = match scale {
            _ if into.is_some() => Write::Done,
            Some(scale) => Write::Add(scale),
            None => Write::Replace,
        };
        Ok(Block { residual, read, input, sum, branches, post, write, write_norm })
    }

    fn branch(&mut self, branch: &describe::Branch, site: Site) -> Result<Branch> {
        let norm = branch.norm.as_ref().map(|n| self.norm(n, self.width)).transpose()?;
        let input = if norm.is_some() { self.layout.buf(self.width)? } else { site.input };
        let n_quantized = self.n_quantized;
        // What an operation gives goes to its memory alone if something happens to it there.
        let is_last = branch.post.is_none() && branch.scale == 1.0;
        let computed = !matches!(branch.op, describe::Op::Term(_));
        let out = Out { into: site.out.into.filter(|_| is_last && computed), ..site.out };
        let op = self.op(&branch.op, Site { input, out, ..site })?;
        let post = branch.post.as_ref().map(|n| self.norm(n, self.width)).transpose()?;
        let shares = Shares::grown(n_quantized, self.n_quantized);
        let norm = norm.map(|norm| (Read { norm, shares }, site.input, input));
        let rest = Out { into: site.out.into.filter(|_| out.into.is_none()), ..site.out };
        Ok(Branch { norm, op, post, scale: branch.scale, out: rest })
    }

    fn op(&mut self, op: &describe::Op, site: Site) -> Result<Op> {
        Ok(match op {
            describe::Op::Attn(attn) => Op::Attn(Box::new(Attn::compile(self, attn, site)?)),
            describe::Op::Mla(mla) => Op::Mla(Box::new(Mla::compile(self, mla, site)?)),
            describe::Op::Mamba(m) => Op::Mamba(Box::new(Mamba::compile(self, m, site)?)),
            describe::Op::Mamba2(m) => Op::Mamba2(Box::new(Mamba2::compile(self, m, site)?)),
            describe::Op::Delta(delta) => Op::Delta(Box::new(Delta::compile(self, delta, site)?)),
            describe::Op::Conv(conv) => Op::Conv(Box::new(ShortConv::compile(self, conv, site)?)),
            describe::Op::Ffn(ffn) => Op::Ffn(Box::new(Ffn::compile(self, ffn, site)?)),
            describe::Op::Moe(moe) => Op::Moe(Box::new(Moe::compile(self, moe, site)?)),
            describe::Op::LowRank(l) => Op::LowRank(Box::new(LowRank::compile(self, l, site)?)),
            describe::Op::Term(Term::Input) => Op::Copy { from: site.input, to: site.out.buf },
            describe::Op::Term(Term::Residual) => {
                Op::Copy { from: site.residual, to: site.out.buf }
            }
            describe::Op::Compressed(_) => {
                return Err(unsupported("attention over compressed blocks"));
            }
            describe::Op::Cross(_) => return Err(unsupported("attention over an encoder")),
            describe::Op::Rwkv(_) => return Err(unsupported("RWKV")),
            describe::Op::TokenEmbed(_) => return Err(unsupported("per-layer token embeddings")),
        })
    }

    fn rope(&mut self, index: usize) -> Result<Rope> {
        let rope = &self.decoder.ropes[index];
        let pairs = rope.dims as usize / 2;
        if pairs == 0 {
            return Err(Error::Description(format!("rope {index} turns no pair")));
        }
        let factors = match rope.factors {
            None => None,
            Some(FreqFactors::Fixed(id)) => Some(id),
            Some(FreqFactors::ByContext { short, long, original }) => {
                Some(if self.limits.context > original { long } else { short })
            }
        };
        let factors = factors.map(|id| self.vector(id, pairs)).transpose()?;
        let angles = Angles::new(rope, factors.as_deref());
        let (cos, sin) = (self.layout.buf(pairs)?, self.layout.buf(pairs)?);
        Ok(Rope { angles, dims: rope.dims as usize, pairing: rope.pairing, cos, sin })
    }

    /// The dims of a rope, checked to fit a head of `dim` elements.
    pub(super) fn rope_within(&self, id: RopeId, dim: usize) -> Result<usize> {
        let rope = self.ropes.get(id.0 as usize).and_then(Option::as_ref);
        match rope {
            Some(rope) if rope.dims <= dim && rope.dims.is_multiple_of(2) => Ok(id.0 as usize),
            Some(rope) => Err(Error::Description(format!(
                "a rope of {} elements on a head of {dim}",
                rope.dims
            ))),
            None => Err(Error::Description(format!("no rope {}", id.0))),
        }
    }

    /// The index of a slot of keys and values of this shape.
    pub(super) fn kv_slot(
        &self,
        id: SlotId,
        (n_heads, k_dim, v_dim): (usize, usize, usize),
    ) -> Result<usize> {
        let index = id.0 as usize;
        let fits = match self.decoder.slots.get(index) {
            Some(StateSpec::Kv { heads, k, v, .. }) => {
                let (VDim::Own(v) | VDim::AliasK(v)) = *v;
                (*heads as usize, *k as usize, v as usize) == (n_heads, k_dim, v_dim)
            }
            _ => false,
        };
        let wrong = || Error::Description(format!("slot {index} does not fit its attention"));
        if fits { Ok(index) } else { Err(wrong()) }
    }

    /// The index of a recurrent slot of this size.
    pub(super) fn recurrent_slot(&self, id: SlotId, state: usize, conv: usize) -> Result<usize> {
        let index = id.0 as usize;
        match self.decoder.slots.get(index) {
            Some(StateSpec::Recurrent { state: s, conv: c }) if (*s, *c) == (state, conv) => {
                Ok(index)
            }
            _ => Err(Error::Description(format!("slot {index} does not fit its recurrence"))),
        }
    }

    /// All elements of a vector, decoded once however many name it.
    pub(super) fn any_vector(&mut self, id: WeightId) -> Result<Arc<[f32]>> {
        if let Some(vector) = self.vectors.get(&id) {
            return Ok(Arc::clone(vector));
        }
        let vector: Arc<[f32]> = self.weights.vector(id)?.into();
        self.converted += vector.len() as u64 * 4;
        self.decoded += self.weights.matrix(id).bytes().len() as u64;
        self.vectors.insert(id, Arc::clone(&vector));
        Ok(vector)
    }

    /// A vector of `len` elements.
    pub(super) fn vector(&mut self, id: WeightId, len: usize) -> Result<Arc<[f32]>> {
        let vector = self.any_vector(id)?;
        if vector.len() == len {
            return Ok(vector);
        }
        let name = &self.weights.matrix(id).name;
        Err(Error::Description(format!("'{name}' has {} elements, not {len}", vector.len())))
    }

    /// The rows that each of `heads` heads reads of activations (n, heads): (heads, most tokens).
    pub(super) fn reads_of_heads(&mut self, heads: usize) -> Arc<[u32]> {
        let most = self.layout.rows();
        let rows = || {
            let of_head = |h| (0..most).map(move |t| (t * heads + h) as u32);
            (0..heads).flat_map(of_head).collect()
        };
        Arc::clone(self.head_reads.entry(heads).or_insert_with(rows))
    }

    /// Counts a matrix that is read where it is.
    pub(super) fn reads(&mut self, id: WeightId) {
        self.mapped.insert(id);
    }

    /// Bytes of the matrices that are read where they are.
    pub(super) fn mapped_bytes(&self) -> u64 {
        self.mapped.iter().map(|&id| self.weights.matrix(id).bytes().len() as u64).sum()
    }

    /// A linear layer from rows of `cols` elements.
    pub(super) fn linear(&mut self, linear: &describe::Linear, cols: usize) -> Result<Linear> {
        Linear::compile(self, linear, cols)
    }

    /// A norm over rows of `len` elements.
    pub(super) fn norm(&mut self, norm: &describe::Norm, len: usize) -> Result<Norm> {
        Norm::compile(self, norm, len)
    }

    /// Whether activations are quantized once: not those of encoders.
    pub(super) fn is_plain(&self) -> bool {
        self.uncached.is_empty()
    }

    /// Checks that rows of a buffer fit what writes them.
    pub(super) fn expect(&self, what: &str, found: usize, expected: usize) -> Result<()> {
        if found == expected {
            return Ok(());
        }
        Err(Error::Description(format!("{what} gives {found} elements, not {expected}")))
    }
}

/// An error that names what is not supported.
pub(super) fn unsupported(what: impl Into<String>) -> Error {
    Error::Unsupported { executor: EXECUTOR, what: what.into() }
}
