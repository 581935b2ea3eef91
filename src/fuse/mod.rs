//! The kernel's side: the only importer of fuser.
//!
//! - OPEN, FLUSH and CREATE are answered with ENOSYS, so the kernel opens, reads cached pages and closes without asking
//!   (`FUSE_NO_OPEN_SUPPORT`), and makes files with MKNOD, which leaves no handle to release. State is per inode.
//! - So is OPENDIR (`FUSE_NO_OPENDIR_SUPPORT`), and the kernel keeps listings in its page cache. A name is invalidated before the directory's inode is: the
//!   first waits for the directory's lock, so no READDIR that was under way fills the cache with an old listing after the second.
//! - Attributes, names, absent names and pages are kept by the kernel for ever: every change comes through the kernel or is invalidated.
//! - No READDIRPLUS: mail servers list names and stat nothing, and an entry renamed since its snapshot has no inode to give.
//! - flock and fcntl locks are the kernel's own: the lock capabilities are not asked for.
//! - Permissions: without `allow_other` the kernel lets only the mounting user in; with it, `default_permissions` makes the kernel check
//!   the uniform owner and mode. It costs three GETATTR a delivery (each change makes the kernel ask for the directory's mode again), and nothing else could
//!   stop another user: opens and cached pages never reach us.
//! - Invalidation goes out from the live tree's own thread: from a request's thread, or under a lock, it would deadlock. It raises no inotify events: those are raised by an
//!   action of our own through the mount (`wake`).
//! - Both wait in the kernel for what only requests' threads can end, so a second process sees to it that a killed daemon ends ([`guard`]).

mod adapter;
mod attributes;
pub mod guard;
mod kernel;
mod mounts;
mod session;
mod wake;

pub use kernel::{MountError, unmount};
pub use mounts::{MountInfo, mounted_at};
pub use session::{MountConfig, Mounted, mount};
