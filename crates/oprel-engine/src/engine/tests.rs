//! The engine over a fake model: its logits are a hash of every token in the state, so a token that
//! is missing, stale or in a wrong place changes the text.

mod drafts;
mod fake;
mod schedules;
mod sharing;

use std::cell::Cell;
use std::collections::HashMap;

use oprel_api::Sampling;
use oprel_nn::{Dev, KvType};

use super::*;
use fake::{Fake, VOCAB, decoder};

fn options(batch: u32) -> Options {
    Options {
        batch,
        sequences: 4,
        positions: 1024,
        kv: KvTypes::both(KvType::F32),
        ..Options::new(256)
    }
}

fn engine_with(fake: Fake, options: &Options) -> Engine {
    let (weights, placement) = (Weights::default(), Placement::all_on(Dev(0), 0));
    let decoder = decoder(&fake);
    Engine::new(Box::new(fake), &decoder, &weights, &placement, Scope::Causal, options).unwrap()
}

/// The engine with a smaller model beside it.
fn with_draft(engine: Engine, fake: Fake) -> Engine {
    let (weights, placement) = (Weights::default(), Placement::all_on(Dev(0), 0));
    let decoder = decoder(&fake);
    let (weights, placement) = (&weights, &placement);
    let model = DraftModel { exec: Box::new(fake), decoder: &decoder, weights, placement };
    engine.with_draft(model).unwrap()
}

/// Pages and rows that sequences hold, of both models.
fn n_held(engine: &Engine) -> usize {
    engine.state.n_held() + engine.draft.as_ref().map_or(0, draft::Model::n_held)
}

fn engine_of(fake: Fake, batch: u32) -> Engine {
    engine_with(fake, &options(batch))
}

fn engine(batch: u32) -> Engine {
    engine_of(Fake::default(), batch)
}

fn ask(tokens: &[u32], n: u32) -> Ask {
    Ask { max_tokens: Some(n), sampling: Sampling::greedy(), ..Ask::new(tokens.to_vec()) }
}

/// Runs until idle; what each sequence said.
fn run(engine: &mut Engine) -> HashMap<SeqId, Vec<Says>> {
    let ticks = Cell::new(0);
    let clock = || {
        ticks.set(ticks.get() + 1);
        Duration::from_millis(ticks.get())
    };
    let mut says = Vec::new();
    while !engine.is_idle() {
        engine.step(&clock, &mut says);
    }
    let mut by_id: HashMap<SeqId, Vec<Says>> = HashMap::new();
    for (id, said) in says {
        by_id.entry(id).or_default().push(said);
    }
    by_id
}

fn ids(says: &[Says]) -> Vec<u32> {
    let token = |s: &Says| match s {
        Says::Token(t) => Some(t.id),
        _ => None,
    };
    says.iter().filter_map(token).collect()
}

fn generate(engine: &mut Engine, ask: Ask) -> (Vec<u32>, Says) {
    let id = engine.submit(ask, Duration::ZERO).unwrap();
    let mut says = run(engine).remove(&id).unwrap();
    (ids(&says), says.pop().unwrap())
}

#[test]
fn the_same_tokens_come_whatever_the_batch_length() {
    let prompt: Vec<u32> = (0..150).map(|i| i * 7 % VOCAB).collect();
    let (whole, _) = generate(&mut engine(256), ask(&prompt, 40));
    assert_eq!(whole.len(), 40);
    for batch in [1, 7, 64, 149] {
        assert_eq!(generate(&mut engine(batch), ask(&prompt, 40)).0, whole, "batch {batch}");
    }
}

#[test]
fn a_window_as_long_as_numbers_go_is_none() {
    let prompt: Vec<u32> = (0..150).map(|i| i * 7 % VOCAB).collect();
    let with = |window| engine_of(Fake { windows: vec![window], ..Fake::default() }, 64);
    let (all, _) = generate(&mut with(None), ask(&prompt, 40));
    for window in [u32::MAX, u32::MAX - 63, 1 << 31] {
        assert_eq!(generate(&mut with(Some(window)), ask(&prompt, 40)).0, all, "{window}");
    }
}

#[test]
fn what_the_state_holds_is_used_again_and_changes_nothing() {
    let mut warm = engine(64);
    let (first, _) = generate(&mut warm, ask(&[1, 2, 3, 4], 10));
    let mut longer = vec![1, 2, 3, 4];
    longer.extend(&first);
    longer.extend([9, 9]);
    let (text, end) = generate(&mut warm, ask(&longer, 10));
    let Says::End(EndReason::MaxTokens, usage) = end else { panic!("{end:?}") };
    // The last token of the first answer was never fed.
    assert_eq!(usage.cached_tokens, 13);
    assert_eq!(text, generate(&mut engine(64), ask(&longer, 10)).0);
    let (again, end) = generate(&mut warm, ask(&longer, 10));
    let Says::End(_, usage) = end else { panic!("{end:?}") };
    assert_eq!((again, usage.cached_tokens), (text, 15));
    let apart = Ask { reuse: false, ..ask(&longer, 1) };
    let (_, Says::End(_, usage)) = generate(&mut warm, apart) else { panic!() };
    assert_eq!(usage.cached_tokens, 0);
}

