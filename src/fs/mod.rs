//! The live tree: inodes, names, listings, server-local files. Plain methods, no FUSE types.
//!
//! Rules:
//! - One lock guards the namespace. A change of the committed tree is checked, appended to the journal and applied under it, in this order,
//!   so the order of records is the order of changes, and a record that cannot be taken changes nothing.
//! - Durability is waited for after the lock is let go: many waiters share one sync.
//! - A directory is loaded by its tree id when something below it is first asked for, so a mount costs nothing. Its messages rest (`resting`) until
//!   somebody asks for one.
//! - State is kept per inode, never per open file: the mount answers `open` with "not needed".
//! - A file written outside `tmp/` gets its name into the journal at once (empty, as `open(2)` with `O_CREAT` shows it) and its content when it is
//!   synced, closed by its creator, renamed or linked, or at rest for [`crate::limits::WRITE_REST`].

mod braided;
mod content;
mod crossing;
mod error;
mod listings;
mod live;
mod local;
mod node;
mod ops;
mod rename;
mod resting;
mod room;
mod space;
mod understood;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use log::warn;
use parking_lot::Mutex;

pub use crate::config::Durability;
pub use error::FsError;
pub use listings::DirEntry;
pub use node::{Ino, Kind, Name, ROOT, Stat, Time};
pub use ops::{RenameFlags, SetAttr, StatFs};
pub use understood::asks_each_time;

use crate::maildir::class::{PathClass, classify, place};
use crate::maildir::{Attrs, Op, TreePath};
use crate::store::{Backing, EntryKind};
use listings::Recent;
use local::LocalTree;
use node::{Body, Content, Listing, Marks, Node};
use resting::Names;
use room::{BlobCache, Room};
use space::Space;

/// How the tree presents itself.
#[derive(Clone, Copy, Debug)]
pub struct FsOptions {
    /// Owner of everything.
    pub uid: u32,
    /// Group of everything.
    pub gid: u32,
    /// Permission bits that nothing has.
    pub umask: u32,
    /// Refuse every change.
    pub read_only: bool,
    /// What waits for the disk.
    pub durability: Durability,
    /// Whether a message gets its UID where it lands, and a folder is made with the numbers for its first server (`mailbraid.assignUids`).
    pub assign_uids: bool,
}

/// The record that an operation's answer waits for, if it waits for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "an operation is acknowledged only once this was waited for"]
pub struct Pending(Option<u64>);

/// Tells the kernel that what it remembers is no longer so. Called from a thread of its own, and under no lock but where it is said.
pub trait Invalidator: Send + Sync {
    /// A name stands for something else, or for nothing.
    fn entry(&self, parent: Ino, name: &[u8]);
    /// Attributes or content of an inode changed. Of a directory this is also told under the namespace lock, and must not wait for a request.
    fn inode(&self, ino: Ino);
    /// Something has changed in a directory of messages, and the kernel has been told: now whoever watches the directory is to be told, by making and
    /// removing this file in it through the mount, for no invalidation raises an inotify event. `path` is relative to the mount point.
    fn watched(&self, path: &[u8]) {
        let _ = path;
    }
}

/// The live tree.
pub struct Fs {
    backing: Arc<dyn Backing>,
    options: FsOptions,
    local: LocalTree,
    /// The namespace lock. The journal's own locks are taken under it, no other.
    space: Mutex<Space>,
    recent: Recent,
    blobs: Mutex<BlobCache>,
    room: Room,
    scratch_files: AtomicU64,
    invalidator: std::sync::OnceLock<crossbeam_channel::Sender<live::Stale>>,
    kernel: std::sync::OnceLock<Arc<dyn Invalidator>>,
}

impl Fs {
    /// The tree that `backing` starts from.
    ///
    /// # Errors
    /// Where the root cannot be read.
    pub fn new(backing: Arc<dyn Backing>, options: FsOptions) -> Result<Arc<Self>, FsError> {
        let root = match backing.root() {
            Some(tree) => Listing::Unloaded(tree),
            None => Listing::Loaded(Names::default()),
        };
        let fs = Arc::new(Self {
            local: LocalTree::new(backing.local_tree()),
            backing,
            options,
            space: Mutex::new(Space::new(root, node::now())),
            recent: Recent::default(),
            blobs: Mutex::new(BlobCache::default()),
            room: Room::default(),
            scratch_files: AtomicU64::new(0),
            invalidator: std::sync::OnceLock::new(),
            kernel: std::sync::OnceLock::new(),
        });
        if fs.backing.root().is_none() {
            let mut space = fs.space.lock();
            fs.add_local(&mut space, ROOT, &TreePath::root())?;
        }
        fs.ensure_loaded(ROOT)?;
        Ok(fs)
    }

