//! Downloads that are under way in this process: who wants a file that is being fetched shares it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::error::{Error, Result};
use super::transfer::{self, Fetched, Job, Progress, Tools};

/// Downloads that are under way.
#[derive(Debug, Default)]
pub(crate) struct Downloads {
    running: Mutex<HashMap<String, Weak<Running>>>,
}

/// A file that is being fetched. Once all who hold it let go it stops, and goes on where it was when it is wanted
/// again.
#[derive(Clone, Debug)]
pub struct Download {
    running: Arc<Running>,
    progress: watch::Receiver<Progress>,
}

#[derive(Debug)]
struct Running {
    progress: watch::Receiver<Progress>,
    outcome: watch::Receiver<Option<Result<Fetched>>>,
    task: AbortHandle,
}

impl Downloads {
    /// Begins to fetch a file, or joins those who do. `key` is equal for equal content.
    pub(crate) fn start(&self, key: String, job: Job, tools: Tools) -> Download {
        let mut all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, running| running.strong_count() > 0);
        if let Some(running) = all.get(&key).and_then(Weak::upgrade)
            && running.outcome.borrow().is_none()
        {
            return Download::of(running);
        }
        let (tell, progress) = watch::channel(Progress::default());
        let (end, outcome) = watch::channel(None);
        let task = tokio::spawn(async move {
            let found = transfer::run(&job, &tools, tell).await;
            end.send_replace(Some(found));
        });
        let running = Arc::new(Running { progress, outcome, task: task.abort_handle() });
        all.insert(key, Arc::downgrade(&running));
        Download::of(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Download {
    fn of(running: Arc<Running>) -> Download {
        Download { progress: running.progress.clone(), running }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Waits until it is further, or over.
    pub async fn moved(&mut self) -> Progress {
        // Over: there is no more to be told.
        let _ = self.progress.changed().await;
        *self.progress.borrow_and_update()
    }

    /// Waits until it is there.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub async fn wait(&self) -> Result<Fetched> {
        let mut outcome = self.running.outcome.clone();
        let found = outcome.wait_for(Option::is_some).await.map_err(|_| Error::Stopped)?;
        found.clone().unwrap_or(Err(Error::Stopped))
    }

    /// Waits until it is there, and tells meanwhile how far it is: at once, at the end, and between at most every
    /// `interval`.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub async fn watch(
        mut self,
        interval: std::time::Duration,
        tell: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Fetched> {
        let waiter = self.clone();
        let mut wait = std::pin::pin!(waiter.wait());
        tell(self.progress());
        loop {
            tokio::select! {
                biased;
                found = &mut wait => {
                    tell(self.progress());
                    return found;
                }
                progress = self.moved() => tell(progress),
            }
            tokio::select! {
                found = &mut wait => {
                    tell(self.progress());
                    return found;
                }
                () = tokio::time::sleep(interval) => {}
            }
        }
    }
}
