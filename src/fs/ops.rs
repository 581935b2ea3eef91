//! Operations on one name or one inode.

use std::sync::Arc;

use super::crossing::set_mtime;
use super::node::{Body, Content, Ino, Listing, Marks, Name, Node, Stat, Time};
use super::resting::Names;
use super::space::Space;
use super::{Durability, Fs, FsError, Pending, is_local, node};
use crate::limits;
use crate::maildir::class::{PathClass, WAKE, classify, classify_dir};
use crate::maildir::{self, Attrs, Op};
use crate::turns;

/// `renameat2(2)` flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RenameFlags {
    /// `RENAME_NOREPLACE`.
    pub no_replace: bool,
}

/// What `setattr` is to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetAttr {
    /// New size.
    pub size: Option<u64>,
    /// New mtime.
    pub mtime: Option<Time>,
    /// New permission bits; must be those that hold.
    pub mode: Option<u32>,
    /// New owner; must be the one that holds.
    pub uid: Option<u32>,
    /// New group; must be the one that holds.
    pub gid: Option<u32>,
}

/// What `statfs` shows: the filesystem that holds the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatFs {
    /// Blocks.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Free blocks for ordinary users.
    pub bavail: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Block size.
    pub bsize: u32,
    /// Longest name.
    pub namelen: u32,
}

