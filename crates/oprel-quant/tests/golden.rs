//! Results equal ggml's bit for bit: small golden files from a clone, the full fixture if there.

use oprel_quant::{Error, QuantType, RUN, Unpacked, dequantize, has_mins, quantize, unpack};
use std::path::PathBuf;

const DEQUANTIZE: &[u8] = include_bytes!("golden/dequantize.bin");
const QUANTIZE: &[u8] = include_bytes!("golden/quantize.bin");

/// One entry of a golden file: a type, its stored form, the f32 values.
struct Golden<'a> {
    ty: QuantType,
    raw: &'a [u8],
    values: Vec<f32>,
}

fn entries(mut file: &[u8]) -> Vec<Golden<'_>> {
    let mut found = Vec::new();
    while !file.is_empty() {
        let len = usize::from(file.split_off_first().unwrap().to_owned());
        let name = std::str::from_utf8(file.split_off(..len).unwrap()).unwrap();
        let raw = sized(&mut file);
        let values = sized(&mut file);
        let ty = QuantType::from_name(name).unwrap();
        found.push(Golden { ty, raw, values: f32s(values) });
    }
    found
}

fn sized<'a>(file: &mut &'a [u8]) -> &'a [u8] {
    let len = u32::from_le_bytes(file.split_off(..4).unwrap().try_into().unwrap());
    file.split_off(..len as usize).unwrap()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn assert_same_bits(ty: QuantType, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "{ty} weight {i}: {a} is not {b}");
    }
}

#[test]
fn a_row_of_each_type_dequantizes_to_ggmls_bits() {
    let entries = entries(DEQUANTIZE);
    assert_eq!(entries.len(), 26);
    for golden in entries {
        let mut ours = vec![0.0; golden.values.len()];
        dequantize(golden.ty, golden.raw, &mut ours).unwrap();
        assert_same_bits(golden.ty, &ours, &golden.values);
    }
}

#[test]
fn quantizers_give_ggmls_bytes() {
    let entries = entries(QUANTIZE);
    assert_eq!(entries.len(), 7);
    for golden in entries {
        let mut ours = vec![0; golden.raw.len()];
        quantize(golden.ty, &golden.values, &mut ours).unwrap();
        let differing = ours.iter().zip(golden.raw).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 0, "{}: {differing} bytes of {}", golden.ty, ours.len());
    }
}

/// The tensors of a little-endian GGUF v3 file without arrays in its metadata: name, offset.
fn tensors(file: &[u8]) -> Vec<(String, usize)> {
    fn number(rest: &mut &[u8], n: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..n].copy_from_slice(rest.split_off(..n).unwrap());
        u64::from_le_bytes(bytes)
    }
    fn string(rest: &mut &[u8]) -> String {
        let len = number(rest, 8) as usize;
        String::from_utf8(rest.split_off(..len).unwrap().to_vec()).unwrap()
    }
    let mut rest = &file[8..];
    let (n_tensors, n_keys) = (number(&mut rest, 8), number(&mut rest, 8));
    for _ in 0..n_keys {
        string(&mut rest);
        assert_eq!(number(&mut rest, 4), 8, "only strings are expected");
        string(&mut rest);
    }
    let mut infos = Vec::new();
    for _ in 0..n_tensors {
        let name = string(&mut rest);
        for _ in 0..number(&mut rest, 4) {
            number(&mut rest, 8);
        }
        number(&mut rest, 4);
        infos.push((name, number(&mut rest, 8) as usize));
    }
    let data = (file.len() - rest.len()).next_multiple_of(32);
    infos.into_iter().map(|(name, offset)| (name, data + offset)).collect()
}

