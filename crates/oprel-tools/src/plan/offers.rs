//! Which of the files that a hub offers to fetch, known by their names and sizes alone.
//!
//! What a model needs beside its weights is not known before its file is there, so it is estimated on the
//! safe side; once the file is there, [`plan`](super::plan) tells exactly.

use oprel_engine::fit::{Bytes, margin};
use oprel_telemetry::Host;
use serde::Serialize;

use super::recommend::{FEW_BITS, MANY_BITS, PACE};
use super::{Candidate, Fits};

/// Program, vocabulary and activations of most models.
const BESIDE: u64 = 400 << 20;
/// Keys and values of 4096 tokens take at most this part of a file of usual bits.
const STATE_PART: u64 = 8;
/// Bits of such a file.
const USUAL_BITS: f64 = 4.8;
/// A token reads weights at about this part of the rate of memory.
const STREAM: f64 = 0.85;

/// A file that is offered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Offer {
    /// Its file type: `Q4_K_M`.
    pub quant: String,
    /// Its bytes.
    pub bytes: u64,
    /// About what it needs with 4096 tokens.
    pub needed_bytes: u64,
    /// Whether that fits.
    pub fits: Fits,
    /// About how many tokens it makes in a second, where memory was measured.
    pub tok_s: Option<f64>,
}

/// What is offered, and which of it to fetch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Offered {
    /// All files, the largest first.
    pub offers: Vec<Offer>,
    /// The one to fetch, by its place in the list; `None` if none fits.
    pub best: Option<usize>,
    /// Why.
    pub reasons: Vec<String>,
}

/// Chooses among the files of one model. `most` is what it may need where a user set that, `read` how many bytes of
/// memory are read in a second where that was measured, and `active` which part of its weights a token reads.
pub fn offered(
    candidates: &[Candidate],
    (host, most): (&Host, Option<u64>),
    (read, active): (Option<f64>, f64),
) -> Offered {
    let free = host.memory.free_bytes;
    let mut offers: Vec<Offer> = candidates
        .iter()
        .map(|file| {
            let needed_bytes = needs(file);
            Offer {
                quant: file.quant.clone(),
                bytes: file.bytes,
                needed_bytes,
                fits: Fits::within(needed_bytes, free, most),
                tok_s: read.map(|read| STREAM * read / (active * file.bytes as f64).max(1.0)),
            }
        })
        .collect();
    offers.sort_by_key(|offer| std::cmp::Reverse(offer.bytes));
    let mut reasons = Vec::new();
    let best = best(&offers, room(free, most), &mut reasons);
    Offered { offers, best, reasons }
}

/// What may be used, some left for all else.
fn room(free: Option<u64>, most: Option<u64>) -> Option<u64> {
    free.map(|free| free.saturating_sub(margin(free))).into_iter().chain(most).min()
}

/// The largest that fits, unless a smaller one is as good or that one is slow.
fn best(offers: &[Offer], room: Option<u64>, reasons: &mut Vec<String>) -> Option<usize> {
    let fits = |offer: &Offer| room.is_none_or(|room| offer.needed_bytes <= room);
    let fitting: Vec<usize> = (0..offers.len()).filter(|&i| fits(&offers[i])).collect();
    let may = Bytes(room.unwrap_or(u64::MAX));
    let Some(&largest) = fitting.first() else {
        if let Some(smallest) = offers.last() {
            reasons.push(format!(
                "none fits: the smallest, {}, needs about {}, and {may} may be used",
                smallest.quant,
                Bytes(smallest.needed_bytes)
            ));
        }
        return None;
    };
    if let Some(beyond) = offers.iter().rev().find(|offer| !fits(offer)) {
        let needed = Bytes(beyond.needed_bytes);
        reasons.push(format!(
            "{} needs about {needed}, more than the {may} that may be used",
            beyond.quant
        ));
    }
    let bits = |i: usize| bits(&offers[i].quant).unwrap_or(USUAL_BITS);
    let plain = fitting.iter().copied().find(|&i| bits(i) <= MANY_BITS).unwrap_or(largest);
    if plain != largest {
        let less = Bytes(offers[largest].bytes - offers[plain].bytes);
        let (plain, largest) = (&offers[plain].quant, &offers[largest].quant);
        reasons.push(format!("{plain} answers as {largest} does, in {less} less"));
    }
    let keeps_pace = |i: usize| offers[i].tok_s.is_none_or(|pace| pace >= PACE);
    let smaller: Vec<usize> =
        fitting.iter().copied().filter(|&i| i >= plain && bits(i) >= FEW_BITS).collect();
    let fast = smaller.iter().copied().find(|&i| keeps_pace(i)).or(smaller.last().copied());
    let chosen = if keeps_pace(plain) { plain } else { fast.unwrap_or(plain) };
    let pace = |i: usize| offers[i].tok_s.unwrap_or(0.0);
    if chosen != plain {
        reasons.push(format!(
            "{} would make {:.1} tokens a second, {} makes {:.1}",
            offers[plain].quant,
            pace(plain),
            offers[chosen].quant,
            pace(chosen)
        ));
    }
    let needed = Bytes(offers[chosen].needed_bytes);
    let of = room.map_or(String::new(), |_| format!(" of {may}"));
    reasons.push(format!("{} is the best that fits: about {needed}{of}", offers[chosen].quant));
    Some(chosen)
}

