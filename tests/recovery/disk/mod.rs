//! A disk that forgets: what a directory holds after the power was lost, told from the record of all that was done to it.
//!
//! [`recording`] is a filesystem that notes every change in order. [`Disk`] replays such a record up to any event and says
//! what could be found after a crash there. It is stricter than any filesystem in use:
//!
//! - **Data** written to a file is durable once that file was synced after the write. `fdatasync` and `fsync` are the same here, both
//!   bring the size. Of what was not synced, each sector of 512 bytes holds any version since the last sync, on its own, and the
//!   size is any since then.
//! - **Names** (create, mkdir, link, rename, unlink, rmdir) are durable once the *directory* was synced after the change. Syncing a file
//!   does not make its name durable, and syncing a directory does not make its parent's entry durable. Of the changes in one directory
//!   that were not synced, any number from the first on may have reached the disk; directories are independent of each other.
//! - A **rename** is atomic: within a directory it happened or did not, and between two directories it happened in both or in neither (so
//!   syncing one of them makes it durable in the other, with what was done there before).
//! - A file whose name is durable and whose data was never synced is **empty**, or any part of what was written.
//! - A sector is written whole or not at all, and what is synced stays: no bit rots.
//! - Modes, owners and times are not kept; permissions are not checked.
//!
//! Not simulated: a disk that acknowledges a sync and lies, and errors of the disk after the crash.

pub mod recording;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Number of an inode. Never reused.
pub type Ino = u64;

/// The directory that is mounted.
pub const ROOT: Ino = 1;

const SECTOR: usize = 512;

/// One change, as the kernel asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new file.
    Create {
        parent: Ino,
        name: OsString,
        ino: Ino,
    },
    /// A new directory.
    Mkdir {
        parent: Ino,
        name: OsString,
        ino: Ino,
    },
    /// A new symbolic link. Its target is durable with its name.
    Symlink {
        parent: Ino,
        name: OsString,
        ino: Ino,
        target: OsString,
    },
    /// One more name of a file.
    Link {
        parent: Ino,
        name: OsString,
        ino: Ino,
    },
    /// A file or directory moves, and replaces what is there.
    Rename {
        parent: Ino,
        name: OsString,
        to_parent: Ino,
        to_name: OsString,
    },
    /// A name of a file or an empty directory goes.
    Remove { parent: Ino, name: OsString },
    /// Bytes into a file.
    Write {
        ino: Ino,
        offset: u64,
        data: Vec<u8>,
    },
    /// A file's size is set (truncate, or fallocate that extends).
    Resize { ino: Ino, size: u64 },
    /// `fsync` or `fdatasync` of a file.
    Sync { ino: Ino },
    /// `fsync` of a directory.
    SyncDir { ino: Ino },
}

/// What reached the disk besides what was synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// Nothing.
    Strict,
    /// The first sectors of the last write; nothing else.
    Torn { sectors: usize },
    /// Everything, but of the last write only the first sectors.
    Kept { sectors: usize },
    /// Any of it, as the seed says.
    Random { seed: u64 },
}

impl Tear {
    /// Everything: the daemon was killed, and the disk lives on.
    pub const KILLED: Self = Self::Kept {
        sectors: usize::MAX,
    };
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Resize(usize),
}

/// A change of one directory's entries. Both halves of a rename between directories carry the same number.
#[derive(Clone, Debug)]
struct NameChange {
    number: usize,
    set: Option<(OsString, Ino)>,
    remove: Option<OsString>,
    /// The other directory of a rename.
    with: Option<Ino>,
}

#[derive(Clone, Debug)]
enum Inode {
    File {
        live: Vec<u8>,
        durable: Vec<u8>,
        pending: Vec<Change>,
    },
    Dir {
        live: BTreeMap<OsString, Ino>,
        durable: BTreeMap<OsString, Ino>,
        pending: Vec<NameChange>,
    },
    Link(OsString),
}

/// The disk after some events.
#[derive(Clone, Debug)]
pub struct Disk {
    inodes: BTreeMap<Ino, Inode>,
    events: usize,
    /// The file that the last event wrote.
    last_write: Option<Ino>,
}

