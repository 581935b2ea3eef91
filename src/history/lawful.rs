//! The UID laws over the history: each commit against each of its parents. What is checked is in [`crate::maildir::laws`]; the cost follows
//! what the commit changed.

use std::collections::BTreeMap;

use super::diff::Difference;
use super::{CommitInfo, HistoryError, Reader};
use crate::maildir::laws::{self, Holder, Step, Violation};
use crate::maildir::{Entry, EntryKind, MailboxFacts, Oid, TreePath, mailbox};

/// What a commit changed in a folder.
#[derive(Default)]
struct Changed {
    removed: Vec<Holder>,
    added: Vec<Holder>,
    /// Ids of the facts before and after, where they changed.
    facts: Option<(Option<Oid>, Option<Oid>)>,
}

impl Reader {
    /// The UID laws that a commit breaks, each with its folder.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn uid_violations(
        &self,
        commit: &CommitInfo,
    ) -> Result<Vec<(TreePath, Violation)>, HistoryError> {
        let mut found = Vec::new();
        let parents: Vec<Option<Oid>> = if commit.parents.is_empty() {
            vec![None]
        } else {
            commit.parents.iter().map(|parent| Some(*parent)).collect()
        };
        for parent in parents {
            let before = match parent {
                Some(parent) => Some(self.commit(parent)?.tree),
                None => None,
            };
            self.uid_violations_between(before, commit.tree, &mut found)?;
        }
        Ok(found)
    }

    /// The UID laws that a step from one root tree to another breaks.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn uid_violations_between(
        &self,
        before: Option<Oid>,
        after: Oid,
        found: &mut Vec<(TreePath, Violation)>,
    ) -> Result<(), HistoryError> {
        let mut folders: BTreeMap<TreePath, Changed> = BTreeMap::new();
        self.diff(before, Some(after), &mut |difference| match difference {
            Difference::Mailbox { folder, old, new } => {
                folders.entry(folder).or_default().facts = Some((old, new));
            }
            Difference::Entry { path, old, new } => {
                if let Some(folder) = path.folder()
                    && (has_uid(old.as_ref()) || has_uid(new.as_ref()))
                {
                    let changed = folders.entry(folder).or_default();
                    changed.removed.extend(holder(old));
                    changed.added.extend(holder(new));
                }
            }
        })?;
        for (folder, changed) in folders {
            let (old, new) = match changed.facts {
                Some((old, new)) => (self.facts(old)?, self.facts(new)?),
                None => {
                    let facts = self.facts_of(after, &folder)?;
                    (facts.clone(), facts)
                }
            };
            let step = Step {
                before: old.as_ref(),
                after: new.as_ref(),
                removed: &changed.removed,
                added: &changed.added,
            };
            let broken = laws::check(&step).into_iter();
            found.extend(broken.map(|violation| (folder.clone(), violation)));
        }
        Ok(())
    }

    fn facts(&self, blob: Option<Oid>) -> Result<Option<MailboxFacts>, HistoryError> {
        let Some(oid) = blob else { return Ok(None) };
        mailbox::decode(&self.blob(oid)?)
            .map(Some)
            .map_err(|bad| HistoryError::corrupt(oid, bad.to_string()))
    }

    fn facts_of(&self, root: Oid, folder: &TreePath) -> Result<Option<MailboxFacts>, HistoryError> {
        match self.lookup(root, folder)? {
            Some(entry) => self.mailbox(entry.oid),
            None => Ok(None),
        }
    }
}

fn has_uid(entry: Option<&Entry>) -> bool {
    matches!(entry, Some(Entry { kind: EntryKind::File(attrs), .. }) if attrs.uid.is_some())
}

fn holder(entry: Option<Entry>) -> Option<Holder> {
    let entry = entry?;
    let EntryKind::File(attrs) = entry.kind else {
        return None;
    };
    Some(Holder {
        uid: attrs.uid?,
        name: entry.name,
        oid: entry.oid,
    })
}
