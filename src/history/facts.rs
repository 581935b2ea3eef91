//! Facts of the folders that operations touch, kept decoded until the tree is sealed: a thousand deliveries of one commit raise UIDNEXT
//! a thousand times and leave one blob.

use std::collections::HashMap;

use super::HistoryError;
use super::hash::{ObjectKind, hash_object};
use super::pending::Pending;
use super::tree::Key;
use super::trie::{Node, Trees as _};
use crate::maildir::{MailboxFacts, Oid, TreePath, mailbox};

/// Folders whose facts are remembered; more are read again when needed.
const KNOWN_MAX: usize = 1024;

#[derive(Default)]
pub(super) struct Facts {
    known: HashMap<TreePath, Known>,
}

struct Known {
    facts: MailboxFacts,
    changed: bool,
}

impl Facts {
    /// Replaces the facts of a folder, which is there.
    pub(super) fn set(&mut self, folder: &TreePath, facts: &MailboxFacts) {
        let (facts, changed) = (facts.clone(), true);
        self.known.insert(folder.clone(), Known { facts, changed });
    }

    /// A message of the folder got this UID: UIDNEXT rises above it. A folder without facts stays so.
    pub(super) fn raise_uid_next(
        &mut self,
        root: &mut Node,
        pending: &Pending,
        folder: &TreePath,
        uid: u32,
    ) -> Result<(), HistoryError> {
        if !self.known.contains_key(folder) {
            let Some(node) = descend(root, pending, folder, false)? else {
                return Ok(());
            };
            let Some(oid) = node.mailbox(pending) else {
                return Ok(());
            };
            let facts = mailbox::decode(&pending.blob(oid)?)
                .map_err(|bad| HistoryError::corrupt(oid, bad.to_string()))?;
            let changed = false;
            self.known.insert(folder.clone(), Known { facts, changed });
        }
        if let Some(known) = self.known.get_mut(folder)
            && known.facts.uid_next <= uid
        {
            known.facts.uid_next = uid.saturating_add(1);
            known.changed = true;
        }
        Ok(())
    }

    /// Writes what changed into the tree.
    pub(super) fn write(
        &mut self,
        root: &mut Node,
        pending: &mut Pending,
    ) -> Result<(), HistoryError> {
        for (folder, known) in &mut self.known {
            if !known.changed {
                continue;
            }
            let oid = add_blob(pending, &mailbox::encode(&known.facts));
            if let Some(node) = descend(root, pending, folder, true)? {
                node.set_mailbox(pending, oid);
            }
            known.changed = false;
        }
        if self.known.len() > KNOWN_MAX {
            self.known.clear();
        }
        Ok(())
    }

    /// Forgets all: paths are about to mean something else, or the tree is another one.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

/// Adds a blob unless it exists; returns its id.
pub(super) fn add_blob(pending: &mut Pending, content: &[u8]) -> Oid {
    let oid = hash_object(pending.kind(), ObjectKind::Blob, content);
    if !pending.has(oid) {
        pending.add(oid, ObjectKind::Blob, content);
    }
    oid
}

fn descend<'a>(
    root: &'a mut Node,
    pending: &Pending,
    path: &TreePath,
    touch: bool,
) -> Result<Option<&'a mut Node>, HistoryError> {
    let mut node = root;
    for part in path.components() {
        match node.subdir(pending, &Key::new(part), touch)? {
            Some(below) => node = below,
            None => return Ok(None),
        }
    }
    Ok(Some(node))
}
