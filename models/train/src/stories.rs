//! Short stories: plots with choices, and some that were written once. Also pages about oprel,
//! which are made the same way.

use crate::grammar::{Words, expand, lines, tidy};
use crate::random::Random;
use anyhow::{Context, Result};

/// What a story is about, and its text.
pub struct Story {
    pub hero: String,
    pub name: Option<String>,
    pub thing: String,
    pub text: String,
}

/// A named list of patterns.
type Section = (String, Vec<String>);

pub struct Stories {
    binds: Vec<(String, Vec<String>)>,
    plots: Vec<Section>,
    once: Vec<Story>,
    pages: Vec<Section>,
    /// Paragraphs about oprel that are in the corpus as they stand.
    paragraphs: Vec<String>,
    words: Words,
}

/// Of the texts written once, every fifth is held out.
const HELD_OUT: usize = 5;

impl Stories {
    /// `held_out` takes the texts that training does not see instead of those that it does.
    pub fn read(dir: &crate::corpus::Texts, held_out: bool) -> Result<Self> {
        let kept = |i: usize| (i % HELD_OUT == HELD_OUT - 1) == held_out;
        let mut binds = Vec::new();
        let mut plots = Vec::new();
        for line in lines(dir.stories) {
            if let Some(bind) = line.strip_prefix('$').filter(|_| plots.is_empty()) {
                let (name, list) = bind.split_once(": ").context("a binding is `$x: a|b`")?;
                binds.push((name.to_owned(), list.split('|').map(str::to_owned).collect()));
            } else {
                add_to_section(line, "@plot ", &mut plots)?;
            }
        }
        let mut pages = Vec::new();
        for line in lines(dir.docs) {
            add_to_section(line, "@page ", &mut pages)?;
        }
        let once = blocks(dir.stories_once)
            .enumerate()
            .filter(|(i, _)| kept(*i))
            .map(|(_, block)| {
                let (head, text) = block.split_once('\n').context("a story has a first line")?;
                let (hero, thing) = head.split_once("; ").context("it names hero and thing")?;
                let (hero, thing) = (hero.to_owned(), thing.to_owned());
                Ok(Story { hero, name: None, thing, text: text.trim().to_owned() })
            })
            .collect::<Result<_>>()?;
        let paragraphs = blocks(dir.docs_once).enumerate();
        let paragraphs = paragraphs.filter(|(i, _)| kept(*i)).map(|(_, p)| p.to_owned());
        let paragraphs = paragraphs.collect();
        Ok(Self { binds, plots, once, pages, paragraphs, words: Words::new() })
    }

    /// A story; one in twelve is one of those written once.
    pub fn story(&self, random: &mut Random) -> Result<Story> {
        if random.chance(1. / 12.) {
            let s = random.pick(&self.once);
            let (hero, thing, text) = (s.hero.clone(), s.thing.clone(), s.text.clone());
            return Ok(Story { hero, name: None, thing, text });
        }
        let bound: Vec<(String, Vec<String>)> = self
            .binds
            .iter()
            .map(|(name, list)| {
                let fields = random.pick(list).split(',').map(str::to_owned).collect();
                (name.clone(), fields)
            })
            .collect();
        let (_, plot) = random.pick(&self.plots);
        let text = self.paragraph(&plot.join(" "), &bound, random)?;
        let field = |name: &str| {
            bound.iter().find(|b| b.0 == name).map(|b| b.1[0].clone()).unwrap_or_default()
        };
        Ok(Story { hero: field("hero"), name: Some(field("who")), thing: field("thing"), text })
    }

    fn paragraph(
        &self,
        pattern: &str,
        bound: &[(String, Vec<String>)],
        random: &mut Random,
    ) -> Result<String> {
        let mut text = expand(pattern, &self.words, random)?;
        for (name, fields) in bound {
            for (i, field) in fields.iter().enumerate().skip(1) {
                text = text.replace(&format!("${name}.{i}"), field);
            }
            text = text.replace(&format!("${name}"), &fields[0]);
        }
        Ok(tidy(&text))
    }

    /// A page about oprel: a title and some of its paragraphs, or a paragraph written once.
    pub fn page(&self, random: &mut Random) -> Result<String> {
        if random.chance(0.2) {
            return Ok(random.pick(&self.paragraphs).clone());
        }
        let (title, patterns) = random.pick(&self.pages);
        let mut out = vec![format!("# {title}")];
        for pattern in patterns {
            if random.chance(0.8) {
                out.push(self.paragraph(pattern, &[], random)?);
            }
        }
        Ok(out.join("\n\n"))
    }

    /// All texts that were written once.
    pub fn written_once(&self) -> Vec<String> {
        let stories = self.once.iter().map(|s| s.text.clone());
        stories.chain(self.paragraphs.iter().cloned()).collect()
    }
}

fn add_to_section(line: &str, mark: &str, all: &mut Vec<Section>) -> Result<()> {
    if let Some(title) = line.strip_prefix(mark) {
        all.push((title.to_owned(), Vec::new()));
    } else {
        all.last_mut().context("a section comes first")?.1.push(line.to_owned());
    }
    Ok(())
}

fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").map(str::trim).filter(|b| !b.is_empty())
}

/// A request for a story, fitting it.
pub fn request(story: &Story, random: &mut Random) -> Result<String> {
    const ASK: &str = "[Tell me|Tell|Write|Write me|Make up|Can you tell me|Could you tell me|\
        Please tell me|Please write|I want to hear|I would like to hear|Give me|Let me hear|\
        Invent|Can you write|Do you know|Read me|Compose|Tell us|I'd like|How about|May I have]";
    const KIND: &str = "[a|a|a|a short|a short|a little|a nice|a bedtime|a good|a small|an|\
        a children's|a simple|a funny|a tiny] [story|story|story|tale]";
    const BARE: &str = "[A story|Story time|Another story|One more story|story|A story, please|\
        Once upon a time|tell a story|Tell me something|bedtime story|Any story|I am bored|\
        Entertain me|Amuse me|My child wants a story|Something for bedtime|short story please]";
    let none = Words::new();
    if random.chance(0.1) {
        return expand(BARE, &none, random);
    }
    let about = match random.below(10) {
        0..=3 => format!(" about a {}", story.hero),
        4 if story.name.is_some() => {
            let name = story.name.as_deref().unwrap_or_default();
            format!(" about a {} [named|called] {name}", story.hero)
        }
        5 => format!(" about a {}", story.thing),
        6 => format!(" with a {} in it", story.hero),
        _ => String::new(),
    };
    let about = about.replace("about a a ", "about a ").replace("about a the ", "about the ");
    let text = expand(&format!("{ASK} {KIND}{about}[.|.|?|!||, please.]"), &none, random)?;
    Ok(tidy(&text.replace("an story", "a story").replace("an tale", "a tale")))
}
