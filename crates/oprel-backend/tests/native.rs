//! The native backend on the demo model: many callers, callers who go away, errors in between.

use oprel_api::{
    Answer, Constraint, EmbedInput, EmbedRequest, EndReason, ErrorKind, Event, Failure,
    GrammarSyntax, Input, InputOverflow, Message, OutputOverflow, Request, Sampling, Think,
};
use oprel_backend::{Error, LoadOptions, ModelSource, Native, PromptCache};
use serde_json::json;

fn demo() -> Native {
    let options = LoadOptions { context: Some(256), threads: Some(1), ..LoadOptions::default() };
    Native::load(&ModelSource::Demo, &options).unwrap()
}

fn greedy(text: &str, n: u32) -> Request {
    let mut request = Request::prompt(text);
    request.sampling = Sampling::greedy();
    request.limits.max_tokens = Some(n);
    request.ignore_end = true;
    request
}

fn answer(native: &Native, request: &Request) -> Result<Answer, Failure> {
    Answer::fold(native.generate(request).map_err(Failure::from)?)
}

#[test]
fn usage_counts_every_token() {
    let native = demo();
    let first = answer(&native, &greedy("What is oprel?", 7)).unwrap();
    assert_eq!((first.usage.generated_tokens, first.end), (7, Some(EndReason::MaxTokens)));
    assert_eq!((first.tokens.len(), first.usage.cached_tokens), (7, 0));
    assert!(first.usage.prompt_tokens > 4 && first.usage.total_ns >= first.usage.decode_ns);
    let again = answer(&native, &greedy("What is oprel?", 7)).unwrap();
    // All but the last token of the prompt, whose logits are needed.
    assert_eq!(again.usage.cached_tokens, first.usage.prompt_tokens - 1);
    assert_eq!((again.text, again.usage.prompt_tokens), (first.text, first.usage.prompt_tokens));
    let none = answer(&native, &greedy("What is oprel?", 0)).unwrap();
    assert_eq!((none.usage.generated_tokens, none.text.as_str()), (0, ""));
}

#[test]
fn callers_of_several_threads_get_their_own_answers() {
    let native = demo();
    let questions = ["What is oprel?", "How do I start the server?", "Tell me a story."];
    let alone: Vec<String> =
        questions.iter().map(|q| answer(&native, &greedy(q, 24)).unwrap().text).collect();
    std::thread::scope(|scope| {
        for (question, expected) in questions.iter().zip(&alone).cycle().take(6) {
            let native = &native;
            scope.spawn(move || {
                let text = answer(native, &greedy(question, 24)).unwrap().text;
                assert_eq!(text, *expected, "{question}");
            });
        }
    });
}

#[test]
fn a_caller_who_goes_away_stops_only_his_own_answer() {
    let native = demo();
    let expected = answer(&native, &greedy("What is oprel?", 16)).unwrap().text;
    let mut gone = native.generate(&greedy("Tell me a story.", 200)).unwrap();
    let waiting = native.generate(&greedy("What is oprel?", 16)).unwrap();
    let never_heard = native.generate(&greedy("Tell me a story.", 200)).unwrap();
    assert!(gone.next().is_some());
    drop(gone);
    drop(never_heard);
    assert_eq!(Answer::fold(waiting).unwrap().text, expected);
}

#[test]
fn an_error_of_one_does_no_harm_to_the_next() {
    let native = demo();
    let expected = answer(&native, &greedy("What is oprel?", 8)).unwrap().text;
    let beyond = Request::new(Input::Tokens(vec![u32::MAX]));
    assert!(matches!(native.generate(&beyond), Err(Error::Engine(_))));
    let long = greedy(&"word ".repeat(500), 8);
    let error = native.generate(&long).map_err(Failure::from).unwrap_err();
    assert!(error.hint.is_some(), "{error:?}");
    assert!(native.logits(vec![], vec![]).is_err());
    assert!(native.logits(vec![u32::MAX], vec![]).is_err());
    assert_eq!(answer(&native, &greedy("What is oprel?", 8)).unwrap().text, expected);
}

#[test]
fn a_prompt_that_may_be_cut_fits() {
    let native = demo();
    let mut long: Vec<Message> = Vec::new();
    for i in 0..40 {
        long.push(Message::user(format!("What is the number after {i}?")));
        long.push(Message::assistant(format!("It is {}.", i + 1)));
    }
    long.push(Message::user("What is oprel?"));
    let mut request = Request::chat(long);
    request.limits.max_tokens = Some(16);
    request.limits.input_overflow = InputOverflow::DropOldest;
    let answer = answer(&native, &request).unwrap();
    let [truncation] = answer.truncated[..] else { panic!("{:?}", answer.truncated) };
    assert!(truncation.dropped_messages > 0 && truncation.dropped_messages % 2 == 0);
    assert_eq!(truncation.kept_tokens, answer.usage.prompt_tokens);
    assert!(answer.usage.prompt_tokens <= 256 - 16);
}

