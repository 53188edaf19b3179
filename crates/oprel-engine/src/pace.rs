//! How much of waiting prompts a step may take along, from how long steps took.
//!
//! Running streams shall wait for their next token at most [`Pace::STRETCH`] times as long as they would
//! without the prompts. What a step of decoding alone takes is measured for each number of streams, and
//! what a token of a prompt adds to it; the share of a step that prompts get follows from the two.

use std::time::Duration;

/// How fast measurements follow what is measured.
const FOLLOW: f64 = 0.2;
/// Fewest tokens of a prompt in a step of its own that tell what one takes.
const TELLING: usize = 4;
/// Steps after which a step of decoding alone is measured again.
const REMEASURE: u32 = 128;
/// A step that took this many times as long as it should was held up by something else: no more of it counts.
const HELD_UP: f64 = 1.5;

/// How much longer a step is taken to be for one more token, until that was measured.
const GUESS: f64 = 0.12;
/// The least of it that is believed.
const LEAST: f64 = 0.01;

/// Measured times of steps, in seconds.
#[derive(Debug)]
pub(crate) struct Pace {
    /// By number of decoded tokens: what a step of these alone takes, and steps since it was measured.
    alone: Vec<Option<(f64, u32)>>,
    /// What tokens of prompts added to steps of decoding, and how many they were; the latest weigh most. (Their
    /// ratio, not the mean of ratios: where there is room for few tokens, noise would look like cost.)
    added: Option<(f64, f64)>,
    /// What a token of a prompt takes in a step of its own.
    apart: Option<f64>,
    /// How many times as long as undisturbed a step with streams may take.
    stretch: f64,
}

impl Pace {
    /// The usual bound on a step, over its time without prompts.
    pub(crate) const STRETCH: f64 = 2.0;
    /// Steps aim below the bound, for they vary.
    const AIM: f64 = 0.9;

    pub(crate) fn new(stretch: f64) -> Pace {
        Pace { alone: Vec::new(), added: None, apart: None, stretch: stretch.max(1.05) }
    }

    /// Notes how long a step took that decoded so many tokens and took along so many of prompts.
    pub(crate) fn record(&mut self, decoded: usize, prompt: usize, took: Duration) {
        let took = took.as_secs_f64();
        if decoded > 0 && prompt == 0 {
            if self.alone.len() <= decoded {
                self.alone.resize(decoded + 1, None);
            }
            let known = self.alone[decoded].map(|(seconds, _)| seconds);
            self.alone[decoded] = Some((follow(known, took), 0));
        } else if decoded == 0 && prompt >= TELLING {
            self.apart = Some(follow(self.apart, took / prompt as f64));
        } else if decoded > 0 {
            if let Some(Some((_, age))) = self.alone.get_mut(decoded) {
                *age += 1;
            }
            if let Some(alone) = self.estimate(decoded) {
                self.note_added(took - alone, alone, prompt as f64);
            }
        }
    }

    /// Notes what so many tokens of prompts added to a step that takes so long without them.
    fn note_added(&mut self, seconds: f64, alone: f64, tokens: f64) {
        let known = self.added();
        let most = known.map_or(f64::INFINITY, |one| HELD_UP * (alone + one * tokens) - alone);
        let seconds = seconds.clamp(0.0, most);
        let (all, n) = self.added.unwrap_or((seconds, tokens));
        self.added = Some((follow(Some(all), seconds), follow(Some(n), tokens)));
    }

    /// What a token of a prompt adds to a step of decoding, if that was measured.
    fn added(&self) -> Option<f64> {
        self.added.map(|(seconds, tokens)| seconds / tokens)
    }

    /// Most tokens of prompts beside so many decoded ones; `None` if decoding them alone should be
    /// measured first.
    pub(crate) fn beside(&self, decoded: usize, most: usize) -> Option<usize> {
        if decoded == 0 || most == 0 {
            return Some(most);
        }
        let alone = match self.alone.get(decoded) {
            Some(Some((seconds, age))) if *age < REMEASURE => *seconds,
            _ => return None,
        };
        // Where nothing is known of prompts, a few tokens tell.
        let added = self.added().or(self.apart).unwrap_or(alone / 8.0).max(1e-9);
        let room = alone * (self.stretch - 1.0) * Pace::AIM;
        Some(((room / added) as usize).clamp(1, most))
    }

