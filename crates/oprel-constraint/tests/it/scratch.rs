use crate::play::*;
use oprel_api::*;
use oprel_constraint::*;
use serde_json::*;
use std::time::Instant;

#[test]
fn scratch() {
    let t = Instant::now();
    let demo = demo();
    println!("demo {:?} {:?}", demo, t.elapsed());
    for (name, v) in real(&["llama-bpe", "llama-spm", "gpt-2", "qwen2", "deepseek-llm", "gemma-4"])
    {
        println!("{name} {v:?}");
        let t = Instant::now();
        let c = Constraint::JsonSchema(
            json!({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},"tags":{"type":"array","items":{"enum":["a","bb","ccc"]}}},"required":["name","age","tags"],"additionalProperties":false}),
        );
        let mut m = Matcher::new(&v, &c).unwrap();
        println!("compile {:?}", t.elapsed());
        let mut r = Random(7);
        for _ in 0..4 {
            let mut m = m.fork();
            let w = walk(&mut m, &mut r, 200);
            println!(
                "{:?} {} forced {} sampled {}",
                String::from_utf8_lossy(&w.text),
                w.complete,
                w.n_forced,
                w.n_sampled
            );
        }
        let _ = m.allowed();
        for c in [
            Constraint::Choice(vec!["a".into(), "ab".into(), "".into(), "naïve \"x\\\n".into()]),
            Constraint::Regex("^a+?(b|c)*/\\d{3}$".into()),
            Constraint::JsonObject,
        ] {
            let m = Matcher::new(&v, &c);
            let m = match m {
                Ok(m) => m,
                Err(e) => {
                    println!("{c:?} {e}");
                    continue;
                }
            };
            for _ in 0..4 {
                let mut m = m.fork();
                let w = walk(&mut m, &mut r, 200);
                println!(
                    "{c:?} {:?} {} forced {} sampled {}",
                    String::from_utf8_lossy(&w.text),
                    w.complete,
                    w.n_forced,
                    w.n_sampled
                );
            }
        }
    }
}

