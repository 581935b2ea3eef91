//! The graph of commits: who is whose ancestor, best common ancestors, and what is new.
//!
//! All questions are answered by painting: two sets of tips are painted left and right, newest first by commit time, and a commit with both colours makes all below it stale.
//! Painting ends when nothing but stale commits waits. Clocks only decide how far it goes, never what is answered: whatever a
//! wrong clock may have spoiled is asked again, commit by commit.
//!
//! Commits that were read stay in memory, as few bytes each: the same ones are asked for after every exchange.

use std::cell::RefCell;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use super::{HistoryError, Reader, Repo};
use crate::limits;
use crate::maildir::Oid;

const LEFT: u8 = 1;
const RIGHT: u8 = 2;
const STALE: u8 = 4;
const QUEUED: u8 = 8;

/// What is known of a commit.
#[derive(Debug)]
struct Known {
    tree: Oid,
    parents: Vec<Oid>,
    time: i64,
}

/// Answers questions about commits. One thread's.
pub struct Graph {
    reader: Reader,
    known: RefCell<HashMap<Oid, Arc<Known>>>,
}

/// Commits with their colours, and in what order they were met.
#[derive(Default)]
struct Painted {
    flags: HashMap<Oid, u8>,
    order: Vec<Oid>,
}

impl Painted {
    fn is_left_only(&self, oid: Oid) -> bool {
        let flags = self.flags.get(&oid).copied().unwrap_or(0);
        flags & LEFT != 0 && flags & RIGHT == 0
    }
}

impl Graph {
    /// The graph of a repository.
    #[must_use]
    pub fn new(repo: &Repo) -> Self {
        Self {
            reader: repo.reader(),
            known: RefCell::default(),
        }
    }

    fn get(&self, oid: Oid) -> Result<Arc<Known>, HistoryError> {
        if let Some(known) = self.known.borrow().get(&oid) {
            return Ok(Arc::clone(known));
        }
        let commit = self.reader.commit(oid)?;
        let known = Arc::new(Known {
            tree: commit.tree,
            parents: commit.parents,
            time: commit.time,
        });
        let mut all = self.known.borrow_mut();
        if all.len() >= limits::GRAPH_KEPT {
            all.clear();
        }
        all.insert(oid, Arc::clone(&known));
        Ok(known)
    }

    /// The root tree of a commit.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn tree(&self, commit: Oid) -> Result<Oid, HistoryError> {
        Ok(self.get(commit)?.tree)
    }

    /// The committer's time of a commit, in seconds since the epoch.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn time(&self, commit: Oid) -> Result<i64, HistoryError> {
        Ok(self.get(commit)?.time)
    }

    fn paint(&self, left: &[Oid], right: &[Oid]) -> Result<Painted, HistoryError> {
        let mut painted = Painted::default();
        let mut queue: BinaryHeap<(i64, Oid)> = BinaryHeap::new();
        // Queued commits that are not stale.
        let mut fresh = 0_usize;
        let add = |painted: &mut Painted,
                   queue: &mut BinaryHeap<(i64, Oid)>,
                   fresh: &mut usize,
                   oid: Oid,
                   colours: u8| {
            let flags = painted.flags.entry(oid).or_insert(0);
            if *flags & colours == colours {
                return Ok(());
            }
            let (was_queued, was_stale) = (*flags & QUEUED != 0, *flags & STALE != 0);
            *flags |= colours | QUEUED;
            let is_stale = *flags & STALE != 0;
            match (was_queued, was_stale, is_stale) {
                (false, _, false) => *fresh += 1,
                (true, false, true) => *fresh -= 1,
                _ => {}
            }
            if !was_queued {
                queue.push((self.get(oid)?.time, oid));
            }
            Ok::<(), HistoryError>(())
        };
        for (tips, colour) in [(left, LEFT), (right, RIGHT)] {
            for &tip in tips {
                add(&mut painted, &mut queue, &mut fresh, tip, colour)?;
            }
        }
        while fresh > 0
            && let Some((_, oid)) = queue.pop()
        {
            let flags = painted.flags.entry(oid).or_insert(0);
            *flags &= !QUEUED;
            let flags = *flags;
            if flags & STALE == 0 {
                fresh -= 1;
            }
            painted.order.push(oid);
            let mut below = flags & (LEFT | RIGHT | STALE);
            if below & (LEFT | RIGHT) == LEFT | RIGHT {
                below |= STALE;
            }
            for &parent in &self.get(oid)?.parents {
                add(&mut painted, &mut queue, &mut fresh, parent, below)?;
            }
        }
        Ok(painted)
    }

    /// The commits that both sides have and of which no other such commit is a descendant: what `git merge-base` prints for a merge of all `left` and one of all
    /// `right`. Ascending; a commit counts as its own ancestor.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn merge_bases(&self, left: &[Oid], right: &[Oid]) -> Result<Vec<Oid>, HistoryError> {
        let painted = self.paint(left, right)?;
        let both = |flags: u8| flags & (LEFT | RIGHT | STALE) == LEFT | RIGHT;
        let mut found: Vec<Oid> = painted
            .flags
            .iter()
            .filter(|(_, flags)| both(**flags))
            .map(|(oid, _)| *oid)
            .collect();
        found.sort_unstable();
        if found.len() < 2 {
            return Ok(found);
        }
        let mut best = Vec::new();
        for &commit in &found {
            let mut is_best = true;
            for &other in found.iter().filter(|other| **other != commit) {
                is_best = is_best && !self.is_ancestor(commit, other)?;
            }
            if is_best {
                best.push(commit);
            }
        }
        Ok(best)
    }

    /// Whether `commit` is `of` or an ancestor of it.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn is_ancestor(&self, commit: Oid, of: Oid) -> Result<bool, HistoryError> {
        if commit == of {
            return Ok(true);
        }
        let painted = self.paint(&[commit], &[of])?;
        Ok(painted
            .flags
            .get(&commit)
            .is_some_and(|flags| flags & RIGHT != 0))
    }

    /// Whether `head` has commits with less than two parents that `own` does not have.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn has_news(&self, head: Oid, own: Oid) -> Result<bool, HistoryError> {
        let painted = self.paint(&[head], &[own])?;
        for &oid in &painted.order {
            if painted.is_left_only(oid)
                && self.get(oid)?.parents.len() < 2
                && !self.is_ancestor(oid, own)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Commits that `heads` have and `bases`, ancestors of theirs, do not have. A wrong clock may bring some more of the older ones, the same on every node.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn between(&self, heads: &[Oid], bases: &[Oid]) -> Result<Vec<Oid>, HistoryError> {
        let painted = self.paint(heads, bases)?;
        let mut found: Vec<Oid> = painted
            .flags
            .keys()
            .copied()
            .filter(|oid| painted.is_left_only(*oid))
            .collect();
        found.sort_unstable();
        Ok(found)
    }
}
