//! The bytes of files: reading from wherever they are, writing, and sealing them into a blob.
//!
//! | content | when | written to |
//! |---|---|---|
//! | memory | scratch and files being changed, up to [`limits::SCRATCH_MEMORY`] | in place |
//! | scratch file | the same, larger | in place |
//! | spilled | sealed, larger than a record takes, until committed | copied to memory or a scratch file first |
//! | pending | sealed, in a journal record, until committed | copied first |
//! | blob | committed | copied first |
//! | local | server-local | in place |
//!
//! Sealing computes the blob id and, for large content, syncs the spilled file. It is done without the namespace lock; whoever then takes the lock
//! compares the version.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::Fs;
use super::error::FsError;
use super::node::{Content, Ino};
use crate::limits;
use crate::maildir::{self, Oid};
use crate::turns;

/// A file's content made ready for a record.
#[derive(Debug)]
pub struct Sealed {
    /// The blob.
    pub oid: Oid,
    /// How the record brings it.
    pub content: maildir::Content,
    /// The content the inode has from then on (it gets its number with the record).
    pub then: Option<Content>,
    /// The inode's version that was sealed.
    pub version: u32,
}

impl Fs {
    /// Up to `size` bytes from `offset`; fewer at the end of the file.
    ///
    /// # Errors
    /// Where the inode is gone or its bytes cannot be read.
    pub fn read(&self, ino: Ino, offset: u64, size: usize) -> Result<Vec<u8>, FsError> {
        loop {
            let (content, oid) = {
                let space = self.space.lock();
                let file = space.file(ino)?;
                (file.content.clone(), file.oid)
            };
            return match content {
                Content::Memory(bytes) => Ok(slice(&bytes, offset, size)),
                Content::Scratch(file, _) | Content::Spilled(file, _) => {
                    turns::wait(|| read_file(&file, offset, size))
                }
                Content::Local(Some(file)) => read_file(&file, offset, size),
                Content::Local(None) => {
                    let open = self.open_local(ino)?;
                    read_file(&open, offset, size)
                }
                Content::Pending(seq) => match self.backing.read_pending(seq) {
                    Ok(bytes) => Ok(slice(&bytes, offset, size)),
                    // Committed meanwhile: the inode says so now.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        let space = self.space.lock();
                        if matches!(space.file(ino)?.content, Content::Pending(still) if still == seq)
                        {
                            return Err(FsError::Io(error));
                        }
                        continue;
                    }
                    Err(error) => Err(error.into()),
                },
                Content::Blob => {
                    let oid = oid.ok_or(FsError::Invalid)?;
                    Ok(slice(&self.blob(oid)?, offset, size))
                }
            };
        }
    }

    /// All bytes of a file.
    pub(super) fn read_all(&self, ino: Ino) -> Result<Vec<u8>, FsError> {
        let size = self.stat(ino)?.size;
        self.read(
            ino,
            0,
            usize::try_from(size).map_err(|_| FsError::TooLarge)?,
        )
    }

    fn blob(&self, oid: Oid) -> Result<Arc<Vec<u8>>, FsError> {
        if let Some(found) = self.blobs.lock().get(oid) {
            return Ok(found);
        }
        let bytes = Arc::new(self.backing.read_blob(oid)?);
        self.blobs.lock().put(oid, Arc::clone(&bytes));
        Ok(bytes)
    }

    /// The open file of server-local content.
    pub(super) fn open_local(&self, ino: Ino) -> Result<Arc<File>, FsError> {
        let mut space = self.space.lock();
        let file = space.file(ino)?;
        if let Content::Local(Some(open)) = &file.content {
            return Ok(Arc::clone(open));
        }
        let path = self.local_name(&space, ino)?.ok_or(FsError::NotFound)?;
        let open = Arc::new(self.local.open(&path)?);
        space.file_mut(ino)?.content = Content::Local(Some(Arc::clone(&open)));
        Ok(open)
    }

    /// Writes `data` at `offset`.
    ///
    /// # Errors
    /// [`FsError::NoSpace`] on a full disk, [`FsError::TooLarge`].
    pub fn write(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<(), FsError> {
        self.writable()?;
        let end = offset + data.len() as u64;
        if end > limits::MESSAGE_MAX {
            return Err(FsError::TooLarge);
        }
        self.own_content(ino, end)?;
        let mut space = self.space.lock();
        let now = super::node::now();
        let node = space.node_mut(ino)?;
        node.mtime = now;
        node.ctime = now;
        let file = space.file_mut(ino)?;
        match &mut file.content {
            Content::Memory(bytes) => {
                let bytes = Arc::make_mut(bytes);
                let (from, to) = (offset as usize, end as usize);
                if bytes.len() < to {
                    bytes.resize(to, 0);
                }
                bytes[from..to].copy_from_slice(data);
            }
            Content::Scratch(open, _) | Content::Local(Some(open)) => {
                open.write_all_at(data, offset)?;
            }
            // Sealed between the two locks by a rename: the next try owns it anew.
            _ => {
                drop(space);
                return self.write(ino, offset, data);
            }
        }
        file.size = file.size.max(end);
        Self::wrote(&mut space, ino, offset);
        self.touched(&mut space, ino)?;
        Ok(())
    }

    /// Sets the size.
    pub(super) fn truncate(&self, ino: Ino, size: u64) -> Result<(), FsError> {
        self.writable()?;
        if size > limits::MESSAGE_MAX {
            return Err(FsError::TooLarge);
        }
        self.own_content(ino, size)?;
        let mut space = self.space.lock();
        let file = space.file_mut(ino)?;
        match &mut file.content {
            Content::Memory(bytes) => Arc::make_mut(bytes).resize(size as usize, 0),
            Content::Scratch(open, _) | Content::Local(Some(open)) => open.set_len(size)?,
            _ => {
                drop(space);
                return self.truncate(ino, size);
            }
        }
        let kept = file.size.min(size);
        file.size = size;
        Self::wrote(&mut space, ino, kept);
        let now = super::node::now();
        let node = space.node_mut(ino)?;
        node.mtime = now;
        node.ctime = now;
        self.touched(&mut space, ino)?;
        Ok(())
    }

    /// Notes a change of content.
    fn touched(&self, space: &mut super::space::Space, ino: Ino) -> Result<(), FsError> {
        let committed = self.has_committed_name(space, ino)?;
        let file = space.file_mut(ino)?;
        file.version = file.version.wrapping_add(1);
        file.oid = None;
        if committed && !file.dirty {
            file.dirty = true;
            space.dirty.push(ino);
        }
        Ok(())
    }

    /// Makes the content one that can be written in place, with room for `end` bytes.
    fn own_content(&self, ino: Ino, end: u64) -> Result<(), FsError> {
        loop {
            let (content, size, version) = {
                let space = self.space.lock();
                let file = space.file(ino)?;
                (file.content.clone(), file.size, file.version)
            };
            let large = end.max(size) > limits::SCRATCH_MEMORY;
            if end > size && !matches!(content, Content::Local(_)) {
                self.check_room(end, matches!(content, Content::Scratch(..)).then_some(size))?;
            }
            let bytes = match content {
                Content::Memory(_) if !large => return Ok(()),
                Content::Scratch(..) | Content::Local(Some(_)) => return Ok(()),
                Content::Local(None) => {
                    self.open_local(ino)?;
                    return Ok(());
                }
                Content::Memory(bytes) => bytes,
                _ => Arc::new(self.read_all(ino)?),
            };
            let owned = if large {
                let (file, path) = self.scratch_file()?;
                file.write_all_at(&bytes, 0)?;
                Content::Scratch(Arc::new(file), path)
            } else {
                Content::Memory(bytes)
            };
            let mut space = self.space.lock();
            let file = space.file_mut(ino)?;
            if file.version == version {
                file.content = owned;
                file.version = file.version.wrapping_add(1);
                return Ok(());
            }
            if let Content::Scratch(_, path) = owned {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// A fresh path for a scratch file.
    pub(super) fn scratch_path(&self) -> PathBuf {
        let number = self
            .scratch_files
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.backing.spill_dir().join(format!("scratch-{number}"))
    }

    pub(super) fn scratch_file(&self) -> Result<(File, PathBuf), FsError> {
        let path = self.scratch_path();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        Ok((file, path))
    }

    /// Makes a file's content ready for a record. Without the lock.
    pub(super) fn seal(&self, ino: Ino) -> Result<Sealed, FsError> {
        self.backing.wait_room();
        let (content, oid, version) = {
            let space = self.space.lock();
            let file = space.file(ino)?;
            (file.content.clone(), file.oid, file.version)
        };
        let sealed = |oid, content, then| Sealed {
            oid,
            content,
            then,
            version,
        };
        let bytes = match (content, oid) {
            (Content::Blob | Content::Pending(_), Some(oid)) => {
                return Ok(sealed(oid, maildir::Content::Existing, None));
            }
            (Content::Spilled(..), Some(oid)) => {
                return Ok(sealed(oid, maildir::Content::Existing, None));
            }
            (Content::Memory(bytes), _) => {
                self.check_room(bytes.len() as u64, None)?;
                bytes
            }
            _ => {
                let bytes = Arc::new(self.read_all(ino)?);
                let size = bytes.len() as u64;
                self.check_room(size, Some(size))?;
                bytes
            }
        };
        if bytes.len() <= limits::INLINE_MAX {
            let oid = self.backing.hash(&bytes);
            return Ok(sealed(oid, maildir::Content::Inline(bytes.to_vec()), None));
        }
        let (oid, file) = turns::wait(|| self.spill(&bytes))?;
        Ok(sealed(
            oid,
            maildir::Content::Spilled,
            Some(Content::Spilled(Arc::new(file), 0)),
        ))
    }

    /// Writes content to the file of its blob's id, durably.
    fn spill(&self, bytes: &[u8]) -> Result<(Oid, File), FsError> {
        let oid = self.backing.hash(bytes);
        let (file, path) = self.scratch_file()?;
        let written = file
            .write_all_at(bytes, 0)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&path, self.backing.spill_dir().join(oid.to_string())))
            .and_then(|()| File::open(self.backing.spill_dir())?.sync_all());
        if let Err(error) = written {
            let _ = fs::remove_file(&path);
            return Err(error.into());
        }
        Ok((oid, file))
    }

    /// Refuses content of `size` bytes, of which `written` are in a scratch file if it has one, that the disk has no room for, so that a writer hears of it
    /// before the rename. It needs room for its record (or its spilled file) and again for its commit; and nothing may take the room from what waits for
    /// its commit: a store that cannot commit what it acknowledged could not be mounted again either.
    fn check_room(&self, size: u64, written: Option<u64>) -> Result<(), FsError> {
        let scratch = written.map_or(0, |written| size.saturating_sub(written));
        let needed = 2 * size + scratch + self.backing.backlog() + limits::ROOM_KEPT;
        if !self.room.has(self.backing.spill_dir(), needed)? {
            return Err(FsError::NoSpace);
        }
        Ok(())
    }
}

fn slice(bytes: &[u8], offset: u64, size: usize) -> Vec<u8> {
    let from = usize::try_from(offset)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    let to = from.saturating_add(size).min(bytes.len());
    bytes[from..to].to_vec()
}

fn read_file(file: &File, offset: u64, size: usize) -> Result<Vec<u8>, FsError> {
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while filled < size {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