#[test]
fn nasty() {
    let v = demo();
    let s = |v: Value| Constraint::JsonSchema(v);
    let g = |syntax, text: &str| Constraint::Grammar { syntax, text: text.into() };
    let big: Vec<String> = (0..9000).map(|i| format!("choice number {i}")).collect();
    let mut defs = Map::new();
    for i in 0..900 {
        defs.insert(format!("d{i}"), json!({"type":"object","properties":{"x":{"$ref":format!("#/$defs/d{}", i+1)}},"required":["x"],"additionalProperties":false}));
    }
    defs.insert("d900".into(), json!({"type":"null"}));
    let mut deep = json!({"type":"null"});
    for _ in 0..40 {
        deep = json!({"type":"array","items":deep});
    }
    let mut expo = Map::new();
    for i in 0..30 {
        expo.insert(format!("d{i}"), json!({"allOf":[{"$ref":format!("#/$defs/d{}", i+1)},{"$ref":format!("#/$defs/d{}", i+1)}]}));
    }
    expo.insert("d30".into(), json!({"type":"object","properties":{"a":{"type":"string"}}}));
    let chain: String = "start: r0\n".to_owned()
        + &(0..3900).map(|i| format!("r{i}: \"a\" r{}\n", i + 1)).collect::<String>()
        + "r3900: \"b\"\n";
    let tchain: String = "start: R0\n".to_owned()
        + &(0..3900).map(|i| format!("R{i}: \"a\" R{}\n", i + 1)).collect::<String>()
        + "R3900: \"b\"\n";
    let all = vec![
        ("regex (a{1000}){1000}", Constraint::Regex("(a{1000}){1000}".into())),
        ("regex (a{0,1000}){0,1000}", Constraint::Regex("(a{0,1000}){0,1000}".into())),
        (
            "regex ((a|b){1,100}c){100}{100}",
            Constraint::Regex("(((a|b){1,100}c){100}){100}".into()),
        ),
        ("regex (.*a){30}.{30}", Constraint::Regex("(.*a){30}.{30}".into())),
        ("regex .*a.{40}", Constraint::Regex(".*a.{40}".into())),
        ("regex long classes", Constraint::Regex("[ab]".repeat(60_000))),
        ("regex long optional classes", Constraint::Regex("[ab]?".repeat(3_000))),
        (
            "regex long alternation",
            Constraint::Regex((0..20000).map(|i| format!("x{i}y")).collect::<Vec<_>>().join("|")),
        ),
        ("regex unicode", Constraint::Regex(r"(\p{L}{1,500}\p{N}?){1,500}".into())),
        ("schema pattern", s(json!({"type":"string","pattern":"(a{1000}){1000}"}))),
        ("schema search pattern", s(json!({"type":"string","pattern":"a.{200}b"}))),
        ("choice", Constraint::Choice(big.clone())),
        ("enum", s(json!({"enum": big}))),
        (
            "minItems",
            s(json!({"type":"array","items":{"type":"integer"},"minItems":1000000000u64})),
        ),
        ("minItems 1e5", s(json!({"type":"array","items":{"type":"integer"},"minItems":100000}))),
        ("maxItems 1e5", s(json!({"type":"array","items":{"type":"integer"},"maxItems":100000}))),
        ("minLength 1e5", s(json!({"type":"string","minLength":100000}))),
        ("maxLength 1e5", s(json!({"type":"string","maxLength":100000}))),
        ("ref self", s(json!({"$ref":"#"}))),
        (
            "ref loop",
            s(
                json!({"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"},{"type":"null"}]},"b":{"allOf":[{"$ref":"#/$defs/a"}]}}}),
            ),
        ),
        (
            "never ends",
            s(
                json!({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"],"additionalProperties":false}),
            ),
        ),
        ("ref chain", s(json!({"$ref":"#/$defs/d0","$defs":defs}))),
        ("deep", s(deep)),
        ("expo allOf", s(json!({"$ref":"#/$defs/d0","$defs":expo}))),
        (
            "many props",
            s(
                json!({"type":"object","properties":(0..3000).map(|i| (format!("p{i}"), json!({"type":"string"}))).collect::<Map<_,_>>()}),
            ),
        ),
        (
            "left recursive",
            g(GrammarSyntax::Lark, "start: e\ne: e \"+\" e | e \"*\" e | /[0-9]/\n"),
        ),
        ("ambiguous", g(GrammarSyntax::Lark, "start: s\ns: s s s | s s | \"a\"\n")),
        ("nothing", g(GrammarSyntax::Lark, "start: s\ns: s \"a\"\n")),
        ("self", g(GrammarSyntax::Lark, "start: s\ns: s\n")),
        ("unknown rule", g(GrammarSyntax::Lark, "start: \"a\"\n  | \"b\" foo\n")),
        ("syntax", g(GrammarSyntax::Lark, "start: \"a\"\nfoo: (\"b\"\n")),
        ("rule chain", g(GrammarSyntax::Lark, &chain)),
        ("terminal chain", g(GrammarSyntax::Lark, &tchain)),
        ("repeat", g(GrammarSyntax::Lark, "start: ((\"a\" b){1000}){1000}\nb: \"b\" | \"c\"\n")),
        (
            "repeat max",
            g(GrammarSyntax::Lark, "start: (\"a\" b){0,2147483647}\nb: \"b\" | \"c\"\n"),
        ),
        ("empty", g(GrammarSyntax::Lark, "start:\n")),
    ];
    for (name, c) in all {
        let t = Instant::now();
        let m = Matcher::new(&v, &c);
        let dt = t.elapsed();
        match m {
            Err(e) => {
                let e = e.to_string();
                println!("{name}: {dt:?} ERR {}", &e[..e.len().min(150)])
            }
            Ok(mut m) => {
                let t = Instant::now();
                let a = m.forced().map(|f| f.len());
                let b = m.allowed().map(|m| m.count());
                let d2 = t.elapsed();
                let t = Instant::now();
                let mut r = Random(3);
                let mut n = 0;
                let mut last = String::new();
                for len in 0..60 {
                    match m.allowed() {
                        Ok(mask) => {
                            if mask.is_empty() {
                                break;
                            }
                            let mask = mask.clone();
                            let tok = pick(&v, &mask, &mut r, len);
                            if let Err(e) = m.accept(tok) {
                                last = format!("accept {e}");
                                break;
                            }
                            n += 1;
                            if m.is_complete() {
                                last = "complete".into();
                                break;
                            }
                        }
                        Err(e) => {
                            last = e.to_string();
                            break;
                        }
                    }
                }
                println!(
                    "{name}: {dt:?} ok forced {a:?} mask {b:?} in {d2:?}; {n} steps in {:?} {last}",
                    t.elapsed()
                );
            }
        }
    }
}
