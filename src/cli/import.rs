//! `mailbraid import MAILDIR DEST`: brings a Maildir into a mounted store.
//!
//! Files go through the mount as any program's would: each is written in `tmp/`, gets its mtime, and is renamed to its place, so an interruption
//! leaves whole messages alone. Run again, it goes on where it stopped: a file that is there with the same size and mtime is passed over.
//! Several threads copy, because many deliveries share one sync of the journal. What a server recomputes on its own (indexes, locks)
//! stays behind; what it must keep (UIDs, keywords, subscriptions) comes last, when the messages it speaks of are there.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use indicatif::ProgressBar;
use parking_lot::Mutex;

use crate::limits;
use crate::maildir::class::{PathClass, classify, classify_dir};
use crate::maildir::{TreePath, name};

/// Why an import ended early.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source is no directory.
    #[error("{0}: no such directory; name the Maildir to import")]
    NoSource(PathBuf),
    /// The destination's parent is missing.
    #[error(
        "{0}: no such directory; mount the store first and name a directory below the mount point"
    )]
    NoDestination(PathBuf),
    /// The destination is a plain directory.
    #[error(
        "{0}: no mailbraid store is mounted there; mount one first, or say --anywhere to copy all the same"
    )]
    NotMounted(PathBuf),
    /// A file could not be read or written.
    #[error("{path}: {source}; run the same command again to go on")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ImportError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// What an import did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Imported {
    /// Files copied.
    pub copied: u64,
    /// Files that were there already.
    pub present: u64,
    /// Server-local and temporary files left behind.
    pub left: u64,
}

/// What is to be copied, found by walking the source.
#[derive(Default)]
struct Plan {
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
    last: Vec<PathBuf>,
    left: u64,
}

/// Copies the Maildir tree at `source` to `dest`, a directory in a mount (made if its parent exists).
///
/// # Errors
/// See [`ImportError`]; what was copied stays.
pub fn import(source: &Path, dest: &Path, progress: &ProgressBar) -> Result<Imported, ImportError> {
    if !source.is_dir() {
        return Err(ImportError::NoSource(source.to_owned()));
    }
    match fs::create_dir(dest) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dest.is_dir() => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ImportError::NoDestination(dest.to_owned()));
        }
        Err(error) => return Err(ImportError::io(dest)(error)),
    }
    let mut plan = Plan::default();
    walk(source, Path::new(""), &mut plan)?;
    for dir in &plan.directories {
        let path = dest.join(dir);
        match fs::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(ImportError::io(&path)(error)),
        }
    }
    progress.set_length((plan.files.len() + plan.last.len()) as u64);
    let tally = (AtomicU64::new(0), AtomicU64::new(0));
    copy_all(source, dest, &plan.files, progress, &tally)?;
    copy_all(source, dest, &plan.last, progress, &tally)?;
    Ok(Imported {
        copied: tally.0.into_inner(),
        present: tally.1.into_inner(),
        left: plan.left,
    })
}

fn walk(source: &Path, below: &Path, plan: &mut Plan) -> Result<(), ImportError> {
    let dir = source.join(below);
    let mut listing = fs::read_dir(&dir)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(ImportError::io(&dir))?;
    listing.sort_by_key(fs::DirEntry::file_name);
    for entry in listing {
        let path = below.join(entry.file_name());
        let kind = entry.file_type().map_err(ImportError::io(&entry.path()))?;
        let tree_path = TreePath::new(path.as_os_str().as_bytes());
        let class = if kind.is_dir() {
            classify_dir(&tree_path)
        } else {
            classify(&tree_path)
        };
        match class {
            PathClass::Scratch | PathClass::ServerLocal => plan.left += 1,
            _ if kind.is_dir() => {
                plan.directories.push(path.clone());
                walk(source, &path, plan)?;
            }
            _ if !kind.is_file() => plan.left += 1,
            PathClass::Understood => plan.last.push(path),
            PathClass::Committed => plan.files.push(path),
        }
    }
    Ok(())
}