/// About what a file needs with 4096 tokens; keys and values do not depend on its bits.
fn needs(file: &Candidate) -> u64 {
    let bits = bits(&file.quant).unwrap_or(USUAL_BITS);
    let usual = (file.bytes as f64 * USUAL_BITS / bits) as u64;
    file.bytes.saturating_add(BESIDE).saturating_add(usual / STATE_PART)
}

/// About how many bits a weight has, as the name of a file type tells.
fn bits(quant: &str) -> Option<f64> {
    let name = quant.to_ascii_uppercase();
    let name = name.strip_prefix("UD-").unwrap_or(&name);
    match name {
        "F32" | "FP32" => return Some(32.0),
        "F16" | "BF16" | "FP16" => return Some(16.0),
        "MXFP4" | "MXFP4_MOE" | "NVFP4" => return Some(4.5),
        _ => {}
    }
    let rest = ["IQ", "TQ", "Q"].iter().find_map(|begin| name.strip_prefix(begin))?;
    let digit = rest.chars().next()?.to_digit(10)?;
    Some(f64::from(digit) + 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn host(free: u64) -> Host {
        let mut host = Host::default();
        host.memory.free_bytes = Some(free);
        host
    }

    /// A model of eight billion weights.
    fn files() -> Vec<Candidate> {
        [("Q4_K_M", 49), ("F16", 161), ("Q8_0", 85), ("Q2_K", 32), ("Q6_K", 66)]
            .map(|(quant, n)| Candidate {
                name: quant.into(),
                quant: quant.into(),
                bytes: n * GB / 10,
            })
            .into()
    }

    fn taken(free: u64, most: Option<u64>, read: Option<f64>) -> (Option<String>, Vec<String>) {
        let offered = offered(&files(), (&host(free), most), (read, 1.0));
        assert!(offered.offers.is_sorted_by_key(|offer| std::cmp::Reverse(offer.bytes)));
        let best = offered.best.map(|best| offered.offers[best].quant.clone());
        (best, offered.reasons)
    }

    fn best(free: u64, most: Option<u64>, read: Option<f64>) -> Option<String> {
        taken(free, most, read).0
    }

    #[test]
    fn the_largest_that_fits_and_is_worth_its_size_is_taken() {
        assert_eq!(best(64 * GB, None, None).as_deref(), Some("Q8_0"));
        assert_eq!(best(10 * GB, None, None).as_deref(), Some("Q6_K"));
        assert_eq!(best(8 * GB, None, None).as_deref(), Some("Q4_K_M"));
        assert_eq!(best(64 * GB, Some(8 * GB), None).as_deref(), Some("Q6_K"));
        assert_eq!(best(5 * GB, None, None).as_deref(), Some("Q2_K"));
        let (none, reasons) = taken(2 * GB, None, None);
        assert_eq!(none, None);
        assert!(reasons[0].contains("the smallest, Q2_K, needs about"), "{reasons:?}");
    }

    #[test]
    fn a_slow_file_gives_way_to_a_smaller_one_of_four_bits_at_least() {
        assert_eq!(best(64 * GB, None, Some(100e9)).as_deref(), Some("Q8_0"));
        assert_eq!(best(64 * GB, None, Some(64e9)).as_deref(), Some("Q6_K"));
        let (slow, reasons) = taken(64 * GB, None, Some(20e9));
        assert_eq!(slow.as_deref(), Some("Q4_K_M"));
        assert!(reasons.iter().any(|r| r.contains("tokens a second")), "{reasons:?}");
    }

    #[test]
    fn names_tell_bits() {
        for (name, expected) in
            [("UD-Q4_K_XL", 4.5), ("iq3_xxs", 3.5), ("BF16", 16.0), ("MXFP4", 4.5), ("TQ1_0", 1.5)]
        {
            assert_eq!(bits(name), Some(expected), "{name}");
        }
        assert_eq!(bits("model"), None);
        assert!(offered(&[], (&host(GB), None), (None, 1.0)).best.is_none());
    }
}
