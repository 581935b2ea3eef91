//! What clients do to an account on several nodes, and what must be left of it.
//!
//! Every message has a Message-ID of its own. The ledger keeps for each how many copies there may be at most and at least once everything is
//! exchanged; what two sides did to one message at once widens the range only as far as the merge's table says.

use std::collections::{BTreeMap, BTreeSet};

use super::node::Node;
use crate::imap::client::{Client, Reply, number_after};
use crate::imap::lmtp::Lmtp;
use crate::imap::server::deliver_plainly;
use crate::random::Random;

/// Folders that are never renamed or deleted: what mbsync looks at.
pub const STEADY: [&str; 3] = ["INBOX", "Archive", "Work"];

const KEYWORDS: [&str; 8] = [
    "$Label1",
    "Junk",
    "NonJunk",
    "Later",
    "Project-x",
    "$Forwarded",
    "todo",
    "Work-1",
];
const FLAGS: [&str; 4] = ["\\Seen", "\\Flagged", "\\Answered", "\\Draft"];

/// What may have become of one message.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// Copies that must be there.
    least: u32,
    /// Copies that may be there.
    most: u32,
    /// Nodes that copied or moved it since all were level.
    spread_by: BTreeSet<usize>,
    /// Nodes that expunged the only copy they saw since all were level.
    expunged_by: BTreeSet<usize>,
}

/// All messages ever made.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
    folders: usize,
    /// `node folder uid → id`, from every look at it: a UID never means another message.
    seen: BTreeMap<(usize, String, u64), String>,
    /// Folders that got another name: that name, and the one before.
    renamed: Vec<(String, String)>,
    /// New names that Courier gave.
    by_courier: BTreeSet<String>,
    /// What was done, for a failure's reader.
    pub log: Vec<String>,
}

/// A node as a user sees it.
pub struct Desk<'a> {
    /// Which of the nodes.
    pub at: usize,
    node: &'a Node,
    client: Client,
    /// `None` where Courier serves: mail is then written into the Maildir.
    lmtp: Option<Lmtp>,
    user: String,
}

impl<'a> Desk<'a> {
    /// Logs in.
    #[track_caller]
    pub fn new(at: usize, node: &'a Node, user: &str) -> Self {
        Self {
            at,
            node,
            client: node.imap(user),
            lmtp: (!node.is_courier()).then(|| node.lmtp()),
            user: user.to_owned(),
        }
    }

    /// The connection.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// A folder as this server spells it.
    fn spelt(&self, folder: &str) -> String {
        if self.node.is_courier() && folder != "INBOX" {
            format!("INBOX.{folder}")
        } else {
            folder.to_owned()
        }
    }

    /// A mail comes in from outside.
    #[track_caller]
    pub fn deliver(&mut self, message: &[u8]) {
        match &mut self.lmtp {
            Some(lmtp) => lmtp.deliver(&self.user, message),
            None => {
                let maildir = self.node.mountpoint().join(&self.user);
                deliver_plainly(&maildir, message);
            }
        }
    }

    /// Runs a command; the words that begin with `@` are folders. Another node may delete the open folder at any moment: the server then hangs up, and the desk
    /// logs in again.
    #[track_caller]
    pub fn run(&mut self, command: &str) -> Reply {
        let words: Vec<String> = command
            .split(' ')
            .map(|word| match word.strip_prefix('@') {
                Some(folder) => self.spelt(folder),
                None => word.to_owned(),
            })
            .collect();
        let reply = self.client.run_unless_deleted(&words.join(" "));
        reply.unwrap_or_else(|| {
            self.client = self.node.imap(&self.user);
            Reply {
                untagged: Vec::new(),
                tagged: "NO [NONEXISTENT] deleted meanwhile".to_owned(),
            }
        })
    }

    /// The same for a command that must succeed.
    #[track_caller]
    pub fn ok(&mut self, command: &str) -> Reply {
        self.run(command).expect_ok(command)
    }

    /// Adds a message.
    #[track_caller]
    pub fn append(&mut self, folder: &str, flags: &str, date: Option<&str>, text: &[u8]) -> Reply {
        let folder = self.spelt(folder);
        self.client.append(&folder, flags, date, text)
    }

    /// UIDs and Message-IDs of a folder, which stays selected; `None` where it is not there.
    #[track_caller]
    pub fn list(&mut self, folder: &str) -> Option<Vec<(u64, String)>> {
        if !self.run(&format!("SELECT @{folder}")).is_ok() {
            return None;
        }
        let reply = self.run("UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])");
        reply.is_ok().then(|| ids(&reply))
    }