#[test]
fn unloading_in_the_middle_of_an_answer_ends_it_with_an_error() {
    let native = demo();
    let mut events = native.generate(&greedy("Tell me a story.", 200)).unwrap();
    assert!(events.next().is_some());
    drop(native);
    assert!(matches!(events.by_ref().last(), Some(Event::Error(_) | Event::End(_))));
    assert_eq!(events.next(), None);
}

#[test]
fn the_seed_decides_and_a_missing_one_is_drawn() {
    let native = demo();
    let story = |seed| {
        let mut request = greedy("Tell me a story.", 40);
        request.sampling =
            Sampling { temperature: 1.5, top_k: 0, top_p: 1.0, seed, ..Default::default() };
        answer(&native, &request).unwrap().text
    };
    assert_eq!(story(Some(1)), story(Some(1)));
    assert_ne!(story(None), story(None));
}

#[test]
fn a_long_text_is_cut_or_refused_before_it_becomes_a_vector() {
    let native = demo();
    let long = EmbedInput::Tokens((0..1000).map(|i| 1 + i % 100).collect());
    let mut request = EmbedRequest { input: vec![long], ..EmbedRequest::new([""; 0]) };
    let vectors = native.embed(&request).unwrap();
    assert_eq!((vectors.vectors.len(), vectors.usage.prompt_tokens), (1, 256));
    let length: f32 = vectors.vectors[0].iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-4, "{length}");
    request.truncate = false;
    assert!(native.embed(&request).unwrap_err().to_string().contains("1000 tokens"));
    // Shorter where that is wished for, but not to nothing.
    request.context = Some(16);
    assert!(native.embed(&request).unwrap_err().to_string().contains("16"));
    request.truncate = true;
    assert_eq!(native.embed(&request).unwrap().usage.prompt_tokens, 16);
    request.context = Some(0);
    let refused = native.embed(&request).unwrap_err().to_string();
    assert!(refused.contains("input after truncation exceeds"), "{refused}");
    let wide = EmbedRequest { dimensions: Some(1 << 20), ..EmbedRequest::new(["hi"]) };
    assert!(native.embed(&wide).unwrap_err().to_string().contains("dimensions"));
    let narrow = EmbedRequest { dimensions: Some(8), ..EmbedRequest::new(["hi", "ho"]) };
    assert!(native.embed(&narrow).unwrap().vectors.iter().all(|v| v.len() == 8));
}

fn constrained(text: &str, n: u32, constraint: Constraint) -> Request {
    let mut request = greedy(text, n);
    request.ignore_end = false;
    request.constraint = Some(constraint);
    request
}

#[test]
fn an_answer_keeps_its_constraint() {
    let native = demo();
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "size": {"enum": ["small", "large"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 99}
        },
        "required": ["name", "size", "count"],
        "additionalProperties": false
    });
    for logprobs in [None, Some(0)] {
        let constraint = Constraint::JsonSchema(schema.clone());
        let mut request = constrained("What is oprel?", 120, constraint);
        request.logprobs = logprobs;
        let made = answer(&native, &request).unwrap();
        let value: serde_json::Value = serde_json::from_str(&made.text).unwrap();
        assert_eq!(value.as_object().unwrap().len(), 3, "{}", made.text);
        assert!(value["count"].as_u64().unwrap() < 100, "{}", made.text);
        assert!(made.end.unwrap().is_natural());
        assert!(made.tokens.iter().all(|t| t.logprob.is_some() == logprobs.is_some()));
    }
    let choice = Constraint::Choice(vec!["yes".into(), "no".into()]);
    let made = answer(&native, &constrained("Is it?", 120, choice)).unwrap();
    assert!(["yes", "no"].contains(&made.text.as_str()), "{made:?}");
    let regex = Constraint::Regex("[0-9]{3}-[a-f]{2}".into());
    let made = answer(&native, &constrained("A number?", 120, regex)).unwrap();
    let bytes = made.text.as_bytes();
    assert!(bytes.len() == 6 && bytes[..3].iter().all(u8::is_ascii_digit) && bytes[3] == b'-');
    let gbnf = Constraint::Grammar {
        syntax: GrammarSyntax::Gbnf,
        text: "root ::= \"a\" [xyz]+ \"!\"\n".into(),
    };
    let mut request = constrained("A word?", 120, gbnf);
    request.sampling = Sampling { seed: Some(3), ..Sampling::default() };
    let made = answer(&native, &request).unwrap();
    assert!(made.text.starts_with('a'), "{}", made.text);
}

