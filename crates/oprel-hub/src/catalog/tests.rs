use super::*;

#[test]
fn the_built_in_catalogue_is_whole() {
    let catalog = Catalog::default().with_json(BUILT_IN).unwrap();
    assert!(catalog.aliases().count() >= 80, "{}", catalog.aliases().count());
    let mut names: Vec<String> = Vec::new();
    for alias in catalog.aliases() {
        let said = [&alias.parameters, &alias.license, &alias.good_for, &alias.architecture];
        assert!(said.iter().all(|text| !text.is_empty()), "{alias:?}");
        assert!(alias.about_bytes > 10_000_000 && alias.context >= 256, "{alias:?}");
        assert!(alias.file.ends_with(".gguf"), "{alias:?}");
        for name in alias.names() {
            assert_eq!(catalog.alias(name), Some(alias), "{name} is written once");
            assert!(oprel_api::ollama::ModelName::parse(name).is_ok(), "{name}");
            names.push(key(name));
        }
    }
    names.sort();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(Catalog::built_in().aliases().count(), catalog.aliases().count());
}

#[test]
fn a_users_alias_takes_the_place_of_another() {
    let base = Catalog::default().with_json(
        r#"{"aliases": [{"name": "a", "repository": "u/r", "file": "x.gguf", "architecture": "llama"},
            {"name": "b", "repository": "u/s", "file": "x.gguf", "architecture": "llama"}]}"#,
    );
    let more = r#"{"aliases": [{"name": "A:latest", "repository": "v/t", "file": "y.gguf", "architecture": "x"}]}"#;
    let catalog = base.unwrap().with_json(more).unwrap();
    assert_eq!(catalog.alias("a").unwrap().repository, "v/t");
    assert_eq!(
        catalog.aliases().map(|alias| alias.name.as_str()).collect::<Vec<_>>(),
        ["b", "A:latest"]
    );
    assert!(!catalog.has_repository("u/r") && catalog.has_repository("V/T"));
    for wrong in [
        "{",
        r#"{"aliases": [{"name": "a"}]}"#,
        r#"{"aliases": [{"name": "", "repository": "u/r", "file": "x", "architecture": ""}]}"#,
        r#"{"aliases": [{"name": "a", "repository": "../r", "file": "x", "architecture": ""}]}"#,
        r#"{"aliases": [{"name": "a", "repository": "r", "file": "x", "architecture": "", "color": 1}]}"#,
    ] {
        assert!(Catalog::default().with_json(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_search_finds_what_has_every_word() {
    let catalog = Catalog::built_in();
    let found = |words: &str| catalog.search(words);
    assert!(found("qwen coder").iter().all(|a| a.name.contains("coder")));
    assert!(!found("qwen coder").is_empty());
    assert!(found("EMBEDDING").len() >= 3);
    assert!(found("no-such-word-anywhere").is_empty());
    assert_eq!(found("").len(), catalog.aliases().count());
    assert!(found("llama3.2")[0].name.starts_with("llama3.2"), "names before descriptions");
}
