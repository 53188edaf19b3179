//! Recurrent and latent layers beyond what the zoo asks: company in a batch, kept states, old files.

use oprel_models::{Model, describe};
use oprel_nn::batch::SeqId;
use oprel_nn::state::{PageId, RowId, groups};
use oprel_nn::{
    Batch, Dev, Exec, KvType, Limits, PageTable, Placement, Pos, RowSet, Span, StateView, StepOut,
    Transfer, Want, What,
};
use oprel_quant::QuantType;
use oprel_tests::run::{Sequence, error, executors};
use oprel_tests::zoo::{Set, Skeleton, weights};

const MODELS: &[&str] =
    &["deepseek2-moe", "falcon-h1-dense", "lfm2-dense", "nemotron_h-dense", "qwen35-dense"];

fn model(name: &str) -> Model {
    let file = Skeleton::load(Set::Plain, name).expect("committed").gguf(1);
    describe(&file).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Every model with every executor, twice.
fn runs() -> impl Iterator<Item = (String, Model, Box<dyn Exec>, Box<dyn Exec>)> {
    MODELS.iter().flat_map(|name| {
        let pairs = executors().into_iter().zip(executors());
        pairs.map(move |((exec_name, exec), (_, again))| {
            (format!("{name} {exec_name}"), model(name), exec, again)
        })
    })
}

/// One sequence of a batch: new tokens, what is cached before them, and its rows.
struct Part<'a> {
    seq: u32,
    tokens: &'a [u32],
    cached: u32,
    transfer: Transfer<'a>,
}

/// An executor with two pages and some recurrent rows for each of two sequences.
struct Pair {
    exec: Box<dyn Exec>,
    n_groups: usize,
}

impl Pair {
    fn new(mut exec: Box<dyn Exec>, model: &Model) -> Pair {
        let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
        let kv = KvType::F32.into();
        let n_groups = groups(&model.decoder.slots).len();
        let pages = vec![4; n_groups];
        let (tokens, context) = (64, 128);
        let limits =
            Limits { tokens, spans: 2, logit_rows: 64, context, pages, recurrent_rows: 8, kv };
        exec.prepare(&model.decoder, &model.weights, &placement, &limits).expect("it can be run");
        Pair { exec, n_groups }
    }

    /// Logits of all tokens.
    fn feed(&mut self, parts: &[Part<'_>]) -> Vec<f32> {
        let spans: Vec<Span<'_>> = parts
            .iter()
            .map(|p| Span::causal(SeqId(p.seq), p.tokens.len() as u32, p.cached))
            .collect();
        let tokens: Vec<u32> = parts.iter().flat_map(|p| p.tokens).copied().collect();
        let at = |p: &Part<'_>| p.cached as i32..(p.cached as usize + p.tokens.len()) as i32;
        let pos: Vec<i32> = parts.iter().flat_map(at).collect();
        let pages: Vec<[PageId; 2]> =
            parts.iter().map(|p| [PageId(2 * p.seq), PageId(2 * p.seq + 1)]).collect();
        let tables: Vec<PageTable<'_>> =
            pages.iter().flat_map(|p| vec![PageTable(p); self.n_groups]).collect();
        let transfers: Vec<Transfer<'_>> = parts.iter().map(|p| p.transfer).collect();
        let want = [Want { of: RowSet::All, what: What::Logits }];
        let pos = Pos::Text(&pos);
        let batch = Batch { spans: &spans, tokens: &tokens, pos, embeds: &[], want: &want };
        let view = StateView { pages: &tables, recurrent: &transfers };
        let mut out = StepOut::default();
        self.exec.step(&batch, &view, &mut out, None).expect("the step runs");
        out.got.swap_remove(0).values
    }
}

fn tokens(n: u32, salt: u32) -> Vec<u32> {
    (0..n).map(|i| (i * 37 + salt * 11 + i * i) % 128).collect()
}

fn to(row: u32) -> Transfer<'static> {
    Transfer { from: None, to: Some(RowId(row)), keep: &[] }
}

fn on(row: u32) -> Transfer<'static> {
    Transfer { from: Some(RowId(row)), to: Some(RowId(row)), keep: &[] }
}

fn assert_same(name: &str, a: &[f32], b: &[f32]) {
    let e = error(a, b);
    assert!(e < 1e-10, "{name}: {e:.1e}");
}

