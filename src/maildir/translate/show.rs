//! From the records to the files that the servers expect. `None`: the folder has nothing to say, and the server should find no file.

use std::collections::{BTreeMap, HashMap};

use super::{Folder, Message, keywords};
use crate::maildir::codec::courier_keywords::KeywordList;
use crate::maildir::codec::courier_uiddb::Uiddb;
use crate::maildir::codec::keywords::Keywords;
use crate::maildir::codec::uidlist::{Record, Uidlist};
use crate::maildir::codec::uidvalidity;
use crate::maildir::{MailboxFacts, hidden, name};

/// `dovecot-uidlist`: every message that has a UID. Of two with one name (the same message in `new/` and `cur/`) the one in `cur/` is
/// listed, as Dovecot takes the other for it.
#[must_use]
pub fn uidlist(folder: &dyn Folder) -> Option<Uidlist> {
    let facts = folder.facts();
    if facts.uid_validity == 0 {
        return None;
    }
    let messages = numbered(folder, |path| name::stem(path).to_vec());
    Some(Uidlist {
        uid_validity: facts.uid_validity,
        header_uid_next: uid_next(facts, &messages),
        guid: facts.guid.clone(),
        ext: facts.ext.clone(),
        records: messages
            .into_iter()
            .map(|(uid, message)| record(uid, &message))
            .collect(),
    })
}

/// A message's record in `dovecot-uidlist`.
#[must_use]
pub fn record(uid: u32, message: &Message) -> Record {
    Record {
        uid,
        ext: fields(message),
        name: name::stem(message.path.name()).to_vec(),
    }
}

/// The fields that a message has in `dovecot-uidlist`.
#[must_use]
pub fn fields(message: &Message) -> BTreeMap<u8, Vec<u8>> {
    let mut fields = message.attrs.ext.clone();
    fields.remove(&hidden::KEYWORDS);
    fields
}

/// `courierimapuiddb`: every message of `cur/` that has a UID. Those in `new/` are not listed: Courier gives each message that it takes from
/// there the next UID, whatever its file says, and so UIDNEXT must be above all.
#[must_use]
pub fn uiddb(folder: &dyn Folder) -> Option<Uiddb> {
    let facts = folder.facts();
    if facts.uid_validity == 0 {
        return None;
    }
    let messages = numbered(folder, |path| name::courier(path).to_vec());
    let header_uid_next = uid_next(facts, &messages);
    let records = messages
        .into_iter()
        .filter(|(_, message)| in_cur(message))
        .map(|(uid, message)| (uid, name::courier(message.path.name()).to_vec()))
        .collect();
    Some(Uiddb {
        uid_validity: facts.uid_validity,
        header_uid_next,
        records,
    })
}

/// `dovecot-keywords`.
#[must_use]
pub fn keywords(facts: &MailboxFacts) -> Option<Keywords> {
    (!facts.keywords.is_empty()).then(|| Keywords {
        names: facts.keywords.clone(),
    })
}

/// `courierimapkeywords/:list`.
#[must_use]
pub fn keyword_list(folder: &dyn Folder) -> Option<KeywordList> {
    let mut messages: BTreeMap<Vec<u8>, _> = BTreeMap::new();
    for message in folder.messages() {
        let set = keywords::names_of(folder.facts(), &message);
        if !set.is_empty() {
            messages.insert(name::stem(message.path.name()).to_vec(), set);
        }
    }
    (!messages.is_empty()).then_some(KeywordList { messages })
}

/// `dovecot-uidvalidity`, whose companion has the same number in its name.
#[must_use]
pub fn uidvalidity(facts: &MailboxFacts) -> Option<Vec<u8>> {
    (facts.uid_validity_issued > 0).then(|| uidvalidity::encode(facts.uid_validity_issued))
}

/// The messages that have a UID, by UID, one a server's name for it.
fn numbered(folder: &dyn Folder, named: impl Fn(&[u8]) -> Vec<u8>) -> BTreeMap<u32, Message> {
    let mut by_name: HashMap<Vec<u8>, Message> = HashMap::new();
    for message in folder.messages() {
        if message.attrs.uid.is_none() {
            continue;
        }
        let key = named(message.path.name());
        if in_cur(&message) || !by_name.contains_key(&key) {
            by_name.insert(key, message);
        }
    }
    by_name
        .into_values()
        .filter_map(|message| Some((message.attrs.uid?, message)))
        .collect()
}

fn in_cur(message: &Message) -> bool {
    message.path.parent().unwrap_or_default().name() == b"cur"
}

/// UIDNEXT above every UID shown, and never 0.
fn uid_next(facts: &MailboxFacts, messages: &BTreeMap<u32, Message>) -> u32 {
    let last = messages.last_key_value().map_or(0, |(uid, _)| *uid);
    facts.uid_next.max(last.saturating_add(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Memory;
    use super::super::uids;
    use super::*;

    fn folder() -> Memory {
        let mut folder = Memory::new(
            9,
            8,
            &[
                ("new/c", 7),
                ("cur/a:2,Sab", 4),
                ("cur/b:2,", 0),
                ("new/a", 2),
                ("cur/x:y:2,", 5),
            ],
        );
        folder.messages[1].attrs.ext.insert(b'W', b"1".to_vec());
        folder.facts.keywords = [(0, b"One".to_vec())].into();
        folder.facts.ext.insert(b'P', b"v".to_vec());
        folder
    }

    #[test]
    fn each_server_sees_its_own_file() {
        let folder = folder();
        assert_eq!(
            uidlist(&folder).unwrap().encode(),
            b"3 V9 N8 Pv\n4 W1 :a\n5 :x\n7 :c\n"
        );
        assert_eq!(uiddb(&folder).unwrap().encode(), b"1 9 8\n4 a\n5 x:y\n");
        assert_eq!(keywords(&folder.facts).unwrap().encode(), b"0 One\n");
        assert_eq!(keyword_list(&folder).unwrap().encode(), b"One\n\na:0\n");
    }

    #[test]
    fn a_folder_without_records_shows_nothing() {
        let folder = Memory::new(0, 0, &[("new/c", 0)]);
        assert_eq!(uidlist(&folder), None);
        assert_eq!(uiddb(&folder), None);
        assert_eq!(keywords(&folder.facts), None);
        assert_eq!(keyword_list(&folder), None);
        assert_eq!(uidvalidity(&folder.facts), None);
    }

    #[test]
    fn what_is_shown_says_nothing_new_when_read() {
        let folder = folder();
        assert_eq!(
            uids::uidlist(&folder, &uidlist(&folder).unwrap()),
            Ok(uids::Read::default())
        );
        assert_eq!(
            uids::uiddb(&folder, &uiddb(&folder).unwrap()),
            Ok(uids::Read::default())
        );
    }
}