#[test]
fn sequences_in_the_queue_do_not_mix() {
    let alone: Vec<_> =
        [[1, 2], [3, 4]].iter().map(|p| generate(&mut engine(64), ask(p, 12)).0).collect();
    let mut both = engine(64);
    let a = both.submit(ask(&[1, 2], 12), Duration::ZERO).unwrap();
    let b = both.submit(ask(&[3, 4], 12), Duration::ZERO).unwrap();
    let says = run(&mut both);
    assert_eq!([ids(&says[&a]), ids(&says[&b])], [alone[0].clone(), alone[1].clone()]);
}

#[test]
fn an_end_token_ends_and_is_not_said() {
    let (free, _) = generate(&mut engine(64), ask(&[5, 6], 20));
    let ends = Ask { ends: [free[3]].into(), ..ask(&[5, 6], 20) };
    let before = free.iter().position(|t| *t == free[3]).unwrap();
    let (text, end) = generate(&mut engine(64), ends.clone());
    assert_eq!(text, free[..before]);
    let Says::End(EndReason::EndOfText, usage) = end else { panic!("{end:?}") };
    assert_eq!(usage.generated_tokens as usize, before + 1);
    let later = Ask { min_tokens: before as u32 + 2, ..ends };
    let (text, _) = generate(&mut engine(64), later);
    assert!(text.len() >= before + 2 && text[before] != free[3]);
}

#[test]
fn the_context_ends_the_text() {
    let short = Ask { max_tokens: None, context: Some(10), ..ask(&[1, 2, 3], 0) };
    let (text, end) = generate(&mut engine(64), short);
    assert_eq!(text.len(), 7);
    assert!(matches!(end, Says::End(EndReason::ContextFull, _)));
}

#[test]
fn a_deadline_ends_the_text() {
    let soon = Ask { deadline: Some(Duration::from_millis(12)), ..ask(&[1, 2, 3], 200) };
    let (text, end) = generate(&mut engine(64), soon);
    assert!(!text.is_empty() && text.len() < 12, "{}", text.len());
    assert!(matches!(end, Says::End(EndReason::Deadline, _)));
}

#[test]
fn a_failing_sequence_fails_alone() {
    let mut engine = engine_of(Fake { fails_at: Some((1, 5)), ..Fake::default() }, 64);
    let bad = engine.submit(ask(&[1, 2, 3], 20), Duration::ZERO).unwrap();
    let good = engine.submit(ask(&[4], 3), Duration::ZERO).unwrap();
    let says = run(&mut engine);
    assert!(matches!(says[&bad].last(), Some(Says::Failed(_))));
    assert!(matches!(says[&good].last(), Some(Says::End(EndReason::MaxTokens, _))));
}

#[test]
fn a_cancelled_sequence_says_nothing_more() {
    let mut engine = engine(64);
    let a = engine.submit(ask(&[1], 50), Duration::ZERO).unwrap();
    let b = engine.submit(ask(&[2], 2), Duration::ZERO).unwrap();
    let mut says = Vec::new();
    engine.step(&|| Duration::ZERO, &mut says);
    engine.cancel(a);
    let later = run(&mut engine);
    assert!(!later.contains_key(&a) && later.contains_key(&b));
}

#[test]
fn impossible_prompts_are_refused() {
    let mut engine = engine(64);
    let mut refuse = |ask: Ask| engine.submit(ask, Duration::ZERO).unwrap_err();
    assert!(matches!(refuse(ask(&[], 1)), Error::EmptyPrompt));
    assert!(matches!(refuse(ask(&[VOCAB], 1)), Error::Token { .. }));
    assert!(matches!(refuse(ask(&[1; 256], 1)), Error::PromptTooLong { tokens: 256, .. }));
}

#[test]
fn prompt_probabilities_cover_every_token_but_the_first() {
    let prompt: Vec<u32> = (0..100).map(|i| i % VOCAB).collect();
    let mut engine = engine(64);
    let probe = Ask { prompt_logprobs: Some(2), logprobs: Some(1), ..ask(&prompt, 2) };
    let id = engine.submit(probe, Duration::ZERO).unwrap();
    let says = run(&mut engine).remove(&id).unwrap();
    let mut told = Vec::new();
    for said in says {
        if let Says::Prompt(rows) = said {
            assert!(rows.iter().all(|r| r.top.len() == 2 && r.logprob.is_some()));
            told.extend(rows.into_iter().map(|r| r.id));
        }
    }
    assert_eq!(told, prompt[1..]);
}

fn prompt_ids(says: &[Says]) -> Vec<u32> {
    let rows =
        says.iter().filter_map(|s| if let Says::Prompt(rows) = s { Some(rows) } else { None });
    rows.flatten().map(|r| r.id).collect()
}

