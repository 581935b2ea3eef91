//! UIDs: from the index files of Dovecot and Courier to operations.
//!
//! What a record `UID NAME` of a file means, for a message that the folder has by that name:
//!
//! | the message has | the file's UID is | |
//! |---|---|---|
//! | that UID | — | its fields are taken |
//! | none, or another | at least UIDNEXT | the message gets it: new, or renumbered by the server |
//! | none | below UIDNEXT | left over from an expunged message of that name: not given again |
//! | a greater one | below UIDNEXT | left over, as above |
//! | a smaller one | below UIDNEXT | [`Fault::Reused`]: the whole file is refused |
//!
//! A record without a message is left over from an expunged one where its UID is below UIDNEXT. Else it is *promised*: somebody copies a
//! Maildir and the index file came first. The caller keeps promises and gives a message that appears by that name its UID.
//!
//! Dovecot appends to its file in place ([`Appended`]) and does so under the folder's lock, after the message is in place; the file's header is then
//! that of an earlier time.

use std::collections::{BTreeMap, HashMap};

use super::{Folder, Message};
use crate::maildir::codec::courier_uiddb::Uiddb;
use crate::maildir::codec::uidlist::{Record, Uidlist};
use crate::maildir::codec::{Fault, Malformed};
use crate::maildir::{Attrs, MailboxFacts, Op, hidden, name};

/// What a file says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Read {
    /// The operations that bring it into the records, in the order in which they must be applied.
    pub ops: Vec<Op>,
    /// Records of messages that are not there yet.
    pub promised: Vec<Record>,
}

/// Records that were appended to a `dovecot-uidlist`.
#[derive(Clone, Copy, Debug)]
pub struct Appended<'a> {
    /// Lines of the file before them.
    pub lines: usize,
    /// The records.
    pub records: &'a [Record],
}

/// A whole `dovecot-uidlist`: rewritten by a server, or met for the first time.
///
/// # Errors
/// Where it breaks a law: the records are not to be touched then.
pub fn uidlist(folder: &dyn Folder, list: &Uidlist) -> Result<Read, Malformed> {
    let mut facts = folder.facts().clone();
    facts.guid = list.guid.clone().or(facts.guid);
    facts.ext = list.ext.clone();
    let given = list.records.iter().map(Given::from);
    whole(folder, facts, (list.uid_validity, list.uid_next()), given)
}

/// A whole `courierimapuiddb`. It has no fields: those on record stay.
///
/// # Errors
/// Where it breaks a law: the records are not to be touched then.
pub fn uiddb(folder: &dyn Folder, db: &Uiddb) -> Result<Read, Malformed> {
    let given = db.records.iter().map(|(uid, name)| Given {
        uid: *uid,
        name,
        ext: None,
    });
    let facts = folder.facts().clone();
    whole(folder, facts, (db.uid_validity, db.uid_next()), given)
}

/// Records that Dovecot appended. Costs what was appended, not what the folder holds.
///
/// # Errors
/// Where one breaks a law: the records are not to be touched then.
pub fn appended(folder: &dyn Folder, tail: Appended<'_>) -> Result<Read, Malformed> {
    let given: Vec<Given<'_>> = tail.records.iter().map(Given::from).collect();
    records(folder, folder.facts().uid_next, &given, tail.lines + 1)
}

/// One record of a file of either kind.
struct Given<'a> {
    uid: u32,
    /// Up to the first colon (Dovecot) or the last (Courier).
    name: &'a [u8],
    /// `None` where the format has no fields.
    ext: Option<&'a BTreeMap<u8, Vec<u8>>>,
}

impl<'a> From<&'a Record> for Given<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            uid: record.uid,
            name: name::stem(&record.name),
            ext: Some(&record.ext),
        }
    }
}

impl Given<'_> {
    /// The message it means. Where two have the name, the one that has the UID, else the one in `cur/`.
    fn message(&self, folder: &dyn Folder) -> Option<Message> {
        let mut found = folder.with_stem(name::stem(self.name));
        if self.ext.is_none() {
            found.retain(|message| name::courier(message.path.name()) == self.name);
        }
        found.into_iter().min_by_key(|message| {
            let dir = message.path.parent().unwrap_or_default();
            (message.attrs.uid != Some(self.uid), dir.name() != b"cur")
        })
    }

    fn record(&self) -> Record {
        Record {
            uid: self.uid,
            ext: self.ext.cloned().unwrap_or_default(),
            name: self.name.to_vec(),
        }
    }
}

