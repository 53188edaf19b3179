//! What a prepared model takes in a step: every executor checks its batches here, before it computes.

use super::{Batch, See, Span, Tap, Want, What};
use crate::describe::{Decoder, HeadKind, StateSpec};
use crate::exec::Limits;
use crate::state::{PAGE_LEN, PageId, PageTable, RowId, StateView, groups};
use crate::{Error, Result};

/// What batches of a prepared model are held against.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// What it was prepared for.
    pub(crate) limits: Limits,
    /// Name of the executor, for errors.
    executor: &'static str,
    width: u32,
    n_vocab: u32,
    n_layers: usize,
    /// Page tables of a span.
    n_groups: usize,
    is_recurrent: bool,
    /// Logits of a row; `None` if the model gives none.
    n_logits: Option<usize>,
    /// Whether it has a classifier.
    classifies: bool,
}

impl Bounds {
    /// Those of `decoder`, prepared for `limits`.
    ///
    /// # Errors
    /// [`Error::Description`] if the limits do not name the pages of every group.
    pub(crate) fn new(
        executor: &'static str,
        decoder: &Decoder,
        limits: &Limits,
    ) -> Result<Bounds> {
        let (n_groups, found) = (groups(&decoder.slots).len(), limits.pages.len());
        if found != n_groups {
            let why = format!("limits for {found} groups of pages, the model has {n_groups}");
            return Err(Error::Description(why));
        }
        let is_recurrent = |slot: &StateSpec| matches!(slot, StateSpec::Recurrent { .. });
        let head = decoder.heads.iter().find(|head| head.kind == HeadKind::LanguageModel);
        Ok(Bounds {
            limits: limits.clone(),
            executor,
            width: decoder.width,
            n_vocab: decoder.n_vocab,
            n_layers: decoder.layers().count(),
            n_groups,
            is_recurrent: decoder.slots.iter().any(is_recurrent),
            n_logits: head.and_then(|head| head.out.as_ref()).map(|out| out.rows.len()),
            classifies: decoder.classifier.is_some(),
        })
    }

    /// The number of a page that there is.
    ///
    /// # Errors
    /// [`Error::Batch`] if the group or the page is none.
    pub(crate) fn page(&self, group: usize, page: PageId) -> Result<usize> {
        match self.limits.pages.get(group) {
            Some(&n_pages) if page.0 < n_pages => Ok(page.0 as usize),
            Some(n_pages) => Err(Error::Batch(format!("page {} of {n_pages}", page.0))),
            None => Err(Error::Batch(format!("group {group} of {}", self.n_groups))),
        }
    }

    /// The number of a row of recurrent state that there is.
    ///
    /// # Errors
    /// [`Error::Batch`] if it is none.
    pub(crate) fn row(&self, row: RowId) -> Result<usize> {
        let n_rows = self.limits.recurrent_rows;
        match self.is_recurrent && row.0 < n_rows {
            true => Ok(row.0 as usize),
            false => Err(Error::Batch(format!("recurrent row {} of {n_rows}", row.0))),
        }
    }

    /// Whether a batch keeps its rules and these limits, and its state is there. `rows` is scratch.
    ///
    /// # Errors
    /// [`Error::Batch`] if not, [`Error::Unsupported`] for what no executor does yet.
    pub(crate) fn check(
        &self,
        batch: &Batch<'_>,
        state: &StateView<'_>,
        rows: &mut Vec<u32>,
    ) -> Result<()> {
        batch.check(self.width)?;
        let (n, n_spans) = (batch.tokens.len(), batch.spans.len());
        if n == 0 {
            return Err(Error::Batch("no tokens".into()));
        }
        let Limits { tokens, spans, .. } = self.limits;
        if n > tokens as usize || n_spans > spans as usize {
            let why = format!("{n} tokens in {n_spans} spans, prepared for {tokens} in {spans}");
            return Err(Error::Batch(why));
        }
        if let Some(token) = batch.tokens.iter().find(|&&token| token >= self.n_vocab) {
            return Err(Error::Batch(format!("token {token} of a vocabulary of {}", self.n_vocab)));
        }
        batch.spans.iter().try_for_each(|span| self.check_span(span))?;
        self.check_pages(batch, state.pages)?;
        self.check_recurrent(batch, state)?;
        self.check_wants(batch, rows)
    }

    fn check_span(&self, span: &Span<'_>) -> Result<()> {
        let end = end(span);
        let context = self.limits.context;
        if end > u64::from(context) {
            return Err(Error::Batch(format!("position {end} is beyond a context of {context}")));
        }
        if span.adapter.is_some() {
            return Err(Error::Unsupported { executor: self.executor, what: "adapters".into() });
        }
        let See::Tree(parents) = span.see else { return Ok(()) };
        let parents_first = parents.iter().enumerate().all(|(i, &parent)| parent < i as i32);
        if parents.len() != span.n as usize || !parents_first {
            return Err(Error::Batch("a tree whose parents do not come first".into()));
        }
        Ok(())
    }

