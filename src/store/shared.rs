//! What the store's threads and its callers see of each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::error;
use parking_lot::{Condvar, Mutex};

use super::{LiveView, StoreError};
use crate::history::Maintenance;
use crate::limits;
use crate::turns;

/// See the module's header.
pub struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) committed: u64,
    /// Bytes of content that was taken and is not committed yet.
    pub(super) backlog: u64,
    /// Packs that came since the last maintenance, roughly.
    pub(super) new_packs: usize,
    /// When the last of them came; `None` once maintenance has seen the store at rest.
    pub(super) last_pack: Option<Instant>,
    pub(super) live: Option<Arc<dyn LiveView>>,
    pub(super) poisoned: Option<String>,
    pub(super) waiting: Option<String>,
    pub(super) stopping: bool,
}

impl Shared {
    /// With all up to `committed` in the repository.
    pub fn new(committed: u64) -> Self {
        Self {
            state: Mutex::new(State {
                committed,
                // What was left by the life before is looked at too.
                last_pack: Some(Instant::now()),
                ..State::default()
            }),
            changed: Condvar::new(),
        }
    }

    /// Sets the live tree.
    pub fn attach(&self, live: Arc<dyn LiveView>) {
        let committed = {
            let mut state = self.state.lock();
            state.live = Some(Arc::clone(&live));
            state.committed
        };
        live.committed(committed);
    }

    /// The last operation durable in the repository.
    pub fn committed(&self) -> u64 {
        self.state.lock().committed
    }

    /// Takes content that is to be committed, before its record is written.
    ///
    /// # Errors
    /// Where the store refuses to write.
    pub fn take(&self, bytes: u64) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if let Some(why) = &state.poisoned {
            return Err(StoreError::Poisoned(why.clone()));
        }
        state.backlog += bytes;
        Ok(())
    }

    /// Bytes of content that was taken and is not committed yet.
    pub fn backlog(&self) -> u64 {
        self.state.lock().backlog
    }

    /// Content is committed, or its record was not written.
    pub fn give_back(&self, bytes: u64) {
        self.state.lock().backlog -= bytes;
        self.changed.notify_all();
    }

    /// Waits until the content that waits for its commit is no more than [`limits::BACKLOG_BYTES`], for a while: behind a commit that fails, or for too
    /// long, the writer meets the journal's own bounds.
    pub fn wait_backlog(&self) {
        let mut state = self.state.lock();
        if state.backlog <= limits::BACKLOG_BYTES {
            return;
        }
        let deadline = Instant::now() + limits::JOURNAL_ROOM_WAIT;
        while state.backlog > limits::BACKLOG_BYTES
            && state.poisoned.is_none()
            && state.waiting.is_none()
            && !state.stopping
        {
            let waited = turns::wait(|| self.changed.wait_until(&mut state, deadline));
            if waited.timed_out() {
                return;
            }
        }
    }

    /// Lets go of the live tree, which holds the store.
    pub fn detach(&self) {
        let live = self.state.lock().live.take();
        drop(live);
    }

    /// The live tree, once there is one.
    pub fn live(&self) -> Option<Arc<dyn LiveView>> {
        self.state.lock().live.clone()
    }

    /// Why the store refuses to write.
    pub fn poisoned(&self) -> Option<String> {
        self.state.lock().poisoned.clone()
    }

    /// What the store thread waits for.
    pub fn waiting(&self) -> Option<String> {
        self.state.lock().waiting.clone()
    }

    /// Tells all threads to end.
    pub fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Waits until `seq` is committed; `hurry` wakes the store thread.
    ///
    /// # Errors
    /// Where that will not happen.
    pub fn wait_committed(&self, seq: u64, hurry: impl Fn()) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        while state.committed < seq {
            if let Some(why) = &state.poisoned {
                return Err(StoreError::Poisoned(why.clone()));
            }
            if let Some(why) = &state.waiting {
                return Err(StoreError::Waiting(why.clone()));
            }
            if state.stopping {
                return Err(StoreError::Stopped);
            }
            hurry();
            self.changed
                .wait_for(&mut state, Duration::from_millis(100));
        }
        Ok(())
    }

    /// Waits until there is maintenance to do: a round, or (`None`) a sweep, which is due at `sweep`. `None` at all when the threads are to end.
    pub(super) fn wait_for_maintenance(
        &self,
        sweep: Option<Instant>,
    ) -> Option<Option<Maintenance>> {
        let mut state = self.state.lock();
        loop {
            if state.stopping {
                return None;
            }
            let now = Instant::now();
            let rest = state.last_pack.map(|last| last + limits::MAINTAIN_REST);
            if state.new_packs >= limits::MAINTAIN_AFTER {
                state.new_packs = 0;
                return Some(Some(Maintenance::Geometric));
            }
            if rest.is_some_and(|rest| rest <= now) {
                (state.new_packs, state.last_pack) = (0, None);
                return Some(Some(Maintenance::AtRest));
            }
            if sweep.is_some_and(|sweep| sweep <= now) {
                return Some(None);
            }
            match rest.into_iter().chain(sweep).min() {
                Some(next) => drop(self.changed.wait_until(&mut state, next)),
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// Packs have come into the repository.
    pub(super) fn packed(&self, packs: usize) {
        let mut state = self.state.lock();
        state.new_packs += packs;
        state.last_pack = Some(Instant::now());
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn poison(&self, why: &str) {
        error!("the store is poisoned, nothing more is written: {why}");
        let mut state = self.state.lock();
        state.poisoned.get_or_insert_with(|| why.to_owned());
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_delivery_waits_while_too_much_content_waits_for_its_commit() {
        let shared = Arc::new(Shared::new(0));
        shared.take(limits::BACKLOG_BYTES).unwrap();
        shared.wait_backlog();
        shared.take(1).unwrap();
        let (say, hear) = mpsc::channel();
        let waits = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                shared.wait_backlog();
                say.send(()).unwrap();
            }
        });
        let early = hear.recv_timeout(Duration::from_millis(200));
        assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout));
        shared.give_back(1);
        hear.recv_timeout(Duration::from_secs(10)).unwrap();
        waits.join().unwrap();
    }

    #[test]
    fn a_delivery_does_not_wait_for_commits_that_will_not_come() {
        for ends in ["poisoned", "waiting", "stopping"] {
            let shared = Shared::new(0);
            shared.take(2 * limits::BACKLOG_BYTES).unwrap();
            match ends {
                "poisoned" => shared.poison("a test"),
                "waiting" => shared.state.lock().waiting = Some("a test".to_owned()),
                _ => shared.stop(),
            }
            let since = Instant::now();
            shared.wait_backlog();
            assert!(since.elapsed() < limits::JOURNAL_ROOM_WAIT, "{ends}");
        }
    }
}