#[test]
fn sequences_in_one_batch_do_not_touch_each_other() {
    let (a, b) = (tokens(20, 1), tokens(9, 2));
    for (name, model, exec, again) in runs() {
        let mut alone = Pair::new(exec, &model);
        let want_a = alone.feed(&[Part { seq: 0, tokens: &a, cached: 0, transfer: to(0) }]);
        let want_b = alone.feed(&[Part { seq: 1, tokens: &b, cached: 0, transfer: to(1) }]);
        let mut both = Pair::new(again, &model);
        let first = both.feed(&[
            Part { seq: 1, tokens: &b[..4], cached: 0, transfer: to(1) },
            Part { seq: 0, tokens: &a[..13], cached: 0, transfer: to(0) },
        ]);
        let then = both.feed(&[
            Part { seq: 0, tokens: &a[13..], cached: 13, transfer: on(0) },
            Part { seq: 1, tokens: &b[4..], cached: 4, transfer: on(1) },
        ]);
        let (first_b, first_a) = first.split_at(4 * 128);
        let (then_a, then_b) = then.split_at(7 * 128);
        assert_same(&name, &want_a, &[first_a, then_a].concat());
        assert_same(&name, &want_b, &[first_b, then_b].concat());
    }
}

#[test]
fn a_kept_state_is_the_one_after_fewer_tokens() {
    let all = tokens(12, 3);
    for (name, model, exec, _) in runs() {
        let mut pair = Pair::new(exec, &model);
        let part = |cached: u32, n: u32, transfer| Part {
            seq: 0,
            tokens: &all[cached as usize..][..n as usize],
            cached,
            transfer,
        };
        let want = pair.feed(&[part(0, 12, to(0))]);
        pair.feed(&[part(0, 5, to(0))]);
        // Three back of four: after 8, 7 and 6 tokens; then one more: the state before its span.
        let keep = [RowId(1), RowId(2), RowId(3)];
        pair.feed(&[part(5, 4, Transfer { keep: &keep, ..on(0) })]);
        for (row, after) in [(0, 9), (1, 8), (2, 7), (3, 6)] {
            let got =
                pair.feed(&[part(after, 12 - after, Transfer { to: Some(RowId(7)), ..on(row) })]);
            assert_same(&name, &want[after as usize * 128..], &got);
        }
        let keep = [RowId(4)];
        pair.feed(&[part(9, 1, Transfer { keep: &keep, ..on(0) })]);
        let got = pair.feed(&[part(9, 3, Transfer { to: Some(RowId(7)), ..on(4) })]);
        assert_same(&name, &want[9 * 128..], &got);
    }
}

#[test]
fn files_with_one_matrix_for_latent_keys_and_values_give_the_same_logits() {
    let mut skeleton = Skeleton::load(Set::Plain, "deepseek2-moe").expect("committed");
    let sizes = [
        ("key_length", 192),
        ("value_length", 128),
        ("key_length_mla", 0),
        ("value_length_mla", 0),
    ];
    for (key, size) in sizes {
        skeleton.replace(&format!("deepseek2.attention.{key}"), size);
    }
    let old = skeleton.changed_gguf(1, |w| {
        for i in 0..2 {
            let name = format!("blk.{i}.attn_kv_b.weight");
            w.tensor(&name, &[512, 256], QuantType::F32, joint_matrix(i)).expect("a valid tensor");
        }
    });
    let old = describe(&old).expect("old files are described");
    let all = tokens(30, 5);
    let new = model("deepseek2-moe");
    for ((name, exec), (_, again)) in executors().into_iter().zip(executors()) {
        let want = Sequence::new(exec, &new, 64, KvType::F32).logits(&all, &[]);
        let got = Sequence::new(again, &old, 64, KvType::F32).logits(&all, &[]);
        assert_same(name, &want, &got);
    }
}

/// Keys (128, 512), which new files hold transposed, above values (128, 512), of layer `i`.
fn joint_matrix(i: u32) -> Vec<u8> {
    let k = weights(1, &format!("blk.{i}.attn_k_b.weight"), 128 * 512);
    let v = weights(1, &format!("blk.{i}.attn_v_b.weight"), 128 * 512);
    let k = (0..128 * 512).map(|at| k[at % 512 * 128 + at / 512]);
    k.chain(v).flat_map(f32::to_le_bytes).collect()
}