    /// Page tables are long enough and name pages that there are. Whether one is needed where a table
    /// names none depends on what a layer sees.
    fn check_pages(&self, batch: &Batch<'_>, tables: &[PageTable<'_>]) -> Result<()> {
        let n_groups = self.n_groups;
        if tables.len() != n_groups * batch.spans.len() {
            return Err(Error::Batch(format!("{n_groups} page tables are needed for each span")));
        }
        for (i, PageTable(pages)) in tables.iter().enumerate() {
            let needed = end(&batch.spans[i / n_groups]).div_ceil(PAGE_LEN as u64) as usize;
            let Some(pages) = pages.get(..needed) else {
                let found = pages.len();
                let why = format!("a page table of {found} pages, {needed} are needed");
                return Err(Error::Batch(why));
            };
            let n_pages = self.limits.pages[i % n_groups];
            let beyond = |page: &&PageId| **page != PageId::NONE && page.0 >= n_pages;
            if let Some(page) = pages.iter().find(beyond) {
                return Err(Error::Batch(format!("page {} of {n_pages}", page.0)));
            }
        }
        Ok(())
    }

    /// Rows of recurrent state; models without any look at no transfers.
    fn check_recurrent(&self, batch: &Batch<'_>, state: &StateView<'_>) -> Result<()> {
        if !self.is_recurrent {
            return Ok(());
        }
        if state.recurrent.len() != batch.spans.len() {
            return Err(Error::Batch("a recurrent model needs a transfer for each span".into()));
        }
        if state.recurrent.iter().any(|transfer| transfer.to.is_none()) {
            return Err(Error::Batch("a span of a recurrent model without a row".into()));
        }
        let named = state.recurrent.iter().flat_map(|t| t.from.iter().chain(&t.to).chain(t.keep));
        let n_rows = self.limits.recurrent_rows;
        match named.into_iter().find(|row| row.0 >= n_rows) {
            Some(row) => Err(Error::Batch(format!("recurrent row {} of {n_rows}", row.0))),
            None => Ok(()),
        }
    }

    fn check_wants(&self, batch: &Batch<'_>, rows: &mut Vec<u32>) -> Result<()> {
        let mut logit_rows = 0;
        for want in batch.want {
            want.of.resolve(batch, rows)?;
            let (n, of) = (rows.len(), batch.tokens.len());
            if n > of {
                return Err(Error::Batch(format!("{n} rows are wanted of {of}")));
            }
            logit_rows += self.check_want(want, n)?;
        }
        let most = self.limits.logit_rows as usize;
        if logit_rows > most {
            return Err(Error::Batch(format!("logits of {logit_rows} rows, at most {most}")));
        }
        Ok(())
    }

    /// Whether so many rows can give what is wanted of them; and of how many rows it takes logits.
    fn check_want(&self, want: &Want, n_rows: usize) -> Result<usize> {
        match &want.what {
            What::Hidden(Tap::Layer(i)) if *i as usize >= self.n_layers => {
                Err(Error::Batch(format!("no layer {i}")))
            }
            What::Class if !self.classifies => {
                Err(Error::Batch("this model has no classifier".into()))
            }
            What::Pool(_) | What::Class if n_rows == 0 => {
                Err(Error::Batch("a pool of no rows".into()))
            }
            What::Hidden(_) | What::Pool(_) | What::Class => Ok(0),
            What::Logits | What::LogitsOf(_) | What::TopK(_) => {
                let n_logits = self.n_logits;
                let n =
                    n_logits.ok_or_else(|| Error::Batch("this model gives no logits".into()))?;
                let beyond = match &want.what {
                    What::LogitsOf(ids) => ids.iter().copied().find(|&id| id as usize >= n),
                    What::TopK(k) => Some(*k).filter(|&k| k as usize > n),
                    _ => None,
                };
                match beyond {
                    Some(x) => Err(Error::Batch(format!("{x} is beyond a vocabulary of {n}"))),
                    None => Ok(n_rows),
                }
            }
        }
    }
}

/// Whether memory for a page or a row is as long as that is.
///
/// # Errors
/// [`Error::Batch`] if not.
pub(crate) fn same_len(found: usize, needed: usize) -> Result<()> {
    match found == needed {
        true => Ok(()),
        false => Err(Error::Batch(format!("{found} bytes for a page or a row of {needed}"))),
    }
}

/// The position after a span's last.
fn end(span: &Span<'_>) -> u64 {
    u64::from(span.cache_start) + u64::from(span.n)
}
