//! Whatever a sequence runs beside, before or after, it says what it says alone.

use proptest::prelude::*;

use super::*;
use crate::{Constraint, Guide, Name, PageKey, PageStore, Part};
use oprel_api::{LogitBias, Mirostat, Truncation};
use std::slice::from_ref;
use std::sync::{Arc, Mutex};

/// Pages that outlive an engine. Some are lost, and what is asked for comes later.
#[derive(Clone, Debug, Default)]
struct Shelf {
    pages: Arc<Mutex<HashMap<PageKey, Vec<u8>>>>,
    asked: Vec<PageKey>,
    polls: usize,
}

impl PageStore for Shelf {
    fn holds(&self, key: PageKey) -> bool {
        self.pages.lock().unwrap().contains_key(&key)
    }

    fn points(&self, page: Name) -> Vec<PageKey> {
        let after = |key: &&PageKey| matches!(key.part, Part::Point { page: p, .. } if p == page);
        self.pages.lock().unwrap().keys().filter(after).copied().collect()
    }

    fn takes(&self, _: usize) -> bool {
        !self.polls.is_multiple_of(5)
    }

    fn put(&mut self, key: PageKey, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        self.polls += 1;
        if self.polls.is_multiple_of(3) {
            return Err(bytes);
        }
        self.pages.lock().unwrap().insert(key, bytes);
        Ok(())
    }

    fn fetch(&mut self, key: PageKey, _: usize) {
        self.asked.push(key);
    }

    fn fetched(&mut self) -> Vec<(PageKey, Option<Vec<u8>>)> {
        self.polls += 1;
        if self.polls.is_multiple_of(4) || self.asked.is_empty() {
            return Vec::new();
        }
        let key = self.asked.remove(0);
        let lost = key.name.bytes()[0] < 16;
        let bytes = self.pages.lock().unwrap().get(&key).filter(|_| !lost).cloned();
        vec![(key, bytes)]
    }

    fn flush(&mut self) {
        self.polls += 1;
    }
}

/// Forces three tokens after so many others, as a bound on thinking does.
#[derive(Clone)]
struct Closes {
    after: u32,
    closed: usize,
    mask: [u32; 1],
}

const CLOSE: [u32; 3] = [7, 7, 11];

impl Closes {
    fn due(&self) -> &'static [u32] {
        if self.after > 0 { &[] } else { &CLOSE[self.closed..] }
    }
}

impl Constraint for Closes {
    fn prepare(&mut self) {}

    fn allowed(&mut self) -> Result<Option<&[u32]>, String> {
        let Some(token) = self.due().first() else { return Ok(None) };
        self.mask = [1 << token];
        Ok(Some(&self.mask))
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        match self.due().first() {
            Some(&due) if due == token => self.closed += 1,
            Some(due) => return Err(format!("{token}, not {due}")),
            None => self.after = self.after.saturating_sub(1),
        }
        Ok(())
    }

    fn forced(&mut self) -> Vec<u32> {
        self.due().to_vec()
    }

