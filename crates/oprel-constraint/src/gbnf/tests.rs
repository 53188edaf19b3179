use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use oprel_api::{Constraint, GrammarSyntax};

use super::*;
use crate::compile::demo_vocabulary;
use crate::{Error, Matcher, Vocabulary};

const JSON: &str = r#"
# objects and what is in them
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"#;

const ARITHMETIC: &str = r#"
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
"#;

const LIST: &str =
    "root ::= item+\nitem ::= \"- \" [^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+ \"\\n\"\n";

const CHESS: &str = r#"
root   ::= "1. " move " " move "\n" ([1-9] [0-9]? ". " move " " move "\n")+
move   ::= (pawn | nonpawn | castle) [+#]?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn   ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle ::= "O-O" "-O"?
"#;

const C: &str = r#"
root ::= (declaration)*
declaration ::= dataType identifier "(" parameter? ")" "{" statement* "}"
dataType ::= "int" ws | "float" ws | "char" ws
identifier ::= [a-zA-Z_] [a-zA-Z_0-9]*
parameter ::= dataType identifier
statement ::= ( dataType identifier ws "=" ws expression ";" ) |
  ( identifier ws "=" ws expression ";" ) |
  ( identifier ws "(" argList? ")" ";" ) |
  ( "return" ws expression ";" ) |
  ( "while" "(" condition ")" "{" statement* "}" ) |
  ( "if" "(" condition ")" "{" statement* "}" ("else" "{" statement* "}")? )
condition ::= expression relation expression
relation ::= ("<=" | "<" | "==" | "!=" | ">=" | ">")
expression ::= term (("+" | "-") term)*
term ::= factor(("*" | "/") factor)*
factor ::= identifier | number | "-" factor | "(" expression ")" | call
call ::= identifier "(" argList? ")"
argList ::= expression ("," ws expression)*
number ::= [0-9]+
ws ::= ([ \t\n]+)
"#;

/// Terminals that clash: a keyword in an identifier, a longer literal, text up to a mark.
const CLASHES: &str = r#"
root ::= pair ("; " pair)*
pair ::= "a" "b" "c" | "ab" nested | [a-z]+ "b" nested | "é"+ "éx" nested
nested ::= "(" pair? ")" | ws nested ws
ws ::= (" " ws)?
"#;

const ALL: [(&str, &str); 6] = [
    ("json", JSON),
    ("arithmetic", ARITHMETIC),
    ("list", LIST),
    ("chess", CHESS),
    ("c", C),
    ("clashes", CLASHES),
];

fn matcher(vocabulary: &Arc<Vocabulary>, text: &str) -> crate::Result<Matcher> {
    let grammar = Constraint::Grammar { syntax: GrammarSyntax::Gbnf, text: text.into() };
    Matcher::new(vocabulary, &grammar)
}

/// Numbers that look random and are the same each time (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

/// Reads grammars as they are written, character by character.
struct Reader<'a> {
    rules: &'a Rules,
    text: Vec<char>,
    known: HashMap<(usize, usize), HashSet<usize>>,
}

impl Reader<'_> {
    fn reads(rules: &Rules, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let mut reader = Reader { rules, known: HashMap::new(), text };
        let n = reader.text.len();
        // Left recursion needs what it is about to find, so all is looked up until nothing is new.
        loop {
            let before: usize = reader.known.values().map(HashSet::len).sum();
            let mut busy = HashSet::new();
            let ends = reader.rule(0, 0, &mut busy);
            if ends.contains(&n) {
                return true;
            }
            if before == reader.known.values().map(HashSet::len).sum::<usize>() {
                return false;
            }
        }
    }

    fn rule(&mut self, id: usize, at: usize, busy: &mut HashSet<(usize, usize)>) -> HashSet<usize> {
        if busy.insert((id, at)) {
            let rules = self.rules;
            let ends = self.node(&rules[id], at, busy);
            self.known.entry((id, at)).or_default().extend(ends);
        }
        self.known.get(&(id, at)).cloned().unwrap_or_default()
    }

    fn node(
        &mut self,
        node: &Node<usize>,
        at: usize,
        busy: &mut HashSet<(usize, usize)>,
    ) -> HashSet<usize> {
        match node {
            Node::Class(chars) => {
                let fits = |c: &&char| chars.meets(&Chars::one(**c as u32));
                self.text.get(at).filter(fits).map(|_| at + 1).into_iter().collect()
            }
            Node::Rule(id) => self.rule(*id, at, busy),
            Node::Alt(nodes) => nodes.iter().flat_map(|n| self.node(n, at, busy)).collect(),
            Node::Seq(nodes) => nodes.iter().fold(HashSet::from([at]), |ends, node| {
                ends.into_iter().flat_map(|at| self.node(node, at, busy)).collect()
            }),
            Node::Repeat(node, least, most) => {
                let mut now = HashSet::from([at]);
                let mut all = if *least == 0 { now.clone() } else { HashSet::new() };
                for times in 1..=most.unwrap_or(u32::MAX) {
                    now = now.into_iter().flat_map(|at| self.node(node, at, busy)).collect();
                    let before = all.len();
                    if times >= *least {
                        all.extend(&now);
                    }
                    if now.is_empty() || (times > *least && all.len() == before) {
                        break;
                    }
                }
                all
            }
        }
    }
}

