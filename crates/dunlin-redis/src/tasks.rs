//! The tasks of a broker: told to stop together, and missed when one ends by itself.

use std::{future::Future, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinHandle};

/// See the module's text. Clones share the tasks.
#[derive(Clone)]
pub(crate) struct Tasks {
    stop: watch::Sender<bool>,
    /// Whether a task ended that nobody told to.
    died: watch::Sender<bool>,
    handles: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        let (stop, died) = (watch::Sender::new(false), watch::Sender::new(false));
        Self { stop, died, handles: Arc::default() }
    }

    /// Runs a task that has to end once it is told to stop, and not before.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.watch(task, &self.stop);
        self.handles.lock().push(handle);
    }

    /// The same for one that somebody else tells to stop, and nobody waits for.
    pub(crate) fn spawn_until(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        stop: &watch::Sender<bool>,
    ) {
        drop(self.watch(task, stop));
    }

    /// Notes if the task ends, by a panic too, before it was told to.
    fn watch(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        stop: &watch::Sender<bool>,
    ) -> JoinHandle<()> {
        let obituary = Obituary { stop: stop.subscribe(), died: self.died.clone() };
        tokio::spawn(async move {
            task.await;
            drop(obituary);
        })
    }

    /// What tells them to stop.
    pub(crate) fn told_to_stop(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Tells them to stop, and waits until all have.
    pub(crate) async fn end(&self) {
        self.stop();
        let handles = std::mem::take(&mut *self.handles.lock());
        for handle in handles {
            if let Err(error) = handle.await {
                tracing::error!("a redis link ended by {error}");
            }
        }
    }

    /// Waits until one ends that nobody told to. Cancel-safe.
    pub(crate) async fn died(&self) {
        // The other end is in our hands, so there is no error.
        let _ = self.died.subscribe().wait_for(|died| *died).await;
    }
}

/// Is dropped with its task.
struct Obituary {
    stop: watch::Receiver<bool>,
    died: watch::Sender<bool>,
}

impl Drop for Obituary {
    fn drop(&mut self) {
        if !*self.stop.borrow() {
            self.died.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_untold_is_noted() {
        let tasks = Tasks::new();
        let panicking = async { panic!("a bug of a link") };
        assert!(tasks.watch(panicking, &tasks.stop).await.is_err());
        assert!(tasks.died.send_replace(false), "by a panic");
        tasks.watch(ready(()), &tasks.stop).await.unwrap();
        assert!(tasks.died.send_replace(false), "by its return");
        tasks.stop();
        tasks.watch(ready(()), &tasks.stop).await.unwrap();
        assert!(!*tasks.died.borrow(), "told to end");
    }
}
