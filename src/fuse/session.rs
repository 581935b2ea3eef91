//! A mount being served.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::Sender;
use fuser::{Config, INodeNo, Notifier, Session, SessionACL};
use log::debug;

use super::adapter::Adapter;
use super::kernel::{self, MountError};
use super::wake;
use crate::fs::{Fs, Ino, Invalidator};

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountConfig {
    /// What `findmnt` shows as the source: the store.
    pub source: PathBuf,
    /// Let other users in, as owner and mode allow.
    pub allow_other: bool,
    /// Mount read-only.
    pub read_only: bool,
    /// Threads that serve requests.
    pub threads: usize,
    /// Options for the kernel, checked by the command line: `noexec`, `nosuid`, …
    pub kernel: Vec<String>,
}

/// A live mount.
pub struct Mounted {
    session: Option<Session<Adapter>>,
    mountpoint: PathBuf,
}

struct KernelNotifier(Notifier, Sender<Vec<u8>>);

impl Invalidator for KernelNotifier {
    fn entry(&self, parent: Ino, name: &[u8]) {
        // The kernel answers ENOENT where it does not remember the name: nothing to forget.
        if let Err(error) = self.0.inval_entry(INodeNo(parent), OsStr::from_bytes(name)) {
            debug!("invalidating a name in inode {parent}: {error}");
        }
    }

    fn inode(&self, ino: Ino) {
        if let Err(error) = self.0.inval_inode(INodeNo(ino), 0, 0) {
            debug!("invalidating inode {ino}: {error}");
        }
    }

    fn watched(&self, path: &[u8]) {
        // The thread ends after all who send to it.
        let _ = self.1.send(path.to_vec());
    }
}

/// Mounts `fs`; it answers once this returns and [`Mounted::serve`] runs.
///
/// # Errors
/// See [`MountError`]; nothing is left mounted.
pub fn mount(fs: &Arc<Fs>, mountpoint: &Path, config: &MountConfig) -> Result<Mounted, MountError> {
    let device = kernel::mount(mountpoint, config)?;
    let mut settings = Config::default();
    settings.n_threads = Some(config.threads);
    settings.clone_fd = config.threads > 1;
    // The kernel has been told whom to let in; the library is not to filter once more.
    let acl = SessionACL::All;
    let begun =
        Session::from_fd(Adapter::new(Arc::clone(fs)), device, acl, settings).and_then(|session| {
            let waker = wake::start(mountpoint)?;
            fs.set_invalidator(Arc::new(KernelNotifier(session.notifier(), waker)))?;
            Ok(session)
        });
    match begun {
        Ok(session) => Ok(Mounted {
            session: Some(session),
            mountpoint: mountpoint.to_owned(),
        }),
        Err(error) => {
            // Its own failure would hide the first.
            let _ = kernel::unmount(mountpoint);
            Err(MountError::Handshake(error))
        }
    }
}

impl Mounted {
    /// Serves requests until the mount is gone, whoever unmounts it.
    ///
    /// # Errors
    /// Where the connection to the kernel broke.
    pub fn serve(&mut self) -> io::Result<()> {
        match self.session.take() {
            Some(session) => session.run(),
            None => Ok(()),
        }
    }

    /// The mount point.
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }
}
