//! Which commits lie between heads.

use super::hash::to_gix;
use super::{HistoryError, Reader};
use crate::maildir::Oid;

impl Reader {
    /// The commits that are reachable from `head` and from none of `known`, newest first, at most `most` and one. Heads of `known` that are not
    /// here are passed over.
    ///
    /// # Errors
    /// [`HistoryError::Git`] where a commit cannot be read.
    pub fn commits_between(
        &self,
        head: Oid,
        known: &[Oid],
        most: usize,
    ) -> Result<Vec<Oid>, HistoryError> {
        if known.contains(&head) {
            return Ok(Vec::new());
        }
        let hidden = known
            .iter()
            .filter(|id| self.has(**id))
            .map(|id| to_gix(*id));
        let git = self.git();
        let walk = git
            .rev_walk([to_gix(head)])
            .with_hidden(hidden)
            .all()
            .map_err(HistoryError::git("cannot walk the history"))?;
        let mut found = Vec::new();
        for step in walk {
            let step = step.map_err(HistoryError::git("cannot walk the history"))?;
            found.push(super::hash::from_gix(step.id));
            if found.len() > most {
                break;
            }
        }
        Ok(found)
    }

    /// Whether `commit` is `of` or an ancestor of it.
    ///
    /// # Errors
    /// [`HistoryError::Git`] where a commit cannot be read.
    pub fn is_contained(&self, commit: Oid, of: Oid) -> Result<bool, HistoryError> {
        Ok(commit == of || self.commits_between(commit, &[of], 0)?.is_empty())
    }
}