/// A text of the grammar, or none where it goes too deep.
fn speak(
    rules: &Rules,
    node: &Node<usize>,
    random: &mut Random,
    depth: usize,
    out: &mut String,
) -> Option<()> {
    if depth > 40 || out.len() > 400 {
        return None;
    }
    match node {
        Node::Class(chars) => {
            let fits = |c: &char| chars.meets(&Chars::one(*c as u32));
            let common = (' '..='~').chain(['\n', '\t', 'é']).filter(fits).collect::<Vec<_>>();
            out.push(common[random.below(common.len())]);
        }
        Node::Rule(id) => speak(rules, &rules[*id], random, depth + 1, out)?,
        Node::Seq(nodes) => {
            nodes.iter().try_for_each(|node| speak(rules, node, random, depth, out))?;
        }
        Node::Alt(nodes) => {
            speak(rules, &nodes[random.below(nodes.len())], random, depth, out)?;
        }
        Node::Repeat(node, least, most) => {
            let room = most.unwrap_or(least + 3).min(least + 3) - least;
            let times = least + random.below(room as usize + 1) as u32;
            (0..times).try_for_each(|_| speak(rules, node, random, depth, out))?;
        }
    }
    Some(())
}

#[test]
fn what_is_written_is_of_the_grammar() {
    let vocabulary = demo_vocabulary();
    let mut random = Random(11);
    for (name, grammar) in ALL {
        let rules = parse::parse(grammar).unwrap();
        let matcher = matcher(&vocabulary, grammar).unwrap();
        let mut whole = 0;
        for _ in 0..30 {
            let mut matcher = matcher.fork();
            let mut text = Vec::new();
            for len in 0..120 {
                let mask = matcher.allowed().unwrap_or_else(|e| panic!("{name}: {e}"));
                let tokens: Vec<u32> = mask.tokens().collect();
                let end = tokens.iter().copied().find(|t| vocabulary.ends().contains(t));
                let closes = |t: &&u32| {
                    matches!(vocabulary.bytes(**t), b")" | b"(" | b"b" | b"\n" | b"}" | b"\"")
                };
                let closing = tokens.iter().find(closes).filter(|_| random.below(3) == 0);
                let any = closing.copied().unwrap_or(tokens[random.below(tokens.len())]);
                let token = end.filter(|_| random.below(40) < 4 + len).unwrap_or(any);
                matcher.accept(token).unwrap();
                text.extend_from_slice(vocabulary.bytes(token));
                if matcher.is_complete() {
                    break;
                }
            }
            if matcher.is_complete() {
                let text = String::from_utf8(text).unwrap();
                assert!(Reader::reads(&rules, &text), "{name}: {text:?}");
                whole += 1;
            }
        }
        assert!(whole >= 1, "{name}: only {whole} came to an end");
    }
}

#[test]
fn what_is_of_the_grammar_can_be_written() {
    let vocabulary = demo_vocabulary();
    let mut random = Random(5);
    for (name, grammar) in ALL {
        let rules = parse::parse(grammar).unwrap();
        let matcher = matcher(&vocabulary, grammar).unwrap();
        let mut tried = 0;
        for _ in 0..200 {
            let mut text = String::new();
            if speak(&rules, &rules[0], &mut random, 0, &mut text).is_none() {
                continue;
            }
            tried += 1;
            let mut matcher = matcher.fork();
            let mut read = Vec::new();
            for token in vocabulary.tokenize(&text) {
                let accepted = matcher.accept(token);
                let so_far = String::from_utf8_lossy(&read);
                assert_eq!(accepted, Ok(()), "{name}: {text:?} after {so_far:?}");
                read.extend_from_slice(vocabulary.bytes(token));
            }
            assert_eq!(matcher.may_end(), Ok(true), "{name}: {text:?}");
        }
        assert!(tried >= 20, "{name}: only {tried} texts");
    }
}

