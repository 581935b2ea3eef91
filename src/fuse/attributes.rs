//! Attributes as the kernel is told of them, and for how long it may keep them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use crate::fs::{Kind, Stat, Time};

/// The kernel may keep what it was told for this long: changes from elsewhere are invalidated.
pub(super) const TTL: Duration = Duration::from_secs(1 << 30);
/// The shortest that is not none: the kernel counts in jiffies, of 1 to 10 ms, and rounds up.
const INSTANT: Duration = Duration::from_nanos(1);

fn to_system((seconds, nanos): Time) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let start = if seconds < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    start.unwrap_or(UNIX_EPOCH) + Duration::from_nanos(u64::from(nanos))
}

pub(super) fn from_system(time: TimeOrNow) -> Time {
    let time = match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    };
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (since.as_secs() as i64, since.subsec_nanos()),
        // fuser has taken both parts away from the epoch, but the kernel's nanoseconds count forward from the second.
        Err(before) => {
            let parts = before.duration();
            (-(parts.as_secs() as i64), parts.subsec_nanos())
        }
    }
}

pub(super) fn attr(stat: &Stat) -> FileAttr {
    let mtime = to_system(stat.mtime);
    FileAttr {
        ino: INodeNo(stat.ino),
        size: stat.size,
        blocks: stat.size.div_ceil(512),
        atime: mtime,
        mtime,
        ctime: to_system(stat.ctime),
        crtime: mtime,
        kind: file_type(stat.kind),
        perm: stat.mode,
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// How long the kernel may keep attributes.
pub(super) fn ttl(stat: &Stat) -> Duration {
    match (stat.asks_each_time, stat.is_held) {
        (false, _) => TTL,
        (true, false) => Duration::ZERO,
        (true, true) => INSTANT,
    }
}

/// How long it may keep a name.
pub(super) fn name_ttl(stat: &Stat) -> Duration {
    if stat.asks_each_time {
        Duration::ZERO
    } else {
        TTL
    }
}

/// Attributes of a name that is not there: inode 0 lets the kernel remember that.
pub(super) fn absent() -> FileAttr {
    attr(&Stat {
        ino: 0,
        kind: Kind::File,
        size: 0,
        mtime: (0, 0),
        ctime: (0, 0),
        nlink: 0,
        mode: 0,
        uid: 0,
        gid: 0,
        asks_each_time: false,
        is_held: false,
    })
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Dir => FileType::Directory,
        Kind::File => FileType::RegularFile,
    }
}
