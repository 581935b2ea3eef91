//! Whatever a server writes of a folder, the records move by lawful steps, and the file shown afterwards says what the records say.

use std::collections::BTreeSet;

use mailbraid::maildir::codec::courier_keywords::KeywordList;
use mailbraid::maildir::codec::courier_uiddb::Uiddb;
use mailbraid::maildir::codec::uidlist::{Record, Uidlist};
use mailbraid::maildir::laws::{self, Holder, Step};
use mailbraid::maildir::translate::{Folder, Message, keywords, show, uids};
use mailbraid::maildir::{Attrs, HashKind, MailboxFacts, Oid, Op, TreePath, name};

use super::generate;
use super::random::Random;

const FOLDERS: usize = 20_000;

/// A folder in memory. Each message's blob is told by its first path.
#[derive(Clone)]
struct Memory {
    path: TreePath,
    facts: MailboxFacts,
    messages: Vec<(Message, Oid)>,
}

impl Folder for Memory {
    fn path(&self) -> &TreePath {
        &self.path
    }

    fn facts(&self) -> &MailboxFacts {
        &self.facts
    }

    fn with_stem(&self, stem: &[u8]) -> Vec<Message> {
        self.messages()
            .into_iter()
            .filter(|message| name::stem(message.path.name()) == stem)
            .collect()
    }

    fn messages(&self) -> Vec<Message> {
        self.messages
            .iter()
            .map(|(message, _)| message.clone())
            .collect()
    }
}

impl Memory {
    fn generate(random: &mut Random) -> Self {
        let path = TreePath::new("u/.folder");
        let mut facts = MailboxFacts::default();
        if !random.once_in(4) {
            facts.uid_validity = 1 + random.below(3) as u32;
            facts.uid_next = 1 + random.below(12) as u32;
            facts.keywords = generate::keywords(random).names;
        }
        let mut free: Vec<u32> = (1..facts.uid_next).collect();
        let mut messages: Vec<(Message, Oid)> = Vec::new();
        for number in 0..random.below(7) {
            let dir = *random.pick(&["cur", "new"]);
            let path = path.join(dir.as_bytes()).join(&file_name(random));
            if messages.iter().any(|(message, _)| message.path == path) {
                continue;
            }
            let uid = (!free.is_empty() && !random.once_in(3))
                .then(|| free.remove(random.below(free.len())));
            let attrs = Attrs {
                uid,
                ..Attrs::default()
            };
            let oid = Oid::from_bytes(&vec![number as u8; HashKind::Sha1.len()]).expect("20 bytes");
            messages.push((Message { path, attrs }, oid));
        }
        Self {
            path,
            facts,
            messages,
        }
    }

    /// Applies one operation, and checks the laws over it.
    fn apply(&mut self, op: &Op) {
        let before = self.clone();
        match op {
            Op::SetAttrs { path, attrs } => {
                let found = self
                    .messages
                    .iter_mut()
                    .find(|(message, _)| message.path == *path);
                found.expect("the message is there").0.attrs = attrs.clone();
                self.facts.uid_next = self.facts.uid_next.max(attrs.uid.map_or(0, |uid| uid + 1));
            }
            Op::SetMailbox { folder, facts } => {
                assert_eq!(*folder, self.path);
                self.facts = facts.clone();
            }
            Op::Rename { from, to } => {
                assert!(!self.messages.iter().any(|(message, _)| message.path == *to));
                let found = self
                    .messages
                    .iter_mut()
                    .find(|(message, _)| message.path == *from);
                found.expect("the message is there").0.path = to.clone();
            }
            other => panic!("a translation does not do {other:?}"),
        }
        let removed: Vec<Holder> = before
            .holders()
            .into_iter()
            .filter(|old| !self.holders().contains(old))
            .collect();
        let added: Vec<Holder> = self
            .holders()
            .into_iter()
            .filter(|new| !before.holders().contains(new))
            .collect();
        let step = Step {
            before: Some(&before.facts),
            after: Some(&self.facts),
            removed: &removed,
            added: &added,
        };
        assert_eq!(laws::check(&step), [], "{op:?}");
    }

    fn holders(&self) -> Vec<Holder> {
        let holder = |(message, oid): &(Message, Oid)| {
            let name = message.path.name().to_vec();
            message.attrs.uid.map(|uid| Holder {
                uid,
                name,
                oid: *oid,
            })
        };
        self.messages.iter().filter_map(holder).collect()
    }
}

/// One of few unique names, with flags or without.
fn file_name(random: &mut Random) -> Vec<u8> {
    let unique = *random.pick(&["1.a", "2.b,S=3", "3.c:x", "4.d", "5.e", "6.f"]);
    let info = *random.pick(&["", ":2,", ":2,Sab", ":2,FSz"]);
    [unique, info].concat().into_bytes()
}