    fn is_complete(&mut self) -> bool {
        false
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

/// A sequence of a schedule.
#[derive(Clone, Debug)]
struct Job {
    /// How many tokens of the common text it begins with, and which it goes on with.
    common: usize,
    own: Vec<u32>,
    made: u32,
    /// 0 is greedy, 1 draws, 2 is Mirostat.
    warm: u8,
    salt: bool,
    priority: i32,
    client: u8,
    reuse: bool,
    leave: bool,
    shift: bool,
    /// Steps after which it is submitted, and after which nobody wants it any more.
    at: usize,
    cancelled: Option<usize>,
    /// How much of the answer an earlier engine made.
    resumed: u32,
    /// After how many tokens others are forced.
    closes: Option<u32>,
}

prop_compose! {
    fn job()(
        common in prop_oneof![Just(0_usize), Just(64), Just(128), 0..150_usize],
        own in prop::collection::vec(0..VOCAB, 1..40),
        made in 1..90_u32,
        (warm, salt, reuse, leave, shift) in (
            0..3_u8, prop::bool::weighted(0.2), prop::bool::weighted(0.9),
            prop::bool::weighted(0.9), prop::bool::weighted(0.3)),
        priority in prop_oneof![4 => Just(0), 1 => -1..2],
        client in 0..3_u8,
        at in 0..60_usize,
        cancelled in prop::option::weighted(0.1, 0..90_usize),
        resumed in prop_oneof![3 => Just(0_u32), 1 => 0..80_u32],
        closes in prop::option::weighted(0.3, 0..30_u32),
    ) -> Job {
        Job { common, own, made, warm, salt, priority, client, reuse, leave, shift, at, cancelled,
              resumed, closes }
    }
}

#[derive(Clone, Debug)]
struct Shape {
    windows: Vec<Option<u32>>,
    recurrent: bool,
    spread: u32,
    batch: u32,
    sequences: u32,
    positions: u32,
    /// A smaller model: windows, how often it is wrong, and after how many steps it fails.
    draft: Option<(Vec<Option<u32>>, u64, usize)>,
}

prop_compose! {
    fn draft()(
        windows in prop_oneof![2 => Just(vec![None]), 1 => Just(vec![None, Some(70)])],
        wrong_of in prop_oneof![Just(0_u64), 1..6_u64],
        lasts in prop_oneof![4 => Just(usize::MAX), 1 => 0..40_usize],
    ) -> (Vec<Option<u32>>, u64, usize) {
        (windows, wrong_of, lasts)
    }
}

prop_compose! {
    fn shape()(
        windows in prop_oneof![
            Just(vec![None]), Just(vec![None, Some(70)]), Just(vec![Some(40)]), Just(vec![])],
        recurrent in any::<bool>(),
        spread in prop_oneof![Just(2_u32), Just(3), Just(VOCAB)],
        batch in prop_oneof![Just(7_u32), Just(64), Just(256)],
        sequences in 1..6_u32,
        positions in prop_oneof![Just(256_u32), Just(448), Just(1024)],
        draft in prop::option::weighted(0.7, draft()),
    ) -> Shape {
        let recurrent = recurrent || windows.is_empty();
        Shape { windows, recurrent, spread, batch, sequences, positions, draft }
    }
}

impl Job {
    fn ask(&self) -> Ask {
        let common = (0..self.common as u32).map(|i| i * i % VOCAB);
        let warm = || Sampling { temperature: 1.0, seed: Some(5), ..Sampling::default() };
        let sampling = match self.warm {
            0 => Sampling::greedy(),
            1 => warm(),
            _ => Sampling { mirostat: Mirostat { version: 2, ..Mirostat::default() }, ..warm() },
        };
        Ask {
            sampling,
            max_tokens: Some(self.made),
            salt: self.salt.then(|| "tenant".to_string()),
            priority: self.priority,
            client: self.client.to_string().into(),
            reuse: self.reuse,
            leave: self.leave,
            // A Mirostat that forgot cannot be resumed.
            shift: (self.shift && self.warm < 2).then_some(9),
            // A Mirostat that was told what to say cannot be resumed.
            guide: self
                .closes
                .filter(|_| self.warm < 2)
                .map(|after| Guide(Box::new(Closes { after, closed: 0, mask: [0] }))),
            ends: [3].into(),
            ..Ask::new(common.chain(self.own.iter().copied()).collect())
        }
    }
}

fn fake(shape: &Shape) -> Fake {
    let (windows, recurrent, spread) = (shape.windows.clone(), shape.recurrent, shape.spread);
    Fake { windows, recurrent, spread, ..Fake::default() }
}

/// What is told of a sequence: its tokens, cuts and end.
fn told(says: &[Says]) -> (Vec<u32>, Vec<Truncation>, Option<EndReason>) {
    let cut = |s: &Says| if let Says::Truncated(t) = s { Some(*t) } else { None };
    let end = says.iter().find_map(|s| match s {
        Says::End(reason, _) => Some(reason.clone()),
        _ => None,
    });
    (ids(says), says.iter().filter_map(cut).collect(), end)
}

fn alone(shape: &Shape, job: &Job) -> (Vec<u32>, Vec<Truncation>, Option<EndReason>) {
    let options = Options { cache: false, sequences: 1, ..options(256) };
    let mut engine = engine_with(fake(shape), &options);
    // With probabilities what is forced is chosen from a mask, and not taken without a step.
    let logprobs = job.made.is_multiple_of(2).then_some(0);
    let ask = Ask { speculate: false, logprobs, ..job.ask() };
    let id = engine.submit(ask, Duration::ZERO).unwrap();
    told(&run(&mut engine)[&id])
}

/// Runs a schedule; what each job was told, and the engine after it.
fn together(
    shape: &Shape,
    jobs: &[Job],
    asks: &[Ask],
    shelf: Option<&Shelf>,
) -> (Vec<Vec<Says>>, Engine) {
    let (batch, sequences, positions) = (shape.batch, shape.sequences, shape.positions);
    let options = Options { sequences, positions, ..options(batch) };
    let mut engine = engine_with(fake(shape), &options);
    if let Some((windows, wrong_of, lasts)) = shape.draft.clone() {
        let spread = shape.spread;
        let small = Fake { windows, wrong_of, lasts, spread, ..Fake::default() };
        engine = with_draft(engine, small);
    }
    if let Some(shelf) = shelf {
        engine.set_store(Box::new(shelf.clone()));
    }
    let ticks = Cell::new(0_u64);
    let clock = || {
        ticks.set(ticks.get() + 1 + ticks.get() * 7_919 % 997);
        Duration::from_micros(ticks.get())
    };
    let mut ids = vec![None; jobs.len()];
    let mut says = Vec::new();
    for step in 0.. {
        for (i, job) in jobs.iter().enumerate() {
            if job.at == step {
                ids[i] = Some(engine.submit(asks[i].clone(), Duration::ZERO).unwrap());
            }
            if let (Some(id), true) = (ids[i], job.cancelled == Some(step)) {
                engine.cancel(id);
            }
        }
        if step > 60 && engine.is_idle() {
            break;
        }
        assert!(step < 100_000, "it never ends");
        engine.step(&clock, &mut says);
    }
    engine.flush();
    let of = |id: SeqId| says.iter().filter(move |(i, _)| *i == id).map(|(_, s)| s.clone());
    (ids.into_iter().map(|id| of(id.unwrap()).collect()).collect(), engine)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn a_sequence_says_the_same_alone_and_in_company(
        shape in shape(),
        jobs in prop::collection::vec(job(), 1..8),
        stored in any::<bool>(),
    ) {
        let expected: Vec<_> = jobs.iter().map(|job| alone(&shape, job)).collect();
        let mut asks: Vec<Ask> = jobs.iter().map(Job::ask).collect();
        let mut resumed = Vec::new();
        for ((ask, job), (tokens, ..)) in asks.iter_mut().zip(&jobs).zip(&expected) {
            let n = (job.resumed as usize).min(tokens.len());
            ask.produced = tokens[..n].to_vec();
            resumed.push(n);
        }
        let shelf = Shelf::default();
        // Twice: what the first engine left serves the second.
        for round in 0..2 {
            let (says, engine) = together(&shape, &jobs, &asks, stored.then_some(&shelf));
            for (i, ((says, expected), job)) in says.iter().zip(&expected).zip(&jobs).enumerate() {
                let (tokens, _, end) = told(says);
                let rest = &expected.0[resumed[i]..];
                if job.cancelled.is_some() {
                    prop_assert!(rest.starts_with(&tokens), "job {i}: {tokens:?}, not {rest:?}");
                } else {
                    prop_assert_eq!(&tokens, rest, "job {}, round {}", i, round);
                    prop_assert_eq!(&end, &expected.2, "job {}, round {}", i, round);
                }
            }
            prop_assert_eq!(n_held(&engine), 0);
        }
    }
}

#[test]
fn what_one_engine_left_serves_the_next() {
    for (windows, recurrent, again) in [
        (vec![None, Some(70)], false, 128),
        // The last token of the prompt is always fed; a checkpoint before it is needed.
        (vec![None, Some(70)], true, 140),
        (vec![None], true, 140),
        (vec![Some(40)], true, 140),
        (vec![], true, 140),
    ] {
        let (spread, batch, sequences, positions) = (VOCAB, 64, 2, 1024);
        let draft = None;
        let shape = Shape { windows, recurrent, spread, batch, sequences, positions, draft };
        left_to_the_next(&shape, again);
    }
}

fn left_to_the_next(shape: &Shape, again: u32) {
    let job = Job {
        common: 140,
        own: vec![5, 6],
        made: 60,
        warm: 0,
        salt: false,
        priority: 0,
        client: 0,
        reuse: true,
        leave: true,
        shift: false,
        at: 0,
        cancelled: None,
        resumed: 0,
        closes: None,
    };
    // A message ends in the middle of the third page.
    let mut ask = Ask { ends: [29].into(), stop_tokens: vec![], ..job.ask() };
    ask.sampling.logit_bias = vec![LogitBias { token: 29, bias: f32::NEG_INFINITY }];
    ask.tokens[139] = 29;
    assert!(!ask.tokens[140..].contains(&29));
    let shelf = Shelf::default();
    let cached = |ask: &Ask, expected: u32| {
        let (says, _) = together(shape, from_ref(&job), from_ref(ask), Some(&shelf));
        let Some(Says::End(_, usage)) = says[0].last() else { panic!("{says:?}") };
        assert_eq!(usage.cached_tokens, expected);
    };
    cached(&ask, 0);
    cached(&ask, again);
    cached(&Ask { salt: Some("other".into()), ..ask.clone() }, 0);
    cached(&Ask { reuse: false, ..ask.clone() }, 0);
    // What is longer has the checkpoint where the first answer ended.
    let longer = [&ask.tokens[..], &[5, 6, 7]].concat();
    cached(&Ask { tokens: longer, ..ask.clone() }, again);
    shelf.pages.lock().unwrap().clear();
    cached(&ask, 0);
}

#[test]
fn a_checkpoint_that_makes_room_is_kept_by_the_store() {
    let prompts: Vec<Vec<u32>> =
        (0..30).map(|salt| (0..140).map(|i| (i * i + i * salt + salt) % VOCAB).collect()).collect();
    let run_all = |shelf: &Shelf, positions: u32, more: &[u32]| {
        let fake = Fake { recurrent: true, ..Fake::default() };
        let few = Options { checkpoints: 1, sequences: 1, positions, ..options(64) };
        let mut engine = engine_with(fake, &few);
        engine.set_store(Box::new(shelf.clone()));
        let mut cached = Vec::new();
        for tokens in &prompts {
            let id = engine.submit(ask(&[tokens, more].concat(), 1), Duration::ZERO).unwrap();
            let Some(Says::End(_, usage)) = run(&mut engine)[&id].last().cloned() else { panic!() };
            cached.push(usage.cached_tokens);
        }
        engine.flush();
        cached
    };
    // Pages go first, or rows do.
    for positions in [1024, 1 << 14] {
        let shelf = Shelf::default();
        assert_eq!(run_all(&shelf, positions, &[]), [0; 30]);
        // The shelf loses some, and refuses some.
        let found = run_all(&shelf, positions, &[5, 6]);
        assert!(found.iter().filter(|&&n| n == 140).count() >= 10, "{found:?}");
    }
}
