use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::*;

fn parsed(text: &str) -> Modelfile {
    Modelfile::parse(text.as_bytes()).unwrap_or_else(|why| panic!("{text:?}: {why}"))
}

fn system(text: &str) -> String {
    let file = parsed(&format!("FROM x\nSYSTEM {text}"));
    match &file.commands[1] {
        Command::System(value) => value.clone(),
        other => panic!("{other:?}"),
    }
}

fn refusal(text: &str) -> String {
    Modelfile::parse(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn every_command_is_read() {
    let file = parsed(
        "# a comment\n\nfrom ./m.gguf\r\nFROM mmproj.gguf\nADAPTER a.gguf\nDRAFT d.gguf\nLICENSE MIT\n\
         LICENSE \"\"\"\nlong\n\"\"\"\nPARAMETER temperature 0.7\nPARAMETER stop \"<|x|>\"\nTEMPLATE {{ .Prompt }}\n\
         MESSAGE user Hi: there\nMESSAGE assistant \"\"\"Hello\nyou\"\"\"\nRENDERER r\nPARSER p\nREQUIRES 0.14.0\n  # end",
    );
    let text = |text: &str| text.to_owned();
    let parameter =
        |name: &str, value: &str| Command::Parameter { name: text(name), value: text(value) };
    let message =
        |role: &str, content: &str| Command::Message { role: text(role), content: text(content) };
    assert_eq!(
        file.commands,
        [
            Command::From(text("./m.gguf")),
            Command::From(text("mmproj.gguf")),
            Command::Adapter(text("a.gguf")),
            Command::Draft(text("d.gguf")),
            Command::License(text("MIT")),
            Command::License(text("\nlong\n")),
            parameter("temperature", "0.7"),
            parameter("stop", "<|x|>"),
            Command::Template(text("{{ .Prompt }}")),
            message("user", "Hi: there"),
            message("assistant", "Hello\nyou"),
            Command::Renderer(text("r")),
            Command::Parser(text("p")),
            Command::Requires(text("0.14.0")),
        ]
    );
}

#[test]
fn values_are_bare_or_between_quotes() {
    for (text, value) in [
        ("plain words ", "plain words"),
        ("it's \"quoted\" here", "it's \"quoted\" here"),
        ("\"one\"", "one"),
        ("\"two\nlines\"", "two\nlines"),
        ("\"a \"b\" c\n d\"", "a \"b\" c\n d"),
        ("\"\"\"three\"\"\"", "three"),
        ("\"\"\"\n  in\n\"\"\"", "\n  in\n"),
        ("\"\"\"\"quoted\" word\"\"\"", "\"quoted\" word"),
        ("\"\"", ""),
        ("'single'", "'single'"),
        ("a # b", "a # b"),
        ("tab\there", "tab\there"),
        ("bell\u{7}and\u{200b}joiner", "bellandjoiner"),
        ("\u{e9}\u{301}\u{4e2d}\u{1f600}", "\u{e9}\u{301}\u{4e2d}\u{1f600}"),
        ("no\u{a0}break", "nobreak"),
        ("\"crlf\r\nkept\"", "crlf\r\nkept"),
    ] {
        assert_eq!(system(text), value, "{text:?}");
    }
}

#[test]
fn what_is_wrong_is_told_in_ollamas_words() {
    let command = "command must be one of \"from\", \"license\", \"template\", \"system\", \"adapter\", \"draft\", \
         \"renderer\", \"parser\", \"parameter\", \"message\", or \"requires\"";
    assert_eq!(refusal(""), "no FROM line");
    assert_eq!(refusal("# only\nSYSTEM x"), "no FROM line");
    assert_eq!(refusal("FROM x\nBADCOMMAND y"), format!("(line 2): {command}"));
    assert_eq!(refusal("FROM x\r\n\r\nFROM1 y"), format!("(line 3): {command}"));
    assert_eq!(refusal("FROM x\nSYSTEM \"\"\"a\nb\"\"\"\nBAD x"), format!("(line 4): {command}"));
    assert_eq!(refusal("1"), format!("(line 1): {command}"));
    assert_eq!(refusal("FROM\nSYSTEM x"), format!("(line 1): {command}"));
    assert_eq!(
        refusal("FROM x\nMESSAGE badguy I am"),
        "(line 2): message role must be one of \"system\", \"user\", or \"assistant\""
    );
    assert_eq!(refusal("FROM x\nSYSTEM \"open"), "unexpected EOF");
    assert_eq!(refusal("FROM x\nSYSTEM \"\"\"open\""), "unexpected EOF");
    assert_eq!(refusal("FROM"), "unexpected EOF");
    assert_eq!(refusal("FROM x\nPARAMETER temp"), "unexpected EOF");
    assert_eq!(refusal("FROM x\nPARAMETER param1\n"), "unexpected EOF: param1");
    assert_eq!(refusal("FROM x\nPARAMETER te-mp 1"), "unexpected EOF: te");
    assert_eq!(refusal("FROM x\nMESSAGE us3r 1"), "unexpected EOF: us");
}

#[test]
fn both_encodings_are_read() {
    let text = "FROM bob\nSYSTEM \u{fc}\u{1f600}\n";
    let wide = |big: bool, mark: [u8; 2]| {
        let bytes =
            text.encode_utf16().flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() });
        mark.into_iter().chain(bytes).collect::<Vec<_>>()
    };
    let expected = parsed(text);
    let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
    for bytes in [marked, wide(true, [0xfe, 0xff]), wide(false, [0xff, 0xfe])] {
        assert_eq!(Modelfile::parse(&bytes).unwrap(), expected);
    }
    Modelfile::parse(b"\xff\xfe\x00").unwrap_err();
    let lossy = Modelfile::parse(b"FROM x\nSYSTEM a\xffb").unwrap();
    assert_eq!(lossy.commands[1], Command::System("a\u{fffd}b".into()));
}

