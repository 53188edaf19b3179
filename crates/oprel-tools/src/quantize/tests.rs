use std::fs;

use super::*;
use crate::imatrix::Entry;

/// Numbers between -1 and 1.
fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed | 1;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| draw() * draw()).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A model with matrices of several sizes, one of them a stack of experts.
fn write_model(path: &Path) {
    let mut writer = Writer::new();
    writer.set("general.architecture", "llama").unwrap();
    writer.set("llama.block_count", 2u32).unwrap();
    let mut add = |name: &str, shape: &[u64]| {
        let n = shape.iter().product::<u64>() as usize;
        let values = bytes(&noise(name.len() as u64 * 77 + n as u64, n));
        writer.tensor(name, shape, QuantType::F32, values).unwrap();
    };
    add("token_embd.weight", &[256, 40]);
    add("output_norm.weight", &[256]);
    for layer in 0..2 {
        add(&format!("blk.{layer}.attn_q.weight"), &[256, 64]);
        add(&format!("blk.{layer}.attn_v.weight"), &[256, 8]);
        add(&format!("blk.{layer}.ffn_down_exps.weight"), &[512, 300, 3]);
    }
    writer.write_file(path).unwrap();
}

struct Made {
    folder: tempfile::TempDir,
    input: PathBuf,
}

fn made() -> Made {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.gguf");
    write_model(&input);
    Made { folder, input }
}

impl Made {
    fn run(&self, name: &str, mix: Mix, options: &QuantizeOptions) -> Result<(Report, Vec<u8>)> {
        let output = self.folder.path().join(name);
        let go_on = &mut |_: &Progress<'_>| ControlFlow::Continue(());
        let report = quantize(&self.input, &output, mix, options, go_on)?;
        let bytes = fs::read(&output).unwrap();
        assert_eq!(bytes.len() as u64, report.bytes_after);
        Ok((report, bytes))
    }
}

fn imatrix() -> Imatrix {
    let importance = |n: usize| noise(n as u64, n).iter().map(|x| x * x).collect::<Vec<_>>();
    let name = "blk.1.ffn_down_exps.weight".to_owned();
    let entry = Entry { name, sums: importance(512 * 3), counts: vec![1.0; 3] };
    Imatrix { entries: vec![entry], datasets: vec!["text".into()], chunk_count: 1, chunk_size: 512 }
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let made = made();
    let of = |threads| QuantizeOptions {
        threads,
        imatrix: Some(imatrix()),
        ..QuantizeOptions::default()
    };
    let mix = Mix::Named(FileType::Q4_K_M);
    let (_, one) = made.run("one", mix, &of(1)).unwrap();
    for threads in [2, 5] {
        assert!(made.run("more", mix, &of(threads)).unwrap().1 == one, "{threads} threads");
    }
}

#[test]
fn each_expert_has_its_own_importance() {
    let made = made();
    let options = QuantizeOptions { imatrix: Some(imatrix()), ..QuantizeOptions::default() };
    let mix = Mix::Named(FileType::Q4_K_S);
    made.run("out", mix, &options).unwrap();
    let (before, after) =
        (Gguf::open(&made.input).unwrap(), Gguf::open(made.folder.path().join("out")).unwrap());
    let name = "blk.1.ffn_down_exps.weight";
    let raw = before.bytes(before.tensor(name).unwrap());
    let values: Vec<f32> = raw.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let stored = after.tensor(name).unwrap();
    let importance = imatrix().importance(name, 512, 3).unwrap().unwrap();
    let mut expected = vec![0; stored.n_bytes() as usize];
    let (each, n_bytes) = (300 * 512, expected.len() / 3);
    for expert in 0..3 {
        oprel_quant::quantize_weighted(
            stored.ty,
            &values[expert * each..][..each],
            512,
            Some(&importance[expert * 512..][..512]),
            &mut expected[expert * n_bytes..][..n_bytes],
        )
        .unwrap();
    }
    assert!(*after.bytes(stored) == *expected);
    assert_eq!(after.metadata().u32("quantize.imatrix.entries_count").unwrap(), Some(1));
    assert_eq!(after.metadata().u32("general.file_type").unwrap(), Some(14));
}

#[test]
fn a_size_is_kept_and_used() {
    let made = made();
    let options = QuantizeOptions::default();
    let size = |ty| made.run("x", Mix::Named(ty), &options).unwrap().0.bytes_after;
    let (low, high) = (size(FileType::Q2_K), size(FileType::Q8_0));
    let mut last = 0;
    for target in [low + 20_000, (low + high) / 2, high, 10 * high] {
        let (report, _) = made.run("y", Mix::Size(target), &options).unwrap();
        assert!(report.bytes_after <= target && report.bytes_after > last, "{target}: {report:?}");
        last = report.bytes_after;
    }
    // With room for everything, nothing is converted.
    assert!(
        Gguf::open(made.folder.path().join("y"))
            .unwrap()
            .tensors()
            .iter()
            .all(|t| t.ty == QuantType::F32)
    );
    let error = made.run("z", Mix::Size(1000), &options).unwrap_err();
    assert!(matches!(error, Error::TargetTooSmall { .. }) && error.hint().is_some(), "{error}");
}