#[test]
fn what_is_not_of_the_grammar_is_refused() {
    let vocabulary = demo_vocabulary();
    for (grammar, texts) in [
        (JSON, &["[", "{\"a\":01}", "{\"a\": 1,}", "{a", "{} x"][..]),
        (CHESS, &["1. e4 e5\n", "1. e9", "2. e4"]),
        ("root ::= \"a\"{2,3}", &["a", "aaaa", "b"]),
    ] {
        let matcher = matcher(&vocabulary, grammar).unwrap();
        for text in texts {
            let mut matcher = matcher.fork();
            let refused = vocabulary.tokenize(text).into_iter().any(|t| matcher.accept(t).is_err());
            assert!(refused || !matcher.may_end().unwrap(), "{text:?}");
        }
    }
}

#[test]
fn what_is_regular_becomes_one_terminal() {
    let lark = to_lark(CHESS).unwrap();
    assert_eq!(lark.lines().count(), 3, "{lark}");
    let lark = to_lark("root ::= \"x\" root | tail\ntail ::= [0-9] tail?\n").unwrap();
    assert_eq!(lark.lines().count(), 3, "{lark}");
    // Two kinds of string, numbers, brackets with their space: not a terminal a character.
    let terminals = to_lark(JSON).unwrap().lines().filter(|l| l.starts_with('T')).count();
    assert!(terminals < 20, "{terminals}");
}

#[test]
fn mistakes_are_refused_with_their_line() {
    for (grammar, line, part) in [
        ("root ::= \"a\"\nb ::= c\n", Some(2), "no rule `c`"),
        ("a ::= \"a\"\n", None, "no rule `root`"),
        ("root ::= \"a\n\"", Some(1), "closing quote"),
        ("root ::= [a-\n", Some(1), "]"),
        ("root ::= (\"a\"\n\nb ::= \"c\"", Some(3), "`)` is expected"),
        ("root ::= \"a\" )", Some(1), "cannot stand"),
        ("\n\nroot = \"a\"", Some(3), "::="),
        ("root ::= \"\\q\"", Some(1), "no escape"),
        ("root ::= \"\\ud800\"", Some(1), "no character"),
        ("root ::= *", Some(1), "nothing stands before"),
        ("root ::= \"a\"{3,2}", Some(1), "less than"),
        ("root ::= \"a\"{99999999999}", Some(1), "too many"),
        ("root ::= [z-a]", Some(1), "backwards"),
        ("root ::= \"a\"\nroot ::= \"b\"", Some(2), "twice"),
        ("root ::= <[1000]>", Some(1), "tokens"),
    ] {
        match to_lark(grammar) {
            Err(Error::Grammar { line: at, reason }) => {
                assert_eq!(at, line, "{grammar}: {reason}");
                assert!(reason.contains(part), "{grammar}: {reason}");
            }
            other => panic!("{grammar}: {other:?}"),
        }
    }
}

#[test]
fn hostile_grammars_are_refused_in_time() {
    let deep = format!("root ::= {}\"a\"{}\n", "(".repeat(5000), ")".repeat(5000));
    assert!(matches!(to_lark(&deep), Err(Error::Grammar { .. })));
    let mut laughs = String::from("root ::= a29 root?\na0 ::= \"ha\"\n");
    (1..30).for_each(|i| laughs += &format!("a{i} ::= a{0} a{0}\n", i - 1));
    let _ = to_lark(&laughs);
    let forced = "root ::= ((\"a\"{1000}){1000}){1000}";
    assert!(matches!(to_lark(forced), Err(Error::TooLarge { .. })));
    let many: String = (0..5000).map(|i| format!("r{i} ::= \"x\"\n")).collect();
    assert!(matches!(to_lark(&many), Err(Error::TooLarge { .. })));
    let chain: String =
        (0..3000).map(|i| format!("r{i} ::= \"a\" r{} | root \"b\"\n", i + 1)).collect();
    let _ = to_lark(&format!("root ::= r0\n{chain}r3000 ::= \"c\"\n"));
    let wide: Vec<String> = (0..900).map(|i| format!("\"k{i}\" root")).collect();
    let _ = to_lark(&format!("root ::= \"x\" | {}\n", wide.join(" | ")));
}
