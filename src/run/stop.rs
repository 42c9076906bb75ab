//! A person's wish that a run end before it is done. It is heard between steps; a switch is never interrupted.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::failure::{Exit, Failure, Reason};

/// Shared between a run and whoever hears the signals.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicBool,
    switching_here: AtomicBool,
    wake: Notify,
    fate: Mutex<Option<Fate>>,
}

/// What becomes of the host when the operator leaves now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    pub exit: Exit,
    /// One sentence.
    pub text: String,
    /// What to type later.
    pub next: String,
}

impl Stop {
    /// Asks the run to end at its next safe boundary.
    pub fn ask(&self) {
        self.shared.asked.store(true, Ordering::SeqCst);
        self.shared.wake.notify_waiters();
    }

    /// Whether it was asked to.
    pub fn asked(&self) -> bool {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Says whether this machine itself is being switched: then its manager may end us for the switch's sake, and waits
    /// until we are gone.
    pub fn set_switching_here(&self, here: bool) {
        self.shared.switching_here.store(here, Ordering::SeqCst);
    }

    /// As [`Stop::set_switching_here`] said last.
    pub fn switching_here(&self) -> bool {
        self.shared.switching_here.load(Ordering::SeqCst)
    }

    /// Ends when it is asked to.
    pub async fn wait(&self) {
        loop {
            let woken = self.shared.wake.notified();
            tokio::pin!(woken);
            // Registered before the flag is read: a wish in between is not missed.
            woken.as_mut().enable();
            if self.asked() {
                return;
            }
            woken.await;
        }
    }

    /// Does `work` unless the run is to end; `work` is dropped then, wherever it is.
    ///
    /// # Errors
    /// Its own, or [`stopped`].
    pub async fn unless<T>(
        &self,
        target: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.wait() => Err(stopped(target)),
            done = work => done,
        }
    }

    /// Says what becomes of the host when the operator leaves from now on.
    pub fn set_fate(&self, fate: Fate) {
        *self.shared.fate.lock().unwrap_or_else(PoisonError::into_inner) = Some(fate);
    }

    /// The last one said; `None` while no host is concerned.
    pub fn fate(&self) -> Option<Fate> {
        self.shared
            .fate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A run that ended because somebody wanted it to, before anything was switched.
pub fn stopped(target: &str) -> Failure {
    Failure::new(
        Exit::Failed,
        Reason::Cancelled,
        format!("stopped: {target} was not switched"),
    )
    .next("run it again when it is wanted; nothing has to be cleared up")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_goes_on_until_somebody_asks_and_then_ends_at_once() {
        let stop = Stop::default();
        let done = stop.unless("cortex", async { Ok(7) }).await;
        assert_eq!(done.ok(), Some(7));
        let other = stop.clone();
        let (never, ()) = tokio::join!(
            stop.unless("cortex", std::future::pending::<Result<(), Failure>>()),
            async {
                tokio::task::yield_now().await;
                other.ask();
            }
        );
        let failure = never.expect_err("stopped");
        assert_eq!((failure.exit, failure.reason), (Exit::Failed, Reason::Cancelled));
        // Asked before it begins, no work is begun.
        let begun = AtomicBool::new(false);
        let work = async {
            begun.store(true, Ordering::SeqCst);
            Ok(())
        };
        assert!(stop.unless("cortex", work).await.is_err());
        assert!(!begun.load(Ordering::SeqCst));
    }
}
