//! One daemon a store: an flock on `STORE/lock`, whose text names the holder. The kernel drops the lock with the process, so
//! a kill leaves nothing to clean up.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

use rustix::fs::{FlockOperation, flock};

use super::{Layout, StoreError};

/// The held lock; dropped with the daemon.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock and writes our process id.
    ///
    /// # Errors
    /// [`StoreError::InUse`] with the holder's pid where another process has it.
    pub fn take(layout: &Layout) -> Result<Self, StoreError> {
        let path = layout.lock();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| StoreError::io(&path, error))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            // The holder may be between taking the lock and writing its pid; an unreadable pid is still a holder.
            let _ = file.read_to_string(&mut pid);
            let pid = match pid.trim() {
                "" => "unknown".to_owned(),
                pid => pid.to_owned(),
            };
            return Err(StoreError::InUse {
                store: layout.root().to_owned(),
                pid,
            });
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|error| StoreError::io(&path, error))?;
        Ok(Self { _file: file })
    }

    /// The pid of the process that holds the store, if one does.
    #[must_use]
    pub fn holder(layout: &Layout) -> Option<String> {
        let mut file = File::open(layout.lock()).ok()?;
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return None;
        }
        let mut pid = String::new();
        file.read_to_string(&mut pid).ok()?;
        Some(pid.trim().to_owned())
    }
}
