//! One record for all servers: what a server wrote becomes operations, and the record becomes the file that a server expects.
//!
//! The problem: each server keeps UIDs and keywords in a private file of its own. Here they are attributes of the messages
//! ([`crate::maildir::Attrs`]) and facts of the folder ([`MailboxFacts`]); the files are views of them.
//!
//! ```text
//! file written ─► codec ─► read: uids, keywords, … ─► Vec<Op>   (a fault: no operation, one warning)
//! records      ─► show: …  ─► codec ─► bytes, or no file where the folder has nothing to say
//! ```
//!
//! Rules, after RFC 9051 §2.3.1.1:
//! - UIDVALIDITY never falls. A greater one begins anew: every UID of before is void.
//! - A UID that the record does not know is taken if it is at least UIDNEXT. One below belongs to a message that is gone, and is not given again.
//! - **A UID given in `cur/` or `new/` raises the folder's UIDNEXT above it**, whoever applies the operation; a [`Op::SetMailbox`] follows only
//!   where UIDNEXT is still greater, or another fact changed. Operations ascend by UID, so the laws hold after each of them.
//! - A malformed file changes nothing: the records stay, and the server gets back what it wrote.
//! - Keyword letters stand in file names, their meaning in the folder's facts. A server that keeps names instead (Courier) is translated: its letters
//!   wait in an attribute until a server comes that reads file names.
//!
//! [`MailboxFacts`]: crate::maildir::MailboxFacts
//! [`Op::SetMailbox`]: crate::maildir::Op::SetMailbox

pub mod keywords;
pub mod show;
pub mod subscriptions;
pub mod uids;

use super::{Attrs, MailboxFacts, TreePath};

/// A message as the records have it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Where it is: `FOLDER/cur/NAME` or `FOLDER/new/NAME`.
    pub path: TreePath,
    /// Its attributes.
    pub attrs: Attrs,
}

/// A folder as its records have it.
pub trait Folder {
    /// The directory that holds `cur` and `new`.
    fn path(&self) -> &TreePath;

    /// What the folder knows of itself; the default where it knows nothing.
    fn facts(&self) -> &MailboxFacts;

    /// The messages whose file name up to the first colon ([`super::name::stem`]) is this, in `cur/` or `new/`. More than one only where the
    /// same name stands in both, or names hold colons.
    fn with_stem(&self, stem: &[u8]) -> Vec<Message>;

    /// All messages of `cur/` and `new/`.
    fn messages(&self) -> Vec<Message>;
}

#[cfg(test)]
pub(crate) mod testing {
    //! A folder in memory, to which operations can be applied.

    use super::*;
    use crate::maildir::{Op, name};

    #[derive(Clone, Default, Debug, PartialEq, Eq)]
    pub struct Memory {
        pub path: TreePath,
        pub facts: MailboxFacts,
        pub messages: Vec<Message>,
    }

    impl Memory {
        /// A folder `f` with messages by name (`new/a`, `cur/b:2,S`) and UID (0: none).
        pub fn new(validity: u32, next: u32, messages: &[(&str, u32)]) -> Self {
            let path = TreePath::new("f");
            let messages = messages
                .iter()
                .map(|(name, uid)| Message {
                    path: TreePath::new(format!("f/{name}")),
                    attrs: Attrs {
                        uid: (*uid > 0).then_some(*uid),
                        ..Attrs::default()
                    },
                })
                .collect();
            let facts = MailboxFacts {
                uid_validity: validity,
                uid_next: next,
                ..MailboxFacts::default()
            };
            Self {
                path,
                facts,
                messages,
            }
        }

        /// Applies operations as the live tree does.
        pub fn apply(&mut self, ops: &[Op]) {
            for op in ops {
                match op {
                    Op::SetAttrs { path, attrs } => {
                        let found = self
                            .messages
                            .iter_mut()
                            .find(|message| message.path == *path);
                        found.expect("the message is there").attrs = attrs.clone();
                        let next = attrs.uid.map_or(0, |uid| uid + 1);
                        self.facts.uid_next = self.facts.uid_next.max(next);
                    }
                    Op::SetMailbox { folder, facts } => {
                        assert_eq!(*folder, self.path);
                        self.facts = facts.clone();
                    }
                    Op::Rename { from, to } => {
                        let found = self
                            .messages
                            .iter_mut()
                            .find(|message| message.path == *from);
                        found.expect("the message is there").path = to.clone();
                    }
                    other => panic!("a translation does not do {other:?}"),
                }
            }
        }

        pub fn uids(&self) -> Vec<(String, u32)> {
            self.messages
                .iter()
                .map(|message| {
                    let name = String::from_utf8_lossy(message.path.name()).into_owned();
                    (name, message.attrs.uid.unwrap_or(0))
                })
                .collect()
        }
    }

    impl Folder for Memory {
        fn path(&self) -> &TreePath {
            &self.path
        }

        fn facts(&self) -> &MailboxFacts {
            &self.facts
        }

        fn with_stem(&self, stem: &[u8]) -> Vec<Message> {
            let same = |message: &&Message| name::stem(message.path.name()) == stem;
            self.messages.iter().filter(same).cloned().collect()
        }

        fn messages(&self) -> Vec<Message> {
            self.messages.clone()
        }
    }
}
