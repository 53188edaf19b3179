//! Facts and the ways to ask for them: reads the `facts-*.txt` files, makes questions.

use crate::grammar::{Words, capital, expand, lines};
use crate::random::Random;
use anyhow::{Context, Result, bail};
use std::collections::HashMap;

/// One fact: answers, what it is about, and phrases by kind.
pub struct Fact {
    pub name: String,
    pub about: String,
    pub answers: Vec<String>,
    weight: f64,
    phrases: Vec<(f64, Ask)>,
    /// Questions that follow another fact, by its name.
    pub follows: Vec<(String, String)>,
}

/// A phrase: a whole question, or words for the frames of a kind.
enum Ask {
    Whole(String),
    Framed(char, String),
}

/// Everything that can be asked.
pub struct Facts {
    pub all: Vec<Fact>,
    frames: HashMap<char, Vec<String>>,
    words: Words,
    total: f64,
}

impl Facts {
    pub fn read(files: &[&str], frames: &str, words: Words) -> Result<Self> {
        let mut all = Vec::new();
        for text in files {
            read_file(text, &mut all)?;
        }
        let names: Vec<&str> = all.iter().map(|f: &Fact| f.name.as_str()).collect();
        for fact in &all {
            if fact.answers.is_empty() || fact.phrases.is_empty() {
                bail!("fact {} has no answer or no question", fact.name);
            }
            if let Some((other, _)) = fact.follows.iter().find(|f| !names.contains(&f.0.as_str())) {
                bail!("fact {} follows {other}, which is no fact", fact.name);
            }
        }
        let total = all.iter().map(|f| f.weight).sum();
        Ok(Self { all, frames: read_frames(frames)?, words, total })
    }

    /// A fact, by weight.
    pub fn pick(&self, random: &mut Random) -> &Fact {
        let mut at = random.unit() * self.total;
        for fact in &self.all {
            at -= fact.weight;
            if at < 0. {
                return fact;
            }
        }
        &self.all[0]
    }

    /// A question for a fact, clean.
    pub fn question(&self, fact: &Fact, random: &mut Random) -> Result<String> {
        let total: f64 = fact.phrases.iter().map(|p| p.0).sum();
        let mut at = random.unit() * total;
        let found = fact.phrases.iter().find(|p| {
            at -= p.0;
            at < 0.
        });
        match &found.unwrap_or(&fact.phrases[0]).1 {
            Ask::Whole(q) => self.expand(q, random),
            Ask::Framed(kind, phrase) => self.framed(*kind, phrase, random),
        }
    }

    /// A question for `next` after one for `last`, if there is one.
    pub fn follow_up(&self, last: &Fact, random: &mut Random) -> Result<Option<(&Fact, String)>> {
        let all: Vec<(&Fact, &str)> = self
            .all
            .iter()
            .flat_map(|f| f.follows.iter().map(move |(of, q)| (f, of, q.as_str())))
            .filter(|(_, of, _)| **of == last.name)
            .map(|(f, _, q)| (f, q))
            .collect();
        if all.is_empty() {
            return Ok(None);
        }
        let (fact, question) = *random.pick(&all);
        Ok(Some((fact, self.expand(question, random)?)))
    }

    fn expand(&self, pattern: &str, random: &mut Random) -> Result<String> {
        Ok(self.clean(&expand(pattern, &self.words, random)?))
    }

    fn framed(&self, kind: char, phrase: &str, random: &mut Random) -> Result<String> {
        let frame = random.pick(&self.frames[&kind]).clone();
        let frame = expand(&frame, &self.words, random)?;
        let phrase = expand(phrase, &self.words, random)?;
        let (verb, phrase) = match (kind, phrase.split_once(' ')) {
            ('w', Some((verb, rest))) => (verb.to_owned(), rest.to_owned()),
            _ => (String::new(), phrase),
        };
        let put = |word: &str| match word.trim_end_matches(['.', '?', ',']) {
            "B" => word.replace('B', &verb),
            _ if word.contains('X') => word.replacen('X', &phrase, 1),
            _ => word.to_owned(),
        };
        Ok(self.clean(&frame.split(' ').map(put).collect::<Vec<_>>().join(" ")))
    }

    fn clean(&self, text: &str) -> String {
        let text = text.split(' ').filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ");
        text.replace(" ?", "?").replace(" .", ".").replace(".?", "?").replace("??", "?")
    }
}

fn read_file(text: &str, all: &mut Vec<Fact>) -> Result<()> {
    for line in lines(text) {
        if let Some(name) = line.strip_prefix("= ") {
            all.push(Fact {
                name: name.to_owned(),
                about: String::new(),
                answers: Vec::new(),
                weight: 1.,
                phrases: Vec::new(),
                follows: Vec::new(),
            });
            continue;
        }
        let fact = all.last_mut().context("a file of facts begins with `= name`")?;
        let (key, text) = line.split_once(": ").with_context(|| format!("no kind: {line}"))?;
        add_line(fact, key, text.to_owned())?;
    }
    Ok(())
}

