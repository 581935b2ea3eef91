//! Appending.
//!
//! One mutex guards where the next record goes and what is held; it is held for one `pwrite` into the page cache, never for a sync.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::durable::{self, Waiters};
use super::error::JournalError;
use super::record::{self, FRAME, Frame};
use super::recovery::{self, Recovery};
use super::segment::{self, Segment};
use super::{codec, prepare};
use crate::limits;
use crate::maildir::Op;
use crate::turns;

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of a new segment in bytes, header included; rounded up to whole pages.
    pub segment_bytes: u64,
    /// Segments kept for records without content when there is no room for more.
    pub reserve_segments: usize,
    /// Most segments that may hold records not yet released; above, [`JournalError::Full`] for content.
    pub max_segments: usize,
    /// The lowest sequence number that the next record may have: one more than the last record that the history has. All records
    /// below it count as released, and the journal must hold all from it on.
    pub first_seq: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: limits::JOURNAL_SEGMENT_BYTES,
            reserve_segments: limits::JOURNAL_RESERVE_SEGMENTS,
            max_segments: limits::JOURNAL_MAX_SEGMENTS,
            first_seq: 1,
        }
    }
}

/// What the journal did and holds, for `status` and for tests that count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Records appended since it was opened.
    pub appended: u64,
    /// Group syncs since it was opened.
    pub syncs: u64,
    /// Segments that hold records.
    pub held: usize,
    /// Segments ready to take records.
    pub prepared: usize,
}

/// The journal. Shared by all threads.
#[derive(Debug)]
pub struct Journal {
    pub(super) shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the journal's own thread shares with its callers.
#[derive(Debug)]
pub(super) struct Shared {
    pub dir: PathBuf,
    pub options: Options,
    /// Taken after any lock of the caller (the namespace lock among them), and no lock is taken under it.
    pub state: Mutex<State>,
    /// A sync ended.
    pub synced: Condvar,
    /// A record was appended, or [`Journal::wake`] called.
    pub appended: Condvar,
    /// A segment was prepared, cannot be prepared, or was released.
    pub room: Condvar,
    /// There may be something to prepare or recycle, or an end.
    pub work: Condvar,
    /// The sync was handed to the journal's own thread, or an end.
    pub handed_over: Condvar,
}

/// Where the next record goes and what is held.
#[derive(Debug)]
pub(super) struct State {
    /// Segments with records, oldest first; the last one takes the next record if it fits.
    pub held: VecDeque<Held>,
    /// Segments ahead, in order.
    pub prepared: VecDeque<Arc<Segment>>,
    /// The last segment takes no more records: numbers jump behind it.
    pub sealed: bool,
    /// The last sequence number in use.
    pub last: u64,
    /// What the next record has as `prev`.
    pub prev: u64,
    pub durable: u64,
    pub released: u64,
    /// When it was opened: the last number in use, and the last record that was really there (or that the history had).
    pub found: (u64, u64),
    /// A sync is running or about to.
    pub syncing: bool,
    /// Who is told when records are durable.
    pub waiters: Waiters,
    /// The journal's own thread is to sync next; `syncing` is set.
    pub handover: bool,
    pub poisoned: Option<String>,
    /// How many segments are kept ready on a full disk ([`Journal::give_back`]).
    pub frugal: Option<usize>,
    /// A file is being removed.
    pub removing: bool,
    /// Why no segment is prepared, if so.
    pub blocked: Option<Blocked>,
    /// [`Journal::wake`] was called and nobody has returned for it yet.
    pub woken: bool,
    pub stop: bool,
    pub count_appended: u64,
    pub count_syncs: u64,
}

/// Why no segment is prepared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Blocked {
    /// As many segments as allowed hold records that are not released.
    Bound,
    /// The disk is full; tried again from time to time.
    DiskFull(String),
    /// Another error of the system; tried again from time to time.
    Failed(String),
}

/// A segment with records, and where they are.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub segment: Arc<Segment>,
    /// Sequence number of its first record. Those after it follow without gap.
    pub first: u64,
    /// Where each record starts.
    pub offsets: Vec<u32>,
    /// Where the last record ends.
    pub end: u64,
}

