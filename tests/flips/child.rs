//! A process that flips bytes of a file, one after another, and asks what the file belongs to.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use oprel::{
    Chat, EmbedRequest, Event, Input, Message, Model, ModelBuilder, ModelSource, OprelError,
    Request,
};
use serde::{Deserialize, Serialize};

/// The variable with what is to be done.
const TASK: &str = "OPREL_FLIP_TASK";
/// The variable with the first flip.
const FROM: &str = "OPREL_FLIP_FROM";
/// Most bytes of memory, of which maps of files are a part.
const MOST_BYTES: u64 = 6 << 30;

/// What is asked after each flip.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Asked {
    /// A few tokens of the model of a file.
    File { path: PathBuf },
    /// The same of a model of a store.
    Stored { root: PathBuf, name: String },
    /// A conversion of a folder.
    Convert { folder: PathBuf },
}

/// Flips of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) file: PathBuf,
    pub(crate) flips: Vec<(usize, u8)>,
    pub(crate) asked: Asked,
}

impl Task {
    /// Writes it down for children.
    pub(crate) fn write(&self) -> tempfile::NamedTempFile {
        let place = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(&place, serde_json::to_vec(self).expect("plain data")).expect("written");
        place
    }

    /// The command that does what is written at `place`, from one flip on.
    pub(crate) fn command(&self, place: &Path, from: usize) -> Command {
        let mut program = Command::new(std::env::current_exe().expect("a program"));
        program.args(["--exact", "child", "--nocapture", "--test-threads", "1"]);
        program.env(TASK, place).env(FROM, from.to_string()).env("HOME", "/nonexistent");
        if let Asked::Stored { root, .. } = &self.asked {
            program.env("OPREL_MODELS", root);
        }
        program
    }
}

/// Does what the environment asks for, if it does.
pub(crate) fn run() {
    let (Some(task), Ok(from)) = (std::env::var_os(TASK), std::env::var(FROM)) else { return };
    let task: Task = serde_json::from_slice(&std::fs::read(task).expect("a task")).expect("JSON");
    let from: usize = from.parse().expect("a number");
    bound_memory();
    // A panic on any thread, caught or not, ends this process.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::abort();
    }));
    let file = OpenOptions::new().read(true).write(true).open(&task.file).expect("writable");
    let mut out = std::io::stdout();
    for (i, (at, mask)) in task.flips.iter().enumerate().skip(from) {
        writeln!(out, "\nat {i}").expect("somebody reads");
        flip(&file, *at, *mask);
        let outcome = match ask(&task.asked) {
            Ok(()) => "answered".to_owned(),
            Err(error) => format!("{error}"),
        };
        flip(&file, *at, *mask);
        assert!(!outcome.trim().is_empty(), "an error that says nothing");
        writeln!(out, "was {}", outcome.replace('\n', " ")).expect("somebody reads");
    }
}

fn flip(file: &File, at: usize, mask: u8) {
    if mask == 0 {
        return;
    }
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).expect("within the file");
    file.write_all_at(&[byte[0] ^ mask], at as u64).expect("writable");
}

/// What asks for more than any small model needs is refused by the system, and ends the process where nobody minds.
fn bound_memory() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let most = Some(MOST_BYTES);
    setrlimit(Resource::As, Rlimit { current: most, maximum: most }).expect("a limit may be set");
}

fn ask(asked: &Asked) -> Result<(), OprelError> {
    match asked {
        Asked::File { path } => talk(Model::builder(ModelSource::File(path.clone()))),
        Asked::Stored { name, .. } => talk(Model::named(name.as_str())),
        Asked::Convert { folder } => convert(folder),
    }
}

fn talk(model: ModelBuilder) -> Result<(), OprelError> {
    let model = model.context(128).threads(1).load()?;
    if model.only_embeds() {
        model.embed(&EmbedRequest::new(["hi a b"]))?;
        return model.unload();
    }
    let chat = Chat { messages: vec![Message::user("hi a b")], ..Chat::default() };
    let mut request = Request::new(Input::Messages(chat));
    request.limits.max_tokens = Some(3);
    for event in model.generate(request)? {
        if let Event::Error(failure) = event {
            return Err(failure.into());
        }
    }
    model.unload()
}

fn convert(folder: &Path) -> Result<(), OprelError> {
    let options = oprel_tools::convert::ConvertOptions::default();
    let to = folder.join("out.gguf");
    let made =
        oprel_tools::convert::convert(folder, &to, &options, &mut |_| ControlFlow::Continue(()));
    made.map(|_| ()).map_err(|error| oprel::Failure::from(error).into())
}