/// What is found after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Image {
    /// A file's bytes.
    File(Vec<u8>),
    /// A directory's entries.
    Dir(BTreeMap<OsString, Image>),
    /// A symbolic link's target.
    Link(OsString),
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            inodes: BTreeMap::from([(ROOT, new_dir())]),
            events: 0,
            last_write: None,
        }
    }
}

fn new_dir() -> Inode {
    Inode::Dir {
        live: BTreeMap::new(),
        durable: BTreeMap::new(),
        pending: Vec::new(),
    }
}

impl Disk {
    /// Does what the next event says.
    pub fn apply(&mut self, event: &Event) {
        self.events += 1;
        self.last_write = None;
        match event {
            Event::Create { parent, name, ino } => {
                let file = Inode::File {
                    live: Vec::new(),
                    durable: Vec::new(),
                    pending: Vec::new(),
                };
                self.inodes.insert(*ino, file);
                self.rename_in(*parent, None, Some((name.clone(), *ino)), None);
            }
            Event::Mkdir { parent, name, ino } => {
                self.inodes.insert(*ino, new_dir());
                self.rename_in(*parent, None, Some((name.clone(), *ino)), None);
            }
            Event::Symlink {
                parent,
                name,
                ino,
                target,
            } => {
                self.inodes.insert(*ino, Inode::Link(target.clone()));
                self.rename_in(*parent, None, Some((name.clone(), *ino)), None);
            }
            Event::Link { parent, name, ino } => {
                self.rename_in(*parent, None, Some((name.clone(), *ino)), None);
            }
            Event::Remove { parent, name } => {
                self.rename_in(*parent, Some(name.clone()), None, None);
            }
            Event::Rename {
                parent,
                name,
                to_parent,
                to_name,
            } => {
                let ino = self.child(*parent, name).expect("it is there to be moved");
                let set = Some((to_name.clone(), ino));
                if parent == to_parent {
                    self.rename_in(*parent, Some(name.clone()), set, None);
                } else {
                    self.rename_in(*parent, Some(name.clone()), None, Some(*to_parent));
                    self.rename_in(*to_parent, None, set, Some(*parent));
                }
            }
            Event::Write { ino, offset, data } => {
                self.change(
                    *ino,
                    Change::Write {
                        offset: *offset as usize,
                        data: data.clone(),
                    },
                );
                self.last_write = Some(*ino);
            }
            Event::Resize { ino, size } => self.change(*ino, Change::Resize(*size as usize)),
            Event::Sync { ino } => {
                if let Some(Inode::File {
                    live,
                    durable,
                    pending,
                }) = self.inodes.get_mut(ino)
                {
                    durable.clone_from(live);
                    pending.clear();
                }
            }
            Event::SyncDir { ino } => {
                let all = self.pending(*ino).len();
                let cuts = self.close(BTreeMap::from([(*ino, all)]));
                for (ino, cut) in cuts {
                    if let Some(Inode::Dir {
                        durable, pending, ..
                    }) = self.inodes.get_mut(&ino)
                    {
                        for change in pending.drain(..cut) {
                            change.apply(durable);
                        }
                    }
                }
            }
        }
    }

    /// The live entry of a directory.
    pub fn child(&self, parent: Ino, name: &OsStr) -> Option<Ino> {
        self.entries(parent)?.get(name).copied()
    }

    /// The live entries of a directory; `None` for a file.
    pub fn entries(&self, ino: Ino) -> Option<&BTreeMap<OsString, Ino>> {
        match self.inodes.get(&ino)? {
            Inode::Dir { live, .. } => Some(live),
            _ => None,
        }
    }

    /// The live bytes of a file.
    pub fn content(&self, ino: Ino) -> Option<&[u8]> {
        match self.inodes.get(&ino)? {
            Inode::File { live, .. } => Some(live),
            _ => None,
        }
    }

    /// The target of a symbolic link.
    pub fn target(&self, ino: Ino) -> Option<&OsStr> {
        match self.inodes.get(&ino)? {
            Inode::Link(target) => Some(target),
            _ => None,
        }
    }

    fn pending(&self, ino: Ino) -> &[NameChange] {
        match self.inodes.get(&ino) {
            Some(Inode::Dir { pending, .. }) => pending,
            _ => &[],
        }
    }

