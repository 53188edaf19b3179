//! What a batch can say, on a small model: many sequences at once, what tokens see, embedding rows, the
//! things to give back, and what is refused.

use oprel_models::{Model, describe};
use oprel_nn::batch::{AdapterUse, SeqId};
use oprel_nn::describe::{Reach, SiteId};
use oprel_nn::exec::Got;
use oprel_nn::state::{PageId, groups};
use oprel_nn::{
    Batch, Dev, EmbedRows, Error, Exec, KvType, Limits, Observer, PageTable, Placement, Pooling,
    Pos, Result, RowSet, See, Span, StateView, StepOut, Tap, Want, What,
};
use oprel_tests::run::{error, executors};
use oprel_tests::zoo::{Set, Skeleton};

const TEXT: [u32; 12] = [5, 17, 3, 99, 42, 8, 64, 21, 77, 30, 11, 50];

/// Pages of every sequence of a test: sequence `s` owns `4 s .. 4 s + 4`.
const PAGES_EACH: u32 = 4;

fn model(name: &str) -> Model {
    let skeleton = Skeleton::load(Set::Hard, name).expect("a skeleton of this name");
    describe(&skeleton.gguf(3)).expect("the zoo can be described")
}

fn limits(model: &Model) -> Limits {
    Limits {
        tokens: 64,
        spans: 4,
        logit_rows: 64,
        context: 256,
        pages: vec![4 * PAGES_EACH; groups(&model.decoder.slots).len()],
        recurrent_rows: 4,
        kv: KvType::F32.into(),
    }
}

/// Every executor with a model of one group of pages, prepared.
fn prepared(model: &Model) -> impl Iterator<Item = Box<dyn Exec>> {
    executors().into_iter().map(|(_, mut exec)| {
        let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
        exec.prepare(&model.decoder, &model.weights, &placement, &limits(model)).expect("prepares");
        exec
    })
}

/// One sequence's part of a batch.
struct Part<'a> {
    seq: u32,
    start: u32,
    tokens: &'a [u32],
    see: See<'a>,
}

fn part(seq: u32, start: u32, tokens: &[u32]) -> Part<'_> {
    Part { seq, start, tokens, see: See::Causal }
}

