//! Which files of a repository a tag means.

use crate::Digest;
use crate::fetch::error::{Error, Result};

/// What is taken where nothing is said, the first that is there.
const USUAL: [&str; 22] = [
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
/// Which projector is taken, the first that is there.
const PROJECTORS: [&str; 4] = ["F16", "BF16", "Q8_0", "F32"];

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path within the repository.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Its digest, where the hub has one.
    pub digest: Option<Digest>,
}

/// What a tag means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The model: one file, or all of a split one in order.
    pub model: Vec<File>,
    /// What turns images or sound into what the model reads, if the repository has it.
    pub projector: Option<File>,
    /// How its weights are stored, as the file's name says: `Q4_K_M`.
    pub quant: String,
    /// Whether the tag said nothing and something else than is usual was taken.
    pub is_second_best: bool,
}

/// A model of a repository: the files that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Set {
    name: String,
    quant: Option<String>,
    files: Vec<File>,
}

/// The files that a tag means: a quant in either case, a file's name with or without its end, or `latest`.
///
/// # Errors
/// [`Error::NoVariant`] with what is there, the nearest first.
pub fn choose(repo: &str, files: &[File], tag: &str) -> Result<Choice> {
    let sets = sets(files);
    let is_unsaid = tag.eq_ignore_ascii_case("latest");
    let found = if is_unsaid { usual(&sets) } else { named(&sets, tag) };
    let Some(set) = found else {
        let there = nearest(&sets, tag);
        return Err(Error::NoVariant { repo: repo.into(), tag: tag.into(), there });
    };
    let quant = set.quant.clone().unwrap_or_else(|| "unknown".into());
    Ok(Choice {
        model: set.files.clone(),
        projector: projector(files),
        is_second_best: is_unsaid && quant != USUAL[0],
        quant,
    })
}

/// The quants that a repository has, and their bytes.
pub fn variants(files: &[File]) -> Vec<(String, u64)> {
    let bytes = |set: &Set| set.files.iter().map(|file| file.size).sum();
    sets(files).iter().map(|set| (set.tag().to_owned(), bytes(set))).collect()
}

/// How weights are stored, as a file's or folder's name says.
pub fn quant_of(path: &str) -> Option<String> {
    let stem = stem(path);
    let (folder, name) = stem.rsplit_once('/').unwrap_or(("", &stem));
    in_name(name).or_else(|| in_name(folder.rsplit('/').next().unwrap_or_default()))
}

impl Set {
    /// What it is asked for by.
    fn tag(&self) -> &str {
        self.quant.as_deref().unwrap_or(&self.name)
    }
}

/// A path without its end and without its number among the files of a split model.
fn stem(path: &str) -> String {
    let path = without_end(path);
    split_number(path).map_or(path, |(name, ..)| name).to_owned()
}

fn without_end(path: &str) -> &str {
    let at = path.len().saturating_sub(5);
    let is_gguf = path.is_char_boundary(at) && path[at..].eq_ignore_ascii_case(".gguf");
    if is_gguf { &path[..at] } else { path }
}

/// Name, number and count of `name-00002-of-00003`.
fn split_number(stem: &str) -> Option<(&str, u32, u32)> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(count) || !is_number(number) {
        return None;
    }
    Some((name, number.parse().ok()?, count.parse().ok()?))
}

/// Models of a repository in the order of their names; of split ones only those that are whole.
fn sets(files: &[File]) -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::new();
    let mut sorted: Vec<&File> = files.iter().filter(|file| is_model(&file.path)).collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    for file in sorted {
        let name = stem(&file.path);
        match sets.last_mut().filter(|set| set.name == name && is_split(&file.path)) {
            Some(set) => set.files.push(file.clone()),
            None => {
                let quant = quant_of(&file.path);
                sets.push(Set { name, quant, files: vec![file.clone()] });
            }
        }
    }
    sets.retain(|set| is_complete(&set.files));
    sets
}

fn is_split(path: &str) -> bool {
    split_number(without_end(path)).is_some()
}