impl Fs {
    /// Finds a name and counts a kernel look-up.
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::NameTooLong`].
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Stat, FsError> {
        if name == WAKE {
            // Without loading the directory it is to wake watchers of.
            return Err(FsError::NotFound);
        }
        self.ensure_loaded(parent)?;
        self.look_for(parent, name);
        let mut space = self.space.lock();
        let present = Self::present_name(&space, parent, name);
        let name = present.as_deref().unwrap_or(name);
        let ino = space.child(parent, name)?.ok_or(FsError::NotFound)?;
        space.node_mut(ino)?.lookups += 1;
        self.stat_of(&space, ino)
    }

    /// Takes back `count` look-ups.
    pub fn forget(&self, ino: Ino, count: u64) {
        let mut space = self.space.lock();
        if let Ok(node) = space.node_mut(ino) {
            node.lookups = node.lookups.saturating_sub(count);
            let scratch = match &node.body {
                Body::File(file) if node.lookups == 0 && file.names.is_empty() => {
                    match &file.content {
                        Content::Scratch(_, path) => Some(path.clone()),
                        _ => None,
                    }
                }
                _ => None,
            };
            space.reap(ino);
            drop(space);
            if let Some(path) = scratch {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Makes an empty file and counts a kernel look-up.
    ///
    /// # Errors
    /// [`FsError::Exists`] where `exclusive`, else as usual.
    pub fn create(&self, parent: Ino, name: &[u8], exclusive: bool) -> Result<Stat, FsError> {
        self.writable()?;
        if name == WAKE
            && let Some(stat) = self.woken(parent)?
        {
            return Ok(stat);
        }
        self.ensure_loaded(parent)?;
        let mut space = self.space.lock();
        if let Some(ino) = space.child(parent, name)? {
            if exclusive {
                return Err(FsError::Exists);
            }
            if space.is_dir(ino)? {
                return Err(FsError::IsDir);
            }
            space.node_mut(ino)?.lookups += 1;
            return self.stat_of(&space, ino);
        }
        if !Self::may_lock(&space, parent, name) {
            return Err(FsError::Exists);
        }
        let path = space.path(parent)?.join(name);
        let time = node::now();
        let mut seq = None;
        let mut marks = Marks::default();
        let (content, oid) = match classify(&path) {
            PathClass::Scratch => (Content::Memory(Arc::default()), None),
            PathClass::ServerLocal | PathClass::Understood => (
                Content::Local(Some(Arc::new(self.local.create(&path)?))),
                None,
            ),
            PathClass::Committed => {
                let oid = self.backing.hash(b"");
                marks = self.marks_of_arrival(&mut space, parent, &path)?;
                let op = Op::Put {
                    path: path.clone(),
                    oid,
                    content: maildir::Content::Inline(Vec::new()),
                    attrs: Attrs {
                        uid: (marks.uid > 0).then_some(marks.uid),
                        mtime: time.0,
                        ..Attrs::default()
                    },
                };
                seq = Some(self.append(&mut space, &op, &[parent])?);
                (Content::Memory(Arc::default()), Some(oid))
            }
        };
        let mut file = Node::file(content, oid, 0, time);
        file.lookups = 1;
        file.last_seq = seq.unwrap_or(0);
        let ino = space.add(file);
        space.attach(parent, name, ino, time)?;
        self.landed(&mut space, parent, &path, &marks);
        space.set_marks(ino, parent, name, marks);
        let stat = self.stat_of(&space, ino)?;
        drop(space);
        self.locked(parent, name);
        self.settle(seq, false)?;
        Ok(stat)
    }

    /// Makes a directory and counts a kernel look-up.
    ///
    /// # Errors
    /// [`FsError::Exists`], else as usual.
    pub fn mkdir(&self, parent: Ino, name: &[u8]) -> Result<Stat, FsError> {
        self.writable()?;
        self.ensure_loaded(parent)?;
        let mut space = self.space.lock();
        if space.child(parent, name)?.is_some() {
            return Err(FsError::Exists);
        }
        let path = space.path(parent)?.join(name);
        let (mut seq, mut facts) = (None, None);
        match classify_dir(&path) {
            PathClass::Scratch => {}
            PathClass::ServerLocal | PathClass::Understood => self.local.mkdir(&path)?,
            PathClass::Committed => {
                // Server-local files of an earlier directory by this name are not this one's.
                self.local.rmdir(&path)?;
                self.offer_numbers(&mut space, parent, &path)?;
                facts = self.facts_of_subfolder(&mut space, parent, &path)?;
                let op = match facts.clone() {
                    Some(facts) => Op::MkFolder { path, facts },
                    None => Op::Mkdir { path },
                };
                seq = Some(self.append(&mut space, &op, &[parent])?);
            }
        }
        let time = node::now();
        let entries = Listing::Loaded(Names::default());
        let mut dir = Node::dir(parent, Name::from(name), entries, time);
        dir.lookups = 1;
        dir.last_seq = seq.unwrap_or(0);
        let ino = space.add(dir);
        space.attach(parent, name, ino, time)?;
        if let Some(facts) = facts {
            space.mailbox_mut(ino)?.set_facts(facts);
        }
        let stat = self.stat_of(&space, ino)?;
        drop(space);
        self.settle(seq, false)?;
        Ok(stat)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`FsError::NotEmpty`], [`FsError::NotDir`], else as usual.
    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<(), FsError> {
        self.writable()?;
        self.ensure_loaded(parent)?;
        let ino = self
            .space
            .lock()
            .child(parent, name)?
            .ok_or(FsError::NotFound)?;
        self.ensure_loaded(ino)?;
        let mut space = self.space.lock();
        if space.child(parent, name)? != Some(ino) {
            return Err(FsError::NotFound);
        }
        if !space.entries(ino)?.is_empty() {
            return Err(FsError::NotEmpty);
        }
        let path = space.path(ino)?;
        let mut seq = None;
        match classify_dir(&path) {
            PathClass::Scratch => {}
            PathClass::ServerLocal | PathClass::Understood => self.local.rmdir(&path)?,
            PathClass::Committed => {
                let op = Op::Rmdir { path: path.clone() };
                seq = Some(self.append(&mut space, &op, &[parent])?);
                self.local.rmdir(&path)?;
            }
        }
        space.detach(parent, name, node::now())?;
        space.reap(ino);
        drop(space);
        self.settle(seq, false)
    }

    /// Removes a file's name.
    ///
    /// # Errors
    /// [`FsError::IsDir`], else as usual.
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<(), FsError> {
        self.writable()?;
        if name == WAKE && self.woken(parent)?.is_some() {
            return Ok(());
        }
        self.ensure_loaded(parent)?;
        self.unlocking(parent, name)?;
        let mut space = self.space.lock();
        let present = Self::present_name(&space, parent, name);
        let name = present.as_deref().unwrap_or(name);
        let ino = space.child(parent, name)?.ok_or(FsError::NotFound)?;
        if space.is_dir(ino)? {
            return Err(FsError::IsDir);
        }
        let path = space.path(parent)?.join(name);
        let class = classify(&path);
        let mut seq = None;
        if class == PathClass::Committed {
            let op = Op::Remove { path: path.clone() };
            seq = Some(self.append(&mut space, &op, &[parent, ino])?);
            Self::departs(&mut space, parent, name);
            if present.is_some() {
                // The kernel knows of the other name only.
                self.stale_name(parent, name);
            }
        } else if is_local(class) {
            self.leave_local(&mut space, ino, &path)?;
            Self::gone(&mut space, parent, name);
        }
        self.drop_name(&mut space, parent, name)?;
        drop(space);
        self.settle(seq, false)
    }

    /// Whoever watches a directory of messages is told by a file that comes and goes for the kernel alone: the tree does not have it, so the directory is not
    /// even loaded. `None` for any other directory.
    fn woken(&self, dir: Ino) -> Result<Option<Stat>, FsError> {
        let mut space = self.space.lock();
        if !matches!(&*space.dir(dir)?.name, b"cur" | b"new") {
            return Ok(None);
        }
        let time = node::now();
        let ino = space.add(Node::file(Content::Memory(Arc::default()), None, 0, time));
        let stat = self.stat_of(&space, ino);
        space.reap(ino);
        stat.map(Some)
    }

    /// Takes a file's name away and lets go of the inode where nothing holds it any more.
    pub(super) fn drop_name(
        &self,
        space: &mut Space,
        parent: Ino,
        name: &[u8],
    ) -> Result<(), FsError> {
        let ino = space.detach(parent, name, node::now())?;
        let node = space.node(ino)?;
        if node.lookups == 0
            && let Body::File(file) = &node.body
            && let (Content::Scratch(_, path), true) = (&file.content, file.names.is_empty())
        {
            let _ = std::fs::remove_file(path);
        }
        space.reap(ino);
        Ok(())
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// [`FsError::NotPermitted`] for an owner or a mode that does not hold, else as usual.
    pub fn setattr(&self, ino: Ino, change: &SetAttr) -> Result<Stat, FsError> {
        self.writable()?;
        let now = self.stat(ino)?;
        if change.uid.is_some_and(|uid| uid != now.uid)
            || change.gid.is_some_and(|gid| gid != now.gid)
        {
            return Err(FsError::NotPermitted);
        }
        if change
            .mode
            .is_some_and(|mode| mode & 0o777 != u32::from(now.mode))
        {
            return Err(FsError::NotPermitted);
        }
        if let Some(size) = change.size {
            if self.space.lock().is_dir(ino)? {
                return Err(FsError::IsDir);
            }
            self.truncate(ino, size)?;
        }
        if let Some(mtime) = change.mtime {
            self.set_mtime(ino, mtime)?;
        }
        self.stat(ino)
    }

    fn set_mtime(&self, ino: Ino, mtime: Time) -> Result<(), FsError> {
        let mut space = self.space.lock();
        let old = space.node(ino)?.mtime;
        if space.is_dir(ino)? {
            space.node_mut(ino)?.mtime = mtime;
            return Ok(());
        }
        let mut seq = None;
        space.node_mut(ino)?.mtime = mtime;
        if old.0 != mtime.0 && !space.file(ino)?.dirty {
            let paths: Vec<_> = self
                .names_of_class(&space, ino, |class| class == PathClass::Committed)?
                .collect();
            for (path, attrs) in paths {
                match self.append(&mut space, &Op::SetAttrs { path, attrs }, &[ino]) {
                    Ok(number) => seq = Some(number),
                    Err(error) => {
                        space.node_mut(ino)?.mtime = old;
                        return Err(error);
                    }
                }
            }
        }
        let is_local = matches!(space.file(ino)?.content, Content::Local(_));
        space.node_mut(ino)?.ctime = node::now();
        drop(space);
        if is_local {
            set_mtime(&*self.open_local(ino)?, mtime)?;
        }
        self.settle(seq, false)
    }

    /// Makes content and name durable. In `tmp/` it returns at once: nothing reads `tmp/` after a crash, and the rename waits.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn fsync(&self, ino: Ino) -> Result<(), FsError> {
        self.wait(self.begin_fsync(ino)?)
    }

    /// [`Fs::fsync`] up to what its answer waits for.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn begin_fsync(&self, ino: Ino) -> Result<Pending, FsError> {
        let (content, dirty, last_seq) = {
            let space = self.space.lock();
            let file = space.file(ino)?;
            (file.content.clone(), file.dirty, space.node(ino)?.last_seq)
        };
        let mut last = last_seq;
        if let Some(seq) = self.syncing(ino)? {
            last = seq;
        }
        if dirty && let Some(seq) = self.commit_content(ino)? {
            last = seq;
        }
        if let Content::Local(Some(file)) = content
            && !self.is_on_record(ino)
        {
            turns::wait(|| file.sync_all())?;
        }
        Ok(Pending((last > 0).then_some(last)))
    }

    /// Makes the entries of a directory durable.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn fsyncdir(&self, ino: Ino) -> Result<(), FsError> {
        self.wait(self.begin_fsyncdir(ino)?)
    }

    /// [`Fs::fsyncdir`] up to what its answer waits for.
    ///
    /// # Errors
    /// Where the inode is gone.
    pub fn begin_fsyncdir(&self, ino: Ino) -> Result<Pending, FsError> {
        let last = self.space.lock().node(ino)?.last_seq;
        Ok(Pending((last > 0).then_some(last)))
    }

    /// The creator has closed the file: what it wrote in a committed place goes into the journal.
    pub fn release(&self, ino: Ino) {
        let dirty = self.space.lock().file(ino).is_ok_and(|file| file.dirty);
        if dirty && let Err(error) = self.commit_content(ino) {
            log::warn!("content of inode {ino} waits for the journal: {error}");
        }
    }

    /// The filesystem that holds the store.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub fn statfs(&self) -> Result<StatFs, FsError> {
        let stat = rustix::fs::statvfs(self.backing.spill_dir()).map_err(std::io::Error::from)?;
        Ok(StatFs {
            blocks: stat.f_blocks,
            bfree: stat.f_bfree,
            bavail: stat.f_bavail,
            files: stat.f_files,
            ffree: stat.f_ffree,
            bsize: stat.f_frsize as u32,
            namelen: limits::NAME_MAX as u32,
        })
    }

    /// Whether deliveries wait for the disk.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.options.durability
    }
}
