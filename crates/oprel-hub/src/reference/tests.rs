use super::*;
use crate::{Access, Layer, LayerKind, Manifest};

fn source(text: &str) -> Source {
    Reference::parse(text).unwrap_or_else(|why| panic!("{text}: {why}")).source
}

fn hub_ref(repository: &str, pick: Option<&str>) -> Source {
    Source::Hub(HubRef { repository: repository.into(), pick: pick.map(str::to_owned) })
}

fn kept(text: &str) -> String {
    Reference::parse(text).unwrap().name.map(|name| name.to_string()).unwrap_or_default()
}

#[test]
fn every_form_is_told_from_the_others() {
    assert_eq!(source("demo"), Source::Demo);
    for path in ["./m.gguf", "/m/x", "~/m.gguf", "m.gguf", "folder/m.GGUF", "../x"] {
        assert_eq!(source(path), Source::File(path.into()));
        assert_eq!(Reference::parse(path).unwrap().name, None, "a file runs where it is");
    }
    for (text, name) in [
        ("llama3.2", "llama3.2:latest"),
        ("user/m:tag", "user/m:tag"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
        ("http://registry.local/a/b:c", "registry.local/a/b:c"),
    ] {
        assert!(matches!(source(text), Source::Registry(_)), "{text}");
        assert_eq!(kept(text), name);
    }
    for text in ["", "  ", "a b", "a/b/c/d", "hf.co/user", "xx://y//z"] {
        assert!(
            matches!(Reference::parse(text), Err(Error::Name { .. })) || text == "hf.co/user",
            "{text}"
        );
    }
}

#[test]
fn repositories_of_the_hub_are_written_in_many_ways() {
    let name = "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF";
    let repository = "bartowski/Llama-3.2-1B-Instruct-GGUF";
    for text in [
        name.to_owned(),
        name.replace("hf.co", "huggingface.co"),
        name.replace("hf.co", "HF.CO"),
        format!("https://{name}"),
        format!("https://huggingface.co/{repository}?library=x#readme"),
    ] {
        assert_eq!(source(&text), hub_ref(repository, None), "{text}");
        assert_eq!(kept(&text), format!("{name}:latest"), "{text}");
    }
    assert_eq!(source(&format!("{name}:Q4_K_M")), hub_ref(repository, Some("Q4_K_M")));
    assert_eq!(kept(&format!("{name}:Q4_K_M")), format!("{name}:Q4_K_M"));
    assert_eq!(source(&format!("{name}:latest")), hub_ref(repository, Some("latest")));
    let file = "Llama-3.2-1B-Instruct-Q8_0.gguf";
    let page = format!("https://huggingface.co/{repository}/blob/main/{file}");
    assert_eq!(source(&page), hub_ref(repository, Some(file)));
    assert_eq!(kept(&page), format!("{name}:Q8_0"));
    let raw = format!("https://huggingface.co/{repository}/resolve/main/a/{file}?download=true");
    assert_eq!(source(&raw), hub_ref(repository, Some(&format!("a/{file}"))));
}

#[test]
fn a_file_of_a_server_is_kept_under_the_servers_name() {
    let text = "https://models.example/files/My%20Model-Q4_0.gguf?key=1";
    assert_eq!(source(text), Source::Url(text.into()));
    assert_eq!(kept(text), "models.example/files/My-20Model-Q4_0:latest");
    assert_eq!(kept("https://models.example/m.gguf"), "models.example/files/m:latest");
    let hostile = Reference::parse("https://models.example/../..gguf").unwrap();
    assert!(hostile.name.is_none_or(|name| name.is_valid()));
    let plain = "http://127.0.0.1:8080/a/m.gguf";
    assert_eq!(
        source(plain),
        Source::Url(plain.into()),
        "whether that is well is asked by who fetches"
    );
    assert_eq!(kept(plain), "127.0.0.1:8080/a/m:latest");
    assert!(!matches!(source("ftp://models.example/a/m.gguf"), Source::Url(_)));
}

fn catalog() -> Catalog {
    let alias = r#"{"aliases": [{"name": "tiny:1b", "also": ["tiny"], "repository": "user/Tiny-GGUF",
        "file": "*Q4_K_M.gguf", "architecture": "llama"}]}"#;
    Catalog::default().with_json(alias).unwrap()
}

#[test]
fn the_catalogue_wins_then_repositories_that_are_here_then_the_registry() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path(), Access::Write).unwrap();
    let resolve = |text: &str| Reference::resolve(text, &catalog(), &store).unwrap();
    let alias = resolve("Tiny:latest");
    assert_eq!(alias.source, hub_ref("user/Tiny-GGUF", Some("*Q4_K_M.gguf")));
    assert_eq!(alias.to_string(), "Tiny:latest", "it is kept as it was called");
    assert_eq!(resolve("tiny:1b").source, alias.source);
    for text in ["tiny:2b", "ns/tiny", "registry.ollama.ai/library/tiny"] {
        assert!(matches!(resolve(text).source, Source::Registry(_)), "{text}");
    }
    let of_hub = resolve("user/tiny-gguf:Q8_0");
    assert_eq!(of_hub.source, hub_ref("user/tiny-gguf", Some("Q8_0")), "the catalogue knows it");
    assert!(matches!(resolve("user/other-gguf:Q8_0").source, Source::Registry(_)));

    let blob = store.put_blob(&b"w"[..], None).unwrap();
    let layer = |kind| Layer::new(kind, blob.digest, blob.size);
    let manifest = Manifest::new(layer(LayerKind::Config), vec![layer(LayerKind::Model)]);
    store.put_manifest(&ModelName::parse("TINY").unwrap(), &manifest).unwrap();
    let stored = resolve("tiny");
    assert_eq!(stored.to_string(), "TINY:latest", "as it is stored");
    assert_eq!(stored.source, alias.source, "fetched anew from where it came");
    store
        .put_manifest(&ModelName::parse("hf.co/user/Other-GGUF:Q4_0").unwrap(), &manifest)
        .unwrap();
    assert_eq!(resolve("user/other-gguf:Q8_0").source, hub_ref("user/other-gguf", Some("Q8_0")));
    std::fs::write(store.find(&ModelName::parse("tiny").unwrap()).unwrap().unwrap().path(), "{")
        .unwrap();
    assert_eq!(resolve("tiny").to_string(), "TINY:latest", "what is damaged can be fetched again");
}
