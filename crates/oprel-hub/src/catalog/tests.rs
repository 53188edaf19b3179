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
        assert!(is_repository(&alias.repository) && is_file(&alias.file), "{alias:?}");
        for name in alias.names() {
            assert_eq!(catalog.alias(name), Some(alias), "{name} is written once");
            assert!(oprel_api::ollama::ModelName::parse(name).is_ok(), "{name}");
            names.push(key(name));
        }
    }
    let mut files: Vec<_> = catalog.aliases().map(|a| (key(&a.repository), key(&a.file))).collect();
    files.sort();
    assert!(
        files.windows(2).all(|pair| pair[0] != pair[1]),
        "one file, one alias with all its names"
    );
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
        r#"{"aliases": [{"name": "a", "repository": "u/r", "file": "x", "architecture": "", "color": 1}]}"#,
    ] {
        assert!(Catalog::default().with_json(wrong).is_err(), "{wrong}");
    }
}

/// What is wrong with an alias, if something is.
fn wrong(name: &str, repository: &str, file: &str) -> Option<String> {
    let (name, repository, file) = (name.into(), repository.into(), file.into());
    let alias = Alias { name, repository, file, ..Alias::default() };
    Catalog::default().with(vec![alias]).err().map(|error| error.to_string())
}

#[test]
fn names_repositories_and_files_are_held_to_the_rules_of_those_who_read_them() {
    for (name, repository, file) in [
        ("a", "u/r", "latest"),
        ("a:b", "01-ai/Yi-1.5_x.y-GGUF", "*Q4_K_M*.gguf"),
        ("me/a:b", "u/r", "folder/m-Q8_0.gguf"),
    ] {
        assert_eq!(wrong(name, repository, file), None);
    }
    for name in ["", " ", "demo", "m.gguf", "./m", "hf.co/u/r", "http://x/y/z", "a b", "a:"] {
        assert!(wrong(name, "u/r", "x").is_some_and(|why| why.contains("short name")), "{name}");
    }
    let long = format!("u/{}", "r".repeat(97));
    for repository in [
        "", "r", "u/", "/r", "u/r/s", "../r", "u/..", "u/-r", "u/r-", "u/.r", "u/r.", "u/a--b",
        "u/a..b", "u/r.git", "u/r r", "u/é", &long,
    ] {
        let told = wrong("a", repository, "x");
        assert!(told.is_some_and(|why| why.contains("no repository")), "{repository}");
    }
    for file in ["", " x", "/x", "a//b", "../x", "a/../b", "a\\b", "x\n", "x?y", "x#y"] {
        assert!(wrong("a", "u/r", file).is_some_and(|why| why.contains("no file")), "{file:?}");
    }
}

#[test]
fn every_alias_picks_its_file_and_no_other_of_its_repository() {
    use crate::fetch::{File, choose};
    let of = |path: &str| File { path: path.into(), size: 1, digest: None };
    for alias in Catalog::built_in().aliases() {
        let file = match alias.file.as_str() {
            "*Q4_K_M*.gguf" => "Model-Q4_K_M.gguf".to_owned(),
            other => other.replace('*', ""),
        };
        let stem = file.trim_end_matches(".gguf");
        let other = ["Model-UD-Q4_K_XL.gguf", "Model-Q2_K.gguf", "mmproj-Model-F16.gguf"].map(of);
        let parts = [1, 2].map(|part| format!("x/{stem}-{part:05}-of-00002.gguf"));
        for wanted in [vec![file.clone()], parts.to_vec()] {
            let files: Vec<_> = wanted.iter().map(|path| of(path)).chain(other.clone()).collect();
            let choice = choose(&alias.repository, &files, &alias.file);
            let choice = choice.unwrap_or_else(|error| panic!("{}: {error}", alias.name));
            let paths: Vec<_> = choice.model.into_iter().map(|file| file.path).collect();
            assert_eq!(paths, wanted, "{}", alias.name);
        }
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
