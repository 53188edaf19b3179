use super::*;

const PATH: &str = "config.yaml";

fn config(file: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(PATH);
    std::fs::write(&path, file).unwrap();
    Config::read(Some(&path), &|name| {
        variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_string())
    })
}

#[test]
fn the_environment_wins_over_the_file_and_ours_over_ollamas() {
    let file = "threads: 3\nkeep_alive: 1h\nhost: 1.2.3.4\n";
    let set =
        [("OPREL_KEEP_ALIVE", "10m"), ("OLLAMA_KEEP_ALIVE", "1s"), ("OLLAMA_HOST", " \"::1\" ")];
    let config = config(file, &set).unwrap();
    assert_eq!(config.number::<usize>("threads"), Some(3));
    assert!(matches!(&config.get("threads").unwrap().origin, Origin::File(_, 1)));
    assert_eq!(config.text("keep_alive"), Some("10m"));
    assert_eq!(config.text("host"), Some("::1"));
    let host = config.get("host").unwrap();
    assert_eq!(host.origin, Origin::Variable("OLLAMA_HOST".into()));
    assert_eq!(config.get("isa"), None);
    assert_eq!(config.number::<u8>("threads"), Some(3));
}

#[test]
fn an_empty_variable_sets_nothing_and_only_some_are_ollamas() {
    let set = [("OPREL_THREADS", ""), ("OLLAMA_THREADS", "9")];
    assert_eq!(config("threads: 2", &set).unwrap().number::<usize>("threads"), Some(2));
}

#[test]
fn keys_of_the_first_oprel_work() {
    let file = "cache_dir: /m\nbinary_dir: ~/b\ndefault_max_memory_mb: 8192\nctx_size: 2048\n\
                batch_size: 256\nn_threads: 4\nn_gpu_layers: -1\n";
    let config = config(file, &[]).unwrap();
    assert_eq!(config.path("models"), Some("/m".into()));
    assert_eq!(config.path("backends"), Some(user_home().unwrap().join("b")));
    assert_eq!(config.number::<u64>("max_memory_mb"), Some(8192));
    assert_eq!(config.number::<u32>("context_length"), Some(2048));
    assert_eq!(config.number::<u32>("batch_size"), Some(256));
    assert_eq!(config.number::<usize>("threads"), Some(4));
    assert_eq!(config.number::<i32>("gpu_layers"), Some(-1));
    assert!(config.warnings().is_empty());
}

#[test]
fn an_unknown_key_is_told_with_the_nearest() {
    let config = config("# a comment\ntreads: 4\nzzzzzzzz: 1\n", &[]).unwrap();
    let [near, none] = config.warnings() else { panic!("{:?}", config.warnings()) };
    assert!(near.contains(":2: there is no setting 'treads'; is 'threads' meant?"), "{near}");
    assert!(none.ends_with("there is no setting 'zzzzzzzz'"), "{none}");
}

#[test]
fn lists_and_switches_are_read() {
    let file = "origins: [https://a, 'https://b']\nnoprune: yes\nnohistory: off\n";
    let config = config(file, &[]).unwrap();
    assert_eq!(config.list("origins").collect::<Vec<_>>(), ["https://a", "https://b"]);
    assert!(config.is_on("noprune") && !config.is_on("nohistory"));
}

#[test]
fn a_users_own_names_are_read() {
    let file = "aliases:\n  mine: hf.co/user/repo:Q4_K_M\n  big: {model: /m/big.gguf}\n";
    let config = config(file, &[]).unwrap();
    let pairs: Vec<_> = config.aliases().iter().map(|a| (&*a.name, &*a.model, a.line)).collect();
    assert_eq!(pairs, [("mine", "hf.co/user/repo:Q4_K_M", 2), ("big", "/m/big.gguf", 3)]);
}

