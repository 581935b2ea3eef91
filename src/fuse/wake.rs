//! Waking those who watch a directory: a change that came from elsewhere is made known to inotify by an action through the mount itself.
//!
//! The live tree answers for the file that is made and removed without having it. The mount point is opened for each round and not kept, so that it can
//! be unmounted; where nothing of FUSE lies there any more, nothing is done.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crossbeam_channel::Sender;
use log::debug;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

/// What `statfs` says of a FUSE filesystem (`FUSE_SUPER_MAGIC`).
const FUSE: u64 = 0x6573_5546;

/// Starts the thread; it ends with the sender.
///
/// # Errors
/// Where it cannot be started.
pub fn start(mountpoint: &Path) -> io::Result<Sender<Vec<u8>>> {
    let (sender, inbox) = crossbeam_channel::unbounded::<Vec<u8>>();
    let mountpoint: PathBuf = mountpoint.to_owned();
    std::thread::Builder::new()
        .name("mb-wake".to_owned())
        .spawn(move || {
            while let Ok(first) = inbox.recv() {
                // One event is as good as many.
                let files: BTreeSet<Vec<u8>> =
                    std::iter::once(first).chain(inbox.try_iter()).collect();
                if let Err(error) = wake(&mountpoint, &files) {
                    debug!("{}: nobody was woken: {error}", mountpoint.display());
                }
                debug!("woken: {} directories", files.len());
            }
        })?;
    Ok(sender)
}

fn wake(mountpoint: &Path, files: &BTreeSet<Vec<u8>>) -> io::Result<()> {
    let root = rustix::fs::open(
        mountpoint,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if rustix::fs::fstatfs(&root)?.f_type as u64 != FUSE {
        return Ok(());
    }
    for path in files {
        let made = rustix::fs::mknodat(
            &root,
            path.as_slice(),
            FileType::RegularFile,
            Mode::RUSR | Mode::WUSR,
            0,
        );
        // The directory may have gone meanwhile, or the mount be read-only.
        if let Err(error) =
            made.and_then(|()| rustix::fs::unlinkat(&root, path.as_slice(), AtFlags::empty()))
        {
            debug!(
                "{}: nobody was woken: {error}",
                String::from_utf8_lossy(path)
            );
        }
    }
    Ok(())
}