impl Held {
    /// A segment that takes its first record, `first`, next.
    pub(super) fn new(segment: Arc<Segment>, first: u64) -> Self {
        Self {
            segment,
            first,
            offsets: Vec::new(),
            end: segment::HEADER as u64,
        }
    }

    /// The sequence number of its last record; one less than its first where there is none.
    pub(super) fn last(&self) -> u64 {
        self.first + self.offsets.len() as u64 - 1
    }
}

impl Shared {
    /// Takes nothing more from now on. The first reason stays.
    pub(super) fn poison(&self, state: &mut State, why: String) {
        if state.poisoned.is_none() {
            log::error!("journal: {why}; no more changes are taken until the next mount");
            state.poisoned = Some(why);
        }
        self.synced.notify_all();
        self.appended.notify_all();
        self.room.notify_all();
    }
}

impl State {
    pub(super) fn check(&self) -> Result<(), JournalError> {
        match &self.poisoned {
            Some(why) => Err(JournalError::Poisoned { why: why.clone() }),
            None => Ok(()),
        }
    }

    /// The last record that is durable. Numbers that were skipped when the journal was opened belong to no record, and a frame
    /// that called them durable would later be taken for the proof of a loss.
    pub(super) fn proven_durable(&self) -> u64 {
        let (last, real) = self.found;
        if self.durable > last {
            self.durable
        } else {
            real
        }
    }

    /// Whether the oldest segment holds nothing that is not released, and another one takes the next record.
    pub(super) fn oldest_is_released(&self) -> bool {
        self.held.len() > 1 && self.held.front().map(Held::last) <= Some(self.released)
    }

    /// Whether there is more than [`Journal::give_back`] lets stay.
    pub(super) fn to_give_back(&self) -> bool {
        self.frugal
            .is_some_and(|ready| self.oldest_is_released() || self.prepared.len() > ready)
    }

    /// Bytes left in the segment that takes the next record.
    fn left(&self) -> u64 {
        match self.held.back() {
            Some(active) if !self.sealed => active.segment.header.bytes - active.end,
            _ => 0,
        }
    }

    /// Whether a record of this size has room, and whether it begins a new segment then.
    fn fits(&self, size: u64, content: bool, reserve: usize) -> Option<bool> {
        let switch = self.left() < size;
        let spare = self.prepared.len();
        let ready = self
            .prepared
            .front()
            .is_some_and(|next| next.header.bytes - segment::HEADER as u64 >= size);
        let room = match (switch, content) {
            (false, false) => true,
            (false, true) => spare >= reserve,
            (true, false) => ready,
            (true, true) => ready && spare > reserve,
        };
        room.then_some(switch)
    }
}

impl Journal {
    /// Opens the journal in `dir`, which is created if absent, and recovers what it holds (see the [module](super)). What was found is
    /// durable when this returns.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] and [`JournalError::NewerFormat`] with nothing changed; [`JournalError::Io`].
    pub fn open(dir: &Path, options: Options) -> Result<(Arc<Self>, Recovery), JournalError> {
        const PAGE: u64 = segment::HEADER as u64;
        let options = Options {
            segment_bytes: options
                .segment_bytes
                .clamp(2 * PAGE, u64::from(u32::MAX) / PAGE * PAGE)
                .next_multiple_of(PAGE),
            first_seq: options.first_seq.max(1),
            ..options
        };
        let (state, recovery) = recovery::recover(dir, &options)?;
        let shared = Arc::new(Shared {
            dir: dir.to_path_buf(),
            options,
            state: Mutex::new(state),
            synced: Condvar::new(),
            appended: Condvar::new(),
            room: Condvar::new(),
            work: Condvar::new(),
            handed_over: Condvar::new(),
        });
        let mut journal = Self {
            shared: Arc::clone(&shared),
            threads: Vec::new(),
        };
        journal.threads.push(prepare::spawn(Arc::clone(&shared))?);
        journal.threads.push(durable::spawn(shared)?);
        Ok((Arc::new(journal), recovery))
    }

