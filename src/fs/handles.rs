//! Open directories: a listing as it was when it was opened, so that a message renamed meanwhile is listed exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::node::{Ino, Kind, Name};
use super::{Fs, FsError};

/// One entry for the kernel.
#[derive(Clone, Debug)]
pub struct DirEntry<'a> {
    /// Inode number.
    pub ino: Ino,
    /// Directory or file.
    pub kind: Kind,
    /// Its name.
    pub name: &'a [u8],
    /// Where the next call begins.
    pub next: u64,
}

struct Snapshot {
    entries: Vec<(Name, Ino, Kind)>,
}

/// All open directories.
#[derive(Default)]
pub struct Handles {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Snapshot>>>,
}

impl Fs {
    /// Opens a directory and takes the snapshot.
    ///
    /// # Errors
    /// [`FsError::NotDir`], [`FsError::NotFound`].
    pub fn opendir(&self, ino: Ino) -> Result<u64, FsError> {
        let snapshot = self.snapshot(ino)?;
        let handle = self.handles.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.handles.open.lock().insert(handle, Arc::new(snapshot));
        Ok(handle)
    }

    fn snapshot(&self, ino: Ino) -> Result<Snapshot, FsError> {
        self.ensure_loaded(ino)?;
        let space = self.space.lock();
        let parent = space.dir(ino)?.parent;
        let listed = space.entries(ino)?;
        let mut entries = Vec::with_capacity(listed.len() + 2);
        for (name, &child) in listed {
            let kind = if space.is_dir(child)? {
                Kind::Dir
            } else {
                Kind::File
            };
            entries.push((Name::clone(name), child, kind));
        }
        drop(space);
        // Inode numbers grow in order of delivery.
        entries.sort_unstable_by_key(|(_, child, _)| *child);
        entries.insert(0, (Name::from(&b".."[..]), parent, Kind::Dir));
        entries.insert(0, (Name::from(&b"."[..]), ino, Kind::Dir));
        Ok(Snapshot { entries })
    }

    /// Gives entries from `offset` on to `each` until it answers `true` (full). From offset 0 the listing is taken anew, as `rewinddir(3)` asks,
    /// unless it was just opened.
    ///
    /// # Errors
    /// A handle that is not open.
    pub fn readdir(
        &self,
        handle: u64,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        let snapshot = self
            .handles
            .open
            .lock()
            .get(&handle)
            .cloned()
            .ok_or(FsError::Invalid)?;
        let from = usize::try_from(offset).map_err(|_| FsError::Invalid)?;
        for (at, (name, ino, kind)) in snapshot.entries.iter().enumerate().skip(from) {
            let full = each(&DirEntry {
                ino: *ino,
                kind: *kind,
                name,
                next: at as u64 + 1,
            });
            if full {
                break;
            }
        }
        Ok(())
    }

    /// Closes it.
    pub fn releasedir(&self, handle: u64) {
        self.handles.open.lock().remove(&handle);
    }
}
