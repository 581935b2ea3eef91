//! The graph of commits: who is whose ancestor, best common ancestors, and what is new.
//!
//! All questions are answered by painting ([`super::paint`]); whatever a wrong clock may have spoiled is asked again, commit by commit.
//!
//! The reader keeps what it has learned of commits: the same ones are asked for after every exchange.

use std::sync::Arc;

use super::paint::{Commits, Known, Painted};
use super::{HistoryError, Reader, Repo};
use crate::maildir::Oid;

/// Answers questions about commits. One thread's.
pub struct Graph {
    reader: Reader,
}

impl Commits for Graph {
    fn known(&self, oid: Oid) -> Result<Arc<Known>, HistoryError> {
        self.reader.known(oid)
    }
}

impl Graph {
    /// The graph of a repository.
    #[must_use]
    pub fn new(repo: &Repo) -> Self {
        Self {
            reader: repo.reader(),
        }
    }

    /// The root tree of a commit.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn tree(&self, commit: Oid) -> Result<Oid, HistoryError> {
        Ok(self.known(commit)?.tree)
    }

    /// The committer's time of a commit, in seconds since the epoch.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn time(&self, commit: Oid) -> Result<i64, HistoryError> {
        Ok(self.known(commit)?.time)
    }

    fn paint(&self, left: &[Oid], right: &[Oid]) -> Result<Painted, HistoryError> {
        Painted::new(self, left, right, usize::MAX)
    }

    /// The commits that both sides have and of which no other such commit is a descendant: what `git merge-base` prints for a merge of all `left` and one of all
    /// `right`. Ascending; a commit counts as its own ancestor.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn merge_bases(&self, left: &[Oid], right: &[Oid]) -> Result<Vec<Oid>, HistoryError> {
        let painted = self.paint(left, right)?;
        let mut found: Vec<Oid> = painted.shared().collect();
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
        Ok(self.paint(&[commit], &[of])?.is_right(commit))
    }

    /// Whether `head` has commits with less than two parents that `own` does not have.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn has_news(&self, head: Oid, own: Oid) -> Result<bool, HistoryError> {
        let painted = self.paint(&[head], &[own])?;
        for oid in painted.left_only() {
            if self.known(oid)?.parents.len() < 2 && !self.is_ancestor(oid, own)? {
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
        let mut found: Vec<Oid> = self.paint(heads, bases)?.left_only().collect();
        found.sort_unstable();
        Ok(found)
    }
}
