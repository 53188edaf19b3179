use std::fs;
use std::path::Path;

use oprel_api::ollama::ModelName;
use oprel_gguf::{Gguf, QuantType, Writer};
use serde_json::json;
use tempfile::TempDir;

use crate::modelfile::{Modelfile, Piece, PieceAt, Recipe, Step, create};
use crate::{Access, Digest, Error, LayerKind, Result, Store};

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

fn write_gguf(path: &Path, set: impl Fn(&mut Writer<'_>), tensor: &str) {
    let mut writer = Writer::new();
    set(&mut writer);
    writer.tensor(tensor, &[4, 8], QuantType::F32, vec![0; 128]).unwrap();
    writer.write_file(path).unwrap();
}

fn llama(writer: &mut Writer<'_>) {
    writer.set("general.architecture", "llama").unwrap();
    writer.set("general.file_type", 15u32).unwrap();
    writer.set("llama.block_count", 1u32).unwrap();
    writer.set("llama.context_length", 2048u32).unwrap();
    writer.set("tokenizer.chat_template", "{% if tools %}x{% endif %}").unwrap();
}

fn part(path: &Path, no: u16, tensor: &str) {
    let set = |writer: &mut Writer<'_>| {
        llama(writer);
        writer.set("split.no", no).unwrap();
        writer.set("split.count", 2u16).unwrap();
        writer.set("split.tensors.count", 2i32).unwrap();
    };
    write_gguf(path, set, tensor);
}

fn place() -> (TempDir, Store) {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path().join("models"), Access::Write).unwrap();
    write_gguf(&place.path().join("m.gguf"), llama, "a");
    (place, store)
}

fn made(store: &Store, folder: &Path, text: &str, called: &str) -> Result<Vec<String>> {
    let recipe = Modelfile::parse(text.as_bytes())?.resolve(folder, None)?;
    let mut steps = Vec::new();
    create(store, &name(called), &recipe, &mut |step| steps.push(step.to_string()))?;
    Ok(steps)
}

#[test]
fn a_model_is_made_of_a_file_and_says_what_it_is() {
    let (place, store) = place();
    let text = "FROM ./m.gguf\nSYSTEM Be brief.\nPARAMETER temperature 0.5\nPARAMETER stop x\n\
        LICENSE MIT\nMESSAGE user hi\nTEMPLATE {{ .Prompt }}\nREQUIRES v0.14.0\nPARSER p";
    let steps = made(&store, place.path(), text, "mine").unwrap();
    let digest = Digest::of(&fs::read(place.path().join("m.gguf")).unwrap());
    assert_eq!(steps[..2], ["parsing GGUF".to_owned(), format!("creating new layer {digest}")]);
    assert_eq!(steps[steps.len() - 2..], ["writing manifest", "success"]);
    let model = store.model(&name("mine")).unwrap();
    assert_eq!(model.files, [store.blob_path(&digest)]);
    let config = &model.config;
    assert_eq!((config.model_format.as_str(), config.model_family.as_str()), ("gguf", "llama"));
    assert_eq!((config.model_type.as_str(), config.file_type.as_str()), ("32", "Q4_K_M"));
    assert_eq!(config.model_families.as_deref(), Some(&["llama".to_owned()][..]));
    assert_eq!(config.capabilities.as_deref().unwrap(), ["completion", "tools"]);
    assert_eq!((config.context_length, config.requires.as_str()), (2048, "0.14.0"));
    assert_eq!(json!(model.params), json!({"stop": ["x"], "temperature": 0.5}));
    assert_eq!((model.system.as_deref(), model.messages.len()), (Some("Be brief."), 1));
    let written = model.modelfile().to_string();
    let again = Modelfile::parse(written.as_bytes()).unwrap();
    assert_eq!(again, model.modelfile(), "{written}");
    let recipe = again.resolve(place.path(), None).unwrap();
    let copy = create(&store, &name("again"), &recipe, &mut |_| {}).unwrap();
    let first = store.find(&name("mine")).unwrap().unwrap().manifest.unwrap();
    let kinds = |m: &crate::Manifest| m.layers().iter().map(|l| l.digest).collect::<Vec<_>>();
    assert_eq!(kinds(&copy), kinds(&first), "made again of what it says");
}

#[test]
fn a_model_of_a_model_shares_its_weights() {
    let (place, store) = place();
    let text = "FROM m.gguf\nSYSTEM one\nPARAMETER temperature 0.5\nPARAMETER top_k 3\nLICENSE MIT";
    made(&store, place.path(), text, "base").unwrap();
    let text = "FROM base\nSYSTEM two\nPARAMETER temperature 0.9\nLICENSE Other";
    let steps = made(&store, place.path(), text, "derived").unwrap();
    assert!(!steps.contains(&"parsing GGUF".to_owned()));
    let (base, derived) =
        (store.model(&name("base")).unwrap(), store.model(&name("derived")).unwrap());
    assert_eq!(derived.files, base.files);
    assert_eq!(derived.system.as_deref(), Some("two"));
    assert_eq!(json!(derived.params), json!({"temperature": 0.9, "top_k": 3}));
    assert_eq!(derived.licenses, ["MIT", "Other"]);
    assert_eq!(derived.config.model_family, "llama");
    store.remove(&name("base")).unwrap();
    assert_eq!(store.model(&name("derived")).unwrap().files.len(), 1);
    let absent = made(&store, place.path(), "FROM nobody", "x").unwrap_err();
    assert_eq!(absent.to_string(), "model 'nobody:latest' not found");
}