    fn rename_in(
        &mut self,
        parent: Ino,
        remove: Option<OsString>,
        set: Option<(OsString, Ino)>,
        with: Option<Ino>,
    ) {
        let change = NameChange {
            number: self.events,
            set,
            remove,
            with,
        };
        if let Some(Inode::Dir { live, pending, .. }) = self.inodes.get_mut(&parent) {
            change.clone().apply(live);
            pending.push(change);
        }
    }

    fn change(&mut self, ino: Ino, change: Change) {
        if let Some(Inode::File { live, pending, .. }) = self.inodes.get_mut(&ino) {
            change.apply(live, |_| true);
            let size = change.size_after(live.len());
            live.resize(size, 0);
            pending.push(change);
        }
    }

    /// How many changes of each directory reached the disk, once renames between directories are atomic.
    fn close(&self, mut cuts: BTreeMap<Ino, usize>) -> BTreeMap<Ino, usize> {
        loop {
            let mut more = Vec::new();
            for (&ino, &cut) in &cuts {
                for change in &self.pending(ino)[..cut] {
                    let Some(other) = change.with else { continue };
                    let needed = self
                        .pending(other)
                        .iter()
                        .position(|half| half.number == change.number)
                        .map_or(0, |at| at + 1);
                    if cuts.get(&other).copied().unwrap_or(0) < needed {
                        more.push((other, needed));
                    }
                }
            }
            if more.is_empty() {
                return cuts;
            }
            for (ino, needed) in more {
                let cut = cuts.entry(ino).or_default();
                *cut = needed.max(*cut);
            }
        }
    }

    /// What is found after a crash now.
    pub fn image(&self, tear: Tear) -> Image {
        let mut cuts = BTreeMap::new();
        for (&ino, inode) in &self.inodes {
            if let Inode::Dir { pending, .. } = inode {
                let cut = match tear {
                    Tear::Strict | Tear::Torn { .. } => 0,
                    Tear::Kept { .. } => pending.len(),
                    Tear::Random { seed } => mix(seed, ino, 0) as usize % (pending.len() + 1),
                };
                cuts.insert(ino, cut);
            }
        }
        self.found(ROOT, tear, &self.close(cuts))
    }

    fn found(&self, ino: Ino, tear: Tear, cuts: &BTreeMap<Ino, usize>) -> Image {
        match &self.inodes[&ino] {
            Inode::Link(target) => Image::Link(target.clone()),
            Inode::Dir {
                durable, pending, ..
            } => {
                let mut entries = durable.clone();
                for change in &pending[..cuts[&ino]] {
                    change.clone().apply(&mut entries);
                }
                let found = |(name, child): (OsString, Ino)| (name, self.found(child, tear, cuts));
                Image::Dir(entries.into_iter().map(found).collect())
            }
            Inode::File {
                live,
                durable,
                pending,
            } => Image::File(match tear {
                Tear::Strict => durable.clone(),
                Tear::Torn { sectors } if self.last_write == Some(ino) => {
                    let last = pending.last().expect("the last write is pending");
                    torn(durable.clone(), last, sectors)
                }
                Tear::Torn { .. } => durable.clone(),
                Tear::Kept { sectors } if self.last_write == Some(ino) && sectors != usize::MAX => {
                    let (last, before) = pending.split_last().expect("the last write is pending");
                    let mut bytes = durable.clone();
                    for change in before {
                        change.apply(&mut bytes, |_| true);
                        let size = change.size_after(bytes.len());
                        bytes.resize(size, 0);
                    }
                    torn(bytes, last, sectors)
                }
                Tear::Kept { .. } => live.clone(),
                Tear::Random { seed } => random(durable, pending, |what| mix(seed, ino, what)),
            }),
        }
    }

    /// How many sectors the last event wrote; `None` where it was no write.
    pub fn last_sectors(&self) -> Option<usize> {
        match self.inodes.get(&self.last_write?)? {
            Inode::File { pending, .. } => match pending.last()? {
                Change::Write { offset, data } => {
                    Some((offset + data.len()).div_ceil(SECTOR) - offset / SECTOR)
                }
                Change::Resize(_) => None,
            },
            _ => None,
        }
    }
}