/// `../shared/fixtures/{name}`, if there; a panic instead of `None` where `CI` is set.
fn shared_fixture(name: &str) -> Option<Vec<u8>> {
    let shared = std::env::var_os("OPREL_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let bytes = std::fs::read(shared.join("fixtures").join(name)).ok();
    if bytes.is_none() {
        assert!(std::env::var_os("CI").is_none(), "../shared/fixtures/{name} is not there");
        println!("skipped: needs ../shared/fixtures/{name}");
    }
    bytes
}

#[test]
fn the_full_fixture_dequantizes_to_ggmls_bits() {
    const WEIGHTS: usize = 8 * 1024;
    let Some(file) = shared_fixture("quant-types.gguf") else { return };
    let tensors = tensors(&file);
    let offset = |name: &str| tensors.iter().find(|t| t.0 == name).unwrap().1;
    let mut n_types = 0;
    for ty in tensors.iter().filter_map(|(name, _)| name.strip_suffix(".raw")) {
        let (raw, twin) = (offset(&format!("{ty}.raw")), offset(&format!("{ty}.f32")));
        let ty = QuantType::from_name(ty).unwrap();
        let mut ours = vec![0.0; WEIGHTS];
        dequantize(ty, &file[raw..][..ty.row_bytes(WEIGHTS).unwrap()], &mut ours).unwrap();
        assert_same_bits(ty, &ours, &f32s(&file[twin..][..4 * WEIGHTS]));
        n_types += 1;
    }
    assert_eq!(n_types, 26);
}

/// Types that hold weights in blocks.
fn block_types() -> impl Iterator<Item = QuantType> {
    let intermediate = [QuantType::Q8_1, QuantType::Q8_K];
    QuantType::all().filter(move |ty| ty.is_quantized() && !intermediate.contains(ty))
}

fn noise(seed: u64) -> impl FnMut() -> u8 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    }
}

#[test]
fn any_bytes_dequantize_to_scaled_codes() {
    for ty in block_types() {
        let mut noise = noise(ty as u64 * 77 + 5);
        let mut parts = Unpacked::ZERO;
        let mut weights = vec![0.0; ty.block_len()];
        for round in 0..300 {
            let mut block: Vec<u8> = (0..ty.block_bytes()).map(|_| noise()).collect();
            match round {
                0 => block.fill(0),
                1 => block.fill(0xff),
                2 => block.fill(0x7f), // NaN scales
                _ => {}
            }
            dequantize(ty, &block, &mut weights).unwrap();
            unpack(ty, &block, &mut parts).unwrap();
            for (i, weight) in weights.iter().enumerate() {
                let min = if has_mins(ty) { parts.mins[i / RUN] } else { -0.0 };
                let expected = parts.scales[i / RUN] * f32::from(parts.codes[i]) + min;
                assert!(*weight == expected || weight.is_nan() && expected.is_nan(), "{ty}");
            }
        }
    }
}

#[test]
fn numbers_that_are_none_are_quantized_without_panic() {
    let mut source = vec![1.0f32; 256];
    source[3] = f32::NAN;
    source[40] = f32::INFINITY;
    source[70] = f32::NEG_INFINITY;
    source[100] = f32::MAX;
    source[101] = f32::MIN;
    source[130] = f32::MIN_POSITIVE / 8.0;
    for ty in entries(QUANTIZE).iter().map(|golden| golden.ty) {
        let mut stored = vec![0; ty.row_bytes(source.len()).unwrap()];
        quantize(ty, &source, &mut stored).unwrap();
        let mut back = vec![0.0; source.len()];
        dequantize(ty, &stored, &mut back).unwrap();
        assert!(back[160..].iter().all(|x| (x - 1.0).abs() < 1e-2), "{ty}");
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let length = |result| matches!(result, Err(Error::Length { .. }));
    assert!(length(dequantize(QuantType::Q4_K, &[0; 144], &mut [0.0; 255])));
    assert!(length(dequantize(QuantType::Q4_K, &[0; 143], &mut [0.0; 256])));
    assert!(length(dequantize(QuantType::F16, &[0; 3], &mut [0.0; 1])));
    assert!(length(quantize(QuantType::Q8_0, &[0.0; 33], &mut [0; 34])));
    assert!(length(unpack(QuantType::Q8_0, &[0; 68], &mut Unpacked::ZERO.clone())));
}

#[test]
fn types_without_a_conversion_are_named() {
    let error = dequantize(QuantType::I32, &[0; 4], &mut [0.0]).unwrap_err();
    assert_eq!(error.to_string(), "weights stored as I32 cannot be read as numbers");
    let error = quantize(QuantType::Q8_K, &[0.0; 256], &mut [0; 292]).unwrap_err();
    assert_eq!(error.to_string(), "there is no quantizer to Q8_K");
}
