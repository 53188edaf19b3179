//! Same logits whatever the company: a row's bits do not depend on how its text was split, on other
//! sequences in the batch, or on the number of threads.

use oprel_models::{Model, describe};
use oprel_nn::batch::SeqId;
use oprel_nn::cpu::{CpuExec, CpuOptions};
use oprel_nn::state::{PageId, RowId, groups};
use oprel_nn::{
    Batch, Dev, Exec, KvType, Limits, PAGE_LEN, PageTable, Placement, Pos, RowSet, Span, StateView,
    StepOut, Transfer, Want, What,
};
use oprel_tests::zoo::{Reference, Set, Skeleton};

/// Dense, with experts, with latent attention and experts, attention beside Mamba-2, delta rule.
const MODELS: &[&str] =
    &["llama-dense", "llama-moe", "deepseek2-moe", "falcon-h1-dense", "qwen35-dense"];
const CONTEXT: u32 = 256;
const SEQUENCES: u32 = 3;

fn model(name: &str) -> Model {
    let skeleton = Skeleton::load(Set::Hard, name).or_else(|| Skeleton::load(Set::Plain, name));
    describe(&skeleton.expect("a zoo model").gguf(1)).expect("described")
}

/// An executor with room for several sequences.
struct Runner {
    exec: CpuExec,
    n_groups: usize,
}

impl Runner {
    fn new(model: &Model, threads: usize) -> Runner {
        let options = CpuOptions { threads, isa: None };
        let mut exec = CpuExec::new(options).expect("threads");
        let n_groups = groups(&model.decoder.slots).len();
        let limits = Limits {
            tokens: CONTEXT,
            spans: SEQUENCES,
            logit_rows: CONTEXT,
            context: CONTEXT,
            pages: vec![SEQUENCES * CONTEXT.div_ceil(PAGE_LEN as u32); n_groups],
            recurrent_rows: SEQUENCES,
            kv: KvType::default().into(),
        };
        let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
        exec.prepare(&model.decoder, &model.weights, &placement, &limits).expect("prepared");
        Runner { exec, n_groups }
    }

    /// Logits of every token of some spans (sequence, tokens, cached before).
    fn feed(&mut self, spans: &[(u32, &[u32], u32)]) -> Vec<f32> {
        let per_sequence = CONTEXT.div_ceil(PAGE_LEN as u32);
        let own: Vec<Vec<PageId>> = (0..SEQUENCES)
            .map(|s| (0..per_sequence).map(|p| PageId(p * SEQUENCES + s)).collect())
            .collect();
        let mut tables = Vec::new();
        for (seq, ..) in spans {
            tables.extend(vec![PageTable(&own[*seq as usize]); self.n_groups]);
        }
        let transfers: Vec<_> =
            spans.iter().map(|(seq, _, start)| transfer(*seq, *start)).collect();
        let of_batch: Vec<_> = spans
            .iter()
            .map(|(seq, tokens, start)| Span::causal(SeqId(*seq), tokens.len() as u32, *start))
            .collect();
        let tokens: Vec<u32> = spans.iter().flat_map(|(_, tokens, _)| *tokens).copied().collect();
        let pos: Vec<i32> = spans
            .iter()
            .flat_map(|(_, tokens, start)| (0..tokens.len() as i32).map(|i| *start as i32 + i))
            .collect();
        let want = [Want { of: RowSet::All, what: What::Logits }];
        let batch = Batch {
            spans: &of_batch,
            tokens: &tokens,
            pos: Pos::Text(&pos),
            embeds: &[],
            want: &want,
        };
        let state = StateView { pages: &tables, recurrent: &transfers };
        let mut out = StepOut::default();
        self.exec.step(&batch, &state, &mut out, None).expect("the step runs");
        out.got.swap_remove(0).values
    }

    /// Logits of one sequence's tokens, in pieces of these lengths; the rest in one.
    fn pieces(&mut self, seq: u32, tokens: &[u32], pieces: &[usize]) -> Vec<f32> {
        let (mut out, mut at) = (Vec::new(), 0);
        for piece in pieces.iter().copied().chain([tokens.len()]) {
            let end = tokens.len().min(at + piece);
            if at < end {
                out.extend(self.feed(&[(seq, &tokens[at..end], at as u32)]));
                at = end;
            }
        }
        out
    }
}

fn transfer(seq: u32, start: u32) -> Transfer<'static> {
    let row = Some(RowId(seq));
    Transfer { from: row.filter(|_| start > 0), to: row, keep: &[] }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn a_split_changes_no_bit_with_any_number_of_threads() {
    let tokens = &Reference::load(Set::Hard).tokens[..96];
    for name in MODELS {
        let model = model(name);
        let whole = Runner::new(&model, 1).pieces(0, tokens, &[]);
        for threads in [1, 2, 5, 16] {
            let mut runner = Runner::new(&model, threads);
            for pieces in [vec![], vec![1; tokens.len()], vec![7, 1, 60]] {
                let split = runner.pieces(1, tokens, &pieces);
                let n = pieces.len();
                assert!(same_bits(&whole, &split), "{name}, {threads} threads, {n} pieces");
            }
        }
    }
}

#[test]
fn other_sequences_in_the_batch_change_no_bit() {
    let tokens = Reference::load(Set::Hard).tokens;
    let (a, b) = (&tokens[..90], &tokens[90..]);
    for name in MODELS {
        let model = model(name);
        let n_vocab = model.decoder.n_vocab as usize;
        let mut runner = Runner::new(&model, 2);
        let alone_a = runner.pieces(0, a, &[]);
        let alone_b = runner.pieces(1, b, &[]);
        // Both begin together, then one token of the first beside many of the second.
        let (first, rest) = (&a[..89], &a[89..]);
        let begun = runner.feed(&[(2, first, 0), (0, &b[..5], 0)]);
        assert!(same_bits(&begun[..89 * n_vocab], &alone_a[..89 * n_vocab]), "{name}");
        let mixed = runner.feed(&[(0, &b[5..], 5), (2, rest, 89)]);
        let of_b = (b.len() - 5) * n_vocab;
        assert!(same_bits(&mixed[..of_b], &alone_b[5 * n_vocab..]), "{name}");
        assert!(same_bits(&mixed[of_b..], &alone_a[89 * n_vocab..]), "{name}");
    }
}