    /// All folders that can be selected.
    #[track_caller]
    pub fn folders(&mut self) -> Vec<String> {
        named(&self.ok("LIST \"\" *"))
    }

    /// Expunges what is marked as deleted, in all folders.
    #[track_caller]
    pub fn tidy(&mut self) {
        for folder in self.folders() {
            self.ok(&format!("SELECT @{folder}"));
            self.ok("EXPUNGE");
        }
    }

    /// All that a client can see, however the server spells it: subscriptions, folders with their numbers, and a line a message.
    #[track_caller]
    pub fn view(&mut self) -> Vec<String> {
        // A new connection remembers nothing.
        self.client = self.node.imap(&self.user);
        let mut lines: Vec<String> = named(&self.ok("LSUB \"\" *"))
            .into_iter()
            .map(|folder| format!("subscribed {folder}"))
            .collect();
        for folder in self.folders() {
            let reply = self.ok(&format!("STATUS @{folder} (MESSAGES UIDNEXT UIDVALIDITY)"));
            let numbers = ["MESSAGES", "UIDNEXT", "UIDVALIDITY"].map(|word| reply.code(word));
            lines.push(format!("folder {folder} {numbers:?}"));
            self.ok(&format!("EXAMINE @{folder}"));
            let reply = self.ok(
                "UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])",
            );
            for line in &reply.untagged {
                lines.extend(message_line(line).map(|line| format!("in {folder} {line}")));
            }
        }
        lines.sort();
        lines
    }
}

/// The folders of a reply to LIST or LSUB, without the spelling of Courier.
fn named(reply: &Reply) -> Vec<String> {
    reply
        .untagged
        .iter()
        .filter(|line| !line.contains("\\Noselect"))
        .filter_map(|line| {
            let name = line.rsplit(' ').next()?.trim_matches('"');
            Some(name.strip_prefix("INBOX.").unwrap_or(name).to_owned())
        })
        .collect()
}

/// UID, flags, date, size and Message-ID of a FETCH response, in this order.
fn message_line(line: &str) -> Option<String> {
    let uid = number_after(line, "UID")?;
    let size = number_after(line, "RFC822.SIZE")?;
    let between = |before: &str, after: char| Some(line.split_once(before)?.1.split_once(after)?.0);
    let mut flags: Vec<&str> = between("FLAGS (", ')')?
        .split_whitespace()
        .filter(|flag| *flag != "\\Recent")
        .collect();
    flags.sort_unstable();
    let date = between("INTERNALDATE \"", '"')?;
    let id = between("<", '>')?;
    Some(format!("{uid} {} {date} {size} {id}", flags.join(",")))
}

fn ids(reply: &Reply) -> Vec<(u64, String)> {
    reply
        .untagged
        .iter()
        .filter_map(|line| {
            let uid = number_after(line, "UID")?;
            let id = line.split_once('<')?.1.split_once('>')?.0;
            Some((uid, id.to_owned()))
        })
        .collect()
}

/// A message with this id.
pub fn message(id: &str) -> Vec<u8> {
    format!(
        "From: a@example.org\r\nTo: u@example.org\r\nSubject: {id}\r\nDate: Wed, 01 Jan 2020 10:00:00 +0000\r\n\
         Message-ID: <{id}>\r\n\r\nThe text of {id}.\r\n"
    )
    .into_bytes()
}

impl Ledger {
    /// A new message's id. It must be there until somebody removes it.
    pub fn make(&mut self) -> String {
        let id = format!("m{}@example.org", self.entries.len());
        let entry = Entry {
            least: 1,
            most: 1,
            ..Entry::default()
        };
        self.entries.insert(id.clone(), entry);
        id
    }

    /// A message whose delivery may or may not have been taken: the acknowledgement did not come.
    pub fn doubt(&mut self, id: &str) {
        self.entry(id).least = 0;
    }

    /// Messages known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[track_caller]
    fn entry(&mut self, id: &str) -> &mut Entry {
        self.entries
            .get_mut(id)
            .unwrap_or_else(|| panic!("a message nobody made: {id}"))
    }

    /// Mail arrives by LMTP.
    #[track_caller]
    pub fn deliver(&mut self, desk: &mut Desk) {
        let id = self.make();
        self.note(desk, &format!("deliver {id}"));
        desk.deliver(&message(&id));
    }

    fn note(&mut self, desk: &Desk, what: &str) {
        self.log.push(format!("{}: {what}", desk.node.name()));
    }

    /// One thing that a user does, by chance.
    #[track_caller]
    pub fn act(&mut self, desk: &mut Desk, random: &mut Random) {
        match random.below(20) {
            0..=4 => self.deliver(desk),
            5..=6 => self.append(desk, random),
            7..=11 => self.flag(desk, random),
            12..=13 => self.carry(desk, random, "MOVE"),
            14 => self.carry(desk, random, "COPY"),
            15..=16 => self.expunge(desk, random),
            _ => self.change_folders(desk, random),
        }
    }

