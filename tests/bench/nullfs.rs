//! A null FUSE filesystem: the least that any FUSE filesystem can do. It keeps everything in memory, syncs nothing and
//! is mounted with the settings of our own mount, so what a mailbraid operation costs above it is what mailbraid itself costs.
//!
//! It is whole enough to run a mail server on: create, write, rename, link, unlink, mkdir, rmdir, symlink, snapshot listings,
//! times, truncation, mmap. Permissions are not checked (no `default_permissions`), ownership is stored.
//!
//! - OPEN, FLUSH and OPENDIR are answered with ENOSYS, so the kernel opens and closes without asking (`FUSE_NO_OPEN_SUPPORT`,
//!   `FUSE_NO_OPENDIR_SUPPORT`), and keeps listings in its page cache; CREATE too, so that it makes files with MKNOD, which leaves
//!   no handle to RELEASE.
//! - A directory entry has a cookie that grows with each new name and stays through a rename within the directory: a listing
//!   read in several pieces shows every entry once, whatever is renamed meanwhile.
//! - That a name is not there may be remembered too: a lock file is looked for before it is made, and the second LOOKUP is spared.
//! - Processors are kept awake while requests come, as our own mount keeps them: what that brings is not ours to boast of.
//! - Entries and attributes may be kept by the kernel for ever: nobody else changes them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, SessionACL, TimeOrNow, WriteFlags,
};
use mailbraid::awake;
use parking_lot::{Mutex, MutexGuard};

/// The kernel may keep what it was told for this long.
const TTL: Duration = Duration::from_secs(1 << 30);

/// Threads that serve requests.
const THREADS: usize = 2;

/// The mount configuration, as our own mount has it.
pub fn config() -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("nullfs".into()),
        MountOption::CUSTOM("subtype=nullfs".into()),
        MountOption::NoAtime,
    ];
    config.acl = SessionACL::All;
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    config
}

/// Mounts and serves until somebody unmounts.
///
/// # Errors
/// Where the mount fails.
pub fn serve(mountpoint: &Path) -> std::io::Result<()> {
    // Where it may not, our own mount may not either.
    let _ = awake::begin();
    fuser::mount(NullFs::new(), mountpoint, &config())
}

/// What a node is.
enum Kind {
    File(Arc<Vec<u8>>),
    Link(Vec<u8>),
    Dir(Dir),
}

/// A directory: names to cookies, cookies to entries in the order they came.
#[derive(Default)]
struct Dir {
    parent: u64,
    next_cookie: u64,
    by_name: HashMap<Arc<[u8]>, u64>,
    by_cookie: BTreeMap<u64, (Arc<[u8]>, u64)>,
}

/// Cookies 1 and 2 are `.` and `..`.
const FIRST_COOKIE: u64 = 3;

impl Dir {
    fn new(parent: u64) -> Self {
        Self {
            parent,
            next_cookie: FIRST_COOKIE,
            ..Self::default()
        }
    }

    fn get(&self, name: &[u8]) -> Option<u64> {
        let cookie = self.by_name.get(name)?;
        self.by_cookie.get(cookie).map(|(_, ino)| *ino)
    }

    fn insert_at(&mut self, cookie: u64, name: &[u8], ino: u64) {
        let name: Arc<[u8]> = name.into();
        self.by_name.insert(Arc::clone(&name), cookie);
        self.by_cookie.insert(cookie, (name, ino));
    }

    fn insert(&mut self, name: &[u8], ino: u64) {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.insert_at(cookie, name, ino);
    }

    /// Removes a name and gives its cookie and node.
    fn remove(&mut self, name: &[u8]) -> Option<(u64, u64)> {
        let cookie = self.by_name.remove(name)?;
        let (_, ino) = self.by_cookie.remove(&cookie)?;
        Some((cookie, ino))
    }
}

/// A node with its attributes.
struct Node {
    kind: Kind,
    perm: u16,
    uid: u32,
    gid: u32,
    nlink: u32,
    /// Times the kernel was told of it and has not forgotten.
    lookups: u64,
    atime: SystemTime,
    mtime: SystemTime,
    ctime: SystemTime,
}

