//! What a path means to us (DESIGN: "path class").
//!
//! | class | examples | treatment |
//! |---|---|---|
//! | scratch | below `tmp/` of a folder | never committed |
//! | server-local | [`SERVER_LOCAL`] | plain files in the store's `local/`, never committed, never replicated |
//! | understood | [`UNDERSTOOD`] | parsed; committed and merged by meaning |
//! | committed | all else: messages, directories, "other" files | in the history |

use super::TreePath;

/// How a path is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PathClass {
    /// Messages, directories and other files: part of the history.
    Committed,
    /// Below `tmp/`: not part of the history.
    Scratch,
    /// A server's private, recomputable state: a plain file of this node.
    ServerLocal,
    /// An index file whose meaning we commit, not its bytes.
    Understood,
}

/// How a row of a table matches the last component of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// The name is this.
    Is(&'static str),
    /// The name starts with this.
    StartsWith(&'static str),
    /// The name ends with this.
    EndsWith(&'static str),
}

impl Pattern {
    fn matches(self, name: &[u8]) -> bool {
        match self {
            Self::Is(text) => name == text.as_bytes(),
            Self::StartsWith(text) => name.starts_with(text.as_bytes()),
            Self::EndsWith(text) => name.ends_with(text.as_bytes()),
        }
    }
}

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
        "temporary and lock of the uidlist",
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
];

/// Understood files: the pattern and the server.
pub const UNDERSTOOD: &[(Pattern, &str)] = &[
    (Pattern::Is("dovecot-uidlist"), "Dovecot"),
    (Pattern::Is("dovecot-keywords"), "Dovecot"),
    (Pattern::StartsWith("dovecot-uidvalidity"), "Dovecot"),
    (Pattern::Is("courierimapuiddb"), "Courier"),
    (Pattern::Is("courierimapkeywords"), "Courier"),
];

/// The class of a path. A directory named `tmp` is committed; what lies below it is scratch. Below
/// `courierimapkeywords/` all is understood, as the directory itself.
#[must_use]
pub fn classify(path: &TreePath) -> PathClass {
    let parts: Vec<&[u8]> = path.components().collect();
    let Some((last, above)) = parts.split_last() else {
        return PathClass::Committed;
    };
    if above.contains(&b"tmp".as_slice()) {
        return PathClass::Scratch;
    }
    if above.contains(&b"courierimapkeywords".as_slice()) {
        return PathClass::Understood;
    }
    // A message's name is the sender's to choose in part (host names), so no pattern is tried on it.
    if above
        .last()
        .is_some_and(|dir| *dir == b"cur" || *dir == b"new")
    {
        return PathClass::Committed;
    }
    if SERVER_LOCAL
        .iter()
        .any(|(pattern, _, _)| pattern.matches(last))
    {
        return PathClass::ServerLocal;
    }
    if UNDERSTOOD.iter().any(|(pattern, _)| pattern.matches(last)) {
        return PathClass::Understood;
    }
    PathClass::Committed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_the_class_the_design_gives_it() {
        for (path, class) in [
            ("", PathClass::Committed),
            ("u/tmp", PathClass::Committed),
            ("u/tmp/1.2.vm", PathClass::Scratch),
            ("u/tmp/d/x", PathClass::Scratch),
            ("u/cur/x.lock", PathClass::Committed),
            ("u/cur/1.2.vm:2,S", PathClass::Committed),
            ("u/dovecot.index.cache", PathClass::ServerLocal),
            ("u/dovecot-uidlist.lock", PathClass::ServerLocal),
            ("u/dovecot-uidlist.tmp", PathClass::ServerLocal),
            ("u/dovecot-uidlist", PathClass::Understood),
            ("u/dovecot-uidvalidity.5f1c", PathClass::Understood),
            ("u/courierimapkeywords/x", PathClass::Understood),
            ("u/subscriptions", PathClass::Committed),
            ("u/.dovecot.sieve", PathClass::Committed),
        ] {
            assert_eq!(classify(&TreePath::new(path)), class, "{path}");
        }
    }
}