/// A whole file with the facts that its header says, UIDVALIDITY and UIDNEXT apart.
fn whole<'a>(
    folder: &dyn Folder,
    mut facts: MailboxFacts,
    (uid_validity, uid_next): (u32, u32),
    given: impl Iterator<Item = Given<'a>>,
) -> Result<Read, Malformed> {
    let before = folder.facts();
    if uid_validity < before.uid_validity {
        let (from, to) = (before.uid_validity, uid_validity);
        return Err(Fault::UidValidityFell { from, to }.at(1));
    }
    let given: Vec<Given<'a>> = given.collect();
    facts.uid_validity = uid_validity;
    // A file of Courier's has no GUID; what was offered with its UIDVALIDITY is the folder's.
    if let Some(offer) = facts.offer.take()
        && offer.uid_validity == uid_validity
    {
        facts.guid = facts.guid.or(Some(offer.guid));
    }
    if uid_validity == before.uid_validity {
        let mut read = records(folder, before.uid_next, &given, 2)?;
        let raised = raised(before.uid_next, &read.ops);
        facts.uid_next = before.uid_next.max(uid_next).max(raised);
        let implied = MailboxFacts {
            uid_next: raised,
            ..before.clone()
        };
        set_facts(folder, &mut read.ops, &implied, facts);
        return Ok(read);
    }
    // Begun anew: no UID of before means anything, and the file is all that is known.
    let anew = Anew { folder };
    let Read { ops, promised } = records(&anew, 1, &given, 2)?;
    let listed: std::collections::HashSet<_> = ops
        .iter()
        .filter_map(|op| match op {
            Op::SetAttrs { path, .. } => Some(path),
            _ => None,
        })
        .collect();
    let mut read = Read {
        ops: Vec::new(),
        promised,
    };
    for Message { path, attrs } in folder.messages() {
        if attrs.uid.is_some() && !listed.contains(&path) {
            let attrs = Attrs { uid: None, ..attrs };
            read.ops.push(Op::SetAttrs { path, attrs });
        }
    }
    // From 1, so that each UID given is one from UIDNEXT on.
    facts.uid_next = 1;
    read.ops.push(Op::SetMailbox {
        folder: folder.path().clone(),
        facts: facts.clone(),
    });
    let raised = raised(1, &ops);
    read.ops.extend(ops);
    let implied = MailboxFacts {
        uid_next: raised,
        ..facts.clone()
    };
    facts.uid_next = uid_next.max(raised);
    set_facts(folder, &mut read.ops, &implied, facts);
    Ok(read)
}

/// A folder under a new UIDVALIDITY: the messages without UIDs.
struct Anew<'a> {
    folder: &'a dyn Folder,
}

impl Folder for Anew<'_> {
    fn path(&self) -> &crate::maildir::TreePath {
        self.folder.path()
    }

    fn facts(&self) -> &MailboxFacts {
        self.folder.facts()
    }

    fn with_stem(&self, stem: &[u8]) -> Vec<Message> {
        without_uids(self.folder.with_stem(stem))
    }

    fn messages(&self) -> Vec<Message> {
        without_uids(self.folder.messages())
    }
}

fn without_uids(mut messages: Vec<Message>) -> Vec<Message> {
    for message in &mut messages {
        message.attrs.uid = None;
    }
    messages
}

