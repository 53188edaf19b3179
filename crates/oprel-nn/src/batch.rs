//! The ragged batch: what one step computes, for which sequences, and what it gives back.
//!
//! A batch is a list of [`Span`]s, one per sequence, whose tokens stand contiguously one after
//! another. Prefill, decode, speculation, embeddings and many users are all this, with other
//! numbers; nothing is padded.

mod bounds;

use crate::{Error, Result};

pub(crate) use bounds::{Bounds, same_len};

/// Which sequence, as the engine counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqId(pub u32);

/// Tokens of several sequences, run through the model in one step.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// One per sequence; each sequence at most once.
    pub spans: &'a [Span<'a>],
    /// Token ids, span after span (n). Always ids, also under embedding rows.
    pub tokens: &'a [u32],
    /// Rope positions, one per token (n).
    pub pos: Pos<'a>,
    /// Rows that replace token embeddings: images, audio, hidden states.
    pub embeds: &'a [EmbedRows<'a>],
    /// What to give back.
    pub want: &'a [Want],
}

/// Rope position of each token; not its index in the cache.
#[derive(Clone, Copy, Debug)]
pub enum Pos<'a> {
    /// One position a token.
    Text(&'a [i32]),
    /// Time, height, width and one spare: images in M-RoPE models.
    MRope(&'a [[i32; 4]]),
}

impl Pos<'_> {
    /// Tokens that have a position.
    pub fn len(&self) -> usize {
        match self {
            Pos::Text(p) => p.len(),
            Pos::MRope(p) => p.len(),
        }
    }

    /// No token at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The four components of token `i`; text repeats its position, as M-RoPE models do for text.
    pub fn components(&self, i: usize) -> [i32; 4] {
        match self {
            Pos::Text(p) => [p[i], p[i], p[i], 0],
            Pos::MRope(p) => p[i],
        }
    }
}

/// A run of tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// Whose tokens.
    pub seq: SeqId,
    /// How many tokens.
    pub n: u32,
    /// Index in the sequence's cache of the first of them: what is cached before.
    pub cache_start: u32,
    /// The tokens before this span, latest first, for n-gram embeddings; 0 where there is none.
    pub history: [u32; 4],
    /// Which positions a token sees.
    pub see: See<'a>,
    /// Adapter (LoRA) to apply.
    pub adapter: Option<AdapterUse>,
    /// How many recurrent states back speculation may roll.
    pub keep_states: u8,
}

impl Span<'_> {
    /// A plain causal span.
    pub fn causal(seq: SeqId, n: u32, cache_start: u32) -> Self {
        Span {
            seq,
            n,
            cache_start,
            history: [0; 4],
            see: See::Causal,
            adapter: None,
            keep_states: 0,
        }
    }
}

/// Which positions a token of a span sees, besides the layer's own mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum See<'a> {
    /// Itself and all before it.
    Causal,
    /// The whole span and all cached: encoders, diffusion models.
    All,
    /// The first so many tokens of the sequence see each other, the rest is causal.
    PrefixLm(u32),
    /// A tree of drafts: token `i` of the span sees the cache, itself and its ancestors; `parents[i]`
    /// is the index of its parent in the span, -1 for a root.
    Tree(&'a [i32]),
}

/// A loaded adapter and its strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdapterUse {
    /// Which adapter.
    pub adapter: u32,
    /// Its factor.
    pub scale: f32,
}

/// Rows that stand in for token embeddings.
#[derive(Clone, Copy, Debug)]
pub struct EmbedRows<'a> {
    /// First token of the batch that is replaced.
    pub at: u32,
    /// (rows, width), row-major.
    pub rows: &'a [f32],
}

/// One thing to give back.
#[derive(Clone, Debug, PartialEq)]
pub struct Want {
    /// Which rows, or which span for pooling.
    pub of: RowSet,
    /// What of them.
    pub what: What,
}

/// Rows of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowSet {
    /// Every token of the batch.
    All,
    /// The tokens with these indices in the batch, in this order.
    Rows(Vec<u32>),
    /// The last token of every span, in span order.
    Last,
    /// All tokens of the span with this index.
    Span(u32),
}

impl RowSet {
    /// Indices in the batch, in order.
    ///
    /// # Errors
    /// [`Error::Batch`] if one is outside the batch.
    pub fn resolve(&self, b: &Batch<'_>, out: &mut Vec<u32>) -> Result<()> {
        out.clear();
        let n = b.tokens.len() as u32;
        match self {
            RowSet::All => out.extend(0..n),
            RowSet::Rows(rows) => out.extend_from_slice(rows),
            RowSet::Last => {
                let mut end = 0;
                for span in b.spans {
                    end += span.n;
                    out.push(end - 1);
                }
            }
            RowSet::Span(index) => {
                let start: u32 = b.spans.iter().take(*index as usize).map(|s| s.n).sum();
                let span = b.spans.get(*index as usize);
                let len =
                    span.map(|s| s.n).ok_or_else(|| Error::Batch(format!("no span {index}")))?;
                out.extend(start..start + len);
            }
        }
        match out.iter().find(|&&r| r >= n) {
            Some(r) => Err(Error::Batch(format!("row {r} is wanted of a batch of {n}"))),
            None => Ok(()),
        }
    }
}

/// What is given back of the wanted rows.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Logits of the language-model head, (rows, n_vocab).
    Logits,
    /// Logits of these token ids only, (rows, ids).
    LogitsOf(Vec<u32>),
    /// The `k` largest logits with their ids.
    TopK(u32),
    /// Hidden state at a point of the model, (rows, width).
    Hidden(Tap),
    /// One vector for the rows, (1, width): embeddings.
    Pool(Pooling),
    /// What the classifier makes of the rows of a whole text, (1, labels).
    Class,
}

/// A point of the model whose hidden state can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tap {
    /// Before the layer with this index.
    Layer(u32),
    /// After the last layer, before the final norm.
    Last,
    /// After the final norm: what the head reads.
    Normed,
}

/// How the rows of a text become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Mean over all tokens.
    Mean,
    /// The first token.
    Cls,
    /// The last token.
    Last,
}

impl Batch<'_> {
    /// Checks what every executor relies on.
    ///
    /// # Errors
    /// [`Error::Batch`] if lengths disagree, a span is empty, a sequence stands twice, or an
    /// embedding row lies outside.
    pub fn check(&self, width: u32) -> Result<()> {
        let n = self.tokens.len();
        let spanned: u64 = self.spans.iter().map(|s| u64::from(s.n)).sum();
        if spanned != n as u64 || self.pos.len() != n {
            return Err(Error::Batch(format!(
                "{n} tokens, {spanned} in spans, {} positions",
                self.pos.len()
            )));
        }
        if self.spans.iter().any(|s| s.n == 0) {
            return Err(Error::Batch("an empty span".into()));
        }
        for (i, span) in self.spans.iter().enumerate() {
            if self.spans[..i].iter().any(|s| s.seq == span.seq) {
                return Err(Error::Batch(format!("sequence {} stands twice", span.seq.0)));
            }
        }
        for e in self.embeds {
            let rows = e.rows.len() / width.max(1) as usize;
            if !e.rows.len().is_multiple_of(width as usize) || e.at as usize + rows > n {
                return Err(Error::Batch(format!("embedding rows at {} do not fit", e.at)));
            }
        }
        Ok(())
    }
}
