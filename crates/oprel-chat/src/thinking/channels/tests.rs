use super::*;

/// Thinking and answer of a text that comes in pieces of so many characters.
fn split(prompt: &str, text: &str, size: usize) -> (String, String) {
    let mut channels = Channels::behind(prompt);
    let chars: Vec<char> = text.chars().collect();
    let mut said = Vec::new();
    for piece in chars.chunks(size) {
        channels.push(&piece.iter().collect::<String>(), &mut said);
    }
    channels.finish(&mut said);
    let (mut thinking, mut answer) = (String::new(), String::new());
    for piece in said {
        match piece {
            Said::Thinking(text) => thinking += &text,
            Said::Answer(text) => answer += &text,
        }
    }
    (thinking, answer)
}

fn check(prompt: &str, text: &str, thinking: &str, answer: &str) {
    for size in 1..=text.chars().count().max(1) {
        let split = split(prompt, text, size);
        assert_eq!(split, (thinking.into(), answer.into()), "{text:?} by {size}");
    }
}

const PROMPT: &str = "<|start|>user<|message|>Hi<|end|><|start|>assistant";

#[test]
fn channels_say_what_is_thinking_and_what_is_answer() {
    let text = "<|channel|>analysis<|message|>hm, a < b<|end|><|start|>assistant\
                <|channel|>final<|message|>Yes: é.<|return|>";
    check(PROMPT, text, "hm, a < b", "Yes: é.");
    let twice = "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis\
                 <|message|>b<|end|><|start|>assistant<|channel|>commentary<|message|>I look.\
                 <|end|><|start|>assistant<|channel|>final<|message|>Done";
    check(PROMPT, twice, "a\n\nb", "I look.\n\nDone");
}

#[test]
fn a_message_to_a_tool_goes_on_whichever_way_its_head_is_written() {
    let call = "<|start|>assistant to=functions.f<|channel|>commentary json<|message|>\
                {\"a\": 1}<|call|>";
    let body = "<|message|>{\"a\": 1}<|call|>";
    for head in [
        "<|channel|>commentary to=functions.f <|constrain|>json",
        " to=functions.f<|channel|>commentary json",
        "<|start|>assistant<|channel|>commentary to=functions.f",
        "<|channel|>analysis to=functions.f code",
    ] {
        check(PROMPT, &format!("{head}{body}"), "", call);
    }
}

#[test]
fn a_text_without_channels_is_an_answer() {
    check(PROMPT, "Hello <|", "", "Hello <|");
    check(PROMPT, "total", "", "total");
    check(PROMPT, "<|channel|>ana", "", "");
    check(PROMPT, "", "", "");
}

#[test]
fn a_message_that_the_prompt_left_open_goes_on() {
    let open = format!("{PROMPT}<|channel|>final<|message|>It is");
    check(&open, " so.<|return|>", "", " so.");
    let thinking = format!("{PROMPT}<|channel|>analysis<|message|>hm");
    check(&thinking, "m<|end|><|start|>assistant<|channel|>final<|message|>a", "m", "a");
}

#[test]
fn it_does_not_matter_how_messages_are_cut() {
    let parts =
        [MARKS, &["assistant", "analysis", "final", " to=f", "é", "a b", "<|", "\n"]].concat();
    let mut state = 1_u64;
    let mut next = |n: usize| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) as usize % n
    };
    for _ in 0..2000 {
        let text: String = (0..2 + next(12)).map(|_| parts[next(parts.len())]).collect();
        let whole = split(PROMPT, &text, text.len());
        for size in [1, 2, 5] {
            assert_eq!(split(PROMPT, &text, size), whole, "{text:?} by {size}");
        }
    }
}