    /// Writes an operation into the page cache and returns its sequence number. `time` is when it is acknowledged, in seconds since the
    /// epoch. Waits for the next segment, a bounded time, where the thread that prepares it is late.
    ///
    /// # Errors
    /// [`JournalError::Full`], [`JournalError::TooLarge`]: nothing was recorded, and later calls may succeed.
    /// [`JournalError::Poisoned`].
    pub fn append(&self, op: &Op, time: i64) -> Result<u64, JournalError> {
        let shared = &*self.shared;
        let body = codec::encode(op);
        let size = record::size(body.len());
        let limit = shared.options.segment_bytes - segment::HEADER as u64;
        if size as u64 > limit {
            return Err(JournalError::TooLarge {
                bytes: size as u64,
                limit,
            });
        }
        let mut buffer = vec![0; size];
        buffer[FRAME..FRAME + body.len()].copy_from_slice(&body);
        let body_crc = crc32fast::hash(&body);
        let content = codec::has_content(op);

        let mut state = shared.state.lock();
        if self.make_room(&mut state, size as u64, content)? {
            let next = state
                .prepared
                .pop_front()
                .expect("because make_room saw one under this lock");
            let first = state.last + 1;
            state.held.push_back(Held::new(next, first));
            state.sealed = false;
            shared.work.notify_one();
        }
        let seq = state.last + 1;
        let frame = Frame {
            len: body.len() as u32,
            seq,
            prev: state.prev,
            durable: state.proven_durable(),
            released: state.released,
            time,
            body_crc,
        };
        let active = state
            .held
            .back_mut()
            .expect("because a record has room only in a held segment");
        let offset = active.end;
        buffer[..FRAME].copy_from_slice(&frame.encode(active.segment.place(offset)));
        if let Err(error) = active.segment.file.write_all_at(&buffer, offset) {
            let failed = active.segment.io("write")(error);
            return Err(self.write_failed(&mut state, failed));
        }
        active.offsets.push(offset as u32);
        active.end += size as u64;
        state.last = seq;
        state.prev = seq;
        state.count_appended += 1;
        shared.appended.notify_all();
        Ok(seq)
    }

    /// Waits until a record has room; says whether it begins a new segment.
    fn make_room(
        &self,
        state: &mut parking_lot::MutexGuard<'_, State>,
        size: u64,
        content: bool,
    ) -> Result<bool, JournalError> {
        let shared = &*self.shared;
        let mut deadline = None;
        loop {
            state.check()?;
            if let Some(switch) = state.fits(size, content, shared.options.reserve_segments) {
                return Ok(switch);
            }
            let why = match &state.blocked {
                Some(Blocked::Bound) => {
                    "too many changes are waiting to be committed; see `mailbraid status`"
                        .to_owned()
                }
                Some(Blocked::DiskFull(why) | Blocked::Failed(why)) => why.clone(),
                None => {
                    shared.work.notify_one();
                    let deadline = *deadline
                        .get_or_insert_with(|| Instant::now() + limits::JOURNAL_PREPARE_WAIT);
                    if !turns::wait(|| shared.room.wait_until(state, deadline)).timed_out() {
                        continue;
                    }
                    "the next segment is not ready".to_owned()
                }
            };
            return Err(JournalError::Full { why });
        }
    }

    fn write_failed(&self, state: &mut State, failed: JournalError) -> JournalError {
        // A filesystem that never overwrites in place may be full here. The record's place is written again by the next one.
        if failed.is_no_space() {
            return JournalError::Full {
                why: failed.to_string(),
            };
        }
        let why = failed.to_string();
        self.shared.poison(state, why.clone());
        JournalError::Poisoned { why }
    }

