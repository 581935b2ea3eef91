//! A store of its own, mounted, for one test.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::daemon::Daemon;

/// A mounted store in a temporary directory; unmounted on drop, however stuck.
pub struct Mounted {
    daemon: Option<Daemon>,
    store: PathBuf,
    mountpoint: PathBuf,
    options: String,
    dir: tempfile::TempDir,
}

impl Mounted {
    /// A new store, mounted with the defaults.
    pub fn new() -> Self {
        Self::with_options("rw")
    }

    /// A new store, mounted with `-o OPTIONS`.
    pub fn with_options(options: &str) -> Self {
        Self::prepared(options, |_| {})
    }

    /// A store that lies elsewhere, or is to be made there, mounted with the defaults.
    pub fn over(store: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self::in_dir(dir, Some(store.to_owned()), "rw")
    }

    /// A store that `prepare` makes at the path it is given, mounted with `-o OPTIONS`.
    pub fn prepared(options: &str, prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        prepare(&dir.path().join("store"));
        Self::in_dir(dir, None, options)
    }

    /// The mount point, and where `store` is `None` the store too, in a directory.
    fn in_dir(dir: tempfile::TempDir, store: Option<PathBuf>, options: &str) -> Self {
        let mut mounted = Self {
            daemon: None,
            store: store.unwrap_or_else(|| dir.path().join("store")),
            mountpoint: dir.path().join("mnt"),
            options: options.to_owned(),
            dir,
        };
        fs::create_dir(&mounted.mountpoint).expect("mkdir");
        mounted.mount();
        mounted
    }

    /// A new store whose node has this name, mounted with the defaults.
    pub fn node(name: &str) -> Self {
        let mut mounted = Self::unmounted_node(name);
        mounted.mount();
        mounted
    }

    /// A new store whose node has this name, not mounted yet.
    pub fn unmounted_node(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mounted = Self {
            daemon: None,
            store: dir.path().join("store"),
            mountpoint: dir.path().join("mnt"),
            options: "rw".to_owned(),
            dir,
        };
        fs::create_dir(&mounted.mountpoint).expect("mkdir");
        let store = mounted.store.to_str().expect("UTF-8");
        mailbraid_ok(&["init", store, "--node", name]);
        mounted
    }

    /// Mounts it again.
    pub fn mount(&mut self) {
        assert!(
            Path::new("/dev/fuse").exists(),
            "/dev/fuse is missing: run tests/run"
        );
        let mut daemon = Daemon::spawn_with(&self.store, &self.mountpoint, &self.options);
        daemon.wait_ready();
        self.daemon = Some(daemon);
    }

    /// Other options from the next mount on.
    pub fn set_options(&mut self, options: &str) {
        options.clone_into(&mut self.options);
    }

    /// An orderly end.
    pub fn unmount(&mut self) {
        self.daemon.take().expect("it is mounted").unmount();
    }

    /// SIGKILL, and the dead mount freed.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("it is mounted");
        daemon.kill();
        free(&self.mountpoint);
    }

    /// Unmounts and mounts again.
    pub fn remount(&mut self) {
        self.unmount();
        self.mount();
    }

    /// SIGKILL, and mounts again over what is left.
    pub fn kill_and_remount(&mut self) {
        self.kill();
        self.mount();
    }

    /// Waits for the end that somebody has asked for; it must be a good one.
    pub fn ended(&mut self) {
        self.daemon.take().expect("it is mounted").ended();
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("it is mounted").pid()
    }

    /// A path below the mount point.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.mountpoint.join(path)
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.mountpoint
    }

    /// The store.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// A directory beside both, on the ordinary disk.
    pub fn beside(&self) -> &Path {
        self.dir.path()
    }

    /// A Maildir below the mount point.
    pub fn maildir(&self, name: &str) -> PathBuf {
        let path = self.mountpoint.join(name);
        folder(&path);
        path
    }

    /// Everything acknowledged is committed when it returns.
    pub fn flush(&self) {
        mailbraid_ok(&["flush", self.store.to_str().expect("UTF-8")]);
    }

    /// `status --json`.
    pub fn status(&self) -> serde_json::Value {
        let out = mailbraid_ok(&["status", "--json", self.store.to_str().expect("UTF-8")]);
        serde_json::from_slice(&out.stdout).expect("status speaks JSON")
    }

    /// Runs git on the hidden repository; it must succeed.
    pub fn git(&self, args: &[&str]) -> String {
        git(&self.store.join("repo.git"), args)
    }

    /// `git fsck --strict` finds nothing to say.
    pub fn fsck(&self) {
        fsck(&self.store);
    }

    /// What the daemon has said.
    pub fn said(&self) -> String {
        self.daemon.as_ref().map(Daemon::said).unwrap_or_default()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.daemon.take());
        free(&self.mountpoint);
    }
}

/// Makes a Maildir, and the directories above it.
pub fn folder(path: &Path) {
    for sub in ["tmp", "new", "cur"] {
        fs::create_dir_all(path.join(sub)).expect("mkdir");
    }
}

/// `git fsck --strict` finds nothing to say about a store. It looks at pack after pack of a list it made when it began; where maintenance has
/// taken one of them away meanwhile (its objects are in another), it is asked again.
pub fn fsck(store: &Path) {
    let repo = store.join("repo.git");
    let args = ["fsck", "--strict", "--no-dangling", "--no-progress"];
    for _ in 0..5 {
        let (good, said) = try_git(&repo, &args);
        if good && said.trim().is_empty() {
            return;
        }
        let is_merged = |line: &str| {
            let pack = line
                .split(['/', '.', ' ', '\''])
                .find(|word| word.starts_with("pack-"));
            pack.is_some_and(|pack| !repo.join(format!("objects/pack/{pack}.idx")).exists())
        };
        assert!(said.lines().all(is_merged), "git fsck: {said}");
    }
    panic!("git fsck meets packs that are merged, five times in a row");
}

/// Delivers a message as programs do: written and synced in `tmp`, renamed to `new`. Its path.
///
/// # Errors
/// What the filesystem says.
pub fn deliver(folder: &Path, name: &str, content: &[u8]) -> io::Result<PathBuf> {
    let tmp = folder.join("tmp").join(name);
    let new = folder.join("new").join(name);
    let mut file = File::create_new(&tmp)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(tmp, &new)?;
    Ok(new)
}

/// Frees a mount point, dead or alive.
pub fn free(mountpoint: &Path) {
    for _ in 0..10 {
        let done = Command::new("umount").arg("-lq").arg(mountpoint).output();
        if !done.is_ok_and(|done| done.status.success()) {
            return;
        }
    }
}

/// Runs the program.
pub fn mailbraid(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mailbraid"))
        .args(args)
        .output()
        .expect("run mailbraid")
}

/// Runs the program, which must succeed.
pub fn mailbraid_ok(args: &[&str]) -> Output {
    let out = mailbraid(args);
    assert!(
        out.status.success(),
        "mailbraid {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    out
}

/// Runs git in a directory; it must succeed. Both streams, joined.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let (good, said) = try_git(dir, args);
    assert!(good, "git {args:?}: {said}");
    said
}

fn try_git(dir: &Path, args: &[&str]) -> (bool, String) {
    let out = Command::new("git")
        .args(args)
        .current_dir(dir)
        .output()
        .expect("git is missing: run tests/run");
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (out.status.success(), said)
}
