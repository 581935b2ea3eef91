//! Open directories: a listing as it was when it began, so that a message renamed meanwhile is listed exactly once.
//!
//! The snapshot is taken when reading begins, not by opendir: programs open a directory to sync it far more often than to list it.

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

/// An open directory.
struct Open {
    ino: Ino,
    /// The listing that is being read.
    snapshot: Option<Arc<Snapshot>>,
}

/// All open directories.
#[derive(Default)]
pub struct Handles {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Open>>,
}

impl Fs {
    /// Opens a directory.
    ///
    /// # Errors
    /// [`FsError::NotDir`], [`FsError::NotFound`].
    pub fn opendir(&self, ino: Ino) -> Result<u64, FsError> {
        self.space.lock().dir(ino)?;
        let handle = self.handles.next.fetch_add(1, Ordering::Relaxed) + 1;
        let open = Open {
            ino,
            snapshot: None,
        };
        self.handles.open.lock().insert(handle, open);
        Ok(handle)
    }

    fn snapshot(&self, ino: Ino) -> Result<Snapshot, FsError> {
        self.ensure_loaded(ino)?;
        let space = self.space.lock();
        let parent = space.dir(ino)?.parent;
        let listed = space.entries(ino)?;
        let is_new = &*space.dir(ino)?.name == b"new";
        let mut order = HashMap::new();
        let mut entries = Vec::with_capacity(listed.len() + 2);
        for (name, &child) in listed {
            let uid = if is_new {
                space.marks(child, ino, name).uid
            } else {
                0
            };
            if uid > 0 {
                order.insert(child, uid);
            }
            let kind = if space.is_dir(child)? {
                Kind::Dir
            } else {
                Kind::File
            };
            entries.push((Name::clone(name), child, kind));
        }
        drop(space);
        // Inode numbers grow in order of delivery, UIDs more exactly so.
        entries.sort_unstable_by_key(|(_, child, _)| {
            (order.get(child).copied().unwrap_or(u32::MAX), *child)
        });
        entries.insert(0, (Name::from(&b".."[..]), parent, Kind::Dir));
        entries.insert(0, (Name::from(&b"."[..]), ino, Kind::Dir));
        Ok(Snapshot { entries })
    }

    /// Gives entries from `offset` on to `each` until it answers `true` (full). At offset 0 the listing is taken anew: that is where reading begins,
    /// and where `rewinddir(3)` goes back to.
    ///
    /// # Errors
    /// A handle that is not open.
    pub fn readdir(
        &self,
        handle: u64,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        let (ino, taken) = match self.handles.open.lock().get(&handle) {
            Some(open) => (open.ino, open.snapshot.clone()),
            None => return Err(FsError::Invalid),
        };
        let snapshot = match taken {
            Some(snapshot) if offset != 0 => snapshot,
            _ => {
                let snapshot = Arc::new(self.snapshot(ino)?);
                if let Some(open) = self.handles.open.lock().get_mut(&handle) {
                    open.snapshot = Some(Arc::clone(&snapshot));
                }
                snapshot
            }
        };
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
