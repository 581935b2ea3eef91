//! Mounting, serving, unmounting.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuser::{Config, INodeNo, MountOption, Notifier, Session, SessionACL};
use log::debug;

use super::adapter::Adapter;
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

struct KernelNotifier(Notifier);

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
}

fn option(name: &str) -> MountOption {
    match name {
        "dev" => MountOption::Dev,
        "nodev" => MountOption::NoDev,
        "suid" => MountOption::Suid,
        "nosuid" => MountOption::NoSuid,
        "exec" => MountOption::Exec,
        "noexec" => MountOption::NoExec,
        "atime" => MountOption::Atime,
        "noatime" => MountOption::NoAtime,
        "sync" => MountOption::Sync,
        "async" => MountOption::Async,
        "dirsync" => MountOption::DirSync,
        other => MountOption::CUSTOM(other.to_owned()),
    }
}

/// Mounts `fs`; it answers once this returns and [`Mounted::serve`] runs.
///
/// # Errors
/// What mount(2) or fusermount3 says.
pub fn mount(fs: &Arc<Fs>, mountpoint: &Path, config: &MountConfig) -> io::Result<Mounted> {
    let mut options = vec![
        MountOption::FSName(config.source.display().to_string()),
        // The pure-Rust mount ignores its own Subtype.
        MountOption::CUSTOM("subtype=mailbraid".to_owned()),
        if config.read_only {
            MountOption::RO
        } else {
            MountOption::RW
        },
    ];
    if config.allow_other {
        options.push(MountOption::DefaultPermissions);
    }
    options.extend(config.kernel.iter().map(|name| option(name)));
    let mut settings = Config::default();
    settings.mount_options = options;
    settings.acl = if config.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    settings.n_threads = Some(config.threads);
    settings.clone_fd = config.threads > 1;
    let session = Session::new(Adapter::new(Arc::clone(fs)), mountpoint, &settings)?;
    fs.set_invalidator(Arc::new(KernelNotifier(session.notifier())))?;
    Ok(Mounted {
        session: Some(session),
        mountpoint: mountpoint.to_owned(),
    })
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
