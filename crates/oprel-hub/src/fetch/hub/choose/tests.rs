use super::*;

fn files(paths: &[&str]) -> Vec<File> {
    let file = |(at, path): (usize, &&str)| File {
        path: (*path).into(),
        size: 1000 - at as u64,
        digest: None,
    };
    paths.iter().enumerate().map(file).collect()
}

fn chosen(paths: &[&str], tag: &str) -> Vec<String> {
    let choice = choose("u/r", &files(paths), tag).expect("there is one");
    choice.model.into_iter().map(|file| file.path).collect()
}

#[test]
fn quants_are_read_from_names_and_folders() {
    for (path, quant) in [
        ("Qwen3-0.6B-Q4_K_M.gguf", "Q4_K_M"),
        ("model.q8_0.gguf", "Q8_0"),
        ("UD-Q4_K_XL/big-UD-Q4_K_XL-00001-of-00002.gguf", "UD-Q4_K_XL"),
        ("IQ2_XXS/part-00001-of-00009.gguf", "IQ2_XXS"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("x-F16.gguf", "F16"),
        ("llama-3.2-1b-instruct-q4_k_m.gguf", "Q4_K_M"),
    ] {
        assert_eq!(quant_of(path).as_deref(), Some(quant), "{path}");
    }
    for path in ["model.gguf", "Qwen3-8B.gguf", "q.gguf", "Q9_0.gguf", "é.gguf"] {
        assert_eq!(quant_of(path), None, "{path}");
    }
}

#[test]
fn a_tag_is_a_quant_in_either_case_or_a_name() {
    let all = ["m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-UD-Q3_K_XL.gguf", "README.md", "m-Q4_K_M.txt"];
    assert_eq!(chosen(&all, "q8_0"), ["m-Q8_0.gguf"]);
    assert_eq!(chosen(&all, "latest"), ["m-Q4_K_M.gguf"]);
    assert_eq!(chosen(&all, "m-q8_0.GGUF"), ["m-Q8_0.gguf"]);
    assert_eq!(chosen(&all, "m-Q8_0"), ["m-Q8_0.gguf"]);
    assert_eq!(chosen(&all, "q3_k_xl"), ["m-UD-Q3_K_XL.gguf"]);
}

#[test]
fn split_models_are_whole_and_in_order_or_not_there() {
    let two = ["d/m-Q4_K_M-00002-of-00002.gguf", "d/m-Q4_K_M-00001-of-00002.gguf", "m-F16.gguf"];
    let whole = ["d/m-Q4_K_M-00001-of-00002.gguf", "d/m-Q4_K_M-00002-of-00002.gguf"];
    assert_eq!(chosen(&two, "Q4_K_M"), whole);
    let half = ["m-Q4_K_M-00001-of-00002.gguf", "m-F16.gguf"];
    assert_eq!(chosen(&half, "latest"), ["m-F16.gguf"]);
    assert!(choose("u/r", &files(&half), "Q4_K_M").is_err());
}

#[test]
fn without_the_usual_quant_the_next_is_taken_and_said() {
    let choice = choose("u/r", &files(&["m-Q8_0.gguf", "m-Q5_K_M.gguf"]), "latest");
    let choice = choice.expect("there is one");
    assert_eq!((choice.quant.as_str(), choice.is_second_best), ("Q5_K_M", true));
    assert_eq!(chosen(&["odd.gguf", "odder.gguf"], "latest"), ["odder.gguf"], "the smaller one");
}

#[test]
fn a_wrong_tag_names_what_is_there_the_nearest_first() {
    let all = ["m-Q8_0.gguf", "m-Q4_K_S.gguf", "m-F16.gguf", "mmproj-F16.gguf"];
    match choose("u/r", &files(&all), "q4_k_m") {
        Err(Error::NoVariant { there, .. }) => {
            assert_eq!(there.first().map(String::as_str), Some("Q4_K_S"));
            assert_eq!(there.len(), 3);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn projectors_stand_beside_and_are_no_models() {
    let all = ["m-Q4_K_M.gguf", "mmproj-m-BF16.gguf", "mmproj-m-F16.gguf", "m-imatrix.gguf"];
    let choice = choose("u/r", &files(&all), "latest").expect("there is one");
    assert_eq!(choice.projector.map(|file| file.path).as_deref(), Some("mmproj-m-F16.gguf"));
    assert!(choose("u/r", &files(&["mmproj-F16.gguf"]), "latest").is_err());
}

#[test]
fn a_pattern_picks_the_file_with_nothing_else_in_its_name() {
    let all = [
        "m-Q4_K_M-fp16.gguf",
        "m-Q4_K_M.gguf",
        "m-Q8_0.gguf",
        "mmproj-m-Q4_K_M.gguf",
        "Q6_K/m-Q6_K-00001-of-00002.gguf",
        "Q6_K/m-Q6_K-00002-of-00002.gguf",
    ];
    for (pattern, file) in [
        ("*Q4_K_M*.gguf", "m-Q4_K_M.gguf"),
        ("*q8_0.GGUF", "m-Q8_0.gguf"),
        ("*fp16*", "m-Q4_K_M-fp16.gguf"),
        ("M-*_0.gguf", "m-Q8_0.gguf"),
    ] {
        assert_eq!(chosen(&all, pattern), [file], "{pattern}");
    }
    for pattern in ["m-Q6_K*.gguf", "*Q6_K/*", "Q6_K/m-*-of-*.gguf"] {
        assert_eq!(chosen(&all, pattern), all[4..], "{pattern}");
    }
    for pattern in ["*Q5_K_M*", "*Q8_0", "Q8_0*", "*mmproj*"] {
        assert!(choose("u/r", &files(&all), pattern).is_err(), "{pattern}");
    }
}

#[test]
fn a_pattern_is_any_text_where_its_stars_are() {
    for (pattern, text, is_one) in [
        ("*", "", true),
        ("a*", "a", true),
        ("a*a", "a", false),
        ("a*a", "aa", true),
        ("*b*b*", "abab", true),
        ("*b*b*", "ab", false),
        ("a**c", "abc", true),
        ("a", "ab", false),
        ("*é*", "aéa", true),
    ] {
        assert_eq!(fits(pattern, text), is_one, "{pattern} {text}");
    }
}
