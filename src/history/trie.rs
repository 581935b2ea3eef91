//! The working tree: directories as canonical tries, loaded as far as operations reach, edited in place.
//!
//! # The shape
//!
//! A directory is a tree object, or a trie of tree objects:
//!
//! ```text
//! leaf    files (100644 HIDDEN-NAME), directories (40000 ESCAPED-NAME), at the top node also %mailbox
//! split   branches (40000 0 … 40000 f), at the top node also %mailbox; nothing else
//! ```
//!
//! - A name's place is given by the hexadecimal digits of SHA-1 over its *identity* (`maildir::name::identity`: flags and
//!   volatile attributes left out, so a flag change stays in its leaf), one digit a level. Directories are placed like files.
//! - A node is split if and only if more than [`limits::TRIE_LEAF_MAX`] names lie below it and it is less than [`MAX_DEPTH`] deep. So
//!   the shape depends on the set of names alone, not on how it came about: removing merges back at once.
//! - Names of one identity share all digits and both survive: they end in one leaf, at the greatest depth if they are many.
//! - `%mailbox` does not count and stays at the top.
//! - Branches cannot be confused with directories: `maildir::hidden` escapes visible names of one hexadecimal digit.
//!
//! # In memory
//!
//! A leaf is kept as the raw tree object: loading is no parsing, writing is no encoding, and the difference to the version before is
//! two slices. A changed node remembers the version before it where that lies in the pack being written, for the delta.
//!
//! What the shape costs is measured in the header of the module `history`.

mod leaf;

use std::borrow::Cow;

use super::HistoryError;
use super::hash::{ObjectKind, hash_object};
use super::tree::{self, BRANCHES, Key, MAX_DEPTH};
use crate::maildir::hidden::MAILBOX;
use crate::maildir::{HashKind, Oid, hidden};

/// Where nodes are loaded from, and where they go.
pub(super) trait Trees {
    /// The repository's hash.
    fn kind(&self) -> HashKind;
    /// More names than this below a node split it.
    fn leaf_max(&self) -> usize;
    /// A raw tree object.
    fn load(&self, oid: Oid) -> Result<Vec<u8>, HistoryError>;
    /// Whether the tree lies in the pack being written, so that a delta against it is possible.
    fn is_pending(&self, oid: Oid) -> bool;
    /// Takes a new tree; `before` is the version it replaces, if that is pending.
    fn store(
        &mut self,
        oid: Oid,
        raw: &[u8],
        before: Option<(Oid, &[u8])>,
    ) -> Result<(), HistoryError>;
}

/// One node of a trie, or a whole directory where it is the top.
pub(super) struct Node {
    /// The tree object it is equal to; `None` since it was changed.
    id: Option<Oid>,
    before: Option<(Oid, Vec<u8>)>,
    body: Body,
}

enum Body {
    Leaf(Leaf),
    Split(Box<Split>),
}

#[derive(Default)]
struct Leaf {
    raw: Vec<u8>,
    /// Entries, `%mailbox` not counted.
    count: usize,
    /// Loaded subdirectories by hidden name; the ids in `raw` may be behind theirs.
    dirs: Vec<(Vec<u8>, Box<Node>)>,
}

#[derive(Default)]
struct Split {
    mailbox: Option<Oid>,
    children: [Child; 16],
}

/// A branch. Absent where it has neither id nor node.
#[derive(Default)]
struct Child {
    /// Its tree; behind the node's where that was changed.
    oid: Option<Oid>,
    node: Option<Box<Node>>,
    /// Names below it, where that was found out and the node is not loaded.
    count: Option<usize>,
}

/// What an entry is, taken out of a directory or to be put into one.
pub(super) enum Value {
    /// A blob.
    File(Oid),
    /// A directory that is not loaded.
    Dir(Oid),
    /// A loaded directory.
    Node(Box<Node>),
}

/// An entry found in a directory.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) hidden: Vec<u8>,
    pub(super) dir: bool,
    pub(super) oid: Oid,
}

impl Node {
    /// An empty directory that is in no repository yet.
    pub(super) fn empty() -> Self {
        Self {
            id: None,
            before: None,
            body: Body::Leaf(Leaf::default()),
        }
    }

    /// Loads a node.
    pub(super) fn load(oid: Oid, trees: &impl Trees) -> Result<Self, HistoryError> {
        let raw = trees.load(oid)?;
        Self::parse(oid, raw, trees.kind())
    }

