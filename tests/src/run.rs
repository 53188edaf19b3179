//! Running an executor on one sequence, without an engine: pages and rows handed out in order.

use oprel_models::Model;
use oprel_nn::batch::SeqId;
use oprel_nn::candle::CandleExec;
use oprel_nn::cpu::{CpuExec, CpuOptions};
use oprel_nn::state::{PageId, RowId, groups};
use oprel_nn::{
    Batch, Decoder, Dev, Exec, KvTypes, Limits, PAGE_LEN, PageTable, Placement, Pos, RowSet, See,
    Span, StateView, StepOut, Transfer, Want, What,
};

/// Every executor, on the CPU alone; each is the other's test.
pub fn executors() -> Vec<(&'static str, Box<dyn Exec>)> {
    let one_thread = CpuOptions { threads: 1, isa: None };
    let cpu = CpuExec::new(one_thread).expect("no thread is started");
    vec![("candle", Box::new(CandleExec::cpu())), ("cpu", Box::new(cpu))]
}

/// Limits for one sequence of `context` tokens, all fed and all wanted at once.
pub fn limits(decoder: &Decoder, context: u32, kv: impl Into<KvTypes>) -> Limits {
    let pages = vec![context.div_ceil(PAGE_LEN as u32); groups(&decoder.slots).len()];
    let (tokens, logit_rows, kv) = (context, context, kv.into());
    Limits { tokens, spans: 1, logit_rows, context, pages, recurrent_rows: 1, kv }
}

/// One sequence on a prepared executor.
pub struct Sequence {
    exec: Box<dyn Exec>,
    n_groups: usize,
    pages: Vec<PageId>,
    at: u32,
    see_all: bool,
}

impl Sequence {
    /// Prepares the executor, everything on its first device.
    ///
    /// # Panics
    /// If preparing fails.
    pub fn new(
        exec: Box<dyn Exec>,
        model: &Model,
        context: u32,
        kv: impl Into<KvTypes>,
    ) -> Sequence {
        let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
        Sequence::placed(exec, model, context, kv, &placement)
    }

    /// Prepares the executor with a placement.
    ///
    /// # Panics
    /// If preparing fails.
    pub fn placed(
        mut exec: Box<dyn Exec>,
        model: &Model,
        context: u32,
        kv: impl Into<KvTypes>,
        placement: &Placement,
    ) -> Sequence {
        let limits = limits(&model.decoder, context, kv);
        let prepared = exec.prepare(&model.decoder, &model.weights, placement, &limits);
        prepared.unwrap_or_else(|e| panic!("{}: {e}", model.architecture));
        Sequence {
            exec,
            n_groups: groups(&model.decoder.slots).len(),
            pages: (0..context.div_ceil(PAGE_LEN as u32)).map(PageId).collect(),
            at: 0,
            see_all: !model.causal,
        }
    }

    /// Forgets all tokens.
    pub fn restart(&mut self) {
        self.at = 0;
    }

    /// Feeds tokens and gives back what is asked of all their rows, row-major.
    ///
    /// # Panics
    /// If the step fails.
    pub fn feed(&mut self, tokens: &[u32], what: What) -> Vec<f32> {
        let see = if self.see_all { See::All } else { See::Causal };
        let n = tokens.len() as u32;
        let spans = [Span { see, ..Span::causal(SeqId(0), n, self.at) }];
        let pos: Vec<i32> = (self.at..self.at + n).map(|p| p as i32).collect();
        let want = [Want { of: RowSet::All, what }];
        let batch = Batch { spans: &spans, tokens, pos: Pos::Text(&pos), embeds: &[], want: &want };
        let tables = vec![PageTable(&self.pages); self.n_groups];
        let row = Some(RowId(0));
        let transfer = [Transfer { from: row.filter(|_| self.at > 0), to: row, keep: &[] }];
        let state = StateView { pages: &tables, recurrent: &transfer };
        let mut out = StepOut::default();
        self.exec.step(&batch, &state, &mut out, None).expect("the step runs");
        self.at += n;
        out.got.swap_remove(0).values
    }

    /// Logits of all tokens, (n, n_vocab), fed in pieces of these lengths; the rest in one.
    pub fn logits(&mut self, tokens: &[u32], pieces: &[usize]) -> Vec<f32> {
        self.restart();
        let mut rest = tokens;
        let mut out = Vec::new();
        for &piece in pieces {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            if !now.is_empty() {
                out.extend(self.feed(now, What::Logits));
            }
            rest = later;
        }
        if !rest.is_empty() {
            out.extend(self.feed(rest, What::Logits));
        }
        out
    }
}

/// Sum of squared differences over sum of squares of the reference: the error of the zoo.
pub fn error(reference: &[f32], got: &[f32]) -> f64 {
    assert_eq!(reference.len(), got.len(), "as many logits as the reference");
    let square = |x: f64| x * x;
    let (mut off, mut all) = (0.0, 0.0);
    for (&a, &b) in reference.iter().zip(got) {
        off += square(f64::from(a) - f64::from(b));
        all += square(f64::from(a));
    }
    off / all
}

/// Median of the errors of rows of `n` elements.
pub fn median_row_error(reference: &[f32], got: &[f32], n: usize) -> f64 {
    let mut errors: Vec<f64> =
        reference.chunks(n).zip(got.chunks(n)).map(|(a, b)| error(a, b)).collect();
    errors.sort_by(f64::total_cmp);
    errors[errors.len() / 2]
}
