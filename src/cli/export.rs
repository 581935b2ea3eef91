//! `mailbraid export STORE REV DIR`: a plain Maildir as of any revision or date.
//!
//! Reads the repository alone, so it works while the store is mounted. Messages keep flags and mtime; an interrupted export is run again
//! into a new directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use indicatif::ProgressBar;

use crate::history::{HistoryError, Reader, Repo};
use crate::maildir::{Attrs, Oid};
use crate::store::EntryKind;

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The target exists and holds something.
    #[error("{0}: exists and is not empty; name a new directory")]
    NotEmpty(PathBuf),
    /// The repository.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The target's disk.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Files and directories written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Exported {
    /// Files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
}

/// Writes the tree of `rev` (any git revision, or a date) to `dir`, which must be empty or absent. Synced when it returns.
///
/// # Errors
/// See [`ExportError`].
pub fn export(
    repo: &Repo,
    rev: &str,
    dir: &Path,
    progress: &ProgressBar,
) -> Result<Exported, ExportError> {
    let io_at = |path: &Path| {
        let path = path.to_owned();
        move |source| ExportError::Io { path, source }
    };
    let commit = repo.resolve(rev)?;
    match fs::read_dir(dir) {
        Ok(mut listing) => {
            if listing.next().is_some() {
                return Err(ExportError::NotEmpty(dir.to_owned()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(dir).map_err(io_at(dir))?;
        }
        Err(error) => return Err(io_at(dir)(error)),
    }
    let reader = repo.reader();
    let tree = reader.commit(commit)?.tree;
    let mut done = Exported::default();
    directory(&reader, tree, dir, progress, &mut done)?;
    // One sync for all files: an fsync each would take longer than the copy.
    let top = File::open(dir).map_err(io_at(dir))?;
    rustix::fs::syncfs(&top).map_err(|error| io_at(dir)(error.into()))?;
    Ok(done)
}

fn directory(
    reader: &Reader,
    tree: Oid,
    dir: &Path,
    progress: &ProgressBar,
    done: &mut Exported,
) -> Result<(), ExportError> {
    for entry in reader.dir(tree)? {
        let path = dir.join(std::ffi::OsStr::from_bytes(&entry.name));
        match &entry.kind {
            EntryKind::Dir => {
                fs::create_dir(&path).map_err(|source| ExportError::Io {
                    path: path.clone(),
                    source,
                })?;
                done.directories += 1;
                directory(reader, entry.oid, &path, progress, done)?;
            }
            EntryKind::File(attrs) => {
                let content = reader.blob(entry.oid)?;
                file(&path, &content, attrs).map_err(|source| ExportError::Io {
                    path: path.clone(),
                    source,
                })?;
                done.files += 1;
                progress.inc(1);
            }
        }
    }
    Ok(())
}

fn file(path: &Path, content: &[u8], attrs: &Attrs) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(content)?;
    file.set_modified(time(attrs.mtime))
}

/// A message's time as the system knows it; `seconds` since the epoch, or before it.
pub(super) fn time(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        SystemTime::UNIX_EPOCH - since
    } else {
        SystemTime::UNIX_EPOCH + since
    }
}
