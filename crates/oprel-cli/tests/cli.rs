//! The binary as a user meets it: output, errors, exit codes. On the built-in model.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory of its own for each test, which is also the home of the command.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), text).expect("written");
        self.path(name).display().to_string()
    }

    fn oprel(&self, args: &[&str]) -> Output {
        self.oprel_with(args, "")
    }

    fn oprel_with(&self, args: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_oprel"))
            .args(args)
            .current_dir(&self.0)
            .env_clear()
            // No server of this machine answers for the program under test.
            .env("OPREL_HOST", "127.0.0.1:1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stdin = child.stdin.take().expect("piped");
        // A command that does not read its input may be gone already.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", err(output));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(&out(output)).expect("JSON")
}

/// It failed with this code, says so in these words, and did not panic.
fn fails(output: &Output, code: i32, words: &str) {
    let said = err(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(words), "{said}");
    assert!(said.starts_with("error: ") && !said.contains("panicked"), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn the_demo_answers() {
    let answer = Place::new().oprel(&["run", "demo", "How do I start the server?", "--seed", "1"]);
    assert!(out(&answer).contains("oprel serve"), "{}", out(&answer));
}

#[test]
fn the_same_seed_gives_the_same_story_and_another_seed_another_one() {
    let place = Place::new();
    let story = |seed: &str| {
        let args =
            ["run", "demo", "Tell me a story.", "--temperature", "1.2", "--seed", seed, "-n", "60"];
        out(&place.oprel(&args))
    };
    assert_eq!(story("7"), story("7"));
    assert_ne!(story("7"), story("8"));
}

#[test]
fn piped_text_is_the_prompt() {
    let place = Place::new();
    let args = ["run", "demo", "--temperature", "0", "-n", "20"];
    let piped = out(&place.oprel_with(&args, "What is oprel?\n"));
    let typed = ["run", "demo", "What is oprel?", "--temperature", "0", "-n", "20"];
    assert_eq!(piped, out(&place.oprel(&typed)));
}

#[test]
fn a_stop_text_ends_the_answer_and_is_not_part_of_it() {
    let place = Place::new();
    let args = ["run", "demo", "What is oprel?", "--temperature", "0"];
    let whole = out(&place.oprel(&args));
    let word = whole.split_whitespace().nth(3).expect("a few words");
    let cut = out(&place.oprel(&[&args[..], &["--stop", word]].concat()));
    let at = whole.find(word).expect("in it");
    assert_eq!(cut.trim_end(), whole[..at].trim_end());
}

#[test]
fn a_draft_changes_no_answer_and_must_have_the_same_vocabulary() {
    let place = Place::new();
    let run = |more: &[&str]| {
        let args = ["run", "demo", "What is oprel?", "--temperature", "0", "-n", "30"];
        place.oprel(&[&args[..], more].concat())
    };
    assert_eq!(out(&run(&["--draft", "demo"])), out(&run(&[])));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo/oprel-demo-q8_0.gguf");
    let mut file = std::fs::read(path).expect("committed");
    // One token of another name, as long as the old one.
    let at = file.windows(12).position(|w| w == b"<|im_start|>").expect("a token");
    file[at..at + 12].copy_from_slice(b"<|im_tsart|>");
    let other = place.file("other.gguf", &file);
    let refused = run(&["--draft", &other]);
    fails(&refused, 2, "is \"<|im_tsart|>\", that of the model \"<|im_start|>\"");
    fails(&run(&["--draft", "nowhere.gguf"]), 3, "no model file at 'nowhere.gguf'");
}

#[test]
fn a_measurement_with_a_draft_counts_what_was_proposed() {
    let args = ["bench", "demo", "--draft", "demo", "-p", "8", "-n", "8", "--json"];
    let measured = json(&Place::new().oprel(&args));
    let [drafted, accepted] = ["drafted_tokens", "accepted_tokens"].map(|key| &measured[key]);
    assert!(accepted.as_u64() <= drafted.as_u64() && drafted.is_u64(), "{measured}");
}

#[test]
fn thinking_has_a_bound() {
    let place = Place::new();
    let run = ["run", "demo", "What is oprel?", "--temperature", "0", "--think"];
    let thought = |most: &[&str]| {
        let said = out(&place.oprel(&[&run[..], most].concat()));
        let thought = said.strip_prefix("Thinking...\n").unwrap_or_default();
        thought.split_once("\n...done thinking.\n").map_or(0, |(text, _)| text.len())
    };
    let (free, short) = (thought(&[]), thought(&["--max-thinking", "3"]));
    assert!(short > 0 && short < free, "{short} {free}");
    assert_eq!(thought(&["--max-thinking", "0"]), 0);
    let raw = place.oprel(&["run", "demo", "x", "--raw", "--max-thinking", "3"]);
    fails(&raw, 2, "max_thinking_tokens cannot be combined with raw");
}

#[test]
fn what_cannot_rank_says_so() {
    let place = Place::new();
    fails(&place.oprel(&["rerank", "-m", "demo", "a", "b"]), 2, "no ranking head");
    fails(&place.oprel(&["rerank", "-m", "demo", "a"]), 2, "documents");
    fails(&place.oprel(&["rerank", "-m", "demo", "a", "b", "--top-n", "0"]), 2, "top_n");
}

#[test]
fn timing_goes_to_standard_error() {
    let args = ["run", "demo", "Hello", "-n", "4", "--verbose"];
    let answer = Place::new().oprel(&args);
    assert!(err(&answer).contains("eval rate:"), "{}", err(&answer));
    assert!(!out(&answer).contains("eval rate:"));
}

#[test]
fn a_missing_file_says_what_to_do() {
    let answer = Place::new().oprel(&["run", "nothing.gguf", "hi"]);
    fails(&answer, 3, "no model file at 'nothing.gguf'");
    assert!(err(&answer).contains("hint: "));
}

#[test]
fn a_damaged_file_is_refused() {
    let place = Place::new();
    for (name, bytes) in
        [("empty", &b""[..]), ("text", b"not a model"), ("cut", b"GGUF\x03\0\0\0\xff")]
    {
        let path = place.file(name, bytes);
        for command in ["show", "run"] {
            let mut args = vec![command, &path];
            args.extend((command == "run").then_some("hi"));
            fails(&place.oprel(&args), 5, name);
        }
    }
}

#[test]
fn every_sampling_method_answers_and_the_seed_decides() {
    let place = Place::new();
    let usual =
        ["run", "demo", "Tell me a story.", "-n", "40", "--seed", "7", "--temperature", "1.2"];
    for options in [
        &["--dynatemp-range", "0.5", "--dynatemp-exp", "1.5"][..],
        &["--top-k", "0", "--top-n-sigma", "1"],
        &["--typical", "0.5"],
        &["--xtc-probability", "1", "--xtc-threshold", "0.05"],
        &["--dry-multiplier", "2", "--dry-allowed-length", "1", "--dry-sequence-breaker", "none"],
        &["--mirostat", "1"],
        &["--mirostat", "2", "--mirostat-ent", "3", "--mirostat-lr", "0.2"],
        &["--logit-bias", "5-inf", "--logit-bias", "9+2"],
    ] {
        let said = |_| {
            let answer = place.oprel(&[&usual[..], options].concat());
            assert_eq!(answer.status.code(), Some(0), "{options:?}: {}", err(&answer));
            out(&answer)
        };
        assert!(!said(0).trim().is_empty(), "{options:?}");
        assert_eq!(said(1), said(2), "{options:?}");
    }
}

#[test]
fn wrong_options_are_refused_by_name() {
    let place = Place::new();
    for (option, value) in [
        ("--temperature", "nan"),
        ("--temperature", "-1"),
        ("--top-p", "1.5"),
        ("--min-p", "-0.1"),
        ("--repeat-penalty", "0"),
        ("--dynatemp-range", "-1"),
        ("--dynatemp-exponent", "nan"),
        ("--typical-p", "2"),
        ("--top-n-sigma", "inf"),
        ("--xtc-probability", "1.5"),
        ("--xtc-threshold", "-1"),
        ("--repeat-last-n", "-2"),
        ("--presence-penalty", "inf"),
        ("--frequency-penalty", "nan"),
        ("--dry-multiplier", "-1"),
        ("--dry-base", "0.5"),
        ("--dry-penalty-last-n", "-2"),
        ("--dry-sequence-breaker", ""),
        ("--mirostat", "3"),
        ("--mirostat-tau", "0"),
        ("--mirostat-eta", "-1"),
        ("--logit-bias", "7"),
        ("--ctx-size", "0"),
        ("--threads", "0"),
        ("--threads", "99999999"),
        ("--stop", ""),
    ] {
        let answer = place.oprel(&["run", "demo", "hi", option, value]);
        let name = option.trim_start_matches("--").replace('-', "_");
        let said = err(&answer).replace('-', "_");
        assert_eq!(answer.status.code(), Some(2), "{option} {value}: {said}");
        assert!(said.contains(&name), "{option} {value}: {said}");
    }
    fails(&place.oprel(&["run", "demo"]), 2, "no prompt");
    fails(&place.oprel(&["run", "demo", &"word ".repeat(3000)]), 2, "the context holds");
}

#[test]
fn numbers_that_no_machine_can_mean_are_refused_by_every_command() {
    let place = Place::new();
    std::fs::write(place.path("text.txt"), "word ".repeat(200)).unwrap();
    for args in [
        "plan demo --threads 99999999",
        "imatrix demo -f text.txt -o x.gguf --threads 99999999 -c 64",
        "perplexity demo -f text.txt --threads 99999999 -c 64",
        "bench demo --threads 99999999",
        "bench demo --parallel 4294967295",
    ] {
        let answer = place.oprel(&args.split(' ').collect::<Vec<_>>());
        assert_eq!(answer.status.code(), Some(2), "{args}: {}", err(&answer));
        assert!(err(&answer).contains("must be from 1 to"), "{args}: {}", err(&answer));
    }
}

#[test]
fn a_negative_number_is_refused_as_the_value_of_its_option() {
    let place = Place::new();
    for option in ["--seed", "--num-predict", "--top-k", "--ctx-size", "--threads"] {
        let said = err(&place.oprel(&["run", "demo", "hi", option, "-1"]));
        assert!(said.contains(&format!("invalid value '-1' for '{option}")), "{said}");
    }
}

#[test]
fn a_measurement_that_does_not_fit_is_refused() {
    let place = Place::new();
    for counts in [
        ["-p", "8", "-n", "4294967295", "-d", "0"],
        ["-p", "64", "-n", "4", "-d", "0"],
        ["-p", "8", "-n", "4", "-d", "4294967295"],
    ] {
        let args = [&["bench", "demo", "-c", "64"][..], &counts].concat();
        fails(&place.oprel(&args), 2, "ctx-size is 64");
    }
}

#[cfg(unix)]
/// Address space ends somewhere among a thousand threads, or before them.
#[test]
#[cfg(target_os = "linux")]
fn threads_beyond_the_memory_are_an_error_that_says_what_to_do() {
    for limit_kib in [300_000, 900_000, 1_700_000] {
        let command = format!(
            "ulimit -v {limit_kib} && exec {} run demo --threads 1024 -n 1 hello",
            env!("CARGO_BIN_EXE_oprel")
        );
        let output = Command::new("sh").args(["-c", &command]).output().expect("a shell");
        fails(&output, 6, "of 1024 threads could be started");
        assert!(err(&output).contains("--threads"));
    }
}

#[test]
fn a_file_that_is_there_is_not_called_missing() {
    let place = Place::new();
    std::os::unix::fs::symlink("b", place.path("a")).expect("linked");
    std::os::unix::fs::symlink("a", place.path("b")).expect("linked");
    let answer = place.oprel(&["show", "a"]);
    fails(&answer, 5, "cannot open a");
    assert!(
        err(&answer).ends_with("hint: check the path and its permissions\n"),
        "{}",
        err(&answer)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn messages_that_cannot_be_written_change_no_exit_code() {
    let code = |args: &[&str]| {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("there");
        let mut command = Command::new(env!("CARGO_BIN_EXE_oprel"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(full);
        command.status().expect("it runs").code()
    };
    assert_eq!(code(&["run", "nothing.gguf", "hi"]), Some(3));
    assert_eq!(code(&["run", "demo", "hi", "-n", "1", "--verbose"]), Some(0));
}

#[test]
fn an_unknown_instruction_set_is_refused_by_both_executors() {
    for exec in ["cpu", "candle"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oprel"));
        command.args(["logits", "demo", "--tokens", "1", "--out", "/dev/null", "--exec", exec]);
        let answer = command.env("OPREL_ISA", "nonsense").stdin(Stdio::null()).output();
        fails(&answer.expect("it runs"), 2, "OPREL_ISA is nonsense");
    }
}

#[test]
fn tokens_are_printed_as_a_list_of_ids() {
    let place = Place::new();
    let ids = json(&place.oprel(&["tokenize", "demo", "--text", "Hello oprel", "--json"]));
    assert!(ids.as_array().is_some_and(|a| a.len() > 1 && a.iter().all(|id| id.is_u64())), "{ids}");
    let piped = place.oprel_with(&["tokenize", "demo"], "Hello oprel");
    let words: Vec<String> = out(&piped).split_whitespace().map(str::to_string).collect();
    assert_eq!(serde_json::json!(ids).to_string(), format!("[{}]", words.join(",")));
    let marked = |flags: &[&str]| {
        let args = [&["tokenize", "demo", "--text", "<|im_end|>", "--json"], flags].concat();
        json(&place.oprel(&args)).as_array().map_or(0, Vec::len)
    };
    assert_eq!(marked(&[]), 1);
    assert!(marked(&["--no-special"]) > 1);
    assert_eq!(marked(&["--no-special", "--parse-special"]), 1);
}

#[test]
fn show_has_the_shape_of_the_api() {
    let shown = json(&Place::new().oprel(&["show", "demo", "--json"]));
    assert_eq!(shown["details"]["family"], "llama");
    assert_eq!(shown["details"]["quantization_level"], "Q8_0");
    assert_eq!(shown["model_info"]["general.architecture"], "llama");
    assert!(shown["model_info"]["llama.context_length"].as_u64() >= Some(1024));
    assert!(
        shown["capabilities"].as_array().is_some_and(|c| c.contains(&"tools".into())),
        "{shown}"
    );
    assert!(shown["template"].as_str().is_some_and(|t| t.contains("messages")));
}

#[test]
fn templates_are_rendered_alone() {
    let place = Place::new();
    let messages = place.file("m.json", r#"[{"role": "user", "content": "Hi"}]"#);
    let template = place.file(
        "t.jinja",
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}\
         {% if add_generation_prompt %}[assistant]{% endif %}{{ mood | default('') }}",
    );
    let base = ["render", "--template", &template, "--messages", &messages, "--bos", "<s>"];
    assert_eq!(out(&place.oprel(&base)), "<s>[user] Hi\n[assistant]");
    let more = ["--no-generation-prompt", "--kwargs", r#"{"mood": "!"}"#];
    assert_eq!(out(&place.oprel(&[&base[..], &more].concat())), "<s>[user] Hi\n!");
    let of_demo = out(&place.oprel(&["render", "demo", "--messages", &messages]));
    assert!(of_demo.contains("Hi") && of_demo.ends_with("assistant\n"), "{of_demo}");
    let bos = place.oprel(&["render", "demo", "--messages", &messages, "--bos", "x"]);
    assert_eq!(bos.status.code(), Some(2), "{}", err(&bos));
    let missing = place.oprel(&["render", "--template", "none", "--messages", &messages]);
    assert_eq!(err(&missing).matches("os error 2").count(), 1, "{}", err(&missing));
    let wrong = place.file("w.json", "{}");
    fails(&place.oprel(&["render", "demo", "--messages", &wrong]), 2, "JSON list");
}

#[test]
fn logits_do_not_depend_on_a_split() {
    let place = Place::new();
    let logits = |name: &str, more: &[&str]| {
        let args = [&["logits", "demo", "--tokens", "5,6,7,8,9", "--out", name], more].concat();
        out(&place.oprel(&args));
        std::fs::read(place.path(name)).expect("written")
    };
    let whole = logits("a", &[]);
    assert_eq!(whole, logits("b", &["--split", "2"]));
    assert_eq!(whole, logits("c", &["--threads", "3"]));
    let file = safetensors::SafeTensors::deserialize(&whole).expect("safetensors");
    let tensor = file.tensor("logits").expect("named so");
    assert_eq!((tensor.shape()[0], tensor.dtype()), (5, safetensors::Dtype::F32));
    let beyond = place.oprel(&["logits", "demo", "--tokens", "999999", "--out", "d"]);
    fails(&beyond, 2, "not in the vocabulary");
}

#[test]
fn bench_prints_what_it_measured() {
    let args = ["bench", "demo", "-p", "32", "-n", "4", "-t", "1", "-r", "1", "--json"];
    let bench = json(&Place::new().oprel(&args));
    for key in ["prefill_tok_s", "decode_tok_s", "load_s", "raw_read_gb_s"] {
        assert!(bench[key].as_f64().is_some_and(|x| x > 0.0), "{key}: {bench}");
    }
    assert_eq!(bench["threads"], 1);
    assert!(bench["isa"].is_string());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_oprel"))
        .args(["run", "demo", "Tell me a story."])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(!err(&output).contains("panicked"), "{}", err(&output));
    assert!(output.status.success(), "{}", err(&output));
}

#[test]
fn a_path_is_a_path() {
    let place = Place::new();
    assert!(!Path::new("demo").exists());
    fails(&place.oprel(&["run", "./demo", "hi"]), 3, "no model file");
}

#[test]
fn templates_show_the_time_of_this_time_zone() {
    let place = Place::new();
    let messages = place.file("m.json", r#"[{"role": "user", "content": "Hi"}]"#);
    let template = place.file("t.jinja", "{{ strftime_now('%s') }}");
    let wall = |zone: &str| -> i64 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oprel"));
        command.args(["render", "--template", &template, "--messages", &messages]);
        let output = command.env("TZ", zone).output().expect("the binary starts");
        out(&output).parse().expect("seconds")
    };
    // POSIX counts zones westwards.
    let ahead = wall("XYZ-5:30") - wall("UTC0");
    assert!((ahead - 19_800).abs() < 60, "{ahead}");
}

/// A GGUF file of one key, the architecture.
fn of_architecture(name: &str) -> Vec<u8> {
    let text = |s: &str| [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat();
    let head = [&b"GGUF"[..], &3_u32.to_le_bytes(), &0_u64.to_le_bytes(), &1_u64.to_le_bytes()];
    let key = [text("general.architecture"), 8_u32.to_le_bytes().to_vec(), text(name)];
    [head.concat(), key.concat()].concat()
}

#[test]
fn a_file_cannot_command_the_terminal() {
    let place = Place::new();
    let file = place.file("m.gguf", of_architecture("\u{1b}]0;x\u{7}"));
    let shown = out(&place.oprel(&["show", &file, "--verbose"]));
    assert!(shown.contains("]0;x") && !shown.contains('\u{1b}'), "{shown:?}");
    let refused = place.oprel(&["run", &file, "hi"]);
    fails(&refused, 5, "]0;x");
    assert!(!err(&refused).contains('\u{1b}'), "{:?}", err(&refused));
}

/// The embedding model beside the repository, which CI has and a user's clone has not.
fn encoder() -> Option<String> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("OPREL_SHARED").map_or_else(beside, PathBuf::from);
    let file = folder.join("fixtures/all-minilm-l6-v2-q8_0.gguf");
    if file.exists() {
        return Some(file.display().to_string());
    }
    assert!(std::env::var_os("CI").is_none(), "CI needs {}", file.display());
    eprintln!("skipped: needs {}", file.display());
    None
}

#[test]
fn an_encoder_embeds_what_its_positions_hold_whatever_context_is_asked_for() {
    let Some(model) = encoder() else { return };
    let place = Place::new();
    let text = "word ".repeat(600);
    let vector = |more: &[&str]| {
        out(&place.oprel_with(&[&["embed", &model, "--dimensions", "4"][..], more].concat(), &text))
    };
    assert_eq!(vector(&[]), vector(&["--ctx-size", "100000"]));
}

#[test]
fn an_encoder_is_asked_for_no_text() {
    let Some(model) = encoder() else { return };
    let place = Place::new();
    for args in [
        &["run", &model, "hi"][..],
        &["bench", &model, "-p", "8", "-n", "1"],
        &["logits", &model, "--tokens", "1", "--out", "out"],
    ] {
        fails(&place.oprel(args), 2, "makes embeddings, not text");
    }
}
