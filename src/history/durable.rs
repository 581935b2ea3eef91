//! Files that are on the disk when the call returns.
//!
//! A new file is durable once it is synced and the directory that names it is synced; a replaced one is written beside, synced,
//! renamed over, and the directory synced. Nothing in the git library syncs, so every write of ours goes through here.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::HistoryError;

/// Syncs a directory: the names in it are durable from then on.
pub(super) fn sync_dir(dir: &Path) -> Result<(), HistoryError> {
    File::open(dir)
        .and_then(|handle| handle.sync_all())
        .map_err(HistoryError::io("sync", dir))
}

/// Bytes that may still be taken of the filesystem that holds `path`.
///
/// # Errors
/// Where it cannot be asked.
pub fn room_left(path: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(path)?;
    Ok(space.f_bavail * space.f_frsize)
}

/// Creates a file that must not exist, writes and syncs it. The directory is the caller's to sync.
pub(super) fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), HistoryError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_data()
        });
    written.map_err(HistoryError::io("write", path))
}

/// Creates a directory and all above it that are missing, each synced into its parent.
pub(super) fn create_dirs(dir: &Path) -> Result<(), HistoryError> {
    match std::fs::create_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && dir.is_dir() => {
            return Ok(());
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = dir.parent().ok_or_else(|| HistoryError::Io {
                what: "create",
                path: dir.to_path_buf(),
                source: error,
            })?;
            create_dirs(parent)?;
            return create_dirs(dir);
        }
        Err(error) => return Err(HistoryError::io("create", dir)(error)),
    }
    dir.parent().map_or(Ok(()), |parent| {
        sync_dir(if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        })
    })
}
