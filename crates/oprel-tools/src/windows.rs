//! Running a model over a text in windows that know nothing of each other, as llama.cpp's tools do.

use oprel_gguf::Gguf;
use oprel_models::Model;
use oprel_nn::batch::SeqId;
use oprel_nn::cpu::{CpuExec, CpuOptions};
use oprel_nn::state::{PageId, RowId, groups};
use oprel_nn::{
    Batch, Dev, Exec, KvType, Limits, Observer, PAGE_LEN, PageTable, Placement, Pos, RowSet, Span,
    StateView, StepOut, Transfer, Want, What,
};
use oprel_telemetry::{Roots, suited_threads};
use oprel_tokenizer::{TokenizeOptions, Tokenizer};

use crate::error::{Error, Result, check_threads};

/// Rows whose logits one step gives: what vocabularies of a quarter million take 64 MB for.
const LOGIT_ROWS: usize = 64;

/// How a model is run over a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowOptions {
    /// Tokens of a window.
    pub context: u32,
    /// Windows that are run, from the first on; all if `None`.
    pub n_windows: Option<usize>,
    /// Threads; one a core if `None`.
    pub threads: Option<usize>,
}

impl Default for WindowOptions {
    fn default() -> Self {
        WindowOptions { context: 512, n_windows: None, threads: None }
    }
}

/// A text as a model's tokens, cut into windows.
pub(crate) struct Text {
    pub(crate) tokens: Vec<u32>,
    pub(crate) context: usize,
    pub(crate) n_windows: usize,
    /// What every window begins with, if the model wants it.
    bos: Option<u32>,
}

impl Text {
    /// Tokenizes; at least `least` windows must come of it.
    pub(crate) fn read(
        file: &Gguf,
        text: &str,
        options: &WindowOptions,
        least: usize,
    ) -> Result<Text> {
        let tokenizer = Tokenizer::from_metadata(file.metadata())?;
        let with_special = TokenizeOptions { add_special: true, parse_special: false };
        let tokens = tokenizer.tokenize(text, with_special);
        let context = options.context as usize;
        if options.n_windows == Some(0) {
            return Err(Error::Request("no windows are asked for: ask for one or more"));
        }
        let needed = least.saturating_mul(context);
        if tokens.len() < needed.max(1) {
            let found = tokens.len();
            return Err(Error::Short { found, needed, context: options.context });
        }
        let all = tokens.len().checked_div(context).unwrap_or(0);
        let n_windows = options.n_windows.map_or(all, |n| n.min(all)).max(1);
        Ok(Text { tokens, context, n_windows, bos: first_token(&tokenizer) })
    }

    /// A text whose tokens are known.
    pub(crate) fn of(file: &Gguf, tokens: Vec<u32>, context: usize) -> Result<Text> {
        let tokenizer = Tokenizer::from_metadata(file.metadata())?;
        let n_windows = tokens.len().checked_div(context).unwrap_or(0);
        Ok(Text { tokens, context, n_windows, bos: first_token(&tokenizer) })
    }

    /// Tokens of a window, with BOS in the place of the first where the model wants it.
    fn window(&self, index: usize) -> Vec<u32> {
        let start = index.saturating_mul(self.context);
        let mut tokens: Vec<u32> =
            self.tokens.iter().skip(start).take(self.context).copied().collect();
        if let (Some(bos), Some(first)) = (self.bos, tokens.first_mut()) {
            *first = bos;
        }
        tokens
    }

    /// The first place of a window that is scored: the second half, which has seen enough.
    pub(crate) fn first_scored(&self) -> usize {
        self.context / 2
    }

    /// Tokens of a window that are scored.
    pub(crate) fn n_scored(&self) -> usize {
        self.context.saturating_sub(1).saturating_sub(self.first_scored())
    }

    /// The token that follows scored place `row` of a window.
    pub(crate) fn next(&self, window: usize, row: usize) -> u32 {
        let at = window * self.context + self.first_scored() + row + 1;
        self.tokens.get(at).copied().unwrap_or(0)
    }
}

