//! Which commits lie between heads.

use std::sync::Arc;

use super::paint::{Commits, Known, Painted};
use super::{HistoryError, Reader};
use crate::limits;
use crate::maildir::Oid;

impl Commits for Reader {
    fn known(&self, oid: Oid) -> Result<Arc<Known>, HistoryError> {
        if let Some(known) = self.memory.known.borrow().get(&oid) {
            return Ok(Arc::clone(known));
        }
        let commit = self.commit(oid)?;
        let known = Arc::new(Known {
            tree: commit.tree,
            parents: commit.parents,
            time: commit.time,
        });
        let mut all = self.memory.known.borrow_mut();
        if all.len() >= limits::COMMITS_KEPT {
            all.clear();
        }
        all.insert(oid, Arc::clone(&known));
        Ok(known)
    }
}

impl Reader {
    /// The commits that are reachable from `head` and from none of `known`, newest first by commit time, at most `most` and one. Where a clock was wrong, some of the older
    /// ones may be among them that are reachable from one of `known` too; none is left out. Heads of `known` that are not here are passed over.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn commits_between(
        &self,
        head: Oid,
        known: &[Oid],
        most: usize,
    ) -> Result<Vec<Oid>, HistoryError> {
        if known.contains(&head) {
            return Ok(Vec::new());
        }
        let known: Vec<Oid> = known
            .iter()
            .copied()
            .filter(|id| self.has_commit(*id))
            .collect();
        // Where heads lie apart, the other side's colour comes later, but seldom by as much.
        let stop = most.saturating_mul(2).saturating_add(1000);
        let painted = Painted::left_of(self, &[head], &known, stop)?;
        Ok(painted.left_only().take(most.saturating_add(1)).collect())
    }

    /// Whether `commit` is `of` or an ancestor of it. `of` may be missing here: then it is not.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn is_contained(&self, commit: Oid, of: Oid) -> Result<bool, HistoryError> {
        if commit == of {
            return Ok(true);
        }
        if !self.is_at_hand(of) && !self.surely_has(of) {
            return Ok(false);
        }
        Ok(Painted::new(self, &[commit], &[of], usize::MAX)?.is_right(commit))
    }
}
