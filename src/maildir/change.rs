//! Changes of the live tree: what a braid asks of it, in order.

use super::{Attrs, EntryKind, MailboxFacts, Oid, TreePath};

/// One change of the live tree that the store asks for after a braid. Applied in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A file appears or replaces what is at `path`.
    Put {
        /// Where.
        path: TreePath,
        /// Its blob.
        oid: Oid,
        /// Its attributes.
        attrs: Attrs,
    },
    /// A file or directory is renamed; the inode stays, and a file at the new path is replaced. What it is afterwards is said too: where the old path is not loaded, the new one
    /// appears as that.
    Rename {
        /// Old path.
        from: TreePath,
        /// New path.
        to: TreePath,
        /// Its blob or tree afterwards.
        oid: Oid,
        /// Directory or file, with its attributes afterwards.
        kind: EntryKind,
    },
    /// A file disappears.
    Remove {
        /// Which.
        path: TreePath,
    },
    /// A directory appears, with all that its tree holds.
    Mkdir {
        /// Where.
        path: TreePath,
        /// Its tree.
        tree: Oid,
    },
    /// A directory and all below it disappear.
    RemoveDir {
        /// Which.
        path: TreePath,
    },
    /// A file's attributes (UID, mtime, extension fields) are replaced.
    SetAttrs {
        /// Which.
        path: TreePath,
        /// The new attributes.
        attrs: Attrs,
    },
    /// A directory has another tree. For one that is loaded the other changes say all; one that is not is known by its tree alone.
    Retree {
        /// Which.
        path: TreePath,
        /// Its tree after all changes.
        tree: Oid,
    },
    /// A folder's facts are replaced.
    SetMailbox {
        /// The folder.
        folder: TreePath,
        /// The new facts.
        facts: MailboxFacts,
    },
}
