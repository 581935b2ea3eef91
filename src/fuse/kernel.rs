//! Making and ending the kernel's mount.
//!
//! The library could do it, but its end of a session unmounts whatever lies at the mount point *by then*: another filesystem that somebody mounted
//! there meanwhile. So we mount ourselves, hand it the open device, and unmount only when asked to.
//!
//! Whoever may call mount(2) does. Everybody else asks `fusermount3`, a setuid program, which mounts and sends the device over a socket.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{getegid, geteuid};

use super::MountConfig;

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";

/// Why a mount could not be made or ended.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel's FUSE device cannot be opened.
    #[error(
        "{DEVICE}: {0}; load the module with `modprobe fuse`, or give the container the device"
    )]
    Device(io::Error),
    /// mount(2) or umount(2) refused.
    #[error("{0}")]
    Refused(io::Error),
    /// The setuid helper is not installed.
    #[error("{HELPER}: {0}; install fuse3, or mount as root")]
    NoHelper(io::Error),
    /// The setuid helper refused; its own words.
    #[error("{0}")]
    Helper(String),
    /// The kernel and we did not come to terms.
    #[error("the kernel ended the mount at once: {0}")]
    Handshake(io::Error),
}

/// Mounts, and returns the connection to the kernel.
///
/// # Errors
/// See [`MountError`]; nothing is mounted then.
pub fn mount(mountpoint: &Path, config: &MountConfig) -> Result<OwnedFd, MountError> {
    match direct(mountpoint, config) {
        Err(MountError::Refused(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            by_helper(mountpoint, config)
        }
        Err(MountError::Device(error))
            if error.kind() == io::ErrorKind::PermissionDenied && !geteuid().is_root() =>
        {
            by_helper(mountpoint, config)
        }
        other => other,
    }
}

fn direct(mountpoint: &Path, config: &MountConfig) -> Result<OwnedFd, MountError> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open(DEVICE)
        .map_err(MountError::Device)?;
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={}",
        device.as_raw_fd(),
        geteuid().as_raw(),
        getegid().as_raw()
    );
    for word in permissions(config) {
        data.push(',');
        data.push_str(word);
    }
    let data = CString::new(data).expect("because it is made of words and numbers");
    let mut flags = MountFlags::NODEV | MountFlags::NOSUID;
    flags.set(MountFlags::RDONLY, config.read_only);
    for word in &config.kernel {
        match word.as_str() {
            "noexec" => flags |= MountFlags::NOEXEC,
            "exec" => flags -= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "atime" => flags -= MountFlags::NOATIME,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "async" => flags -= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            _ => {}
        }
    }
    rustix::mount::mount(
        config.source.as_path(),
        mountpoint,
        c"fuse.mailbraid",
        flags,
        data.as_c_str(),
    )
    .map_err(|error| MountError::Refused(error.into()))?;
    Ok(device.into())
}

/// Who may enter: without `allow_other` the kernel lets only the mounting user in; with it the kernel checks owner and mode.
fn permissions(config: &MountConfig) -> &'static [&'static str] {
    if config.allow_other {
        &["allow_other", "default_permissions"]
    } else {
        &[]
    }
}

fn by_helper(mountpoint: &Path, config: &MountConfig) -> Result<OwnedFd, MountError> {
    let (ours, theirs) = UnixStream::pair().map_err(MountError::Refused)?;
    let mut options = b"subtype=mailbraid,nosuid,nodev,fsname=".to_vec();
    for &byte in config.source.as_os_str().as_bytes() {
        if byte == b',' || byte == b'\\' {
            options.push(b'\\');
        }
        options.push(byte);
    }
    let mut word = |word: &str| {
        options.push(b',');
        options.extend_from_slice(word.as_bytes());
    };
    word(if config.read_only { "ro" } else { "rw" });
    for name in permissions(config) {
        word(name);
    }
    for name in &config.kernel {
        if name != "dev" && name != "suid" {
            word(name);
        }
    }
    let mut child = Command::new(HELPER)
        .arg("-o")
        .arg(std::ffi::OsStr::from_bytes(&options))
        .arg("--")
        .arg(mountpoint)
        // The socket is its standard input: that is inherited without further ado.
        .env("_FUSE_COMMFD", "0")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(MountError::NoHelper)?;
    let received = receive(&ours);
    let mut said = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        let _ = pipe.read_to_string(&mut said);
    }
    let _ = child.wait();
    match received {
        Ok(Some(device)) => Ok(device),
        Ok(None) => Err(MountError::Helper(one_line(&said))),
        Err(error) => Err(MountError::Refused(error)),
    }
}

fn one_line(said: &str) -> String {
    let said: Vec<&str> = said.split_whitespace().collect();
    if said.is_empty() {
        return format!("{HELPER} ended without a word");
    }
    said.join(" ")
}

/// The descriptor that the helper sends; `None` where it closed the socket instead.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(device) = descriptors.next()
        {
            return Ok(Some(device));
        }
    }
    Ok(None)
}

/// Unmounts. Where files are open below, the name goes at once and the rest with the last of them.
///
/// # Errors
/// Where it is not mounted, or not ours to unmount.
pub fn unmount(mountpoint: &Path) -> Result<(), MountError> {
    match rustix::mount::unmount(mountpoint, UnmountFlags::NOFOLLOW) {
        Ok(()) => return Ok(()),
        Err(Errno::BUSY) => {
            return rustix::mount::unmount(
                mountpoint,
                UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
            )
            .map_err(|error| MountError::Refused(error.into()));
        }
        Err(Errno::PERM) => {}
        Err(error) => return Err(MountError::Refused(error.into())),
    }
    let done = Command::new(HELPER)
        .args(["-u", "-z", "--"])
        .arg(mountpoint)
        .stdin(Stdio::null())
        .output()
        .map_err(MountError::NoHelper)?;
    if done.status.success() {
        return Ok(());
    }
    Err(MountError::Helper(one_line(&String::from_utf8_lossy(
        &done.stderr,
    ))))
}
