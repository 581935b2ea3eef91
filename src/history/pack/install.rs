//! How a pack comes into `objects/pack`.
//!
//! 1. `mailbraid-*.tmp` is written and synced (not `tmp_*`: `git prune` removes those while they are written), its index too;
//! 2. `pack-X.keep`, so that a `git repack -ad` which starts between here and the ref's update does not take the pack for garbage;
//! 3. both are renamed, the index last: readers look for indices, so they see whole packs only;
//! 4. the directory is synced.
//!
//! A peer's pack is written elsewhere ([`crate::history::incoming`]) and comes in the same way from there: synced, then 2 to 4 ([`move_in`]).
//!
//! After the ref is updated the `.keep` goes. A process killed before leaves pack and `.keep` behind: objects nothing refers to, and
//! the operations that made them come again from the journal, or from the peer. [`leftovers`] finds them; they are released once a later ref is set, because
//! the new commits may have found their blobs "already there" in them. (One of a `serve` that is about to set its ref is released early then. Only a `git repack` at that very
//! moment would make something of it.)

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::encode::{self, Packed};
use super::index;
use crate::history::hash::Checksum;
use crate::history::{HistoryError, durable};
use crate::maildir::HashKind;

/// Content of our `.keep` files, by which we know them.
const KEEP: &[u8] = b"mailbraid: not referenced yet\n";

/// A pack being written to a temporary file.
pub(in crate::history) struct PackFile {
    dir: PathBuf,
    kind: HashKind,
    temporary: Temporary,
    out: BufWriter<File>,
    sum: Checksum,
    at: u64,
    modified: Option<SystemTime>,
}

/// A pack that is in place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::history) struct Installed {
    /// Without extension.
    pub(in crate::history) stem: PathBuf,
    /// Size of pack and index in bytes.
    pub(in crate::history) bytes: u64,
}

struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Absent after success; should removal fail, `leftovers` removes it at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

impl Temporary {
    fn new(dir: &Path) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(dir.join(format!("mailbraid-{}-{number}.tmp", std::process::id())))
    }
}

impl PackFile {
    /// Begins a pack of `count` objects.
    pub(in crate::history) fn create(
        dir: &Path,
        kind: HashKind,
        count: u32,
    ) -> Result<Self, HistoryError> {
        let temporary = Temporary::new(dir);
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&temporary.0)
            .map_err(HistoryError::io("create", &temporary.0))?;
        let mut pack = Self {
            dir: dir.to_path_buf(),
            kind,
            temporary,
            out: BufWriter::with_capacity(1 << 16, file),
            sum: Checksum::new(kind),
            at: 0,
            modified: None,
        };
        pack.write(&encode::header(count))?;
        Ok(pack)
    }

    /// How old the pack says it is: git looks at the youngest first.
    pub(in crate::history) fn set_modified(&mut self, time: SystemTime) {
        self.modified = Some(time);
    }

    /// Where the next byte goes.
    pub(in crate::history) fn at(&self) -> u64 {
        self.at
    }

    /// Appends bytes.
    pub(in crate::history) fn write(&mut self, bytes: &[u8]) -> Result<(), HistoryError> {
        self.sum.update(bytes);
        self.at += bytes.len() as u64;
        self.out
            .write_all(bytes)
            .map_err(HistoryError::io("write", &self.temporary.0))
    }

    /// Syncs the pack and puts it in place with its index; with `keep`, a `.keep` file beside it. Durable when it returns.
    pub(in crate::history) fn install(
        mut self,
        entries: &mut [Packed],
        keep: bool,
    ) -> Result<Installed, HistoryError> {
        let sum = std::mem::replace(&mut self.sum, Checksum::new(self.kind)).finish();
        let failed = HistoryError::io("write", &self.temporary.0);
        self.out
            .write_all(sum.as_bytes())
            .and_then(|()| self.out.flush())
            .and_then(|()| match self.modified {
                Some(time) => self.out.get_ref().set_modified(time),
                None => Ok(()),
            })
            .and_then(|()| self.out.get_ref().sync_data())
            .map_err(failed)?;
        let pack_len = self.at + sum.as_bytes().len() as u64;
        let text = index::encode(self.kind, entries, sum);
        let index = Temporary::new(&self.dir);
        durable::write_new(&index.0, &text, 0o444)?;
        let stem = self.dir.join(format!("pack-{sum}"));
        let keep_path = stem.with_extension("keep");
        let rename = |from: &Path, ext: &str| {
            fs::rename(from, stem.with_extension(ext)).map_err(HistoryError::io("rename", from))
        };
        if keep {
            fs::write(&keep_path, KEEP).map_err(HistoryError::io("write", &keep_path))?;
        }
        rename(&self.temporary.0, "pack")?;
        rename(&index.0, "idx")?;
        durable::sync_dir(&self.dir)?;
        Ok(Installed {
            stem,
            bytes: pack_len + text.len() as u64,
        })
    }
}

