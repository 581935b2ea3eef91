//! The live tree as a ground: walks paths as a kernel does, look-up by look-up, and takes the look-ups back.

use std::sync::Arc;

use mailbraid::fs::{
    DirEntry, Durability, Fs, FsError, FsOptions, Ino, Kind, RenameFlags, SetAttr, Stat,
};
use mailbraid::maildir::TreePath;
use mailbraid::store::LiveView;

use super::ground::{Errno, Ground, Seen, View};
use super::memory::Memory;
use super::op::{Op, SLOTS};

const ROOT: Ino = 1;

/// A mounted live tree over a store in memory.
pub struct Live {
    pub fs: Arc<Fs>,
    pub store: Arc<Memory>,
    held: Vec<Option<Ino>>,
}

pub fn mount(store: &Arc<Memory>) -> Arc<Fs> {
    let options = FsOptions {
        uid: 1000,
        gid: 1000,
        umask: 0o077,
        read_only: false,
        durability: Durability::Delivery,
        // A server that looks for its uidlist under its lock is shown what the folder is offered: no filesystem does that.
        assign_uids: false,
    };
    Fs::new(Arc::clone(store) as _, options).expect("mount")
}

fn errno(error: FsError) -> Errno {
    error.errno()
}

impl Live {
    pub fn new() -> Self {
        let store = Arc::new(Memory::new());
        Self {
            fs: mount(&store),
            store,
            held: vec![None; SLOTS],
        }
    }

    /// Calls `then` with the inode of the path, which is held meanwhile.
    fn with<T>(
        &self,
        path: &TreePath,
        then: impl FnOnce(Ino) -> Result<T, FsError>,
    ) -> Result<T, Errno> {
        let mut at = ROOT;
        for name in path.components() {
            let found = self.fs.lookup(at, name);
            if at != ROOT {
                self.fs.forget(at, 1);
            }
            at = found.map_err(errno)?.ino;
        }
        let done = then(at);
        if at != ROOT {
            self.fs.forget(at, 1);
        }
        done.map_err(errno)
    }

    fn in_dir<T>(
        &self,
        path: &TreePath,
        then: impl FnOnce(Ino, &[u8]) -> Result<T, FsError>,
    ) -> Result<T, Errno> {
        self.with(&path.parent().unwrap_or_default(), |dir| {
            if self.fs.getattr(dir)?.kind == Kind::File {
                return Err(FsError::NotDir);
            }
            then(dir, path.name())
        })
    }

    fn made(&self, stat: Stat) {
        self.fs.forget(stat.ino, 1);
    }

    fn seen(&self, ino: Ino) -> Seen {
        let stat = self.fs.getattr(ino).expect("getattr of a held inode");
        assert_eq!((stat.ino, stat.uid, stat.gid), (ino, 1000, 1000));
        let content = (stat.kind == Kind::File).then(|| {
            let content = self.fs.read(ino, 0, stat.size as usize + 10).expect("read");
            assert_eq!(content.len() as u64, stat.size, "size of {stat:?}");
            content.to_vec()
        });
        Seen {
            content,
            nlink: u64::from(stat.nlink),
            mtime: stat.mtime,
            ino,
        }
    }

    fn list(&self, dir: Ino) -> Vec<(Vec<u8>, Ino)> {
        let mut names = Vec::new();
        let mut offset = 0;
        let mut more = true;
        // In pieces of three.
        while more {
            let (mut room, from) = (3, offset);
            more = false;
            let mut each = |entry: &DirEntry<'_>| {
                if room == 0 {
                    more = true;
                    return true;
                }
                room -= 1;
                offset = entry.place;
                names.push((entry.name.to_vec(), entry.ino));
                false
            };
            self.fs.readdir(dir, from, &mut each).expect("readdir");
        }
        assert_eq!(
            names[..2]
                .iter()
                .map(|(name, _)| &name[..])
                .collect::<Vec<_>>(),
            [&b"."[..], b".."]
        );
        assert_eq!(names[0].1, dir);
        names.split_off(2)
    }
}

