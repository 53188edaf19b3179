use super::*;

fn sample() -> Imatrix {
    let entry = |name: &str, sums: &[f32], counts: &[f32]| Entry {
        name: name.into(),
        sums: sums.into(),
        counts: counts.into(),
    };
    Imatrix {
        entries: vec![
            entry("blk.0.attn_q.weight", &[2.0, 4.0, 8.0, 0.0], &[2.0]),
            entry("blk.0.ffn_up_exps.weight", &[3.0, 6.0, 0.0, 0.0], &[3.0, 0.0]),
        ],
        datasets: vec!["text.txt".into()],
        chunk_count: 7,
        chunk_size: 512,
    }
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix.gguf");
    sample().write(&path).unwrap();
    assert_eq!(Imatrix::read(&path).unwrap(), sample());
}

#[test]
fn importance_is_the_mean_and_one_where_nothing_is_known() {
    let of = |name: &str, columns, experts| sample().importance(name, columns, experts);
    let dense = of("blk.0.attn_q.weight", 4, 1).unwrap().unwrap();
    assert_eq!(dense, [1.0, 2.0, 4.0, 0.0]);
    let experts = of("blk.0.ffn_up_exps.weight", 2, 2).unwrap().unwrap();
    assert_eq!(experts, [1.0, 2.0, 1.0, 1.0]);
    assert_eq!(of("output.weight", 4, 1).unwrap(), None);
    let error = of("blk.0.attn_q.weight", 8, 1).unwrap_err();
    assert!(matches!(error, Error::ImportanceSize { found: 4, expected: 8, .. }));
}

#[test]
fn a_number_that_is_none_is_an_error() {
    let mut imatrix = sample();
    imatrix.entries[0].sums[1] = f32::NAN;
    let error = imatrix.importance("blk.0.attn_q.weight", 4, 1).unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. }));
}

fn old_format() -> Vec<u8> {
    let mut bytes = 1i32.to_le_bytes().to_vec();
    let name = b"blk.0.attn_q.weight";
    bytes.extend((name.len() as i32).to_le_bytes());
    bytes.extend(name);
    bytes.extend(5i32.to_le_bytes());
    bytes.extend(2i32.to_le_bytes());
    bytes.extend(10f32.to_le_bytes());
    bytes.extend(20f32.to_le_bytes());
    bytes.extend(5i32.to_le_bytes());
    bytes.extend(4i32.to_le_bytes());
    bytes.extend(b"wiki");
    bytes
}

#[test]
fn the_older_format_is_read() {
    let imatrix = from_dat(&old_format()).unwrap();
    let means = imatrix.importance("blk.0.attn_q.weight", 2, 1).unwrap().unwrap();
    assert_eq!(means, [2.0, 4.0]);
    assert_eq!((imatrix.chunk_count, &*imatrix.datasets), (5, &["wiki".to_owned()][..]));
}

#[test]
fn every_truncation_and_other_files_are_refused() {
    let whole = old_format();
    // Without what follows the entries it is whole too.
    let entries = whole.len() - 12;
    for n in (0..whole.len()).filter(|n| *n != entries && *n < entries + 4) {
        assert_eq!(from_dat(&whole[..n]), None, "{n} bytes");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    for bytes in [&b"GGUFnonsense"[..], b"\xff\xff\xff\xff", b"", b"once upon a time there was"] {
        fs::write(&path, bytes).unwrap();
        assert!(Imatrix::read(&path).is_err());
    }
}
