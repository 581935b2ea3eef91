//! What an IMAP server and a delivery agent do to a node's mailboxes, in Dovecot's manner, and a ledger of what must come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use mailbraid::maildir::{Attrs, Content, MailboxFacts, Oid, Op, TreePath, name};

use super::client;
use super::node::Node;
use super::random::Random;
use crate::merge_laws::world::{Dir, Memory};

const FOLDERS: [&str; 6] = ["INBOX", ".Work", ".Lists", ".Trash", "Deep", "Other"];
const KEYWORDS: [&[u8]; 5] = [b"$Forwarded", b"Later", b"Junk", b"NonJunk", b"Work"];

/// What happened to a message anywhere.
#[derive(Default, Debug)]
pub struct Fate {
    /// Where it was, by the time it was removed.
    pub removed: BTreeSet<TreePath>,
    /// It was moved, copied or undeleted, so it may well be there in spite of a removal.
    pub spread: bool,
}

/// All that happened, as somebody sees it who sees all nodes.
#[derive(Default)]
pub struct Ledger {
    pub fates: BTreeMap<Oid, Fate>,
    serial: usize,
    /// UIDVALIDITY values, and the node that gave each.
    issued: BTreeMap<u32, usize>,
    /// GUIDs that folders got after they were made. Who does not know such a GUID yet takes a rename of the folder for mail that was moved.
    ///
    /// Looked at a second time, that is right. Dovecot gives a folder its GUID and its UIDVALIDITY in one go, when it first opens it, so a folder without the one has not the other
    /// either, and nothing but its name tells what it is; Courier has no GUIDs and gives a renamed folder a new UIDVALIDITY. To go by equal contents would take a copy
    /// for a rename. And the row of the table that holds then, moved on one side and expunged on the other, errs on the side of keeping mail.
    pub late: BTreeSet<Vec<u8>>,
    /// Folders have been renamed or deleted.
    reshaped: bool,
    /// Two nodes gave the same UIDVALIDITY while they could not see each other. Nobody can tell two such folders apart that come to one name one after the other, so
    /// none is renamed or deleted from then on.
    twice: bool,
}

impl Ledger {
    /// Takes down what a node's braids moved: mail of folders that they united, and mail that went along with a folder whose GUID not everybody knew.
    pub fn hear(&mut self, node: &mut Node) {
        let followed = node.followed.drain(..);
        let followed = followed.filter(|(_, guid)| self.late.contains(guid));
        let moved: Vec<Oid> = followed.map(|(oid, _)| oid).collect();
        for oid in node.united.drain(..).chain(moved) {
            self.fates.entry(oid).or_default().spread = true;
        }
    }
}

/// One action of a program on a node.
pub struct Server<'a> {
    pub memory: &'a mut Memory,
    pub ledger: &'a mut Ledger,
    pub random: &'a mut Random,
    pub node: &'a mut Node,
    pub index: usize,
    pub now: i64,
}

struct Mail {
    folder: TreePath,
    place: &'static str,
    name: Vec<u8>,
    oid: Oid,
    attrs: Attrs,
}

impl Mail {
    fn path(&self) -> TreePath {
        self.folder.join(self.place.as_bytes()).join(&self.name)
    }
}