#[test]
fn projectors_adapters_and_drafts_are_what_they_are() {
    let (place, store) = place();
    let kind = |kind: &'static str| {
        move |writer: &mut Writer<'_>| {
            writer.set("general.architecture", "clip").unwrap();
            writer.set("general.type", kind).unwrap();
        }
    };
    write_gguf(&place.path().join("eyes.gguf"), kind("mmproj"), "v");
    write_gguf(&place.path().join("lora.gguf"), kind("adapter"), "l");
    write_gguf(&place.path().join("small.gguf"), llama, "s");
    let text = "FROM m.gguf\nFROM eyes.gguf\nADAPTER lora.gguf\nDRAFT small.gguf";
    made(&store, place.path(), text, "all").unwrap();
    let model = store.model(&name("all")).unwrap();
    let counts = [&model.files, &model.projectors, &model.adapters, &model.draft].map(Vec::len);
    assert_eq!(counts, [1; 4]);
    assert_eq!(model.config.draft.as_ref().unwrap().architecture, "llama");
    assert!(model.config.capabilities.unwrap().contains(&"vision".to_owned()));
    for text in ["FROM lora.gguf", "FROM m.gguf\nADAPTER small.gguf", "FROM eyes.gguf"] {
        let refused = made(&store, place.path(), text, "x").unwrap_err();
        assert!(matches!(refused, Error::Source { .. }), "{text}: {refused}");
    }
    fs::write(place.path().join("model.safetensors"), "x").unwrap();
    let refused = made(&store, place.path(), "FROM model.safetensors", "x").unwrap_err();
    assert!(refused.to_string().contains("oprel convert"), "{refused}");
}

#[test]
fn parts_of_a_split_model_stay_together_and_in_order() {
    let (place, store) = place();
    let files = ["s-00001-of-00002.gguf", "s-00002-of-00002.gguf"];
    let paths = files.map(|file| place.path().join(file));
    part(&paths[0], 0, "a");
    part(&paths[1], 1, "b");
    made(&store, place.path(), "FROM ./s-00002-of-00002.gguf", "split").unwrap();
    let model = store.model(&name("split")).unwrap();
    let blobs = paths.each_ref().map(|path| store.blob_path(&Digest::of(&fs::read(path).unwrap())));
    assert_eq!(model.files, blobs);
    assert_eq!(model.config.model_type, "64", "weights of all parts");
    assert_eq!(model.config.requires, "0.35.0");
    let opened = Gguf::open_parts(&model.files).unwrap();
    assert_eq!(opened.tensors().len(), 2);
    Gguf::open_parts(&model.files[..1]).unwrap_err();
    Gguf::open_parts(&[&model.files[1], &model.files[0]]).unwrap_err();
    Gguf::open_parts::<&Path>(&[]).unwrap_err();
    let layers = model.entry.manifest.as_ref().unwrap().of_kind(LayerKind::Model);
    let names: Vec<_> = layers.map(|layer| layer.name.clone().unwrap()).collect();
    assert_eq!(names, files);

    let blob = |at: usize| {
        let digest = Digest::of(&fs::read(&paths[at]).unwrap());
        Piece { name: files[at].into(), at: PieceAt::Blob(digest) }
    };
    let recipe = Recipe { files: vec![blob(1), blob(0)], ..Recipe::default() };
    let mut steps = Vec::new();
    create(&store, &name("uploaded"), &recipe, &mut |step| steps.push(step)).unwrap();
    assert_eq!(store.model(&name("uploaded")).unwrap().files, blobs);
    assert_eq!(steps.iter().filter(|step| **step == Step::Parsing).count(), 1);
    let alone = Recipe { files: vec![blob(1)], ..Recipe::default() };
    assert!(matches!(create(&store, &name("x"), &alone, &mut |_| {}), Err(Error::Source { .. })));
    let nothing = create(&store, &name("x"), &Recipe::default(), &mut |_| {}).unwrap_err();
    assert!(nothing.to_string().contains("neither 'from' or 'files' was specified"));
}

#[test]
fn a_file_that_is_no_gguf_makes_nothing() {
    let (place, store) = place();
    fs::write(place.path().join("bad.gguf"), "<html>").unwrap();
    assert!(matches!(made(&store, place.path(), "FROM bad.gguf", "x"), Err(Error::Gguf(_))));
    assert!(store.list().unwrap().models.is_empty());
    assert_eq!(fs::read_dir(store.blobs()).unwrap().count(), 0);
}
