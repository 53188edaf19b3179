//! The inside of a worker process: one model, its engine, and a way to the parent.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use oprel_api::{Event, Failure, Request};

use super::desks::{Desks, Turn};
use super::platform::{self, FromParent, ToParent};
use super::wire::{self, Frames, FromWorker, Reply, ToWorker};
use crate::hearing::Hearing;
use crate::{Backend, Listener, ModelSource, Native, wait};

/// Threads that render, tokenize and compile for the engine.
const DESKS: usize = 2;

/// Runs a worker process: its parent is at standard input, and on Windows at standard output. Returns when the
/// parent wants no more.
///
/// # Errors
/// If there is no such parent, or it speaks another language.
pub fn run_worker() -> io::Result<()> {
    platform::begin();
    let (from, mut out) = platform::own_ends()?;
    wire::write(&mut out, &FromWorker::Hello { build: wire::build() })?;
    let mut frames = Frames::new(from);
    let load = match frames.next()? {
        Some(ToWorker::Load(load)) => *load,
        _ => return Err(io::Error::other("the parent did not say what to load")),
    };
    let native = match load.parts().map_err(io::Error::other).map(|(source, options)| {
        let folder = options.prompt_cache.iter().map(|p| p.folder.clone());
        let files_of = |source: &ModelSource| match source {
            ModelSource::File(path) => Some(parts(path)),
            ModelSource::Demo => None,
        };
        let files = [Some(&source), options.draft.as_ref(), options.usual_draft.as_ref()];
        let files: Vec<_> = files.into_iter().flatten().filter_map(files_of).collect();
        let folders: Vec<_> = folder.collect();
        folders.iter().for_each(|f| drop(std::fs::create_dir_all(f)));
        platform::confine(&files, &folders);
        Native::load(&source, &options)
    })? {
        Ok(native) => Arc::new(native),
        Err(error) => return wire::write(&mut out, &FromWorker::NotLoaded(error.into())),
    };
    wire::write(&mut out, &FromWorker::Loaded(Box::new(native.description())))?;
    serve(native, frames, out)
}

/// All parts of a model: the file, or its folder if the file is one of several.
fn parts(file: &Path) -> PathBuf {
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    match (name.contains("-of-"), file.parent()) {
        (true, Some(folder)) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        (true, _) => PathBuf::from("."),
        _ => file.to_path_buf(),
    }
}