/// A `.keep` of ours, which goes with this.
#[derive(Debug)]
pub(in crate::history) struct Keep(PathBuf);

impl Drop for Keep {
    fn drop(&mut self) {
        // Left behind, it is found by `leftovers`.
        let _ = fs::remove_file(&self.0);
    }
}

/// Moves a pack and its index, whose path without extension is `from`, into `dir`. Durable when it returns. Where they have a `.keep` already, it is
/// somebody else's, and `None` is returned.
pub(in crate::history) fn move_in(from: &Path, dir: &Path) -> Result<Option<Keep>, HistoryError> {
    let now = SystemTime::now();
    for ext in ["pack", "idx"] {
        let path = from.with_extension(ext);
        let synced = File::open(&path).and_then(|file| {
            // A pack that is older than its name is one that maintenance has made.
            file.set_modified(now)?;
            file.sync_all()
        });
        synced.map_err(HistoryError::io("sync", &path))?;
    }
    let stem = dir.join(from.file_name().unwrap_or_default());
    let path = |ext| stem.with_extension(ext);
    let keep = path("keep");
    let kept = match File::options().write(true).create_new(true).open(&keep) {
        Ok(mut file) => {
            let kept = Keep(keep.clone());
            file.write_all(KEEP)
                .map_err(HistoryError::io("write", &keep))?;
            Some(kept)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
        Err(error) => return Err(HistoryError::io("write", &keep)(error)),
    };
    // A name is the checksum of what is in the pack. What is there whole stays; half of one was left by a kill, or another process is at this point too.
    if !(path("pack").exists() && path("idx").exists()) {
        for ext in ["pack", "idx"] {
            let from = from.with_extension(ext);
            fs::rename(&from, path(ext)).map_err(HistoryError::io("rename", &from))?;
        }
        // Or maintenance was removing one whose objects are in another pack, and took ours with it. Without it the index would promise what is not there.
        if !path("pack").exists() {
            let _ = fs::remove_file(path("idx"));
        }
    }
    durable::sync_dir(dir)?;
    Ok(kept)
}

/// Lets maintenance and git treat the pack as any other.
pub(in crate::history) fn release(stem: &Path) -> Result<(), HistoryError> {
    let path = stem.with_extension("keep");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(HistoryError::io("remove", &path)(error))
        }
        _ => Ok(()),
    }
}

/// What a previous process left: removes temporary files, returns the packs that wait for a ref. Only the daemon calls it, holding
/// the store's lock.
pub(in crate::history) fn leftovers(dir: &Path) -> Result<Vec<PathBuf>, HistoryError> {
    let mut waiting = Vec::new();
    for entry in fs::read_dir(dir).map_err(HistoryError::io("list", dir))? {
        let path = entry.map_err(HistoryError::io("list", dir))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.starts_with("mailbraid-") && name.ends_with(".tmp") {
            fs::remove_file(&path).map_err(HistoryError::io("remove", &path))?;
        } else if name.ends_with(".keep") && fs::read(&path).is_ok_and(|text| text == KEEP) {
            waiting.push(path.with_extension(""));
        }
    }
    Ok(waiting)
}

/// Installs a pack whose entries (all after the header) are in memory, with a `.keep`.
pub(in crate::history) fn install_bytes(
    dir: &Path,
    kind: HashKind,
    body: &[u8],
    entries: &mut [Packed],
) -> Result<Installed, HistoryError> {
    let mut pack = PackFile::create(dir, kind, entries.len() as u32)?;
    pack.write(body)?;
    pack.install(entries, true)
}
