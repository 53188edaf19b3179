//! BERT embedders: learned positions, every token sees every other, layer norms after each residual.

use oprel_nn::describe::{
    Activation, Block, Branch, Classifier, Head, HeadKind, Input, Mask, Norm, NormKind, Op, Read,
    Step, Write,
};
use oprel_nn::{Decoder, Pooling};

use super::{Described, RANK, layer};
use crate::parts::{attention, ffn, token_input};
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let inputs = inputs(s, &h)?;
    let mut steps = vec![Step::Norm(norm(s, &h, "token_embd_norm")?)];
    for i in 0..h.n_layers {
        let mut attn = attention(s, &h, i, None, Mask::Full)?;
        // A text is read at once: nothing is kept of it.
        attn.slot = None;
        let size = (h.width, h.ff[i as usize]);
        let ffn = ffn(s, &format!("blk.{i}.ffn"), "", size, Activation::GeluTanh)?;
        let after_attn = norm(s, &h, &format!("blk.{i}.attn_output_norm"))?;
        let after_ffn = norm(s, &h, &format!("blk.{i}.layer_output_norm"))?;
        steps.push(layer(vec![
            normed_residual(Op::Attn(attn), after_attn),
            normed_residual(Op::Ffn(ffn), after_ffn),
        ]));
    }
    let head =
        Head { kind: HeadKind::LanguageModel, norm: None, out: None, scale: 1.0, soft_cap: None };
    let (pooling, classifier) = match s.u32_or_zero("pooling_type")? {
        RANK => (Pooling::Cls, Some(classifier(s, &h)?)),
        _ => (pooling(s)?, None),
    };
    let decoder = Decoder {
        width: h.width,
        n_vocab: h.n_vocab,
        context_length: h.context_length,
        inputs,
        lanes: 1,
        slots: Vec::new(),
        ropes: Vec::new(),
        steps,
        heads: vec![head],
        classifier,
    };
    Ok(Described { decoder, causal: false, pooling: Some(pooling) })
}

/// The classifier of a cross-encoder, as RoBERTa has it: a layer with tanh, then one for the labels.
fn classifier(s: &mut Source<'_>, h: &Hyper) -> Result<Classifier> {
    let labels = |s: &Source<'_>, name: &str| match s.shape(name) {
        Some(&[_, n]) => u32::try_from(n).unwrap_or(u32::MAX),
        _ => 1,
    };
    let out = s.maybe_linear("cls.output", h.width, labels(s, "cls.output.weight"))?;
    let inner = if out.is_some() { h.width } else { labels(s, "cls.weight") };
    let dense = match &out {
        Some(_) => s.maybe_linear("cls", h.width, inner)?,
        None => Some(s.linear("cls", h.width, inner)?),
    };
    Ok(Classifier { pooling: Pooling::Cls, dense, out, softmax: false })
}

/// Tokens, positions, and the row of token type 0.
fn inputs(s: &mut Source<'_>, h: &Hyper) -> Result<Vec<Input>> {
    let table = s.tensor("position_embd.weight", &[h.width, h.context_length])?;
    let mut inputs = vec![token_input(s, h, 1.0)?, Input::Position { table, offset: 0 }];
    if let Some(&[_, types]) = s.shape("token_types.weight") {
        let types = u32::try_from(types).unwrap_or(u32::MAX);
        let table = s.tensor("token_types.weight", &[h.width, types])?;
        inputs.push(Input::Row { table, row: 0 });
    }
    Ok(inputs)
}

fn norm(s: &mut Source<'_>, h: &Hyper, name: &str) -> Result<Norm> {
    s.norm(name, h.width, NormKind::Layer, h.eps)
}

/// The norm is on the residual itself, after what is added.
fn normed_residual(op: Op, norm: Norm) -> Block {
    Block {
        read: Read::Plain(None),
        branches: vec![Branch::plain(op)],
        post: None,
        write: Write::Add { scale: 1.0, norm: Some(norm) },
    }
}

/// How the file wants a text's vector made; the mean if it does not say.
fn pooling(s: &Source<'_>) -> Result<Pooling> {
    match s.maybe_u32("pooling_type")?.unwrap_or(1) {
        0 | 1 => Ok(Pooling::Mean),
        2 => Ok(Pooling::Cls),
        3 => Ok(Pooling::Last),
        other => Err(s.wrong("pooling_type", other, "is not known")),
    }
}
