//! An index file as a value: parsed, compared with the records, turned into operations.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use super::super::node::Marks;
use super::Index;
use super::records::Records;
use crate::maildir::codec::Malformed;
use crate::maildir::codec::courier_keywords::KeywordList;
use crate::maildir::codec::courier_uiddb::Uiddb;
use crate::maildir::codec::keywords::Keywords;
use crate::maildir::codec::uidlist::{Tail, Uidlist};
use crate::maildir::translate::uids::{self, Appended, Read};
use crate::maildir::translate::{Folder as _, keywords, show};
use crate::maildir::{Op, hidden, name};

/// A parsed file.
pub enum Parsed {
    Uidlist(Uidlist),
    Uiddb(Uiddb),
    Keywords(Keywords),
    KeywordList(KeywordList),
}

impl Parsed {
    /// Parses; `None` for a file that is no view of messages.
    pub fn parse(index: Index, bytes: &[u8]) -> Option<Result<Self, Malformed>> {
        Some(match index {
            Index::Uidlist => Uidlist::parse(bytes).map(Self::Uidlist),
            Index::Uiddb => Uiddb::parse(bytes).map(Self::Uiddb),
            Index::Keywords => Keywords::parse(bytes).map(Self::Keywords),
            Index::KeywordList => KeywordList::parse(bytes).map(Self::KeywordList),
            _ => return None,
        })
    }

    /// The UIDVALIDITY it says, if it is of those that do.
    pub fn uid_validity(&self) -> Option<u32> {
        match self {
            Self::Uidlist(list) => Some(list.uid_validity),
            Self::Uiddb(db) => Some(db.uid_validity),
            Self::Keywords(_) | Self::KeywordList(_) => None,
        }
    }

    /// What it says to the records, being the truth: its server wrote it just now.
    pub fn news(&self, view: &Records<'_>) -> Result<Read, Malformed> {
        match self {
            Self::Uidlist(list) => uids::uidlist(view, list),
            Self::Uiddb(db) => uids::uiddb(view, db),
            Self::Keywords(names) => Ok(only(keywords::dovecot(view, names))),
            Self::KeywordList(list) => keywords::courier_list(view, list).map(only),
        }
    }

    /// Whether it is a uidlist that says nothing but what the records say: most that Dovecot rewrites are, and a large folder is compared much faster than read.
    pub fn is_no_news(&self, view: &Records<'_>) -> bool {
        match self {
            Self::Uidlist(list) => {
                (list.guid.is_none() || list.guid == view.facts().guid) && self.agrees(view)
            }
            _ => false,
        }
    }

    /// What it says to the records, being of unknown age: UIDs that are not yet given, or all where the folder knows nothing.
    pub fn old_news(&self, view: &Records<'_>) -> Result<Read, Malformed> {
        let facts = view.facts();
        match self {
            Self::Uidlist(_) | Self::Uiddb(_) if facts.uid_validity == 0 => self.news(view),
            Self::Keywords(_) | Self::KeywordList(_) if facts.keywords.is_empty() => {
                self.news(view)
            }
            Self::Uidlist(list) if list.uid_validity == facts.uid_validity => {
                let (lines, records) = (1, &list.records[..]);
                Ok(uids::appended(view, Appended { lines, records }).unwrap_or_default())
            }
            Self::Uiddb(db) if db.uid_validity == facts.uid_validity => {
                Ok(uids::uiddb(view, db).unwrap_or_default())
            }
            _ => Ok(Read::default()),
        }
    }

    /// Whether it says what the records say. Expunged messages may linger.
    pub fn agrees(&self, view: &Records<'_>) -> bool {
        let facts = view.facts();
        match self {
            Self::Uidlist(list) => {
                let known = (facts.uid_validity, facts.uid_next.max(1));
                if (list.uid_validity, list.uid_next()) != known
                    || list.ext != facts.ext
                    || (facts.guid.is_some() && list.guid != facts.guid)
                {
                    return false;
                }
                let said: HashMap<&[u8], _> = list
                    .records
                    .iter()
                    .map(|record| (name::stem(&record.name), (record.uid, &record.ext)))
                    .collect();
                let mut unnumbered: HashSet<&[u8]> = HashSet::new();
                let agreed = view.marked().all(|(file_name, marks)| {
                    let stem = name::stem(file_name);
                    match (marks.uid, said.get(stem)) {
                        (0, found) => {
                            if found.is_some() {
                                unnumbered.insert(stem);
                            }
                            true
                        }
                        (uid, Some((said, ext))) => uid == *said && has_fields(&marks, ext),
                        (_, None) => false,
                    }
                });
                // A line for such a name is left over from one that has come back, or its twin's.
                if agreed && !unnumbered.is_empty() {
                    let numbered = view.marked().filter(|(_, marks)| marks.uid > 0);
                    for (twin, _) in numbered {
                        unnumbered.remove(name::stem(twin));
                    }
                }
                agreed && unnumbered.is_empty()
            }
            Self::Uiddb(db) => {
                let known = (facts.uid_validity, facts.uid_next.max(1));
                if (db.uid_validity, db.uid_next()) != known {
                    return false;
                }
                let said: HashMap<&[u8], u32> = db
                    .records
                    .iter()
                    .map(|(uid, name)| (name.as_slice(), *uid))
                    .collect();
                view.messages().into_iter().all(|message| {
                    message.path.parent().unwrap_or_default().name() != b"cur"
                        || said.get(name::courier(message.path.name())).copied()
                            == message.attrs.uid
                })
            }
            Self::Keywords(names) => names.names == facts.keywords,
            Self::KeywordList(list) => *list == show::keyword_list(view).unwrap_or_default(),
        }
    }

    /// Where its tail begins, for a uidlist.
    pub fn tail(&self) -> Option<Tail> {
        match self {
            Self::Uidlist(list) => Some(list.tail()),
            _ => None,
        }
    }
}

/// Whether a message has these fields in a uidlist.
fn has_fields(marks: &Marks, fields: &BTreeMap<u8, Vec<u8>>) -> bool {
    let shown = marks
        .ext
        .iter()
        .filter(|(key, _)| **key != hidden::KEYWORDS);
    shown.eq(fields.iter())
}

fn only(ops: Vec<Op>) -> Read {
    let promised = Vec::new();
    Read { ops, promised }
}
