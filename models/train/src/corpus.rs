//! The corpus: documents for training, made from the text files by a seed; and the held-out text.

use crate::dialog::{Dialog, Piece};
use crate::facts::{Fact, Facts, typed};
use crate::grammar;
use crate::random::Random;
use crate::stories::{Stories, request};
use crate::tools;
use anyhow::Result;

/// The text files, compiled in.
pub struct Texts {
    pub stories: &'static str,
    pub stories_once: &'static str,
    pub docs: &'static str,
    pub docs_once: &'static str,
}

const TEXTS: Texts = Texts {
    stories: include_str!("../corpus/stories.txt"),
    stories_once: include_str!("../corpus/stories-once.txt"),
    docs: include_str!("../corpus/docs.txt"),
    docs_once: include_str!("../corpus/docs-once.txt"),
};

const FACTS: &[&str] = &[
    include_str!("../corpus/facts-about.txt"),
    include_str!("../corpus/facts-commands.txt"),
    include_str!("../corpus/facts-options.txt"),
    include_str!("../corpus/facts-files.txt"),
    include_str!("../corpus/facts-privacy.txt"),
    include_str!("../corpus/facts-errors.txt"),
    include_str!("../corpus/chat.txt"),
];

/// Most bytes of a document, so that it fits the context whatever its tokens are.
const LONG: usize = 3_000;
/// Bytes of the held-out text.
const HELD_OUT: usize = 30_000;

pub struct Corpus {
    facts: Facts,
    stories: Stories,
}

/// One document: its pieces in order.
pub type Document = Vec<Piece>;

impl Corpus {
    pub fn read() -> Result<Self> {
        let words = grammar::words(include_str!("../corpus/words.txt"))?;
        Ok(Self {
            facts: Facts::read(FACTS, include_str!("../corpus/frames.txt"), words)?,
            stories: Stories::read(&TEXTS, false)?,
        })
    }

    /// One document.
    pub fn document(&self, random: &mut Random) -> Result<Document> {
        let mut dialog = Dialog::default();
        match random.below(1000) {
            0..=679 => self.single(&mut dialog, random)?,
            680..=759 => self.several(&mut dialog, 2 + random.below(3), random)?,
            760..=764 => self.several(&mut dialog, 8 + random.below(6), random)?,
            765..=799 => self.thinking(&mut dialog, random)?,
            800..=829 => self.with_tools(&mut dialog, random)?,
            830..=924 => self.story(&mut dialog, random)?,
            925..=969 => return self.prose(1 + random.below(2), random),
            _ => return self.prose(3 + random.below(3), random),
        }
        Ok(dialog.pieces)
    }

    fn ask(&self, fact: &Fact, random: &mut Random) -> Result<(String, String)> {
        let question = typed(&self.facts.question(fact, random)?, random);
        Ok((question, random.pick(&fact.answers).clone()))
    }

    fn single(&self, dialog: &mut Dialog, random: &mut Random) -> Result<()> {
        let fact = self.facts.pick(random);
        let (mut question, mut answer) = self.ask(fact, random)?;
        if random.chance(0.06) {
            let (second, more) = self.ask(self.facts.pick(random), random)?;
            let joint = *random.pick(&[" ", " And ", " Also, ", " Then: ", "\n"]);
            question = format!("{question}{joint}{second}");
            answer = format!("{answer} {more}");
        }
        dialog.system(system(random), &[]);
        dialog.user(&question);
        dialog.assistant(None, &answer);
        Ok(())
    }

