//! Every linear layer of a decoder, for those who watch or change what layers read.

use super::{
    Attn, Decoder, Delta, Ffn, GateSource, Linear, Mamba, Mla, MlaQuery, Moe, Op, TokenEmbed,
};

impl Decoder {
    /// Linear layers of all layers and heads. Latent attention's second half is none: executors fold it
    /// into queries and outputs.
    pub fn linears(&self) -> Vec<&Linear> {
        let mut all = Vec::new();
        let blocks = self.layers().flat_map(|layer| &layer.blocks);
        for branch in blocks.flat_map(|block| &block.branches) {
            of_op(&branch.op, &mut all);
        }
        all.extend(self.heads.iter().filter_map(|head| head.out.as_ref()));
        all.extend(self.classifier.iter().flat_map(|c| c.dense.iter().chain(&c.out)));
        all
    }
}

fn of_op<'d>(op: &'d Op, all: &mut Vec<&'d Linear>) {
    match op {
        Op::Attn(attn) => of_attention(attn, all),
        Op::Mla(mla) => of_latent_attention(mla, all),
        Op::Mamba(Mamba { input, x, dt, out, .. }) => all.extend([input, x, dt, out]),
        Op::Mamba2(m) => all.extend([&m.input, &m.out]),
        Op::Delta(delta) => of_delta(delta, all),
        Op::Conv(conv) => all.extend([&conv.input, &conv.out]),
        Op::Ffn(ffn) => of_feed_forward(ffn, all),
        Op::Moe(moe) => of_experts(moe, all),
        Op::TokenEmbed(TokenEmbed { project, gate, out, .. }) => all.extend([project, gate, out]),
        Op::LowRank(l) => all.extend([&l.down, &l.up]),
        Op::Compressed(_) | Op::Cross(_) | Op::Rwkv(_) | Op::Term(_) => {}
    }
}

fn of_attention<'d>(attn: &'d Attn, all: &mut Vec<&'d Linear>) {
    all.push(&attn.q);
    all.extend(attn.k.iter().chain(&attn.v));
    all.push(&attn.o);
    if let Some(GateSource::Own(gate)) = attn.gate.as_ref().map(|g| &g.source) {
        all.push(gate);
    }
}

fn of_latent_attention<'d>(mla: &'d Mla, all: &mut Vec<&'d Linear>) {
    match &mla.q {
        MlaQuery::Direct(q) => all.push(q),
        MlaQuery::LowRank { a, b, .. } => all.extend([a, b]),
    }
    all.extend([&mla.kv_a, &mla.o]);
    if let Some(GateSource::Own(gate)) = mla.gate.as_ref().map(|g| &g.source) {
        all.push(gate);
    }
}

fn of_delta<'d>(delta: &'d Delta, all: &mut Vec<&'d Linear>) {
    all.extend(&delta.qkv);
    all.extend([&delta.decay.f, &delta.beta, &delta.gate, &delta.out]);
    all.extend(delta.decay.f_up.iter().chain(&delta.gate_up));
}

fn of_feed_forward<'d>(ffn: &'d Ffn, all: &mut Vec<&'d Linear>) {
    all.extend(&ffn.gate);
    all.extend([&ffn.up, &ffn.down]);
}

fn of_experts<'d>(moe: &'d Moe, all: &mut Vec<&'d Linear>) {
    all.push(&moe.router.w);
    all.extend(&moe.gate);
    all.extend([&moe.up, &moe.down]);
    if let Some(shared) = &moe.shared {
        of_feed_forward(&shared.ffn, all);
        all.extend(&shared.gate);
    }
    if let Some(latent) = &moe.latent {
        all.extend([&latent.down, &latent.up]);
    }
}
