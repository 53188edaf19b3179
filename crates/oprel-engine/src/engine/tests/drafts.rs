//! A smaller model that proposes tokens: it changes no text, knows what it read, and does not cost more
//! than it brings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::fake::Work;
use super::*;

/// What models take, in microseconds: a step, and each of its tokens.
const LARGE: (u64, u64) = (30_000, 1_500);
const SMALL: (u64, u64) = (2_500, 300);

/// An engine over models that take their time, and its clock.
struct Timed {
    engine: Engine,
    clock: Arc<AtomicU64>,
}

impl Timed {
    /// `wrong_of` tells how often the smaller model is wrong, if there is one.
    fn new(large: (u64, u64), small: Option<(u64, (u64, u64))>) -> Timed {
        let options = Options { sequences: 16, positions: 16 * 512, context: 512, ..options(512) };
        Timed::with(&options, large, small)
    }

    fn with(
        options: &Options,
        (step, token): (u64, u64),
        small: Option<(u64, (u64, u64))>,
    ) -> Timed {
        let clock = Arc::new(AtomicU64::new(0));
        let work = |step, token| Some(Work { clock: clock.clone(), step, token });
        let large = Fake { work: work(step, token), ..Fake::default() };
        let mut engine = engine_with(large, options);
        if let Some((wrong_of, (step, token))) = small {
            let small = Fake { wrong_of, work: work(step, token), ..Fake::default() };
            engine = with_draft(engine, small);
        }
        Timed { engine, clock }
    }

    fn step(&mut self, says: &mut Vec<(SeqId, Says)>) {
        let now = || Duration::from_micros(self.clock.load(Ordering::Relaxed));
        self.engine.step(&now, says);
    }

    /// Seconds that these take, and their tokens.
    fn run(&mut self, asks: &[Ask]) -> (f64, Vec<Vec<u32>>) {
        let start = self.clock.load(Ordering::Relaxed);
        let now = Duration::from_micros(start);
        let submit = |ask: &Ask| self.engine.submit(ask.clone(), now).unwrap();
        let by_id: Vec<SeqId> = asks.iter().map(submit).collect();
        let mut says = Vec::new();
        while !self.engine.is_idle() {
            self.step(&mut says);
        }
        assert_eq!(n_held(&self.engine), 0);
        let took = self.clock.load(Ordering::Relaxed) - start;
        let of = |id: &SeqId| {
            let own = says.iter().filter(|(i, _)| i == id).map(|(_, s)| s.clone());
            ids(&own.collect::<Vec<_>>())
        };
        (took as f64 / 1e6, by_id.iter().map(of).collect())
    }

    /// Tokens proposed, and of these taken.
    fn proposed(&self) -> (u64, u64) {
        let gauges = self.engine.gauges();
        (gauges.drafted_tokens, gauges.accepted_tokens)
    }
}

fn asks(sequences: u32, prompt: u32, n: u32) -> Vec<Ask> {
    let text = |s: u32| (0..prompt).map(move |i| (i * i + s * 7 + i * s) % VOCAB);
    (0..sequences).map(|s| ask(&text(s).collect::<Vec<_>>(), n)).collect()
}

/// How many times as fast as without, with a smaller model that is wrong so often.
fn gain(wrong_of: u64, small: (u64, u64), large: (u64, u64), asks: &[Ask]) -> f64 {
    let (alone, expected) = Timed::new(large, None).run(asks);
    let mut both = Timed::new(large, Some((wrong_of, small)));
    let (took, made) = both.run(asks);
    assert_eq!(made, expected);
    let (drafted, accepted) = both.proposed();
    println!("{} sequences: {drafted} proposed, {accepted} taken, {:.3}", asks.len(), alone / took);
    alone / took
}

#[test]
fn a_model_that_is_always_right_saves_most_of_the_time() {
    assert!(gain(0, SMALL, LARGE, &asks(1, 20, 200)) > 2.0);
}

#[test]
fn a_model_that_is_right_now_and_then_pays_too() {
    assert!(gain(4, SMALL, LARGE, &asks(1, 20, 300)) > 1.2);
}

#[test]
fn several_streams_are_helped_together() {
    for sequences in [4, 8] {
        assert!(gain(0, SMALL, LARGE, &asks(sequences, 20, 300)) > 1.2);
    }
}

#[test]
fn a_model_that_is_never_right_costs_next_to_nothing() {
    for (sequences, prompt) in [(1, 4), (1, 200), (4, 100), (16, 20)] {
        let gain = gain(1, SMALL, LARGE, &asks(sequences, prompt, 200));
        assert!(gain > 0.97, "{sequences} sequences: {gain}");
    }
}

#[test]
fn a_model_that_is_as_slow_is_not_asked() {
    for wrong_of in [0, 1] {
        let gain = gain(wrong_of, LARGE, LARGE, &asks(2, 100, 200));
        assert!(gain > 0.97, "{gain}");
    }
}

#[test]
fn where_checking_costs_as_much_as_deciding_nothing_is_proposed() {
    // As with many streams: a token more takes nearly as long as one of a stream.
    for sequences in [1, 8] {
        let gain = gain(0, SMALL, (1_000, 30_000), &asks(sequences, 20, 100));
        assert!(gain > 0.97, "{gain}");
    }
}

