//! The filesystems that a session is run over.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::tools;

/// A directory for mail, owned by the mail user, on some filesystem.
#[derive(Debug)]
pub struct Ground {
    // Fields are dropped in order: what is mounted goes before what it lies on.
    _mounted: Option<Bindfs>,
    dir: tempfile::TempDir,
    root: PathBuf,
    /// What to call it in a report.
    pub name: &'static str,
}

impl Ground {
    /// A directory of the filesystem that temporary files are on (ext4 on most machines).
    pub fn plain() -> Self {
        let dir = tools::temporary();
        let root = dir.path().join("mail");
        tools::mail_dir(&root);
        Self {
            _mounted: None,
            dir,
            root,
            name: "plain",
        }
    }

    /// The same seen through bindfs, a FUSE filesystem that passes all on.
    #[track_caller]
    pub fn bindfs() -> Self {
        let dir = tools::temporary();
        let (below, root) = (dir.path().join("below"), dir.path().join("mail"));
        tools::mail_dir(&below);
        std::fs::create_dir(&root).expect("mkdir");
        Self {
            _mounted: Some(Bindfs::mount(&below, &root)),
            dir,
            root,
            name: "bindfs",
        }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A directory beside it, on the plain filesystem.
    pub fn beside(&self) -> &Path {
        self.dir.path()
    }
}

#[derive(Debug)]
struct Bindfs {
    mountpoint: PathBuf,
}

impl Bindfs {
    #[track_caller]
    fn mount(below: &Path, mountpoint: &Path) -> Self {
        let done = Command::new(tools::program("bindfs"))
            .arg(below)
            .arg(mountpoint)
            .stdin(Stdio::null())
            .status()
            .expect("run bindfs");
        assert!(done.success(), "bindfs: {done}");
        Self {
            mountpoint: mountpoint.to_owned(),
        }
    }
}

impl Drop for Bindfs {
    fn drop(&mut self) {
        for flags in [&[][..], &["-l"][..]] {
            let done = Command::new("umount")
                .args(flags)
                .arg(&self.mountpoint)
                .stderr(Stdio::null())
                .status();
            if done.is_ok_and(|status| status.success()) {
                return;
            }
        }
        eprintln!("cannot unmount {}", self.mountpoint.display());
    }
}