/// Takes messages until the parent stops or is gone.
fn serve(native: Arc<Native>, mut frames: Frames<FromParent>, out: ToParent) -> io::Result<()> {
    let (said, to_say) = channel();
    std::thread::Builder::new()
        .name("oprel-worker-out".into())
        .spawn(move || write_all(&to_say, out))?;
    let work = desks(DESKS, &native, &said)?;
    // What the engine is doing can be seen however much is to be rendered.
    let window = desks(1, &native, &said)?;
    let answers = Arc::new(Answers::default());
    loop {
        let message = match frames.next() {
            Ok(Some(message)) => message,
            Ok(None) => continue,
            // Nobody is left to answer to.
            Err(_) => std::process::exit(0),
        };
        let job = match message {
            ToWorker::Generate { ids, request } => {
                let ids = ids.into_iter().map(|id| answers.open(id)).collect();
                Job::Generate { answers: ids, request }
            }
            ToWorker::Cancel { id } => {
                answers.cancel(id);
                continue;
            }
            ToWorker::Ping => {
                let (turns, busy) = native.pulse();
                let _ = said.send(FromWorker::Pong { turns, busy });
                continue;
            }
            ToWorker::Stop => break,
            ToWorker::Load(_) => continue,
            call => match call.id() {
                Some(id) => Job::Call { answer: answers.open(id), call },
                None => continue,
            },
        };
        if job.only_looks() { window.put(job) } else { work.put(job) }
    }
    // Desks end with their work; the engine writes out what it computed when its last owner goes.
    drop((work, window));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    let mut native = native;
    while std::time::Instant::now() < deadline {
        match Arc::try_unwrap(native) {
            Ok(last) => {
                drop(last);
                break;
            }
            Err(shared) => native = shared,
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::process::exit(0)
}

/// Threads that take jobs from one queue.
fn desks(n: usize, native: &Arc<Native>, said: &Sender<FromWorker>) -> io::Result<Desks<Job>> {
    let (native, said) = (native.clone(), said.clone());
    Desks::open(n, move |job: Job, turn: &Turn| job.run(&native, turn, &said))
}

/// Writes what is to be said, as much at a time as there is.
fn write_all(to_say: &Receiver<FromWorker>, out: ToParent) {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    while let Ok(first) = to_say.recv() {
        let more = std::iter::once(first).chain(to_say.try_iter());
        for message in more {
            if wire::write(&mut out, &message).is_err() {
                std::process::exit(0);
            }
        }
        if out.flush().is_err() {
            std::process::exit(0);
        }
    }
}

/// What a desk does.
enum Job {
    Generate { answers: Vec<Arc<Answer>>, request: Box<Request> },
    Call { answer: Arc<Answer>, call: ToWorker },
}

impl Job {
    /// Whether it changes nothing and takes no time.
    fn only_looks(&self) -> bool {
        matches!(self, Job::Call { call: ToWorker::Gauges { .. }, .. })
    }

    /// Does it, unless nobody wants it any more; rendering ends as soon as nobody does, or it may not go on.
    fn run(self, native: &Native, turn: &Turn, said: &Sender<FromWorker>) {
        let wanted_by = match &self {
            Job::Generate { answers, .. } => answers.clone(),
            Job::Call { answer, .. } => vec![answer.clone()],
        };
        let is_wanted = move || wanted_by.iter().any(|answer| answer.is_wanted());
        if is_wanted() {
            let pace = turn.clone();
            let goes_on = move || is_wanted() && pace.goes_on();
            oprel_chat::while_wanted(goes_on, || self.work(native, turn, said));
        }
    }

    fn work(self, native: &Native, turn: &Turn, said: &Sender<FromWorker>) {
        match self {
            Job::Generate { answers, request } => {
                let id = answers.first().map_or(0, |a| a.id);
                let teller = |i: u32| {
                    let answer = answers.get(i as usize)?.clone();
                    Some(Box::new(Teller { answer, said: said.clone() }) as Box<dyn Listener>)
                };
                let taken = native.generate_to(&request, teller).map_err(Failure::from);
                let taken = taken.map_err(|failure| turn.told(failure));
                reply(said, id, taken.map(|()| Reply::Taken));
            }
            Job::Call { answer, call } => call_of(native, answer, call, turn, said),
        }
    }
}

fn reply(said: &Sender<FromWorker>, id: u64, reply: Result<Reply, Failure>) {
    let _ = said.send(FromWorker::Reply { id, reply });
}

/// Answers a call. What takes the engine long is told later, and keeps no desk.
fn call_of(
    native: &Native,
    answer: Arc<Answer>,
    call: ToWorker,
    turn: &Turn,
    said: &Sender<FromWorker>,
) {
    let id = answer.id;
    let outcome = match call {
        ToWorker::Embed { request, .. } => {
            return native.embed_to(&request, hearing(answer, said, Reply::Vectors));
        }
        ToWorker::Rerank { request, .. } => {
            return native.rerank_to(&request, hearing(answer, said, Reply::Ranking));
        }
        ToWorker::PromptTokens { request, .. } => {
            wait(Backend::prompt_tokens(native, *request)).map(Reply::Tokens)
        }
        ToWorker::Tokenize { text, add_special, parse_special, .. } => {
            let options = wire::tokenize_options(add_special, parse_special);
            wait(native.tokenize(text, options, None)).map(Reply::Tokens)
        }
        ToWorker::Detokenize { tokens, .. } => {
            wait(native.detokenize(tokens, None)).map(Reply::Text)
        }
        ToWorker::Gauges { .. } => wait(Backend::gauges(native)).map(Reply::Gauges),
        _ => return,
    };
    reply(said, id, outcome.map_err(|failure| turn.told(failure)));
}

/// Who hears what became of a call.
fn hearing<T: 'static>(
    answer: Arc<Answer>,
    said: &Sender<FromWorker>,
    made: fn(T) -> Reply,
) -> Hearing<T> {
    let (id, said, wanted) = (answer.id, said.clone(), answer);
    let tell = move |outcome: crate::Result<T>| {
        reply(&said, id, outcome.map(made).map_err(Failure::from));
    };
    Hearing::new(tell, move || wanted.is_wanted())
}

/// Answers that are open.
#[derive(Default)]
struct Answers(Mutex<HashMap<u64, Weak<Answer>>>);

/// One answer, or call, that is open: here until nobody speaks for it.
struct Answer {
    id: u64,
    unwanted: AtomicBool,
    all: Arc<Answers>,
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Weak<Answer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(self: &Arc<Self>, id: u64) -> Arc<Answer> {
        let answer = Arc::new(Answer { id, unwanted: AtomicBool::new(false), all: self.clone() });
        self.lock().insert(id, Arc::downgrade(&answer));
        answer
    }

    fn cancel(&self, id: u64) {
        let answer = self.lock().get(&id).and_then(Weak::upgrade);
        if let Some(answer) = answer {
            answer.unwanted.store(true, Ordering::Relaxed);
        }
    }
}

impl Answer {
    fn is_wanted(&self) -> bool {
        !self.unwanted.load(Ordering::Relaxed)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}

/// Tells the parent what an answer says.
struct Teller {
    answer: Arc<Answer>,
    said: Sender<FromWorker>,
}

impl Listener for Teller {
    fn hear(&mut self, events: Vec<Event>) {
        if !events.is_empty() && self.is_wanted() {
            let _ = self.said.send(FromWorker::Said { id: self.answer.id, events });
        }
    }

    fn is_wanted(&self) -> bool {
        self.answer.is_wanted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_in_parts_needs_its_folder() {
        assert_eq!(parts(Path::new("/a/m.gguf")), Path::new("/a/m.gguf"));
        assert_eq!(parts(Path::new("/a/m-00001-of-00003.gguf")), Path::new("/a"));
        assert_eq!(parts(Path::new("m-00001-of-00003.gguf")), Path::new("."));
    }
}
