//! The one writer: operations in, commits out.
//!
//! ```text
//! apply…  edit the working tree, put blobs into the pending pack
//! commit  store the changed tree nodes and a commit object there
//! flush   pack, index, refs/heads/mail: durable when it returns
//! ```
//!
//! An operation is checked before it changes anything: one that does not fit the tree is [`HistoryError::Damage`], and the tree is as before. An
//! error in the middle of a change (an object that cannot be read) gives the working tree up: every call fails until
//! [`Writer::reset_to`]. A failed [`Writer::flush`] loses nothing and may be repeated.

mod weave;

use super::facts::{self, Facts};
use super::hash::{ObjectKind, hash_object};
use super::pack::install;
use super::pending::Pending;
use super::refs::HEAD_REF;
use super::tree::Key;
use super::trie::{Found, Node, Value};
use super::{HistoryError, Repo, incoming};
use crate::limits;
use crate::maildir::{Attrs, Content, HashKind, MailboxFacts, Oid, Op, TreePath, hidden, name};

pub use weave::{RawNode, RawPlace, Weaver};

/// What a commit says besides its tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitText {
    /// The node: author and committer are `mailbraid <NODE>`.
    pub node: String,
    /// Seconds since the epoch; written as UTC.
    pub time: i64,
    /// Subject, body, trailers.
    pub message: Vec<u8>,
    /// Parents after the first, which is the commit before.
    pub extra_parents: Vec<Oid>,
}

/// Edits the tree and writes commits. Owned by one thread, under the store's lock.
pub struct Writer {
    repo: Repo,
    kind: HashKind,
    pending: Pending,
    root: Node,
    facts: Facts,
    /// `refs/heads/mail` as we left it.
    head: Option<Oid>,
    /// The last commit, flushed or not.
    tip: Option<Oid>,
    given_up: bool,
}

impl Writer {
    /// Starts from a commit (`None`: an empty history). The daemon's lock on the store must be held: what a killed writer left
    /// behind is cleared away.
    ///
    /// # Errors
    /// Where the commit or its root tree cannot be read; I/O errors.
    pub fn new(repo: &Repo, head: Option<Oid>) -> Result<Self, HistoryError> {
        Self::with_leaf_max(repo, head, limits::TRIE_LEAF_MAX)
    }

    pub(super) fn with_leaf_max(
        repo: &Repo,
        head: Option<Oid>,
        leaf_max: usize,
    ) -> Result<Self, HistoryError> {
        repo.clear_stale_locks()?;
        incoming::sweep(repo);
        let mut pending = Pending::new(repo, leaf_max);
        pending.adopt(install::leftovers(&repo.pack_dir())?);
        let mut writer = Self {
            repo: repo.clone(),
            kind: repo.kind(),
            pending,
            root: Node::empty(),
            facts: Facts::default(),
            head: repo.head()?,
            tip: None,
            given_up: false,
        };
        writer.reset_to(head)?;
        Ok(writer)
    }

    /// The last commit, flushed or not; `None` for an empty history.
    #[must_use]
    pub fn tip(&self) -> Option<Oid> {
        self.tip
    }

    /// Compressed bytes that wait for [`Writer::flush`].
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// Applies one operation. `content` is the blob's bytes for a `Put` whose content is not `Existing`.
    ///
    /// # Errors
    /// [`HistoryError::Damage`] where it does not fit the tree (nothing is changed then), [`HistoryError::Corrupt`] where the content has another
    /// id, and errors of reading objects.
    pub fn apply(&mut self, op: &Op, content: Option<&[u8]>) -> Result<(), HistoryError> {
        self.check()?;
        match op {
            Op::Put {
                path,
                oid,
                content: source,
                attrs,
            } => {
                let key = Key::new(path.name());
                let there = self.find(path, &key)?;
                if there.as_ref().is_some_and(|found| found.dir) {
                    return Err(damage(path, "a directory is in the way"));
                }
                match (source, content) {
                    (Content::Existing, _) => {
                        if !self.pending.surely_has(*oid) {
                            return Err(damage(path, "its blob is not in the repository"));
                        }
                    }
                    (Content::Inline(bytes), None) => self.pending.add_blob(*oid, bytes)?,
                    (_, Some(bytes)) => self.pending.add_blob(*oid, bytes)?,
                    (Content::Spilled, None) => {
                        return Err(damage(path, "its content was not handed over"));
                    }
                }
                self.put(path, &key, *oid, attrs, there.is_some())
            }
            Op::Rename { from, to } => self.rename(from, to),
            Op::Remove { path } => self.remove(path, false),
            Op::Mkdir { path } => self.mkdir(path),
            Op::MkFolder { path, facts } => {
                self.mkdir(path)?;
                self.set_mailbox(path, facts)
            }
            Op::Rmdir { path } => self.remove(path, true),
            Op::SetAttrs { path, attrs } => self.set_attrs(path, attrs),
            Op::SetMailbox { folder, facts } => self.set_mailbox(folder, facts),
        }
    }