#[test]
fn a_wrong_constraint_is_refused_with_its_place() {
    let native = demo();
    let refused = |constraint: Constraint, part: &str| {
        let error = native.generate(&constrained("x", 9, constraint)).unwrap_err();
        let failure = Failure::from(error);
        assert_eq!(failure.kind, oprel_api::ErrorKind::Validation);
        assert!(failure.message.contains(part), "{}", failure.message);
    };
    refused(Constraint::Regex("a(".into()), "regular expression");
    refused(Constraint::JsonSchema(json!({"type": "thing"})), "JSON Schema");
    let text = "root ::= nothing".into();
    refused(Constraint::Grammar { syntax: GrammarSyntax::Gbnf, text }, "line 1");
}

#[test]
fn constrained_and_free_answers_run_together() {
    let native = demo();
    let schema = Constraint::JsonSchema(json!({"type": "array", "items": {"type": "boolean"},
        "minItems": 3, "maxItems": 3}));
    let requests = [constrained("A list?", 40, schema), greedy("What is oprel?", 24)];
    let alone: Vec<String> = requests.iter().map(|r| answer(&native, r).unwrap().text).collect();
    let both: Vec<_> = requests.iter().map(|r| native.generate(r).unwrap()).collect();
    for (events, expected) in both.into_iter().zip(alone) {
        assert_eq!(Answer::fold(events).unwrap().text, expected);
    }
}

#[test]
fn several_answers_read_the_prompt_once_and_differ_by_their_seeds() {
    let native = demo();
    let question =
        "Tell me a story of a little fish, a big garden, a silver bell and a house by the sea.";
    let mut request = greedy(&question.repeat(2), 16);
    request.sampling = Sampling { temperature: 1.5, seed: Some(7), ..Sampling::default() };
    request.n = 4;
    let answers: Vec<Answer> = native
        .generate_all(&request)
        .unwrap()
        .into_iter()
        .map(|e| Answer::fold(e).unwrap())
        .collect();
    let read = |a: &Answer| a.usage.prompt_tokens - a.usage.cached_tokens;
    assert!(read(&answers[0]) > 4 && answers[1..].iter().all(|a| read(a) == 1), "{answers:?}");
    request.n = 1;
    for (i, made) in answers.iter().enumerate() {
        request.sampling.seed = Some(7 + i as u64);
        assert_eq!(answer(&native, &request).unwrap().text, made.text);
    }
    assert!(answers.iter().any(|a| a.text != answers[0].text));
}

#[test]
fn an_answer_goes_on_where_it_was() {
    let native = demo();
    for temperature in [0.0, 1.0] {
        let mut request = greedy("What is oprel?", 24);
        request.sampling = Sampling { temperature, seed: Some(1), ..Sampling::default() };
        let whole = answer(&native, &request).unwrap();
        for n in [1, 9, 23] {
            request.resume = whole.tokens[..n].iter().map(|t| t.id).collect();
            let rest = answer(&native, &request).unwrap();
            let tokens = |of: &[oprel_api::Sampled]| of.iter().map(|t| t.id).collect::<Vec<_>>();
            assert_eq!(tokens(&rest.tokens), tokens(&whole.tokens[n..]));
            assert!(whole.text.ends_with(&rest.text), "{:?} {:?}", whole.text, rest.text);
            assert_eq!(rest.usage.generated_tokens, 24);
        }
    }
}

#[test]
fn a_full_context_is_shifted_where_that_is_wanted_and_said() {
    let native = demo();
    let mut request = greedy("Tell me a story.", 400);
    request.limits.output_overflow = OutputOverflow::Shift { keep: 4 };
    request.limits.context = Some(64);
    let mut cuts = 0;
    let mut end = None;
    for event in native.generate(&request).unwrap() {
        match event {
            Event::Truncated(cut) => {
                assert!(cut.during_answer && cut.dropped_tokens > 0);
                cuts += 1;
            }
            Event::End(reason) => end = Some(reason),
            _ => {}
        }
    }
    assert_eq!(end, Some(EndReason::MaxTokens));
    assert!(cuts >= 10, "{cuts}");
}

