//! A real directory as a ground: every operation is the system call it names.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use mailbraid::maildir::TreePath;
use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps};

use crate::model::ground::{Errno, Ground, Seen, View};
use crate::model::op::{Op, SLOTS};

/// A directory, and the files held open in it.
pub struct Real {
    root: PathBuf,
    held: Vec<Option<File>>,
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().expect("an error of the system")
}

fn seen(metadata: &fs::Metadata, content: impl FnOnce() -> Vec<u8>) -> Seen {
    let content = metadata.is_file().then(content);
    if let Some(content) = &content {
        assert_eq!(content.len() as u64, metadata.len(), "size and content");
    }
    Seen {
        content,
        nlink: metadata.nlink(),
        mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
        ino: metadata.ino(),
    }
}

impl Real {
    /// A directory that exists and is empty.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            held: (0..SLOTS).map(|_| None).collect(),
        }
    }

    fn at(&self, path: &TreePath) -> PathBuf {
        self.root.join(OsStr::from_bytes(path.as_bytes()))
    }

    fn try_apply(&mut self, op: &Op) -> io::Result<()> {
        match op {
            Op::Create { path, exclusive } => {
                let mut options = OpenOptions::new();
                options.write(true).create(true).create_new(*exclusive);
                options.open(self.at(path)).map(drop)
            }
            Op::Write {
                path,
                at,
                len,
                fill,
            } => {
                let file = OpenOptions::new().write(true).open(self.at(path))?;
                file.write_all_at(&vec![*fill; *len], *at)
            }
            Op::Truncate { path, size } => Ok(rustix::fs::ftruncate(
                OpenOptions::new().write(true).open(self.at(path))?,
                *size,
            )?),
            Op::Mkdir { path } => fs::create_dir(self.at(path)),
            Op::Rmdir { path } => fs::remove_dir(self.at(path)),
            Op::Unlink { path } => fs::remove_file(self.at(path)),
            Op::Rename {
                from,
                to,
                no_replace,
            } => {
                let mut flags = RenameFlags::empty();
                flags.set(RenameFlags::NOREPLACE, *no_replace);
                Ok(rustix::fs::renameat_with(
                    CWD,
                    self.at(from),
                    CWD,
                    self.at(to),
                    flags,
                )?)
            }
            Op::Link { from, to } => fs::hard_link(self.at(from), self.at(to)),
            Op::SetTime { path, mtime } => {
                let last_access = Timespec {
                    tv_sec: 0,
                    tv_nsec: rustix::fs::UTIME_OMIT,
                };
                let last_modification = Timespec {
                    tv_sec: mtime.0,
                    tv_nsec: mtime.1.into(),
                };
                let times = Timestamps {
                    last_access,
                    last_modification,
                };
                Ok(rustix::fs::utimensat(
                    CWD,
                    self.at(path),
                    &times,
                    AtFlags::empty(),
                )?)
            }
            Op::Sync { path } => File::open(self.at(path))?.sync_all(),
            Op::Hold { slot, path } => {
                self.held[*slot] = None;
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(self.at(path))?;
                self.held[*slot] = Some(file);
                Ok(())
            }
            Op::WriteHeld {
                slot,
                at,
                len,
                fill,
            } => match &self.held[*slot] {
                Some(file) => file.write_all_at(&vec![*fill; *len], *at),
                None => Err(io::Error::from_raw_os_error(libc::EBADF)),
            },
            Op::Rest | Op::Commit | Op::FailNext | Op::Remount => {
                unreachable!("a real directory is not asked for {op:?}")
            }
        }
    }

    fn walk(&self, path: &TreePath, view: &mut View) -> io::Result<()> {
        let at = self.at(path);
        let metadata = fs::symlink_metadata(&at)?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&at)? {
                let entry = entry?;
                let below = path.join(entry.file_name().as_bytes());
                self.walk(&below, view)?;
            }
        }
        let content = || fs::read(&at).expect("read what was listed");
        view.paths.insert(path.clone(), seen(&metadata, content));
        Ok(())
    }
}

impl Ground for Real {
    fn apply(&mut self, op: &Op) -> Result<(), Errno> {
        self.try_apply(op).map_err(|error| errno(&error))
    }

    fn view(&mut self) -> View {
        let mut view = View::default();
        self.walk(&TreePath::root(), &mut view)
            .expect("walk the tree");
        for held in &self.held {
            view.held.push(held.as_ref().map(|file| {
                let metadata = file.metadata().expect("fstat");
                seen(&metadata, || {
                    let mut content = vec![0; metadata.len() as usize];
                    file.read_exact_at(&mut content, 0).expect("pread");
                    content
                })
            }));
        }
        view
    }
}
