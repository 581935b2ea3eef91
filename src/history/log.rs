//! Walking commits.

use super::{CommitInfo, HistoryError, Reader};
use crate::maildir::{Entry, Oid, TreePath};

/// Commits from a head down its first parents. Made by [`Reader::first_parent_log`].
pub struct FirstParents<'a> {
    reader: &'a Reader,
    next: Option<Oid>,
}

impl Iterator for FirstParents<'_> {
    type Item = Result<(Oid, CommitInfo), HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let oid = self.next.take()?;
        Some(self.reader.commit(oid).map(|commit| {
            self.next = commit.parents.first().copied();
            (oid, commit)
        }))
    }
}

/// One step in the history of a path. Made by [`Reader::path_log`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathChange {
    /// The commit that made it so.
    pub oid: Oid,
    /// What the commit says.
    pub commit: CommitInfo,
    /// What the path was before, on the first parent's side.
    pub old: Option<Entry>,
    /// What it is since.
    pub new: Option<Entry>,
}

impl Reader {
    /// The commits from `head` down its first parents, newest first.
    #[must_use]
    pub fn first_parent_log(&self, head: Oid) -> FirstParents<'_> {
        FirstParents {
            reader: self,
            next: Some(head),
        }
    }

    /// The commits on the first-parent line that changed what is at `path`, newest first. Subtrees that did not change are not read.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn path_log(
        &self,
        head: Oid,
        path: &TreePath,
        each: &mut dyn FnMut(PathChange),
    ) -> Result<(), HistoryError> {
        let mut after: Option<(Oid, CommitInfo, Option<Entry>)> = None;
        for step in self.first_parent_log(head) {
            let (oid, commit) = step?;
            let same_tree = after
                .as_ref()
                .is_some_and(|(_, later, _)| later.tree == commit.tree);
            let entry = match &after {
                Some((_, _, entry)) if same_tree => entry.clone(),
                _ => self.lookup(commit.tree, path)?,
            };
            if let Some((oid, commit, new)) = after.take()
                && new != entry
            {
                each(PathChange {
                    oid,
                    commit,
                    old: entry.clone(),
                    new,
                });
            }
            after = Some((oid, commit, entry));
        }
        if let Some((oid, commit, new @ Some(_))) = after {
            each(PathChange {
                oid,
                commit,
                old: None,
                new,
            });
        }
        Ok(())
    }
}
