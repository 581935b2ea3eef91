//! Listing directories: every message exactly once, whatever is renamed meanwhile.
//!
//! The kernel opens directories without asking, as it opens files: so there is no handle to hang a snapshot on, and a READDIR says only which directory
//! and after which entry to go on. Rules:
//!
//! - **An entry's place is its inode's number.** It stays when a message is renamed within its directory, so a listing that is read in pieces shows it
//!   once, under one of its names. Numbers grow in order of delivery. In `new`, where servers go by the order, a message that has a UID
//!   when it is first listed has its place by that, and keeps it.
//! - Two names of one inode in one directory stand beside each other, told apart by the lowest bits of their place.
//! - A listing is sorted once and kept while it is read on; one that begins anew is taken anew where the directory has changed.
//! - The kernel keeps what it read (`FOPEN_CACHE_DIR`, its default where opens are free) until the directory changes through it, or a
//!   braid's invalidation reaches it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::node::{Ino, Kind};
use super::space::Space;
use super::{Fs, FsError};
use crate::limits;

/// One entry for the kernel.
#[derive(Clone, Debug)]
pub struct DirEntry<'a> {
    /// Inode number.
    pub ino: Ino,
    /// Directory or file.
    pub kind: Kind,
    /// Its name.
    pub name: &'a [u8],
    /// Its place: what the next call names to go on behind it.
    pub place: u64,
}

/// Bits of a place that tell names of one inode apart.
const NAME_BITS: u32 = 4;

/// Places of messages in `new` without a UID are above those of all UIDs.
const NO_UID: u64 = 1 << 40;

/// Places of `.` and `..`, below those of all UIDs and inodes.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

/// A directory as it was at some moment.
#[derive(Debug)]
struct Listed {
    dir: Ino,
    /// The directory's count of changes then.
    changes: u64,
    parent: Ino,
    names: Vec<u8>,
    /// By place, ascending.
    entries: Vec<Row>,
}

/// An entry of it.
#[derive(Debug)]
struct Row {
    place: u64,
    ino: Ino,
    kind: Kind,
    /// Where its name is among the names.
    start: usize,
    end: usize,
}

impl Listed {
    fn name(&self, row: &Row) -> &[u8] {
        &self.names[row.start..row.end]
    }
}

/// The listings read last.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Arc<Listed>>>);

impl Recent {
    fn find(&self, dir: Ino) -> Option<Arc<Listed>> {
        let recent = self.0.lock();
        recent.iter().find(|listed| listed.dir == dir).cloned()
    }

    fn keep(&self, listed: &Arc<Listed>) {
        let mut recent = self.0.lock();
        recent.retain(|other| other.dir != listed.dir);
        recent.push_front(Arc::clone(listed));
        recent.truncate(limits::LISTINGS_KEPT);
    }

    fn forget(&self, dir: Ino) {
        self.0.lock().retain(|listed| listed.dir != dir);
    }
}

impl Fs {
    /// Gives the entries of a directory that stand behind `place` to `each` until it answers `true` (full: that entry was not taken). Place 0
    /// is the beginning: `.` and `..`, then in order of delivery.
    ///
    /// # Errors
    /// [`FsError::NotDir`], [`FsError::NotFound`].
    pub fn readdir(
        &self,
        dir: Ino,
        place: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        let listed = self.listed(dir, place == 0)?;
        let dots: [(u64, &[u8], Ino); 2] =
            [(DOT, b".", listed.dir), (DOT_DOT, b"..", listed.parent)];
        for (at, name, ino) in dots {
            let entry = DirEntry {
                ino,
                kind: Kind::Dir,
                name,
                place: at,
            };
            if place < at && each(&entry) {
                return Ok(());
            }
        }
        let from = listed.entries.partition_point(|row| row.place <= place);
        for row in &listed.entries[from..] {
            let full = each(&DirEntry {
                ino: row.ino,
                kind: row.kind,
                name: listed.name(row),
                place: row.place,
            });
            if full {
                return Ok(());
            }
        }
        if from == listed.entries.len() {
            // Whoever read it knows now that there is no more. Another reader, if there is one, has it sorted again.
            self.recent.forget(dir);
        }
        Ok(())
    }

    fn listed(&self, dir: Ino, anew: bool) -> Result<Arc<Listed>, FsError> {
        self.ensure_loaded(dir)?;
        let known = self.recent.find(dir);
        let mut space = self.space.lock();
        let body = space.dir(dir)?;
        let (parent, changes) = (body.parent, body.changes);
        if let Some(known) = known
            && (!anew || known.changes == changes)
        {
            return Ok(known);
        }
        let is_new = &*body.name == b"new";
        let found = space.entries(dir)?;
        let mut names = Vec::with_capacity(found.iter().map(|(name, _)| name.len()).sum());
        let mut entries = Vec::with_capacity(found.len());
        for (name, ino) in found.iter() {
            let kind = if space.is_dir(ino)? {
                Kind::Dir
            } else {
                Kind::File
            };
            let start = names.len();
            names.extend_from_slice(name);
            entries.push(Row {
                place: ino << NAME_BITS,
                ino,
                kind,
                start,
                end: names.len(),
            });
        }
        if is_new {
            for row in &mut entries {
                let name = &names[row.start..row.end];
                row.place = place_in_new(&mut space, row.ino, dir, name) << NAME_BITS;
            }
        }
        drop(space);
        let name = |row: &Row| &names[row.start..row.end];
        entries.sort_unstable_by(|a, b| (a.place, name(a)).cmp(&(b.place, name(b))));
        for at in 1..entries.len() {
            let before = entries[at - 1].place;
            // More names of one number in one directory than the bits count share the last place.
            if before >> NAME_BITS == entries[at].place >> NAME_BITS {
                let last = entries[at].place | ((1 << NAME_BITS) - 1);
                entries[at].place = (before + 1).min(last);
            }
        }
        let listed = Arc::new(Listed {
            dir,
            changes,
            parent,
            names,
            entries,
        });
        self.recent.keep(&listed);
        Ok(listed)
    }
}

/// The number of a message in `new`. It stays when the message is given a UID later: a listing that has gone past would miss the message.
fn place_in_new(space: &mut Space, child: Ino, dir: Ino, name: &[u8]) -> u64 {
    let uid = space.marks(child, dir, name).uid;
    let number = if uid == 0 { NO_UID + child } else { uid.into() };
    let Ok(file) = space.file_mut(child) else {
        return number;
    };
    if file.listed.0 != dir {
        file.listed = (dir, number);
    }
    file.listed.1
}
