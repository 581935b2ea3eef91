//! Entries of a leaf: found, put and taken out in its raw bytes, where they stand in git's order.

use super::super::tree;
use super::{Found, Leaf, Value};
use crate::maildir::{HashKind, Oid};

impl Leaf {
    pub(super) fn find(&self, kind: HashKind, plain: &[u8]) -> Option<Found> {
        let entry = tree::entries(&self.raw, kind)
            .map_while(Result::ok)
            .find(|entry| entry.name.starts_with(plain) && entry.plain() == plain)?;
        Some(Found {
            hidden: entry.name.to_vec(),
            dir: entry.dir,
            oid: entry.oid(),
        })
    }

    /// Puts an entry at its place in git's order.
    pub(super) fn put(&mut self, kind: HashKind, dir: bool, hidden: &[u8], oid: Oid) {
        let at = tree::entries(&self.raw, kind)
            .map_while(Result::ok)
            .find(|entry| tree::order(entry.name, entry.dir, hidden, dir).is_gt())
            .map_or(self.raw.len(), |entry| entry.start);
        let mut entry = Vec::with_capacity(hidden.len() + 40);
        tree::push(&mut entry, dir, hidden, oid.as_bytes());
        self.raw.splice(at..at, entry);
    }

    pub(super) fn insert(&mut self, kind: HashKind, hidden: Vec<u8>, value: Value) {
        self.count += 1;
        match value {
            Value::File(oid) => self.put(kind, false, &hidden, oid),
            Value::Dir(oid) => self.put(kind, true, &hidden, oid),
            Value::Node(node) => {
                let id = node.id.unwrap_or_else(|| Oid::null(kind));
                self.put(kind, true, &hidden, id);
                self.dirs.push((hidden, node));
            }
        }
    }

    pub(super) fn remove(&mut self, kind: HashKind, plain: &[u8]) -> Option<(Found, Value)> {
        let entry = tree::entries(&self.raw, kind)
            .map_while(Result::ok)
            .find(|entry| {
                entry.name.starts_with(plain) && entry.plain() == plain && !entry.is_mailbox()
            })?;
        let found = Found {
            hidden: entry.name.to_vec(),
            dir: entry.dir,
            oid: entry.oid(),
        };
        let range = entry.start..entry.end;
        self.raw.drain(range);
        self.count -= 1;
        let loaded = self
            .dirs
            .iter()
            .position(|(name, _)| found.dir && *name == found.hidden);
        let value = match loaded {
            Some(at) => Value::Node(self.dirs.swap_remove(at).1),
            None if found.dir => Value::Dir(found.oid),
            None => Value::File(found.oid),
        };
        Some((found, value))
    }
}
