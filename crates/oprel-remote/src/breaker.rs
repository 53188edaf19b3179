//! Whether a server that failed is asked again. A state machine: time is passed in, since any moment.

use std::time::Duration;

/// Failures in a row after which nothing is asked for a while.
const MOST_FAILURES: u32 = 3;
/// How long at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a trial may take before another one is made.
const TRIAL: Duration = Duration::from_secs(60);

/// Lets requests through to a server, or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Breaker {
    state: State,
    /// It asked to be left alone until then.
    busy_until: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Requests pass.
    Closed { failures: u32 },
    /// None does until then.
    Open { until: Duration, pause: Duration },
    /// One does, and its outcome decides.
    HalfOpen { since: Duration, pause: Duration },
}

impl Default for State {
    fn default() -> State {
        State::Closed { failures: 0 }
    }
}

impl Breaker {
    /// Whether a request may pass now.
    pub(crate) fn admits(&self, now: Duration) -> bool {
        now >= self.busy_until
            && match self.state {
                State::Closed { .. } => true,
                State::Open { until, .. } => now >= until,
                State::HalfOpen { since, .. } => now >= since + TRIAL,
            }
    }

    /// Whether requests pass without being a trial.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Whether it is only busy, not failing.
    pub(crate) fn is_busy(&self, now: Duration) -> bool {
        self.is_closed() && now < self.busy_until
    }

    /// A request passes that [`Breaker::admits`] let pass.
    pub(crate) fn begin(&mut self, now: Duration) {
        if let State::Open { pause, .. } | State::HalfOpen { pause, .. } = self.state {
            self.state = State::HalfOpen { since: now, pause };
        }
    }

    /// The server did what it was asked to.
    pub(crate) fn succeed(&mut self) {
        // What began before it opened says nothing of now.
        if !matches!(self.state, State::Open { .. }) {
            self.state = State::Closed { failures: 0 };
        }
    }

    /// The server failed.
    pub(crate) fn fail(&mut self, now: Duration) {
        self.state = match self.state {
            State::Closed { failures } if failures + 1 < MOST_FAILURES => {
                State::Closed { failures: failures + 1 }
            }
            State::Closed { .. } => State::Open { until: now + FIRST_PAUSE, pause: FIRST_PAUSE },
            State::HalfOpen { pause, .. } => {
                let pause = (pause * 2).min(LONGEST_PAUSE);
                State::Open { until: now + pause, pause }
            }
            State::Open { until, pause } => State::Open { until, pause },
        };
    }

    /// A request ended and nobody knows how it would have.
    pub(crate) fn forget(&mut self, now: Duration) {
        if let State::HalfOpen { pause, .. } = self.state {
            self.state = State::Open { until: now, pause };
        }
    }

    /// The server asks to be left alone for a while.
    pub(crate) fn rest(&mut self, now: Duration, time: Duration) {
        self.busy_until = self.busy_until.max(now + time.min(LONGEST_PAUSE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn open(at: Duration) -> Breaker {
        let mut breaker = Breaker::default();
        (0..MOST_FAILURES).for_each(|_| breaker.fail(at));
        breaker
    }

    #[test]
    fn three_failures_in_a_row_open_it_and_a_success_between_does_not_let_them() {
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            breaker.fail(s(1));
            breaker.fail(s(1));
            assert!(breaker.admits(s(1)) && breaker.is_closed());
            breaker.succeed();
        }
        (0..3).for_each(|_| breaker.fail(s(2)));
        assert!(!breaker.admits(s(2)) && !breaker.is_closed());
        assert!(breaker.admits(s(3)));
    }

    #[test]
    fn one_trial_passes_and_decides() {
        let mut breaker = open(s(0));
        assert!(breaker.admits(s(1)));
        breaker.begin(s(1));
        assert!(!breaker.admits(s(2)), "a second trial passed");
        breaker.succeed();
        assert!(breaker.admits(s(2)) && breaker.is_closed());
        // It counts from nothing again.
        breaker.fail(s(3));
        assert!(breaker.is_closed());
    }

    #[test]
    fn pauses_grow_to_half_a_minute() {
        let mut breaker = open(s(0));
        let (mut now, mut pauses) = (s(0), Vec::new());
        for _ in 0..7 {
            let begun = now;
            while !breaker.admits(now) {
                now += Duration::from_millis(500);
            }
            pauses.push((now - begun).as_secs());
            breaker.begin(now);
            breaker.fail(now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn a_trial_that_says_nothing_or_hangs_is_made_again() {
        let mut breaker = open(s(0));
        breaker.begin(s(1));
        breaker.forget(s(2));
        assert!(breaker.admits(s(2)));
        breaker.begin(s(2));
        assert!(!breaker.admits(s(61)));
        assert!(breaker.admits(s(62)));
    }

    #[test]
    fn what_was_begun_before_it_opened_changes_nothing() {
        let mut breaker = open(s(0));
        let before = breaker.clone();
        breaker.succeed();
        breaker.fail(s(0));
        breaker.forget(s(0));
        assert_eq!(breaker, before);
    }

    #[test]
    fn a_busy_server_rests_and_is_not_failing() {
        let mut breaker = Breaker::default();
        breaker.rest(s(5), s(3));
        breaker.rest(s(5), s(1));
        assert!(!breaker.admits(s(7)) && breaker.is_busy(s(7)) && breaker.is_closed());
        assert!(breaker.admits(s(8)) && !breaker.is_busy(s(8)));
        breaker.rest(s(8), s(3600));
        assert!(breaker.admits(s(38)), "no server rests for longer than half a minute");
    }
}
