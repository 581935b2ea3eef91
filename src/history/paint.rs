//! Painting the graph of commits from two sides.
//!
//! Two sets of tips are painted left and right, newest first by commit time, and a commit with both colours makes all below it stale. Painting ends when nothing but stale commits
//! waits. Where only the left's own are asked for ([`Painted::left_of`]) it ends when none of these waits, nor anything as new as the oldest of them: one of the right's tips may be
//! years old, of a node that is gone, and all of the history since then would be painted for every head that comes.
//!
//! Clocks only decide how far it goes. Whatever they say, a commit that only the left can reach is found: all on the way to it are the left's alone, and none of these is
//! stale. What a wrong clock may spoil is the other half: a commit that the right can reach too may end with the left's colour alone, where the right came too late.
//!
//! Rejected: gix's walk with hidden tips. It answers the same, but looks below the hidden tips first: that was a third of what a push under load computed.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use super::HistoryError;
use crate::maildir::Oid;

const LEFT: u8 = 1;
const RIGHT: u8 = 2;
const STALE: u8 = 4;
const QUEUED: u8 = 8;

/// What is known of a commit.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) tree: Oid,
    pub(super) parents: Vec<Oid>,
    pub(super) time: i64,
}

/// Where commits are read.
pub(super) trait Commits {
    /// One of them.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    fn known(&self, oid: Oid) -> Result<Arc<Known>, HistoryError>;
}

struct Mark {
    flags: u8,
    known: Arc<Known>,
}

/// Commits with their colours, and in what order they were met.
#[derive(Default)]
pub(super) struct Painted {
    marks: HashMap<Oid, Mark>,
    order: Vec<Oid>,
    queue: BinaryHeap<(i64, Oid)>,
    /// Queued commits that are not stale.
    fresh: usize,
    /// Queued commits with the left's colour alone.
    left_queued: usize,
    /// The time of the oldest such commit that was met.
    left_until: Option<i64>,
}

impl Painted {
    /// Paints what `left` and `right` reach, until the left has met more than `most` commits by itself, be it that some of them are found to be the right's later.
    pub(super) fn new(
        commits: &impl Commits,
        left: &[Oid],
        right: &[Oid],
        most: usize,
    ) -> Result<Self, HistoryError> {
        Self::paint(commits, left, right, most, |painted| painted.fresh > 0)
    }

    /// The same, only as far as [`Painted::left_only`] needs it.
    pub(super) fn left_of(
        commits: &impl Commits,
        left: &[Oid],
        right: &[Oid],
        most: usize,
    ) -> Result<Self, HistoryError> {
        Self::paint(commits, left, right, most, |painted| {
            let newest = painted.queue.peek().map(|(time, _)| *time);
            painted.left_queued > 0 || (painted.fresh > 0 && newest >= painted.left_until)
        })
    }

    fn paint(
        commits: &impl Commits,
        left: &[Oid],
        right: &[Oid],
        most: usize,
        goes_on: impl Fn(&Self) -> bool,
    ) -> Result<Self, HistoryError> {
        let mut painted = Self::default();
        for (tips, colour) in [(left, LEFT), (right, RIGHT)] {
            for &tip in tips {
                painted.add(commits, tip, colour)?;
            }
        }
        let mut alone = 0_usize;
        while goes_on(&painted)
            && alone <= most
            && let Some((_, oid)) = painted.queue.pop()
        {
            let mark = painted.marks.get_mut(&oid).expect("because it was queued");
            mark.flags &= !QUEUED;
            let (flags, known) = (mark.flags, Arc::clone(&mark.known));
            if flags & STALE == 0 {
                painted.fresh -= 1;
            }
            if is_left_only(flags) {
                painted.left_queued -= 1;
                let time = known.time;
                let until = painted.left_until.get_or_insert(time);
                *until = time.min(*until);
            }
            painted.order.push(oid);
            let mut below = flags & (LEFT | RIGHT | STALE);
            if below & (LEFT | RIGHT) == LEFT | RIGHT {
                below |= STALE;
            }
            alone += usize::from(is_left_only(below));
            for &parent in &known.parents {
                painted.add(commits, parent, below)?;
            }
        }
        Ok(painted)
    }

