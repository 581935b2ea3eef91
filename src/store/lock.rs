//! One daemon a store: an flock on `STORE/lock`, whose text names the holder. The kernel drops the lock with the process, so
//! a kill leaves nothing to clean up. A program that the daemon starts (ssh) holds a copy of the lock's descriptor from its fork to its exec, and so may
//! hold it a moment longer than a daemon that is killed or ends just then: a lock whose holder is gone is waited for.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};

use super::{Layout, StoreError};
use crate::limits;

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
        let deadline = Instant::now() + limits::STORE_LOCK_WAIT;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            // The holder may be between taking the lock and writing its pid; an unreadable pid is still a holder.
            let _ = file.rewind().and_then(|()| file.read_to_string(&mut pid));
            let pid = pid.trim();
            if holds_on(pid) || Instant::now() > deadline {
                return Err(StoreError::InUse {
                    store: layout.root().to_owned(),
                    pid: if pid.is_empty() { "unknown" } else { pid }.to_owned(),
                });
            }
            std::thread::sleep(limits::STORE_LOCK_PAUSE);
        }
        file.rewind()
            .and_then(|()| file.set_len(0))
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

/// Whether the process that wrote its pid goes on. Our own is a store that this process has let go of, or is about to.
fn holds_on(pid: &str) -> bool {
    pid != std::process::id().to_string() && Path::new("/proc").join(pid).exists()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Seen in a test of another lock: a thread beside it was starting a program.
    #[test]
    fn regression_a_copy_of_the_lock_in_a_program_that_starts_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create_root().unwrap();
        let held = Lock::take(&layout).unwrap();
        let copy = held._file.try_clone().unwrap();
        drop(held);
        let goes = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(copy);
        });
        Lock::take(&layout).unwrap();
        goes.join().unwrap();
    }

    #[test]
    fn a_holder_that_goes_on_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create_root().unwrap();
        let _held = Lock::take(&layout).unwrap();
        std::fs::write(layout.lock(), "1\n").unwrap();
        let refused = Lock::take(&layout).unwrap_err();
        assert!(refused.to_string().contains("in use by process 1"));
    }
}
