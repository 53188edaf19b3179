use std::fs;
use std::path::Path;

use oprel_api::ollama::ModelName;
use oprel_api::{ErrorKind, Failure};
use oprel_gguf::{FileType, Gguf, QuantType, Writer};
use serde_json::json;
use tempfile::TempDir;

use crate::modelfile::{self, Maker, Modelfile, Piece, PieceAt, Recipe, Step};
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

/// Makes a model where nobody above knows of weights and templates more than these tests need: what is quantized
/// is the first tensor's bytes, cut short.
struct Plain<'a>(&'a mut dyn FnMut(Step));

impl Maker for Plain<'_> {
    fn step(&mut self, step: Step) {
        (self.0)(step);
    }

    fn check_template(&self, text: &str) -> Result<(), Failure> {
        match text.contains("{{ }}") {
            true => Err(Failure::new(ErrorKind::Validation, "nothing is said")),
            false => Ok(()),
        }
    }

    fn capabilities(&self, file: &Gguf, template: Option<&str>) -> Vec<&'static str> {
        let own = file.metadata().str("tokenizer.chat_template").unwrap();
        let has_tools = template.or(own).is_some_and(|text| text.contains("tools"));
        ["completion"].into_iter().chain(has_tools.then_some("tools")).collect()
    }

    fn demo(&self) -> &'static [u8] {
        let mut writer = Writer::new();
        llama(&mut writer);
        writer.tensor("d", &[4, 8], QuantType::F32, vec![0; 128]).unwrap();
        let mut file = Vec::new();
        writer.write(&mut file).unwrap();
        file.leak()
    }

    fn quantize(&mut self, file: &Gguf, to: FileType, path: &Path) -> Result<(), Failure> {
        if to == FileType::Q2_K {
            fs::write(path, "half").unwrap();
            return Err(Failure::new(ErrorKind::Backend, "stopped"));
        }
        let mut writer = Writer::new();
        for (key, value) in file.metadata().iter().filter(|(key, _)| *key != "general.file_type") {
            writer.set(key, value.clone()).unwrap();
        }
        writer.set("general.file_type", to.gguf_number()).unwrap();
        writer.tensor("a", &[32], to.main_type(), vec![0; to.main_type().block_bytes()]).unwrap();
        writer.write_file(path).unwrap();
        Ok(())
    }
}

fn create(
    store: &Store,
    name: &ModelName,
    recipe: &Recipe,
    on: &mut dyn FnMut(Step),
) -> Result<crate::Manifest> {
    modelfile::create(store, name, recipe, &mut Plain(on))
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
    // The file's own template has tools, the one of the Modelfile has none.
    assert_eq!(config.capabilities.as_deref().unwrap(), ["completion"]);
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
fn a_template_that_is_none_makes_nothing() {
    let (place, store) = place();
    let text = "FROM ./m.gguf\nTEMPLATE {{ }}";
    let refused = made(&store, place.path(), text, "mine").unwrap_err();
    assert!(matches!(&refused, Error::Template(_)), "{refused}");
    assert!(store.list().unwrap().models.is_empty());
    assert_eq!(fs::read_dir(store.blobs()).unwrap().count(), 0);
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
fn what_comes_with_the_program_is_a_model_to_begin_with() {
    let (place, store) = place();
    let steps = made(&store, place.path(), "FROM demo\nSYSTEM one", "mine").unwrap();
    assert!(steps[1].starts_with("creating new layer sha256:"), "{steps:?}");
    let model = store.model(&name("mine")).unwrap();
    assert_eq!(
        (model.config.model_family.as_str(), model.system.as_deref()),
        ("llama", Some("one"))
    );
    assert_eq!(Gguf::open_parts(&model.files).unwrap().tensors()[0].name, "d");
    let again = made(&store, place.path(), "FROM Demo:latest", "again").unwrap();
    assert!(again[1].starts_with("using existing layer"), "{again:?}");
    assert_eq!(store.model(&name("again")).unwrap().files, model.files);
    let recipe =
        Recipe { model: Some("demo".into()), quantize: Some(FileType::Q8_0), ..Recipe::default() };
    let refused = create(&store, &name("x"), &recipe, &mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("this one is Q4_K_M: demo"), "{refused}");
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
fn weights_are_stored_as_what_was_asked_for() {
    let (place, store) = place();
    let whole = |writer: &mut Writer<'_>| {
        writer.set("general.architecture", "llama").unwrap();
        writer.set("general.file_type", FileType::F16.gguf_number()).unwrap();
        writer.set("llama.block_count", 1u32).unwrap();
    };
    write_gguf(&place.path().join("whole.gguf"), whole, "a");
    made(&store, place.path(), "FROM whole.gguf\nSYSTEM one", "whole").unwrap();
    let blobs = || fs::read_dir(store.blobs()).unwrap().count();
    let quantized = |recipe: Recipe, to, called| {
        let recipe = Recipe { quantize: Some(to), ..recipe };
        create(&store, &name(called), &recipe, &mut |_| {})
    };
    let of_file = Recipe {
        files: vec![Piece {
            name: "whole.gguf".into(),
            at: PieceAt::Path(place.path().join("whole.gguf")),
        }],
        ..Recipe::default()
    };
    let of_model = Recipe { model: Some("whole".into()), ..Recipe::default() };
    let before = blobs();
    for (recipe, called) in [(&of_file, "a"), (&of_model, "b")] {
        quantized(recipe.clone(), FileType::Q8_0, called).unwrap();
        let model = store.model(&name(called)).unwrap();
        assert_eq!(model.config.file_type, "Q8_0", "{called}");
        assert_eq!(Gguf::open_parts(&model.files).unwrap().file_type(), "Q8_0");
        assert_eq!(model.system.is_some(), called == "b", "what it begins with stays");
    }
    assert_eq!(store.model(&name("a")).unwrap().files, store.model(&name("b")).unwrap().files);
    assert_eq!(store.model(&name("whole")).unwrap().config.file_type, "F16");
    // One file of weights and a config each: the one that they were made from is no part of the first.
    assert_eq!(blobs(), before + 3);

    // What has the type is not made again, what has lost something is refused, what fails leaves nothing.
    let same = quantized(of_file.clone(), FileType::F16, "c").unwrap();
    let layers = same.of_kind(LayerKind::Model).map(|layer| layer.digest).collect::<Vec<_>>();
    assert_eq!(layers, [Digest::of(&fs::read(place.path().join("whole.gguf")).unwrap())]);
    let of_small = Recipe { model: Some("a".into()), ..Recipe::default() };
    let refused = quantized(of_small, FileType::Q4_0, "d").unwrap_err();
    assert!(refused.to_string().contains("this one is Q8_0"), "{refused}");
    let before = blobs();
    let stopped = quantized(of_file, FileType::Q2_K, "e").unwrap_err();
    assert!(matches!(stopped, Error::Quantize(_)), "{stopped}");
    assert_eq!(blobs(), before);
    assert!(store.find(&name("e")).unwrap().is_none());
}

#[test]
fn a_file_that_is_no_gguf_makes_nothing() {
    let (place, store) = place();
    fs::write(place.path().join("bad.gguf"), "<html>").unwrap();
    assert!(matches!(made(&store, place.path(), "FROM bad.gguf", "x"), Err(Error::NoModel(_))));
    assert!(store.list().unwrap().models.is_empty());
    assert_eq!(fs::read_dir(store.blobs()).unwrap().count(), 0);
}
