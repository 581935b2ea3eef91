//! What can go wrong in the repository, one variant for each answer a caller has.

use std::io;
use std::path::{Path, PathBuf};

use crate::maildir::{Oid, TreePath};

/// An error of the hidden repository.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The directory is no git repository.
    #[error("{} is not a git repository", path.display())]
    NotARepository {
        /// Where one was expected.
        path: PathBuf,
    },
    /// A repository is to be created where something already is.
    #[error("{} exists already", path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// The repository was written by a newer mailbraid.
    #[error("{} has store format {found}, and this mailbraid knows up to {known}: use the newer mailbraid", path.display())]
    NewerFormat {
        /// The repository.
        path: PathBuf,
        /// `mailbraid.format` as it stands in the config.
        found: String,
        /// The newest format this program reads.
        known: u32,
    },
    /// A git repository that is not a mailbraid store, or uses what we do not read (reftable, partial clones).
    #[error("{}: {what}", path.display())]
    Unsupported {
        /// The repository.
        path: PathBuf,
        /// What it uses.
        what: String,
    },
    /// The repository's config cannot be parsed.
    #[error("cannot read {}: {reason}", path.display())]
    Config {
        /// The config file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An object that must be there is not.
    #[error("object {0} is missing from the repository")]
    Missing(Oid),
    /// An object is not what it must be.
    #[error("object {oid} is damaged: {reason}")]
    Corrupt {
        /// The object.
        oid: Oid,
        /// What is wrong.
        reason: String,
    },
    /// An operation does not fit the tree it is applied to.
    #[error("cannot apply an operation to {path:?}: {reason}")]
    Damage {
        /// The path it names.
        path: TreePath,
        /// What is wrong.
        reason: &'static str,
    },
    /// An earlier error left the working tree half changed; only `reset_to` helps.
    #[error("the working tree was given up after an earlier error")]
    GivenUp,
    /// A ref is not what the caller believed.
    #[error("{name} has moved: expected {}, found {}", show(expected), show(found))]
    RefMoved {
        /// The ref.
        name: String,
        /// What the caller believed.
        expected: Option<Oid>,
        /// What it is.
        found: Option<Oid>,
    },
    /// Somebody else holds a ref's lock.
    #[error("{} is held by another process; remove it if none is running", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A ref's name or content is not well formed.
    #[error("ref {name} is not well formed")]
    BadRef {
        /// The ref.
        name: String,
    },
    /// A revision or date names no commit.
    #[error("{rev:?} names no commit: {reason}")]
    Revision {
        /// What was asked for.
        rev: String,
        /// Why not.
        reason: String,
    },
    /// The git library failed in a way that none of the above describes.
    #[error("{what}: {reason}")]
    Git {
        /// What was tried.
        what: &'static str,
        /// What the library says.
        reason: String,
    },
}

/// The operating system's own error of a full disk behind one that says more.
fn full_disk(error: &io::Error) -> Option<io::Error> {
    let code = match error.kind() {
        io::ErrorKind::StorageFull => libc::ENOSPC,
        io::ErrorKind::QuotaExceeded => libc::EDQUOT,
        _ => return None,
    };
    Some(io::Error::from_raw_os_error(code))
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn show(oid: &Option<Oid>) -> String {
    oid.map_or_else(|| "nothing".to_owned(), |oid| oid.to_string())
}

impl HistoryError {
    /// Whether the disk is full: the operation may be tried again when there is space.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }

    /// For `map_err` on an I/O result: `what` is the verb, as in "cannot sync FILE".
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what,
            path: path.to_path_buf(),
            source,
        }
    }

    /// For `map_err` on a result of the git library.
    pub(crate) fn git<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Git {
            what,
            reason: format!("{error:#}"),
        }
    }

    /// For `map_err` on a result of the git library that has written below `dir`, with all the reasons behind the reason; a full disk is told as one.
    pub(crate) fn git_in(what: &'static str, dir: &Path) -> impl FnOnce(gix::Error) -> Self {
        move |error| {
            let mut reason = error.to_string();
            let mut next = std::error::Error::source(&error);
            while let Some(behind) = next {
                if let Some(refused) = behind.downcast_ref::<io::Error>().and_then(full_disk) {
                    return Self::io("write below", dir)(refused);
                }
                reason.push_str(": ");
                reason.push_str(&behind.to_string());
                next = behind.source();
            }
            Self::Git { what, reason }
        }
    }

    /// An object that is not what it must be.
    pub(crate) fn corrupt(oid: Oid, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            oid,
            reason: reason.into(),
        }
    }
}
