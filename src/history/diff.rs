//! What differs between two root trees. Equal subtrees are skipped by their ids, so the cost follows the difference.
//!
//! Where one side of a trie is split and the other is not (the number of names crossed the bound), both are listed below that
//! node: a few leaves at most, or what was added or removed anyway.

use std::collections::BTreeMap;

use super::tree;
use super::{HistoryError, Reader};
use crate::maildir::{Entry, EntryKind, Oid, TreePath};

/// One difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Difference {
    /// A name appeared (`old` is `None`), disappeared (`new` is `None`), or its blob, kind or attributes changed. What lies below
    /// directories that appear or disappear follows, one difference each.
    Entry {
        /// Where.
        path: TreePath,
        /// Before.
        old: Option<Entry>,
        /// After.
        new: Option<Entry>,
    },
    /// A folder's facts appeared, disappeared or changed: ids of its `%mailbox`.
    Mailbox {
        /// The folder.
        folder: TreePath,
        /// Before.
        old: Option<Oid>,
        /// After.
        new: Option<Oid>,
    },
}

/// One node of a trie as it is stored.
#[allow(clippy::large_enum_variant)] // Held one at a time, and a leaf's heap is larger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TrieNode {
    /// All names of the directory that lie here.
    Leaf {
        /// The folder's facts, at the top of its directory.
        mailbox: Option<Oid>,
        /// The names.
        entries: Vec<Entry>,
    },
    /// Names are placed by a hexadecimal digit of their identity's hash.
    Split {
        /// The folder's facts, at the top of its directory.
        mailbox: Option<Oid>,
        /// The node below each digit.
        branches: [Option<Oid>; 16],
    },
}

impl Reader {
    /// One node of a trie, for those who walk several tries side by side.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn node(&self, oid: Oid) -> Result<TrieNode, HistoryError> {
        let mut raw = Vec::new();
        self.tree(oid, &mut raw)?;
        let mut entries = Vec::new();
        let shape = tree::read(&raw, self.kind(), |entry| {
            entries.push(super::reader::decode(entry));
        });
        match shape.map_err(|reason| HistoryError::corrupt(oid, reason))? {
            tree::Shape::Split(split) => Ok(TrieNode::Split {
                mailbox: split.mailbox,
                branches: split.branches,
            }),
            tree::Shape::Leaf { mailbox } => {
                let entries: Result<Vec<Entry>, _> = entries.into_iter().collect();
                let entries =
                    entries.map_err(|name| HistoryError::corrupt(oid, name.to_string()))?;
                Ok(TrieNode::Leaf { mailbox, entries })
            }
        }
    }

    /// Walks two root trees and reports what differs, directories before what they hold. `None` is the empty tree.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn diff(
        &self,
        old: Option<Oid>,
        new: Option<Oid>,
        each: &mut dyn FnMut(Difference),
    ) -> Result<(), HistoryError> {
        let mut todo = vec![(TreePath::root(), old, new)];
        while let Some((dir, old, new)) = todo.pop() {
            self.diff_dir(&dir, old, new, each, &mut todo)?;
        }
        Ok(())
    }

    fn diff_dir(
        &self,
        dir: &TreePath,
        old: Option<Oid>,
        new: Option<Oid>,
        each: &mut dyn FnMut(Difference),
        dirs: &mut Vec<(TreePath, Option<Oid>, Option<Oid>)>,
    ) -> Result<(), HistoryError> {
        let mut nodes = vec![(old, new, true)];
        while let Some((old, new, top)) = nodes.pop() {
            if old == new {
                continue;
            }
            let load = |oid: Option<Oid>| oid.map(|oid| self.node(oid)).transpose();
            let (old_node, new_node) = (load(old)?, load(new)?);
            if top {
                let facts = |node: &Option<TrieNode>| match node {
                    Some(TrieNode::Leaf { mailbox, .. } | TrieNode::Split { mailbox, .. }) => {
                        *mailbox
                    }
                    None => None,
                };
                let (old, new) = (facts(&old_node), facts(&new_node));
                if old != new {
                    each(Difference::Mailbox {
                        folder: dir.clone(),
                        old,
                        new,
                    });
                }
            }
            if let (
                Some(TrieNode::Split { branches: old, .. }),
                Some(TrieNode::Split { branches: new, .. }),
            ) = (&old_node, &new_node)
            {
                nodes.extend(old.iter().zip(new).map(|(old, new)| (*old, *new, false)));
                continue;
            }
            let mut names: BTreeMap<Vec<u8>, (Option<Entry>, Option<Entry>)> = BTreeMap::new();
            self.names_below(old, old_node, &mut |entry| {
                let slot = names.entry(entry.name.clone()).or_default();
                slot.0 = Some(entry);
            })?;
            self.names_below(new, new_node, &mut |entry| {
                let slot = names.entry(entry.name.clone()).or_default();
                slot.1 = Some(entry);
            })?;
            for (name, (old, new)) in names {
                if old == new {
                    continue;
                }
                let path = dir.join(&name);
                let tree = |entry: &Option<Entry>| {
                    entry
                        .as_ref()
                        .filter(|entry| entry.kind == EntryKind::Dir)
                        .map(|entry| entry.oid)
                };
                let trees = (tree(&old), tree(&new));
                if trees.0.is_some() || trees.1.is_some() {
                    dirs.push((path.clone(), trees.0, trees.1));
                }
                if trees.0.is_none() || trees.1.is_none() {
                    each(Difference::Entry { path, old, new });
                }
            }
        }
        Ok(())
    }

    fn names_below(
        &self,
        oid: Option<Oid>,
        node: Option<TrieNode>,
        each: &mut dyn FnMut(Entry),
    ) -> Result<(), HistoryError> {
        match (oid, node) {
            (_, Some(TrieNode::Leaf { entries, .. })) => entries.into_iter().for_each(each),
            (Some(oid), Some(TrieNode::Split { .. })) => self.dir_each(oid, each)?,
            _ => {}
        }
        Ok(())
    }
}