    /// What so many more tokens take in a step that decodes `decoded`; nothing until that was measured.
    pub(crate) fn checking(&self, decoded: usize) -> impl Fn(usize) -> f64 {
        let added = move |n: usize| Some(self.estimate(decoded + n)? - self.estimate(decoded)?);
        move |n| added(n).unwrap_or(0.0).max(0.0)
    }

    /// What reading so many tokens in a step of their own takes, if that was measured.
    pub(crate) fn reading(&self, tokens: usize) -> Option<f64> {
        Some(self.apart? * tokens as f64)
    }

    /// What a step of decoding alone takes for so many tokens: measured, or between what was measured
    /// for fewer and for more; beyond the most measured, a guess that will be measured.
    pub(crate) fn estimate(&self, decoded: usize) -> Option<f64> {
        let at = |n: usize| self.alone.get(n).copied().flatten().map(|(seconds, _)| seconds);
        let less = (1..=decoded).rev().find_map(|n| Some((n, at(n)?)));
        let more = (decoded..self.alone.len()).find_map(|n| Some((n, at(n)?)));
        let (from, seconds) = less.or(more)?;
        let further = decoded as f64 - from as f64;
        Some(match more {
            Some((to, end)) if to > from => {
                seconds + (end - seconds) * further / (to - from) as f64
            }
            _ => {
                let first = (1..from).find_map(|n| Some((n, at(n)?)));
                seconds + self.one_more((from, seconds), first) * further
            }
        })
    }

    /// What a token takes beyond the most that were measured: as much as those beyond the first measured,
    /// where there are several; else a guess, and not more than one of a prompt.
    fn one_more(&self, (n, seconds): (usize, f64), first: Option<(usize, f64)>) -> f64 {
        let Some((fewer, least)) = first else {
            let guess = GUESS * seconds / (1.0 + GUESS * (n - 1) as f64);
            return self.apart.map_or(guess, |apart| apart.min(guess));
        };
        ((seconds - least) / (n - fewer) as f64).max(LEAST * least)
    }
}

fn follow(known: Option<f64>, seen: f64) -> f64 {
    known.map_or(seen, |known| known + FOLLOW * (seen - known))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of a machine where decoding takes 30 ms and a prompt's token adds 4 ms.
    fn run(stretch: f64, steps: usize) -> (f64, usize) {
        let mut pace = Pace::new(stretch);
        let (mut longest, mut fed) = (0_f64, 0);
        pace.record(0, 512, Duration::from_millis(2000));
        for step in 0..steps {
            let n = pace.beside(1, 512).unwrap_or(0);
            let noise = if step % 7 == 3 { 1.05 } else { 1.0 };
            let took = noise * (0.030 + 0.004 * n as f64);
            pace.record(1, n, Duration::from_secs_f64(took));
            longest = longest.max(took);
            fed += n;
        }
        (longest, fed)
    }

    #[test]
    fn streams_keep_their_bound_and_prompts_get_the_rest() {
        for stretch in [1.5, 2.0, 4.0] {
            let (longest, fed) = run(stretch, 400);
            assert!(longest <= 0.030 * stretch, "{stretch}: {longest}");
            let room = 0.030 * (stretch - 1.0) / 0.004 * 400.0;
            assert!(fed as f64 >= 0.5 * room, "{stretch}: {fed} of {room}");
        }
    }

    #[test]
    fn a_step_that_something_else_held_up_changes_little() {
        let mut pace = Pace::new(2.0);
        pace.record(1, 0, Duration::from_millis(30));
        for _ in 0..50 {
            pace.record(1, 6, Duration::from_millis(30 + 24));
        }
        let before = pace.beside(1, 512).unwrap();
        pace.record(1, 6, Duration::from_millis(500));
        let after = pace.beside(1, 512).unwrap();
        assert!(after >= before - 2, "{before}, then {after}");
        // A machine that became slower is believed.
        for _ in 0..50 {
            pace.record(1, 3, Duration::from_millis(30 + 36));
        }
        assert_eq!(pace.beside(1, 512), Some(2));
    }

    #[test]
    fn decoding_alone_is_measured_before_prompts_join() {
        let mut pace = Pace::new(2.0);
        assert_eq!(pace.beside(0, 512), Some(512));
        pace.record(0, 512, Duration::from_secs(2));
        assert_eq!(pace.beside(3, 512), None);
        pace.record(3, 0, Duration::from_millis(40));
        assert_eq!(pace.beside(3, 512), Some(9));
        assert_eq!(pace.beside(2, 512), None);
    }
}
