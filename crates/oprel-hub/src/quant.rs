//! The file type that a file's name tells: `Qwen3-4B-Q4_K_M.gguf` -> `Q4_K_M`.

/// The file type that the name of a GGUF file tells, in capital letters.
///
/// The last word that is one counts, since names of models may have such words too. Prefixes of
/// publishers (`UD-Q4_K_XL`) belong to it.
pub fn quant_of(file_name: &str) -> Option<String> {
    let stem = without_part(file_name.rsplit(['/', '\\']).next().unwrap_or(file_name));
    let words: Vec<&str> = stem.split(['-', '.']).collect();
    let (idx, word) = words.iter().enumerate().rev().find(|(_, word)| is_quant(word))?;
    let before = idx.checked_sub(1).and_then(|idx| words.get(idx));
    let quant = word.to_ascii_uppercase();
    match before {
        Some(ud) if ud.eq_ignore_ascii_case("ud") => Some(format!("UD-{quant}")),
        _ => Some(quant),
    }
}

/// Name without `.gguf` and without which part of how many it is.
pub(crate) fn without_part(name: &str) -> &str {
    let stem = match name.len().checked_sub(5).map(|at| (name.get(..at), name.get(at..))) {
        Some((Some(stem), Some(end))) if end.eq_ignore_ascii_case(".gguf") => stem,
        _ => name,
    };
    part_of(stem).map_or(stem, |(prefix, _, _)| prefix)
}

/// `prefix-00001-of-00003` (with or without `.gguf`): prefix, which part (from 1), of how many.
pub(crate) fn part_of(name: &str) -> Option<(&str, u32, u32)> {
    let stem = name.strip_suffix(".gguf").unwrap_or(name);
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (prefix, no) = rest.rsplit_once('-')?;
    let number = |digits: &str| {
        let plain = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
        if plain { digits.parse::<u32>().ok() } else { None }
    };
    let (no, count) = (number(no)?, number(count)?);
    (1..=count).contains(&no).then_some((prefix, no, count))
}

fn is_quant(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    let float = ["F32", "F16", "BF16", "FP16", "FP32", "MXFP4", "MXFP4_MOE", "NVFP4"];
    if float.contains(&word.as_str()) {
        return true;
    }
    let rest = ["IQ", "TQ", "Q"].iter().find_map(|begin| word.strip_prefix(begin));
    let Some(rest) = rest else { return false };
    let mut chars = rest.chars();
    let bits = chars.next().is_some_and(|c| c.is_ascii_digit());
    let kind = chars.as_str();
    let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    bits && kind.starts_with('_') && kind.len() > 1 && kind.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_type_is_the_last_word_that_is_one() {
        for (name, quant) in [
            ("Qwen3-4B-Q4_K_M.gguf", Some("Q4_K_M")),
            ("qwen2.5-0.5b-instruct-q8_0.gguf", Some("Q8_0")),
            ("model.Q5_K_S.gguf", Some("Q5_K_S")),
            ("gpt-oss-20b-mxfp4.gguf", Some("MXFP4")),
            ("gemma-3-1b-it-BF16.gguf", Some("BF16")),
            ("x-UD-Q4_K_XL.gguf", Some("UD-Q4_K_XL")),
            ("IQ4_XS/big-IQ4_XS-00002-of-00003.gguf", Some("IQ4_XS")),
            ("Q4-report-F16.gguf", Some("F16")),
            ("plain.gguf", None),
            ("Q.gguf", None),
            ("", None),
            ("é.gguf", None),
        ] {
            assert_eq!(quant_of(name).as_deref(), quant, "{name}");
        }
    }

    #[test]
    fn parts_are_told_from_names() {
        assert_eq!(part_of("a-00002-of-00003.gguf"), Some(("a", 2, 3)));
        for name in ["a-00004-of-00003", "a-00000-of-00003", "a-2-of-3", "a", "-of-", "a-00001-of-"]
        {
            assert_eq!(part_of(name), None, "{name}");
        }
        assert_eq!(without_part("b-00001-of-00002.gguf"), "b");
    }
}
