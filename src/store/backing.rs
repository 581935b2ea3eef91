//! The seam between the filesystem and the store: what the live tree needs from below ([`Backing`]), and what the store
//! tells the live tree ([`LiveView`]). Tests put an in-memory backing under the filesystem.

use std::io;
use std::path::Path;

use crate::maildir::{Entry, HashKind, MailboxFacts, Oid, Op};

pub use crate::maildir::Change;

/// What is to be done once a record is durable, or never will be.
pub type WhenDurable = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What the live tree needs of the store. Methods may be called from any thread; those that touch the disk say so.
pub trait Backing: Send + Sync {
    /// The repository's hash function.
    fn kind(&self) -> HashKind;

    /// The id of a blob with this content. No I/O.
    fn hash(&self, content: &[u8]) -> Oid;

    /// The root tree the mount starts from; `None` for an empty store.
    fn root(&self) -> Option<Oid>;

    /// Lists a committed directory. Reads the repository.
    ///
    /// # Errors
    /// `EIO` where an object is missing or damaged.
    fn load_dir(&self, tree: Oid) -> io::Result<Vec<Entry>>;

    /// The facts of a committed folder; `None` where the folder has none. Reads the repository.
    ///
    /// # Errors
    /// `EIO` where an object is missing or damaged.
    fn load_mailbox(&self, tree: Oid) -> io::Result<Option<MailboxFacts>>;

    /// The content of a committed blob. Reads the repository.
    ///
    /// # Errors
    /// `EIO` where the object is missing or damaged.
    fn read_blob(&self, oid: Oid) -> io::Result<Vec<u8>>;

    /// The inline content that record `seq` brought, while the journal still holds it.
    ///
    /// # Errors
    /// `ENOENT` once the record is recycled: the content is then a blob, and [`LiveView::committed`] has said so before.
    fn read_pending(&self, seq: u64) -> io::Result<Vec<u8>>;

    /// Waits, for a bounded time, until the journal has room for content: where deliveries come faster than they are committed, they are
    /// slowed down rather than refused. Called without any lock.
    fn wait_room(&self) {}

    /// Bytes of content that were taken and are not committed yet: their commits need about as much of the disk.
    fn backlog(&self) -> u64 {
        0
    }

    /// Appends an operation to the journal and returns its sequence number. Called with the namespace locked, so the order of records
    /// is the order of changes. Returns before it is durable.
    ///
    /// # Errors
    /// `ENOSPC` where the journal cannot take it, `EIO` where the store is poisoned; nothing was recorded then.
    fn append(&self, op: &Op) -> io::Result<u64>;

    /// Waits until record `seq` and all before it are durable. Called without any lock.
    ///
    /// # Errors
    /// `EIO` where the sync failed: the store is poisoned from then on.
    fn wait_durable(&self, seq: u64) -> io::Result<()>;

    /// Has `then` called, on whatever thread, once [`Backing::wait_durable`] would return, with what it would return: a thread that serves
    /// the mount need not wait itself. Called without any lock; `then` must not wait for anything.
    fn when_durable(&self, seq: u64, then: WhenDurable) {
        then(self.wait_durable(seq));
    }

    /// The directory for server-local files: `local/tree`, which mirrors the paths of the mount.
    fn local_tree(&self) -> &Path;

    /// The directory for spilled content: `local/spill`. Content of a [`crate::maildir::Content::Spilled`] record is the file named
    /// by the blob's hexadecimal id, synced (file and directory) before the record is appended. The store removes it once
    /// the blob is durable in the repository.
    fn spill_dir(&self) -> &Path;
}

/// What the store tells the live tree.
pub trait LiveView: Send + Sync {
    /// All records up to and including `seq` are durable in the repository: content that was pending is a blob now, and spilled
    /// files may go as soon as this returns.
    fn committed(&self, seq: u64);

    /// Switches to a braid, as [`Switch`] says, under the namespace lock. Kernel caches are invalidated, from a thread of their own, before it counts as seen.
    ///
    /// # Errors
    /// What [`Switch`] says; nothing was done then.
    fn braided(&self, switch: &mut dyn Switch) -> io::Result<Switched>;
}

/// A braid that is ready to be shown. All is called under the namespace lock, so no operation comes in between; none of it may call the live tree.
pub trait Switch {
    /// The changes that lead from the live tree to the braid; `None` where operations have come that it does not have.
    ///
    /// # Errors
    /// Where it cannot be made.
    fn changes(&mut self) -> io::Result<Option<Vec<Change>>>;

    /// Whether a folder that a server holds is to be left alone.
    fn heeds_locks(&self) -> bool;

    /// Makes the braid the head, durably. The changes are applied if it succeeds.
    ///
    /// # Errors
    /// Where the disk failed.
    fn commit(&mut self) -> io::Result<()>;
}

/// What became of a switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switched {
    /// The live tree shows the braid.
    Done,
    /// Operations came in between.
    Overtaken,
    /// A server holds a folder that the braid changes.
    Held,
}
