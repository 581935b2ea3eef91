//! A daemon that is killed lets go of its mount.
//!
//! The problem: the kernel tells clients that a FUSE daemon is gone when the last of its threads has let go of the device. A thread that tells the kernel to forget a name waits for the
//! directory's lock, whatever signal comes; a client that creates a file there has that lock and waits for an answer, which comes no more once the other threads are
//! dead. So each waits for the other: clients hang instead of getting an error, and the process, its lock on the store included, stays for ever. (Met once in some 150 kills of a node
//! that was braiding.) A thread that is a client of its own mount, as the one that wakes watchers is, can be caught in the same way.
//!
//! So a second process watches the daemon, and breaks the connection where threads of a dead daemon remain. Rules:
//!
//! - It asks nothing of the mount, or it would hang too: what is mounted where is read off `/proc/self/mountinfo`.
//! - **The mount stays**, dead, until somebody unmounts it: a delivery to the bare directory below would be hidden later. A forced unmount breaks the
//!   connection first and then fails, because the root is held open.
//! - It hears of the daemon's end by `PR_SET_PDEATHSIG`, which comes with the death of the thread that started it, whatever the others do.
//!
//! Rejected: forgetting names lazily (`FUSE_NOTIFY_INC_EPOCH`): Linux 6.16 at least, and every name is looked for anew after each braid.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use log::{debug, warn};
use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal, setsid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::mounts::{MountInfo, mounted_at};
use crate::limits;

/// The hidden command.
pub const COMMAND: &str = "guard";

/// Starts the process that watches this one. To be called by a thread that lives as long as the daemon.
///
/// # Errors
/// Where it cannot be started.
pub fn start(mountpoint: &Path) -> io::Result<()> {
    Command::new(std::env::current_exe()?)
        .arg(COMMAND)
        .arg(mountpoint)
        .arg(std::process::id().to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}

/// Its body: watches `daemon`, whose child it is, until that is gone.
///
/// # Errors
/// Where the system refuses to tell of the daemon's end.
pub fn run(mountpoint: &Path, daemon: u32) -> io::Result<()> {
    // The terminal's signals are the daemon's.
    let _ = setsid();
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let (mounted, started) = (mounted_at(mountpoint), start_of(daemon));
    let is_child =
        || getppid().map(Pid::as_raw_nonzero).map(|pid| pid.get()) == i32::try_from(daemon).ok();
    // A service manager may send us what it sends the daemon, which then has its time.
    while is_child() && !is_dead(daemon) {
        signals.forever().next();
    }
    let deadline = Instant::now() + limits::GUARD_WAIT;
    // Another process may be given the number of one that is gone.
    while has_threads(daemon) && start_of(daemon) == started {
        if Instant::now() > deadline {
            warn!(
                "{}: the daemon was killed, and process {daemon} cannot end while its mount waits for it: the connection is broken",
                mountpoint.display()
            );
            return break_connection(mountpoint, mounted.as_ref());
        }
        std::thread::sleep(limits::GUARD_POLL);
    }
    debug!("{}: process {daemon} is gone", mountpoint.display());
    Ok(())
}

/// What `/proc` says of a process from its state on (`proc_pid_stat(5)`, the third field); `None` where it is gone.
fn stat_of(process: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.to_owned())
}

/// Whether a process's first thread has ended. Ours ends with the process, or by a kill.
fn is_dead(process: u32) -> bool {
    stat_of(process).is_none_or(|stat| stat.starts_with(['Z', 'X']))
}

/// When a process started, in ticks since boot: the twenty-second field.
fn start_of(process: u32) -> Option<String> {
    Some(stat_of(process)?.split(' ').nth(19)?.to_owned())
}

/// Whether a dead process has threads that have not ended.
fn has_threads(process: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let first = process.to_string();
    tasks.is_ok_and(|tasks| tasks.flatten().any(|task| *task.file_name() != *first))
}

fn break_connection(mountpoint: &Path, mounted: Option<&MountInfo>) -> io::Result<()> {
    // Whoever mounted it may write there, where that filesystem is mounted.
    if let Some((_, minor)) = mounted.and_then(|mounted| mounted.device.split_once(':')) {
        let abort = PathBuf::from(format!("/sys/fs/fuse/connections/{minor}/abort"));
        match fs::write(&abort, "1") {
            Ok(()) => return Ok(()),
            Err(error) => debug!("{}: {error}", abort.display()),
        }
    }
    if mounted.is_none() || mounted_at(mountpoint).as_ref() != mounted {
        return Err(io::Error::other("something else is mounted there"));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let _held = rustix::fs::open(mountpoint, flags, Mode::empty())?;
    match rustix::mount::unmount(mountpoint, UnmountFlags::FORCE) {
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_known_by_their_start() {
        let own = std::process::id();
        assert!(!is_dead(own));
        assert!(has_threads(own), "the test's beside the first");
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let started = start_of(child.id()).unwrap();
        assert!(started.parse::<u64>().unwrap() >= start_of(own).unwrap().parse().unwrap());
        assert!(!is_dead(child.id()) && !has_threads(child.id()));
        child.kill().unwrap();
        // A process that nobody has waited for is dead, and has a start.
        while !is_dead(child.id()) {
            std::thread::sleep(limits::GUARD_POLL);
        }
        assert_eq!(start_of(child.id()), Some(started));
        child.wait().unwrap();
        assert!(is_dead(child.id()) && start_of(child.id()).is_none());
    }
}
