//! What the filesystem answers when it cannot: one type, one mapping to errno.

use std::io;

/// A refused or failed operation.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// No such name, or an inode that is gone.
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken.
    #[error("exists already")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotDir,
    /// A file was needed.
    #[error("is a directory")]
    IsDir,
    /// The directory holds something.
    #[error("directory not empty")]
    NotEmpty,
    /// The name is longer than `NAME_MAX`.
    #[error("name too long")]
    NameTooLong,
    /// The disk that holds the store is full.
    #[error("no space left on the store's disk")]
    NoSpace,
    /// Larger than a message may be.
    #[error("file too large")]
    TooLarge,
    /// Ownership and modes are uniform; links to directories do not exist.
    #[error("operation not permitted")]
    NotPermitted,
    /// Mounted `ro`.
    #[error("read-only mount")]
    ReadOnly,
    /// A directory would change its path class.
    #[error("a directory cannot move between tmp and the rest")]
    CrossClass,
    /// Flags or arguments that make no sense.
    #[error("invalid argument")]
    Invalid,
    /// The disk or the store failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl FsError {
    /// The errno for the kernel.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::NotFound => libc::ENOENT,
            Self::Exists => libc::EEXIST,
            Self::NotDir => libc::ENOTDIR,
            Self::IsDir => libc::EISDIR,
            Self::NotEmpty => libc::ENOTEMPTY,
            Self::NameTooLong => libc::ENAMETOOLONG,
            Self::NoSpace => libc::ENOSPC,
            Self::TooLarge => libc::EFBIG,
            Self::NotPermitted => libc::EPERM,
            Self::ReadOnly => libc::EROFS,
            Self::CrossClass => libc::EXDEV,
            Self::Invalid => libc::EINVAL,
            Self::Io(error) => match error.kind() {
                io::ErrorKind::StorageFull => libc::ENOSPC,
                _ => error.raw_os_error().unwrap_or(libc::EIO),
            },
        }
    }
}