fn first_token(tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.bos().filter(|_| tokenizer.add_bos())
}

/// A model that runs windows.
pub(crate) struct Runner {
    pub(crate) model: Model,
    exec: CpuExec,
    pages: Vec<PageId>,
    n_groups: usize,
    out: StepOut,
}

impl Runner {
    pub(crate) fn new(file: &Gguf, options: &WindowOptions) -> Result<Runner> {
        let model = oprel_models::describe(file)?;
        if !model.causal {
            return Err(Error::NotCausal);
        }
        let (context, most) = (options.context, model.decoder.context_length);
        if !(8..=most).contains(&context) {
            return Err(Error::Context { context, most });
        }
        let threads = options.threads.unwrap_or_else(|| suited_threads(&Roots::default()));
        check_threads(threads, 1)?;
        let mut exec = CpuExec::new(CpuOptions { threads, isa: None })?;
        let n_groups = groups(&model.decoder.slots).len();
        let n_pages = context.div_ceil(PAGE_LEN as u32);
        let limits = Limits {
            tokens: context,
            spans: 1,
            logit_rows: LOGIT_ROWS as u32,
            context,
            pages: vec![n_pages; n_groups],
            recurrent_rows: 1,
            kv: KvType::F16.into(),
        };
        let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
        exec.prepare(&model.decoder, &model.weights, &placement, &limits)?;
        let pages = (0..n_pages).map(PageId).collect();
        Ok(Runner { model, exec, pages, n_groups, out: StepOut::default() })
    }

    pub(crate) fn n_vocab(&self) -> usize {
        self.model.decoder.n_vocab as usize
    }

    /// Runs a whole window for those who watch.
    pub(crate) fn watch(
        &mut self,
        text: &Text,
        window: usize,
        watch: &mut dyn Observer,
    ) -> Result<()> {
        self.feed(&text.window(window), 0, &[], Some(watch))
    }

    /// Runs a window; `each` is given its scored rows in order, some at a time: the first one's place among
    /// them, and their logits (rows, n_vocab).
    pub(crate) fn score(
        &mut self,
        text: &Text,
        window: usize,
        each: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let (tokens, first) = (text.window(window), text.first_scored());
        let Some((before, scored)) = tokens.split_at_checked(first) else { return Ok(()) };
        self.feed(before, 0, &[], None)?;
        // The last token of a window has none after it.
        let scored = scored.get(..text.n_scored()).unwrap_or_default();
        let want = [Want { of: RowSet::All, what: What::Logits }];
        let mut done = 0;
        for piece in scored.chunks(LOGIT_ROWS) {
            self.feed(piece, first + done, &want, None)?;
            let logits = self.out.got.first().map(|got| got.values.as_slice()).unwrap_or_default();
            if !logits.iter().all(|x| x.is_finite()) {
                return Err(Error::Overflow { at: window * text.context + first + done });
            }
            each(done, logits)?;
            done += piece.len();
        }
        Ok(())
    }

    fn feed(
        &mut self,
        tokens: &[u32],
        at: usize,
        want: &[Want],
        watch: Option<&mut dyn Observer>,
    ) -> Result<()> {
        let (n, at) = (tokens.len() as u32, at as u32);
        let spans = [Span::causal(SeqId(0), n, at)];
        let pos: Vec<i32> = (at..at + n).map(|p| p as i32).collect();
        let batch = Batch { spans: &spans, tokens, pos: Pos::Text(&pos), embeds: &[], want };
        let tables = vec![PageTable(&self.pages); self.n_groups];
        let row = Some(RowId(0));
        let transfer = [Transfer { from: row.filter(|_| at > 0), to: row, keep: &[] }];
        let state = StateView { pages: &tables, recurrent: &transfer };
        Ok(self.exec.step(&batch, &state, &mut self.out, watch)?)
    }
}