/// Runs these beside a smaller model that is the large one, of whose tokens none is wrong if its state is
/// right; tells how many it proposed.
fn never_wrong(options: &Options, asks: &[Ask]) -> Engine {
    let mut timed = Timed::with(options, LARGE, Some((0, SMALL)));
    let mut left: Vec<&Ask> = asks.iter().rev().collect();
    let (mut says, mut rate) = (Vec::new(), 0.0);
    for step in 0.. {
        if step % 9 == 0
            && let Some(ask) = left.pop()
        {
            timed.engine.submit(ask.clone(), Duration::ZERO).unwrap();
        }
        if left.is_empty() && timed.engine.is_idle() {
            break;
        }
        timed.step(&mut says);
        let now = timed.engine.draft.as_ref().unwrap().rate().0;
        assert!(now >= rate, "a token was wrong in step {step}");
        rate = now;
    }
    assert!(rate > 0.9, "{rate}");
    assert_eq!(n_held(&timed.engine), 0);
    timed.engine
}

#[test]
fn what_it_holds_of_a_text_is_right_in_company_and_from_the_cache() {
    let options = Options { sequences: 4, positions: 2048, context: 512, ..options(64) };
    let mut all = asks(4, 150, 100);
    all.extend(asks(4, 150, 100));
    let engine = never_wrong(&options, &all);
    assert!(engine.gauges().cached_tokens > 0);
}

#[test]
fn what_it_holds_of_a_text_is_right_after_preemption() {
    let options = Options { sequences: 4, positions: 512, context: 512, ..options(64) };
    let mut all = asks(6, 60, 300);
    all[4].priority = 1;
    let engine = never_wrong(&options, &all);
    assert!(engine.gauges().preemptions > 0);
}

#[test]
fn what_it_holds_of_a_text_is_right_after_a_cut() {
    let cut = |ask: Ask| Ask { shift: Some(9), context: Some(120), ..ask };
    let all: Vec<Ask> = asks(3, 60, 300).into_iter().map(cut).collect();
    never_wrong(&Options { positions: 1024, ..options(64) }, &all);
}

#[test]
fn what_is_answered_at_once_is_read_once() {
    let mut timed = Timed::new(LARGE, Some((0, SMALL)));
    // It has proved right.
    timed.run(&asks(1, 20, 200));
    let one = asks(1, 320, 100).remove(0);
    let many = vec![Ask { speculate: true, ..one }; 4];
    let before = timed.engine.gauges().draft_read_tokens;
    timed.run(&many);
    let read = timed.engine.gauges().draft_read_tokens - before;
    assert!((256..2 * 320).contains(&read), "{read}");
}

#[test]
fn a_model_that_fails_is_not_asked_again_and_nothing_fails_with_it() {
    let (_, expected) = Timed::new(LARGE, None).run(&asks(3, 50, 60));
    for lasts in [0, 1, 5, 20] {
        let small = Fake { lasts, ..Fake::default() };
        let mut engine = with_draft(engine_with(Fake::default(), &options(64)), small);
        let ids_of: Vec<SeqId> = asks(3, 50, 60)
            .into_iter()
            .map(|a| engine.submit(a, Duration::ZERO).unwrap())
            .collect();
        let says = run(&mut engine);
        for (id, expected) in ids_of.iter().zip(&expected) {
            assert_eq!(ids(&says[id]), *expected);
        }
        assert_eq!(n_held(&engine), 0);
    }
}

#[test]
fn who_wants_no_proposals_gets_none() {
    let mut timed = Timed::new(LARGE, Some((0, SMALL)));
    let plain = |ask: Ask| Ask { speculate: false, ..ask };
    timed.run(&asks(2, 20, 100).into_iter().map(plain).collect::<Vec<_>>());
    assert_eq!(timed.proposed(), (0, 0));
    assert_eq!(timed.engine.gauges().draft_read_tokens, 0);
}

#[test]
fn a_model_that_cannot_propose_is_refused() {
    let refuse = |fake: Fake, decoder: Decoder| {
        let (weights, placement) = (Weights::default(), Placement::all_on(Dev(0), 0));
        let (weights, placement) = (&weights, &placement);
        let model = DraftModel { exec: Box::new(fake), decoder: &decoder, weights, placement };
        match engine(64).with_draft(model).map(|_| ()).unwrap_err() {
            Error::Draft { why } => why,
            other => panic!("{other}"),
        }
    };
    let recurrent = || Fake { recurrent: true, ..Fake::default() };
    assert!(refuse(recurrent(), decoder(&recurrent())).contains("recurrent"));
    let other = Decoder { n_vocab: VOCAB + 1, ..decoder(&Fake::default()) };
    let why = refuse(Fake::default(), other);
    assert!(why.contains("32 tokens, not 31"), "{why}");
    let mute = Decoder { heads: Vec::new(), ..decoder(&Fake::default()) };
    assert!(refuse(Fake::default(), mute).contains("no text"));
}