    /// Stores what changed and a commit on top of the last one. Not durable before [`Writer::flush`].
    ///
    /// # Errors
    /// Errors of reading objects.
    pub fn commit(&mut self, text: &CommitText) -> Result<Oid, HistoryError> {
        let tree = self.write_tree()?;
        let parents: Vec<Oid> = self
            .tip
            .into_iter()
            .chain(text.extra_parents.iter().copied())
            .collect();
        let oid = self.write_commit(tree, &parents, text);
        self.tip = Some(oid);
        if self.pending.bytes() > limits::PENDING_BYTES {
            self.pending.install()?;
        }
        Ok(oid)
    }

    /// Writes one pack with all that waits, then sets `refs/heads/mail` to the last commit. Durable when it returns.
    ///
    /// # Errors
    /// I/O errors ([`HistoryError::is_disk_full`] among them): nothing is lost, and it may be called again.
    /// [`HistoryError::RefMoved`] where somebody else has set the head.
    pub fn flush(&mut self) -> Result<Option<Oid>, HistoryError> {
        self.check()?;
        self.pending.install()?;
        if let Some(tip) = self.tip
            && self.head != self.tip
        {
            self.repo.update_ref(HEAD_REF, tip, self.head)?;
            self.head = self.tip;
        }
        self.pending.release()?;
        if self.root.weight() > limits::TRIE_CACHE_BYTES {
            self.root.unload();
        }
        Ok(self.head)
    }

    /// Continues from a commit of the repository after a failure, and forgets all that was not flushed: where the disk is full, the next try may be a smaller one.
    ///
    /// # Errors
    /// Where the commit or its root tree cannot be read.
    pub fn abandon_for(&mut self, head: Option<Oid>) -> Result<(), HistoryError> {
        self.pending.abandon();
        self.reset_to(head)
    }

    /// Continues from another commit: after a braid, or where the head was set from outside. Operations not yet committed are dropped;
    /// commits not yet flushed stay in the pending pack. A failure gives the working tree up.
    ///
    /// # Errors
    /// Where the commit or its root tree cannot be read.
    pub fn reset_to(&mut self, head: Option<Oid>) -> Result<(), HistoryError> {
        self.facts.clear();
        // Until it is loaded the tree is neither the old one nor this.
        self.given_up = true;
        self.root = match head {
            None => Node::empty(),
            Some(oid) => {
                let tree = match self.pending.pending_commit_tree(oid) {
                    Some(tree) => tree,
                    None => self.pending.reader().commit(oid)?.tree,
                };
                Node::load(tree, &self.pending)?
            }
        };
        self.tip = head;
        self.head = self.repo.head()?;
        self.given_up = false;
        Ok(())
    }

    /// Adds a blob unless it exists; returns its id. For the braid (facts of folders, merged files).
    pub fn write_blob(&mut self, content: &[u8]) -> Oid {
        facts::add_blob(&mut self.pending, content)
    }

    /// Stores what changed in the working tree and returns its root.
    ///
    /// # Errors
    /// Errors of reading objects.
    pub fn write_tree(&mut self) -> Result<Oid, HistoryError> {
        self.check()?;
        self.write_facts()?;
        let sealed = self.root.seal(&mut self.pending);
        self.guard(sealed)
    }

    /// Adds a commit object with the given parents; the tip stays. For the braid, whose commits are the same wherever they are made.
    pub fn write_commit(&mut self, tree: Oid, parents: &[Oid], text: &CommitText) -> Oid {
        let raw = encode_commit(tree, parents, text);
        let oid = hash_object(self.kind, ObjectKind::Commit, &raw);
        self.pending.add(oid, ObjectKind::Commit, &raw);
        oid
    }

    fn check(&self) -> Result<(), HistoryError> {
        if self.given_up {
            Err(HistoryError::GivenUp)
        } else {
            Ok(())
        }
    }