/// The records of a file, the first of them on line `line`; UIDs from `floor` on are free.
fn records(
    folder: &dyn Folder,
    floor: u32,
    given: &[Given<'_>],
    line: usize,
) -> Result<Read, Malformed> {
    // A name that stands twice means the later record.
    let last: HashMap<&[u8], usize> = given
        .iter()
        .enumerate()
        .map(|(at, one)| (one.name, at))
        .collect();
    let mut read = Read::default();
    for (at, one) in given.iter().enumerate() {
        if last.get(one.name) != Some(&at) {
            continue;
        }
        let Some(message) = one.message(folder) else {
            if one.uid >= floor {
                read.promised.push(one.record());
            }
            continue;
        };
        let free = one.uid >= floor;
        let taken = match message.attrs.uid {
            Some(uid) if uid == one.uid => true,
            Some(uid) if uid < one.uid && !free => {
                let reused = Fault::Reused {
                    uid: one.uid,
                    uid_next: floor,
                };
                return Err(reused.at(line + at));
            }
            _ => free,
        };
        let mut ext = one.ext.unwrap_or(&message.attrs.ext).clone();
        if let Some(letters) = message.attrs.ext.get(&hidden::KEYWORDS) {
            ext.insert(hidden::KEYWORDS, letters.clone());
        }
        let attrs = Attrs {
            uid: Some(one.uid),
            ext,
            ..message.attrs.clone()
        };
        if taken && attrs != message.attrs {
            read.ops.push(Op::SetAttrs {
                path: message.path,
                attrs,
            });
        }
    }
    Ok(read)
}

/// UIDNEXT after operations that give UIDs.
fn raised(uid_next: u32, ops: &[Op]) -> u32 {
    ops.iter().fold(uid_next, |next, op| match op {
        Op::SetAttrs {
            attrs: Attrs { uid: Some(uid), .. },
            ..
        } => next.max(uid + 1),
        _ => next,
    })
}

fn set_facts(folder: &dyn Folder, ops: &mut Vec<Op>, implied: &MailboxFacts, facts: MailboxFacts) {
    if facts != *implied {
        ops.push(Op::SetMailbox {
            folder: folder.path().clone(),
            facts,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Memory;
    use super::*;
    use crate::maildir::codec::uidlist::Tail;

    fn read(folder: &Memory, file: &[u8]) -> Result<Read, Malformed> {
        uidlist(folder, &Uidlist::parse(file).unwrap())
    }

    /// Applies a file and returns names, UIDs, UIDNEXT.
    fn after(mut folder: Memory, file: &[u8]) -> (Vec<(String, u32)>, u32) {
        let read = read(&folder, file).unwrap();
        folder.apply(&read.ops);
        assert_eq!(
            uidlist(&folder, &Uidlist::parse(file).unwrap())
                .unwrap()
                .ops,
            [],
            "read again, it says nothing new"
        );
        (folder.uids(), folder.facts.uid_next)
    }

    fn uids(of: &[(&str, u32)]) -> Vec<(String, u32)> {
        of.iter()
            .map(|(name, uid)| ((*name).to_owned(), *uid))
            .collect()
    }

    #[test]
    fn a_first_file_is_taken_whole_and_in_lawful_steps() {
        let folder = Memory::new(0, 0, &[("cur/a:2,S", 0), ("new/b", 0), ("cur/c:2,", 0)]);
        let ops = read(&folder, b"3 V9 N20 Pv\n4 W1 :a\n7 :b\n12 :gone\n").unwrap();
        assert_eq!(ops.promised.len(), 1);
        let mut next = 0;
        let mut seen = Vec::new();
        for op in &ops.ops {
            match op {
                Op::SetMailbox { facts, .. } => next = facts.uid_next,
                Op::SetAttrs { attrs, .. } => {
                    assert!(attrs.uid.unwrap() >= next);
                    next = attrs.uid.unwrap() + 1;
                    seen.push(attrs.uid.unwrap());
                }
                _ => unreachable!(),
            }
        }
        assert_eq!((seen, next), (vec![4, 7], 20));
        assert_eq!(
            after(folder, b"3 V9 N20 Pv\n4 W1 :a\n7 :b\n12 :gone\n"),
            (uids(&[("a:2,S", 4), ("b", 7), ("c:2,", 0)]), 20)
        );
    }

    #[test]
    fn a_tail_gives_one_operation() {
        let mut folder = Memory::new(9, 5, &[("cur/a:2,S", 4), ("new/b,S=3", 0)]);
        let mut tail = Tail {
            lines: 3,
            last_uid: 4,
        };
        let records = tail.parse(b"5 W9 :b,S=3\n").unwrap();
        let read = appended(
            &folder,
            Appended {
                lines: 3,
                records: &records,
            },
        )
        .unwrap();
        assert_eq!(read.ops.len(), 1);
        folder.apply(&read.ops);
        assert_eq!(
            (folder.uids(), folder.facts.uid_next),
            (uids(&[("a:2,S", 4), ("b,S=3", 5)]), 6)
        );
        assert_eq!(folder.messages[1].attrs.ext[&b'W'], b"9");
    }

    #[test]
    fn a_greater_uidvalidity_begins_anew() {
        let folder = Memory::new(9, 5, &[("cur/a:2,S", 4), ("new/b", 3), ("new/c", 2)]);
        assert_eq!(
            after(folder, b"3 V10 N1\n3 :a\n4 :b\n"),
            (uids(&[("a:2,S", 3), ("b", 4), ("c", 0)]), 5)
        );
    }

    #[test]
    fn a_smaller_uidvalidity_is_refused() {
        let folder = Memory::new(9, 5, &[("cur/a:2,S", 4)]);
        assert_eq!(
            read(&folder, b"3 V8 N1\n3 :a\n"),
            Err(Fault::UidValidityFell { from: 9, to: 8 }.at(1))
        );
    }

    #[test]
    fn uidnext_never_falls_and_rises_with_the_header() {
        let folder = Memory::new(9, 50, &[("cur/a:2,S", 4)]);
        assert_eq!(after(folder.clone(), b"3 V9 N5\n4 :a\n").1, 50);
        assert_eq!(after(folder, b"3 V9 N60\n4 :a\n").1, 60);
    }

    #[test]
    fn what_expunged_messages_left_over_is_not_given_again() {
        let folder = Memory::new(9, 5, &[("cur/a:2,S", 4), ("new/back", 0)]);
        assert_eq!(
            after(folder.clone(), b"3 V9 N5\n2 :back\n4 :a\n").0,
            folder.uids()
        );
        let folder = Memory::new(9, 6, &[("cur/a:2,S", 4), ("new/back", 5)]);
        assert_eq!(
            after(folder.clone(), b"3 V9 N5\n2 :back\n4 :a\n").0,
            folder.uids()
        );
        let twice = b"3 V9 N5\n2 :back\n4 :a\n7 :back\n";
        assert_eq!(after(folder, twice).0, uids(&[("a:2,S", 4), ("back", 7)]));
    }

    #[test]
    fn a_server_may_renumber_from_uidnext_on_but_not_below() {
        let folder = Memory::new(9, 10, &[("cur/a:2,S", 4)]);
        assert_eq!(
            after(folder.clone(), b"3 V9 N5\n10 :a\n").0,
            uids(&[("a:2,S", 10)])
        );
        assert_eq!(
            read(&folder, b"3 V9 N5\n1 :x\n7 :a\n"),
            Err(Fault::Reused {
                uid: 7,
                uid_next: 10
            }
            .at(3))
        );
    }

    #[test]
    fn courier_and_dovecot_speak_of_one_folder() {
        let mut folder = Memory::new(
            9,
            5,
            &[("cur/a:2,S", 4), ("cur/odd:name:2,S", 0), ("cur/odd:2,", 0)],
        );
        folder.messages[0].attrs.ext.insert(b'W', b"7".to_vec());
        let db = Uiddb::parse(b"1 9 7\n4 a\n5 odd\n6 odd:name\n").unwrap();
        let read = uiddb(&folder, &db).unwrap();
        folder.apply(&read.ops);
        assert_eq!(
            folder.uids(),
            uids(&[("a:2,S", 4), ("odd:name:2,S", 6), ("odd:2,", 5)])
        );
        assert_eq!(folder.messages[0].attrs.ext[&b'W'], b"7");
    }

    #[test]
    fn a_message_in_new_and_cur_is_the_one_in_cur() {
        let folder = Memory::new(9, 5, &[("new/a", 0), ("cur/a:2,S", 0)]);
        assert_eq!(
            after(folder, b"3 V9 N5\n6 :a\n").0,
            uids(&[("a", 0), ("a:2,S", 6)])
        );
    }

    #[test]
    fn fields_and_facts_are_the_servers_to_change() {
        let mut folder = Memory::new(9, 5, &[("cur/a:2,S", 4)]);
        let file = b"3 V9 N5 G5c2f1a0b9d8e7f6a5c2f1a0b9d8e7f6a Pv\n4 W1 :a\n";
        folder.apply(&read(&folder, file).unwrap().ops);
        assert_eq!(folder.facts.ext[&b'P'], b"v");
        assert_eq!(folder.messages[0].attrs.ext[&b'W'], b"1");
        folder.apply(&read(&folder, b"3 V9 N5\n4 :a\n").unwrap().ops);
        assert!(folder.facts.ext.is_empty() && folder.facts.guid.is_some());
        assert!(folder.messages[0].attrs.ext.is_empty());
    }
}
