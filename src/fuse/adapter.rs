//! From fuser's calls to the live tree's, one to one.

use std::ffi::OsStr;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use log::error;

use super::attributes::{TTL, absent, attr, file_type, from_system, name_ttl, ttl};
use crate::awake;
use crate::fs::{self, Fs, FsError, Pending, SetAttr, Stat};
use crate::turns::{self, Turns};

/// Most bytes of one write request: what the kernel sends at most.
const MAX_WRITE: u32 = 1 << 20;

/// fuser's view of the live tree.
pub struct Adapter {
    fs: Arc<Fs>,
    turns: Arc<Turns>,
    /// Whether the kernel opens files without asking once it is told to; if not it needs an answer each time.
    opens_alone: bool,
    /// The same of directories.
    opens_dirs_alone: bool,
}

/// A request that is being served: the live tree for it. Ends once the thread is to take another one.
struct Serving<'a>(&'a Adapter);

impl Deref for Serving<'_> {
    type Target = Fs;

    fn deref(&self) -> &Fs {
        &self.0.fs
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.turns.served();
    }
}

impl Adapter {
    /// Around a live tree.
    pub fn new(fs: Arc<Fs>) -> Self {
        Self {
            fs,
            turns: Turns::new(turns::most()),
            opens_alone: false,
            opens_dirs_alone: false,
        }
    }

    /// Begins to serve a request. To be held until it is answered.
    fn serve(&self) -> Serving<'_> {
        awake::touch();
        Serving(self)
    }

    /// Answers once the operation is durable, where it waits for that; the thread goes on to the next request meanwhile.
    fn answer(&self, what: &'static str, reply: ReplyEmpty, begun: Result<Pending, FsError>) {
        match begun {
            Ok(pending) => self
                .fs
                .when_durable(pending, move |outcome| done(what, reply, outcome)),
            Err(failed) => reply.error(errno(what, &failed)),
        }
    }
}

/// The errno for the kernel. What is a disk's or a defect's doing is logged, here and nowhere else.
fn errno(what: &str, failed: &FsError) -> Errno {
    if let FsError::Io(cause) = failed
        && failed.errno() != libc::ENOSPC
    {
        error!("{what}: {cause}");
    }
    Errno::from_i32(failed.errno())
}

fn entry(what: &str, reply: ReplyEntry, result: Result<Stat, FsError>) {
    match result {
        Ok(stat) => {
            reply.entry_with_ttls(&ttl(&stat), &name_ttl(&stat), &attr(&stat), Generation(0));
        }
        Err(failed) => reply.error(errno(what, &failed)),
    }
}

fn done(what: &str, reply: ReplyEmpty, result: Result<(), FsError>) {
    match result {
        Ok(()) => reply.ok(),
        Err(failed) => reply.error(errno(what, &failed)),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // A kernel without one of these works too, slower.
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        self.opens_alone = config
            .add_capabilities(InitFlags::FUSE_NO_OPEN_SUPPORT)
            .is_ok();
        self.opens_dirs_alone = config
            .add_capabilities(InitFlags::FUSE_NO_OPENDIR_SUPPORT)
            .is_ok();
        // The kernel takes no more at once, and a thread's buffer need not be larger.
        let _ = config.set_max_write(MAX_WRITE);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let fs = self.serve();
        match fs.lookup(parent.0, name.as_bytes()) {
            Err(FsError::NotFound) if fs::asks_each_time(name.as_bytes()) => {
                reply.error(Errno::ENOENT);
            }
            Err(FsError::NotFound) => reply.entry(&TTL, &absent(), Generation(0)),
            result => entry("lookup", reply, result),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        // No turn ends here: one request may say this of many inodes.
        self.fs.forget(ino.0, nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let fs = self.serve();
        match fs.getattr(ino.0) {
            Ok(stat) => reply.attr(&ttl(&stat), &attr(&stat)),
            Err(failed) => reply.error(errno("getattr", &failed)),
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
        let fs = self.serve();
        let change = SetAttr {
            size,
            mtime: mtime.map(from_system),
            mode,
            uid,
            gid,
        };
        match fs.setattr(ino.0, &change) {
            Ok(stat) => reply.attr(&ttl(&stat), &attr(&stat)),
            Err(failed) => reply.error(errno("setattr", &failed)),
        }
    }

    fn mknod(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let fs = self.serve();
        if mode & libc::S_IFMT != libc::S_IFREG {
            return reply.error(Errno::EPERM);
        }
        entry("create", reply, fs.create(parent.0, name.as_bytes(), true));
    }

    fn mkdir(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let fs = self.serve();
        entry("mkdir", reply, fs.mkdir(parent.0, name.as_bytes()));
    }

    fn symlink(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _link_name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let fs = self.serve();
        done("unlink", reply, fs.unlink(parent.0, name.as_bytes()));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let fs = self.serve();
        done("rmdir", reply, fs.rmdir(parent.0, name.as_bytes()));
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
        let fs = self.serve();
        let no_replace = flags == RenameFlags::RENAME_NOREPLACE;
        if !flags.is_empty() && !no_replace {
            return reply.error(Errno::EINVAL);
        }
        let begun = fs.begin_rename(
            parent.0,
            name.as_bytes(),
            newparent.0,
            newname.as_bytes(),
            fs::RenameFlags { no_replace },
        );
        self.answer("rename", reply, begun);
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let fs = self.serve();
        match fs.begin_link(ino.0, newparent.0, newname.as_bytes()) {
            Ok((stat, pending)) => fs.when_durable(pending, move |outcome| {
                entry("link", reply, outcome.map(|()| stat));
            }),
            Err(failed) => reply.error(errno("link", &failed)),
        }
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.opens_alone {
            return reply.error(Errno::ENOSYS);
        }
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
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
        reply.error(Errno::ENOSYS);
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
        let fs = self.serve();
        match fs.read(ino.0, offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(failed) => reply.error(errno("read", &failed)),
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
        let fs = self.serve();
        match fs.write(ino.0, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(failed) => reply.error(errno("write", &failed)),
        }
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let fs = self.serve();
        self.answer("fsync", reply, fs.begin_fsync(ino.0));
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.opens_dirs_alone {
            return reply.error(Errno::ENOSYS);
        }
        let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
        reply.opened(FileHandle(0), flags);
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let fs = self.serve();
        let listed = fs.readdir(ino.0, offset, &mut |entry| {
            reply.add(
                INodeNo(entry.ino),
                entry.place,
                file_type(entry.kind),
                OsStr::from_bytes(entry.name),
            )
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(failed) => reply.error(errno("readdir", &failed)),
        }
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let fs = self.serve();
        self.answer("fsyncdir", reply, fs.begin_fsyncdir(ino.0));
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let fs = self.serve();
        match fs.statfs() {
            Ok(stat) => reply.statfs(
                stat.blocks,
                stat.bfree,
                stat.bavail,
                stat.files,
                stat.ffree,
                stat.bsize,
                stat.namelen,
                stat.bsize,
            ),
            Err(failed) => reply.error(errno("statfs", &failed)),
        }
    }

    // What follows is answered with ENOSYS once; the kernel then does without: no extended attributes, its own seeking and
    // copying, no preallocation (the C library falls back to writing).

    fn readlink(&self, _req: &Request, _ino: INodeNo, reply: ReplyData) {
        reply.error(Errno::EINVAL);
    }

    fn setxattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _size: u32,
        reply: ReplyXattr,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _req: &Request, _ino: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _req: &Request, _ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn lseek(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        _ino_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _ino_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::ENOSYS);
    }
}
