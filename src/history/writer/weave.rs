//! Trees that may become a braid's: built beside the head, looked at, and only then written.
//!
//! A weaver is a writer of its own, whose pending pack is dropped with it unless it is published. One is made for each try, so what came to
//! nothing leaves nothing behind.

use std::sync::Arc;

use super::super::facts::Facts;
use super::super::hash::ObjectKind;
use super::super::pending::Pending;
use super::super::refs::HEAD_REF;
use super::super::tree;
use super::super::trie::Node;
use super::super::{HistoryError, Repo};
use super::{CommitText, Writer};
use crate::limits;
use crate::maildir::{HashKind, Oid, Op};

/// One tree object: a directory, or one node of the trie that a large directory is.
#[allow(clippy::large_enum_variant)] // Held one at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RawNode {
    /// All names of the directory that lie here.
    Leaf {
        /// The folder's facts file, at the top of its directory.
        mailbox: Option<Oid>,
        /// The tree object.
        raw: Arc<[u8]>,
        /// The entries in it.
        entries: Vec<RawPlace>,
    },
    /// Names are placed by a hexadecimal digit of their identity's hash.
    Split {
        /// The folder's facts file, at the top of its directory.
        mailbox: Option<Oid>,
        /// The node below each digit.
        branches: [Option<Oid>; 16],
    },
}

/// Where an entry is in a tree object: its hidden name, a NUL, and the id of a blob or tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawPlace {
    /// Where the name begins.
    pub start: u32,
    /// Where the id ends.
    pub end: u32,
    /// Length of the name.
    pub name_len: u32,
    /// Whether it is a directory.
    pub dir: bool,
}

/// Builds trees and a commit that are in no repository yet, and reads them together with what is.
pub struct Weaver {
    writer: Writer,
}

impl Weaver {
    /// Beside the store's own writer, which must have nothing pending.
    ///
    /// # Errors
    /// Where the head cannot be read.
    pub fn new(repo: &Repo) -> Result<Self, HistoryError> {
        Ok(Self {
            writer: Writer {
                repo: repo.clone(),
                kind: repo.kind(),
                pending: Pending::new(repo, limits::TRIE_LEAF_MAX).sharing(),
                root: Node::empty(),
                facts: Facts::default(),
                head: repo.head()?,
                tip: None,
                given_up: false,
            },
        })
    }

    /// One tree object.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn node(&self, oid: Oid) -> Result<RawNode, HistoryError> {
        let raw = self.writer.pending.shared(oid)?;
        read_node(self.writer.kind, oid, raw)
    }

    /// Many tree objects, each named once: read and taken apart on all processors where they are many.
    ///
    /// # Errors
    /// As [`Weaver::node`].
    pub fn nodes(&self, oids: &[Oid]) -> Result<Vec<RawNode>, HistoryError> {
        let Writer { pending, kind, .. } = &self.writer;
        pending.shared_all(oids, |oid, raw| read_node(*kind, oid, raw))
    }

    /// Trees and blobs that were read from the repository.
    #[must_use]
    pub fn objects_read(&self) -> usize {
        self.writer.pending.objects_read()
    }

    /// The content of a blob.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn blob(&self, oid: Oid) -> Result<Vec<u8>, HistoryError> {
        self.writer.pending.blob(oid)
    }

    /// Applies operations to a tree (`None`: the empty tree) and returns the canonical tree.
    ///
    /// # Errors
    /// As [`Writer::apply`].
    pub fn build(&mut self, on: Option<Oid>, ops: &[Op]) -> Result<Oid, HistoryError> {
        let writer = &mut self.writer;
        writer.facts.clear();
        writer.root = match on {
            Some(tree) => Node::load(tree, &writer.pending)?,
            None => Node::empty(),
        };
        writer.given_up = false;
        for op in ops {
            writer.apply(op, None)?;
        }
        writer.write_tree()
    }

    /// Makes a commit object.
    pub fn commit(&mut self, tree: Oid, parents: &[Oid], text: &CommitText) -> Oid {
        let raw = super::encode_commit(tree, parents, text);
        let oid = super::hash_object(self.writer.kind, ObjectKind::Commit, &raw);
        self.writer.pending.add(oid, ObjectKind::Commit, &raw);
        oid
    }

    /// Puts what was built into the repository. Durable when it returns, and nothing refers to it.
    ///
    /// # Errors
    /// I/O errors.
    pub fn install(&mut self) -> Result<(), HistoryError> {
        self.writer.pending.install()
    }

    /// Moves the head, durably.
    ///
    /// # Errors
    /// I/O errors; [`HistoryError::RefMoved`] where it is not `from` any more.
    pub fn publish(&mut self, head: Oid, from: Option<Oid>) -> Result<(), HistoryError> {
        self.writer.repo.update_ref(HEAD_REF, head, from)?;
        self.writer.pending.release()
    }

    /// Lets go of what was put into the repository: maintenance may drop it. A pack that cannot be let go of is by the next writer.
    pub fn give_up(mut self) {
        let _ = self.writer.pending.release();
    }
}

fn read_node(kind: HashKind, oid: Oid, raw: Arc<[u8]>) -> Result<RawNode, HistoryError> {
    // About as many as there are: an entry is its mode, a name, and an id.
    let mut entries = Vec::with_capacity(raw.len() / (kind.len() + 40));
    let shape = tree::read(&raw, kind, |entry| {
        // Offsets fit: trees of gigabytes are refused where they come in.
        entries.push(RawPlace {
            start: entry.name_start() as u32,
            end: entry.end as u32,
            name_len: entry.name.len() as u32,
            dir: entry.dir,
        });
    });
    match shape.map_err(|reason| HistoryError::corrupt(oid, reason))? {
        tree::Shape::Split(split) => Ok(RawNode::Split {
            mailbox: split.mailbox,
            branches: split.branches,
        }),
        tree::Shape::Leaf { mailbox } => Ok(RawNode::Leaf {
            mailbox,
            raw,
            entries,
        }),
    }
}
