//! Pages and recurrent rows read out of an executor and written back elsewhere, into the same one or
//! into another: a sequence goes on from them as if nothing had happened.

use oprel_models::{Model, describe};
use oprel_nn::batch::SeqId;
use oprel_nn::state::{PageId, RowId, groups};
use oprel_nn::{
    Batch, Dev, Error, Exec, KvType, KvTypes, Limits, PageTable, Placement, Pos, RowSet, Span,
    StateView, StepOut, Transfer, Want, What,
};
use oprel_tests::run::executors;
use oprel_tests::zoo::{Reference, Set, Skeleton};

/// Plain, with windows in a group of their own, latent attention, attention beside Mamba-2, attention
/// and delta rule, recurrent alone.
const MODELS: &[&str] = &[
    "llama-dense",
    "gemma2-dense",
    "deepseek2-moe",
    "falcon-h1-dense",
    "qwen35-dense",
    "mamba-dense",
];
/// Tokens before pages are moved, which end inside a page, and all tokens.
const BEFORE: usize = 100;
const ALL: usize = 130;
const CONTEXT: u32 = 192;
const ROWS: u32 = 2;

fn model(name: &str) -> Model {
    let skeleton = Skeleton::load(Set::Hard, name).or_else(|| Skeleton::load(Set::Plain, name));
    describe(&skeleton.expect(name).gguf(5)).expect("described")
}

/// Each group has another number of pages.
fn limits(n_groups: usize, kv: KvTypes) -> Limits {
    Limits {
        tokens: CONTEXT,
        spans: 1,
        logit_rows: CONTEXT,
        context: CONTEXT,
        pages: (0..n_groups as u32).map(|group| 6 + group).collect(),
        recurrent_rows: ROWS,
        kv,
    }
}

/// One sequence whose pages and row may change between steps.
struct Runner {
    exec: Box<dyn Exec>,
    n_groups: usize,
    /// Pages of every group.
    pages: Vec<[PageId; 3]>,
    row: RowId,
}

impl Runner {
    fn new(mut exec: Box<dyn Exec>, model: &Model, kv: KvTypes) -> Runner {
        let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
        let n_groups = groups(&model.decoder.slots).len();
        let limits = limits(n_groups, kv);
        exec.prepare(&model.decoder, &model.weights, &placement, &limits).expect("prepared");
        let pages = vec![[0, 1, 2].map(PageId); n_groups];
        Runner { exec, n_groups, pages, row: RowId(0) }
    }

    fn feed(&mut self, tokens: &[u32], start: usize) -> Vec<f32> {
        let spans = [Span::causal(SeqId(0), tokens.len() as u32, start as u32)];
        let pos: Vec<i32> = (start..start + tokens.len()).map(|p| p as i32).collect();
        let want = [Want { of: RowSet::All, what: What::Logits }];
        let batch = Batch { spans: &spans, tokens, pos: Pos::Text(&pos), embeds: &[], want: &want };
        let tables: Vec<_> = self.pages.iter().map(|pages| PageTable(pages)).collect();
        let row = Some(self.row);
        let transfer = [Transfer { from: row.filter(|_| start > 0), to: row, keep: &[] }];
        let state = StateView { pages: &tables, recurrent: &transfer };
        let mut out = StepOut::default();
        self.exec.step(&batch, &state, &mut out, None).expect("the step runs");
        out.got.swap_remove(0).values
    }

    /// Everything that the sequence has: its pages group after group, and its row.
    fn read(&self) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut pages = Vec::new();
        for (group, of_group) in self.pages.iter().enumerate() {
            for &page in of_group {
                let mut bytes = vec![0; self.exec.page_bytes(group)];
                self.exec.read_page(group, page, &mut bytes).expect("read");
                pages.push(bytes);
            }
        }
        let mut row = vec![0; self.exec.row_bytes()];
        if !row.is_empty() {
            self.exec.read_row(self.row, &mut row).expect("read");
        }
        (pages, row)
    }

    fn write(&mut self, (pages, row): &(Vec<Vec<u8>>, Vec<u8>)) {
        let mut bytes = pages.iter();
        for (group, of_group) in self.pages.iter().enumerate() {
            for &page in of_group {
                self.exec.write_page(group, page, bytes.next().expect("kept")).expect("written");
            }
        }
        if !row.is_empty() {
            self.exec.write_row(self.row, row).expect("written");
        }
    }

    /// Other places for the same sequence.
    fn move_away(&mut self) {
        for (group, pages) in self.pages.iter_mut().enumerate() {
            *pages = [5 + group as u32, 3, 4].map(PageId);
        }
        self.row = RowId(1);
    }
}

