//! Which of several servers is asked: the one that has a conversation's beginning in its cache, unless it has
//! much more to do than another. Nothing is remembered: who begins alike goes to the same server because
//! a hash says so, and when a server goes or comes, only its own conversations move.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How many requests more than the least busy server the favourite may have.
const AHEAD: usize = 4;

/// Requests that may be tried again, as part of those that are made.
const RETRY_SHARE: f64 = 0.1;
/// Most that are saved up.
const MOST_RETRIES: f64 = 10.0;

/// A server that can be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// What makes it the same server tomorrow.
    pub(crate) name: &'a str,
    /// Requests that it is answering.
    pub(crate) load: usize,
}

/// The place of the one to ask; `None` if there is none. `beginning` stands for how a conversation begins.
pub(crate) fn choose(beginning: u64, candidates: &[Candidate<'_>]) -> Option<usize> {
    let least = candidates.iter().map(|c| c.load).min()?;
    let most = (least + AHEAD).max(least + least / 2);
    let weight = |c: &Candidate<'_>| xxh3_64_with_seed(c.name.as_bytes(), beginning);
    let fits = candidates.iter().enumerate().filter(|(_, c)| c.load <= most);
    fits.max_by_key(|(_, c)| weight(c)).map(|(at, _)| at)
}

/// How many requests may be tried again: a failing fleet gets no second wave of them.
#[derive(Clone, Debug)]
pub(crate) struct Retries(f64);

impl Default for Retries {
    fn default() -> Retries {
        Retries(MOST_RETRIES)
    }
}

impl Retries {
    /// A request is made.
    pub(crate) fn earn(&mut self) {
        self.0 = (self.0 + RETRY_SHARE).min(MOST_RETRIES);
    }

    /// Whether one may be tried again, which is then paid.
    pub(crate) fn spend(&mut self) -> bool {
        let may = self.0 >= 1.0;
        self.0 -= if may { 1.0 } else { 0.0 };
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["http://a:1", "http://b:1", "http://c:1", "http://d:1"];

    fn with(loads: [usize; 4]) -> Vec<Candidate<'static>> {
        NAMES.into_iter().zip(loads).map(|(name, load)| Candidate { name, load }).collect()
    }

    #[test]
    fn a_conversation_stays_where_it_is_and_all_servers_get_some() {
        let idle = with([0; 4]);
        let mut counts = [0; 4];
        for key in 0..4000 {
            let at = choose(key, &idle).unwrap();
            counts[at] += 1;
            assert_eq!(choose(key, &with([3, 2, 1, 0])), Some(at), "small loads move nobody");
        }
        assert!(counts.iter().all(|n| (850..1150).contains(n)), "{counts:?}");
    }

    #[test]
    fn when_a_server_goes_only_its_own_conversations_move() {
        let all = with([0; 4]);
        let three = [all[0], all[1], all[3]];
        for key in 0..1000 {
            let before = all[choose(key, &all).unwrap()].name;
            let after = three[choose(key, &three).unwrap()].name;
            assert!(before == after || before == NAMES[2], "{before} {after}");
        }
    }

    #[test]
    fn a_favourite_that_has_too_much_to_do_is_left_alone() {
        let idle = with([0; 4]);
        for key in 0..100 {
            let favourite = choose(key, &idle).unwrap();
            let mut loads = [10; 4];
            loads[favourite] = 15;
            assert_eq!(choose(key, &with(loads)), Some(favourite), "half more is bearable");
            loads[favourite] = 16;
            assert_ne!(choose(key, &with(loads)), Some(favourite));
        }
        assert_eq!(choose(1, &[]), None);
    }

    #[test]
    fn one_in_ten_is_tried_again_in_the_long_run() {
        let mut retries = Retries::default();
        let mut made = 0;
        for _ in 0..1000 {
            retries.earn();
            made += usize::from(retries.spend());
        }
        assert!((105..=111).contains(&made), "{made}");
    }
}