impl Node {
    fn attr(&self, ino: u64) -> FileAttr {
        let (kind, size) = match &self.kind {
            Kind::File(data) => (FileType::RegularFile, data.len() as u64),
            Kind::Link(target) => (FileType::Symlink, target.len() as u64),
            Kind::Dir(_) => (FileType::Directory, 4096),
        };
        FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            crtime: self.ctime,
            kind,
            perm: self.perm,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn touch(&mut self, now: SystemTime) {
        self.mtime = now;
        self.ctime = now;
    }
}

/// All nodes.
struct Nodes {
    next: u64,
    by_ino: HashMap<u64, Node>,
}

type Result<T> = std::result::Result<T, Errno>;

impl Nodes {
    fn node(&mut self, ino: u64) -> Result<&mut Node> {
        self.by_ino.get_mut(&ino).ok_or(Errno::ENOENT)
    }

    fn dir(&mut self, ino: u64) -> Result<&mut Dir> {
        match &mut self.node(ino)?.kind {
            Kind::Dir(dir) => Ok(dir),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn file(&mut self, ino: u64) -> Result<&mut Arc<Vec<u8>>> {
        match &mut self.node(ino)?.kind {
            Kind::File(data) => Ok(data),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The attributes, told to the kernel once more.
    fn told(&mut self, ino: u64) -> Result<FileAttr> {
        let node = self.node(ino)?;
        node.lookups += 1;
        Ok(node.attr(ino))
    }

    fn lookup(&mut self, parent: u64, name: &[u8]) -> Result<FileAttr> {
        let ino = self.dir(parent)?.get(name).ok_or(Errno::ENOENT)?;
        self.told(ino)
    }

    fn add(
        &mut self,
        req: &Request,
        parent: u64,
        name: &[u8],
        kind: Kind,
        mode: u32,
    ) -> Result<FileAttr> {
        if name.len() > 255 {
            return Err(Errno::ENAMETOOLONG);
        }
        if self.dir(parent)?.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        let now = SystemTime::now();
        let ino = self.next;
        self.next += 1;
        let is_dir = matches!(kind, Kind::Dir(_));
        self.by_ino.insert(
            ino,
            Node {
                kind,
                perm: (mode & 0o7777) as u16,
                uid: req.uid(),
                gid: req.gid(),
                nlink: if is_dir { 2 } else { 1 },
                lookups: 0,
                atime: now,
                mtime: now,
                ctime: now,
            },
        );
        self.dir(parent)?.insert(name, ino);
        let above = self.node(parent)?;
        above.touch(now);
        above.nlink += u32::from(is_dir);
        self.told(ino)
    }

    fn drop_if_gone(&mut self, ino: u64) {
        if self
            .by_ino
            .get(&ino)
            .is_some_and(|node| node.nlink == 0 && node.lookups == 0)
        {
            self.by_ino.remove(&ino);
        }
    }

    fn remove(&mut self, parent: u64, name: &[u8], dirs: bool) -> Result<()> {
        let ino = self.dir(parent)?.get(name).ok_or(Errno::ENOENT)?;
        let now = SystemTime::now();
        let node = self.node(ino)?;
        match &node.kind {
            Kind::Dir(_) if !dirs => return Err(Errno::EISDIR),
            Kind::Dir(dir) if !dir.by_name.is_empty() => return Err(Errno::ENOTEMPTY),
            Kind::Dir(_) => node.nlink = 0,
            _ if dirs => return Err(Errno::ENOTDIR),
            _ => node.nlink -= 1,
        }
        node.ctime = now;
        self.dir(parent)?.remove(name);
        let above = self.node(parent)?;
        above.touch(now);
        above.nlink -= u32::from(dirs);
        self.drop_if_gone(ino);
        Ok(())
    }

    fn rename(
        &mut self,
        parent: u64,
        name: &[u8],
        newparent: u64,
        newname: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        if flags.intersects(RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_WHITEOUT) {
            return Err(Errno::EINVAL);
        }
        if newname.len() > 255 {
            return Err(Errno::ENAMETOOLONG);
        }
        let ino = self.dir(parent)?.get(name).ok_or(Errno::ENOENT)?;
        let is_dir = matches!(self.node(ino)?.kind, Kind::Dir(_));
        if let Some(old) = self.dir(newparent)?.get(newname) {
            if flags.contains(RenameFlags::RENAME_NOREPLACE) {
                return Err(Errno::EEXIST);
            }
            if old == ino {
                return Ok(());
            }
            let old_is_dir = matches!(self.node(old)?.kind, Kind::Dir(_));
            match (is_dir, old_is_dir) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                _ => self.remove(newparent, newname, is_dir)?,
            }
        }
        let now = SystemTime::now();
        let (cookie, _) = self.dir(parent)?.remove(name).ok_or(Errno::ENOENT)?;
        self.node(parent)?.touch(now);
        if parent == newparent {
            self.dir(parent)?.insert_at(cookie, newname, ino);
        } else {
            self.dir(newparent)?.insert(newname, ino);
            self.node(newparent)?.touch(now);
            if is_dir {
                self.dir(ino)?.parent = newparent;
                self.node(parent)?.nlink -= 1;
                self.node(newparent)?.nlink += 1;
            }
        }
        self.node(ino)?.ctime = now;
        Ok(())
    }

    fn link(&mut self, ino: u64, newparent: u64, newname: &[u8]) -> Result<FileAttr> {
        if self.dir(newparent)?.get(newname).is_some() {
            return Err(Errno::EEXIST);
        }
        let now = SystemTime::now();
        let node = self.node(ino)?;
        node.nlink += 1;
        node.ctime = now;
        self.dir(newparent)?.insert(newname, ino);
        self.node(newparent)?.touch(now);
        self.told(ino)
    }

    fn write(&mut self, ino: u64, offset: usize, data: &[u8]) -> Result<()> {
        let now = SystemTime::now();
        let held = Arc::make_mut(self.file(ino)?);
        if offset == held.len() {
            held.extend_from_slice(data);
        } else {
            let end = offset + data.len();
            if held.len() < end {
                held.resize(end, 0);
            }
            held[offset..end].copy_from_slice(data);
        }
        self.node(ino)?.touch(now);
        Ok(())
    }

    /// What a listing shows from the entry after `cookie` on, `.` and `..` first, until `emit` is full.
    fn list(
        &mut self,
        ino: u64,
        cookie: u64,
        mut emit: impl FnMut(u64, u64, &[u8], &mut Node) -> bool,
    ) -> Result<()> {
        let parent = self.dir(ino)?.parent;
        for (at, name, node) in [(1, b".".as_slice(), ino), (2, b"..", parent)] {
            if cookie < at && emit(at, node, name, self.node(node)?) {
                return Ok(());
            }
        }
        // The directory is taken out while its entries' nodes are looked at.
        let entries = std::mem::take(&mut self.dir(ino)?.by_cookie);
        for (&at, (name, node)) in entries.range((cookie.max(2) + 1)..) {
            if self
                .by_ino
                .get_mut(node)
                .is_some_and(|found| emit(at, *node, name, found))
            {
                break;
            }
        }
        self.dir(ino)?.by_cookie = entries;
        Ok(())
    }
}

/// The filesystem: one lock around everything.
pub struct NullFs {
    nodes: Mutex<Nodes>,
}

impl NullFs {
    /// An empty one.
    pub fn new() -> Self {
        let now = SystemTime::now();
        let root = Node {
            kind: Kind::Dir(Dir::new(INodeNo::ROOT.0)),
            perm: 0o777,
            uid: 0,
            gid: 0,
            nlink: 2,
            lookups: 1,
            atime: now,
            mtime: now,
            ctime: now,
        };
        Self {
            nodes: Mutex::new(Nodes {
                next: 2,
                by_ino: HashMap::from([(INodeNo::ROOT.0, root)]),
            }),
        }
    }

    /// The nodes, for a request.
    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        awake::touch();
        self.nodes.lock()
    }
}

/// Attributes of what is not there.
fn nothing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// Answers with an entry, or the error.
fn entry(reply: ReplyEntry, result: Result<FileAttr>) {
    match result {
        Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

/// Answers that it is done, or with the error.
fn done(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for NullFs {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        for wanted in [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
        ] {
            // A kernel without it works too, slower.
            let _ = config.add_capabilities(wanted);
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut nodes = self.nodes();
        match nodes.lookup(parent.0, name.as_bytes()) {
            // An entry of inode 0 says, and lets the kernel remember, that there is none.
            Err(Errno::ENOENT) => reply.entry(&TTL, &nothing(), Generation(0)),
            result => entry(reply, result),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        let mut nodes = self.nodes();
        if let Ok(node) = nodes.node(ino.0) {
            node.lookups = node.lookups.saturating_sub(nlookup);
            nodes.drop_if_gone(ino.0);
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.nodes().node(ino.0) {
            Ok(node) => reply.attr(&TTL, &node.attr(ino.0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let now = SystemTime::now();
        let time = |given| match given {
            TimeOrNow::SpecificTime(time) => time,
            TimeOrNow::Now => now,
        };
        let mut nodes = self.nodes();
        if let Some(size) = size {
            match nodes.file(ino.0) {
                Ok(data) => Arc::make_mut(data).resize(size as usize, 0),
                Err(errno) => return reply.error(errno),
            }
        }
        match nodes.node(ino.0) {
            Ok(node) => {
                if size.is_some() {
                    node.mtime = now;
                }
                node.ctime = now;
                node.perm = mode.map_or(node.perm, |mode| (mode & 0o7777) as u16);
                node.uid = uid.unwrap_or(node.uid);
                node.gid = gid.unwrap_or(node.gid);
                node.atime = atime.map_or(node.atime, time);
                node.mtime = mtime.map_or(node.mtime, time);
                reply.attr(&TTL, &node.attr(ino.0));
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.nodes().node(ino.0).map(|node| &node.kind) {
            Ok(Kind::Link(target)) => reply.data(target),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let file = Kind::File(Arc::default());
        let made = self
            .nodes()
            .add(req, parent.0, name.as_bytes(), file, mode & !umask);
        entry(reply, made);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let dir = Kind::Dir(Dir::new(parent.0));
        let made = self
            .nodes()
            .add(req, parent.0, name.as_bytes(), dir, mode & !umask);
        entry(reply, made);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let link = Kind::Link(target.as_os_str().as_bytes().to_vec());
        let made = self
            .nodes()
            .add(req, parent.0, link_name.as_bytes(), link, 0o777);
        entry(reply, made);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.nodes().remove(parent.0, name.as_bytes(), false));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.nodes().remove(parent.0, name.as_bytes(), true));
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.nodes().rename(
            parent.0,
            name.as_bytes(),
            newparent.0,
            newname.as_bytes(),
            flags,
        );
        done(reply, renamed);
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        entry(
            reply,
            self.nodes
                .lock()
                .link(ino.0, newparent.0, newname.as_bytes()),
        );
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn create(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        // The kernel falls back to MKNOD, once and for all: no handle, so no RELEASE for every file made.
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let data = self.nodes().file(ino.0).map(|data| Arc::clone(data));
        match data {
            Ok(data) => {
                let from = (offset as usize).min(data.len());
                let to = (from + size as usize).min(data.len());
                reply.data(&data[from..to]);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.nodes().write(ino.0, offset as usize, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        // Not ENOSYS: our own mount must be asked, so this one is asked too.
        reply.ok();
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.nodes().list(ino.0, offset, |cookie, ino, name, node| {
            let kind = node.attr(ino).kind;
            reply.add(INodeNo(ino), cookie, kind, OsStr::from_bytes(name))
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listed = self.nodes().list(ino.0, offset, |cookie, ino, name, node| {
            let full = reply.add(
                INodeNo(ino),
                cookie,
                OsStr::from_bytes(name),
                &TTL,
                &node.attr(ino),
                Generation(0),
            );
            // The kernel counts a listed entry as looked up, `.` and `..` excepted.
            if !full && name != b"." && name != b".." {
                node.lookups += 1;
            }
            full
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 24, 1 << 23, 1 << 23, 1 << 24, 1 << 23, 4096, 255, 4096);
    }
}
