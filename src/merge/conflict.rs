//! What two sides did to the same thing, and how it was settled: for the log and the message of the merge commit.

use std::fmt;

use crate::maildir::TreePath;

/// One conflict and its settlement. Nothing here waits for anybody's decision.
///
/// The order is that of the commit message.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Conflict {
    /// Two sides renamed one folder differently: the smaller path stays.
    FolderRenamedTwice {
        /// The path that stays.
        kept: TreePath,
        /// The other one.
        other: TreePath,
    },
    /// Two folders were moved into one another: this one stays where it was.
    FolderCycle {
        /// The one that stays.
        folder: TreePath,
    },
    /// Two folders have come to one path: they are one from now on.
    FoldersUnited {
        /// The path.
        folder: TreePath,
    },
    /// The sides have different UIDVALIDITY values: the greater stays, and mail of the other side got new UIDs.
    UidValidity {
        /// The folder.
        folder: TreePath,
        /// What stays.
        kept: u32,
    },
    /// A folder was deleted on one side while mail arrived on the other: it is back, with only the new mail.
    FolderReturned {
        /// The folder.
        folder: TreePath,
    },
    /// One side deleted a message, the other took its deleted flag away: it stays, with a new UID.
    Undeleted {
        /// The message.
        path: TreePath,
    },
    /// One side deleted a message, the other changed its flags: it is deleted.
    FlaggedAndExpunged {
        /// The message as the other side shows it.
        path: TreePath,
    },
    /// One side moved a message, the other deleted it: it stays where it was moved to.
    MovedAndExpunged {
        /// Where it is.
        path: TreePath,
    },
    /// Both sides moved a message, to different places: it stays in both.
    MovedTwice {
        /// One of the places.
        path: TreePath,
    },
    /// Each side deleted another of two copies of a message: this one stays.
    LastCopy {
        /// Where it is.
        path: TreePath,
    },
    /// Two messages have one unique name: one of them got another.
    SameName {
        /// The name that it has now.
        path: TreePath,
    },
    /// Messages got new UIDs because a UID they had means something else on another side.
    Renumbered {
        /// The folder.
        folder: TreePath,
        /// How many.
        count: usize,
    },
    /// A letter meant different keywords on two sides: this one has another letter now.
    KeywordMoved {
        /// The folder.
        folder: TreePath,
        /// The keyword.
        name: Vec<u8>,
    },
    /// All letters are taken: this keyword is gone from the folder.
    KeywordDropped {
        /// The folder.
        folder: TreePath,
        /// The keyword.
        name: Vec<u8>,
    },
    /// Both sides changed a file that is no mail: the later stays, the other is in the history.
    FileChangedTwice {
        /// The file.
        path: TreePath,
    },
    /// One side deleted a file that is no mail, the other changed it: it stays.
    FileChangedAndDeleted {
        /// The file.
        path: TreePath,
    },
    /// A directory has the name of a file: the file got another.
    FileRenamed {
        /// The name that the file has now.
        path: TreePath,
    },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = String::from_utf8_lossy;
        match self {
            Self::FolderRenamedTwice { kept, other } => {
                write!(
                    f,
                    "renamed twice: {} stays, not {}",
                    show(kept),
                    show(other)
                )
            }
            Self::FolderCycle { folder } => {
                write!(f, "moved into each other: {} stays in place", show(folder))
            }
            Self::FoldersUnited { folder } => write!(f, "two folders in one: {}", show(folder)),
            Self::UidValidity { folder, kept } => {
                write!(f, "two UIDVALIDITY values: {} has {kept}", show(folder))
            }
            Self::FolderReturned { folder } => {
                write!(f, "deleted, but mail arrived: {}", show(folder))
            }
            Self::Undeleted { path } => write!(f, "expunged and undeleted, kept: {}", show(path)),
            Self::FlaggedAndExpunged { path } => {
                write!(f, "flagged and expunged, gone: {}", show(path))
            }
            Self::MovedAndExpunged { path } => {
                write!(f, "moved and expunged, kept: {}", show(path))
            }
            Self::MovedTwice { path } => write!(f, "moved twice, in both: {}", show(path)),
            Self::LastCopy { path } => write!(f, "each side deleted a copy, kept: {}", show(path)),
            Self::SameName { path } => write!(f, "two messages of one name: {}", show(path)),
            Self::Renumbered { folder, count } => {
                write!(f, "new UIDs: {count} in {}", show(folder))
            }
            Self::KeywordMoved {
                folder,
                name: keyword,
            } => {
                write!(
                    f,
                    "new letter: keyword {} in {}",
                    name(keyword),
                    show(folder)
                )
            }
            Self::KeywordDropped {
                folder,
                name: keyword,
            } => {
                write!(
                    f,
                    "no letter left: keyword {} in {}",
                    name(keyword),
                    show(folder)
                )
            }
            Self::FileChangedTwice { path } => {
                write!(f, "changed twice, later kept: {}", show(path))
            }
            Self::FileChangedAndDeleted { path } => {
                write!(f, "changed and deleted, kept: {}", show(path))
            }
            Self::FileRenamed { path } => write!(f, "a directory has its name: {}", show(path)),
        }
    }
}

fn show(path: &TreePath) -> String {
    if path.is_root() {
        "/".to_owned()
    } else {
        path.to_string()
    }
}
