//! What a Modelfile names: files found, values typed, ready to become a model.

use std::io;
use std::path::{Path, PathBuf};

use oprel_gguf::FileType;
use serde_json::{Map, Value};

use super::{Command, Modelfile, Problem, typed};
use crate::store::StoredMessage;
use crate::{Digest, Error, Result};

/// Words by which a path is told from a name that no file has.
const PATHS: [&str; 5] = ["/", "./", "../", "~", "\\"];

/// All that a model is to be made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipe {
    /// The model that it begins with, by reference.
    pub model: Option<String>,
    /// GGUF files: a model, or what is added to it.
    pub files: Vec<Piece>,
    /// LoRA adapters.
    pub adapters: Vec<Piece>,
    /// A smaller model that proposes tokens.
    pub drafts: Vec<Piece>,
    /// Chat template.
    pub template: Option<String>,
    /// System message.
    pub system: Option<String>,
    /// Licences, added to those that are there.
    pub licenses: Vec<String>,
    /// Options, in place of those of the same names.
    pub params: Map<String, Value>,
    /// Messages, in place of those that are there.
    pub messages: Vec<StoredMessage>,
    /// Who writes the prompt.
    pub renderer: Option<String>,
    /// Who reads the answer.
    pub parser: Option<String>,
    /// The version of Ollama that is needed.
    pub requires: Option<String>,
    /// How the weights of the model are to be stored; as they are, if nothing is said.
    pub quantize: Option<FileType>,
}

/// A file that becomes part of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its name, without folders.
    pub name: String,
    /// Where it is.
    pub at: PieceAt,
}

/// Where a file is that becomes part of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PieceAt {
    /// On this machine.
    Path(PathBuf),
    /// In the store already.
    Blob(Digest),
}

impl Modelfile {
    /// Finds the files that it names, relative to `folder`, and types its parameters.
    ///
    /// # Errors
    /// [`Problem`] for what cannot be used; what the system says of a file.
    pub fn resolve(&self, folder: &Path, home: Option<&Path>) -> Result<Recipe> {
        let mut recipe = Recipe::default();
        let (mut own, mut drafts) = (Vec::new(), Vec::new());
        for command in &self.commands {
            match command {
                Command::From(text) => match pieces(text, folder, home)? {
                    Some((path, pieces)) => {
                        own.push(path);
                        recipe.files.extend(pieces);
                    }
                    None if looks_like_path(text) => return Err(no_such(text)),
                    None => recipe.model = Some(text.clone()),
                },
                Command::Draft(text) => {
                    let (path, pieces) =
                        pieces(text, folder, home)?.ok_or_else(|| no_such(text))?;
                    drafts.push(path);
                    recipe.drafts.extend(pieces);
                }
                Command::Adapter(text) => {
                    let (_, pieces) = pieces(text, folder, home)?.ok_or_else(|| no_such(text))?;
                    recipe.adapters.extend(pieces);
                }
                command => plain(command, &mut recipe)?,
            }
        }
        let twice = drafts.iter().find(|draft| own.contains(draft));
        match twice {
            Some(path) => Err(Problem::SameAsDraft(path.display().to_string()).into()),
            None => Ok(recipe),
        }
    }
}

/// Commands that name no file.
fn plain(command: &Command, recipe: &mut Recipe) -> Result<()> {
    match command {
        Command::Template(text) => recipe.template = Some(text.clone()),
        Command::System(text) => recipe.system = Some(text.clone()),
        Command::License(text) => recipe.licenses.push(text.clone()),
        Command::Renderer(text) => recipe.renderer = Some(text.clone()),
        Command::Parser(text) => recipe.parser = Some(text.clone()),
        Command::Requires(text) => recipe.requires = Some(version(text)?),
        Command::Parameter { name, value } => typed(&mut recipe.params, name, value)?,
        Command::Message { role, content } => {
            recipe.messages.push(StoredMessage { role: role.clone(), content: content.clone() })
        }
        Command::From(_) | Command::Draft(_) | Command::Adapter(_) => {}
    }
    Ok(())
}

/// `v1`, `1.2` or `1.2.3` with what may follow, without the `v`.
fn version(text: &str) -> Result<String, Problem> {
    let plain = text.strip_prefix('v').unwrap_or(text);
    let (core, rest) = plain.find(['-', '+']).map_or((plain, ""), |at| plain.split_at(at));
    let numbers: Vec<&str> = core.split('.').collect();
    let is_number = |n: &&str| {
        !n.is_empty()
            && n.bytes().all(|b| b.is_ascii_digit())
            && (n.len() == 1 || !n.starts_with('0'))
    };
    let word = |c: char| c.is_ascii_alphanumeric() || "-.+".contains(c);
    let rest_is_fine =
        rest.is_empty() || (numbers.len() == 3 && rest.len() > 1 && rest.chars().all(word));
    let is_fine = (1..=3).contains(&numbers.len()) && numbers.iter().all(is_number) && rest_is_fine;
    if is_fine { Ok(plain.to_owned()) } else { Err(Problem::Requires) }
}