impl NameChange {
    fn apply(self, entries: &mut BTreeMap<OsString, Ino>) {
        if let Some(name) = self.remove {
            entries.remove(&name);
        }
        if let Some((name, ino)) = self.set {
            entries.insert(name, ino);
        }
    }
}

impl Change {
    /// Puts the sectors that `reached` names into `bytes`, which grows as needed and never shrinks.
    fn apply(&self, bytes: &mut Vec<u8>, mut reached: impl FnMut(usize) -> bool) {
        match self {
            Self::Write { offset, data } => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                let mut at = *offset;
                while at < end {
                    let next = ((at / SECTOR + 1) * SECTOR).min(end);
                    if reached(at / SECTOR) {
                        bytes[at..next].copy_from_slice(&data[at - offset..next - offset]);
                    }
                    at = next;
                }
            }
            Self::Resize(size) => {
                let mut at = *size;
                while at < bytes.len() {
                    let next = ((at / SECTOR + 1) * SECTOR).min(bytes.len());
                    if reached(at / SECTOR) {
                        bytes[at..next].fill(0);
                    }
                    at = next;
                }
            }
        }
    }

    fn size_after(&self, before: usize) -> usize {
        match self {
            Self::Write { offset, data } => before.max(offset + data.len()),
            Self::Resize(size) => *size,
        }
    }
}

/// The first sectors of one more write.
fn torn(mut bytes: Vec<u8>, last: &Change, sectors: usize) -> Vec<u8> {
    if let Change::Write { offset, data } = last {
        let first = offset / SECTOR;
        let end = ((first + sectors) * SECTOR).min(offset + data.len());
        let size = bytes.len().max(end);
        last.apply(&mut bytes, |sector| sector < first + sectors);
        bytes.truncate(size);
    }
    bytes
}

/// Any version of each sector, and of the size.
fn random(durable: &[u8], pending: &[Change], chance: impl Fn(u64) -> u64) -> Vec<u8> {
    let versions = pending.len() as u64 + 1;
    let mut bytes = durable.to_vec();
    let mut size = durable.len();
    let sized = chance(u64::MAX) % versions;
    for (version, change) in pending.iter().enumerate() {
        change.apply(&mut bytes, |sector| {
            (version as u64) < chance(sector as u64) % versions
        });
        if (version as u64) < sized {
            size = change.size_after(size);
        }
    }
    bytes.resize(size, 0);
    bytes
}

fn mix(seed: u64, ino: Ino, what: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, ino, what).hash(&mut hasher);
    hasher.finish()
}

