//! Which files of a repository a tag means.

use crate::Digest;
use crate::fetch::error::{Error, Result};
use crate::quant::{USUAL, numbered, quant_of, without_end, without_part};

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

/// The files that a tag means: a quant in either case, a file's name or path with or without its end, a pattern
/// with `*` for either, or `latest`.
///
/// # Errors
/// [`Error::NoVariant`] with what is there, the nearest first.
pub fn choose(repo: &str, files: &[File], tag: &str) -> Result<Choice> {
    let sets = sets(files);
    let is_unsaid = tag.eq_ignore_ascii_case("latest");
    let found = match tag {
        _ if is_unsaid => usual(&sets),
        pattern if pattern.contains('*') => alike(&sets, pattern),
        name => named(&sets, name),
    };
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

impl Set {
    /// What it is asked for by.
    fn tag(&self) -> &str {
        self.quant.as_deref().unwrap_or(&self.name)
    }
}

/// Models of a repository in the order of their names; of split ones only those that are whole.
fn sets(files: &[File]) -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::new();
    let mut sorted: Vec<&File> = files.iter().filter(|file| is_model(&file.path)).collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    for file in sorted {
        let name = without_part(&file.path).to_owned();
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
    numbered(without_end(path)).is_some()
}

fn is_complete(files: &[File]) -> bool {
    let first = files.first().and_then(|file| numbered(without_end(&file.path)));
    let Some((.., count)) = first else { return files.len() == 1 };
    let is_next = |(at, file): (usize, &File)| {
        let said = numbered(without_end(&file.path));
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
    let tag = without_part(tag);
    let is_tag = |text: &str| text.eq_ignore_ascii_case(tag);
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

/// What a pattern is for: of several that it fits the one with the shortest name, which has nothing but what was asked for.
fn alike<'a>(sets: &'a [Set], pattern: &str) -> Option<&'a Set> {
    let pattern = pattern.to_ascii_lowercase();
    let is_meant = |file: &File| {
        let path = file.path.to_ascii_lowercase();
        fits(&pattern, &path) || path.rsplit('/').next().is_some_and(|name| fits(&pattern, name))
    };
    let meant = sets.iter().filter(|set| set.files.first().is_some_and(is_meant));
    meant.min_by_key(|set| set.name.len())
}

/// Whether a text is a pattern, in which `*` is any text.
fn fits(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(last) = pieces.next_back() else { return text == pattern };
    let Some(mut rest) = text.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    pieces.all(|piece| match rest.split_once(piece) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
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
    let mut tags: Vec<String> = sets.iter().map(|set| set.tag().to_owned()).collect();
    tags.dedup();
    // Names may be anything.
    let short = |text: &str| text.chars().take(100).collect::<String>().to_ascii_uppercase();
    tags.sort_by_key(|known| strsim::levenshtein(&short(known), &short(tag)));
    tags
}

#[cfg(test)]
mod tests;