    fn several(&self, dialog: &mut Dialog, turns: usize, random: &mut Random) -> Result<()> {
        dialog.system(system(random), &[]);
        let mut last = self.facts.pick(random);
        let (question, answer) = self.ask(last, random)?;
        dialog.user(&question);
        dialog.assistant(None, &answer);
        for _ in 1..turns {
            let follow =
                if random.chance(0.6) { self.facts.follow_up(last, random)? } else { None };
            let (fact, question) = match follow {
                Some((fact, question)) => (fact, typed(&question, random)),
                None => {
                    let fact = self.facts.pick(random);
                    (fact, self.ask(fact, random)?.0)
                }
            };
            dialog.user(&question);
            let answer: &String = random.pick(&fact.answers);
            dialog.assistant(None, answer);
            last = fact;
        }
        Ok(())
    }

    fn thinking(&self, dialog: &mut Dialog, random: &mut Random) -> Result<()> {
        dialog.system(system(random), &[]);
        if random.chance(0.12) {
            let story = self.stories.story(random)?;
            dialog.user(&typed(&request(&story, random)?, random));
            let thought =
                format!("The user wants a short story. I tell one about a {}.", story.hero);
            dialog.assistant(Some(&grammar::tidy(&thought)), &story.text);
            return Ok(());
        }
        let fact = self.facts.pick(random);
        let (question, answer) = self.ask(fact, random)?;
        dialog.user(&question);
        let thought = match fact.name.as_str() {
            "off-topic" => {
                "The question is about something that is not oprel. I say so.".to_owned()
            }
            _ => format!("The question is about {}. I know this and answer briefly.", fact.about),
        };
        dialog.assistant(Some(&thought), &answer);
        Ok(())
    }

    fn with_tools(&self, dialog: &mut Dialog, random: &mut Random) -> Result<()> {
        if random.chance(0.3) {
            let (question, answer) = self.ask(self.facts.pick(random), random)?;
            dialog.system(system(random), &tools::some(random));
            dialog.user(&question);
            dialog.assistant(None, &answer);
            return Ok(());
        }
        let call = tools::call(random)?;
        dialog.system(system(random), &call.tools);
        dialog.user(&call.question);
        dialog.call(&call.call);
        if random.chance(0.6) {
            dialog.tool(&call.result);
            dialog.assistant(None, &call.answer);
        }
        Ok(())
    }

    fn story(&self, dialog: &mut Dialog, random: &mut Random) -> Result<()> {
        dialog.system(system(random), &[]);
        if random.chance(0.1) {
            let (question, answer) = self.ask(self.facts.pick(random), random)?;
            dialog.user(&question);
            dialog.assistant(None, &answer);
        }
        let story = self.stories.story(random)?;
        dialog.user(&typed(&request(&story, random)?, random));
        dialog.assistant(None, &story.text);
        if random.chance(0.1) {
            let (question, answer) = self.ask(self.facts.pick(random), random)?;
            dialog.user(&question);
            dialog.assistant(None, &answer);
        }
        Ok(())
    }

    /// Texts behind one another without a chat template, as the held-out text has them.
    fn prose(&self, n: usize, random: &mut Random) -> Result<Document> {
        let mut out = Vec::new();
        for _ in 0..n {
            out.push(prose(&self.stories, random)?);
        }
        let mut text = out.join("\n\n");
        let cut = (0..=LONG.min(text.len())).rev().find(|i| text.is_char_boundary(*i));
        let whole = cut == Some(text.len());
        text.truncate(cut.unwrap_or(0));
        let end = if n == 1 && whole { "<|endoftext|>" } else { "" };
        Ok(vec![(format!("{text}{end}"), 1.)])
    }
}

fn prose(stories: &Stories, random: &mut Random) -> Result<String> {
    if random.chance(0.5) { Ok(stories.story(random)?.text) } else { stories.page(random) }
}

fn system(random: &mut Random) -> Option<&'static str> {
    const ALL: &[&str] = &[
        "You are a helpful assistant.",
        "You are the demo model of oprel.",
        "Answer briefly.",
        "You are a friendly assistant. Answer in one or two sentences.",
        "Be kind and short.",
        "You answer questions about oprel.",
        "Use simple words.",
    ];
    random.chance(0.08).then(|| *random.pick(ALL))
}

