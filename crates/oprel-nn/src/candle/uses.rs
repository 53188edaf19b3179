//! Which matrices a description needs on which device.

use std::collections::BTreeSet;

use super::dev_of;
use crate::Place;
use crate::describe::{
    Attn, Block, Branch, Conv1d, Decoder, Delta, Ffn, GateSource, Input, Linear, Mamba, Mamba2,
    Mla, MlaKv, MlaQuery, Moe, Norm, Op, Read, RouterInput, ShortConv, Step, TokenEmbed, Write,
};
use crate::exec::{Dev, Placement};
use crate::weights::WeightId;

/// Every matrix with every device that needs it. Operations that this executor refuses name nothing.
pub(super) fn all(decoder: &Decoder, placement: &Placement) -> BTreeSet<(Dev, WeightId)> {
    let mut uses = Uses { set: BTreeSet::new(), dev: placement.embed };
    decoder.inputs.iter().for_each(|i| uses.input(i));
    let mut places = placement.layers.iter();
    for step in &decoder.steps {
        match step {
            Step::Layer(layer) => {
                let place = places.next().copied().unwrap_or_default();
                layer.blocks.iter().for_each(|b| uses.block(b, &place));
                uses.maybe(layer.out_scale);
            }
            Step::Norm(norm) => uses.norm(norm),
            Step::AddRow { table, .. } => uses.id(*table),
            Step::Mix(read) => uses.read(read),
            Step::Save(_) | Step::Load(_) | Step::Add(_) | Step::AltUp(_) => {}
        }
    }
    uses.dev = placement.head;
    for head in &decoder.heads {
        uses.maybe_norm(&head.norm);
        head.out.iter().for_each(|l| uses.linear(l));
    }
    let classifier = decoder.classifier.iter().flat_map(|c| c.dense.iter().chain(&c.out));
    classifier.for_each(|l| uses.linear(l));
    uses.set
}

/// Collects; `dev` is where what is named next runs.
struct Uses {
    set: BTreeSet<(Dev, WeightId)>,
    dev: Dev,
}

impl Uses {
    fn id(&mut self, id: WeightId) {
        self.set.insert((self.dev, id));
    }

    fn maybe(&mut self, id: Option<WeightId>) {
        if let Some(id) = id {
            self.id(id);
        }
    }

    fn linear(&mut self, l: &Linear) {
        self.id(l.w);
        self.maybe(l.bias);
        self.maybe(l.scale);
    }

    fn norm(&mut self, n: &Norm) {
        self.maybe(n.weight);
        self.maybe(n.bias);
    }

    fn maybe_norm(&mut self, n: &Option<Norm>) {
        n.iter().for_each(|n| self.norm(n));
    }

    fn input(&mut self, input: &Input) {
        match input {
            Input::Token { table, .. }
            | Input::Position { table, .. }
            | Input::Row { table, .. } => self.id(*table),
            Input::NGram { .. } => {}
        }
    }

    fn block(&mut self, block: &Block, place: &Place) {
        let Some(first) = block.branches.first() else { return };
        let dev = dev_of(&first.op, place);
        for branch in &block.branches {
            self.branch(branch, place);
        }
        self.dev = dev;
        self.read(&block.read);
        self.maybe_norm(&block.post);
        if let Write::Add { norm, .. } = &block.write {
            self.maybe_norm(norm);
        }
    }

    fn read(&mut self, read: &Read) {
        match read {
            Read::Plain(norm) => self.maybe_norm(norm),
            Read::DepthAttention(depth) => {
                self.id(depth.query);
                self.norm(&depth.norm);
            }
            Read::HyperConnection(_) => {}
        }
    }

    fn branch(&mut self, branch: &Branch, place: &Place) {
        self.dev = dev_of(&branch.op, place);
        self.maybe_norm(&branch.norm);
        self.maybe_norm(&branch.post);
        match &branch.op {
            Op::Attn(attn) => self.attn(attn, place),
            Op::Mla(mla) => self.mla(mla),
            Op::Mamba(mamba) => self.mamba(mamba),
            Op::Mamba2(mamba) => self.mamba2(mamba),
            Op::Delta(delta) => self.delta(delta),
            Op::Conv(conv) => self.short_conv(conv),
            Op::Ffn(ffn) => self.ffn(ffn),
            Op::Moe(moe) => self.moe(moe, place),
            Op::TokenEmbed(embed) => self.token_embed(embed),
            Op::LowRank(l) => {
                self.linear(&l.down);
                self.linear(&l.up);
            }
            Op::Compressed(_) | Op::Cross(_) | Op::Rwkv(_) | Op::Term(_) => {}
        }
    }

