//! The sync that many waiters share.
//!
//! A sync is 80 µs of a disk's time and must not be 80 µs of a thread's that serves the mount, nor wake a thread for every waiter.
//! So a waiter leaves what is to be done ([`Journal::when_durable`]) and goes on. Rules:
//!
//! - Who finds no sync running leads one, and another thread takes the next request meanwhile ([`turns`]): it notes the last record written, syncs without the mutex, and then does what it and all
//!   others left that this covers. A lone delivery is so synced by the thread that serves it: nobody is woken.
//! - What came meanwhile is handed to the journal's own thread, which syncs until nothing is left. Under load it
//!   never rests, and the threads that serve the mount never wait.
//! - What was left is done without the mutex, in the order of the records, and once: also when the sync failed.

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::MutexGuard;

use super::error::JournalError;
use super::segment::Segment;
use super::writer::{Journal, Shared, State};
use crate::turns;

/// What is to be done once a record is durable, or never will be.
pub type WhenDurable = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// What was left to be done, and by which record.
#[derive(Default)]
pub(super) struct Waiters(Vec<(u64, WhenDurable)>);

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(seq, _)| seq))
            .finish()
    }
}

impl Waiters {
    /// Takes out those for which the matter is settled.
    fn take_settled(&mut self, durable: u64, poisoned: bool) -> Vec<(u64, WhenDurable)> {
        let mut settled: Vec<_> = self
            .0
            .extract_if(.., |(seq, _)| poisoned || *seq <= durable)
            .collect();
        settled.sort_by_key(|(seq, _)| *seq);
        settled
    }
}

/// Starts the thread that syncs when there is more than one waiter.
pub(super) fn spawn(shared: Arc<Shared>) -> Result<JoinHandle<()>, JournalError> {
    let dir = shared.dir.clone();
    thread::Builder::new()
        .name("journal-sync".to_owned())
        .spawn(move || run(&shared))
        .map_err(super::error::io_error("start the thread for", &dir))
}

fn run(shared: &Shared) {
    let mut state = shared.state.lock();
    loop {
        if state.handover {
            state.handover = false;
            shared.sync(&mut state);
            state = shared.settle(state);
        } else if state.stop {
            return;
        } else {
            shared.handed_over.wait(&mut state);
        }
    }
}

impl Journal {
    /// Has `then` called once record `seq` and all before it are durable: at once, from this thread after a sync of its own, or from a
    /// thread of the journal. To be called without any lock.
    ///
    /// `then` gets [`JournalError::Poisoned`] where a sync failed before `seq` was durable, [`JournalError::NotFound`] where no such record
    /// was appended. It must not wait for anything.
    pub fn when_durable(&self, seq: u64, then: WhenDurable) {
        let mut state = self.shared.state.lock();
        if let Some(outcome) = state.outcome(seq) {
            drop(state);
            return then(outcome);
        }
        state.waiters.0.push((seq, then));
        if !state.syncing {
            state.syncing = true;
            self.shared.sync(&mut state);
            drop(self.shared.settle(state));
        }
    }

    /// Waits until record `seq` and all before it are durable. To be called without any lock.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`] where a sync failed before `seq` was durable; [`JournalError::NotFound`] where no such record was appended.
    pub fn wait_durable(&self, seq: u64) -> Result<(), JournalError> {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(outcome) = state.outcome(seq) {
                return outcome;
            }
            if state.syncing {
                turns::wait(|| self.shared.synced.wait(&mut state));
            } else {
                state.syncing = true;
                self.shared.sync(&mut state);
                state = self.shared.settle(state);
            }
        }
    }
}

impl State {
    /// Whether a record is durable or never will be; `None` while it may become so.
    fn outcome(&self, seq: u64) -> Option<Result<(), JournalError>> {
        if self.durable >= seq {
            return Some(Ok(()));
        }
        match self.check() {
            Err(error) => Some(Err(error)),
            Ok(()) if seq > self.last => Some(Err(JournalError::NotFound { seq })),
            Ok(()) => None,
        }
    }
}

impl Shared {
    /// Syncs all that is written when it begins. The mutex is let go meanwhile.
    fn sync(&self, state: &mut MutexGuard<'_, State>) {
        let target = state.last;
        let durable = state.durable;
        let mut dirty: Vec<Arc<Segment>> = state
            .held
            .iter()
            .rev()
            .take_while(|held| held.last() > durable)
            .map(|held| Arc::clone(&held.segment))
            .collect();
        dirty.reverse();
        let synced = MutexGuard::unlocked(state, || {
            turns::wait(|| {
                dirty
                    .iter()
                    .try_for_each(|segment| segment.file.sync_data().map_err(segment.io("sync")))
            })
        });
        state.count_syncs += 1;
        match synced {
            Ok(()) => state.durable = state.durable.max(target),
            Err(error) => self.poison(state, error.to_string()),
        }
    }

    /// After a sync: hands the next one over where somebody waits for it, and does what is settled.
    fn settle<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let (durable, poisoned) = (state.durable, state.poisoned.clone());
        let settled = state.waiters.take_settled(durable, poisoned.is_some());
        state.handover = !state.waiters.0.is_empty();
        state.syncing = state.handover;
        if state.handover {
            self.handed_over.notify_one();
        }
        self.synced.notify_all();
        MutexGuard::unlocked(&mut state, || {
            for (seq, then) in settled {
                then(match &poisoned {
                    Some(why) if seq > durable => Err(JournalError::Poisoned { why: why.clone() }),
                    _ => Ok(()),
                });
            }
        });
        state
    }
}
