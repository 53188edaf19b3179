//! The native backend on the demo model: many callers, callers who go away, errors in between.

use oprel_api::{
    Answer, EmbedInput, EmbedRequest, EndReason, Event, Failure, Input, InputOverflow, Message,
    Request, Sampling,
};
use oprel_backend::{Error, LoadOptions, ModelSource, Native};

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
    let wide = EmbedRequest { dimensions: Some(1 << 20), ..EmbedRequest::new(["hi"]) };
    assert!(native.embed(&wide).unwrap_err().to_string().contains("dimensions"));
    let narrow = EmbedRequest { dimensions: Some(8), ..EmbedRequest::new(["hi", "ho"]) };
    assert!(native.embed(&narrow).unwrap().vectors.iter().all(|v| v.len() == 8));
}
