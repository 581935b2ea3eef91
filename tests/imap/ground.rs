//! The filesystems that a session is run over.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::tools::{self, MAIL_GID, MAIL_UID};
use crate::support::mounted::{Mounted, git};

/// A directory for mail, owned by the mail user, on some filesystem.
pub struct Ground {
    // Fields are dropped in order: what is mounted goes before what it lies on.
    _bindfs: Option<Bindfs>,
    mailbraid: Option<Mounted>,
    dir: Option<tempfile::TempDir>,
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
            _bindfs: None,
            mailbraid: None,
            dir: Some(dir),
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
            _bindfs: Some(Bindfs::mount(&below, &root)),
            mailbraid: None,
            dir: Some(dir),
            root,
            name: "bindfs",
        }
    }

    /// A mailbraid mount, owned by the mail user.
    #[track_caller]
    pub fn mailbraid() -> Self {
        Self::mounted_store(Mounted::with_options(&mail_options()))
    }

    /// A mirror clone of another mount's repository, made with plain git as the README says, and mounted.
    #[track_caller]
    pub fn clone_of(other: &Self) -> Self {
        let from = other.mailbraid.as_ref().expect("a mailbraid mount");
        let repo = from.store().join("repo.git");
        let repo = repo.to_str().expect("a path in ASCII").to_owned();
        Self::prepared(|store| {
            std::fs::create_dir(store).expect("mkdir");
            git(store, &["clone", "-q", "--mirror", &repo, "repo.git"]);
        })
    }

    /// A mount of a store that `prepare` makes at the path it is given.
    #[track_caller]
    pub fn prepared(prepare: impl FnOnce(&Path)) -> Self {
        Self::mounted_store(Mounted::prepared(&mail_options(), prepare))
    }

    fn mounted_store(mounted: Mounted) -> Self {
        // The mail user has to pass the temporary directory, which is private by default.
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(mounted.beside(), mode).expect("chmod");
        Self {
            _bindfs: None,
            root: mounted.path().to_owned(),
            mailbraid: Some(mounted),
            dir: None,
            name: "mailbraid",
        }
    }

    /// The mount, where this is one of mailbraid.
    #[track_caller]
    pub fn mounted(&mut self) -> &mut Mounted {
        self.mailbraid.as_mut().expect("a mailbraid mount")
    }

    /// What holds at the end of every use of a mount: all is committed, git finds the repository sound, and the daemon complained of nothing.
    #[track_caller]
    pub fn assert_sound(&self) {
        let Some(mounted) = &self.mailbraid else {
            return;
        };
        mounted.flush();
        mounted.fsck();
        let status = mounted.status();
        assert_eq!(status["poisoned"], serde_json::Value::Null, "{status}");
        let journal = &status["journal"];
        assert_eq!(journal["acknowledged"], journal["committed"], "{status}");
        assert_ne!(
            status["head"],
            serde_json::Value::Null,
            "nothing went through the mount"
        );
        let said = mounted.said();
        let complaints: Vec<&str> = said
            .lines()
            .filter(|line| line.contains(": warn: ") || line.contains(": error: "))
            .collect();
        assert!(
            complaints.is_empty(),
            "mailbraid complains:\n{}",
            complaints.join("\n")
        );
    }

    /// All commits with the names they changed, oldest first: what a failed test shows.
    pub fn history(&self) -> String {
        let Some(mounted) = &self.mailbraid else {
            return String::new();
        };
        mounted.flush();
        mounted.git(&["log", "--reverse", "--format=%n%B", "--name-status"])
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A directory beside it, on the plain filesystem.
    pub fn beside(&self) -> &Path {
        match (&self.dir, &self.mailbraid) {
            (Some(dir), _) => dir.path(),
            (None, Some(mounted)) => mounted.beside(),
            (None, None) => unreachable!("a ground lies in a directory"),
        }
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

/// Everything belongs to the mail user, and all users may enter.
fn mail_options() -> String {
    format!("rw,allow_other,uid={MAIL_UID},gid={MAIL_GID}")
}