    fn append(&mut self, desk: &mut Desk, random: &mut Random) {
        let folders = desk.folders();
        let folder = random.pick(&folders).expect("INBOX is there").clone();
        let id = self.make();
        self.note(desk, &format!("append {id} to {folder}"));
        let date = format!("{:2}-Mar-2021 01:02:03 +0000", 1 + random.below(28));
        let flag = FLAGS[random.below(FLAGS.len())];
        let reply = desk
            .client
            .append(&folder, flag, Some(&date), &message(&id));
        // Another node's deletion of the folder may arrive in between.
        if !reply.is_ok() {
            self.entry(&id).least = 0;
            self.entry(&id).most = 0;
        }
    }

    /// A message of a folder, by chance.
    #[track_caller]
    fn choose(&mut self, desk: &mut Desk, random: &mut Random) -> Option<(String, u64, String)> {
        let folders = desk.folders();
        let folder = random.pick(&folders)?.clone();
        let listed = desk.list(&folder)?;
        let (uid, id) = random.pick(&listed)?.clone();
        Some((folder, uid, id))
    }

    fn flag(&mut self, desk: &mut Desk, random: &mut Random) {
        let Some((folder, uid, id)) = self.choose(desk, random) else {
            return;
        };
        let sign = ['+', '+', '-'][random.below(3)];
        let word = match random.below(2) {
            0 => FLAGS[random.below(FLAGS.len())],
            _ => KEYWORDS[random.below(KEYWORDS.len())],
        };
        self.note(desk, &format!("flag {folder} {uid} {id} {sign}{word}"));
        desk.run(&format!("UID STORE {uid} {sign}FLAGS ({word})"));
    }

    fn carry(&mut self, desk: &mut Desk, random: &mut Random, command: &str) {
        let Some((folder, uid, id)) = self.choose(desk, random) else {
            return;
        };
        let to = STEADY[random.below(STEADY.len())];
        if to == folder {
            return;
        }
        self.note(desk, &format!("{command} {id} from {folder} to {to}"));
        // Courier has no MOVE.
        let by_copy = command == "COPY" || desk.node.is_courier();
        let verb = if by_copy { "COPY" } else { command };
        let reply = desk.run(&format!("UID {verb} {uid} @{to}"));
        if command == "MOVE" && by_copy && reply.is_ok() {
            desk.run(&format!("UID STORE {uid} +FLAGS (\\Deleted)"));
            desk.run(&format!("UID EXPUNGE {uid}"));
        }
        let at = desk.at;
        let entry = self.entry(&id);
        entry.most += 1;
        entry.spread_by.insert(at);
        assert!(
            reply.is_ok()
                || reply.tagged.contains("EXPUNGEISSUED")
                || reply.tagged.contains("NONEXISTENT"),
            "{command}: {}",
            reply.tagged
        );
    }

    fn expunge(&mut self, desk: &mut Desk, random: &mut Random) {
        let Some((folder, uid, id)) = self.choose(desk, random) else {
            return;
        };
        let mut copies = 0;
        for folder in desk.folders() {
            let listed = desk.list(&folder).unwrap_or_default();
            copies += listed.iter().filter(|(_, other)| *other == id).count();
        }
        if desk.list(&folder).is_none() {
            return;
        }
        self.note(desk, &format!("expunge {folder} {uid} {id} of {copies}"));
        desk.run(&format!("UID STORE {uid} +FLAGS (\\Deleted)"));
        let reply = desk.run(&format!("UID EXPUNGE {uid}"));
        let done = reply.untagged.iter().any(|line| line.ends_with(" EXPUNGE"));
        let at = desk.at;
        let entry = self.entry(&id);
        entry.least = 0;
        if done && copies == 1 {
            entry.expunged_by.insert(at);
        }
    }