    fn add(&mut self, commits: &impl Commits, oid: Oid, colours: u8) -> Result<(), HistoryError> {
        let mark = match self.marks.entry(oid) {
            std::collections::hash_map::Entry::Occupied(met) => met.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => new.insert(Mark {
                flags: 0,
                known: commits.known(oid)?,
            }),
        };
        if mark.flags & colours == colours {
            return Ok(());
        }
        let (was_queued, was_stale) = (mark.flags & QUEUED != 0, mark.flags & STALE != 0);
        if was_queued && is_left_only(mark.flags) {
            self.left_queued -= 1;
        }
        mark.flags |= colours | QUEUED;
        if is_left_only(mark.flags) {
            self.left_queued += 1;
        }
        let is_stale = mark.flags & STALE != 0;
        match (was_queued, was_stale, is_stale) {
            (false, _, false) => self.fresh += 1,
            (true, false, true) => self.fresh -= 1,
            _ => {}
        }
        if !was_queued {
            self.queue.push((mark.known.time, oid));
        }
        Ok(())
    }

    fn flags(&self, oid: Oid) -> u8 {
        self.marks.get(&oid).map_or(0, |mark| mark.flags)
    }

    /// Whether the right reaches it, as far as was painted. Of a tip of the left it is certain: what lies above it is never stale.
    pub(super) fn is_right(&self, oid: Oid) -> bool {
        self.flags(oid) & RIGHT != 0
    }

    /// Commits with the left's colour alone, newest first: all that only the left reaches, and where a clock was wrong, perhaps some of the older ones that both do.
    pub(super) fn left_only(&self) -> impl Iterator<Item = Oid> {
        let order = self.order.iter().copied();
        order.filter(|oid| is_left_only(self.flags(*oid)))
    }

    /// Commits with both colours that are below no other such commit, as far as was painted: candidates for the best common ancestors, in no order.
    pub(super) fn shared(&self) -> impl Iterator<Item = Oid> {
        let is_shared = |flags: u8| flags & (LEFT | RIGHT | STALE) == LEFT | RIGHT;
        let marks = self.marks.iter();
        marks
            .filter(move |(_, mark)| is_shared(mark.flags))
            .map(|(oid, _)| *oid)
    }
}

fn is_left_only(flags: u8) -> bool {
    flags & (LEFT | RIGHT) == LEFT
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::maildir::HashKind;

    /// A line of commits, the first one without a parent, that counts how often it is asked.
    struct Line {
        /// Seconds that lie between two.
        apart: i64,
        asked: Cell<usize>,
    }

    fn id(number: u32) -> Oid {
        let mut raw = [0; 20];
        raw[16..].copy_from_slice(&number.to_be_bytes());
        Oid::from_bytes(&raw).unwrap()
    }

    impl Commits for Line {
        fn known(&self, oid: Oid) -> Result<Arc<Known>, HistoryError> {
            self.asked.set(self.asked.get() + 1);
            let number = u32::from_be_bytes(oid.as_bytes()[16..].try_into().unwrap());
            Ok(Arc::new(Known {
                tree: Oid::null(HashKind::Sha1),
                parents: number.checked_sub(1).map(id).into_iter().collect(),
                time: i64::from(number) * self.apart,
            }))
        }
    }

    #[test]
    fn an_old_tip_of_the_right_does_not_let_all_since_then_be_painted() {
        for apart in [1, 0] {
            let line = Line {
                apart,
                asked: Cell::new(0),
            };
            let right = [id(9_997), id(3)];
            let painted = Painted::left_of(&line, &[id(10_000)], &right, usize::MAX).unwrap();
            let left: Vec<Oid> = painted.left_only().collect();
            assert_eq!(left, [id(10_000), id(9_999), id(9_998)]);
            if apart > 0 {
                assert!(line.asked.get() < 10, "{} were read", line.asked.get());
            }
        }
    }

    #[test]
    fn a_tip_of_the_right_whose_clock_was_wrong_is_heeded() {
        // Newer ones look older.
        let line = Line {
            apart: -1,
            asked: Cell::new(0),
        };
        let painted = Painted::left_of(&line, &[id(100)], &[id(97)], usize::MAX).unwrap();
        let left: Vec<Oid> = painted.left_only().collect();
        assert_eq!(left, [id(100), id(99), id(98)]);
    }
}
