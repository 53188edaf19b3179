//! A decode step takes no memory, whatever the architecture: a binary of its own, because its allocator
//! counts.

use std::alloc::System;

use oprel_models::{Model, describe};
use oprel_nn::batch::SeqId;
use oprel_nn::cpu::{CpuExec, CpuOptions};
use oprel_nn::state::{PageId, RowId, groups};
use oprel_nn::{
    Batch, Dev, Error, Exec, KvType, Limits, PageTable, Placement, Pos, RowSet, Span, StateView,
    StepOut, Transfer, Want, What,
};
use oprel_tests::zoo::{Set, Skeleton, names};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PROMPT: u32 = 70;
const STEPS: u32 = 20;
const PAGES: u32 = 2;
/// Groups of pages that a model of the zoo has at most.
const MOST_GROUPS: usize = 4;

/// An executor with a prepared model; `None` if it does not run such models.
fn prepared(model: &Model) -> Option<CpuExec> {
    let options = CpuOptions { threads: 2, isa: None };
    let mut exec = CpuExec::new(options).expect("threads");
    let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
    let limits = Limits {
        tokens: PROMPT,
        spans: 1,
        logit_rows: 1,
        context: PROMPT + STEPS,
        pages: vec![PAGES; groups(&model.decoder.slots).len()],
        recurrent_rows: 1,
        kv: KvType::default().into(),
    };
    match exec.prepare(&model.decoder, &model.weights, &placement, &limits) {
        Ok(_) => Some(exec),
        Err(Error::Unsupported { .. }) => None,
        Err(e) => panic!("{}: {e}", model.architecture),
    }
}

/// Feeds tokens, without taking memory for it.
fn feed(exec: &mut CpuExec, n_groups: usize, tokens: &[u32], start: u32, out: &mut StepOut) {
    let pages = [PageId(1), PageId(0)];
    let spans = [Span::causal(SeqId(0), tokens.len() as u32, start)];
    let mut pos = [0; PROMPT as usize];
    let pos = &mut pos[..tokens.len()];
    pos.iter_mut().zip(start..).for_each(|(p, i)| *p = i as i32);
    let want = [Want { of: RowSet::Last, what: What::Logits }];
    let batch = Batch { spans: &spans, tokens, pos: Pos::Text(pos), embeds: &[], want: &want };
    let row = Some(RowId(0));
    let transfer = [Transfer { from: row.filter(|_| start > 0), to: row, keep: &[] }];
    let tables = [PageTable(&pages); MOST_GROUPS];
    let state = StateView { pages: &tables[..n_groups], recurrent: &transfer };
    exec.step(&batch, &state, out, None).expect("the step runs");
}

/// Allocations of the quietest round of decode steps. A thread of the pool that has not run yet takes
/// memory when it does; what steps take themselves, they take in every round.
fn least_taken(model: &Model, exec: &mut CpuExec) -> usize {
    let n_groups = groups(&model.decoder.slots).len();
    let mut out = StepOut::default();
    let prompt: Vec<u32> = (0..PROMPT).map(|i| i * 7 % model.decoder.n_vocab).collect();
    feed(exec, n_groups, &prompt, 0, &mut out);
    let mut round = || {
        let region = Region::new(COUNTED);
        for start in PROMPT..PROMPT + STEPS {
            feed(exec, n_groups, &[start % model.decoder.n_vocab], start, &mut out);
        }
        let change = region.change();
        change.allocations + change.reallocations
    };
    (0..20).map(|_| round()).find(|&taken| taken == 0).unwrap_or_else(round)
}

#[test]
fn a_decode_step_of_any_architecture_takes_no_memory() {
    let (mut ran, mut takes) = (0, Vec::new());
    for set in [Set::Plain, Set::Hard] {
        for name in names(set) {
            let skeleton = Skeleton::load(set, &name).expect("just listed");
            let Ok(model) = describe(&skeleton.gguf(1)) else { continue };
            if !model.causal {
                continue;
            }
            let Some(mut exec) = prepared(&model) else { continue };
            ran += 1;
            let taken = least_taken(&model, &mut exec);
            if taken > 0 {
                takes.push(format!("{set:?} {name}: {taken} in {STEPS} steps"));
            }
        }
    }
    println!("{ran} models");
    assert!(takes.is_empty(), "decode steps take memory: {takes:#?}");
    assert!(ran > 30, "only {ran} models ran");
}