/// Runs parts as one batch; a token's position is its parent's plus one.
fn step(
    exec: &mut dyn Exec,
    parts: &[Part<'_>],
    embeds: &[EmbedRows<'_>],
    want: &[Want],
) -> Result<Vec<Got>> {
    let mut tokens = Vec::new();
    let mut pos = Vec::new();
    for p in parts {
        tokens.extend_from_slice(p.tokens);
        let first = pos.len();
        for i in 0..p.tokens.len() {
            let parent = match p.see {
                See::Tree(parents) => parents.get(i).copied(),
                _ => Some(i as i32 - 1),
            };
            let before = |&parent: &usize| parent < i;
            let parent = parent.and_then(|p| usize::try_from(p).ok()).filter(before);
            pos.push(parent.map_or(p.start as i32, |parent| pos[first + parent] + 1));
        }
    }
    let spans: Vec<Span<'_>> = parts
        .iter()
        .map(|p| {
            let plain = Span::causal(SeqId(p.seq), p.tokens.len() as u32, p.start);
            Span { see: p.see, ..plain }
        })
        .collect();
    let owned: Vec<Vec<PageId>> = parts
        .iter()
        .map(|p| (0..PAGES_EACH).map(|i| PageId(p.seq * PAGES_EACH + i)).collect())
        .collect();
    let tables: Vec<PageTable<'_>> = owned.iter().map(|p| PageTable(p)).collect();
    let batch = Batch { spans: &spans, tokens: &tokens, pos: Pos::Text(&pos), embeds, want };
    let mut out = StepOut::default();
    exec.step(&batch, &StateView { pages: &tables, recurrent: &[] }, &mut out, None)?;
    Ok(out.got)
}

fn logits(of: RowSet) -> [Want; 1] {
    [Want { of, what: What::Logits }]
}

fn assert_same(want: &[f32], got: &[f32]) {
    let error = error(want, got);
    assert!(error < 1e-9, "{error:e}");
}

#[test]
fn sequences_in_one_batch_get_what_they_get_alone() {
    let model = model("llama-dense");
    for mut exec in prepared(&model) {
        let exec = exec.as_mut();
        let (a, b) = (&TEXT[..7], &TEXT[4..]);
        let alone_a = step(exec, &[part(0, 0, a)], &[], &logits(RowSet::All)).unwrap();
        let alone_b = step(exec, &[part(1, 0, b)], &[], &logits(RowSet::All)).unwrap();
        // A third sequence decodes beside two that are prefilled.
        step(exec, &[part(2, 0, &a[..6])], &[], &[]).unwrap();
        let parts = [part(2, 6, &a[6..]), part(3, 0, b), part(0, 0, a)];
        let got = step(exec, &parts, &[], &logits(RowSet::All)).unwrap();
        let width = model.decoder.n_vocab as usize;
        let want = [&alone_a[0].values[6 * width..], &alone_b[0].values, &alone_a[0].values];
        assert_same(&want.concat(), &got[0].values);
    }
}

#[test]
fn a_branch_of_a_tree_sees_its_ancestors_alone() {
    let model = model("llama-dense");
    for mut exec in prepared(&model) {
        let exec = exec.as_mut();
        let width = model.decoder.n_vocab as usize;
        let prompt = &TEXT[..4];
        step(exec, &[part(0, 0, prompt)], &[], &[]).unwrap();
        // 42 and 8 are drafts of one place; 64 follows 42, 21 follows 8.
        let drafts = [42, 8, 64, 21];
        let tree = Part { see: See::Tree(&[-1, -1, 0, 1]), ..part(0, 4, &drafts) };
        let got = step(exec, &[tree], &[], &logits(RowSet::All)).unwrap();
        for (path, rows) in [([42, 64], [0, 2]), ([8, 21], [1, 3])] {
            step(exec, &[part(1, 0, prompt)], &[], &[]).unwrap();
            let want = step(exec, &[part(1, 4, &path)], &[], &logits(RowSet::All)).unwrap();
            for (i, row) in rows.into_iter().enumerate() {
                let want = &want[0].values[i * width..][..width];
                assert_same(want, &got[0].values[row * width..][..width]);
            }
        }
    }
}

#[test]
fn a_prefix_sees_itself_and_the_rest_is_causal() {
    let model = model("llama-dense");
    for mut exec in prepared(&model) {
        let exec = exec.as_mut();
        let width = model.decoder.n_vocab as usize;
        let seen = |exec: &mut dyn Exec, tokens: &[u32], see| {
            let part = Part { see, ..part(0, 0, tokens) };
            step(exec, &[part], &[], &logits(RowSet::All)).unwrap()[0].values.clone()
        };
        let all = seen(exec, &TEXT[..5], See::All);
        let prefix = seen(exec, &TEXT[..8], See::PrefixLm(5));
        let causal = seen(exec, &TEXT[..8], See::Causal);
        assert_same(&all, &prefix[..5 * width]);
        assert!(error(&causal[..width], &prefix[..width]) > 1e-3, "the first token looks ahead");
        // A prefix of one token is causal.
        assert_same(&causal, &seen(exec, &TEXT[..8], See::PrefixLm(1)));
    }
}

#[test]
fn embedding_rows_stand_in_for_looked_up_ones() {
    // Unscaled: gemma scales what it looks up, not what it is given.
    for (name, scaled) in [("llama-dense", false), ("gemma-dense", true)] {
        let model = model(name);
        for mut exec in prepared(&model) {
            let exec = exec.as_mut();
            let hidden = [Want { of: RowSet::All, what: What::Hidden(Tap::Layer(0)) }];
            let looked_up = step(exec, &[part(0, 0, &TEXT)], &[], &hidden).unwrap();
            let width = model.decoder.width as usize;
            let given = &looked_up[0].values[3 * width..6 * width];
            let other: Vec<u32> = TEXT.iter().map(|&t| if t == 99 { 1 } else { t }).collect();
            let want = step(exec, &[part(0, 0, &TEXT)], &[], &logits(RowSet::Last)).unwrap();
            let embeds = [EmbedRows { at: 3, rows: given }];
            let got = step(exec, &[part(0, 0, &other)], &embeds, &logits(RowSet::Last)).unwrap();
            assert_same(&want[0].values, &got[0].values);
            let bare = step(exec, &[part(0, 0, &other)], &[], &logits(RowSet::Last)).unwrap();
            assert!(error(&want[0].values, &bare[0].values) > 1e-6, "{name} {scaled}");
        }
    }
}

#[test]
fn every_want_gives_what_it_names() {
    let model = model("llama-dense");
    for mut exec in prepared(&model) {
        let exec = exec.as_mut();
        let rows = RowSet::Rows(vec![7, 2]);
        let want = [
            Want { of: RowSet::All, what: What::Logits },
            Want { of: rows.clone(), what: What::Logits },
            Want { of: rows.clone(), what: What::LogitsOf(vec![9, 4, 100]) },
            Want { of: RowSet::Last, what: What::TopK(3) },
            Want { of: RowSet::All, what: What::Hidden(Tap::Normed) },
            Want { of: RowSet::Span(1), what: What::Pool(Pooling::Mean) },
            Want { of: RowSet::Span(1), what: What::Pool(Pooling::Cls) },
            Want { of: RowSet::Span(1), what: What::Pool(Pooling::Last) },
            Want { of: RowSet::Rows(vec![0]), what: What::Hidden(Tap::Last) },
        ];
        let parts = [part(0, 0, &TEXT[..5]), part(1, 0, &TEXT[5..])];
        let got = step(exec, &parts, &[], &want).unwrap();
        let (n_vocab, width) = (model.decoder.n_vocab as usize, model.decoder.width as usize);
        let row = |i: usize| &got[0].values[i * n_vocab..][..n_vocab];
        assert_eq!((got[0].rows, got[0].values.len()), (12, 12 * n_vocab));
        assert_same(&[row(7), row(2)].concat(), &got[1].values);
        let some = |i: usize| [row(i)[9], row(i)[4], row(i)[100]];
        assert_same(&[some(7), some(2)].concat(), &got[2].values);
        assert_eq!((got[3].rows, got[3].ids.len()), (2, 6));
        for (i, last) in [(0, 4), (1, 11)] {
            let best = got[3].ids[3 * i] as usize;
            assert!(row(last).iter().all(|&x| x <= row(last)[best]));
            assert!(got[3].values[3 * i] >= got[3].values[3 * i + 1]);
        }
        let normed = |i: usize| &got[4].values[i * width..][..width];
        let mean: Vec<f32> =
            (0..width).map(|e| (5..12).map(|i| normed(i)[e]).sum::<f32>() / 7.0).collect();
        assert_same(&mean, &got[5].values);
        assert_same(normed(5), &got[6].values);
        assert_same(normed(11), &got[7].values);
        assert_eq!(got[8].values.len(), width);
        assert!(error(normed(0), &got[8].values) > 1e-6, "the norm changes the last residual");
    }
}

#[test]
fn copied_pages_continue_like_their_source() {
    let model = model("llama-dense");
    for mut exec in prepared(&model) {
        let exec = exec.as_mut();
        step(exec, &[part(0, 0, &TEXT[..9])], &[], &[]).unwrap();
        let want = step(exec, &[part(0, 9, &TEXT[9..])], &[], &logits(RowSet::All)).unwrap();
        exec.copy_pages(0, &[(PageId(0), PageId(PAGES_EACH))]).unwrap();
        let got = step(exec, &[part(1, 9, &TEXT[9..])], &[], &logits(RowSet::All)).unwrap();
        assert_same(&want[0].values, &got[0].values);
    }
}

#[test]
fn a_batch_that_breaks_a_rule_is_refused() {
    let model = model("llama-dense");
    for mut exec in prepared(&model) {
        let exec = exec.as_mut();
        let unknown = [model.decoder.n_vocab];
        let long = [1; 65];
        let parents = [-1, 1];
        let tree = Part { see: See::Tree(&parents), ..part(0, 0, &TEXT[..2]) };
        let short = Part { see: See::Tree(&parents), ..part(0, 0, &TEXT[..1]) };
        let cases: Vec<(&str, Vec<Part<'_>>, RowSet)> = vec![
            ("nothing", vec![], RowSet::All),
            ("an empty span", vec![part(0, 0, &[])], RowSet::All),
            ("a sequence twice", vec![part(0, 0, &[1]), part(0, 1, &[2])], RowSet::All),
            ("too many tokens", vec![part(0, 0, &long)], RowSet::All),
            ("beyond the context", vec![part(0, 250, &TEXT[..8])], RowSet::All),
            ("beyond any count", vec![part(0, u32::MAX, &TEXT[..8])], RowSet::All),
            ("no such token", vec![part(0, 0, &unknown)], RowSet::All),
            ("no such row", vec![part(0, 0, &[1])], RowSet::Rows(vec![1])),
            ("no such span", vec![part(0, 0, &[1])], RowSet::Span(1)),
            ("a tree that bites its tail", vec![tree], RowSet::All),
            ("a tree of another length", vec![short], RowSet::All),
        ];
        for (what, parts, of) in cases {
            let refused = step(exec, &parts, &[], &logits(of));
            assert!(matches!(refused, Err(Error::Batch(_))), "{what}: {refused:?}");
        }
        let rows = vec![0.0; model.decoder.width as usize];
        let outside = [EmbedRows { at: 1, rows: &rows }];
        let refused = step(exec, &[part(0, 0, &[1])], &outside, &[]);
        assert!(matches!(refused, Err(Error::Batch(_))), "{refused:?}");
    }
}

#[test]
fn missing_pages_and_adapters_are_refused() {
    let model = model("llama-dense");
    for mut exec in prepared(&model) {
        let adapted = Span {
            adapter: Some(AdapterUse { adapter: 0, scale: 1.0 }),
            ..Span::causal(SeqId(0), 1, 0)
        };
        let plain = Span::causal(SeqId(0), 1, 0);
        let later = Span::causal(SeqId(0), 1, 64);
        let (good, none, foreign) = ([PageId(0)], [PageId::NONE], [PageId(1000)]);
        for (span, pages) in [(adapted, &good), (plain, &none), (plain, &foreign), (later, &good)] {
            let batch = Batch {
                spans: &[span],
                tokens: &[1],
                pos: Pos::Text(&[0]),
                embeds: &[],
                want: &[],
            };
            let state = StateView { pages: &[PageTable(pages)], recurrent: &[] };
            let refused = exec.step(&batch, &state, &mut StepOut::default(), None);
            assert!(
                matches!(refused, Err(Error::Batch(_) | Error::Unsupported { .. })),
                "{refused:?}"
            );
        }
    }
}

/// Counts the rows that each site sees, and those of experts.
#[derive(Default)]
struct Counter {
    rows: std::collections::BTreeMap<u32, usize>,
    of_experts: usize,
}

impl Observer for Counter {
    fn input(&mut self, site: SiteId, rows: &[f32], cols: usize, experts: &[u32]) {
        assert_eq!(rows.len() % cols, 0);
        assert!(experts.is_empty() || experts.len() == rows.len() / cols);
        *self.rows.entry(site.0).or_default() += rows.len() / cols;
        self.of_experts += experts.len();
    }
}

#[test]
fn an_observer_sees_the_input_of_every_linear_layer() {
    let model = model("llama-moe");
    for mut exec in prepared(&model) {
        let n = TEXT.len();
        let pos: Vec<i32> = (0..n as i32).collect();
        let batch = Batch {
            spans: &[Span::causal(SeqId(0), n as u32, 0)],
            tokens: &TEXT,
            pos: Pos::Text(&pos),
            embeds: &[],
            want: &logits(RowSet::Last),
        };
        let state = StateView { pages: &[PageTable(&[PageId(0)])], recurrent: &[] };
        let mut seen = Counter::default();
        exec.step(&batch, &state, &mut StepOut::default(), Some(&mut seen)).unwrap();
        let layers = model.decoder.layers().count();
        // q, k, v, o and the router see every token, gate, up and down each token twice; the head one.
        assert_eq!(seen.rows.len(), layers * 8 + 1);
        assert_eq!(seen.of_experts, layers * 3 * 2 * n);
        assert_eq!(seen.rows.values().sum::<usize>(), layers * (5 * n + 3 * 2 * n) + 1);
    }
}

#[test]
fn pages_behind_a_window_may_be_gone() {
    let model = model("gemma2-dense");
    let groups = groups(&model.decoder.slots);
    let windowed = groups.iter().position(|g| matches!(g.reach, Reach::Window(32)));
    let windowed = windowed.expect("gemma2 has windows of 32");
    let limits = Limits { tokens: 128, ..limits(&model) };
    for (_, mut exec) in executors() {
        let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
        exec.prepare(&model.decoder, &model.weights, &placement, &limits).expect("prepares");
        let mut run = |n: u32, start: u32, first_page: PageId| {
            let tokens: Vec<u32> = (start..start + n).map(|t| t * 7 % 128).collect();
            let pos: Vec<i32> = (start..start + n).map(|p| p as i32).collect();
            let (whole, cut) = ([PageId(0), PageId(1)], [first_page, PageId(1)]);
            let table = |g| if g == windowed { PageTable(&cut) } else { PageTable(&whole) };
            let tables: Vec<PageTable<'_>> = (0..groups.len()).map(table).collect();
            let batch = Batch {
                spans: &[Span::causal(SeqId(0), n, start)],
                tokens: &tokens,
                pos: Pos::Text(&pos),
                embeds: &[],
                want: &logits(RowSet::Last),
            };
            let mut out = StepOut::default();
            exec.step(&batch, &StateView { pages: &tables, recurrent: &[] }, &mut out, None)?;
            Ok::<_, Error>(out.got.swap_remove(0).values)
        };
        run(100, 0, PageId(0)).unwrap();
        let want = run(1, 100, PageId(0)).unwrap();
        assert_same(&want, &run(1, 100, PageId::NONE).unwrap());
        // At 95 the window ends at 64; at 94 it needs the page before.
        run(1, 95, PageId::NONE).unwrap();
        assert!(matches!(run(1, 94, PageId::NONE), Err(Error::Batch(_))));
    }
}
