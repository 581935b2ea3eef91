//! The daemon in a process of its own, which a test may kill.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// `mailbraid mount STORE MOUNTPOINT -f`. Killed, and the mount point freed, on drop.
pub struct Daemon {
    child: Child,
    mountpoint: PathBuf,
    log: PathBuf,
    /// Nothing is left to free.
    unmounted: bool,
}

impl Daemon {
    /// Starts it and does not wait. What it says goes to a file beside the mount point.
    pub fn spawn(store: &Path, mountpoint: &Path) -> Self {
        Self::spawn_with(store, mountpoint, "rw")
    }

    /// The same with mount options.
    pub fn spawn_with(store: &Path, mountpoint: &Path, options: &str) -> Self {
        Self::spawn_in(store, mountpoint, options, &[])
    }

    /// The same with variables of the environment.
    pub fn spawn_in(
        store: &Path,
        mountpoint: &Path,
        options: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let log = mountpoint.with_extension("log");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("open the log");
        let child = Command::new(env!("CARGO_BIN_EXE_mailbraid"))
            .arg("mount")
            .args([store, mountpoint])
            .args(["-f", "-o", options])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("duplicate a file"))
            .stderr(file)
            .spawn()
            .expect("start mailbraid");
        Self {
            child,
            mountpoint: mountpoint.to_owned(),
            log,
            unmounted: false,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory that it has.
    #[track_caller]
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("read what the kernel says of the daemon");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
        kb.expect("a number of kilobytes") * 1024
    }

    /// Starts it and waits until the mount answers.
    pub fn start(store: &Path, mountpoint: &Path) -> Self {
        let mut daemon = Self::spawn(store, mountpoint);
        daemon.wait_ready();
        daemon
    }

    /// Until the mount answers.
    pub fn wait_ready(&mut self) {
        let above = self.mountpoint.parent().expect("a mount point is not /");
        let outside = fs::metadata(above).expect("stat").dev();
        let deadline = Instant::now() + Duration::from_secs(30);
        // Of a mount whose daemon was killed the kernel still knows the attributes; statvfs always asks. In this order: a dead mount
        // may go away between the two.
        while rustix::fs::statvfs(&self.mountpoint).is_err()
            || !fs::metadata(&self.mountpoint).is_ok_and(|meta| meta.dev() != outside)
        {
            if let Some(status) = self.child.try_wait().expect("wait") {
                panic!(
                    "the daemon ended instead of mounting: {status}\n{}",
                    self.said()
                );
            }
            assert!(
                Instant::now() < deadline,
                "the daemon did not mount in 30 s\n{}",
                self.said()
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// An orderly end.
    pub fn unmount(mut self) {
        let unmounted = Command::new("fusermount3")
            .arg("-u")
            .arg(&self.mountpoint)
            .status()
            .expect("fusermount3 is missing: run tests/run");
        assert!(unmounted.success(), "fusermount3 -u: {unmounted}");
        self.ended();
    }

    /// Waits for the end that somebody has asked for; it must be a good one.
    pub fn ended(&mut self) {
        let status = self.child.wait().expect("wait");
        self.unmounted = true;
        assert!(
            status.success(),
            "the daemon ended with {status}\n{}",
            self.said()
        );
    }

    /// All it has said so far, as far as it is of use to one who reads a failure.
    pub fn said(&self) -> String {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let from = said.len().saturating_sub(8_000);
        String::from_utf8_lossy(&said.as_bytes()[from..]).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After an orderly end all of this finds nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("mailbraid said:\n{}", self.said());
        }
        if !self.unmounted {
            let _ = Command::new("fusermount3")
                .arg("-uzq")
                .arg(&self.mountpoint)
                .status();
        }
    }
}