    fn writable(&self) -> Result<(), FsError> {
        if self.options.read_only {
            return Err(FsError::ReadOnly);
        }
        Ok(())
    }

    /// Loads a directory that is known by its tree id alone. The repository is read without the lock; whoever comes first installs the entries.
    fn ensure_loaded(&self, ino: Ino) -> Result<(), FsError> {
        loop {
            let (tree, holds_messages) = {
                let space = self.space.lock();
                let dir = space.dir(ino)?;
                match &dir.listing {
                    Listing::Loaded(_) => return Ok(()),
                    Listing::Unloaded(tree) => (*tree, matches!(&*dir.name, b"cur" | b"new")),
                }
            };
            let entries = self.backing.load_dir(tree)?;
            let facts = if holds_messages {
                None
            } else {
                self.backing.load_mailbox(tree)?
            };
            let order = by_delivery(&entries);
            let sorted = || order.iter().map(|at| &entries[*at]);
            let mut space = self.space.lock();
            match &mut space.dir_mut(ino)?.listing {
                listing @ Listing::Unloaded(_) => {
                    if !matches!(listing, Listing::Unloaded(still) if *still == tree) {
                        continue;
                    }
                    *listing = Listing::Loaded(Names::default());
                }
                Listing::Loaded(_) => return Ok(()),
            }
            let (mtime, ctime) = {
                let node = space.node(ino)?;
                (node.mtime, node.ctime)
            };
            if holds_messages {
                let messages = sorted().filter_map(|entry| match &entry.kind {
                    EntryKind::File(attrs) => Some((&*entry.name, entry.oid, attrs)),
                    EntryKind::Dir => None,
                });
                let first = space.rest(ino, messages.clone())?;
                for ((name, _, attrs), child) in messages.zip(first..) {
                    if attrs.ext.is_empty() {
                        continue;
                    }
                    if attrs.ext.contains_key(&crate::maildir::hidden::KEYWORDS) {
                        let folder = space.dir(ino)?.parent;
                        space.mailbox_mut(folder)?.letters.insert(child);
                    }
                    space.set_marks(child, ino, name, Marks::of(attrs));
                }
            }
            for entry in sorted() {
                let (child, times) = match &entry.kind {
                    EntryKind::Dir => {
                        let listing = Listing::Unloaded(entry.oid);
                        let node = Node::dir(ino, Name::from(&b""[..]), listing, mtime);
                        (space.add(node), (mtime, mtime))
                    }
                    EntryKind::File(_) if holds_messages => continue,
                    EntryKind::File(attrs) => {
                        let times = ((attrs.mtime, 0), (attrs.mtime, 0));
                        let node = Node::file(Content::Blob, Some(entry.oid), attrs.size, times.0);
                        (space.add(node), times)
                    }
                };
                space.attach(ino, &entry.name, child, ctime)?;
                if let EntryKind::File(attrs) = &entry.kind {
                    space.set_marks(child, ino, &entry.name, Marks::of(attrs));
                }
                let node = space.node_mut(child)?;
                (node.mtime, node.ctime) = times;
            }
            if let Some(facts) = facts {
                space.mailbox_mut(ino)?.facts = facts;
            }
            let path = space.path(ino)?;
            self.add_local(&mut space, ino, &path)?;
            let node = space.node_mut(ino)?;
            (node.mtime, node.ctime) = (mtime, ctime);
            return Ok(());
        }
    }

    /// Adds a directory's server-local files to its loaded entries.
    fn add_local(&self, space: &mut Space, ino: Ino, path: &TreePath) -> Result<(), FsError> {
        let place = place(path);
        for found in self.local.list(path)? {
            let class = if found.is_dir {
                place.dir(&found.name)
            } else {
                place.file(&found.name)
            };
            if !is_local(class) || space.child(ino, &found.name)?.is_some() {
                continue;
            }
            let node = if found.is_dir {
                let entries = Listing::Loaded(Names::default());
                Node::dir(ino, Name::from(&b""[..]), entries, found.mtime)
            } else {
                Node::file(Content::Local(None), None, found.size, found.mtime)
            };
            let child = space.add(node);
            space.attach(ino, &found.name, child, found.mtime)?;
            for other in &found.others {
                if is_local(place.file(other)) && space.child(ino, other)?.is_none() {
                    space.attach(ino, other, child, found.mtime)?;
                }
            }
            if found.is_dir {
                self.add_local(space, child, &path.join(&found.name))?;
            }
        }
        Ok(())
    }