#[test]
fn what_is_written_has_as_few_quotes_as_it_needs() {
    let line = |command: Command| command.to_string();
    assert_eq!(line(Command::From("m:tag".into())), "FROM m:tag");
    assert_eq!(line(Command::System("say \"hi\" now".into())), "SYSTEM say \"hi\" now");
    assert_eq!(line(Command::System(" led".into())), "SYSTEM \" led\"");
    assert_eq!(line(Command::System("two\nlines".into())), "SYSTEM \"two\nlines\"");
    assert_eq!(line(Command::System("\"q\"\nl".into())), "SYSTEM \"\"\"\"q\"\nl\"\"\"");
    let message = Command::Message { role: "user".into(), content: "hi".into() };
    assert_eq!(line(message), "MESSAGE user hi");
    let impossible = Modelfile { commands: vec![Command::System("a\"\"\"\nb".into())] };
    assert!(impossible.check_writable().is_err());
    let dropped = Modelfile { commands: vec![Command::System("bell\u{7}".into())] };
    assert!(dropped.check_writable().is_err());
}

#[test]
fn parameters_are_typed() {
    let mut options = Map::new();
    for (name, value) in [
        ("temperature", "0.7"),
        ("num_ctx", "4096"),
        ("seed", "-1"),
        ("use_mmap", "true"),
        ("stop", "a"),
        ("stop", "b"),
        ("top_p", "1"),
        ("num_ctx", "8192"),
        ("low_vram", "whatever"),
    ] {
        typed(&mut options, name, value).unwrap();
    }
    assert_eq!(
        Value::Object(options.clone()),
        json!({"temperature": 0.7, "num_ctx": 8192, "seed": -1, "use_mmap": true,
            "stop": ["a", "b"], "top_p": 1.0})
    );
    let mut refuse =
        |name: &str, value: &str| typed(&mut options, name, value).unwrap_err().to_string();
    assert_eq!(refuse("colour", "1"), "unknown parameter 'colour'");
    assert_eq!(refuse("num_ctx", "4k"), "invalid int value [4k]");
    assert_eq!(refuse("temperature", "hot"), "invalid float value [hot]");
    assert_eq!(refuse("temperature", "NaN"), "invalid float value [NaN]");
    assert_eq!(refuse("use_mmap", "yes"), "invalid bool value [yes]");
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~\n\t\"]{0,24}",
        "\"{0,4}[a\"\n ]{0,12}\"{0,4}",
        proptest::collection::vec(any::<char>(), 0..12)
            .prop_map(|chars| chars.into_iter().collect()),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let role = prop_oneof![Just("user"), Just("assistant"), Just("system")];
    prop_oneof![
        value().prop_map(Command::From),
        value().prop_map(Command::System),
        value().prop_map(Command::License),
        ("[a-z_0-9]{1,8}", value()).prop_map(|(name, value)| Command::Parameter { name, value }),
        (role, value()).prop_map(|(role, content)| Command::Message { role: role.into(), content }),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Modelfile::parse(&bytes);
    }

    #[test]
    fn what_was_read_is_written_and_read_as_the_same(text in "(FROM|SYSTEM|PARAMETER|MESSAGE user| |\"|\"\"\"|\n|a|\t|x y|#|stop){0,40}") {
        if let Ok(file) = Modelfile::parse(text.as_bytes()) {
            file.check_writable().unwrap();
            prop_assert_eq!(parsed(&file.to_string()), file);
        }
    }

    #[test]
    fn what_can_be_written_is_read_as_the_same(mut commands in proptest::collection::vec(command(), 0..6)) {
        commands.push(Command::From("m".into()));
        let file = Modelfile { commands };
        if file.check_writable().is_ok() {
            prop_assert_eq!(parsed(&file.to_string()), file);
        }
    }
}