    /// Facts that operations changed go into the working tree.
    fn write_facts(&mut self) -> Result<(), HistoryError> {
        let written = self.facts.write(&mut self.root, &mut self.pending);
        self.guard(written)
    }

    /// After a change has begun, an error leaves the working tree in between.
    fn guard<T>(&mut self, result: Result<T, HistoryError>) -> Result<T, HistoryError> {
        self.given_up |= result.is_err();
        result
    }

    /// The directory at `path`, loaded.
    fn dir(&mut self, path: &TreePath, touch: bool) -> Result<&mut Node, HistoryError> {
        let mut node = &mut self.root;
        for part in path.components() {
            node = node
                .subdir(&self.pending, &Key::new(part), touch)?
                .ok_or_else(|| damage(path, "there is no such directory"))?;
        }
        Ok(node)
    }

    // Of the following, `key` is the path's last part.

    fn find(&mut self, path: &TreePath, key: &Key) -> Result<Option<Found>, HistoryError> {
        parent(&mut self.root, &self.pending, path, false)?.find(&self.pending, key)
    }

    fn insert(
        &mut self,
        path: &TreePath,
        key: &Key,
        hidden: Vec<u8>,
        value: Value,
    ) -> Result<(), HistoryError> {
        let node = parent(&mut self.root, &self.pending, path, true)?;
        node.insert(&self.pending, key, hidden, value)
    }

    fn take(&mut self, path: &TreePath, key: &Key) -> Result<Option<(Found, Value)>, HistoryError> {
        parent(&mut self.root, &self.pending, path, true)?.remove(&self.pending, key)
    }

    /// Replaces a file's entry in place. The new name has the old one's identity, so leaf and shape stay.
    fn replace(
        &mut self,
        path: &TreePath,
        key: &Key,
        hidden: Vec<u8>,
        oid: Oid,
    ) -> Result<(), HistoryError> {
        let node = parent(&mut self.root, &self.pending, path, true)?;
        node.replace(&self.pending, key, hidden, oid)?;
        Ok(())
    }

    fn put(
        &mut self,
        path: &TreePath,
        key: &Key,
        oid: Oid,
        attrs: &Attrs,
        there: bool,
    ) -> Result<(), HistoryError> {
        let hidden = hidden::encode(path.name(), attrs);
        let done = if there {
            self.replace(path, key, hidden, oid)
        } else {
            self.insert(path, key, hidden, Value::File(oid))
        };
        self.guard(done)?;
        if let (Some(uid), Some(folder)) = (attrs.uid, path.folder()) {
            let raised = self
                .facts
                .raise_uid_next(&mut self.root, &self.pending, &folder, uid);
            self.guard(raised)?;
        }
        Ok(())
    }

    fn rename(&mut self, from: &TreePath, to: &TreePath) -> Result<(), HistoryError> {
        let key = Key::new(from.name());
        let source = self
            .find(from, &key)?
            .ok_or_else(|| damage(from, "there is nothing to rename"))?;
        if from == to {
            return Ok(());
        }
        let is_one = name::identity(from.name()) == name::identity(to.name());
        let to_key = if is_one {
            key.renamed(to.name())
        } else {
            Key::new(to.name())
        };
        let target = self.find(to, &to_key)?;
        if source.dir {
            if to.is_within(from) {
                return Err(damage(from, "a directory cannot be renamed into itself"));
            }
            if let Some(target) = &target {
                if !target.dir {
                    return Err(damage(to, "a file is in the way of a directory"));
                }
                if !self.dir(to, false)?.is_empty() {
                    return Err(damage(to, "the directory to be replaced is not empty"));
                }
            }
            let done = self.move_dir((from, &key), (to, &to_key));
            return self.guard(done);
        }
        if target.as_ref().is_some_and(|target| target.dir) {
            return Err(damage(to, "a directory is in the way of a file"));
        }
        let (_, mut attrs) = hidden::decode(&source.hidden)
            .map_err(|bad| HistoryError::corrupt(source.oid, bad.to_string()))?;
        let (is_beside, folder) = (from.is_beside(to), from.folder());
        if folder.is_none() || (!is_beside && folder != to.folder()) {
            (attrs.uid, attrs.ext) = Default::default();
        }
        let hidden = hidden::encode(to.name(), &attrs);
        let done = if is_one && is_beside && target.is_none() {
            self.replace(from, &key, hidden, source.oid)
        } else {
            let value = (hidden, source.oid);
            self.move_file((from, &key), (to, &to_key), target.is_some(), value)
        };
        self.guard(done)
    }

