//! A FUSE filesystem in memory that records every change made to it, in order, and can be told to fail.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::{Disk, Event, Ino, ROOT};

/// The kernel asks again each time: the record must not depend on what it kept.
const TTL: Duration = Duration::ZERO;

/// What the disk refuses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Bytes that all files together may have; `None` for any.
    pub limit: Option<u64>,
    /// Syncs of files fail with `EIO`.
    pub sync: bool,
    /// Writes fail with `EIO`.
    pub write: bool,
}

struct Meta {
    mode: u16,
    nlink: u32,
    mtime: SystemTime,
}

#[derive(Default)]
struct State {
    disk: Disk,
    meta: HashMap<Ino, Meta>,
    events: Vec<Event>,
    bytes: u64,
    faults: Faults,
    last_ino: Ino,
}

/// A mounted recording disk; unmounted when dropped.
pub struct Recording {
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
    dir: TempDir,
}

impl Recording {
    /// Mounts an empty disk.
    ///
    /// # Panics
    /// Where `/dev/fuse` is missing or may not be used.
    pub fn mount() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let state = Arc::new(Mutex::new(State {
            last_ino: ROOT,
            ..State::default()
        }));
        state.lock().note(ROOT, 0o755);
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("recording".into()),
            MountOption::CUSTOM("subtype=recording".into()),
        ];
        let session = fuser::spawn_mount(Recorder(Arc::clone(&state)), dir.path(), &config)
            .expect("a FUSE filesystem can be mounted; if not, run tests/run");
        Self {
            state,
            session: Some(session),
            dir,
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.dir.path().to_path_buf()
    }

    /// How many changes were made so far.
    pub fn position(&self) -> usize {
        self.state.lock().events.len()
    }

    /// Sets what it refuses from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// All changes so far.
    pub fn events(&self) -> Vec<Event> {
        self.state.lock().events.clone()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // A failed test may still have files open: then a lazy unmount does it.
        let quiet = self
            .session
            .take()
            .is_none_or(|session| session.umount_and_join().is_ok());
        if !quiet {
            let _ = rustix::mount::unmount(self.dir.path(), rustix::mount::UnmountFlags::DETACH);
        }
    }
}

impl State {
    fn note(&mut self, ino: Ino, mode: u16) {
        let meta = Meta {
            mode,
            nlink: 1,
            mtime: SystemTime::now(),
        };
        self.meta.insert(ino, meta);
    }

    fn apply(&mut self, event: Event) {
        self.disk.apply(&event);
        self.events.push(event);
    }

    fn touch(&mut self, ino: Ino) {
        if let Some(meta) = self.meta.get_mut(&ino) {
            meta.mtime = SystemTime::now();
        }
    }