    fn parse(oid: Oid, raw: Vec<u8>, kind: HashKind) -> Result<Self, HistoryError> {
        let bad = |reason| HistoryError::corrupt(oid, reason);
        let body = match tree::split(&raw, kind).map_err(bad)? {
            Some(split) => Body::Split(Box::new(Split {
                mailbox: split.mailbox,
                children: split.branches.map(|oid| Child {
                    oid,
                    ..Child::default()
                }),
            })),
            None => {
                let mut count = 0;
                for entry in tree::entries(&raw, kind) {
                    let entry = entry.map_err(bad)?;
                    if entry.branch().is_some() {
                        return Err(bad("a tree mixes branches and entries"));
                    }
                    count += usize::from(!entry.is_mailbox());
                }
                Body::Leaf(Leaf {
                    raw,
                    count,
                    dirs: Vec::new(),
                })
            }
        };
        Ok(Self {
            id: Some(oid),
            before: None,
            body,
        })
    }

    /// About to change.
    fn touch(&mut self, trees: &impl Trees) {
        if let Some(id) = self.id.take()
            && trees.is_pending(id)
        {
            self.before = Some((id, self.raw().into_owned()));
        }
    }

    /// The tree object, as far as the ids of branches and subdirectories are up to date.
    fn raw(&self) -> Cow<'_, [u8]> {
        match &self.body {
            Body::Leaf(leaf) => (&leaf.raw).into(),
            Body::Split(split) => {
                let mut raw = Vec::with_capacity(16 * 40);
                if let Some(oid) = split.mailbox {
                    tree::push(&mut raw, false, MAILBOX, oid.as_bytes());
                }
                for (child, name) in split.children.iter().zip(BRANCHES) {
                    if let Some(oid) = child.oid {
                        tree::push(&mut raw, true, name, oid.as_bytes());
                    }
                }
                raw.into()
            }
        }
    }

    /// Names below the node; `None` for more than a leaf may hold.
    fn count(&self) -> Option<usize> {
        match &self.body {
            Body::Leaf(leaf) => Some(leaf.count),
            Body::Split(_) => None,
        }
    }

    /// Whether the directory shows no names.
    pub(super) fn is_empty(&self) -> bool {
        self.count() == Some(0)
    }

    /// Looks a name up.
    pub(super) fn find(
        &mut self,
        trees: &impl Trees,
        key: &Key,
    ) -> Result<Option<Found>, HistoryError> {
        let kind = trees.kind();
        Ok(self
            .leaf(trees, key, 0, false)?
            .and_then(|leaf| leaf.find(kind, &key.plain)))
    }

    /// The subdirectory of that name, loaded; `None` where there is none or it is a file. With `touch`, all on the way is about to change.
    pub(super) fn subdir(
        &mut self,
        trees: &impl Trees,
        key: &Key,
        touch: bool,
    ) -> Result<Option<&mut Self>, HistoryError> {
        let kind = trees.kind();
        let Some(leaf) = self.leaf(trees, key, 0, touch)? else {
            return Ok(None);
        };
        if let Some(at) = leaf.dirs.iter().position(|(name, _)| **name == *key.plain) {
            return Ok(Some(&mut leaf.dirs[at].1));
        }
        match leaf.find(kind, &key.plain) {
            Some(found) if found.dir => {
                let node = Self::load(found.oid, trees)?;
                leaf.dirs.push((found.hidden, Box::new(node)));
                Ok(leaf.dirs.last_mut().map(|(_, node)| &mut **node))
            }
            _ => Ok(None),
        }
    }

    /// The leaf that holds the name or would hold it; `None` where its branch is absent.
    fn leaf(
        &mut self,
        trees: &impl Trees,
        key: &Key,
        depth: usize,
        touch: bool,
    ) -> Result<Option<&mut Leaf>, HistoryError> {
        if touch {
            self.touch(trees);
        }
        match &mut self.body {
            Body::Leaf(leaf) => Ok(Some(leaf)),
            Body::Split(split) => match split.children[key.digit(depth)].load(trees)? {
                Some(node) => node.leaf(trees, key, depth + 1, touch),
                None => Ok(None),
            },
        }
    }

    /// Puts a name in that is not there.
    pub(super) fn insert(
        &mut self,
        trees: &impl Trees,
        key: &Key,
        hidden: Vec<u8>,
        value: Value,
    ) -> Result<(), HistoryError> {
        self.insert_at(trees, key, 0, hidden, value)
    }

    fn insert_at(
        &mut self,
        trees: &impl Trees,
        key: &Key,
        depth: usize,
        hidden: Vec<u8>,
        value: Value,
    ) -> Result<(), HistoryError> {
        self.touch(trees);
        match &mut self.body {
            Body::Leaf(leaf) => {
                leaf.insert(trees.kind(), hidden, value);
                self.split_if_full(trees, depth)
            }
            Body::Split(split) => {
                let child = &mut split.children[key.digit(depth)];
                if child.oid.is_none() && child.node.is_none() {
                    child.node = Some(Box::new(Self::empty()));
                }
                match child.load(trees)? {
                    Some(node) => node.insert_at(trees, key, depth + 1, hidden, value),
                    None => Ok(()),
                }
            }
        }
    }

    fn split_if_full(&mut self, trees: &impl Trees, depth: usize) -> Result<(), HistoryError> {
        let kind = trees.kind();
        let Body::Leaf(leaf) = &mut self.body else {
            return Ok(());
        };
        if leaf.count <= trees.leaf_max() || depth >= MAX_DEPTH {
            return Ok(());
        }
        let mut split = Split::default();
        let mut leaves: [Leaf; 16] = Default::default();
        for entry in tree::entries(&leaf.raw, kind) {
            let entry = entry.map_err(lost)?;
            if entry.is_mailbox() {
                split.mailbox = Some(entry.oid());
                continue;
            }
            let visible = hidden::decode_plain(entry.plain()).map_err(|_| lost("a name"))?;
            let to = &mut leaves[tree::digit(&tree::digits(&visible), depth)];
            to.raw.extend_from_slice(&leaf.raw[entry.start..entry.end]);
            to.count += 1;
            if let Some(at) = leaf
                .dirs
                .iter()
                .position(|(name, _)| entry.dir && name == entry.name)
            {
                to.dirs.push(leaf.dirs.swap_remove(at));
            }
        }
        for (child, leaf) in split.children.iter_mut().zip(leaves) {
            if leaf.count > 0 {
                let mut node = Self {
                    id: None,
                    before: None,
                    body: Body::Leaf(leaf),
                };
                node.split_if_full(trees, depth + 1)?;
                child.node = Some(Box::new(node));
            }
        }
        self.body = Body::Split(Box::new(split));
        Ok(())
    }

    /// Takes a name out; `None` where it is not there.
    pub(super) fn remove(
        &mut self,
        trees: &impl Trees,
        key: &Key,
    ) -> Result<Option<(Found, Value)>, HistoryError> {
        self.remove_at(trees, key, 0)
    }

    fn remove_at(
        &mut self,
        trees: &impl Trees,
        key: &Key,
        depth: usize,
    ) -> Result<Option<(Found, Value)>, HistoryError> {
        self.touch(trees);
        match &mut self.body {
            Body::Leaf(leaf) => Ok(leaf.remove(trees.kind(), &key.plain)),
            Body::Split(split) => {
                let child = &mut split.children[key.digit(depth)];
                let Some(node) = child.load(trees)? else {
                    return Ok(None);
                };
                let removed = node.remove_at(trees, key, depth + 1)?;
                if node.is_empty() {
                    *child = Child::default();
                }
                if removed.is_some() {
                    self.merge_if_few(trees)?;
                }
                Ok(removed)
            }
        }
    }

    fn merge_if_few(&mut self, trees: &impl Trees) -> Result<(), HistoryError> {
        let kind = trees.kind();
        let Body::Split(split) = &mut self.body else {
            return Ok(());
        };
        let mut total = 0;
        for child in &mut split.children {
            match child.count(trees)? {
                Some(count) => total += count,
                None => return Ok(()),
            }
            if total > trees.leaf_max() {
                return Ok(());
            }
        }
        let mut merged = Leaf {
            count: total,
            ..Leaf::default()
        };
        let mut raws = Vec::with_capacity(17);
        for child in &mut split.children {
            let _ = child.load(trees)?;
            if let Some(Body::Leaf(leaf)) = child.node.take().map(|node| node.body) {
                raws.push(leaf.raw);
                merged.dirs.extend(leaf.dirs);
            }
        }
        if let Some(oid) = split.mailbox {
            let mut raw = Vec::new();
            tree::push(&mut raw, false, MAILBOX, oid.as_bytes());
            raws.push(raw);
        }
        let mut all = Vec::with_capacity(total + 1);
        for raw in &raws {
            for entry in tree::entries(raw, kind) {
                let entry = entry.map_err(lost)?;
                all.push((entry, &raw[entry.start..entry.end]));
            }
        }
        all.sort_unstable_by(|(a, _), (b, _)| tree::order(a.name, a.dir, b.name, b.dir));
        merged.raw = all.iter().flat_map(|(_, bytes)| *bytes).copied().collect();
        self.body = Body::Leaf(merged);
        Ok(())
    }

    /// Replaces a file's entry by another of the same identity: one leaf, no change of shape. `false` where the name is not there.
    pub(super) fn replace(
        &mut self,
        trees: &impl Trees,
        key: &Key,
        hidden: Vec<u8>,
        oid: Oid,
    ) -> Result<bool, HistoryError> {
        let kind = trees.kind();
        let Some(leaf) = self.leaf(trees, key, 0, true)? else {
            return Ok(false);
        };
        let there = leaf.remove(kind, &key.plain).is_some();
        if there {
            leaf.insert(kind, hidden, Value::File(oid));
        }
        Ok(there)
    }

    /// The directory's `%mailbox`.
    pub(super) fn mailbox(&self, trees: &impl Trees) -> Option<Oid> {
        match &self.body {
            Body::Split(split) => split.mailbox,
            Body::Leaf(leaf) => tree::entries(&leaf.raw, trees.kind())
                .map_while(Result::ok)
                .find(tree::RawEntry::is_mailbox)
                .map(|entry| entry.oid()),
        }
    }

    /// Sets or replaces the directory's `%mailbox`.
    pub(super) fn set_mailbox(&mut self, trees: &impl Trees, oid: Oid) {
        self.touch(trees);
        match &mut self.body {
            Body::Split(split) => split.mailbox = Some(oid),
            Body::Leaf(leaf) => {
                let kind = trees.kind();
                let old = tree::entries(&leaf.raw, kind)
                    .map_while(Result::ok)
                    .find(tree::RawEntry::is_mailbox)
                    .map(|entry| entry.start..entry.end);
                if let Some(range) = old {
                    leaf.raw.drain(range);
                }
                leaf.put(kind, false, MAILBOX, oid);
            }
        }
    }

    /// Stores all that changed and returns the node's id.
    pub(super) fn seal(&mut self, trees: &mut impl Trees) -> Result<Oid, HistoryError> {
        if let Some(id) = self.id {
            return Ok(id);
        }
        let kind = trees.kind();
        match &mut self.body {
            Body::Leaf(leaf) => {
                for (name, node) in &mut leaf.dirs {
                    if node.id.is_none() {
                        let id = node.seal(trees)?;
                        let at = tree::entries(&leaf.raw, kind)
                            .map_while(Result::ok)
                            .find(|entry| entry.dir && entry.name == &**name)
                            .map(|entry| entry.end)
                            .ok_or_else(|| lost("a subdirectory"))?;
                        leaf.raw[at - kind.len()..at].copy_from_slice(id.as_bytes());
                    }
                }
            }
            Body::Split(split) => {
                for child in &mut split.children {
                    if let Some(node) = &mut child.node {
                        child.oid = Some(node.seal(trees)?);
                    }
                }
            }
        }
        let before = self.before.take();
        let raw = self.raw();
        let id = hash_object(kind, ObjectKind::Tree, &raw);
        let before = before.as_ref().map(|(oid, raw)| (*oid, &raw[..]));
        trees.store(id, &raw, before)?;
        self.id = Some(id);
        Ok(id)
    }

    /// Bytes of memory that the loaded nodes take, roughly.
    pub(super) fn weight(&self) -> usize {
        let below: usize = match &self.body {
            Body::Leaf(leaf) => {
                leaf.raw.capacity() + leaf.dirs.iter().map(|(_, dir)| dir.weight()).sum::<usize>()
            }
            Body::Split(split) => {
                size_of::<Split>()
                    + split
                        .children
                        .iter()
                        .filter_map(|child| child.node.as_ref())
                        .map(|node| node.weight())
                        .sum::<usize>()
            }
        };
        size_of::<Self>() + below
    }

    /// Forgets what lies below, all of it stored.
    pub(super) fn unload(&mut self) {
        if self.id.is_none() {
            return;
        }
        match &mut self.body {
            Body::Leaf(leaf) => leaf.dirs.clear(),
            Body::Split(split) => {
                for child in &mut split.children {
                    if let Some(node) = child.node.take() {
                        child.count = node.count();
                    }
                }
            }
        }
    }
}

impl Child {
    fn load(&mut self, trees: &impl Trees) -> Result<Option<&mut Node>, HistoryError> {
        if self.node.is_none()
            && let Some(oid) = self.oid
        {
            self.node = Some(Box::new(Node::load(oid, trees)?));
        }
        Ok(self.node.as_deref_mut())
    }

    /// Names below; `None` for more than a leaf may hold.
    fn count(&mut self, trees: &impl Trees) -> Result<Option<usize>, HistoryError> {
        match (&self.node, self.oid, self.count) {
            (Some(node), _, _) => Ok(node.count()),
            (None, None, _) => Ok(Some(0)),
            (None, Some(_), Some(count)) => Ok(Some(count)),
            (None, Some(oid), None) => {
                self.count = Node::load(oid, trees)?.count();
                Ok(self.count)
            }
        }
    }
}

/// The working tree contradicts itself: it was checked when it was loaded.
fn lost(what: &'static str) -> HistoryError {
    HistoryError::Git {
        what: "the working tree has lost",
        reason: what.to_owned(),
    }
}
