//! Conversions of tiny models against an oracle (`tests/convert/make_fixtures.py`), vocabularies there and back, and
//! folders that are not what they should be.

mod folders;
mod hostile;
mod rankers;
mod tekken;
mod vocabularies;

use std::ops::ControlFlow;

use oprel_gguf::{Array, Gguf, QuantType, Value};
use oprel_nn::{
    Batch, Dev, Exec, KvType, Limits, PAGE_LEN, PageTable, Placement, Pos, RowSet, Span, StateView,
    StepOut, Transfer, Want, What,
};
use serde_json::Value as Json;

use super::{ConvertOptions, Converted, Weights, convert};
use folders::Folder;

/// The cases of the oracle.
fn cases() -> Vec<Json> {
    let cases: Json =
        serde_json::from_str(include_str!("../../tests/convert/cases.json")).expect("committed");
    cases.as_array().expect("a list").clone()
}

fn case(name: &str) -> Json {
    cases().into_iter().find(|c| c["name"] == name).expect("a case of this name")
}

fn converted(folder: &Folder, weights: Weights) -> (Gguf, Converted) {
    let to = folder.path().join("out.gguf");
    let options = ConvertOptions { weights, ..ConvertOptions::default() };
    let told = convert(folder.path(), &to, &options, &mut |_| ControlFlow::Continue(()));
    let told = told.unwrap_or_else(|e| panic!("{}: {e}", folder.path().display()));
    (Gguf::open(&to).expect("what was written"), told)
}

/// All elements of a tensor.
fn elements(file: &Gguf, name: &str) -> Vec<f32> {
    let info = file.tensor(name).unwrap_or_else(|| panic!("no tensor {name}"));
    let mut values = vec![0.0; info.shape.iter().product::<u64>() as usize];
    oprel_quant::dequantize(info.ty, &file.bytes(info), &mut values).expect("a known type");
    values
}

/// The two sums of the oracle.
fn sums(values: &[f32]) -> [f64; 2] {
    let weighed =
        values.iter().enumerate().map(|(i, x)| f64::from(*x) * (i % 1009 + 1) as f64 / 1009.0);
    [values.iter().map(|x| f64::from(*x)).sum(), weighed.sum()]
}

fn check_tensors(case: &Json, file: &Gguf, tolerance: f64) {
    let name = &case["name"];
    let wanted = case["tensors"].as_array().expect("a list");
    let names: Vec<&str> = file.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names.len(), wanted.len(), "{name}: {names:?}");
    for tensor in wanted {
        let tensor_name = tensor[0].as_str().expect("a name");
        let info = file
            .tensor(tensor_name)
            .unwrap_or_else(|| panic!("{name}: no {tensor_name}: {names:?}"));
        let shape: Vec<u64> =
            tensor[1].as_array().expect("dims").iter().filter_map(Json::as_u64).collect();
        assert_eq!(info.shape, shape, "{name}: {tensor_name}");
        let values = elements(file, tensor_name);
        let size: f64 = values.iter().map(|x| f64::from(x.abs())).sum::<f64>() + 1e-9;
        for (found, wanted) in sums(&values).into_iter().zip([&tensor[2], &tensor[3]]) {
            let wanted = wanted.as_f64().expect("a sum");
            let off = (found - wanted).abs() / size;
            assert!(off < tolerance, "{name}: {tensor_name}: {found} is not {wanted}");
        }
    }
}

fn check_metadata(case: &Json, file: &Gguf) {
    for (key, wanted) in case["kv"].as_object().expect("keys") {
        let found = file.metadata().get(key).map(json);
        let found = found.unwrap_or_else(|| panic!("{}: no {key}", case["name"]));
        let is_close = |a: &Json, b: &Json| match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * b.abs(),
            _ => a == b,
        };
        assert!(is_close(&found, wanted), "{}: {key} is {found}, not {wanted}", case["name"]);
    }
}

fn json(value: &Value) -> Json {
    match value {
        Value::U32(n) => (*n).into(),
        Value::I32(n) => (*n).into(),
        Value::F32(x) => f64::from(*x).into(),
        Value::Bool(b) => (*b).into(),
        Value::Str(s) => s.as_str().into(),
        Value::Array(Array::I32(all)) => all.clone().into(),
        Value::Array(Array::Bool(all)) => all.clone().into(),
        other => panic!("{other:?} in a fixture"),
    }
}