impl Image {
    /// A number that differs where the content differs.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Writes it to a real directory, which must be absent or empty. Its files are a minute old: so long a machine takes to come back.
    pub fn materialise(&self, at: &Path) {
        match self {
            Self::File(bytes) => {
                let mut file = File::create(at).expect("created");
                file.write_all(bytes).expect("written");
                file.set_modified(SystemTime::now() - Duration::from_secs(60))
                    .expect("a time can be set");
            }
            Self::Link(target) => symlink(target, at).expect("linked"),
            Self::Dir(entries) => {
                fs::create_dir_all(at).expect("created");
                for (name, entry) in entries {
                    entry.materialise(&at.join(name));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> OsString {
        text.into()
    }

    fn create(parent: Ino, text: &str, ino: Ino) -> Event {
        Event::Create {
            parent,
            name: name(text),
            ino,
        }
    }

    fn write(ino: Ino, offset: u64, data: &[u8]) -> Event {
        Event::Write {
            ino,
            offset,
            data: data.to_vec(),
        }
    }

    fn rename(parent: Ino, from: &str, to_parent: Ino, to: &str) -> Event {
        Event::Rename {
            parent,
            name: name(from),
            to_parent,
            to_name: name(to),
        }
    }

    fn after(events: &[Event]) -> Disk {
        let mut disk = Disk::default();
        events.iter().for_each(|event| disk.apply(event));
        disk
    }

    fn dir(entries: &[(&str, Image)]) -> Image {
        Image::Dir(
            entries
                .iter()
                .map(|(text, image)| (name(text), image.clone()))
                .collect(),
        )
    }

    fn file(bytes: &[u8]) -> Image {
        Image::File(bytes.to_vec())
    }

    #[test]
    fn names_and_data_are_durable_apart() {
        let mut disk = after(&[
            create(ROOT, "a", 2),
            write(2, 0, b"x"),
            Event::Sync { ino: 2 },
        ]);
        assert_eq!(disk.image(Tear::Strict), dir(&[]));
        disk.apply(&Event::SyncDir { ino: ROOT });
        assert_eq!(disk.image(Tear::Strict), dir(&[("a", file(b"x"))]));
        let disk = after(&[
            create(ROOT, "a", 2),
            write(2, 0, b"x"),
            Event::SyncDir { ino: ROOT },
        ]);
        assert_eq!(disk.image(Tear::Strict), dir(&[("a", file(b""))]));
        assert_eq!(disk.image(Tear::KILLED), dir(&[("a", file(b"x"))]));
    }

    #[test]
    fn a_write_is_torn_between_sectors() {
        let mut disk = after(&[
            create(ROOT, "a", 2),
            write(2, 0, &[1; 1500]),
            Event::Sync { ino: 2 },
            Event::SyncDir { ino: ROOT },
        ]);
        assert_eq!(disk.last_sectors(), None);
        disk.apply(&write(2, 0, &[2; 100]));
        disk.apply(&write(2, 500, &[3; 1500]));
        assert_eq!(disk.last_sectors(), Some(4));
        let found = |tear| match disk.image(tear) {
            Image::Dir(entries) => match &entries[OsStr::new("a")] {
                Image::File(bytes) => bytes.clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        let mut expected = vec![1; 1500];
        assert_eq!(found(Tear::Strict), expected);
        expected[500..1024].fill(3);
        assert_eq!(found(Tear::Torn { sectors: 2 }), expected);
        expected[..100].fill(2);
        assert_eq!(found(Tear::Kept { sectors: 2 }), expected);
        expected.resize(2000, 0);
        expected[500..].fill(3);
        assert_eq!(found(Tear::KILLED), expected);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let bytes = found(Tear::Random { seed });
            for sector in bytes.chunks(SECTOR) {
                assert!(sector.len() <= SECTOR);
            }
            seen.insert(bytes);
        }
        assert!(seen.len() > 20, "only {} different", seen.len());
    }

    #[test]
    fn a_rename_replaces_at_once_or_not_at_all() {
        let disk = after(&[
            create(ROOT, "a", 2),
            create(ROOT, "b", 3),
            Event::SyncDir { ino: ROOT },
            rename(ROOT, "a", ROOT, "b"),
        ]);
        let before = dir(&[("a", file(b"")), ("b", file(b""))]);
        let behind = dir(&[("b", file(b""))]);
        assert_eq!(disk.image(Tear::Strict), before);
        for seed in 0..20 {
            let found = disk.image(Tear::Random { seed });
            assert!(found == before || found == behind, "{found:?}");
        }
    }

    #[test]
    fn a_rename_between_directories_is_in_both_or_in_neither() {
        let events = [
            Event::Mkdir {
                parent: ROOT,
                name: name("d"),
                ino: 2,
            },
            create(ROOT, "a", 3),
            Event::SyncDir { ino: ROOT },
            rename(ROOT, "a", 2, "b"),
        ];
        let before = dir(&[("a", file(b"")), ("d", dir(&[]))]);
        let behind = dir(&[("d", dir(&[("b", file(b""))]))]);
        let disk = after(&events);
        assert_eq!(disk.image(Tear::Strict), before);
        for seed in 0..20 {
            let found = disk.image(Tear::Random { seed });
            assert!(found == before || found == behind, "{found:?}");
        }
        for synced in [2, ROOT] {
            let mut disk = after(&events);
            disk.apply(&Event::SyncDir { ino: synced });
            assert_eq!(disk.image(Tear::Strict), behind);
        }
    }

    #[test]
    fn a_truncated_file_is_of_either_size() {
        let disk = after(&[
            create(ROOT, "a", 2),
            write(2, 0, &[1; 600]),
            Event::Sync { ino: 2 },
            Event::SyncDir { ino: ROOT },
            Event::Resize { ino: 2, size: 10 },
        ]);
        assert_eq!(disk.image(Tear::Strict), dir(&[("a", file(&[1; 600]))]));
        assert_eq!(disk.image(Tear::KILLED), dir(&[("a", file(&[1; 10]))]));
    }
}
