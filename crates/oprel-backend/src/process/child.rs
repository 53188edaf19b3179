//! The inside of a worker process: one model, its engine, and a socket to the parent.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use oprel_api::{Event, Failure, Request};

use super::guard;
use super::wire::{self, Frames, FromWorker, Reply, ToWorker};
use crate::{Backend, Listener, ModelSource, Native, wait};

/// Threads that render, tokenize and compile for the engine.
const DESKS: usize = 2;

/// Runs a worker process: standard input is its socket. Returns when the parent wants no more.
///
/// # Errors
/// If standard input is no socket, or the parent speaks another language.
pub fn run_worker() -> io::Result<()> {
    guard::begin();
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut out = socket.try_clone()?;
    wire::write(&mut out, &FromWorker::Hello { build: wire::build() })?;
    let mut frames = Frames::new(socket);
    let load = match frames.next()? {
        Some(ToWorker::Load(load)) => *load,
        _ => return Err(io::Error::other("the parent did not say what to load")),
    };
    let native = match load.parts().map_err(io::Error::other).map(|(source, options)| {
        let folder = options.prompt_cache.iter().map(|p| p.folder.clone());
        let parts = |source: &ModelSource| match source {
            ModelSource::File(path) => Some(guard::parts(path)),
            ModelSource::Demo => None,
        };
        let files = [Some(&source), options.draft.as_ref()];
        let files: Vec<_> = files.into_iter().flatten().filter_map(parts).collect();
        let folders: Vec<_> = folder.collect();
        folders.iter().for_each(|f| drop(std::fs::create_dir_all(f)));
        guard::confine(&files, &folders);
        Native::load(&source, &options)
    })? {
        Ok(native) => Arc::new(native),
        Err(error) => return wire::write(&mut out, &FromWorker::NotLoaded(error.into())),
    };
    wire::write(&mut out, &FromWorker::Loaded(Box::new(native.description())))?;
    serve(native, frames, out)
}

/// Takes messages until the parent stops or is gone.
fn serve(native: Arc<Native>, mut frames: Frames<UnixStream>, out: UnixStream) -> io::Result<()> {
    let (said, to_say) = channel();
    std::thread::Builder::new()
        .name("oprel-worker-out".into())
        .spawn(move || write_all(&to_say, out))?;
    let (work, desk) = channel();
    let desk = Arc::new(Mutex::new(desk));
    for _ in 0..DESKS {
        let (native, desk, said) = (native.clone(), desk.clone(), said.clone());
        let at_desk = move || {
            while let Some(job) = next(&desk) {
                job.run(&native, &said)
            }
        };
        std::thread::Builder::new().name("oprel-worker-desk".into()).spawn(at_desk)?;
    }
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
            call => Job::Call(call),
        };
        let _ = work.send(job);
    }
    // Desks end with their work; the engine writes out what it computed when its last owner goes.
    drop(work);
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

fn next(desk: &Mutex<Receiver<Job>>) -> Option<Job> {
    desk.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Writes what is to be said, as much at a time as there is.
fn write_all(to_say: &Receiver<FromWorker>, out: UnixStream) {
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
    Call(ToWorker),
}

impl Job {
    fn run(self, native: &Native, said: &Sender<FromWorker>) {
        let (id, reply) = match self {
            Job::Generate { answers, request } => {
                let id = answers.first().map_or(0, |a| a.id);
                let teller = |i: u32| {
                    let answer = answers.get(i as usize)?.clone();
                    Some(Box::new(Teller { answer, said: said.clone() }) as Box<dyn Listener>)
                };
                let taken = native.generate_to(&request, teller).map_err(Failure::from);
                (id, taken.map(|()| Reply::Taken))
            }
            Job::Call(call) => match answer(native, call) {
                Some(reply) => reply,
                None => return,
            },
        };
        let _ = said.send(FromWorker::Reply { id, reply });
    }
}

/// The reply to a call.
fn answer(native: &Native, call: ToWorker) -> Option<(u64, Result<Reply, Failure>)> {
    Some(match call {
        ToWorker::Embed { id, request } => {
            (id, wait(Backend::embed(native, request)).map(Reply::Vectors))
        }
        ToWorker::Rerank { id, request } => {
            (id, wait(Backend::rerank(native, request)).map(Reply::Ranking))
        }
        ToWorker::PromptTokens { id, request } => {
            (id, wait(Backend::prompt_tokens(native, *request)).map(Reply::Tokens))
        }
        ToWorker::Tokenize { id, text, add_special, parse_special } => {
            let options = wire::tokenize_options(add_special, parse_special);
            (id, wait(native.tokenize(text, options)).map(Reply::Tokens))
        }
        ToWorker::Detokenize { id, tokens } => {
            (id, wait(native.detokenize(tokens)).map(Reply::Text))
        }
        ToWorker::Gauges { id } => (id, wait(Backend::gauges(native)).map(Reply::Gauges)),
        _ => return None,
    })
}

/// Answers that are open.
#[derive(Default)]
struct Answers(Mutex<HashMap<u64, Weak<Answer>>>);

/// One answer that is open: here until nobody speaks for it.
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
        !self.answer.unwanted.load(Ordering::Relaxed)
    }
}