    /// The inode's attributes.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn getattr(&self, ino: Ino) -> Result<Stat, FsError> {
        self.stat(ino)
    }

    fn stat(&self, ino: Ino) -> Result<Stat, FsError> {
        self.stat_of(&self.space.lock(), ino)
    }

    fn stat_of(&self, space: &Space, ino: Ino) -> Result<Stat, FsError> {
        let node = space.node(ino)?;
        let (mut ask, mut is_held) = (false, false);
        let (kind, size, nlink, bits) = match &node.body {
            Body::File(file) => {
                let name = file.names.first().map_or(&b""[..], |link| &link.name);
                ask = matches!(file.content, Content::Local(_)) && asks_each_time(name)
                    || understood::is_written_for_index(name);
                is_held = ask && Self::is_locked_uidlist(space, file);
                (Kind::File, file.size, file.names.len() as u32, 0o666)
            }
            Body::Dir(dir) => {
                let nlink = if dir.parent == 0 { 0 } else { 2 + dir.subdirs };
                (Kind::Dir, 4096, nlink, 0o777)
            }
        };
        Ok(Stat {
            ino,
            kind,
            size,
            mtime: node.mtime,
            ctime: node.ctime,
            nlink,
            mode: (bits & !self.options.umask) as u16,
            uid: self.options.uid,
            gid: self.options.gid,
            asks_each_time: ask,
            is_held,
        })
    }

    /// Appends to the journal and notes what it touched. Under the lock.
    fn append(&self, space: &mut Space, op: &Op, touched: &[Ino]) -> Result<u64, FsError> {
        let seq = self.backing.append(op)?;
        space.last_seq = seq;
        for &ino in touched {
            if let Ok(node) = space.node_mut(ino) {
                node.last_seq = seq;
            }
        }
        Ok(seq)
    }

    /// What an operation's answer waits for, by the policy.
    fn pending(&self, seq: Option<u64>, delivery: bool) -> Pending {
        let waits = match self.options.durability {
            Durability::Strict => true,
            Durability::Delivery => delivery,
            Durability::Relaxed => false,
        };
        Pending(seq.filter(|_| waits))
    }

    /// Waits for a record as the policy asks. Without the lock.
    fn settle(&self, seq: Option<u64>, delivery: bool) -> Result<(), FsError> {
        self.wait(self.pending(seq, delivery))
    }

    /// Waits until an operation may be answered.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn wait(&self, pending: Pending) -> Result<(), FsError> {
        match pending.0 {
            Some(seq) => Ok(self.backing.wait_durable(seq)?),
            None => Ok(()),
        }
    }

    /// Has `then` called, on whatever thread, once an operation may be answered, with what [`Fs::wait`] would return. `then` must not wait
    /// for anything.
    pub fn when_durable(
        &self,
        pending: Pending,
        then: impl FnOnce(Result<(), FsError>) + Send + 'static,
    ) {
        match pending.0 {
            Some(seq) => self.backing.when_durable(
                seq,
                Box::new(move |outcome| then(outcome.map_err(FsError::Io))),
            ),
            None => then(Ok(())),
        }
    }

    fn has_committed_name(&self, space: &Space, ino: Ino) -> Result<bool, FsError> {
        Ok(self
            .names_of_class(space, ino, |class| class == PathClass::Committed)?
            .next()
            .is_some())
    }

    /// A path of the file in the local tree, if it has one.
    fn local_name(&self, space: &Space, ino: Ino) -> Result<Option<TreePath>, FsError> {
        let found = self.names_of_class(space, ino, is_local)?.next();
        Ok(found.map(|(path, _)| path))
    }

    /// The file's paths of a class, each with the attributes of the message it is there.
    fn names_of_class(
        &self,
        space: &Space,
        ino: Ino,
        wanted: impl Fn(PathClass) -> bool,
    ) -> Result<impl Iterator<Item = (TreePath, Attrs)>, FsError> {
        let mut paths = Vec::new();
        for link in &space.file(ino)?.names {
            let path = space.path(link.parent)?.join(&link.name);
            if wanted(classify(&path)) {
                paths.push((path, attrs_of(space, ino, &link.marks)?));
            }
        }
        Ok(paths.into_iter())
    }

    /// Brings content that no record has into the journal, for each committed name. Returns the last record.
    fn commit_content(&self, ino: Ino) -> Result<Option<u64>, FsError> {
        loop {
            if !self.space.lock().file(ino)?.dirty {
                return Ok(None);
            }
            let sealed = self.seal(ino)?;
            let mut space = self.space.lock();
            if space.file(ino)?.version != sealed.version {
                continue;
            }
            let paths: Vec<_> = self
                .names_of_class(&space, ino, |class| class == PathClass::Committed)?
                .collect();
            // The first record brings the content, the others refer to it.
            let (mut first, mut last) = (None, None);
            let mut how = sealed.content.clone();
            for (path, attrs) in paths {
                let op = Op::Put {
                    path,
                    oid: sealed.oid,
                    content: std::mem::replace(&mut how, crate::maildir::Content::Existing),
                    attrs,
                };
                last = Some(self.append(&mut space, &op, &[ino])?);
                first = first.or(last);
            }
            if let Some(seq) = first {
                let stays_local = self.local_name(&space, ino)?.is_some();
                adopt(&mut space, ino, sealed, seq, stays_local)?;
            }
            space.file_mut(ino)?.dirty = false;
            space.dirty.retain(|other| *other != ino);
            return Ok(last);
        }
    }

    /// Brings all content into the journal that can be.
    fn commit_dirty(&self) {
        let dirty = self.space.lock().dirty.clone();
        self.commit_each(dirty);
    }

    /// Brings all content at rest into the journal: the background flusher's round. `all` takes what is still being written too.
    pub fn commit_rested(&self, all: bool) {
        self.read_rested(all);
        let rested: Vec<Ino> = {
            let mut space = self.space.lock();
            let now = node::now();
            let mut dirty = std::mem::take(&mut space.dirty);
            dirty.retain(|ino| space.file(*ino).is_ok_and(|file| file.dirty));
            space.dirty = dirty;
            space
                .dirty
                .iter()
                .copied()
                .filter(|ino| {
                    all || space.node(*ino).is_ok_and(|node| {
                        now.0 - node.mtime.0 >= crate::limits::WRITE_REST.as_secs() as i64
                    })
                })
                .collect()
        };
        self.commit_each(rested);
    }

    fn commit_each(&self, inodes: Vec<Ino>) {
        for ino in inodes {
            match self.commit_content(ino) {
                Ok(_) | Err(FsError::NotFound) => {}
                Err(error) => warn!("content of inode {ino} waits for the journal: {error}"),
            }
        }
    }
}