fn is_complete(files: &[File]) -> bool {
    let first = files.first().and_then(|file| split_number(without_end(&file.path)));
    let Some((.., count)) = first else { return files.len() == 1 };
    let is_next = |(at, file): (usize, &File)| {
        let said = split_number(without_end(&file.path));
        said.is_some_and(|(_, number, of)| number as usize == at + 1 && of == count)
    };
    files.len() == count as usize && files.iter().enumerate().all(is_next)
}

fn is_model(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let name = lower.rsplit('/').next().unwrap_or_default();
    lower.ends_with(".gguf") && !name.contains("mmproj") && !name.contains("imatrix")
}

fn usual(sets: &[Set]) -> Option<&Set> {
    let of = |quant: &&str| sets.iter().find(|set| set.quant.as_deref() == Some(*quant));
    let bytes = |set: &&Set| set.files.iter().map(|file| file.size).sum::<u64>();
    USUAL.iter().find_map(of).or_else(|| sets.iter().min_by_key(bytes))
}

fn named<'a>(sets: &'a [Set], tag: &str) -> Option<&'a Set> {
    let tag = stem(tag);
    let is_tag = |text: &str| text.eq_ignore_ascii_case(&tag);
    let by_name =
        |set: &&Set| is_tag(&set.name) || is_tag(set.name.rsplit('/').next().unwrap_or_default());
    let by_quant = |set: &&Set| set.quant.as_deref().is_some_and(is_tag);
    // `Q4_K_XL` where only `UD-Q4_K_XL` is.
    let dynamic = format!("UD-{tag}");
    let by_dynamic =
        |set: &&Set| set.quant.as_deref().is_some_and(|q| q.eq_ignore_ascii_case(&dynamic));
    sets.iter()
        .find(by_name)
        .or_else(|| sets.iter().find(by_quant))
        .or_else(|| sets.iter().find(by_dynamic))
}

fn projector(files: &[File]) -> Option<File> {
    let is_projector = |file: &&File| {
        let lower = file.path.to_ascii_lowercase();
        lower.ends_with(".gguf") && lower.rsplit('/').next().is_some_and(|n| n.contains("mmproj"))
    };
    let all: Vec<_> = files.iter().filter(is_projector).collect();
    let of = |quant: &&str| {
        all.iter().find(|file| quant_of(&file.path).as_deref() == Some(*quant)).copied()
    };
    PROJECTORS.iter().find_map(of).or(all.first().copied()).cloned()
}

/// What is there, the nearest to a tag first.
fn nearest(sets: &[Set], tag: &str) -> Vec<String> {
    let tag = tag.to_ascii_uppercase();
    let mut tags: Vec<String> = sets.iter().map(|set| set.tag().to_owned()).collect();
    tags.dedup();
    tags.sort_by_key(|known| distance(&known.to_ascii_uppercase(), &tag));
    tags
}

/// How many characters must be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(100).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The last piece of a name that is a quant, with `UD-` where that is before it.
fn in_name(name: &str) -> Option<String> {
    let pieces: Vec<&str> = name.split(['-', '.', ' ']).collect();
    let at = pieces.iter().rposition(|piece| is_quant(&piece.to_ascii_uppercase()))?;
    let quant = pieces[at].to_ascii_uppercase();
    let is_dynamic = at > 0 && pieces[at - 1].eq_ignore_ascii_case("UD");
    Some(if is_dynamic { format!("UD-{quant}") } else { quant })
}

fn is_quant(text: &str) -> bool {
    let numbered = |begin: &str| {
        let rest = text.strip_prefix(begin);
        rest.is_some_and(|rest| {
            rest.starts_with(|c: char| ('1'..='8').contains(&c)) && rest[1..].starts_with('_')
        })
    };
    matches!(text, "F16" | "BF16" | "F32" | "FP16" | "FP32" | "NVFP4")
        || text.starts_with("MXFP4")
        || numbered("Q")
        || numbered("IQ")
        || numbered("TQ")
}

#[cfg(test)]
mod tests;
