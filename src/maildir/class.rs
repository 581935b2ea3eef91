//! What a path means to us (DESIGN: "path class").
//!
//! | class | examples | treatment |
//! |---|---|---|
//! | scratch | below `tmp/` of a folder; [`SCRATCH`] | never committed |
//! | server-local | [`SERVER_LOCAL`] | plain files in the store's `local/`, never committed, never replicated |
//! | understood | [`UNDERSTOOD`] | parsed; committed and merged by meaning |
//! | committed | all else: messages, directories, "other" files | in the history |

use super::TreePath;

/// How a path is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PathClass {
    /// Messages, directories and other files: part of the history.
    Committed,
    /// Below `tmp/`, or a mail on its way to its name: not part of the history.
    Scratch,
    /// A server's private, recomputable state: a plain file of this node.
    ServerLocal,
    /// An index file whose meaning we commit, not its bytes.
    Understood,
}

/// A name in `cur` and `new` by which the mount makes a change known to who watches the directory: made and removed at once, kept nowhere and
/// listed nowhere. It begins with a dot, so servers pass it over.
pub const WAKE: &[u8] = b".mailbraid-wake";

/// How a row of a table matches the last component of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// The name is this.
    Is(&'static str),
    /// The name starts with this.
    StartsWith(&'static str),
    /// The name ends with this.
    EndsWith(&'static str),
    /// The name is this and six letters or digits, as mkstemp(3) makes them.
    Temporary(&'static str),
}

impl Pattern {
    fn matches(self, name: &[u8]) -> bool {
        match self {
            Self::Is(text) => name == text.as_bytes(),
            Self::StartsWith(text) => name.starts_with(text.as_bytes()),
            Self::EndsWith(text) => name.ends_with(text.as_bytes()),
            Self::Temporary(text) => name
                .strip_prefix(text.as_bytes())
                .is_some_and(|rest| rest.len() == 6 && rest.iter().all(u8::is_ascii_alphanumeric)),
        }
    }
}

/// Files that are scratch though they lie beside `tmp/`: the pattern, the program that writes them, and what for.
pub const SCRATCH: &[(Pattern, &str, &str)] = &[
    (
        Pattern::Temporary("mu"),
        "GNU Mailutils",
        "a mail while it is written; renamed into `cur/` or `new/` then",
    ),
    (
        Pattern::Is("dovecot-uidlist.lock"),
        "Dovecot",
        "made and removed around every change of a folder: a plain file would wait for the disk's own journal, and outlive its holder",
    ),
];

/// Server-local files: the pattern, the server that writes them, and why they may stay on this node.
pub const SERVER_LOCAL: &[(Pattern, &str, &str)] = &[
    (
        Pattern::StartsWith("dovecot.index"),
        "Dovecot",
        "message index, log and cache: rebuilt from the Maildir",
    ),
    (
        Pattern::StartsWith("dovecot.list.index"),
        "Dovecot",
        "mailbox list index: rebuilt from the folders",
    ),
    (
        Pattern::Is("dovecot.mailbox.log"),
        "Dovecot",
        "mailbox change log for dsync on this node",
    ),
    (
        Pattern::Is("dovecot-acl-list"),
        "Dovecot",
        "cache of which folders have ACL files",
    ),
    (
        Pattern::StartsWith("dovecot-uidlist."),
        "Dovecot",
        "temporary of the uidlist",
    ),
    (
        Pattern::StartsWith("dovecot-keywords."),
        "Dovecot",
        "temporary and lock of the keywords file",
    ),
    (
        Pattern::StartsWith("subscriptions."),
        "Dovecot",
        "temporary and lock of the subscriptions file",
    ),
    (
        Pattern::EndsWith(".lock"),
        "all",
        "dotlocks hold between processes of one node",
    ),
    (
        Pattern::Is("maildirsize"),
        "maildrop, Courier, Dovecot",
        "quota cache: recomputed from the messages",
    ),
    (Pattern::Is("courierimapuiddb.lock"), "Courier", "dotlock"),
    (
        Pattern::StartsWith("courierimaphieracl"),
        "Courier",
        "ACL cache",
    ),
    (
        Pattern::Is("courierimapacl"),
        "Courier",
        "ACL of this node's users",
    ),
    (
        Pattern::StartsWith(".mailbraid-"),
        "mailbraid",
        "control files of the mount itself",
    ),
    (
        Pattern::Is(".mbsyncstate"),
        "mbsync",
        "sync state of a client on this node",
    ),
    (
        Pattern::StartsWith(".mbsyncstate."),
        "mbsync",
        "journal, new state and lock of the same",
    ),
    (
        Pattern::StartsWith(".uidvalidity"),
        "mbsync",
        "UID map of a client on this node",
    ),
    (
        Pattern::StartsWith(".mu-prop"),
        "GNU Mailutils",
        "UIDVALIDITY and scan time of this node's server",
    ),
    (
        Pattern::StartsWith("maildirsize."),
        "maildrop, Courier",
        "the next quota cache",
    ),
    (
        Pattern::StartsWith(".dovecot.lda-dupes"),
        "Dovecot Pigeonhole",
        "which mails the duplicate test has seen on this node",
    ),
    (
        Pattern::EndsWith(".svbin"),
        "Dovecot Pigeonhole",
        "a compiled sieve script: compiled again where it is missing",
    ),
    (
        Pattern::EndsWith(".sieve.log"),
        "Dovecot Pigeonhole",
        "what a script had to say on this node",
    ),
    (
        Pattern::StartsWith(".temp."),
        "Dovecot",
        "temporary names of this node's processes",
    ),
];

/// Directories of which all is server-local: the name, the server, and why.
pub const SERVER_LOCAL_DIRS: &[(&str, &str, &str)] = &[
    (
        "fts-flatcurve",
        "Dovecot",
        "full-text index: rebuilt from the messages",
    ),
    (
        "xapian-indexes",
        "Dovecot",
        "full-text index: rebuilt from the messages",
    ),
    (
        "lucene-indexes",
        "Dovecot",
        "full-text index: rebuilt from the messages",
    ),
];

/// Understood files: the pattern and the server.
pub const UNDERSTOOD: &[(Pattern, &str)] = &[
    (Pattern::Is("dovecot-uidlist"), "Dovecot"),
    (Pattern::Is("dovecot-keywords"), "Dovecot"),
    (Pattern::StartsWith("dovecot-uidvalidity"), "Dovecot"),
    (Pattern::Is("courierimapuiddb"), "Courier"),
    (Pattern::Is("courierimapkeywords"), "Courier"),
    (Pattern::Is("courierimapsubscribed"), "Courier"),
];

/// What a directory's path says of everything in it. A directory keeps its place for life: one that would change it while it
/// holds something is not renamed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Place {
    /// A folder, or any other directory: names decide.
    Folder,
    /// `cur` or `new`: all are messages. A message's name is the sender's to choose in part (host names), so no pattern is tried on it.
    Messages,
    /// `tmp` or below.
    Scratch,
    /// `courierimapkeywords` or below.
    Keywords,
    /// One of [`SERVER_LOCAL_DIRS`] or below.
    Private,
}

impl Place {
    /// The mount point's.
    pub const ROOT: Self = Self::Folder;

    /// The place of a directory `name` in a directory of this place.
    #[must_use]
    pub fn below(self, name: &[u8]) -> Self {
        match (self, name) {
            (Self::Scratch, _) | (_, b"tmp") => Self::Scratch,
            (Self::Keywords, _) | (_, b"courierimapkeywords") => Self::Keywords,
            (Self::Private, _) => Self::Private,
            (_, name) if is_private(name) => Self::Private,
            (_, b"cur" | b"new") => Self::Messages,
            _ => Self::Folder,
        }
    }

    /// The class of a file `name` in a directory of this place.
    #[must_use]
    pub fn file(self, name: &[u8]) -> PathClass {
        match self {
            Self::Scratch => PathClass::Scratch,
            Self::Keywords => PathClass::Understood,
            Self::Private => PathClass::ServerLocal,
            Self::Messages if name == WAKE => PathClass::Scratch,
            Self::Messages => PathClass::Committed,
            Self::Folder if SCRATCH.iter().any(|row| row.0.matches(name)) => PathClass::Scratch,
            Self::Folder if SERVER_LOCAL.iter().any(|row| row.0.matches(name)) => {
                PathClass::ServerLocal
            }
            Self::Folder if UNDERSTOOD.iter().any(|row| row.0.matches(name)) => {
                PathClass::Understood
            }
            Self::Folder => PathClass::Committed,
        }
    }

    /// The class of a directory `name` in a directory of this place. The patterns are for files: folders are named by users.
    #[must_use]
    pub fn dir(self, name: &[u8]) -> PathClass {
        match self {
            Self::Scratch => PathClass::Scratch,
            Self::Keywords => PathClass::Understood,
            Self::Private => PathClass::ServerLocal,
            _ if name == b"courierimapkeywords" => PathClass::Understood,
            _ if is_private(name) => PathClass::ServerLocal,
            _ => PathClass::Committed,
        }
    }
}

fn is_private(dir: &[u8]) -> bool {
    SERVER_LOCAL_DIRS.iter().any(|row| dir == row.0.as_bytes())
}

/// The place of the directory at `path`.
#[must_use]
pub fn place(path: &TreePath) -> Place {
    path.components()
        .fold(Place::ROOT, |place, name| place.below(name))
}

/// The class of the file at `path`.
#[must_use]
pub fn classify(path: &TreePath) -> PathClass {
    match path.parent() {
        Some(parent) => place(&parent).file(path.name()),
        None => PathClass::Committed,
    }
}

/// The class of the directory at `path`. A directory named `tmp` is committed; what lies below it is scratch.
#[must_use]
pub fn classify_dir(path: &TreePath) -> PathClass {
    match path.parent() {
        Some(parent) => place(&parent).dir(path.name()),
        None => PathClass::Committed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_the_class_the_design_gives_it() {
        for (path, class) in [
            ("u/tmp", PathClass::Committed),
            ("u/tmp/1.2.vm", PathClass::Scratch),
            ("u/tmp/d/x", PathClass::Scratch),
            ("u/muQ7xw0z", PathClass::Scratch),
            ("u/muQ7xw0z1", PathClass::Committed),
            ("u/mu-notes", PathClass::Committed),
            ("u/cur/muQ7xw0z", PathClass::Committed),
            ("u/cur/x.lock", PathClass::Committed),
            ("u/new/.mailbraid-wake", PathClass::Scratch),
            ("u/cur/1.2.vm:2,S", PathClass::Committed),
            ("u/dovecot.index.cache", PathClass::ServerLocal),
            ("u/dovecot-uidlist.lock", PathClass::Scratch),
            ("u/dovecot-uidlist.tmp", PathClass::ServerLocal),
            ("u/dovecot-uidlist", PathClass::Understood),
            ("u/dovecot-uidvalidity.5f1c", PathClass::Understood),
            ("u/courierimapkeywords/x", PathClass::Understood),
            ("u/courierimapsubscribed", PathClass::Understood),
            ("u/fts-flatcurve/index.1/x", PathClass::ServerLocal),
            ("u/.dovecot.svbin", PathClass::ServerLocal),
            ("u/subscriptions", PathClass::Committed),
            ("u/.dovecot.sieve", PathClass::Committed),
        ] {
            assert_eq!(classify(&TreePath::new(path)), class, "{path}");
        }
        for (path, class) in [
            ("", PathClass::Committed),
            ("u/tmp", PathClass::Committed),
            ("u/tmp/d", PathClass::Scratch),
            ("u/.a.lock", PathClass::Committed),
            ("u/muster01", PathClass::Committed),
            ("u/subscriptions.old", PathClass::Committed),
            ("u/courierimapkeywords", PathClass::Understood),
            ("u/fts-flatcurve", PathClass::ServerLocal),
            ("u/fts-flatcurve/index.1", PathClass::ServerLocal),
        ] {
            assert_eq!(classify_dir(&TreePath::new(path)), class, "{path}");
        }
        // Below a folder whose name looks like a lock.
        assert_eq!(
            classify(&TreePath::new("u/.a.lock/cur/1.2.vm")),
            PathClass::Committed
        );
    }
}
