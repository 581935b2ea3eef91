//! Painting the graph of commits from two sides.
//!
//! Two sets of tips are painted left and right, newest first by commit time, and a commit with both colours makes all below it stale. Painting ends when nothing but stale commits
//! waits. Clocks only decide how far it goes. Whatever they say, a commit that only the left can reach is found: all on the way to it are the left's alone, and none of these is
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
}

impl Painted {
    /// Paints what `left` and `right` reach, until the left has met more than `most` commits by itself, be it that some of them are found to be the right's later.
    pub(super) fn new(
        commits: &impl Commits,
        left: &[Oid],
        right: &[Oid],
        most: usize,
    ) -> Result<Self, HistoryError> {
        let mut painted = Self::default();
        for (tips, colour) in [(left, LEFT), (right, RIGHT)] {
            for &tip in tips {
                painted.add(commits, tip, colour)?;
            }
        }
        let mut alone = 0_usize;
        while painted.fresh > 0
            && alone <= most
            && let Some((_, oid)) = painted.queue.pop()
        {
            let mark = painted.marks.get_mut(&oid).expect("because it was queued");
            mark.flags &= !QUEUED;
            let (flags, known) = (mark.flags, Arc::clone(&mark.known));
            if flags & STALE == 0 {
                painted.fresh -= 1;
            }
            painted.order.push(oid);
            let mut below = flags & (LEFT | RIGHT | STALE);
            if below & (LEFT | RIGHT) == LEFT | RIGHT {
                below |= STALE;
            }
            alone += usize::from(below == LEFT);
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
        mark.flags |= colours | QUEUED;
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
        order.filter(|oid| self.flags(*oid) & (LEFT | RIGHT) == LEFT)
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
