//! A model whose logits are a hash of every token that it should see: one that is missing, stale, in a
//! wrong place or of somebody else changes the text.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oprel_nn::describe::{Decoder, Head, HeadKind, Linear, Reach, SiteId, StateSpec, VDim};
use oprel_nn::state::{PageId, RowId};
use oprel_nn::{
    Batch, Exec, Limits, Memory, Observer, PAGE_LEN, Placement, StateView, StepOut, WeightId,
    Weights, What,
};

pub(super) const VOCAB: u32 = 31;

/// Remembers which token lies at which place of which page, and what each row is the state of.
#[derive(Debug)]
pub(super) struct Fake {
    /// Windows of its groups; `None` sees all.
    pub(super) windows: Vec<Option<u32>>,
    pub(super) recurrent: bool,
    /// Tokens it gives a chance: fewer repeat themselves more.
    pub(super) spread: u32,
    /// Fails where this token stands first, at this position.
    pub(super) fails_at: Option<(u32, usize)>,
    pub(super) fails_copies: bool,
    /// Steps after which each one fails.
    pub(super) lasts: usize,
    /// One in so many of its hashes is not that of others; 0 is none.
    pub(super) wrong_of: u64,
    /// How long a step takes it.
    pub(super) work: Option<Work>,
    pub(super) cells: HashMap<(usize, PageId, usize), u32>,
    pub(super) rows: HashMap<RowId, u64>,
    pub(super) limits: Option<Limits>,
}

/// Moves a clock by what a step takes.
#[derive(Clone, Debug)]
pub(super) struct Work {
    /// Microseconds.
    pub(super) clock: Arc<AtomicU64>,
    /// What a step takes, and each of its tokens more.
    pub(super) step: u64,
    pub(super) token: u64,
}

impl Default for Fake {
    fn default() -> Fake {
        Fake {
            windows: vec![None],
            recurrent: false,
            spread: VOCAB,
            fails_at: None,
            fails_copies: false,
            lasts: usize::MAX,
            wrong_of: 0,
            work: None,
            cells: HashMap::new(),
            rows: HashMap::new(),
            limits: None,
        }
    }
}

fn mix(hash: u64, token: u32) -> u64 {
    (hash ^ u64::from(token)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23)
}

impl Fake {
    fn hash(&self, tables: &[oprel_nn::PageTable<'_>], position: usize, row: u64) -> u64 {
        let mut hash = row;
        for (group, window) in self.windows.iter().enumerate() {
            let first = window.map_or(0, |w| (position + 1).saturating_sub(w as usize));
            for p in first..=position {
                let page = tables[group].0[p / PAGE_LEN];
                hash = mix(hash, self.cells[&(group, page, p % PAGE_LEN)]);
            }
        }
        hash
    }

    fn logits(&self, hash: u64) -> impl Iterator<Item = f32> {
        let is_wrong = self.wrong_of > 0 && (hash >> 17).is_multiple_of(self.wrong_of);
        let hash = if is_wrong { mix(hash, 1) } else { hash };
        let spread = u64::from(self.spread);
        (0..u64::from(VOCAB)).map(move |id| match id < spread {
            true => (hash.wrapping_mul(2 * id + 1) >> 40) as f32 / 1e6,
            false => -50.0,
        })
    }
}

impl Exec for Fake {
    fn prepare(
        &mut self,
        _: &Decoder,
        _: &Weights,
        _: &Placement,
        limits: &Limits,
    ) -> oprel_nn::Result<Memory> {
        self.limits = Some(limits.clone());
        // Weights take time.
        let mapped = self.work.as_ref().map_or(0, |work| work.step);
        Ok(Memory { mapped, ..Memory::default() })
    }