#[test]
fn what_cannot_be_used_says_where_and_why() {
    let message = |file: &str, set: &[(&str, &str)]| config(file, set).unwrap_err().to_string();
    assert!(message("a: [", &[]).starts_with("line "));
    assert!(message("- a\n- b\n", &[]).contains("one in a line"));
    assert!(message("x", &[]).contains("one in a line"));
    assert!(message("threads: 1\nn_threads: 2\n", &[]).contains("set twice, first in line 1"));
    assert!(message("threads: {a: 1}", &[]).contains("'threads' must be a word"));
    let many = message("\nthreads: many", &[]);
    assert!(
        many.starts_with("'threads' is 'many' in ") && many.contains(":2; it must be"),
        "{many}"
    );
    let negative = message("", &[("OPREL_THREADS", "-1")]);
    assert_eq!(
        negative,
        "'threads' is '-1' in OPREL_THREADS; it must be a whole number, 0 or more"
    );
    let place = message("", &[("OLLAMA_HOST", "http://[::1")]);
    assert!(place.starts_with("'host' is 'http://[::1' in OLLAMA_HOST; it must be "), "{place}");
    assert!(place.contains("such as 127.0.0.1") && place.ends_with("(its '[' has no ']')"));
    assert!(message("host: me@box\n", &[]).contains("config.yaml:1; it must be"));
    assert!(message("aliases: [a]", &[]).contains("aliases are names"));
    assert!(message("aliases: {a: [b]}", &[]).contains("aliases are names"));
}

#[test]
fn a_port_that_is_none_is_told_and_the_usual_one_counts_as_in_ollama() {
    let config = config("", &[("OLLAMA_HOST", "http://box:high")]).unwrap();
    let net = Net { tls: false, host: "box".into(), port: 80 };
    assert_eq!(config.address("host"), Some(Address::Net(net)));
    let told =
        "OLLAMA_HOST is 'http://box:high': its port 'high' is no number up to 65535; 80 is used";
    assert_eq!(config.warnings(), [told]);
    assert_eq!(Config::default().address("host"), None);
}

#[test]
fn nothing_and_nonsense_do_no_harm() {
    for file in ["", "\n# only a comment\n", "---\n", "null", "~"] {
        assert_eq!(config(file, &[]), Ok(Config::default()), "{file:?}");
    }
    assert_eq!(Config::read(None, &|_| None), Ok(Config::default()));
    let absent = Path::new("/no/such/folder/config.yaml");
    assert_eq!(Config::read(Some(absent), &|_| None), Ok(Config::default()));
    for file in
        ["*a", "&a [*a]", "a: &a {b: *a}", "? [a]\n: b", "\u{0}", "!!binary x", "a: b: c", "\t- x"]
    {
        let _ = config(file, &[]);
    }
    let bomb = (0..30).fold(String::from("a0: &a0 [x]\n"), |text, i| {
        text + &format!("a{}: &a{} [*a{i}, *a{i}]\n", i + 1, i + 1)
    });
    let _ = config(&bomb, &[]);
}

#[test]
fn every_name_stands_once() {
    let mut names: Vec<&str> =
        SETTINGS.iter().flat_map(|s| [s.key].into_iter().chain(s.old.iter().copied())).collect();
    let n = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), n);
}

#[test]
fn a_home_that_is_no_folder_is_told_as_that() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "threads: 2").unwrap();
    for home in [file.clone(), file.join("below")] {
        let error = Config::read(Some(&home.join(PATH)), &|_| None).unwrap_err();
        assert_eq!(error, Error::NoFolder { path: file.clone() });
        assert!(error.hint().unwrap().contains("OPREL_HOME"));
    }
    // One that is not there yet sets nothing.
    let absent = folder.path().join("absent").join(PATH);
    assert_eq!(Config::read(Some(&absent), &|_| None), Ok(Config::default()));
}

#[test]
fn the_usual_port_is_written_as_it_is() {
    let host = named("host").unwrap();
    assert_eq!(Address::parse(host.default).unwrap().port(), Some(PORT));
}
