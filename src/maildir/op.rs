//! Operations: what changes the committed tree, one journal record each.
//!
//! A UID that [`Op::Put`] or [`Op::SetAttrs`] gives to a message raises UIDNEXT of its folder above it, in the same commit: whoever applies the
//! operation does so, and no record has to say it.

use super::{Attrs, MailboxFacts, Oid, TreePath};

/// Where the bytes of a new file are. The object id is known before the record is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// The bytes stand in the record.
    Inline(Vec<u8>),
    /// The bytes are in the store's `local/spill/<hex id>`, synced before the record.
    Spilled,
    /// The object is in the repository, or an earlier record brings it.
    Existing,
}

/// One change of the committed tree. Paths are those before the operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// A file appears at `path` (delivery, COPY, a new version of an "other" file), replacing what was there.
    Put {
        /// Where.
        path: TreePath,
        /// The blob.
        oid: Oid,
        /// Where the blob's bytes are until it is committed.
        content: Content,
        /// Size, mtime, UID and what else belongs to the entry.
        attrs: Attrs,
    },
    /// A file or directory is renamed; a file or an empty directory at `to` is replaced. A message keeps its UID and fields only within its folder:
    /// in another one it is a new message.
    Rename {
        /// Old path.
        from: TreePath,
        /// New path.
        to: TreePath,
    },
    /// A file disappears.
    Remove {
        /// Which.
        path: TreePath,
    },
    /// A directory appears.
    Mkdir {
        /// Where.
        path: TreePath,
    },
    /// A directory appears that is going to be a folder, with its facts: nobody sees it without.
    MkFolder {
        /// Where.
        path: TreePath,
        /// What it knows of itself.
        facts: MailboxFacts,
    },
    /// An empty directory disappears.
    Rmdir {
        /// Which.
        path: TreePath,
    },
    /// The attributes of a file are replaced whole (utime, UID given).
    SetAttrs {
        /// Which file.
        path: TreePath,
        /// The new attributes.
        attrs: Attrs,
    },
    /// The facts of a folder are replaced whole.
    SetMailbox {
        /// The folder: the directory that holds `cur` and `new`.
        folder: TreePath,
        /// The new facts.
        facts: MailboxFacts,
    },
}