    fn step(
        &mut self,
        batch: &Batch<'_>,
        state: &StateView<'_>,
        out: &mut StepOut,
        _: Option<&mut dyn Observer>,
    ) -> oprel_nn::Result<()> {
        batch.check(1)?;
        if let Some(work) = &self.work {
            let took = work.step + work.token * batch.tokens.len() as u64;
            work.clock.fetch_add(took, Ordering::Relaxed);
        }
        if self.lasts == 0 {
            return Err(oprel_nn::Error::Batch("told to fail".into()));
        }
        self.lasts -= 1;
        let limits = self.limits.clone().unwrap();
        assert!(batch.tokens.len() <= limits.tokens as usize);
        assert!(batch.spans.len() <= limits.spans as usize);
        let n_groups = self.windows.len();
        // All states are read before any is written.
        let mut states: Vec<u64> = (0..batch.spans.len())
            .map(|i| match state.recurrent[i].from {
                Some(row) if self.recurrent => self.rows[&row],
                _ => 7,
            })
            .collect();
        let (mut hashes, mut first) = (Vec::new(), 0);
        for (i, span) in batch.spans.iter().enumerate() {
            let n = span.n as usize;
            let tables = &state.pages[i * n_groups..(i + 1) * n_groups];
            let mut after = Vec::new();
            for (k, &token) in batch.tokens[first..first + n].iter().enumerate() {
                let position = span.cache_start as usize + k;
                let begins =
                    |t| (0..n_groups).all(|g| self.cells.get(&(g, tables[g].0[0], 0)) == Some(&t));
                if self.fails_at.is_some_and(|(t, at)| at == position && begins(t)) {
                    return Err(oprel_nn::Error::Batch("told to fail".into()));
                }
                for group in 0..n_groups {
                    let page = tables[group].0[position / PAGE_LEN];
                    self.cells.insert((group, page, position % PAGE_LEN), token);
                }
                if self.recurrent {
                    states[i] = mix(states[i], token);
                }
                after.push(states[i]);
                hashes.push(self.hash(tables, position, states[i]));
            }
            if self.recurrent {
                let transfer = &state.recurrent[i];
                for (back, &row) in transfer.keep.iter().enumerate() {
                    self.rows.insert(row, after[n - 2 - back]);
                }
                self.rows.insert(transfer.to.unwrap(), states[i]);
            }
            first += n;
        }
        out.reset(batch.want.len());
        let (mut rows, mut logit_rows) = (Vec::new(), 0);
        for (want, got) in batch.want.iter().zip(&mut out.got) {
            want.of.resolve(batch, &mut rows)?;
            match want.what {
                What::Pool(_) => {
                    let last = *rows.last().unwrap();
                    got.values.push((hashes[last as usize] >> 40) as f32);
                }
                _ => {
                    logit_rows += rows.len();
                    rows.iter().for_each(|&r| got.values.extend(self.logits(hashes[r as usize])));
                }
            }
        }
        assert!(logit_rows <= limits.logit_rows as usize);
        Ok(())
    }

    fn copy_pages(&mut self, group: usize, pages: &[(PageId, PageId)]) -> oprel_nn::Result<()> {
        if self.fails_copies {
            return Err(oprel_nn::Error::Batch("told to fail".into()));
        }
        for &(from, to) in pages {
            for slot in 0..PAGE_LEN {
                if let Some(&token) = self.cells.get(&(group, from, slot)) {
                    self.cells.insert((group, to, slot), token);
                }
            }
        }
        Ok(())
    }

    fn page_bytes(&self, _: usize) -> usize {
        PAGE_LEN * 4
    }

    fn read_page(&self, group: usize, page: PageId, to: &mut [u8]) -> oprel_nn::Result<()> {
        for (i, to) in to.chunks_exact_mut(4).enumerate() {
            let token = self.cells.get(&(group, page, i)).copied().unwrap_or(u32::MAX);
            to.copy_from_slice(&token.to_le_bytes());
        }
        Ok(())
    }

    fn write_page(&mut self, group: usize, page: PageId, from: &[u8]) -> oprel_nn::Result<()> {
        for (i, token) in from.as_chunks().0.iter().enumerate() {
            self.cells.insert((group, page, i), u32::from_le_bytes(*token));
        }
        Ok(())
    }

    fn row_bytes(&self) -> usize {
        if self.recurrent { 8 } else { 0 }
    }

    fn read_row(&self, row: RowId, to: &mut [u8]) -> oprel_nn::Result<()> {
        to.copy_from_slice(&self.rows.get(&row).copied().unwrap_or(0).to_le_bytes());
        Ok(())
    }

    fn write_row(&mut self, row: RowId, from: &[u8]) -> oprel_nn::Result<()> {
        if let Some(state) = from.as_chunks().0.first() {
            self.rows.insert(row, u64::from_le_bytes(*state));
        }
        Ok(())
    }
}

pub(super) fn decoder(fake: &Fake) -> Decoder {
    let out = Linear { w: WeightId(0), rows: 0..VOCAB, bias: None, scale: None, site: SiteId(0) };
    let reach = |w: &Option<u32>| w.map_or(Reach::Full, Reach::Window);
    let kv = |w| StateSpec::Kv { heads: 1, k: 1, v: VDim::Own(1), reach: reach(w) };
    let recurrent = fake.recurrent.then_some(StateSpec::Recurrent { state: 1, conv: 0 });
    Decoder {
        width: 1,
        n_vocab: VOCAB,
        context_length: 512,
        inputs: Vec::new(),
        lanes: 1,
        slots: fake.windows.iter().map(kv).chain(recurrent).collect(),
        ropes: Vec::new(),
        steps: Vec::new(),
        heads: vec![Head {
            kind: HeadKind::LanguageModel,
            norm: None,
            out: Some(out),
            scale: 1.0,
            soft_cap: None,
        }],
        classifier: None,
    }
}
