use std::fs;
use std::path::Path;

use crate::Error;
use crate::modelfile::{Modelfile, Piece, PieceAt, Problem, Recipe};

fn resolve(text: &str, folder: &Path) -> crate::Result<Recipe> {
    Modelfile::parse(text.as_bytes()).unwrap().resolve(folder, Some(&folder.join("home")))
}

fn names(pieces: &[Piece]) -> Vec<&str> {
    pieces.iter().map(|piece| piece.name.as_str()).collect()
}

fn write(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x").unwrap();
}

fn problem(result: crate::Result<Recipe>) -> Problem {
    match result {
        Err(Error::Modelfile(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_are_found_relative_to_the_modelfile_and_at_home() {
    let place = tempfile::tempdir().unwrap();
    for file in ["m.gguf", "home/h.gguf", "sub/a.gguf", "sub/d.gguf"] {
        write(&place.path().join(file));
    }
    let absolute = place.path().join("m.gguf");
    for text in ["m.gguf", "./m.gguf", "sub/../m.gguf", absolute.to_str().unwrap()] {
        let recipe = resolve(&format!("FROM {text}"), place.path()).unwrap();
        assert_eq!(names(&recipe.files), ["m.gguf"], "{text}");
        let PieceAt::Path(path) = &recipe.files[0].at else { panic!() };
        assert!(path.is_file());
    }
    let text = "FROM ~/h.gguf\nADAPTER sub/a.gguf\nDRAFT ./sub/d.gguf";
    let recipe = resolve(text, place.path()).unwrap();
    assert_eq!(names(&recipe.files), ["h.gguf"]);
    assert_eq!((names(&recipe.adapters), names(&recipe.drafts)), (vec!["a.gguf"], vec!["d.gguf"]));
    let recipe = resolve("FROM llama3.2:1b", place.path()).unwrap();
    assert_eq!(recipe.model.as_deref(), Some("llama3.2:1b"));
    let recipe = resolve("FROM hf.co/user/repo:Q4_K_M", place.path()).unwrap();
    assert_eq!(recipe.model.as_deref(), Some("hf.co/user/repo:Q4_K_M"));
}

#[test]
fn what_is_not_there_is_told() {
    let place = tempfile::tempdir().unwrap();
    write(&place.path().join("m.gguf"));
    for text in ["FROM ./absent", "FROM absent.gguf", "FROM x\nADAPTER a", "FROM x\nDRAFT d"] {
        assert!(matches!(problem(resolve(text, place.path())), Problem::NoSuch(_)), "{text}");
    }
    assert_eq!(problem(resolve("FROM ~bob/m", place.path())), Problem::NoHome("bob".into()));
    let twice = problem(resolve("FROM m.gguf\nDRAFT ./m.gguf", place.path()));
    assert!(matches!(twice, Problem::SameAsDraft(_)));
    let text = "FROM x\nREQUIRES ";
    for (version, said) in [("0.14.0", "0.14.0"), ("v1.2", "1.2"), ("1.2.3-rc1", "1.2.3-rc1")] {
        let recipe = resolve(&format!("{text}{version}"), place.path()).unwrap();
        assert_eq!(recipe.requires.as_deref(), Some(said));
    }
    for version in ["soon", "1.2.3.4", "01.2", "1.x", "", "1-rc"] {
        let found = problem(resolve(&format!("{text}{version}"), place.path()));
        assert_eq!(found, Problem::Requires, "{version}");
    }
    let recipe =
        resolve("FROM x\nPARAMETER stop a\nMESSAGE user hi\nLICENSE l\nLICENSE k", place.path());
    let recipe = recipe.unwrap();
    assert_eq!(recipe.params["stop"], serde_json::json!(["a"]));
    assert_eq!((recipe.messages.len(), recipe.licenses.len()), (1, 2));
}

#[test]
fn of_a_folder_the_first_kind_of_weights_is_taken() {
    let place = tempfile::tempdir().unwrap();
    let files = |wanted: &[&str]| {
        let folder = place.path().join("f");
        let _ = fs::remove_dir_all(&folder);
        wanted.iter().for_each(|file| write(&folder.join(file)));
        let recipe = resolve("FROM ./f", place.path())?;
        Ok(names(&recipe.files).into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let found = |wanted: &[&str]| -> Vec<String> { files(wanted).unwrap() };
    assert_eq!(found(&["b.gguf", "a.gguf", "config.json"]), ["a.gguf", "b.gguf"]);
    assert_eq!(
        found(&[
            "model-2.safetensors",
            "model-1.safetensors",
            "text/model.safetensors",
            "x.gguf",
            "config.json",
            "text/config.json",
            "tokenizer.model",
            "chat_template.jinja",
            "README.md"
        ]),
        [
            "model-1.safetensors",
            "model-2.safetensors",
            "model.safetensors",
            "config.json",
            "config.json",
            "chat_template.jinja",
            "tokenizer.model"
        ]
    );
    assert_eq!(found(&["consolidated.00.pth", "x.gguf"]), ["consolidated.00.pth"]);
    assert_eq!(found(&["pytorch_model.bin", "other.bin"]), ["pytorch_model.bin"]);
    let nothing: crate::Result<Vec<String>> = files(&["README.md"]);
    assert!(matches!(nothing, Err(Error::Modelfile(Problem::NoFiles))));
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_refused() {
    let place = tempfile::tempdir().unwrap();
    write(&place.path().join("secret.gguf"));
    write(&place.path().join("f/real.gguf"));
    std::os::unix::fs::symlink("../secret.gguf", place.path().join("f/m.gguf")).unwrap();
    let found = problem(resolve("FROM ./f", place.path()));
    assert_eq!(found.to_string(), "insecure path: m.gguf");
    std::fs::remove_file(place.path().join("f/m.gguf")).unwrap();
    std::os::unix::fs::symlink("real.gguf", place.path().join("f/m.gguf")).unwrap();
    assert_eq!(
        resolve("FROM ./f", place.path()).unwrap().files.len(),
        2,
        "within it may lead anywhere"
    );
}