    /// All records up to `through` are durable in the repository. Segments that hold no other are used again. What is released
    /// is not synced: the head says it, and after a crash released records may be seen again.
    ///
    /// # Errors
    /// [`JournalError::NotFound`] where no such record was appended; [`JournalError::Poisoned`].
    pub fn release(&self, through: u64) -> Result<(), JournalError> {
        let mut state = self.shared.state.lock();
        state.check()?;
        if through > state.last {
            return Err(JournalError::NotFound { seq: through });
        }
        if through > state.released {
            state.released = through;
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// On a full disk: of the segments that are released or prepared, all but `ready` are given back to the disk, now (when this returns) and from now on, until
    /// [`Journal::keep`]. The one that was written last stays. Where one cannot be removed, this waits for it a bounded time.
    pub fn give_back(&self, ready: usize) {
        let shared = &*self.shared;
        let deadline = Instant::now() + limits::JOURNAL_PREPARE_WAIT;
        let mut state = shared.state.lock();
        state.frugal = Some(ready);
        while state.poisoned.is_none() && (state.removing || state.to_give_back()) {
            shared.work.notify_one();
            if shared.room.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    /// There is room again: segments are kept ready as usual.
    pub fn keep(&self) {
        self.shared.state.lock().frugal = None;
        self.shared.work.notify_one();
    }

    /// The next record gets a number above `seq`: a former life of this node had those up to it. All that was appended must be durable in the repository. No
    /// append may run meanwhile.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`].
    pub fn skip_to(&self, seq: u64) -> Result<(), JournalError> {
        // A frame that calls skipped numbers durable would prove the loss of what was before them.
        self.wait_durable(self.last())?;
        let mut state = self.shared.state.lock();
        state.check()?;
        if seq > state.last {
            // As when a journal is opened beside a history that is ahead of it: the next record begins a segment.
            state.found = (seq, state.prev);
            state.sealed = true;
            state.last = seq;
            state.durable = seq;
            state.released = seq;
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Waits, a bounded time, while the store lags behind or the next segment is being made, so that a delivery faster than the commits is
    /// slowed rather than refused. To be called before the namespace is locked. Returns at once when the disk is full:
    /// [`Journal::append`] says so.
    pub fn wait_room(&self) {
        let shared = &*self.shared;
        let deadline = Instant::now() + limits::JOURNAL_ROOM_WAIT;
        let mut state = shared.state.lock();
        while state.poisoned.is_none()
            && !matches!(
                state.blocked,
                Some(Blocked::DiskFull(_) | Blocked::Failed(_))
            )
            && !shared.roomy(&state)
        {
            shared.work.notify_one();
            if turns::wait(|| shared.room.wait_until(&mut state, deadline)).timed_out() {
                return;
            }
        }
    }

    /// The last sequence number in use: no record has had a greater one.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.shared.state.lock().last
    }

    /// All records up to this one are durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.shared.state.lock().durable
    }

    /// All records up to this one were released.
    #[must_use]
    pub fn released(&self) -> u64 {
        self.shared.state.lock().released
    }

    /// Why nothing more is taken; `None` while all is well.
    #[must_use]
    pub fn poisoned(&self) -> Option<String> {
        self.shared.state.lock().poisoned.clone()
    }

    /// What it did and holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let state = self.shared.state.lock();
        Stats {
            appended: state.count_appended,
            syncs: state.count_syncs,
            held: state.held.len(),
            prepared: state.prepared.len(),
        }
    }
}

impl Shared {
    /// Whether there is so much room that some appends at once do not meet a bound.
    fn roomy(&self, state: &State) -> bool {
        let reserve = self.options.reserve_segments;
        let soft = (self.options.max_segments * 3 / 4).max(1);
        let margin = limits::JOURNAL_ROOM_MARGIN.min(self.options.segment_bytes / 4);
        let spare = state.prepared.len();
        let released = state
            .held
            .iter()
            .take_while(|held| held.last() <= state.released)
            .count();
        state.held.len() - released <= soft
            && spare >= reserve
            && (spare > reserve || state.left() >= margin)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.work.notify_all();
        self.shared.handed_over.notify_all();
        for thread in self.threads.drain(..) {
            // A panic there was printed there; the journal's files are sound at every instant.
            let _ = thread.join();
        }
    }
}