fn looks_like_path(text: &str) -> bool {
    // An address is the name of what can be fetched there.
    !text.contains("://")
        && (PATHS.iter().any(|begin| text.starts_with(begin))
            || text.to_ascii_lowercase().ends_with(".gguf"))
}

fn no_such(text: &str) -> Error {
    Problem::NoSuch(text.to_owned()).into()
}

/// The file of a text, or those of a folder; `None` if there is neither.
fn pieces(text: &str, folder: &Path, home: Option<&Path>) -> Result<Option<(PathBuf, Vec<Piece>)>> {
    let path = expanded(text, folder, home)?;
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(why) if is_absence(&why) => return Ok(None),
        Err(why) => return Err(Error::io("read", &path)(why)),
    };
    let real = path.canonicalize().map_err(Error::io("read", &path))?;
    let files = match metadata.is_dir() {
        true => files_of_folder(&path)?,
        false => vec![path],
    };
    let piece = |path: PathBuf| Piece {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        at: PieceAt::Path(path),
    };
    Ok(Some((real, files.into_iter().map(piece).collect())))
}

/// A name like `user/model:tag` may be no path at all on some systems.
fn is_absence(why: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    matches!(why.kind(), NotFound | NotADirectory | InvalidInput | InvalidFilename)
}

fn expanded(text: &str, folder: &Path, home: Option<&Path>) -> Result<PathBuf, Problem> {
    let Some(rest) = text.strip_prefix('~') else { return Ok(folder.join(text)) };
    match rest.strip_prefix('/').or_else(|| rest.is_empty().then_some("")) {
        Some(rest) => Ok(home.ok_or_else(|| Problem::NoHome("~".into()))?.join(rest)),
        None => Err(Problem::NoHome(rest.split('/').next().unwrap_or_default().to_owned())),
    }
}

/// The files of a model's folder: weights of the first kind that is there, then what describes them.
///
/// # Errors
/// [`Problem::NoFiles`], [`Problem::Insecure`].
fn files_of_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let all = entries(folder)?;
    let nested: Vec<PathBuf> =
        all.iter().filter(|p| p.is_dir()).flat_map(|p| entries(p).unwrap_or_default()).collect();
    let pick = |from: &[PathBuf], begin: &str, end: &str| -> Vec<PathBuf> {
        let fits = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.len() >= begin.len() + end.len()
                && name.starts_with(begin)
                && name.ends_with(end)
                && path.is_file()
        };
        from.iter().filter(fits).cloned().collect()
    };
    let mut files = pick(&all, "model", ".safetensors");
    if !files.is_empty() {
        files.extend(pick(&nested, "model", ".safetensors"));
    }
    let others = [
        ("consolidated", ".safetensors"),
        ("pytorch_model", ".bin"),
        ("consolidated", ".pth"),
        ("", ".gguf"),
        ("", ".bin"),
    ];
    for (begin, end) in others {
        if files.is_empty() {
            files = pick(&all, begin, end);
        }
    }
    let is_gguf =
        files.first().is_some_and(|path| path.extension().is_some_and(|end| end == "gguf"));
    match (files.is_empty(), is_gguf) {
        (true, _) => return Err(Problem::NoFiles.into()),
        // A GGUF file describes itself.
        (false, true) => {}
        (false, false) => {
            files.extend(pick(&all, "", ".json"));
            files.extend(pick(&nested, "", ".json"));
            files.extend(pick(&all, "chat_template", ".jinja"));
            let tokenizer = pick(&all, "tokenizer", ".model");
            let deeper = || pick(&nested, "tokenizer", ".model");
            files.extend(if tokenizer.is_empty() { deeper() } else { tokenizer });
        }
    }
    let root = folder.canonicalize().map_err(Error::io("read", folder))?;
    for file in &files {
        let real = file.canonicalize().map_err(Error::io("read", file))?;
        if !real.starts_with(&root) {
            let shown = file.strip_prefix(folder).unwrap_or(file).display().to_string();
            return Err(Problem::Insecure(shown).into());
        }
    }
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut all: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    all.sort();
    Ok(all)
}
