//! What can go wrong in the journal, and the errno each becomes.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Errors of the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// No room for this record now: `ENOSPC`. Room returns by itself.
    #[error("the journal has no room: {why}")]
    Full {
        /// Disk full, or the bound on segments not yet released.
        why: String,
    },
    /// A write or sync failed earlier, and nothing more is taken: `EIO`.
    #[error("the journal is poisoned: {why}; unmount, check the disk, and mount again")]
    Poisoned {
        /// The first failure.
        why: String,
    },
    /// The record is larger than a segment: `EMSGSIZE`.
    #[error("a journal record of {bytes} bytes is larger than a segment takes ({limit} bytes)")]
    TooLarge {
        /// Size of the record with its frame.
        bytes: u64,
        /// The largest record.
        limit: u64,
    },
    /// No such record is held: never written, recycled, or one without inline content: `ENOENT`.
    #[error("the journal does not hold record {seq}, or it brought no content")]
    NotFound {
        /// The sequence number asked for.
        seq: u64,
    },
    /// Records that were reported durable are unreadable: `EIO`. Nothing was changed.
    #[error("journal segment {} is damaged at byte {offset}: {why}. {remedy}", file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// Written by a newer mailbraid: `EIO`. Nothing was changed.
    #[error("journal segment {} has format {version}, this mailbraid reads up to {known}: use the newer mailbraid, or let it empty the journal with `mailbraid flush` first", file.display())]
    NewerFormat {
        /// The segment.
        file: PathBuf,
        /// Its format.
        version: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The system refused something; its errno is kept.
    #[error("journal: cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl JournalError {
    /// The errno that the caller of the filesystem gets.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Full { .. } => Errno::NOSPC.raw_os_error(),
            Self::TooLarge { .. } => Errno::MSGSIZE.raw_os_error(),
            Self::NotFound { .. } => Errno::NOENT.raw_os_error(),
            Self::Poisoned { .. } | Self::Damaged { .. } | Self::NewerFormat { .. } => {
                Errno::IO.raw_os_error()
            }
            Self::Io { source, .. } => source
                .raw_os_error()
                .unwrap_or_else(|| Errno::IO.raw_os_error()),
        }
    }

    /// Whether the system said that there is no space.
    pub(super) fn is_no_space(&self) -> bool {
        matches!(self, Self::Full { .. })
            || matches!(self, Self::Io { source, .. } if no_space(source))
    }
}

impl From<JournalError> for io::Error {
    fn from(error: JournalError) -> Self {
        Self::from_raw_os_error(error.errno())
    }
}

/// `ENOSPC`, or the quota's word for it.
pub(super) fn no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// For `map_err`: what was tried, and on which file.
pub(super) fn io_error(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> JournalError + use<> {
    let path = path.to_path_buf();
    move |source| JournalError::Io {
        doing,
        path,
        source,
    }
}
