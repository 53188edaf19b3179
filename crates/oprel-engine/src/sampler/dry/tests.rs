use super::*;

/// A vocabulary of one letter a token, `a` to `z`, then some longer ones.
const LONGER: [&str; 6] = [":\n", "x:", "y**", "z*", "END", "nd"];

fn piece(id: u32) -> &'static [u8] {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
    match LETTERS.get(id as usize..=id as usize) {
        Some(letter) => letter,
        None => LONGER.get(id as usize - LETTERS.len()).map_or(&[][..], |t| t.as_bytes()),
    }
}

fn letters(text: &[u8]) -> Vec<u32> {
    text.iter().map(|b| u32::from(b.wrapping_sub(b'a'))).collect()
}

fn tokens(text: &str) -> Vec<u32> {
    letters(text.as_bytes())
}

fn breakers(texts: &[&str]) -> Breakers {
    let texts: Vec<String> = texts.iter().map(|t| t.to_string()).collect();
    Breakers::find(&texts, 32, piece, letters)
}

fn dry(allowed_length: u32, last_n: i32) -> Dry {
    Dry { multiplier: 1.0, allowed_length, last_n, ..Dry::default() }
}

/// What would be penalized: text and length.
fn found(dry: &Dry, breakers: &Breakers, text: &str) -> Vec<(char, u32)> {
    let mut repeats = Repeats::default();
    let mut longest = vec![0; 32];
    repeats.find(dry, breakers, &tokens(text), &mut longest);
    assert!(longest.iter().all(|&n| n == 0));
    let mut found: Vec<(char, u32)> =
        repeats.found.iter().map(|&(id, n)| (char::from(b'a' + id as u8), n)).collect();
    found.sort_unstable();
    found
}

#[test]
fn what_continues_a_repetition_is_found_with_its_length() {
    let none = Breakers::default();
    assert_eq!(found(&dry(1, -1), &none, "abccbcyabc"), [('b', 1), ('c', 3), ('y', 2)]);
    assert_eq!(found(&dry(2, -1), &none, "abccbcyabc"), [('c', 3), ('y', 2)]);
    assert_eq!(found(&dry(3, -1), &none, "abccbcyabc"), [('c', 3)]);
    assert_eq!(found(&dry(4, -1), &none, "abccbcyabc"), []);
    assert_eq!(found(&dry(1, -1), &none, "aaaaa"), [('a', 4)]);
    assert_eq!(found(&dry(0, -1), &none, "abc"), [('b', 0), ('c', 0)]);
    assert_eq!(found(&dry(1, -1), &none, ""), []);
}

#[test]
fn only_the_window_is_searched() {
    let none = Breakers::default();
    assert_eq!(found(&dry(1, 6), &none, "abccbcyabc"), [('y', 2)]);
    assert_eq!(found(&dry(1, 0), &none, "abccbcyabc"), []);
}

#[test]
fn no_repetition_reaches_over_a_breaker_and_breakers_are_not_penalized() {
    let none = Breakers::default();
    assert_eq!(found(&dry(1, -1), &none, "abcxabc"), [('x', 3)]);
    assert_eq!(found(&dry(1, -1), &breakers(&["b"]), "abcxabc"), [('x', 1)]);
    assert_eq!(found(&dry(2, -1), &breakers(&["b"]), "abcxabc"), []);
    assert_eq!(found(&dry(1, -1), &breakers(&["x"]), "abcxabc"), []);
    // A breaker of several tokens: what follows its last counts.
    assert_eq!(found(&dry(1, -1), &breakers(&["ab"]), "abcxabc"), [('x', 1)]);
    assert_eq!(found(&dry(1, -1), &breakers(&["bd"]), "abcxabc"), [('x', 3)]);
}

#[test]
fn breakers_are_found_within_and_across_tokens() {
    let found = breakers(&[":", "**", "END"]);
    let whole: Vec<u32> = (0..32).filter(|&id| found.breaks(id)).collect();
    assert_eq!(whole, [26, 27, 28, 30]);
    assert_eq!(found.tails, [(29, letters(b"*"))]);
    let none = breakers(&[]);
    assert_eq!((none.since_last(&[1, 2, 3]), none.breaks(26)), (3, false));
    // A rest that is no text is not looked for.
    let found = Breakers::find(&["ab".into()], 32, piece, |_| Vec::new());
    assert_eq!(found.since_last(&tokens("cabcd")), 5);
}

#[test]
fn lengths_are_those_of_comparing_every_place() {
    let mut state = 1_u64;
    let mut next = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % n
    };
    let mut repeats = Repeats::default();
    for letters in [1, 2, 3, 26] {
        for n in [0, 1, 2, 7, 100, 400] {
            let window: Vec<u32> = (0..n).map(|_| next(letters) as u32).collect();
            repeats.match_ends(&window);
            for k in 1..window.len() {
                let before = window[..window.len() - k].iter().rev();
                let same = before.zip(window.iter().rev()).take_while(|(a, b)| a == b).count();
                assert_eq!(repeats.same[k] as usize, same);
            }
        }
    }
}

#[test]
fn a_penalty_grows_with_the_length_and_stays_a_number() {
    let mut repeats = Repeats::default();
    let mut longest = vec![0; 32];
    let how = Dry { multiplier: 0.8, ..dry(2, -1) };
    assert!(repeats.find(&how, &Breakers::default(), &tokens("abcdxabcd"), &mut longest));
    let mut logits = [1.0_f32; 32];
    repeats.penalize(&how, &mut logits[..]);
    assert!((logits[23] - (1.0 - 0.8 * 1.75 * 1.75)).abs() < 1e-6);
    assert!(logits.iter().enumerate().all(|(i, &x)| i == 23 || x == 1.0));
    let long = "ab".repeat(5000);
    assert!(repeats.find(&how, &Breakers::default(), &tokens(&long), &mut longest));
    repeats.penalize(&how, &mut logits[..]);
    assert_eq!(logits[0], f32::MIN);
}