/// Logits of some tokens, or vectors of an embedder, from the plainest executor.
fn run(file: &Gguf) -> Vec<f32> {
    let model = oprel_models::describe(file).unwrap_or_else(|e| panic!("{e}"));
    let mut exec = oprel_nn::candle::CandleExec::cpu();
    let groups = oprel_nn::state::groups(&model.decoder.slots).len();
    let limits = Limits {
        tokens: 8,
        spans: 1,
        logit_rows: 8,
        context: PAGE_LEN as u32,
        pages: vec![1; groups],
        recurrent_rows: 1,
        kv: KvType::F32.into(),
    };
    let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
    let prepared = exec.prepare(&model.decoder, &model.weights, &placement, &limits);
    prepared.unwrap_or_else(|e| panic!("{}: {e}", model.architecture));
    let tokens = [3, 1, 4, 1, 5, 9, 2, 6];
    let see = if model.causal { oprel_nn::See::Causal } else { oprel_nn::See::All };
    let spans = [Span { see, ..Span::causal(oprel_nn::batch::SeqId(0), 8, 0) }];
    let what = match model.causal {
        true => What::Logits,
        false => What::Hidden(oprel_nn::Tap::Last),
    };
    let want = [Want { of: RowSet::All, what }];
    let pos: Vec<i32> = (0..8).collect();
    let batch =
        Batch { spans: &spans, tokens: &tokens, pos: Pos::Text(&pos), embeds: &[], want: &want };
    let page = [oprel_nn::state::PageId(0)];
    let tables = vec![PageTable(&page); groups];
    let row = Some(oprel_nn::state::RowId(0));
    let transfer = [Transfer { from: None, to: row, keep: &[] }];
    let state = StateView { pages: &tables, recurrent: &transfer };
    let mut out = StepOut::default();
    exec.step(&batch, &state, &mut out, None).unwrap_or_else(|e| panic!("{e}"));
    out.got.swap_remove(0).values
}

#[test]
fn every_family_gives_the_tensors_and_metadata_of_the_oracle_and_runs() {
    for case in cases() {
        let folder = Folder::of(&case, false);
        let (file, told) = converted(&folder, Weights::F32);
        assert_eq!(told.architecture, case["arch"].as_str().expect("a name"));
        check_tensors(&case, &file, 1e-6);
        check_metadata(&case, &file);
        let out = run(&file);
        assert!(out.iter().all(|x| x.is_finite()), "{}", case["name"]);
    }
}

#[test]
fn every_architecture_that_runs_can_be_converted() {
    let cases = cases();
    for architecture in oprel_models::supported() {
        assert!(cases.iter().any(|c| c["arch"] == architecture), "no case of {architecture}");
    }
}

#[test]
fn weights_are_stored_as_asked_for_and_vectors_as_f32() {
    let case = case("qwen3");
    let folder = Folder::of(&case, true);
    for (weights, ty, number) in [
        (Weights::AsStored, QuantType::BF16, 32),
        (Weights::BF16, QuantType::BF16, 32),
        (Weights::F16, QuantType::F16, 1),
        (Weights::F32, QuantType::F32, 0),
        (Weights::Q8_0, QuantType::Q8_0, 7),
    ] {
        let (file, _) = converted(&folder, weights);
        assert_eq!(file.metadata().u32("general.file_type").unwrap(), Some(number));
        for tensor in file.tensors() {
            let wanted = if tensor.shape.len() == 1 { QuantType::F32 } else { ty };
            assert_eq!(tensor.ty, wanted, "{}", tensor.name);
        }
        // Numbers of the oracle are exact in 16 bits.
        check_tensors(&case, &file, if weights == Weights::Q8_0 { 1e-2 } else { 1e-6 });
    }
}

#[test]
fn sampling_advice_and_pooling_are_taken_over() {
    let folder = Folder::of(&case("qwen3"), false);
    folder.write("generation_config.json", r#"{"temperature": 0.6, "top_k": 20, "top_p": 0.95}"#);
    folder.write("1_Pooling/config.json", r#"{"pooling_mode_lasttoken": true}"#);
    let (file, _) = converted(&folder, Weights::AsStored);
    let m = file.metadata();
    assert_eq!(m.f32("general.sampling.temp").unwrap(), Some(0.6));
    assert_eq!(m.u32("general.sampling.top_k").unwrap(), Some(20));
    assert_eq!(m.u32("qwen3.pooling_type").unwrap(), Some(3));
}

#[test]
fn fp8_weights_are_multiplied_with_the_scales_of_their_blocks() {
    let folder = Folder::of(&case("llama"), false);
    // One value an exponent step: 0x38 is 1, 0x40 is 2, 0xb8 is -1.
    let bytes: Vec<u8> = (0..64 * 64).map(|i| [0x38, 0x40, 0xb8, 0x01][i % 4]).collect();
    let name = "model.layers.0.self_attn.o_proj.weight";
    folder.replace(name, "F8_E4M3", &[64, 64], &bytes);
    folder.add(&format!("{name}_scale_inv"), "F32", &[1, 1], &0.5f32.to_le_bytes());
    let (file, _) = converted(&folder, Weights::F32);
    let values = elements(&file, "blk.0.attn_output.weight");
    assert_eq!(values[..4], [0.5, 1.0, -0.5, 0.5 / 512.0]);
}

#[test]
fn layers_that_only_draft_and_other_senses_are_left_out() {
    let case = case("deepseek2");
    let folder = Folder::of(&case, false);
    for name in [
        "model.layers.2.eh_proj.weight",
        "model.layers.2.mlp.experts.0.up_proj.weight",
        "vision_tower.blocks.0.weight",
        "model.visual.patch_embed.weight",
        "mtp.layers.0.norm.weight",
    ] {
        folder.add(name, "F32", &[1], &[0; 4]);
    }
    let (file, _) = converted(&folder, Weights::F32);
    check_tensors(&case, &file, 1e-6);
}
