//! The file type that a file's name tells: `Qwen3-4B-Q4_K_M.gguf` -> `Q4_K_M`.

/// What is taken where nothing is said, the first that is there.
pub(crate) const USUAL: [&str; 22] = [
    "Q4_K_M",
    "UD-Q4_K_XL",
    "Q4_K_XL",
    "Q4_K_L",
    "Q4_K_S",
    "Q4_K",
    "MXFP4",
    "MXFP4_MOE",
    "IQ4_XS",
    "IQ4_NL",
    "Q4_0",
    "Q4_1",
    "Q5_K_M",
    "Q5_K_S",
    "Q5_0",
    "Q6_K",
    "Q8_0",
    "Q3_K_L",
    "Q3_K_M",
    "BF16",
    "F16",
    "F32",
];

/// The file type that the name of a GGUF file tells, or else that of its folder, in capital letters.
///
/// The last word that is one counts, since names of models may have such words too. Prefixes of
/// publishers (`UD-Q4_K_XL`) belong to it.
pub fn quant_of(path: &str) -> Option<String> {
    let mut names = without_part(path).rsplit(['/', '\\']);
    names.next().and_then(in_name).or_else(|| names.next().and_then(in_name))
}

fn in_name(name: &str) -> Option<String> {
    let words: Vec<&str> = name.split(['-', '.', ' ']).collect();
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
    let stem = without_end(name);
    part_of(stem).map_or(stem, |(prefix, _, _)| prefix)
}

/// Name without `.gguf`, in whatever case that is.
pub(crate) fn without_end(name: &str) -> &str {
    match name.len().checked_sub(5).map(|at| (name.get(..at), name.get(at..))) {
        Some((Some(stem), Some(end))) if end.eq_ignore_ascii_case(".gguf") => stem,
        _ => name,
    }
}

/// `prefix-00001-of-00003` (with or without `.gguf`): prefix, which part (from 1), of how many.
pub(crate) fn part_of(name: &str) -> Option<(&str, u32, u32)> {
    numbered(without_end(name)).filter(|(_, no, count)| (1..=*count).contains(no))
}

/// The same of a name without end, also where there can be no such part.
pub(crate) fn numbered(stem: &str) -> Option<(&str, u32, u32)> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (prefix, no) = rest.rsplit_once('-')?;
    let number = |digits: &str| {
        let plain = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
        if plain { digits.parse::<u32>().ok() } else { None }
    };
    Some((prefix, number(no)?, number(count)?))
}

fn is_quant(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    let float = ["F32", "F16", "BF16", "FP16", "FP32", "MXFP4", "NVFP4"];
    if float.contains(&word.as_str()) || word.starts_with("MXFP4_") {
        return true;
    }
    let rest = ["IQ", "TQ", "Q"].iter().find_map(|begin| word.strip_prefix(begin));
    let Some(rest) = rest else { return false };
    let mut chars = rest.chars();
    let bits = chars.next().is_some_and(|c| ('1'..='8').contains(&c));
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