#[test]
fn prompt_probabilities_come_also_without_an_answer() {
    for n in [1, 63, 64, 65, 128] {
        let prompt: Vec<u32> = (0..n).map(|i| i % VOCAB).collect();
        for made in [0, 1] {
            let mut engine = engine(256);
            let probe = Ask { prompt_logprobs: Some(0), ..ask(&prompt, made) };
            let id = engine.submit(probe, Duration::ZERO).unwrap();
            let says = run(&mut engine).remove(&id).unwrap();
            assert_eq!(prompt_ids(&says), prompt[1..], "{n} tokens");
            assert_eq!(ids(&says).len() as u32, made);
            assert!(matches!(says.last(), Some(Says::End(EndReason::MaxTokens, _))), "{says:?}");
        }
    }
}

#[test]
fn what_is_asked_in_between_changes_nothing() {
    let prompt: Vec<u32> = (0..100).map(|i| i * 3 % VOCAB).collect();
    let probe = Ask { prompt_logprobs: Some(0), ..ask(&prompt, 20) };
    let (alone, _) = generate(&mut engine(64), probe.clone());
    let mut engine = engine(64);
    let id = engine.submit(probe, Duration::ZERO).unwrap();
    let mut says = Vec::new();
    for step in 0.. {
        if engine.is_idle() {
            break;
        }
        engine.step(&|| Duration::ZERO, &mut says);
        // Also in the middle of the prompt.
        if step % 3 == 0 {
            engine.logits(&[1, 2, 3], &[]).unwrap();
        }
    }
    let says: Vec<Says> = says.into_iter().filter(|(i, _)| *i == id).map(|(_, s)| s).collect();
    assert_eq!(ids(&says), alone);
    assert_eq!(prompt_ids(&says), prompt[1..]);
}

#[test]
fn a_deadline_ends_those_who_wait() {
    let mut engine = engine_with(Fake::default(), &Options { sequences: 1, ..options(64) });
    engine.submit(ask(&[1], 100), Duration::ZERO).unwrap();
    let soon = Ask { deadline: Some(Duration::from_millis(5)), ..ask(&[2], 100) };
    let waiting = engine.submit(soon, Duration::ZERO).unwrap();
    let mut says = Vec::new();
    engine.step(&|| Duration::from_millis(1), &mut says);
    assert!(says.iter().all(|(id, _)| *id != waiting));
    engine.step(&|| Duration::from_millis(5), &mut says);
    let ended = says.iter().find(|(id, _)| *id == waiting);
    let Some((_, Says::End(EndReason::Deadline, usage))) = ended else { panic!("{says:?}") };
    assert_eq!((usage.queue_ns, usage.generated_tokens), (5_000_000, 0));
}

#[test]
fn tokens_that_are_none_are_refused_wherever_they_stand() {
    let mut engine = engine(64);
    let stop = Ask { stop_tokens: vec![VOCAB], ..ask(&[1], 1) };
    let bias = oprel_api::LogitBias { token: VOCAB, bias: 1.0 };
    let biased = Sampling { logit_bias: vec![bias], ..Sampling::greedy() };
    for wrong in [stop, Ask { sampling: biased, ..ask(&[1], 1) }] {
        let refused = engine.submit(wrong, Duration::ZERO);
        assert!(matches!(refused, Err(Error::Token { token: VOCAB, .. })), "{refused:?}");
    }
}

#[test]
fn no_stop_token_comes_before_the_fewest_tokens() {
    let (free, _) = generate(&mut engine(64), ask(&[5, 6], 8));
    let stopping = Ask { stop_tokens: free.clone(), min_tokens: 6, ..ask(&[5, 6], 8) };
    let (text, _) = generate(&mut engine(64), stopping);
    assert!(text.len() >= 6 && text.iter().take(6).all(|t| !free.contains(t)), "{text:?}");
}

#[test]
fn a_recurrent_state_serves_those_who_want_all_of_it() {
    let recurrent = || engine_of(Fake { recurrent: true, ..Fake::default() }, 64);
    let mut warm = recurrent();
    let (first, _) = generate(&mut warm, ask(&[1, 2, 3, 4], 10));
    let mut cached = |tokens: &[u32]| {
        let (text, end) = generate(&mut warm, ask(tokens, 5));
        assert_eq!(text, generate(&mut recurrent(), ask(tokens, 5)).0);
        let Says::End(_, usage) = end else { panic!("{end:?}") };
        usage.cached_tokens
    };
    let longer = [&[1, 2, 3, 4], &first[..], &[9, 9]].concat();
    // The last token of the first answer was never fed.
    assert_eq!(cached(&longer), 13);
    assert_eq!(cached(&longer), 13);
    assert_eq!(cached(&[1, 2]), 0);
}

#[test]
fn a_sequence_that_leaves_nothing_serves_nobody() {
    let mut engine = engine(64);
    generate(&mut engine, Ask { leave: false, ..ask(&[1, 2, 3], 4) });
    let (_, Says::End(_, usage)) = generate(&mut engine, ask(&[1, 2, 3], 4)) else { panic!() };
    assert_eq!(usage.cached_tokens, 0);
}