    fn attn(&mut self, attn: &Attn, place: &Place) {
        self.linear(&attn.q);
        attn.k.iter().for_each(|l| self.linear(l));
        attn.v.iter().for_each(|l| self.linear(l));
        self.linear(&attn.o);
        self.maybe_norm(&attn.q_norm);
        self.maybe_norm(&attn.k_norm);
        self.maybe_norm(&attn.v_norm);
        self.maybe_norm(&attn.o_norm);
        self.gate(attn.gate.as_ref().map(|g| &g.source));
        // Sinks take part in the softmax, which runs where the keys are.
        let mixer = std::mem::replace(&mut self.dev, place.state);
        self.maybe(attn.sinks);
        self.dev = mixer;
    }

    fn gate(&mut self, source: Option<&GateSource>) {
        if let Some(GateSource::Own(l)) = source {
            self.linear(l);
        }
    }

    fn mla(&mut self, mla: &Mla) {
        match &mla.q {
            MlaQuery::Direct(q) => self.linear(q),
            MlaQuery::LowRank { a, norm, b } => {
                self.linear(a);
                self.norm(norm);
                self.linear(b);
            }
        }
        self.linear(&mla.kv_a);
        self.norm(&mla.kv_norm);
        match mla.kv_b {
            MlaKv::Split { k, v } => {
                self.id(k);
                self.id(v);
            }
            MlaKv::Joint(w) => self.id(w),
        }
        self.linear(&mla.o);
        self.gate(mla.gate.as_ref().map(|g| &g.source));
    }

    fn conv(&mut self, conv: &Conv1d) {
        self.id(conv.weight);
        self.maybe(conv.bias);
    }

    fn mamba(&mut self, m: &Mamba) {
        for l in [&m.input, &m.x, &m.dt, &m.out] {
            self.linear(l);
        }
        self.conv(&m.conv);
        m.dt_b_c_norm.iter().flatten().for_each(|n| self.norm(n));
        self.id(m.a);
        self.id(m.d);
    }

    fn mamba2(&mut self, m: &Mamba2) {
        self.linear(&m.input);
        self.linear(&m.out);
        self.conv(&m.conv);
        self.maybe_norm(&m.norm);
        for id in [m.dt_bias, m.a, m.d] {
            self.id(id);
        }
    }

    fn delta(&mut self, d: &Delta) {
        d.qkv.iter().for_each(|l| self.linear(l));
        for l in [&d.decay.f, &d.beta, &d.gate, &d.out] {
            self.linear(l);
        }
        d.decay.f_up.iter().chain(&d.gate_up).for_each(|l| self.linear(l));
        self.conv(&d.conv);
        self.id(d.decay.bias);
        self.id(d.decay.a);
        self.norm(&d.norm);
    }

    fn short_conv(&mut self, c: &ShortConv) {
        self.linear(&c.input);
        self.conv(&c.conv);
        self.linear(&c.out);
    }

    fn ffn(&mut self, f: &Ffn) {
        f.gate.iter().for_each(|l| self.linear(l));
        self.linear(&f.up);
        self.linear(&f.down);
        self.maybe_norm(&f.norm);
    }

    fn moe(&mut self, m: &Moe, place: &Place) {
        self.linear(&m.router.w);
        self.maybe(m.router.choice_bias);
        self.maybe(m.router.by_token);
        if let RouterInput::Residual(norm) = &m.router.input {
            self.maybe_norm(norm);
        }
        if let Some(shared) = &m.shared {
            self.ffn(&shared.ffn);
            shared.gate.iter().for_each(|l| self.linear(l));
        }
        if let Some(latent) = &m.latent {
            self.linear(&latent.down);
            self.maybe_norm(&latent.norm);
            self.linear(&latent.up);
        }
        self.dev = place.experts;
        m.gate.iter().for_each(|l| self.linear(l));
        self.linear(&m.up);
        self.linear(&m.down);
    }

    fn token_embed(&mut self, t: &TokenEmbed) {
        self.id(t.table);
        self.linear(&t.project);
        self.norm(&t.project_norm);
        self.linear(&t.gate);
        self.linear(&t.out);
    }
}