/// Documentation and stories that training does not see: texts written once that were set apart,
/// and others from another seed.
pub fn held_out(seed: u64) -> Result<String> {
    let stories = Stories::read(&TEXTS, true)?;
    let mut random = Random::new(seed ^ 0x4845_4C44);
    let mut out = stories.written_once();
    while out.iter().map(|t| t.len() + 2).sum::<usize>() < HELD_OUT {
        let text = prose(&stories, &mut random)?;
        if !out.contains(&text) {
            out.push(text);
        }
    }
    random.shuffle(&mut out);
    Ok(out.join("\n\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::{Environment, Value, context};

    #[test]
    fn every_fact_makes_questions_and_the_same_seed_the_same_documents() {
        let corpus = Corpus::read().unwrap();
        let mut random = Random::new(1);
        for fact in &corpus.facts.all {
            for _ in 0..30 {
                let question = corpus.facts.question(fact, &mut random).unwrap();
                assert!(!question.contains(['[', ']', '{', '}']), "{question}");
            }
        }
        let texts = || {
            let mut random = Random::new(7);
            let all = (0..300).map(|_| corpus.document(&mut random).unwrap());
            all.flatten().map(|p| p.0).collect::<String>()
        };
        assert_eq!(texts(), texts());
        assert!(!texts().contains('$'));
    }

    #[test]
    fn no_text_that_is_held_out_is_trained_on() {
        let corpus = Corpus::read().unwrap();
        let held_out = held_out(1).unwrap();
        for text in corpus.stories.written_once() {
            assert!(!held_out.contains(&text));
        }
    }

    #[test]
    fn documents_are_what_the_chat_template_prints() {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_methods);
        environment.add_filter("tojson", |v: Value| {
            crate::dialog::spaced(&serde_json::to_value(v).unwrap())
        });
        environment.add_template("chat", crate::export::TEMPLATE).unwrap();
        let template = environment.get_template("chat").unwrap();
        let tools = [serde_json::json!({"type": "function", "function": {"name": "a"}})];
        let call = serde_json::json!({"name": "a", "arguments": {"x": 1, "y": "z"}});
        let mut dialog = Dialog::default();
        dialog.system(Some("Be kind."), &tools);
        dialog.user("Hi");
        dialog.call(&call);
        dialog.tool("{}");
        dialog.assistant(None, "Done.");
        dialog.user("Why?");
        dialog.assistant(Some("Hm."), "So.");
        let text: String = dialog.pieces.iter().map(|p| p.0.as_str()).collect();
        let messages = serde_json::json!([
            {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": null, "tool_calls": [{"function": call}]},
            {"role": "tool", "content": "{}"}, {"role": "assistant", "content": "<think>\nx\n</think>\n\nDone."},
            {"role": "user", "content": "Why?"},
        ]);
        let prompt = template
            .render(context! { messages, tools, add_generation_prompt => true, enable_thinking => true })
            .unwrap();
        assert_eq!(text.get(..prompt.len()), Some(prompt.as_str()));
        assert_eq!(text.get(prompt.len()..), Some("Hm.\n</think>\n\nSo.<|im_end|>\n"));
    }

    /// The string methods of Python that the template uses.
    fn minijinja_methods(
        _: &minijinja::State<'_, '_>,
        value: &Value,
        method: &str,
        args: &[Value],
    ) -> Result<Value, minijinja::Error> {
        let (Some(text), Some(arg)) = (value.as_str(), args.first().and_then(Value::as_str)) else {
            return Err(minijinja::ErrorKind::UnknownMethod.into());
        };
        match method {
            "split" => Ok(text.split(arg).map(str::to_owned).collect::<Vec<_>>().into()),
            "lstrip" => Ok(Value::from(text.trim_start_matches(arg))),
            _ => Err(minijinja::ErrorKind::UnknownMethod.into()),
        }
    }
}