fn add_line(fact: &mut Fact, key: &str, text: String) -> Result<()> {
    // A phrase weighs by how many different questions it makes.
    let variety = (text.matches('|').count() as f64 + 1.).ln();
    match key {
        "d" => fact.about = text,
        "a" => fact.answers.push(text),
        "x" => fact.weight = text.parse()?,
        "q" => fact.phrases.push((0.6 + variety * 0.7, Ask::Whole(text))),
        "v" => fact.phrases.push((3. + variety, Ask::Framed('v', text))),
        "n" => fact.phrases.push((1. + variety * 0.5, Ask::Framed('n', text))),
        "e" => fact.phrases.push((1.3 + variety * 0.5, Ask::Framed('e', text))),
        "o" => fact.phrases.push((7., Ask::Framed('o', text))),
        "c" => fact.phrases.push((5., Ask::Framed('c', text))),
        "p" => fact.phrases.push((2.5, Ask::Framed('p', text))),
        "w" => fact.phrases.push((3. + variety, Ask::Framed('w', text))),
        "s" => fact.phrases.push((2.5 + variety, Ask::Framed('s', text))),
        _ => {
            let of = key.strip_prefix("f(").and_then(|k| k.strip_suffix(')'));
            let of = of.with_context(|| format!("unknown kind {key}"))?;
            fact.follows.push((of.to_owned(), text));
        }
    }
    Ok(())
}

fn read_frames(text: &str) -> Result<HashMap<char, Vec<String>>> {
    let mut frames: HashMap<char, Vec<String>> = HashMap::new();
    let mut kind = 'v';
    for line in lines(text) {
        if let Some(head) = line.strip_prefix('@') {
            kind = head.chars().next().context("a frame has a kind")?;
        } else {
            frames.entry(kind).or_default().push(line.to_owned());
        }
    }
    Ok(frames)
}

/// The question as people type it: greetings, lower case, lost punctuation, slips of the finger.
pub fn typed(question: &str, random: &mut Random) -> String {
    const BEFORE: &[&str] = &[
        "Hi, ",
        "Hello, ",
        "Hey, ",
        "Hello! ",
        "Hi! ",
        "Please tell me: ",
        "Quick question: ",
        "Question: ",
        "Sorry, ",
        "One question: ",
        "OK, ",
        "So, ",
        "Well, ",
        "Tell me, ",
        "I'm new here. ",
        "I am a beginner. ",
        "One more thing: ",
        "Please, ",
        "And ",
        "But ",
        "Another question: ",
        "Excuse me, ",
        "I was wondering: ",
        "Now ",
        "Say, ",
        "Briefly: ",
        "In short: ",
        "Thanks. ",
        "Help: ",
        "Hmm, ",
        "By the way, ",
        "Just curious: ",
    ];
    const AFTER: &[&str] = &[
        " please",
        ", please",
        " thanks",
        ", thanks",
        " Thanks!",
        " Thank you.",
        " in oprel",
        " with oprel",
        " exactly",
        " again",
        " now",
        " then",
        " on Linux",
        " on a Mac",
        " on Windows",
        " here",
        " nowadays",
        " by default",
        " normally",
        " usually",
        " actually",
        " in general",
        " for oprel",
    ];
    let mut q = question.to_owned();
    if random.chance(0.7) {
        q = capital(&q);
    }
    if random.chance(0.12) {
        let (body, mark) = match q.chars().last() {
            Some(c @ ('?' | '.' | '!')) => (q[..q.len() - 1].to_owned(), c.to_string()),
            _ => (q.clone(), String::new()),
        };
        q = format!("{body}{}{mark}", random.pick(AFTER));
    }
    if random.chance(0.14) {
        let first = q.split(' ').next().unwrap_or_default();
        let keep = first == "I" || first.chars().skip(1).any(char::is_uppercase);
        let mut chars = q.chars();
        let low = match chars.next() {
            Some(c) if !keep => c.to_lowercase().collect::<String>() + chars.as_str(),
            _ => q.clone(),
        };
        q = format!("{}{low}", random.pick(BEFORE));
    }
    if random.chance(0.25) {
        q = q.to_lowercase();
    }
    if random.chance(0.2) {
        q = q.trim_end_matches(['?', '.', '!']).to_owned();
    }
    if random.chance(0.1) {
        q = q.replace('`', "");
    }
    if random.chance(0.12) {
        q = slip(&q, random);
    }
    if random.chance(0.05) {
        q = slip(&q, random);
    }
    q
}

/// One slip of the finger in a word of four letters or more.
fn slip(text: &str, random: &mut Random) -> String {
    let mut all: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let long: Vec<usize> = (0..all.len())
        .filter(|i| all[*i].len() > 3 && all[*i].chars().all(|c| c.is_ascii_alphabetic()))
        .collect();
    if long.is_empty() {
        return text.to_owned();
    }
    let word = &mut all[*random.pick(&long)];
    let mut chars: Vec<char> = word.chars().collect();
    let at = 1 + random.below(chars.len() - 2);
    match random.below(4) {
        0 => chars.swap(at, at + 1),
        1 => drop(chars.remove(at)),
        2 => chars.insert(at, chars[at]),
        _ => chars[at] = (b'a' + random.below(26) as u8) as char,
    }
    *word = chars.into_iter().collect();
    all.join(" ")
}