fn copy_all(
    source: &Path,
    dest: &Path,
    files: &[PathBuf],
    progress: &ProgressBar,
    tally: &(AtomicU64, AtomicU64),
) -> Result<(), ImportError> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..limits::IMPORT_THREADS {
            scope.spawn(|| {
                while failed.lock().is_none() {
                    let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) else {
                        return;
                    };
                    match copy(&source.join(path), dest, path) {
                        Ok(true) => tally.0.fetch_add(1, Ordering::Relaxed),
                        Ok(false) => tally.1.fetch_add(1, Ordering::Relaxed),
                        Err(error) => {
                            failed
                                .lock()
                                .get_or_insert(ImportError::io(&dest.join(path))(error));
                            return;
                        }
                    };
                    progress.inc(1);
                }
            });
        }
    });
    failed.into_inner().map_or(Ok(()), Err)
}

/// Copies one file; `false` where it is there already.
fn copy(from: &Path, dest: &Path, below: &Path) -> io::Result<bool> {
    let mut input = File::open(from)?;
    let wanted = input.metadata()?;
    let to = dest.join(below);
    if let Ok(there) = fs::metadata(&to)
        && there.len() == wanted.len()
        && seconds(&there) == seconds(&wanted)
    {
        return Ok(false);
    }
    place(&mut input, wanted.modified()?, dest, below)?;
    Ok(true)
}

/// Writes a file to `below` in `dest` as a delivery does: beside its place, dated, and then renamed to it.
///
/// # Errors
/// Those of the file system; what was at the place stays.
pub(super) fn place(
    content: &mut impl io::Read,
    modified: SystemTime,
    dest: &Path,
    below: &Path,
) -> io::Result<()> {
    let scratch = scratch_for(dest, below);
    let mut output = File::create(&scratch)?;
    io::copy(content, &mut output)?;
    output.set_modified(modified)?;
    drop(output);
    fs::rename(&scratch, dest.join(below)).inspect_err(|_| {
        let _ = fs::remove_file(&scratch);
    })
}

fn seconds(metadata: &fs::Metadata) -> i64 {
    use std::os::unix::fs::MetadataExt;
    metadata.mtime()
}

/// A message is written in its folder's `tmp/`; any other file beside its place, under a name that stays on this node.
fn scratch_for(dest: &Path, below: &Path) -> PathBuf {
    let file = below.file_name().map(OsStrExt::as_bytes).unwrap_or(b"");
    let dir = below.parent().unwrap_or(Path::new(""));
    let in_folder = dir
        .file_name()
        .is_some_and(|dir| dir == "cur" || dir == "new");
    let tmp = dest.join(dir.parent().unwrap_or(Path::new(""))).join("tmp");
    if in_folder && tmp.is_dir() {
        return tmp.join(std::ffi::OsStr::from_bytes(name::unique(file)));
    }
    let mut local = b".mailbraid-import-".to_vec();
    local.extend_from_slice(file);
    local.truncate(limits::NAME_MAX);
    dest.join(dir).join(std::ffi::OsStr::from_bytes(&local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maildir_is_copied_once_and_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for folder in ["", ".A"] {
            for sub in ["cur", "new", "tmp"] {
                fs::create_dir_all(from.join(folder).join(sub)).unwrap();
            }
        }
        fs::write(from.join("cur/1.2.vm:2,S"), "one").unwrap();
        fs::write(from.join(".A/new/2.2.vm"), "two").unwrap();
        fs::write(from.join("tmp/3.2.vm"), "never").unwrap();
        fs::write(from.join("dovecot.index"), "never").unwrap();
        fs::write(from.join("dovecot-uidlist"), "last").unwrap();
        let progress = ProgressBar::hidden();
        let first = import(&from, &to, &progress).unwrap();
        assert_eq!(
            first,
            Imported {
                copied: 3,
                present: 0,
                left: 2
            }
        );
        fs::remove_file(to.join(".A/new/2.2.vm")).unwrap();
        let again = import(&from, &to, &progress).unwrap();
        assert_eq!(
            again,
            Imported {
                copied: 1,
                present: 2,
                left: 2
            }
        );
        assert_eq!(fs::read(to.join(".A/new/2.2.vm")).unwrap(), b"two");
        assert_eq!(fs::read_dir(to.join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let progress = ProgressBar::hidden();
        let none = dir.path().join("none");
        assert!(matches!(
            import(&none, dir.path(), &progress),
            Err(ImportError::NoSource(_))
        ));
        let deep = none.join("deep");
        assert!(matches!(
            import(dir.path(), &deep, &progress),
            Err(ImportError::NoDestination(_))
        ));
    }
}
