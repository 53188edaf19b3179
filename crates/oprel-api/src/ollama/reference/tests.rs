use super::*;

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap_or_else(|_| panic!("{text}"))
}

#[test]
fn parts_that_are_not_said_are_filled_in() {
    let table = [
        ("m", "registry.ollama.ai/library/m:latest", "m:latest"),
        ("llama3.2:1b", "registry.ollama.ai/library/llama3.2:1b", "llama3.2:1b"),
        ("ns/m", "registry.ollama.ai/ns/m:latest", "ns/m:latest"),
        ("host/ns/m", "host/ns/m:latest", "host/ns/m:latest"),
        ("localhost:5000/ns/m:t", "localhost:5000/ns/m:t", "localhost:5000/ns/m:t"),
        ("localhost:5000/ns/m", "localhost:5000/ns/m:latest", "localhost:5000/ns/m:latest"),
        ("hf.co/user/repo:Q4_K_M", "hf.co/user/repo:Q4_K_M", "hf.co/user/repo:Q4_K_M"),
        ("host/library/m", "host/library/m:latest", "host/library/m:latest"),
        ("Registry.Ollama.AI/Library/M:T", "Registry.Ollama.AI/Library/M:T", "M:T"),
        ("_m-1.5:a.b-c_d", "registry.ollama.ai/library/_m-1.5:a.b-c_d", "_m-1.5:a.b-c_d"),
    ];
    for (text, full, short) in table {
        let name = name(text);
        assert_eq!((name.full().as_str(), name.to_string().as_str()), (full, short));
        assert_eq!(ModelName::parse(short).unwrap().key(), name.key());
    }
    let insecure = name("http://host:80/ns/m");
    assert_eq!((insecure.scheme.as_deref(), insecure.host.as_str()), (Some("http"), "host:80"));
}

#[test]
fn what_can_be_no_name_is_refused() {
    let long = "m".repeat(81);
    let bad = [
        ":",
        "m:",
        ":t",
        "ns/",
        "/m",
        "ns/m:",
        "a/b/c/d",
        "-m",
        ".m",
        "m m",
        "mé",
        "m:t:u",
        "n.s/m",
        "host//m",
        "h/n/",
        "m@sha256",
        "m:-t",
        "http://host/m",
        "ftp://h/n/m",
        "m\n",
        "m\0",
        "m?",
        "%2e%2e/m",
        "h/../m",
        "h/n/..",
        &long,
    ];
    for text in bad {
        let why = ModelName::parse(text).expect_err(text).message;
        assert_eq!(why, "invalid model name", "{text:?}");
    }
    assert!(ModelName::parse(&"m".repeat(80)).is_ok());
    let host = |n: usize| format!("{}/n/m", "h".repeat(n));
    assert!(ModelName::parse(&host(350)).is_ok() && ModelName::parse(&host(351)).is_err());
}

#[test]
fn keys_are_the_same_in_any_case() {
    assert_eq!(name("Llama3.2").key(), name("llama3.2:LATEST").key());
    assert_eq!(name("LIBRARY/m").key(), name("registry.ollama.ai/library/m").key());
    assert_ne!(name("m:a").key(), name("m:b").key());
    let typed = ModelRef::parse(" M ").unwrap();
    assert_eq!((typed.to_string(), typed.key()), ("M:latest".into(), name("m").key()));
}

#[test]
fn nothing_is_no_model() {
    for text in ["", " ", "\n"] {
        assert_eq!(ModelRef::parse(text).unwrap_err().message, "model is required");
    }
}

#[test]
fn the_place_is_no_part_of_the_name() {
    let table = [
        ("m:cloud", "m:latest", Place::Cloud),
        ("m:20b-cloud", "m:20b", Place::Cloud),
        ("m:20b-CLOUD", "m:20b", Place::Cloud),
        ("m:local", "m:latest", Place::Local),
        ("m:20b:local", "m:20b", Place::Local),
        ("ns/m:Cloud", "ns/m:latest", Place::Cloud),
        ("m-cloud", "m-cloud:latest", Place::Unsaid),
        ("m:cloudy", "m:cloudy", Place::Unsaid),
    ];
    for (text, short, place) in table {
        let name = name(text);
        assert_eq!((name.to_string().as_str(), name.place), (short, place), "{text}");
    }
    for text in ["m:local:cloud", "m:cloud:local", "m:20b-cloud:local"] {
        let why = ModelName::parse(text).unwrap_err().message;
        assert_eq!(why, "use either :local or :cloud, not both", "{text}");
    }
    assert!(ModelName::parse("m:-cloud").is_err());
}

#[test]
fn paths_and_the_demo_are_no_names() {
    let paths = [
        "/m",
        "./m",
        "../m",
        "~/m",
        "m.gguf",
        "M.GGUF",
        "dir/m.gguf",
        "a/b/c:d.gguf",
        "C:\\m",
        "c:/m",
        ".\\m",
        "..\\m",
        "\\\\server\\m",
        "m é.gguf",
        ".gguf",
    ];
    for text in paths {
        assert_eq!(ModelRef::parse(text), Ok(ModelRef::Path(text.into())), "{text}");
    }
    for text in ["demo", "Demo:latest", "library/demo"] {
        assert_eq!(ModelRef::parse(text), Ok(ModelRef::Demo), "{text}");
    }
    assert_eq!(ModelRef::Demo.to_string(), "demo:latest");
    for text in ["demo:1b", "ns/demo", "hf.co/u/r:m.gguf", "localhost:5000/u/r:m.gguf", "é"] {
        assert!(!matches!(ModelRef::parse(text), Ok(ModelRef::Demo | ModelRef::Path(_))));
    }
}
