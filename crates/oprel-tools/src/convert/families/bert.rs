//! BERT and RoBERTa: embedders, and rerankers with a classifier.

use super::super::config::Config;
use super::super::keys::Keys;
use super::super::out::Out;
use super::{Family, PLAIN};
use crate::error::Result;

pub(super) const BERT: Family = Family { architecture: "bert", keys: bert_keys, ..PLAIN };

pub(super) const ROBERTA: Family =
    Family { architecture: "bert", keys: roberta_keys, shape: roberta_shape, ..PLAIN };

fn bert_keys(k: &mut Keys<'_>) -> Result<()> {
    k.sizes()?;
    k.heads()?;
    k.set("attention.causal", false);
    Ok(())
}

/// Positions begin after the padding token's id.
fn skipped(c: &Config) -> Result<u32> {
    Ok(c.maybe_u32(&["pad_token_id"])?.map_or(0, |pad| pad.saturating_add(1)))
}

fn roberta_keys(k: &mut Keys<'_>) -> Result<()> {
    bert_keys(k)?;
    let positions = k.config.u32(&["max_position_embeddings"])?;
    let usable = positions.saturating_sub(skipped(k.config)?);
    k.set("context_length", usable);
    Ok(())
}

fn roberta_shape(c: &Config, out: Out) -> Result<Vec<Out>> {
    if out.part() != "position_embd.weight" {
        return Ok(vec![out]);
    }
    let skipped = u64::from(skipped(c)?);
    let left = out.n_rows().saturating_sub(skipped);
    if left == 0 {
        return Err(out.wrong("has no rows after that of the padding token"));
    }
    Ok(vec![out.rows(skipped, left)?])
}
