//! The journal's own thread: keeps segments ready ahead of the writer, and takes released ones back.
//!
//! It alone changes names in the journal's directory, so a delivery never does. It works without the lock and takes it to
//! hand over what it made.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::error::JournalError;
use super::segment::{self, Header, Segment};
use super::writer::{Blocked, Options, Shared, State};
use crate::limits;

/// Starts the thread.
pub(super) fn spawn(shared: Arc<Shared>) -> Result<JoinHandle<()>, JournalError> {
    let dir = shared.dir.clone();
    thread::Builder::new()
        .name("journal-prepare".to_owned())
        .spawn(move || run(&shared))
        .map_err(super::error::io_error("start the thread for", &dir))
}

/// What there is to do.
enum Task {
    /// Nothing.
    Rest,
    /// A segment is wanted, and there may be no more.
    Bound,
    /// A segment is wanted.
    Create(Header),
    /// A released segment becomes the next one.
    Recycle(Arc<Segment>, Header),
    /// A released segment is not wanted.
    Remove(Arc<Segment>),
}

fn run(shared: &Shared) {
    let mut state = shared.state.lock();
    while !state.stop {
        let task = next_task(&mut state, &shared.options);
        let done = match task {
            Task::Rest => {
                state.blocked = state.frugal.map(|_| {
                    Blocked::DiskFull("the disk is full; see `mailbraid status`".to_owned())
                });
                shared.work.wait(&mut state);
                continue;
            }
            Task::Bound => {
                if state.blocked != Some(Blocked::Bound) {
                    log::warn!(
                        "journal: {} segments wait to be committed; no content is taken until some are",
                        state.held.len()
                    );
                    state.blocked = Some(Blocked::Bound);
                }
                shared.room.notify_all();
                shared.work.wait(&mut state);
                continue;
            }
            Task::Create(header) => {
                drop(state);
                salted(header)
                    .and_then(|header| segment::create(&shared.dir, header))
                    .map(Some)
            }
            Task::Recycle(old, header) => {
                drop(state);
                salted(header)
                    .and_then(|header| segment::recycle(&shared.dir, &old, header))
                    .map(Some)
            }
            Task::Remove(old) => {
                state.removing = true;
                drop(state);
                segment::remove(&shared.dir, &old).map(|()| None)
            }
        };
        state = shared.state.lock();
        state.removing = false;
        match done {
            Ok(made) => {
                state.prepared.extend(made.map(Arc::new));
                state.blocked = None;
                shared.room.notify_all();
            }
            Err(error) => {
                let why = error.to_string();
                let blocked = if error.is_no_space() {
                    Blocked::DiskFull(why)
                } else {
                    Blocked::Failed(why)
                };
                if state.blocked.as_ref() != Some(&blocked) {
                    log::warn!("journal: no segment can be prepared, trying again: {error}");
                    state.blocked = Some(blocked);
                }
                shared.room.notify_all();
                if !state.stop {
                    shared.work.wait_for(&mut state, limits::JOURNAL_RETRY);
                }
            }
        }
    }
}

fn next_task(state: &mut State, options: &Options) -> Task {
    if state.poisoned.is_some() {
        return Task::Rest;
    }
    let ready = state.prepared.len();
    let (wanted, kept) = match state.frugal {
        None => (
            options.reserve_segments + 1,
            options.reserve_segments + 1 + limits::JOURNAL_KEEP_SEGMENTS,
        ),
        Some(ready) => (ready, ready),
    };
    if state.oldest_is_released()
        && let Some(old) = state.held.pop_front()
    {
        let same_size = old.segment.header.bytes == options.segment_bytes;
        return if same_size && ready < kept {
            let header = next_header(state, options, true);
            Task::Recycle(old.segment, header)
        } else {
            Task::Remove(old.segment)
        };
    }
    // From the upper end, so that no gap is left.
    if state.frugal.is_some()
        && ready > kept
        && let Some(last) = state.prepared.pop_back()
    {
        return Task::Remove(last);
    }
    if ready >= wanted {
        Task::Rest
    } else if ready + state.held.len() >= options.max_segments + options.reserve_segments {
        Task::Bound
    } else {
        Task::Create(next_header(state, options, false))
    }
}

fn next_header(state: &State, options: &Options, recycled: bool) -> Header {
    let newest = state
        .prepared
        .back()
        .or_else(|| state.held.back().map(|held| &held.segment));
    Header {
        number: newest.map_or(1, |segment| segment.header.number + 1),
        bytes: options.segment_bytes,
        salt: 0,
        durable: state.proven_durable(),
        released: state.released,
        recycled,
    }
}

fn salted(header: Header) -> Result<Header, JournalError> {
    let mut salt = [0; 8];
    rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty()).map_err(|errno| {
        super::error::io_error("read random bytes for", "segment".as_ref())(errno.into())
    })?;
    Ok(Header {
        salt: u64::from_le_bytes(salt),
        ..header
    })
}