    fn move_dir(
        &mut self,
        (from, from_key): (&TreePath, &Key),
        (to, to_key): (&TreePath, &Key),
    ) -> Result<(), HistoryError> {
        self.write_facts()?;
        self.facts.clear();
        self.take(to, to_key)?;
        if let Some((_, value)) = self.take(from, from_key)? {
            self.insert(to, to_key, hidden::encode_plain(to.name()), value)?;
        }
        Ok(())
    }

    fn move_file(
        &mut self,
        (from, from_key): (&TreePath, &Key),
        (to, to_key): (&TreePath, &Key),
        replaces: bool,
        (hidden, oid): (Vec<u8>, Oid),
    ) -> Result<(), HistoryError> {
        self.take(from, from_key)?;
        if replaces {
            self.take(to, to_key)?;
        }
        self.insert(to, to_key, hidden, Value::File(oid))
    }

    fn remove(&mut self, path: &TreePath, dir: bool) -> Result<(), HistoryError> {
        let key = Key::new(path.name());
        let found = self
            .find(path, &key)?
            .ok_or_else(|| damage(path, "there is nothing to remove"))?;
        if found.dir != dir {
            return Err(damage(
                path,
                if dir {
                    "it is a file"
                } else {
                    "it is a directory"
                },
            ));
        }
        if dir && !self.dir(path, false)?.is_empty() {
            return Err(damage(path, "the directory is not empty"));
        }
        if dir {
            self.write_facts()?;
            self.facts.clear();
        }
        let done = self.take(path, &key).map(|_| ());
        self.guard(done)
    }

    fn mkdir(&mut self, path: &TreePath) -> Result<(), HistoryError> {
        let key = Key::new(path.name());
        if self.find(path, &key)?.is_some() {
            return Err(damage(path, "it exists already"));
        }
        let hidden = hidden::encode_plain(path.name());
        let done = self.insert(path, &key, hidden, Value::Node(Box::new(Node::empty())));
        self.guard(done)
    }

    fn set_attrs(&mut self, path: &TreePath, attrs: &Attrs) -> Result<(), HistoryError> {
        let key = Key::new(path.name());
        let found = self
            .find(path, &key)?
            .ok_or_else(|| damage(path, "there is no such file"))?;
        if found.dir {
            return Err(damage(path, "it is a directory"));
        }
        self.put(path, &key, found.oid, attrs, true)
    }

    fn set_mailbox(&mut self, folder: &TreePath, facts: &MailboxFacts) -> Result<(), HistoryError> {
        self.dir(folder, false)?;
        self.facts.set(folder, facts);
        Ok(())
    }
}

/// The directory that holds `path`, loaded; with `touch`, all on the way is about to change.
fn parent<'a>(
    root: &'a mut Node,
    pending: &Pending,
    path: &TreePath,
    touch: bool,
) -> Result<&'a mut Node, HistoryError> {
    let mut node = root;
    let mut parts = path.components();
    if parts.next_back().is_none() {
        return Err(damage(path, "it is the root"));
    }
    for part in parts {
        node = node
            .subdir(pending, &Key::new(part), touch)?
            .ok_or_else(|| damage(path, "its parent directory is missing"))?;
    }
    Ok(node)
}

fn damage(path: &TreePath, reason: &'static str) -> HistoryError {
    HistoryError::Damage {
        path: path.clone(),
        reason,
    }
}

/// The commit object. What git forbids in an identity line is left out of the node's name, and NUL of the message.
pub(super) fn encode_commit(tree: Oid, parents: &[Oid], text: &CommitText) -> Vec<u8> {
    let node: String = text
        .node
        .chars()
        .filter(|char| !char.is_control() && !"<>".contains(*char))
        .collect();
    let mut raw = format!("tree {tree}\n").into_bytes();
    for parent in parents {
        raw.extend_from_slice(format!("parent {parent}\n").as_bytes());
    }
    let time = text.time.max(0);
    for role in ["author", "committer"] {
        raw.extend_from_slice(format!("{role} mailbraid <{node}> {time} +0000\n").as_bytes());
    }
    raw.push(b'\n');
    raw.extend(text.message.iter().filter(|byte| **byte != 0));
    if !raw.ends_with(b"\n") {
        raw.push(b'\n');
    }
    raw
}
