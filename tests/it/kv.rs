//! What storing keys and values in fewer bits costs: the demo model on its held-out text.

use oprel::{KvType, KvTypes, Model, ModelSource};
use oprel_tests::root;

/// Tokens of a piece of text.
const TOKENS: usize = 400;

/// Log probabilities of a row of logits.
fn log_softmax(row: &[f32]) -> Vec<f64> {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = row.iter().map(|x| f64::from(x - top).exp()).sum();
    row.iter().map(|x| f64::from(x - top) - total.ln()).collect()
}

struct Read {
    n_vocab: usize,
    tokens: Vec<u32>,
    logits: Vec<f32>,
}

impl Read {
    fn with(kv: KvTypes, pieces: Vec<usize>) -> Read {
        let path = root().join("models/demo/heldout.txt");
        let text = std::fs::read_to_string(path).expect("committed");
        let model = Model::builder(ModelSource::Demo).kv(kv).load().expect("it is built in");
        let mut tokens = model.tokenize(&text, Default::default()).unwrap();
        tokens.truncate(TOKENS);
        let logits = model.logits(tokens.clone(), pieces).expect("logits");
        Read { n_vocab: model.n_vocab(), tokens, logits }
    }

    fn rows(&self) -> impl Iterator<Item = Vec<f64>> + use<'_> {
        self.logits.chunks_exact(self.n_vocab).map(log_softmax)
    }

    /// Mean negative log probability of the next token.
    fn loss(&self) -> f64 {
        let next = self.rows().zip(&self.tokens[1..]);
        let losses: Vec<f64> = next.map(|(row, &token)| -row[token as usize]).collect();
        losses.iter().sum::<f64>() / losses.len() as f64
    }

    /// Mean Kullback-Leibler divergence from what `self` predicts to what `other` does.
    fn divergence(&self, other: &Read) -> f64 {
        let each = self
            .rows()
            .zip(other.rows())
            .map(|(p, q)| p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>());
        each.sum::<f64>() / self.tokens.len() as f64
    }
}

#[test]
fn a_smaller_cache_changes_predictions_by_little() {
    let exact = Read::with(KvType::F32.into(), vec![]);
    println!("f32: perplexity {:.4}", exact.loss().exp());
    // Whatever changes a number a little changes some roundings of activations to eight bits, which
    // alone costs 1e-4 here; the types' own errors come on top of that.
    let mixed = KvTypes { k: KvType::Q8_0, v: KvType::Q4_0 };
    for (kv, bound, loss_bound) in [
        (KvType::I16.into(), 4e-4, 0.01),
        (KvType::F16.into(), 4e-4, 0.01),
        (KvType::Bf16.into(), 6e-4, 0.01),
        (KvType::Q8_0.into(), 1e-3, 0.01),
        (mixed, 1e-2, 0.03),
        (KvType::Q4_0.into(), 2.5e-2, 0.05),
    ] {
        let read = Read::with(kv, vec![]);
        let (loss, kl) = (read.loss(), exact.divergence(&read));
        println!("{kv}: perplexity {:.4}, divergence {kl:.2e}", loss.exp());
        assert!(kl < bound, "{kv}: {kl}");
        assert!((loss - exact.loss()).abs() < loss_bound, "{kv}: {loss}");
        // However the text is fed.
        let pieces = Read::with(kv, vec![1, 100, 37, 1, 1]);
        assert!(pieces.logits == read.logits, "{kv}: in pieces");
    }
}