#[test]
fn types_that_live_on_importance_are_chosen_where_it_is_known() {
    let made = made();
    let options = QuantizeOptions { imatrix: Some(imatrix()), ..QuantizeOptions::default() };
    let smallest = |options: &QuantizeOptions| match made.run("z", Mix::Size(1000), options) {
        Err(Error::TargetTooSmall { least_bytes, .. }) => least_bytes,
        other => panic!("{other:?}"),
    };
    let (least, least_without) = (smallest(&options), smallest(&QuantizeOptions::default()));
    assert!(least < least_without, "{least} {least_without}");
    let target = (least + least_without) / 2;
    let (report, _) = made.run("y", Mix::Size(target), &options).unwrap();
    assert!(report.bytes_after <= target);
    for tensor in &report.tensors {
        let is_known = tensor.name == "blk.1.ffn_down_exps.weight";
        assert_eq!(tensor.to.name().starts_with("IQ"), is_known, "{tensor:?}");
    }
}

#[test]
fn what_fails_leaves_nothing_and_what_was_there_stays() {
    let made = made();
    let output = made.folder.path().join("out");
    fs::write(&output, "before").unwrap();
    let (mix, options) = (Mix::Named(FileType::Q4_0), QuantizeOptions::default());
    let mut n = 0;
    let stop = &mut |_: &Progress<'_>| {
        n += 1;
        if n > 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let error = quantize(&made.input, &output, mix, &options, stop).unwrap_err();
    assert!(matches!(error, Error::Stopped), "{error}");
    let go_on = &mut |_: &Progress<'_>| ControlFlow::Continue(());
    let error = quantize(&made.input, &made.input, mix, &options, go_on).unwrap_err();
    assert!(matches!(error, Error::Same { .. }), "{error}");
    assert_eq!(fs::read(&output).unwrap(), b"before");
    assert_eq!(fs::read_dir(made.folder.path()).unwrap().count(), 2);
}

#[test]
fn quantized_weights_are_quantized_again_only_if_allowed() {
    let made = made();
    let small = made.folder.path().join("small");
    made.run("small", Mix::Named(FileType::Q8_0), &QuantizeOptions::default()).unwrap();
    let again = Made { folder: tempfile::tempdir().unwrap(), input: small };
    let mix = Mix::Named(FileType::Q4_0);
    let error = again.run("x", mix, &QuantizeOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Requantize { ty: QuantType::Q8_0, .. }), "{error}");
    let options = QuantizeOptions { allow_requantize: true, ..QuantizeOptions::default() };
    again.run("x", mix, &options).unwrap();
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.gguf");
    let mut writer = Writer::new();
    writer.set("general.architecture", "llama").unwrap();
    let mut values = noise(3, 512);
    values[300] = f32::NAN;
    writer.tensor("blk.0.attn_q.weight", &[256, 2], QuantType::F32, bytes(&values)).unwrap();
    writer.write_file(&input).unwrap();
    let made = Made { folder, input };
    let error = made.run("x", Mix::Named(FileType::Q6_K), &QuantizeOptions::default()).unwrap_err();
    assert!(error.to_string().contains("attn_q"), "{error}");
}

#[test]
fn types_may_be_asked_for_by_name() {
    let made = made();
    let options = QuantizeOptions {
        overrides: vec![("attn_v".into(), QuantType::Q8_0)],
        embedding_type: Some(QuantType::F16),
        ..QuantizeOptions::default()
    };
    let (report, _) = made.run("x", Mix::Named(FileType::Q4_K_S), &options).unwrap();
    let of = |name: &str| report.tensors.iter().find(|t| t.name == name).unwrap().to;
    assert_eq!(of("token_embd.weight"), QuantType::F16);
    assert_eq!(of("blk.1.attn_v.weight"), QuantType::Q8_0);
    assert_eq!(of("blk.1.attn_q.weight"), QuantType::Q4_K);
    assert_eq!(of("output_norm.weight"), QuantType::F32);
}

#[test]
fn a_wrong_file_type_is_told_which_there_are() {
    let hint = file_type("Q9").unwrap_err().hint().unwrap();
    assert!(hint.contains("Q4_K_M"), "{hint}");
}

#[test]
fn rows_that_no_block_divides_are_stored_as_halves_to_reach_a_size() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.gguf"), folder.path().join("out.gguf"));
    let mut writer = Writer::new();
    writer.set("general.architecture", "llama").unwrap();
    writer.set("llama.block_count", 1u32).unwrap();
    let mut add = |name: &str, values: Vec<f32>| {
        writer.tensor(name, &[172, 50], QuantType::F32, bytes(&values)).unwrap();
    };
    add("blk.0.attn_q.weight", noise(1, 172 * 50));
    // F16 does not hold these.
    add("blk.0.attn_k.weight", noise(2, 172 * 50).iter().map(|x| 1e6 * x).collect());
    writer.write_file(&input).unwrap();
    let run = |size| {
        let go_on = &mut |_: &Progress<'_>| ControlFlow::Continue(());
        quantize(&input, &output, Mix::Size(size), &QuantizeOptions::default(), go_on)
    };
    let report = run(60_000).unwrap();
    let types: Vec<_> = report.tensors.iter().map(|t| (t.name.as_str(), t.to)).collect();
    let expected =
        [("blk.0.attn_k.weight", QuantType::F32), ("blk.0.attn_q.weight", QuantType::F16)];
    assert_eq!(types, expected);
    assert!(report.bytes_after <= 60_000);
    assert!(matches!(run(50_000), Err(Error::TargetTooSmall { .. })));
}

#[test]
fn threads_are_counted_before_any_starts() {
    let options = QuantizeOptions { threads: 100_000, ..QuantizeOptions::default() };
    let refused = made().run("out.gguf", Mix::Named(FileType::Q8_0), &options);
    assert!(matches!(refused, Err(Error::ThreadCount { .. })), "{:?}", refused.err());
}
