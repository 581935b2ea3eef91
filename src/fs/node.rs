//! Inodes: what the live tree knows of a file or a directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::resting::Names;
use super::understood::Mailbox;
use crate::maildir::Oid;

/// An inode number. Never reused while mounted: Dovecot tells a new index file by its number.
pub type Ino = u64;

/// The mount point's inode.
pub const ROOT: Ino = 1;

/// A name in a directory, shared between the listing and the inode.
pub type Name = Arc<[u8]>;

/// Seconds since the epoch, and nanoseconds.
pub type Time = (i64, u32);

/// Directory or file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
}

/// What `stat` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Inode number.
    pub ino: Ino,
    /// Directory or file.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Last change of the content; of a message, IMAP's INTERNALDATE.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Names of the file; of a directory, 2 and its subdirectories.
    pub nlink: u32,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What stands here may change without the kernel being told: it is to ask each time.
    pub asks_each_time: bool,
    /// While a server holds the folder's lock nobody else changes it: what was told holds for an instant.
    pub is_held: bool,
}

/// Where a file's bytes are.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Memory(Arc<Vec<u8>>),
    /// In a file of the spill directory that is still written to.
    Scratch(Arc<File>, PathBuf),
    /// In a spilled file named by the blob's id, until the record of this number is committed.
    Spilled(Arc<File>, u64),
    /// In the journal record of this number.
    Pending(u64),
    /// In the repository.
    Blob,
    /// A plain file of this node, opened when needed.
    Local(Option<Arc<File>>),
}

/// What belongs to a message in one folder, not to its bytes: a message copied by `link(2)` has two.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    /// IMAP UID; 0 where none was given.
    pub uid: u32,
    /// Fields of the uidlist.
    pub ext: BTreeMap<u8, Vec<u8>>,
}

impl Marks {
    /// Those that a record or a tree says.
    #[must_use]
    pub fn of(attrs: &crate::maildir::Attrs) -> Self {
        Self {
            uid: attrs.uid.unwrap_or(0),
            ext: attrs.ext.clone(),
        }
    }
}

/// One name of a file.
#[derive(Debug)]
pub struct Link {
    /// The directory.
    pub parent: Ino,
    /// The name there.
    pub name: Name,
    /// What belongs to the message there.
    pub marks: Marks,
}

/// A file.
#[derive(Debug)]
pub struct FileBody {
    /// Its bytes.
    pub content: Content,
    /// Its blob, where the content is not being changed.
    pub oid: Option<Oid>,
    /// Bytes.
    pub size: u64,
    /// Every name it has.
    pub names: Vec<Link>,
    /// Content that a committed name does not have yet.
    pub dirty: bool,
    /// Counts changes of the content, so that work done without the lock can be checked.
    pub version: u32,
    /// The number by which it was first listed in a `new`, and that directory; 0, 0 before.
    pub listed: (Ino, u64),
}

/// What is below a directory.
#[derive(Debug)]
pub enum Listing {
    /// As this tree says; nothing below it was touched yet.
    Unloaded(Oid),
    /// In memory.
    Loaded(Names),
}

/// A directory.
#[derive(Debug)]
pub struct DirBody {
    /// The directory that holds it; itself for the root.
    pub parent: Ino,
    /// Its name there.
    pub name: Name,
    /// Its entries.
    pub listing: Listing,
    /// Subdirectories, for the link count.
    pub subdirs: u32,
    /// What it knows of itself as a folder; `None` where it knows nothing.
    pub mailbox: Option<Box<Mailbox>>,
    /// Counts changes of the entries.
    pub changes: u64,
}

/// File or directory.
#[derive(Debug)]
pub enum Body {
    /// A file.
    File(FileBody),
    /// A directory.
    Dir(DirBody),
}

/// An inode.
#[derive(Debug)]
pub struct Node {
    /// Look-ups that the kernel holds.
    pub lookups: u64,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// The last journal record that touched it; 0 for none.
    pub last_seq: u64,
    /// File or directory.
    pub body: Body,
}

impl Node {
    /// A new file without names.
    #[must_use]
    pub fn file(content: Content, oid: Option<Oid>, size: u64, mtime: Time) -> Self {
        Self {
            lookups: 0,
            mtime,
            ctime: mtime,
            last_seq: 0,
            body: Body::File(FileBody {
                content,
                oid,
                size,
                names: Vec::with_capacity(1),
                dirty: false,
                version: 0,
                listed: (0, 0),
            }),
        }
    }

    /// A new directory.
    #[must_use]
    pub fn dir(parent: Ino, name: Name, listing: Listing, mtime: Time) -> Self {
        Self {
            lookups: 0,
            mtime,
            ctime: mtime,
            last_seq: 0,
            body: Body::Dir(DirBody {
                parent,
                name,
                listing,
                subdirs: 0,
                mailbox: None,
                changes: 0,
            }),
        }
    }

    /// Whether the tree still has a name for it.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        match &self.body {
            Body::File(file) => !file.names.is_empty(),
            Body::Dir(dir) => dir.parent != 0,
        }
    }
}

/// The time now.
#[must_use]
pub fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    (since.as_secs() as i64, since.subsec_nanos())
}

/// Sets what a record or a tree says of a file, [`Marks`] apart.
pub fn set_attrs(node: &mut Node, attrs: &crate::maildir::Attrs) {
    if node.mtime.0 != attrs.mtime {
        node.mtime = (attrs.mtime, 0);
    }
    if let Body::File(file) = &mut node.body {
        file.size = attrs.size;
    }
}