impl Ground for Live {
    fn apply(&mut self, op: &Op) -> Result<(), Errno> {
        let fs = &self.fs;
        match op {
            Op::Create { path, exclusive } => {
                let stat = self.in_dir(path, |dir, name| fs.create(dir, name, *exclusive))?;
                self.made(stat);
                Ok(())
            }
            Op::Write {
                path,
                at,
                len,
                fill,
            } => self.with(path, |ino| fs.write(ino, *at, &vec![*fill; *len])),
            Op::Truncate { path, size } => self.with(path, |ino| {
                fs.setattr(
                    ino,
                    &SetAttr {
                        size: Some(*size),
                        ..SetAttr::default()
                    },
                )
                .map(|_| ())
            }),
            Op::Mkdir { path } => {
                let stat = self.in_dir(path, |dir, name| fs.mkdir(dir, name))?;
                self.made(stat);
                Ok(())
            }
            Op::Rmdir { path } => self.in_dir(path, |dir, name| fs.rmdir(dir, name)),
            Op::Unlink { path } => self.in_dir(path, |dir, name| fs.unlink(dir, name)),
            Op::Rename {
                from,
                to,
                no_replace,
            } => {
                let flags = RenameFlags {
                    no_replace: *no_replace,
                };
                let mut other = Ok(());
                let done = self.in_dir(from, |dir, name| {
                    other = self.in_dir(to, |to_dir, to_name| {
                        fs.rename(dir, name, to_dir, to_name, flags)
                    });
                    Ok(())
                });
                done.and(other)
            }
            Op::Link { from, to } => {
                let mut other = Ok(());
                let done = self.with(from, |ino| {
                    other = self
                        .in_dir(to, |dir, name| fs.link(ino, dir, name))
                        .map(|stat| self.made(stat));
                    Ok(())
                });
                done.and(other)
            }
            Op::SetTime { path, mtime } => self.with(path, |ino| {
                fs.setattr(
                    ino,
                    &SetAttr {
                        mtime: Some(*mtime),
                        ..SetAttr::default()
                    },
                )
                .map(|_| ())
            }),
            Op::Sync { path } => self.with(path, |ino| match fs.getattr(ino)?.kind {
                Kind::File => fs.fsync(ino),
                Kind::Dir => fs.fsyncdir(ino),
            }),
            Op::Hold { slot, path } => {
                if let Some(ino) = self.held[*slot].take() {
                    fs.forget(ino, 1);
                }
                let ino = self.in_dir(path, |dir, name| fs.lookup(dir, name))?.ino;
                if fs.getattr(ino).map_err(errno)?.kind == Kind::Dir {
                    fs.forget(ino, 1);
                    return Err(libc::EISDIR);
                }
                self.held[*slot] = Some(ino);
                Ok(())
            }
            Op::WriteHeld {
                slot,
                at,
                len,
                fill,
            } => {
                let ino = self.held[*slot].ok_or(libc::EBADF)?;
                fs.write(ino, *at, &vec![*fill; *len]).map_err(errno)
            }
            Op::Rest => {
                fs.commit_rested(true);
                Ok(())
            }
            Op::Commit => {
                self.store.commit_half(&**fs as &dyn LiveView);
                Ok(())
            }
            Op::FailNext => {
                self.store.fail_next();
                Ok(())
            }
            Op::Remount => {
                self.store.take_failed();
                fs.commit_rested(true);
                self.store.commit(&**fs as &dyn LiveView);
                self.store.settle_root();
                self.fs = mount(&self.store);
                self.held = vec![None; SLOTS];
                Ok(())
            }
        }
    }

    fn view(&mut self) -> View {
        let mut view = View::default();
        let mut open = vec![(TreePath::root(), ROOT)];
        while let Some((path, ino)) = open.pop() {
            if self.fs.getattr(ino).expect("getattr").kind == Kind::Dir {
                for (name, listed) in self.list(ino) {
                    let found = self.fs.lookup(ino, &name).expect("what is listed is found");
                    assert_eq!(found.ino, listed, "{path}: {name:?}");
                    open.push((path.join(&name), found.ino));
                }
            }
            let seen = self.seen(ino);
            if ino != ROOT {
                self.fs.forget(ino, 1);
            }
            view.paths.insert(path, seen);
        }
        view.held = self
            .held
            .iter()
            .map(|held| held.map(|ino| self.seen(ino)))
            .collect();
        view
    }
}
