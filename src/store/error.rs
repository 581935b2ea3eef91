//! Why a store could not be opened or went wrong.

use std::io;
use std::path::{Path, PathBuf};

use crate::history::HistoryError;
use crate::journal::JournalError;

/// A store's failure, worded for the person who reads it: what is wrong, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory holds something else.
    #[error("{0}: not a mailbraid store, and not empty; name an empty or a new directory")]
    NotAStore(PathBuf),
    /// There is nothing here, and nothing was to be created.
    #[error("{0}: no store here; create one with `mailbraid init {0}`")]
    Missing(PathBuf),
    /// A store is here already.
    #[error("{0}: a store is here already; mount it, or name another directory")]
    Exists(PathBuf),
    /// Another daemon holds the store.
    #[error("{store}: in use by process {pid}; unmount it first")]
    InUse {
        /// The store.
        store: PathBuf,
        /// The holder, as the lock file names it.
        pid: String,
    },
    /// The repository.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A spilled content is gone.
    #[error("{0}: content of an acknowledged delivery is missing; restore it from a copy")]
    SpillMissing(PathBuf),
    /// Heads of others that are no history mailbraid writes, or are damaged.
    #[error("{0}; see `git fsck` on the repository, and mend or remove the peer that sent it")]
    Braid(String),
    /// The daemon has refused to go on after an error.
    #[error("the store is poisoned: {0}; see the log, then remount")]
    Poisoned(String),
    /// Commits wait for something that passes: the journal keeps what was acknowledged.
    #[error("{0}; free some space, commits then go on by themselves")]
    Waiting(String),
    /// What the journal holds cannot be committed.
    #[error(
        "the disk is full, and acknowledged changes wait to be committed; free some space and mount again, nothing is lost ({0})"
    )]
    NoRoom(Box<StoreError>),
    /// The daemon has stopped.
    #[error("the store has stopped")]
    Stopped,
    /// A file operation failed.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StoreError {
    /// An I/O error with the path it befell.
    #[must_use]
    pub fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Whether an object could not be read, or a ref not be locked: nothing was changed then, and another process of git, or packs that come and go, may be the reason.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::History(
                HistoryError::Missing(_)
                    | HistoryError::Corrupt { .. }
                    | HistoryError::Locked { .. }
                    | HistoryError::GivenUp
            )
        )
    }

    /// Whether the disk is full: a failure of a commit that passes by itself.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        fn full(error: &io::Error) -> bool {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(full) {
                return true;
            }
            cause = error.source();
        }
        matches!(self, Self::Io { source, .. } if full(source))
    }
}