#[test]
fn prompts_outlive_the_model_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let cache = PromptCache { folder: folder.path().to_owned(), most_bytes: 1 << 30 };
    let options = LoadOptions {
        context: Some(256),
        threads: Some(1),
        prompt_cache: Some(cache),
        ..LoadOptions::default()
    };
    let load = |options: &LoadOptions| Native::load(&ModelSource::Demo, options).unwrap();
    let tokens: Vec<u32> = (0..200).map(|i| i * 7 % 300 + 10).collect();
    let mut request = greedy("", 8);
    request.input = Input::Tokens(tokens);
    let first = answer(&load(&options), &request).unwrap();
    assert_eq!(first.usage.cached_tokens, 0);
    let again = answer(&load(&options), &request).unwrap();
    assert_eq!((again.usage.cached_tokens, &again.text), (192, &first.text));
    // Other numbers of the same tokens are other pages.
    let other = LoadOptions { context: Some(300), ..options.clone() };
    assert_eq!(answer(&load(&other), &request).unwrap().usage.cached_tokens, 0);
    request.cache.salt = Some("tenant".into());
    assert_eq!(answer(&load(&options), &request).unwrap().usage.cached_tokens, 0);
}

/// A question that the demo model thinks about, with a bound on that.
fn thinking(most: Option<u32>) -> Request {
    let mut request = greedy("What is oprel?", 60);
    if let Input::Prompt(prompt) = &mut request.input {
        prompt.think = Some(Think::On);
    }
    request.ignore_end = false;
    request.limits.max_thinking_tokens = most;
    request
}

#[test]
fn thinking_is_bounded_and_the_answer_follows() {
    let native = demo();
    let free = answer(&native, &thinking(None)).unwrap();
    let n = free.usage.thinking_tokens;
    assert!(n > 4 && !free.text.is_empty(), "{free:?}");
    for most in [0, 1, 4, n, n + 9] {
        let bound = answer(&native, &thinking(Some(most))).unwrap();
        assert_eq!(bound.usage.thinking_tokens, most.min(n));
        assert!(!bound.text.is_empty() && free.thinking.starts_with(&bound.thinking), "{bound:?}");
        assert_eq!(bound.thinking.is_empty(), most == 0);
        if most >= n {
            assert_eq!((&bound.text, &bound.thinking), (&free.text, &free.thinking));
        }
    }
}

#[test]
fn bounded_thinking_ends_at_the_same_place_resumed_in_company_and_with_probabilities() {
    let native = demo();
    let ids = |made: &Answer| made.tokens.iter().map(|t| t.id).collect::<Vec<_>>();
    for temperature in [0.0, 1.2] {
        let mut request = thinking(Some(5));
        request.sampling = Sampling { temperature, seed: Some(3), ..Sampling::default() };
        let whole = ids(&answer(&native, &request).unwrap());
        for n in 0..whole.len().min(16) {
            request.resume = whole[..n].to_vec();
            assert_eq!(ids(&answer(&native, &request).unwrap()), whole[n..], "{n}");
        }
        request.resume.clear();
        let all = [thinking(None), request.clone(), thinking(Some(0)), request.clone()];
        let all = all.map(|r| native.generate(&r).unwrap());
        let all = all.map(|events| ids(&Answer::fold(events).unwrap()));
        assert_eq!((&all[1], &all[3]), (&whole, &whole));
        request.logprobs = Some(0);
        assert_eq!(ids(&answer(&native, &request).unwrap()), whole);
    }
}

#[test]
fn a_constraint_holds_after_bounded_thinking() {
    let native = demo();
    let mut request = thinking(Some(4));
    request.constraint = Some(Constraint::Choice(vec!["yes".into(), "no".into()]));
    let made = answer(&native, &request).unwrap();
    assert!(["yes", "no"].contains(&made.text.as_str()), "{made:?}");
    assert_eq!(made.usage.thinking_tokens, 4);
}

#[test]
fn nothing_is_thought_where_that_is_wished_also_under_a_constraint() {
    let native = demo();
    for seed in 0..4 {
        for constraint in [None, Some(Constraint::JsonSchema(json!({"enum": ["a", "b"]})))] {
            let mut request = greedy("Signs!", 24);
            request.sampling =
                Sampling { temperature: 1.5, seed: Some(seed), ..Sampling::default() };
            request.constraint = constraint;
            if let Input::Prompt(prompt) = &mut request.input {
                prompt.think = Some(Think::Off);
            }
            let said = answer(&native, &request).unwrap();
            assert_eq!((said.thinking.as_str(), said.usage.thinking_tokens), ("", 0), "{said:?}");
        }
    }
}

#[test]
fn what_cannot_fit_is_refused_with_the_sum_and_what_would_fit() {
    let options = LoadOptions { context: Some(1 << 30), ..LoadOptions::default() };
    let refused = Native::load(&ModelSource::Demo, &options).unwrap_err();
    let failure = Failure::from(refused);
    assert_eq!(failure.kind, ErrorKind::Memory, "{failure:?}");
    if cfg!(target_os = "linux") {
        assert!(failure.message.contains("state of 1073741824 tokens"), "{failure:?}");
        assert!(failure.hint.unwrap_or_default().contains("--ctx-size"));
    }
}
