//! Files that get a name in the local tree, or lose one.
//!
//! A file with a server-local name has its bytes in one plain file, whatever other names it has: so hard links there are hard links on disk. A file
//! that enters the local tree brings its bytes along: as a hard link, as the scratch file they are in, or as a staged copy, made without the
//! lock. The last step is always one rename on the disk.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::node::{Content, Ino, Time};
use super::space::Space;
use super::{Fs, FsError, is_local};
use crate::maildir::TreePath;
use crate::maildir::class::classify;

/// A copy of a file's bytes that waits for its name in the local tree. Removed again if it gets none.
#[derive(Debug)]
pub struct Staged {
    open: Arc<File>,
    path: Option<PathBuf>,
    version: u32,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

impl Fs {
    /// Makes the copy that a file needs to get a name in the local tree; `None` where it needs none. Without the lock.
    pub(super) fn stage(&self, ino: Ino) -> Result<Option<Staged>, FsError> {
        let version = {
            let space = self.space.lock();
            if self.brings_file(&space, ino)? {
                return Ok(None);
            }
            space.file(ino)?.version
        };
        let bytes = self.read_all(ino)?;
        let (file, path) = self.scratch_file()?;
        let staged = Staged {
            open: Arc::new(file),
            path: Some(path),
            version,
        };
        staged.open.write_all_at(&bytes, 0)?;
        Ok(Some(staged))
    }

    /// Whether a file has a plain file that its new name can have too.
    fn brings_file(&self, space: &Space, ino: Ino) -> Result<bool, FsError> {
        Ok(matches!(space.file(ino)?.content, Content::Scratch(..))
            || self.local_name(space, ino)?.is_some())
    }

    /// Whether [`Fs::enter_local`] has what it needs: if not, the file has changed since it was staged, or was not.
    pub(super) fn can_enter_local(
        &self,
        space: &Space,
        ino: Ino,
        staged: Option<&Staged>,
    ) -> Result<bool, FsError> {
        Ok(match staged {
            Some(staged) => staged.version == space.file(ino)?.version,
            None => self.brings_file(space, ino)?,
        })
    }

    /// Gives a file the name `new` in the local tree; what has it there is replaced on disk.
    pub(super) fn enter_local(
        &self,
        space: &mut Space,
        ino: Ino,
        new: &TreePath,
        staged: Option<Staged>,
    ) -> Result<(), FsError> {
        let mtime = space.node(ino)?.mtime;
        if let Some(known) = self.local_name(space, ino)? {
            let path = self.scratch_path();
            fs::hard_link(self.local.at(&known), &path)?;
            return Ok(self.local.place(&path, new)?);
        }
        let open = match (&space.file(ino)?.content, staged) {
            (Content::Scratch(open, path), _) => {
                self.local.place(path, new)?;
                Arc::clone(open)
            }
            (_, Some(mut staged)) => {
                if let Some(path) = &staged.path {
                    self.local.place(path, new)?;
                }
                staged.path = None;
                Arc::clone(&staged.open)
            }
            _ => return Err(FsError::Invalid),
        };
        set_mtime(&open, mtime)?;
        space.file_mut(ino)?.content = Content::Local(Some(open));
        Ok(())
    }

    /// Whether the file has a name in the local tree beside this one.
    pub(super) fn has_other_local_name(
        &self,
        space: &Space,
        ino: Ino,
        path: &TreePath,
    ) -> Result<bool, FsError> {
        for link in &space.file(ino)?.names {
            let other = space.path(link.parent)?.join(&link.name);
            if other != *path && is_local(classify(&other)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes a plain file's name away on disk. Who has the file open, or another name for it, goes on reading it.
    pub(super) fn leave_local(
        &self,
        space: &mut Space,
        ino: Ino,
        path: &TreePath,
    ) -> Result<(), FsError> {
        self.keep_open(space, ino, path)?;
        self.local.unlink(path)?;
        Ok(())
    }

    /// Opens a plain file that is about to lose the name `path`, if that is its last in the local tree.
    pub(super) fn keep_open(
        &self,
        space: &mut Space,
        ino: Ino,
        path: &TreePath,
    ) -> Result<(), FsError> {
        if matches!(space.file(ino)?.content, Content::Local(None))
            && !self.has_other_local_name(space, ino, path)?
        {
            let open = Arc::new(self.local.open(path)?);
            space.file_mut(ino)?.content = Content::Local(Some(open));
        }
        Ok(())
    }

    /// A plain file goes from `path` to scratch: its file becomes a scratch file, unless another name keeps it.
    pub(super) fn local_to_scratch(
        &self,
        space: &mut Space,
        ino: Ino,
        path: &TreePath,
    ) -> Result<(), FsError> {
        if self.has_other_local_name(space, ino, path)? {
            self.local.unlink(path)?;
            return Ok(());
        }
        self.keep_open(space, ino, path)?;
        let Content::Local(Some(open)) = &space.file(ino)?.content else {
            return Err(FsError::Invalid);
        };
        let scratch = self.scratch_path();
        fs::rename(self.local.at(path), &scratch)?;
        space.file_mut(ino)?.content = Content::Scratch(Arc::clone(open), scratch);
        Ok(())
    }
}

/// Sets a plain file's mtime, before the epoch too.
pub fn set_mtime(file: &File, (seconds, nanos): Time) -> std::io::Result<()> {
    let omit = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_OMIT,
    };
    let mtime = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanos.into(),
    };
    let times = rustix::fs::Timestamps {
        last_access: omit,
        last_modification: mtime,
    };
    Ok(rustix::fs::futimens(file, &times)?)
}