impl Server<'_> {
    /// Does something.
    pub fn act(&mut self) {
        match self.random.below(40) {
            0..8 => self.deliver(),
            8..13 => self.open_folder(),
            13..20 => self.change_flags(),
            20..23 => self.change_keyword(),
            23..26 => self.expunge(),
            26..31 => self.move_or_copy(),
            31..34 => self.create_folder(),
            34 => self.delete_folder(),
            35 | 36 => self.rename_folder(),
            37 => self.subscribe(),
            _ => self.write_file(),
        }
    }

    fn folders(&self) -> Vec<(TreePath, Rc<Dir>)> {
        let mut folders = Vec::new();
        client::list(&self.node.live, &TreePath::root(), &mut folders);
        folders
    }

    fn a_folder(&mut self) -> Option<(TreePath, Rc<Dir>)> {
        let folders = self.folders();
        self.random.pick(&folders).cloned()
    }

    fn a_mail(&mut self) -> Option<Mail> {
        let (folder, dir) = self.a_folder()?;
        let mut all = Vec::new();
        for place in ["cur", "new"] {
            for (name, (oid, attrs)) in &dir.dirs[place.as_bytes()].files {
                all.push((place, name.clone(), *oid, attrs.clone()));
            }
        }
        let (place, name, oid, attrs) = self.random.pick(&all)?.clone();
        Some(Mail {
            folder,
            place,
            name,
            oid,
            attrs,
        })
    }

    fn facts(&self, folder: &TreePath) -> MailboxFacts {
        let dir = self.node.live.at(folder).expect("the folder is there");
        dir.facts.clone().unwrap_or_default()
    }

    fn set_facts(&mut self, folder: &TreePath, facts: MailboxFacts) {
        let folder = folder.clone();
        self.node.apply(Op::SetMailbox { folder, facts }, true);
    }

    /// The next UID of a folder.
    fn next_uid(&mut self, folder: &TreePath) -> u32 {
        let mut facts = self.facts(folder);
        let uid = facts.uid_next;
        facts.uid_next += 1;
        self.set_facts(folder, facts);
        uid
    }

    fn put(&mut self, path: TreePath, oid: Oid, attrs: Attrs) {
        let content = Content::Existing;
        let op = Op::Put {
            path,
            oid,
            content,
            attrs,
        };
        self.node.apply(op, true);
    }

    fn deliver(&mut self) {
        let Some((folder, dir)) = self.a_folder() else {
            return;
        };
        self.ledger.serial += 1;
        let serial = self.ledger.serial;
        // Now and then two programs choose one name.
        let name = if self.random.one_in(15) {
            format!("{}.clash", 1_700_000_000 + self.random.below(3))
        } else {
            format!("{}.M{serial}.{}", self.now + self.node.skew, self.node.name)
        };
        let identities = ["cur", "new"]
            .iter()
            .flat_map(|part| dir.dirs[part.as_bytes()].files.keys());
        if identities
            .into_iter()
            .any(|known| name::unique(known) == name.as_bytes())
        {
            return;
        }
        let oid = self.memory.put_blob(format!("mail {serial}").as_bytes());
        self.ledger.fates.insert(oid, Fate::default());
        let knows_uids = self.facts(&folder).uid_validity > 0;
        let uid = (knows_uids && self.random.one_in(2)).then(|| self.next_uid(&folder));
        let attrs = Attrs {
            uid,
            mtime: self.now - if self.random.one_in(4) { 77 } else { 0 },
            size: serial as u64,
            ..Attrs::default()
        };
        self.put(folder.join(b"new").join(name.as_bytes()), oid, attrs);
    }

    /// A server opens the folder: what has no UID gets one, what is new goes to `cur`.
    fn open_folder(&mut self) {
        let Some((folder, dir)) = self.a_folder() else {
            return;
        };
        let mut facts = self.facts(&folder);
        if facts.uid_validity == 0 {
            self.issue(&mut facts);
            self.ledger.late.extend(facts.guid.clone());
            self.set_facts(&folder, facts);
        }
        let mut without: Vec<(Vec<u8>, &str)> = Vec::new();
        for place in ["cur", "new"] {
            for (name, (_, attrs)) in &dir.dirs[place.as_bytes()].files {
                if attrs.uid.is_none() {
                    without.push((name.clone(), place));
                }
            }
        }
        without.sort();
        for (name, place) in without {
            let (_, mut attrs) = dir.dirs[place.as_bytes()].files[&name].clone();
            attrs.uid = Some(self.next_uid(&folder));
            let path = folder.join(place.as_bytes()).join(&name);
            self.node.apply(Op::SetAttrs { path, attrs }, true);
        }
        for name in dir.dirs[b"new".as_slice()].files.keys() {
            let from = folder.join(b"new").join(name);
            let to = folder
                .join(b"cur")
                .join(&name::with_flags(name::unique(name), name::flags(name)));
            self.node.apply(Op::Rename { from, to }, true);
        }
    }

    /// Gives a folder a UIDVALIDITY and a GUID, as `dovecot-uidvalidity` has it.
    fn issue(&mut self, facts: &mut MailboxFacts) {
        let mut root = self.facts(&TreePath::root());
        let clock = u32::try_from(self.now + self.node.skew).unwrap_or(0) / 8;
        let mut validity = clock.max(root.uid_validity_issued + 1);
        while self
            .ledger
            .issued
            .get(&validity)
            .is_some_and(|by| *by != self.index)
        {
            if !self.ledger.reshaped && self.random.one_in(8) {
                self.ledger.twice = true;
                break;
            }
            validity += 1;
        }
        self.ledger.issued.insert(validity, self.index);
        root.uid_validity_issued = validity;
        root.uid_next = root.uid_next.max(1);
        self.set_facts(&TreePath::root(), root);
        self.ledger.serial += 1;
        facts.uid_validity = validity;
        facts.uid_next = facts.uid_next.max(1);
        facts.guid = Some(format!("g{}", self.ledger.serial).into_bytes());
    }

    fn rename_mail(&mut self, mail: &Mail, flags: &[u8], durable: bool) {
        let name = name::with_flags(name::unique(&mail.name), flags);
        let to = mail.folder.join(b"cur").join(&name);
        if to != mail.path() {
            let from = mail.path();
            self.node.apply(Op::Rename { from, to }, durable);
        }
    }

    fn change_flags(&mut self) {
        let Some(mail) = self.a_mail() else { return };
        let letter = b"STTTFR"[self.random.below(6)];
        let mut flags = name::flags(&mail.name).to_vec();
        if flags.contains(&letter) {
            flags.retain(|flag| *flag != letter);
            if letter == b'T'
                && let Some(fate) = self.ledger.fates.get_mut(&mail.oid)
            {
                fate.spread = true;
            }
        } else {
            flags.push(letter);
        }
        self.rename_mail(&mail, &flags, false);
    }

    fn change_keyword(&mut self) {
        let Some(mail) = self.a_mail() else { return };
        let word = KEYWORDS[self.random.below(KEYWORDS.len())];
        let mut facts = self.facts(&mail.folder);
        if facts.uid_validity == 0 {
            return;
        }
        let known = facts
            .keywords
            .iter()
            .find(|(_, name)| name.as_slice() == word)
            .map(|(at, _)| *at);
        let at = known.unwrap_or_else(|| {
            let free = (0..26)
                .find(|at| !facts.keywords.contains_key(at))
                .expect("five of 26");
            facts.keywords.insert(free, word.to_vec());
            self.set_facts(&mail.folder, facts);
            free
        });
        let mut flags = name::flags(&mail.name).to_vec();
        match flags.iter().position(|flag| *flag == b'a' + at) {
            Some(place) => drop(flags.remove(place)),
            None => flags.push(b'a' + at),
        }
        self.rename_mail(&mail, &flags, true);
    }

    fn remove(&mut self, mail: &Mail) {
        self.node.apply(Op::Remove { path: mail.path() }, true);
        if let Some(fate) = self.ledger.fates.get_mut(&mail.oid) {
            fate.removed.insert(mail.folder.clone());
        }
    }

    fn expunge(&mut self) {
        let Some(mail) = self.a_mail() else { return };
        if name::flags(&mail.name).contains(&b'T') || self.random.one_in(3) {
            self.remove(&mail);
        }
    }

    fn move_or_copy(&mut self) {
        let (Some(mail), Some((folder, dir))) = (self.a_mail(), self.a_folder()) else {
            return;
        };
        let unique = name::unique(&mail.name).to_vec();
        let mut there = ["cur", "new"]
            .iter()
            .flat_map(|part| dir.dirs[part.as_bytes()].files.keys());
        if there.any(|name| name::unique(name) == unique) || self.facts(&folder).uid_validity == 0 {
            return;
        }
        let uid = Some(self.next_uid(&folder));
        let letters: Vec<u8> = name::flags(&mail.name)
            .iter()
            .copied()
            .filter(u8::is_ascii_uppercase)
            .collect();
        let attrs = Attrs {
            uid,
            ..mail.attrs.clone()
        };
        let to = folder
            .join(b"cur")
            .join(&name::with_flags(&unique, &letters));
        self.put(to, mail.oid, attrs);
        if let Some(fate) = self.ledger.fates.get_mut(&mail.oid) {
            fate.spread = true;
        }
        if !self.random.one_in(3) {
            self.node.apply(Op::Remove { path: mail.path() }, true);
        }
    }

    /// A path where a folder could be made.
    fn a_free_path(&mut self) -> Option<TreePath> {
        let name = FOLDERS[self.random.below(FOLDERS.len())];
        let path = match self.random.below(5) {
            0 => TreePath::new("Deep").join(name.as_bytes()),
            _ => TreePath::new(name),
        };
        let parent = self.node.live.at(&path.parent().unwrap_or_default());
        let is_free = parent.is_some() && self.node.live.at(&path).is_none();
        is_free.then_some(path)
    }

    fn create_folder(&mut self) {
        let Some(path) = self.a_free_path() else {
            return;
        };
        self.node.apply(Op::Mkdir { path: path.clone() }, true);
        for part in ["cur", "new", "tmp"] {
            self.node.apply(
                Op::Mkdir {
                    path: path.join(part.as_bytes()),
                },
                true,
            );
        }
        if !self.random.one_in(4) {
            let mut facts = MailboxFacts::default();
            self.issue(&mut facts);
            self.set_facts(&path, facts);
        }
    }

    fn a_changeable_folder(&mut self) -> Option<(TreePath, Rc<Dir>)> {
        let (path, dir) = self.a_folder()?;
        let fixed = path.name() == b"INBOX" || self.ledger.twice;
        self.ledger.reshaped |= !fixed;
        (!fixed).then_some((path, dir))
    }

    fn delete_folder(&mut self) {
        let Some((path, dir)) = self.a_changeable_folder() else {
            return;
        };
        // What UIDs the folder has given must be in the history: see `World::uid_next_before`.
        self.node.commit(self.memory, self.now);
        self.delete_dir(&path, &path, &dir);
    }

    fn delete_dir(&mut self, folder: &TreePath, path: &TreePath, dir: &Rc<Dir>) {
        for (name, (oid, _)) in &dir.files {
            self.node.apply(
                Op::Remove {
                    path: path.join(name),
                },
                true,
            );
            if let Some(fate) = self.ledger.fates.get_mut(oid) {
                fate.removed.insert(folder.clone());
            }
        }
        for (name, child) in &dir.dirs {
            let child_path = path.join(name);
            let is_part = ["cur", "new", "tmp"]
                .iter()
                .any(|part| part.as_bytes() == name.as_slice());
            let folder = if is_part { folder } else { &child_path };
            self.delete_dir(folder, &child_path, child);
        }
        self.node.apply(Op::Rmdir { path: path.clone() }, true);
    }

    fn rename_folder(&mut self) {
        let (Some((from, dir)), Some(to)) = (self.a_changeable_folder(), self.a_free_path()) else {
            return;
        };
        if to.is_within(&from) {
            return;
        }
        // Without a GUID that all know, a renamed folder is mail moved.
        let mut below = Vec::new();
        client::list(&dir, &from, &mut below);
        for (_, dir) in below {
            for part in ["cur", "new"] {
                for (oid, _) in dir.dirs[part.as_bytes()].files.values() {
                    self.ledger.fates.entry(*oid).or_default().spread = true;
                }
            }
        }
        self.node.apply(Op::Rename { from, to }, true);
    }

    fn subscribe(&mut self) {
        let name = FOLDERS[self.random.below(FOLDERS.len())].as_bytes();
        let path = TreePath::new("subscriptions");
        let old = self
            .node
            .live
            .files
            .get(path.name())
            .map(|(oid, _)| self.memory.content(*oid));
        let old = old.unwrap_or_default();
        let mut names: Vec<&[u8]> = old
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .collect();
        match names.iter().position(|known| *known == name) {
            Some(at) => drop(names.remove(at)),
            None => names.push(name),
        }
        let content: Vec<u8> = names
            .iter()
            .flat_map(|name| [*name, b"\n"].concat())
            .collect();
        self.write(path, &content);
    }

    fn write_file(&mut self) {
        let content = format!("rules {}", self.random.below(9));
        self.write(TreePath::new(".dovecot.sieve"), content.as_bytes());
    }

    fn write(&mut self, path: TreePath, content: &[u8]) {
        let oid = self.memory.put_blob(content);
        let attrs = Attrs {
            mtime: self.now + self.node.skew,
            size: content.len() as u64,
            ..Attrs::default()
        };
        self.put(path, oid, attrs);
    }
}
