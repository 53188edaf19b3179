//! Who shares the engine, and what of it.

use super::*;

fn step(engine: &mut Engine, says: &mut Vec<(SeqId, Says)>) {
    engine.step(&|| Duration::ZERO, says);
}

fn prompt(n: u32, salt: u32) -> Vec<u32> {
    (0..n).map(|i| (i * i + salt * 7 + i * salt) % VOCAB).collect()
}

fn usage_of(says: &[Says]) -> Usage {
    match says.last() {
        Some(Says::End(_, usage)) => *usage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn tenants_do_not_share() {
    let mut engine = engine(64);
    let of = |salt: Option<&str>| Ask { salt: salt.map(Into::into), ..ask(&prompt(200, 1), 3) };
    let mut cached = |salt| {
        let id = engine.submit(of(salt), Duration::ZERO).unwrap();
        usage_of(&run(&mut engine)[&id]).cached_tokens
    };
    assert_eq!([cached(Some("a")), cached(Some("b")), cached(None)], [0, 0, 0]);
    assert_eq!([cached(Some("a")), cached(Some("b")), cached(None)], [199, 199, 199]);
}

#[test]
fn a_cache_that_is_off_keeps_nothing() {
    let mut engine = engine_with(Fake::default(), &Options { cache: false, ..options(64) });
    for _ in 0..2 {
        let id = engine.submit(ask(&prompt(200, 1), 3), Duration::ZERO).unwrap();
        assert_eq!(usage_of(&run(&mut engine)[&id]).cached_tokens, 0);
    }
    assert_eq!(engine.gauges().pages_cached, 0);
}

#[test]
fn what_many_ask_at_once_is_computed_once() {
    let mut engine = engine_with(Fake::default(), &Options { sequences: 8, ..options(64) });
    let asks = (0..8).map(|i| [prompt(192, 1), vec![i]].concat());
    for tokens in asks {
        engine.submit(ask(&tokens, 4), Duration::ZERO).unwrap();
    }
    run(&mut engine);
    // 192 once, and of each what is its own.
    assert_eq!(engine.gauges().prompt_tokens, 192 + 8);
}

#[test]
fn streams_go_on_while_a_long_prompt_is_read() {
    let mut engine = engine(64);
    let stream = engine.submit(ask(&prompt(4, 1), 100), Duration::ZERO).unwrap();
    let mut says = Vec::new();
    let now = Cell::new(0);
    let clock = || {
        now.set(now.get() + 1);
        Duration::from_millis(now.get())
    };
    let step = |engine: &mut Engine, says: &mut Vec<_>| {
        engine.step(&clock, says);
    };
    (0..5).for_each(|_| step(&mut engine, &mut says));
    let long = engine.submit(ask(&prompt(250, 2), 1), Duration::ZERO).unwrap();
    says.clear();
    let mut steps = 0;
    while !says.iter().any(|(id, _)| *id == long) {
        step(&mut engine, &mut says);
        steps += 1;
    }
    let made = says.iter().filter(|(id, s)| *id == stream && matches!(s, Says::Token(_))).count();
    assert_eq!(made, steps, "a step without a token of the stream");
}

#[test]
fn clients_are_served_alike_and_priority_goes_first() {
    let mut engine = engine_with(Fake::default(), &Options { sequences: 1, ..options(64) });
    let of =
        |client: &str, priority| Ask { client: client.into(), priority, ..ask(&prompt(8, 1), 4) };
    let submit = |engine: &mut Engine, ask| engine.submit(ask, Duration::ZERO).unwrap();
    let greedy: Vec<SeqId> = (0..5).map(|_| submit(&mut engine, of("greedy", 0))).collect();
    let mut says = Vec::new();
    step(&mut engine, &mut says);
    let modest = submit(&mut engine, of("modest", 0));
    let urgent = submit(&mut engine, of("urgent", 1));
    while !engine.is_idle() {
        step(&mut engine, &mut says);
    }
    let ends: Vec<SeqId> =
        says.iter().filter(|(_, s)| matches!(s, Says::End(..))).map(|(id, _)| *id).collect();
    // The urgent one takes the place of the first, which then goes on before the others.
    assert_eq!(ends[..3], [urgent, greedy[0], modest]);
    assert_eq!(engine.gauges().preemptions, 1);
}

#[test]
fn a_full_queue_refuses() {
    let mut engine = engine_with(Fake::default(), &Options { queue: 2, ..options(64) });
    let mut submit = || engine.submit(ask(&[1], 1), Duration::ZERO);
    assert!(submit().is_ok() && submit().is_ok());
    assert!(matches!(submit(), Err(Error::Busy { waiting: 2 })));
}

#[test]
fn texts_become_vectors_beside_streams_and_alone() {
    let texts: Vec<Vec<u32>> = (0..9).map(|i| prompt(3 + i * 5, i)).collect();
    let becomes = Becomes::Vector(oprel_nn::Pooling::Last);
    let vector = |engine: &mut Engine, text: &[u32]| {
        let id = engine.submit_text(text.to_vec(), becomes, Duration::ZERO);
        let id = id.unwrap();
        match &run(engine)[&id][0] {
            Says::Vector(v) => v.clone(),
            other => panic!("{other:?}"),
        }
    };
    let alone: Vec<Vec<f32>> = texts.iter().map(|t| vector(&mut engine(64), t)).collect();
    let mut engine = engine(64);
    engine.submit(ask(&prompt(20, 5), 30), Duration::ZERO).unwrap();
    let submit = |t: &Vec<u32>| engine.submit_text(t.clone(), becomes, Duration::ZERO).unwrap();
    let ids: Vec<SeqId> = texts.iter().map(submit).collect();
    let says = run(&mut engine);
    for (id, expected) in ids.iter().zip(alone) {
        assert_eq!(says[id][0], Says::Vector(expected));
    }
    assert_eq!(engine.state.n_held(), 0);
    let long = engine.submit_text(vec![1; 65], becomes, Duration::ZERO);
    assert!(matches!(long, Err(Error::TextTooLong { tokens: 65, most: 64 })));
    // A context that is shorter than a step bounds it too.
    let mut short = engine_with(Fake::default(), &Options { context: 8, ..options(64) });
    let long = short.submit_text(vec![1; 9], becomes, Duration::ZERO);
    assert!(matches!(long, Err(Error::TextTooLong { tokens: 9, most: 8 })));
}

#[test]
fn proposals_save_steps_where_a_text_repeats_itself() {
    let text = prompt(40, 3);
    let replay: std::sync::Arc<[u32]> = text.iter().cycle().take(100).copied().collect();
    let steps = |speculate| {
        let mut engine = engine(64);
        let ask = Ask { speculate, replay: Some(replay.clone()), ..ask(&text, 100) };
        let id = engine.submit(ask, Duration::ZERO).unwrap();
        let says = run(&mut engine).remove(&id).unwrap();
        assert_eq!(ids(&says), replay[..]);
        (engine.gauges().steps, usage_of(&says))
    };
    let (plain, _) = steps(false);
    let (fewer, usage) = steps(true);
    assert!(fewer * 3 < plain, "{fewer} steps, not {plain}");
    assert!(usage.accepted_tokens > 60 && usage.accepted_tokens <= usage.drafted_tokens);
}

#[test]
fn a_step_of_many_sequences_takes_the_scheduler_little_time() {
    // The bound is loose, for tests run beside others; `benches` measures.
    let options = Options { sequences: 256, positions: 256 * 64, ..options(512) };
    let mut engine = engine_with(Fake::default(), &options);
    for i in 0..256 {
        engine.submit(ask(&[i % VOCAB, 1], 20), Duration::ZERO).unwrap();
    }
    let mut says = Vec::new();
    step(&mut engine, &mut says);
    step(&mut engine, &mut says);
    let start = std::time::Instant::now();
    for _ in 0..5 {
        step(&mut engine, &mut says);
    }
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

#[test]
fn a_copy_that_fails_loses_no_page() {
    let mut engine = engine_of(Fake { fails_copies: true, ..Fake::default() }, 64);
    engine.submit(ask(&prompt(100, 1), 2), Duration::ZERO).unwrap();
    run(&mut engine);
    let id = engine.submit(ask(&prompt(100, 1), 2), Duration::ZERO).unwrap();
    assert!(matches!(run(&mut engine)[&id][..], [Says::Failed(_)]));
    assert_eq!(engine.state.n_held(), 0);
}

#[test]
fn a_mirostat_that_is_preempted_while_it_learns_again_learns_once() {
    let mirostat = oprel_api::Mirostat { version: 2, ..Default::default() };
    let sampling = Sampling { temperature: 1.0, seed: Some(5), mirostat, ..Sampling::default() };
    let whole = Ask { sampling, max_tokens: Some(60), ..Ask::new(prompt(20, 1)) };
    let (expected, _) = generate(&mut engine(64), whole.clone());
    let mut engine = engine_with(Fake::default(), &Options { sequences: 1, ..options(7) });
    let resumed = Ask { produced: expected[..40].to_vec(), ..whole };
    let id = engine.submit(resumed, Duration::ZERO).unwrap();
    let mut says = Vec::new();
    (0..6).for_each(|_| step(&mut engine, &mut says));
    engine.submit(Ask { priority: 1, ..ask(&[1, 2], 3) }, Duration::ZERO).unwrap();
    while !engine.is_idle() {
        step(&mut engine, &mut says);
    }
    let says: Vec<Says> = says.into_iter().filter(|(i, _)| *i == id).map(|(_, s)| s).collect();
    assert_eq!(ids(&says), expected[40..]);
    assert_eq!(engine.gauges().preemptions, 1);
}

#[test]
fn two_never_wait_for_each_other() {
    let mut engine = engine_with(Fake::default(), &Options { sequences: 2, ..options(7) });
    let mut says = Vec::new();
    let mut submit = |engine: &mut Engine, tokens: &[u32], n, priority| {
        engine.submit(Ask { priority, ..ask(tokens, n) }, Duration::ZERO).unwrap();
        step(engine, &mut says);
    };
    submit(&mut engine, &prompt(100, 1), 2, -1);
    // Waits for the first, which makes room for one that ends at once, and comes back.
    submit(&mut engine, &prompt(100, 1), 2, 0);
    submit(&mut engine, &[1], 0, 1);
    assert_eq!(engine.gauges().preemptions, 1);
    for _ in 0..100 {
        step(&mut engine, &mut says);
    }
    assert!(engine.is_idle());
}

#[test]
fn proposals_leave_the_rows_of_those_who_begin() {
    let fake = Fake { recurrent: true, ..Fake::default() };
    let mut engine = engine_with(fake, &Options { checkpoints: 0, ..options(256) });
    let replay: std::sync::Arc<[u32]> = prompt(20, 3).iter().cycle().take(100).copied().collect();
    let mut says = Vec::new();
    let now = Cell::new(0);
    let clock = || {
        now.set(now.get() + 1);
        Duration::from_millis(now.get())
    };
    for i in 0..100 {
        // Each repeats itself: fifteen tokens are proposed, or as many as are left.
        let n = 5 + i * 7 % 60;
        let ask = Ask { replay: Some(replay.clone()), reuse: false, ..ask(&prompt(20, 3), n) };
        if engine.gauges().running < 4 {
            engine.submit(ask, Duration::ZERO).unwrap();
        }
        engine.step(&clock, &mut says);
    }
    while !engine.is_idle() {
        engine.step(&clock, &mut says);
    }
    assert!(!says.iter().any(|(_, said)| matches!(said, Says::Failed(_))));
    assert_eq!(engine.state.n_held(), 0);
}