    fn change_folders(&mut self, desk: &mut Desk, random: &mut Random) {
        let folders = desk.folders();
        let loose: Vec<String> = folders
            .into_iter()
            .filter(|name| !STEADY.contains(&name.as_str()))
            .collect();
        self.folders += 1;
        let fresh = format!("F{}", self.folders);
        match (random.below(6), random.pick(&loose).cloned()) {
            (0, Some(folder)) => {
                // INBOX is open, so that the folder is not.
                let listed = desk.list(&folder).unwrap_or_default();
                desk.ok("SELECT @INBOX");
                self.note(desk, &format!("delete {folder}"));
                let gone = desk.run(&format!("DELETE @{folder}")).is_ok();
                for (_, id) in listed.into_iter().filter(|_| gone) {
                    self.entry(&id).least = 0;
                }
            }
            (1..=2, Some(folder)) => {
                desk.ok("SELECT @INBOX");
                self.note(desk, &format!("rename {folder} to {fresh}"));
                desk.run(&format!("RENAME @{folder} @{fresh}"));
                if desk.node.is_courier() {
                    self.by_courier.insert(fresh.clone());
                }
                self.renamed.push((fresh.clone(), folder));
                // Two sides may rename one folder to two names.
                let listed = desk.list(&fresh).unwrap_or_default();
                for (_, id) in listed {
                    let at = desk.at;
                    let entry = self.entry(&id);
                    entry.most += 1;
                    entry.spread_by.insert(at);
                }
            }
            (3, _) => {
                let folder = STEADY[random.below(STEADY.len())];
                let verb = ["SUBSCRIBE", "UNSUBSCRIBE"][random.below(2)];
                self.note(desk, &format!("{verb} {folder}"));
                desk.ok(&format!("{verb} @{folder}"));
            }
            _ => {
                self.note(desk, &format!("create {fresh}"));
                desk.ok(&format!("CREATE @{fresh}"));
                let id = self.make();
                desk.append(&fresh, "", None, &message(&id))
                    .expect_ok("APPEND");
            }
        }
    }

    /// All nodes are level: what this desk sees must be what the ledger allows, and no UID may mean another message than it did here before.
    #[track_caller]
    pub fn check(&mut self, desk: &mut Desk) {
        let mut found: BTreeMap<String, u32> = BTreeMap::new();
        for folder in desk.folders() {
            let listed = desk.list(&folder).expect("a folder that is listed");
            for (uid, id) in listed {
                *found.entry(id.clone()).or_default() += 1;
                if STEADY.contains(&folder.as_str()) {
                    let key = (desk.at, folder.clone(), uid);
                    let before = self.seen.entry(key).or_insert_with(|| id.clone());
                    assert_eq!(
                        *before,
                        id,
                        "{}: {folder} UID {uid} means another message now",
                        desk.node.name()
                    );
                }
            }
        }
        let mut wrong = Vec::new();
        for (id, entry) in &self.entries {
            let count = found.remove(id).unwrap_or(0);
            if count < entry.least || count > entry.most {
                wrong.push(format!(
                    "{id}: {count} copies, allowed {}..={}; {:?}",
                    entry.least,
                    entry.most,
                    self.log
                        .iter()
                        .filter(|line| line.split(' ').any(|word| word == id))
                        .collect::<Vec<_>>()
                ));
            }
        }
        if !wrong.is_empty() {
            let mut on_disk: Vec<_> = std::fs::read_dir(desk.node.mountpoint().join(&desk.user))
                .expect("list an account")
                .map(|entry| entry.expect("an entry").file_name())
                .collect();
            on_disk.sort();
            let open = desk.folders();
            let anew = named(&desk.node.imap(&desk.user).ok("LIST \"\" *"));
            eprintln!(
                "folders in this session {open:?}\nin a new one {anew:?}\non the mount {on_disk:?}"
            );
        }
        assert!(
            wrong.is_empty() && found.is_empty(),
            "{}: {wrong:#?}\nnobody made {found:?}",
            desk.node.name()
        );
    }

    /// All nodes are level: what was expunged, and that nobody moved or copied meanwhile, must be gone; what is there now counts from here.
    pub fn settle(&mut self) {
        for entry in self.entries.values_mut() {
            let others = |by: usize| entry.spread_by.iter().any(|other| *other != by);
            if entry.expunged_by.iter().any(|by| !others(*by)) {
                entry.most = 0;
                entry.least = 0;
            }
            entry.expunged_by.clear();
            entry.spread_by.clear();
        }
    }

    /// Whether Courier may have renamed the folder, under whatever name: it gets another UIDVALIDITY from that.
    pub fn was_renamed_by_courier(&self, folder: &str) -> bool {
        let mut kin = BTreeSet::from([folder]);
        loop {
            let before = kin.len();
            for (new, old) in &self.renamed {
                if kin.contains(new.as_str()) || kin.contains(old.as_str()) {
                    kin.extend([new.as_str(), old.as_str()]);
                }
            }
            if kin.len() == before {
                return kin.iter().any(|name| self.by_courier.contains(*name));
            }
        }
    }

    /// The last things that were done.
    pub fn tail(&self, lines: usize) -> String {
        let from = self.log.len().saturating_sub(lines);
        self.log[from..].join("\n")
    }
}