    fn attr(&self, ino: Ino) -> Result<FileAttr, Errno> {
        let meta = self.meta.get(&ino).ok_or(Errno::ENOENT)?;
        let (kind, size) = if let Some(content) = self.disk.content(ino) {
            (FileType::RegularFile, content.len())
        } else if let Some(target) = self.disk.target(ino) {
            (FileType::Symlink, target.len())
        } else {
            (FileType::Directory, 4096)
        };
        Ok(FileAttr {
            ino: INodeNo(ino),
            size: size as u64,
            blocks: (size as u64).div_ceil(512),
            atime: meta.mtime,
            mtime: meta.mtime,
            ctime: meta.mtime,
            crtime: meta.mtime,
            kind,
            perm: meta.mode & 0o7777,
            nlink: meta.nlink,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Result<Ino, Errno> {
        self.disk.child(parent.0, name).ok_or(Errno::ENOENT)
    }

    /// A new inode with a name that must be free.
    fn enter(
        &mut self,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        event: impl FnOnce(Ino) -> Event,
    ) -> Result<FileAttr, Errno> {
        if self.disk.child(parent.0, name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.last_ino += 1;
        let ino = self.last_ino;
        self.apply(event(ino));
        self.note(ino, (mode & 0o7777) as u16);
        self.touch(parent.0);
        self.attr(ino)
    }

    /// Whether a file may grow to `size`.
    fn grow(&mut self, ino: Ino, size: u64) -> Result<(), Errno> {
        let before = self.disk.content(ino).ok_or(Errno::EBADF)?.len() as u64;
        let more = size.saturating_sub(before);
        if self
            .faults
            .limit
            .is_some_and(|limit| more > 0 && self.bytes + more > limit)
        {
            return Err(Errno::ENOSPC);
        }
        self.bytes += more;
        Ok(())
    }

    fn drop_link(&mut self, ino: Ino) {
        let Some(meta) = self.meta.get_mut(&ino) else {
            return;
        };
        meta.nlink = meta.nlink.saturating_sub(1);
        if meta.nlink == 0 {
            // Freed at once even while it is open: nothing here depends on that.
            self.bytes -= self.disk.content(ino).map_or(0, |bytes| bytes.len() as u64);
        }
    }

    fn remove(&mut self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let ino = self.child(parent, name)?;
        if self
            .disk
            .entries(ino)
            .is_some_and(|entries| !entries.is_empty())
        {
            return Err(Errno::ENOTEMPTY);
        }
        self.apply(Event::Remove {
            parent: parent.0,
            name: name.to_owned(),
        });
        self.drop_link(ino);
        self.touch(parent.0);
        Ok(())
    }

    fn rename(
        &mut self,
        from: (INodeNo, &OsStr),
        to: (INodeNo, &OsStr),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let ino = self.child(from.0, from.1)?;
        let replaced = self.disk.child(to.0.0, to.1);
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            return Err(Errno::EINVAL);
        }
        if flags.contains(RenameFlags::RENAME_NOREPLACE) && replaced.is_some() {
            return Err(Errno::EEXIST);
        }
        if replaced == Some(ino) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            if self
                .disk
                .entries(replaced)
                .is_some_and(|entries| !entries.is_empty())
            {
                return Err(Errno::ENOTEMPTY);
            }
            self.drop_link(replaced);
        }
        self.apply(Event::Rename {
            parent: from.0.0,
            name: from.1.to_owned(),
            to_parent: to.0.0,
            to_name: to.1.to_owned(),
        });
        self.touch(from.0.0);
        self.touch(to.0.0);
        Ok(())
    }

    fn resize(&mut self, ino: Ino, size: u64) -> Result<(), Errno> {
        self.grow(ino, size)?;
        let before = self.disk.content(ino).map_or(0, |bytes| bytes.len() as u64);
        self.bytes -= before.saturating_sub(size);
        self.apply(Event::Resize { ino, size });
        self.touch(ino);
        Ok(())
    }

    fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        if self.faults.write {
            return Err(Errno::EIO);
        }
        self.grow(ino, offset + data.len() as u64)?;
        self.apply(Event::Write {
            ino,
            offset,
            data: data.to_vec(),
        });
        self.touch(ino);
        Ok(data.len() as u32)
    }
}

/// The part that the kernel speaks to.
struct Recorder(Arc<Mutex<State>>);

/// Answers with an attribute or an error.
fn entry(reply: ReplyEntry, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Recorder {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.0.lock();
        entry(
            reply,
            state.child(parent, name).and_then(|ino| state.attr(ino)),
        );
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.lock().attr(ino.0) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.0.lock();
        let resized = size.map_or(Ok(()), |size| state.resize(ino.0, size));
        if let Some(meta) = state.meta.get_mut(&ino.0) {
            if let Some(mode) = mode {
                meta.mode = (mode & 0o7777) as u16;
            }
            match mtime {
                Some(TimeOrNow::SpecificTime(time)) => meta.mtime = time,
                Some(TimeOrNow::Now) => meta.mtime = SystemTime::now(),
                None => {}
            }
        }
        match resized.and_then(|()| state.attr(ino.0)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.0.lock().disk.target(ino.0) {
            Some(target) => reply.data(target.as_encoded_bytes()),
            None => reply.error(Errno::EINVAL),
        }
    }

    fn mkdir(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let result = self.0.lock().enter(parent, name, mode, |ino| Event::Mkdir {
            parent: parent.0,
            name: name.to_owned(),
            ino,
        });
        entry(reply, result);
    }

    fn symlink(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let result = self
            .0
            .lock()
            .enter(parent, name, 0o777, |ino| Event::Symlink {
                parent: parent.0,
                name: name.to_owned(),
                ino,
                target: target.as_os_str().to_owned(),
            });
        entry(reply, result);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.0.lock().remove(parent, name));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.0.lock().remove(parent, name));
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
        let result = self
            .0
            .lock()
            .rename((parent, name), (newparent, newname), flags);
        empty(reply, result);
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let mut state = self.0.lock();
        if state.disk.child(newparent.0, newname).is_some() {
            reply.error(Errno::EEXIST);
            return;
        }
        state.apply(Event::Link {
            parent: newparent.0,
            name: newname.to_owned(),
            ino: ino.0,
        });
        if let Some(meta) = state.meta.get_mut(&ino.0) {
            meta.nlink += 1;
        }
        state.touch(newparent.0);
        entry(reply, state.attr(ino.0));
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let result = self
            .0
            .lock()
            .enter(parent, name, mode, |ino| Event::Create {
                parent: parent.0,
                name: name.to_owned(),
                ino,
            });
        match result {
            Ok(attr) => reply.created(
                &TTL,
                &attr,
                Generation(0),
                FileHandle(0),
                FopenFlags::empty(),
            ),
            Err(errno) => reply.error(errno),
        }
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
        match self.0.lock().disk.content(ino.0) {
            Some(content) => {
                let start = content.len().min(offset as usize);
                let end = content.len().min(start + size as usize);
                reply.data(&content[start..end]);
            }
            None => reply.error(Errno::EBADF),
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
        match self.0.lock().write(ino.0, offset, data) {
            Ok(written) => reply.written(written),
            Err(errno) => reply.error(errno),
        }
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            reply.error(Errno::EOPNOTSUPP);
            return;
        }
        let mut state = self.0.lock();
        let size = state.disk.content(ino.0).map_or(0, |it| it.len() as u64);
        let result = if offset + length > size {
            state.resize(ino.0, offset + length)
        } else {
            Ok(())
        };
        empty(reply, result);
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let mut state = self.0.lock();
        if state.faults.sync {
            reply.error(Errno::EIO);
            return;
        }
        state.apply(Event::Sync { ino: ino.0 });
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.0.lock().apply(Event::SyncDir { ino: ino.0 });
        reply.ok();
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let state = self.0.lock();
        let Some(entries) = state.disk.entries(ino.0) else {
            reply.error(Errno::ENOTDIR);
            return;
        };
        for (at, (name, &child)) in entries.iter().enumerate().skip(offset as usize) {
            let kind = state
                .attr(child)
                .map_or(FileType::RegularFile, |attr| attr.kind);
            if reply.add(INodeNo(child), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let state = self.0.lock();
        let limit = state.faults.limit.unwrap_or(1 << 40);
        let free = limit.saturating_sub(state.bytes) / 4096;
        reply.statfs(limit / 4096, free, free, 1 << 20, 1 << 20, 4096, 255, 4096);
    }
}