/// The entries' places in order of delivery, so that inode numbers, and with them listings of `new`, are.
fn by_delivery(entries: &[crate::store::Entry]) -> Vec<usize> {
    let mut order: Vec<(u32, i64, usize)> = entries
        .iter()
        .enumerate()
        .map(|(at, entry)| {
            let uid = match &entry.kind {
                EntryKind::File(attrs) => attrs.uid,
                EntryKind::Dir => None,
            };
            let time = crate::maildir::name::delivery_time(&entry.name);
            (uid.unwrap_or(u32::MAX), time.unwrap_or(i64::MAX), at)
        })
        .collect();
    order.sort_unstable_by(|a, b| {
        (a.0, a.1, &entries[a.2].name).cmp(&(b.0, b.1, &entries[b.2].name))
    });
    order.into_iter().map(|(.., at)| at).collect()
}

/// Whether files of the class are plain files of this node.
fn is_local(class: PathClass) -> bool {
    matches!(class, PathClass::ServerLocal | PathClass::Understood)
}

/// The attributes a record carries for a file under one of its names.
fn attrs_of(space: &Space, ino: Ino, marks: &Marks) -> Result<Attrs, FsError> {
    let (mtime, size) = space.date_and_size(ino)?;
    Ok(Attrs {
        uid: (marks.uid > 0).then_some(marks.uid),
        mtime,
        size,
        ext: marks.ext.clone(),
    })
}

/// After record `seq` brought sealed content: the inode reads it from there, unless it stays a plain file.
fn adopt(
    space: &mut Space,
    ino: Ino,
    sealed: content::Sealed,
    seq: u64,
    stays_local: bool,
) -> Result<(), FsError> {
    let file = space.file_mut(ino)?;
    file.oid = Some(sealed.oid);
    if sealed.content == crate::maildir::Content::Existing || stays_local {
        return Ok(());
    }
    let then = match sealed.then {
        Some(Content::Spilled(file, _)) => Content::Spilled(file, seq),
        Some(other) => other,
        None => Content::Pending(seq),
    };
    if let Content::Scratch(_, path) = std::mem::replace(&mut file.content, then) {
        let _ = std::fs::remove_file(path);
    }
    space.pending.push_back((seq, ino));
    Ok(())
}