fn records(random: &mut Random) -> Vec<Record> {
    let mut uid = 0;
    (0..random.below(8))
        .map(|_| {
            uid += 1 + random.below(4) as u32;
            let name = name::stem(&file_name(random)).to_vec();
            Record {
                uid,
                name,
                ..Record::default()
            }
        })
        .collect()
}

#[test]
fn what_dovecot_writes_moves_the_records_by_lawful_steps() {
    let mut random = Random::from_env("what_dovecot_writes_moves_the_records_by_lawful_steps");
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..FOLDERS {
        let mut folder = Memory::generate(&mut random);
        let list = Uidlist {
            uid_validity: 1 + random.below(4) as u32,
            header_uid_next: 1 + random.below(12) as u32,
            records: records(&mut random),
            ..Uidlist::default()
        };
        let Ok(read) = uids::uidlist(&folder, &list) else {
            refused += 1;
            continue;
        };
        taken += 1;
        read.ops.iter().for_each(|op| folder.apply(op));
        assert!(folder.facts.uid_next >= list.uid_next());
        let again = uids::uidlist(&folder, &list).expect("what was taken is taken again");
        assert_eq!(again.ops, []);
        let shown = show::uidlist(&folder).expect("the folder has UIDs");
        assert_eq!(Uidlist::parse(&shown.encode()).as_ref(), Ok(&shown));
        assert_eq!(
            uids::uidlist(&folder, &shown),
            Ok(uids::Read::default()),
            "what is shown says nothing new"
        );
    }
    assert!(
        taken > FOLDERS / 10 && refused > FOLDERS / 100,
        "{taken} taken, {refused} refused"
    );
}

#[test]
fn what_courier_writes_moves_the_records_by_lawful_steps() {
    let mut random = Random::from_env("what_courier_writes_moves_the_records_by_lawful_steps");
    for _ in 0..FOLDERS {
        let mut folder = Memory::generate(&mut random);
        let db = Uiddb {
            uid_validity: 1 + random.below(4) as u32,
            header_uid_next: 1 + random.below(12) as u32,
            records: records(&mut random)
                .into_iter()
                .map(|record| (record.uid, record.name))
                .collect(),
        };
        if let Ok(read) = uids::uiddb(&folder, &db) {
            read.ops.iter().for_each(|op| folder.apply(op));
            let shown = show::uiddb(&folder).expect("the folder has UIDs");
            assert_eq!(Uiddb::parse(&shown.encode()).as_ref(), Ok(&shown));
            assert_eq!(
                uids::uiddb(&folder, &shown),
                Ok(uids::Read::default()),
                "what is shown says nothing new"
            );
        }
        let list = generate::keyword_list(&mut random);
        let messages = list
            .messages
            .into_values()
            .map(|set| (name::stem(&file_name(&mut random)).to_vec(), set))
            .collect();
        let list = KeywordList { messages };
        // Where two names are one for Courier, the list cannot tell their messages apart.
        let stem = |(message, _): &(Message, Oid)| name::stem(message.path.name()).to_vec();
        let stems: BTreeSet<Vec<u8>> = folder.messages.iter().map(stem).collect();
        if stems.len() < folder.messages.len() {
            continue;
        }
        if let Ok(ops) = keywords::courier_list(&folder, &list) {
            ops.iter().for_each(|op| folder.apply(op));
            let shown = show::keyword_list(&folder).unwrap_or_default();
            assert_eq!(KeywordList::parse(&shown.encode()).as_ref(), Ok(&shown));
            assert_eq!(
                keywords::courier_list(&folder, &shown),
                Ok(vec![]),
                "what is shown says nothing new"
            );
        }
    }
}

#[test]
fn dovecot_and_courier_see_the_same_uids() {
    let mut random = Random::from_env("dovecot_and_courier_see_the_same_uids");
    for _ in 0..FOLDERS {
        let folder = Memory::generate(&mut random);
        let (Some(uidlist), Some(uiddb)) = (show::uidlist(&folder), show::uiddb(&folder)) else {
            continue;
        };
        assert_eq!(
            (uidlist.uid_validity, uidlist.uid_next()),
            (uiddb.uid_validity, uiddb.uid_next())
        );
        for (uid, courier) in &uiddb.records {
            let same = |record: &&Record| record.uid == *uid;
            // Dovecot sees one message where names differ after a colon only.
            if let Some(record) = uidlist.records.iter().find(same) {
                assert_eq!(record.name, name::stem(courier));
            }
        }
    }
}
