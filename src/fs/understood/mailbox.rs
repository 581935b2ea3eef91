//! What the live tree knows of a folder besides its entries, and how far each index file is true.

use hashbrown::{HashMap, HashSet};

use super::super::node::{Ino, Name};
use super::Index;
use crate::maildir::codec::uidlist::Tail;
use crate::maildir::{MailboxFacts, Oid};

/// Messages that wait for a UID, and names of messages that left, are remembered up to this many; with more, a tail costs a walk through the folder, and
/// the uidlist is made anew.
const WAITING_MAX: usize = 10_000;

/// A folder's facts and the views of its records.
#[derive(Debug, Default)]
pub struct Mailbox {
    /// The facts on record.
    pub facts: MailboxFacts,
    /// Where messages have landed without a UID, by the name a uidlist will have for them.
    pub waiting: HashMap<Vec<u8>, (Ino, Name)>,
    /// The folder was renamed, and Courier has not numbered it since.
    pub renamed: bool,
    /// Courier has deleted its UIDs for that: what it looks for next has a UIDVALIDITY of its own.
    pub begins_anew: bool,
    /// Messages whose keyword letters wait to be written out.
    pub letters: HashSet<Ino>,
    /// Names that messages had before that.
    pub former: HashMap<Name, Ino>,
    /// Names in the uidlist whose messages have left the folder. Dovecot warns of a name that stands twice.
    left: HashSet<Vec<u8>>,
    uidlist: View,
    keywords: View,
    uidvalidity: View,
    uiddb: View,
    keyword_list: View,
    subscribed: View,
}

/// How far a file is true.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// Nothing is known since the mount.
    #[default]
    Unread,
    /// It says what the records say.
    Agrees,
    /// The records have changed since.
    Behind,
    /// It breaks a rule: shown as it is until its server changes it.
    Refused,
}

/// A file as a view of the records.
#[derive(Debug, Default)]
pub struct View {
    /// How far it is true.
    pub state: State,
    /// Bytes from here on were written and not read.
    pub written: Option<u64>,
    /// Of a uidlist: bytes read, and what is needed to read on.
    pub tail: Option<(u64, Tail)>,
    /// Of `courierimapsubscribed`: the `subscriptions` it was made from or turned into.
    pub source: Option<Oid>,
}

impl View {
    /// The file is another one.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    fn behind(&mut self) {
        if self.state == State::Agrees {
            self.state = State::Behind;
        }
    }
}

/// How records change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// UIDs, fields or facts of UIDs.
    Uids,
    /// A message has another name up to its first colon.
    Names,
    /// A message with a UID has come into `cur`.
    Cur,
    /// A message's keyword letters.
    Letters,
    /// All that a braid may change.
    Everything,
}

impl Mailbox {
    /// The view that is kept for a file; `None` for files that are no view.
    pub(super) fn view(&self, index: Index) -> Option<&View> {
        match index {
            Index::Uidlist => Some(&self.uidlist),
            Index::Keywords => Some(&self.keywords),
            Index::Uidvalidity | Index::Companion(_) => Some(&self.uidvalidity),
            Index::Uiddb => Some(&self.uiddb),
            Index::KeywordList | Index::KeywordDir => Some(&self.keyword_list),
            Index::Subscribed => Some(&self.subscribed),
            Index::KeywordUpdate => None,
        }
    }

    /// The same, to change.
    pub(super) fn view_mut(&mut self, index: Index) -> Option<&mut View> {
        match index {
            Index::Uidlist => Some(&mut self.uidlist),
            Index::Keywords => Some(&mut self.keywords),
            Index::Uidvalidity | Index::Companion(_) => Some(&mut self.uidvalidity),
            Index::Uiddb => Some(&mut self.uiddb),
            Index::KeywordList | Index::KeywordDir => Some(&mut self.keyword_list),
            Index::Subscribed => Some(&mut self.subscribed),
            Index::KeywordUpdate => None,
        }
    }

    /// Whether no server has numbered the folder, and the file is one that would say how.
    pub(super) fn is_new_to(&self, index: Index) -> bool {
        let tells_numbers = matches!(index, Index::Uidlist | Index::Uiddb);
        tells_numbers && self.facts.uid_validity == 0 && !self.begins_anew
    }

    /// Whether a file was written and not read.
    pub fn is_written(&self) -> bool {
        let views = [
            &self.uidlist,
            &self.keywords,
            &self.uidvalidity,
            &self.uiddb,
            &self.keyword_list,
            &self.subscribed,
        ];
        views.iter().any(|view| view.written.is_some())
    }

    /// Views that a change of the records leaves behind.
    pub fn changed(&mut self, event: Event) {
        let everything = event == Event::Everything;
        if everything || matches!(event, Event::Uids | Event::Names) {
            self.uidlist.behind();
        }
        if everything || matches!(event, Event::Uids | Event::Names | Event::Cur) {
            self.uiddb.behind();
        }
        if everything || matches!(event, Event::Letters | Event::Names) {
            self.keyword_list.behind();
        }
        if everything {
            self.keywords.behind();
            self.uidvalidity.behind();
        }
    }

    /// The facts are replaced, and views of what changed are behind.
    pub fn set_facts(&mut self, facts: MailboxFacts) {
        let old = std::mem::replace(&mut self.facts, facts);
        let new = &self.facts;
        if old.keywords != new.keywords {
            self.keywords.behind();
            self.keyword_list.behind();
        }
        if old.uid_validity_issued != new.uid_validity_issued {
            self.uidvalidity.behind();
        }
        let uids = |facts: &MailboxFacts| (facts.uid_validity, facts.uid_next);
        if uids(&old) != uids(new) || old.guid != new.guid || old.ext != new.ext {
            self.uidlist.behind();
            self.uiddb.behind();
        }
    }

    /// A UID was given: UIDNEXT rises above it.
    pub fn raise_uid_next(&mut self, uid: u32) {
        self.facts.uid_next = self.facts.uid_next.max(uid.saturating_add(1));
    }

    /// A message with a UID has left the folder; its line stays in a true uidlist.
    pub fn leaves(&mut self, stem: &[u8]) {
        if self.uidlist.state == State::Agrees {
            if self.left.len() >= WAITING_MAX {
                self.uidlist.behind();
            }
            self.left.insert(stem.to_vec());
        }
        if self.uidlist.state != State::Agrees {
            self.left.clear();
        }
    }

    /// Whether a line for this name may be added to the uidlist.
    pub fn may_add(&self, stem: &[u8]) -> bool {
        self.uidlist.state == State::Agrees && !self.left.contains(stem)
    }

    /// The uidlist is another file: what has left is not in it.
    pub fn uidlist_is_new(&mut self) {
        self.left.clear();
    }

    /// A message has landed without a UID.
    pub fn waits(&mut self, stem: &[u8], dir: Ino, name: Name) {
        if self.facts.uid_validity == 0 {
            return;
        }
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.clear();
        }
        self.waiting.insert(stem.to_vec(), (dir, name));
    }
}
