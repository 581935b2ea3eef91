//! Reading records back while the journal is open, and waiting for more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::JournalError;
use super::record::{FRAME, Frame, Record};
use super::segment::Segment;
use super::writer::{Held, Journal, State};
use crate::maildir::{Content, Op};

/// Some records of one segment that stand side by side.
struct Run {
    segment: Arc<Segment>,
    start: u64,
    end: u64,
    count: usize,
}

impl Journal {
    /// The records after `after`, in order, durable or not: at most `max_records`, and no more than `max_bytes` of journal unless the first alone
    /// is larger. Records that were recycled are left out: they were released.
    ///
    /// # Errors
    /// [`JournalError::Damaged`], [`JournalError::Io`].
    pub fn read(
        &self,
        after: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, JournalError> {
        loop {
            let runs = plan(
                &self.shared.state.lock(),
                after,
                max_records,
                max_bytes as u64,
            );
            let read: Result<Vec<Vec<Record>>, JournalError> = runs.iter().map(Run::read).collect();
            match read {
                Ok(records) => return Ok(records.into_iter().flatten().collect()),
                // A segment may have been recycled under us, which only happens to released records.
                Err(JournalError::Damaged { .. })
                    if !runs.iter().all(|run| self.holds(&run.segment)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn holds(&self, segment: &Arc<Segment>) -> bool {
        let state = self.shared.state.lock();
        state
            .held
            .iter()
            .any(|held| Arc::ptr_eq(&held.segment, segment))
    }

    /// The inline content that record `seq` brought.
    ///
    /// # Errors
    /// [`JournalError::NotFound`] once it is recycled, and where it brought none; [`JournalError::Damaged`], [`JournalError::Io`].
    pub fn inline_content(&self, seq: u64) -> Result<Vec<u8>, JournalError> {
        let not_found = JournalError::NotFound { seq };
        let Some(before) = seq.checked_sub(1) else {
            return Err(not_found);
        };
        match self.read(before, 1, 0)?.pop() {
            Some(Record {
                seq: found,
                op:
                    Op::Put {
                        content: Content::Inline(bytes),
                        ..
                    },
                ..
            }) if found == seq => Ok(bytes),
            _ => Err(not_found),
        }
    }

    /// Waits until [`Journal::last`] is above `after`, and says whether it is. Also returns when `timeout` is over, on [`Journal::wake`]
    /// and when the journal is poisoned. For one waiting thread.
    pub fn wait_appended(&self, after: u64, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.state.lock();
        while state.last <= after && state.poisoned.is_none() && !state.woken {
            if self
                .shared
                .appended
                .wait_until(&mut state, deadline)
                .timed_out()
            {
                break;
            }
        }
        state.woken = false;
        state.last > after
    }

    /// Makes [`Journal::wait_appended`] return: the running call, or the next one where none is running.
    pub fn wake(&self) {
        self.shared.state.lock().woken = true;
        self.shared.appended.notify_all();
    }
}

fn plan(state: &State, after: u64, max_records: usize, max_bytes: u64) -> Vec<Run> {
    let mut runs = Vec::new();
    let (mut records, mut bytes) = (0, 0);
    let start = state.held.partition_point(|held| held.last() <= after);
    'held: for held in state.held.range(start..) {
        let skip = (after + 1).saturating_sub(held.first) as usize;
        let Some(&from) = held.offsets.get(skip) else {
            continue;
        };
        let mut run = Run {
            segment: Arc::clone(&held.segment),
            start: from.into(),
            end: from.into(),
            count: 0,
        };
        for index in skip..held.offsets.len() {
            let end = end_of(held, index);
            let size = end - run.end;
            let first = records == 0;
            if records == max_records || (!first && bytes + size > max_bytes) {
                runs.push(run);
                break 'held;
            }
            records += 1;
            bytes += size;
            run.count += 1;
            run.end = end;
        }
        runs.push(run);
    }
    runs
}

fn end_of(held: &Held, index: usize) -> u64 {
    held.offsets
        .get(index + 1)
        .map_or(held.end, |&next| next.into())
}

impl Run {
    fn read(&self) -> Result<Vec<Record>, JournalError> {
        let bytes = self
            .segment
            .read(self.start, (self.end - self.start) as usize)?;
        let mut records = Vec::with_capacity(self.count);
        let mut at = 0;
        for _ in 0..self.count {
            let rest = bytes.get(at..).unwrap_or_default();
            let offset = self.start + at as u64;
            let frame = Frame::decode(rest, self.segment.place(offset));
            let record = frame.and_then(|frame| frame.record(frame.body(rest)?).ok());
            let (Some(frame), Some(record)) = (frame, record) else {
                return Err(JournalError::Damaged {
                    file: self.segment.path.clone(),
                    offset,
                    why: "a record reads back other than it was written".to_owned(),
                    remedy: "Check the disk, then mount again".to_owned(),
                });
            };
            records.push(record);
            at += frame.size().max(FRAME);
        }
        Ok(records)
    }
}