fn kinds() -> impl Iterator<Item = (&'static str, Box<dyn Exec>, KvTypes)> {
    let mixed = KvTypes { k: KvType::F16, v: KvType::F32 };
    let blocks = [KvType::Q4_0.into(), KvTypes { k: KvType::Q8_0, v: KvType::Q4_0 }];
    let of_both = [KvTypes::default(), KvType::Bf16.into(), mixed];
    let all = of_both.into_iter().flat_map(|kv| executors().into_iter().map(move |e| (e, kv)));
    // candle has no such types.
    let of_cpu = |kv| executors().into_iter().filter(|e| e.0 == "cpu").map(move |e| (e, kv));
    let all = all.chain(blocks.into_iter().flat_map(of_cpu));
    all.map(|((name, exec), kv)| (name, exec, kv))
}

fn another(name: &str) -> Box<dyn Exec> {
    let mut found = executors().into_iter().filter(|(other, _)| *other == name);
    found.next().expect("an executor of this name").1
}

#[test]
fn a_sequence_goes_on_from_pages_and_rows_that_were_moved() {
    let tokens = &Reference::load(Set::Hard).tokens[..ALL];
    let (before, after) = tokens.split_at(BEFORE);
    for name in MODELS {
        let model = model(name);
        for (executor, exec, kv) in kinds() {
            let what = format!("{name} on {executor} with {kv}");
            let mut runner = Runner::new(exec, &model, kv);
            runner.feed(before, 0);
            let kept = runner.read();
            let expected = runner.feed(after, BEFORE);

            let zeros = (kept.0.iter().map(|b| vec![0; b.len()]).collect(), vec![0; kept.1.len()]);
            runner.write(&zeros);
            runner.move_away();
            runner.write(&kept);
            assert!(runner.read() == kept, "{what}");
            assert!(runner.feed(after, BEFORE) == expected, "{what}: elsewhere");

            let mut restarted = Runner::new(another(executor), &model, kv);
            restarted.move_away();
            restarted.write(&kept);
            assert!(restarted.feed(after, BEFORE) == expected, "{what}: in another executor");
        }
    }
}

#[test]
fn what_is_not_there_or_has_another_length_is_refused() {
    for name in ["gemma2-dense", "falcon-h1-dense"] {
        let model = model(name);
        for (_, exec, kv) in kinds() {
            let Runner { mut exec, n_groups, .. } = Runner::new(exec, &model, kv);
            assert_eq!(exec.page_bytes(n_groups), 0);
            for group in 0..n_groups {
                let (page, first_beyond) = (vec![0; exec.page_bytes(group)], 6 + group as u32);
                assert!(exec.write_page(group, PageId(first_beyond - 1), &page).is_ok());
                for (group, id, len) in [
                    (group, first_beyond, page.len()),
                    (group, u32::MAX, page.len()),
                    (n_groups, 0, page.len()),
                    (group, 0, page.len() - 1),
                    (group, 0, 0),
                ] {
                    let mut bytes = vec![0; len];
                    assert!(exec.read_page(group, PageId(id), &mut bytes).is_err());
                    assert!(exec.write_page(group, PageId(id), &bytes).is_err());
                }
                let beyond = (PageId(0), PageId(first_beyond));
                assert!(exec.copy_pages(group, &[beyond]).is_err());
            }
            let mut row = vec![0; exec.row_bytes()];
            assert!(exec.read_row(RowId(ROWS), &mut row).is_err());
            assert!(exec.write_row(RowId(ROWS), &row).is_err());
            row.push(0);
            assert!(exec.read_row(RowId(0), &mut row).is_err());
            assert!(exec.write_row(RowId(0), &row).is_err());
        }
    }
}

#[test]
fn limits_name_the_pages_of_every_group() {
    let model = model("gemma2-dense");
    let n_groups = groups(&model.decoder.slots).len();
    let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
    for (_, mut exec) in executors() {
        for n in [0, 1, 3] {
            let limits = limits(n, KvTypes::default());
            let refused = exec.prepare(&model.decoder, &model.weights, &placement, &limits);
            assert!(matches!(refused, Err(Error::Description(_))), "{n} of {n_groups}");
        }
    }
}
