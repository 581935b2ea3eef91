//! Servers played step by step on a live tree over a store in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::{Durability, Fs, FsError, FsOptions, Ino, Invalidator, ROOT, RenameFlags, Stat};
use crate::maildir::{Entry, HashKind, MailboxFacts, Oid, Op, TreePath};
use crate::store::Backing;

mod courier;
mod offer;
mod order;

/// A store that keeps records and nothing else.
struct Memory {
    records: Mutex<Vec<Op>>,
    dir: tempfile::TempDir,
    local: PathBuf,
}

impl Backing for Memory {
    fn kind(&self) -> HashKind {
        HashKind::Sha1
    }

    fn hash(&self, content: &[u8]) -> Oid {
        let mut id = [0_u8; 20];
        for (at, byte) in content.iter().enumerate() {
            id[at % 20] = id[at % 20].rotate_left(3).wrapping_add(*byte);
        }
        id[19] ^= content.len() as u8;
        Oid::from_bytes(&id).unwrap()
    }

    fn root(&self) -> Option<Oid> {
        None
    }

    fn load_dir(&self, _: Oid) -> io::Result<Vec<Entry>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn load_mailbox(&self, _: Oid) -> io::Result<Option<MailboxFacts>> {
        Ok(None)
    }

    fn read_blob(&self, _: Oid) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn read_pending(&self, seq: u64) -> io::Result<Vec<u8>> {
        match &self.records.lock()[seq as usize - 1] {
            Op::Put {
                content: crate::maildir::Content::Inline(bytes),
                ..
            } => Ok(bytes.clone()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn append(&self, op: &Op) -> io::Result<u64> {
        let mut records = self.records.lock();
        records.push(op.clone());
        Ok(records.len() as u64)
    }

    fn wait_durable(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn local_tree(&self) -> &Path {
        &self.local
    }

    fn spill_dir(&self) -> &Path {
        self.dir.path()
    }
}

/// A live tree, by paths.
struct Tree {
    fs: Arc<Fs>,
    memory: Arc<Memory>,
}

impl Tree {
    /// With one folder, `u`.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let local = dir.path().join("local");
        let memory = Arc::new(Memory {
            records: Mutex::default(),
            dir,
            local,
        });
        let options = FsOptions {
            uid: 0,
            gid: 0,
            umask: 0,
            read_only: false,
            durability: Durability::Delivery,
            assign_uids: true,
        };
        let fs = Fs::new(Arc::clone(&memory) as Arc<dyn Backing>, options).unwrap();
        let tree = Self { fs, memory };
        for path in ["u", "u/cur", "u/new", "u/tmp"] {
            let (parent, name) = tree.split(path);
            tree.fs.mkdir(parent, name.as_bytes()).unwrap();
        }
        tree
    }

    fn split<'a>(&self, path: &'a str) -> (Ino, &'a str) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let ino = dir
            .split('/')
            .filter(|part| !part.is_empty())
            .fold(ROOT, |at, part| {
                self.fs.lookup(at, part.as_bytes()).unwrap().ino
            });
        (ino, name)
    }

    fn stat(&self, path: &str) -> Result<Stat, FsError> {
        let (parent, name) = self.split(path);
        self.fs.lookup(parent, name.as_bytes())
    }

    fn write(&self, path: &str, content: &str) {
        let (parent, name) = self.split(path);
        let ino = self.fs.create(parent, name.as_bytes(), true).unwrap().ino;
        self.fs.write(ino, 0, content.as_bytes()).unwrap();
        self.fs.release(ino);
    }

    fn read(&self, path: &str) -> String {
        let stat = self
            .stat(path)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        String::from_utf8(self.fs.read(stat.ino, 0, 1 << 20).unwrap()).unwrap()
    }

    fn rename(&self, from: &str, to: &str) {
        let (parent, name) = self.split(from);
        let (new_parent, new_name) = self.split(to);
        let flags = RenameFlags::default();
        self.fs
            .rename(
                parent,
                name.as_bytes(),
                new_parent,
                new_name.as_bytes(),
                flags,
            )
            .unwrap();
    }

    fn link(&self, from: &str, to: &str) -> Result<(), FsError> {
        let ino = self.stat(from)?.ino;
        let (parent, name) = self.split(to);
        self.fs.link(ino, parent, name.as_bytes()).map(|_| ())
    }

    fn unlink(&self, path: &str) {
        let (parent, name) = self.split(path);
        self.fs.unlink(parent, name.as_bytes()).unwrap();
    }

    fn deliver(&self, name: &str) {
        self.write(&format!("u/tmp/{name}"), &format!("mail {name}"));
        self.rename(&format!("u/tmp/{name}"), &format!("u/new/{name}"));
    }

    fn lock(&self) -> Result<(), FsError> {
        let (parent, name) = self.split("u/dovecot-uidlist.lock");
        self.fs.create(parent, name.as_bytes(), true).map(|_| ())
    }

    fn append(&self, path: &str, more: &str) {
        let stat = self.stat(path).unwrap();
        self.fs.write(stat.ino, stat.size, more.as_bytes()).unwrap();
    }

    /// As Dovecot does: under its lock, by rename.
    fn rewrite(&self, content: &str) {
        self.lock().unwrap();
        self.write("u/dovecot-uidlist.tmp", content);
        self.rename("u/dovecot-uidlist.tmp", "u/dovecot-uidlist");
        self.unlink("u/dovecot-uidlist.lock");
    }

    /// Records since the last call.
    fn records(&self) -> Vec<Op> {
        self.memory.records.lock().drain(..).collect()
    }

    /// UIDs as the records have them after all operations so far.
    fn uid(&self, path: &str) -> u32 {
        let (parent, name) = self.split(path);
        let space = self.fs.space.lock();
        let ino = space.child(parent, name.as_bytes()).unwrap().unwrap();
        space.marks(ino, parent, name.as_bytes()).uid
    }

    fn facts(&self, folder: &str) -> MailboxFacts {
        let ino = self.stat(folder).unwrap().ino;
        let space = self.fs.space.lock();
        space
            .mailbox(ino)
            .map(|mailbox| mailbox.facts.clone())
            .unwrap_or_default()
    }
}

const GUID: &str = "5c2f1a0b9d8e7f6a5c2f1a0b9d8e7f6a";

/// A folder with messages 1.a and 2.b, UIDs 1 and 2, as Dovecot left it.
fn opened_by_dovecot() -> Tree {
    let tree = Tree::new();
    tree.deliver("1.a");
    tree.deliver("2.b");
    tree.rewrite(&format!("3 V9 N3 G{GUID}\n1 :1.a\n2 :2.b\n"));
    tree
}

#[test]
fn a_first_uidlist_becomes_records_and_is_shown_as_it_was_written() {
    let tree = opened_by_dovecot();
    assert_eq!((tree.uid("u/new/1.a"), tree.uid("u/new/2.b")), (1, 2));
    assert_eq!(
        (tree.facts("u").uid_validity, tree.facts("u").uid_next),
        (9, 3)
    );
    let ino = tree.stat("u/dovecot-uidlist").unwrap().ino;
    assert_eq!(
        tree.read("u/dovecot-uidlist"),
        format!("3 V9 N3 G{GUID}\n1 :1.a\n2 :2.b\n")
    );
    assert_eq!(tree.stat("u/dovecot-uidlist").unwrap().ino, ino);
}

#[test]
fn what_dovecot_appends_under_its_lock_is_one_record() {
    let tree = opened_by_dovecot();
    tree.lock().unwrap();
    tree.deliver("3.c,S=8");
    assert_eq!(tree.uid("u/new/3.c,S=8"), 0);
    tree.append("u/dovecot-uidlist", "3 W9 :3.c,S=8\n");
    tree.records();
    tree.unlink("u/dovecot-uidlist.lock");
    let records = tree.records();
    assert!(
        matches!(&records[..], [Op::SetAttrs { attrs, .. }] if attrs.uid == Some(3) && attrs.ext[&b'W'] == b"9"),
        "{records:?}"
    );
    assert_eq!(tree.facts("u").uid_next, 4);
    assert!(tree.read("u/dovecot-uidlist").ends_with("3 W9 :3.c,S=8\n"));
}

#[test]
fn a_delivery_by_another_program_gets_its_uid_and_its_line_at_once() {
    let tree = opened_by_dovecot();
    let ino = tree.stat("u/dovecot-uidlist").unwrap().ino;
    tree.records();
    tree.deliver("3.c");
    let records = tree.records();
    assert!(
        matches!(&records[..], [Op::Put { attrs, .. }] if attrs.uid == Some(3)),
        "{records:?}"
    );
    let stat = tree.stat("u/dovecot-uidlist").unwrap();
    assert_eq!(stat.ino, ino, "appended in place");
    assert!(stat.asks_each_time);
    assert!(tree.read("u/dovecot-uidlist").ends_with("2 :2.b\n3 :3.c\n"));
    // Dovecot goes on after it.
    tree.lock().unwrap();
    tree.deliver("4.d");
    tree.append("u/dovecot-uidlist", "4 :4.d\n");
    tree.unlink("u/dovecot-uidlist.lock");
    tree.deliver("5.e");
    assert_eq!((tree.uid("u/new/4.d"), tree.uid("u/new/5.e")), (4, 5));
    assert!(tree.read("u/dovecot-uidlist").ends_with("4 :4.d\n5 :5.e\n"));
}

#[test]
fn the_kernel_does_not_remember_what_becomes_an_index_file() {
    let tree = opened_by_dovecot();
    for path in [
        "u/dovecot-uidlist.tmp",
        "u/dovecot-keywords.lock",
        "u/tmp/1700000000.M1P2_imapuid_0.vm",
        "u/tmp/1700000000.M1P2_imapsubscribe1.vm",
    ] {
        tree.write(path, "");
        assert!(tree.stat(path).unwrap().asks_each_time, "{path}");
    }
    // Deliveries ask no more than they need to.
    for path in ["u/tmp/1700000000.M1P2.vm", "u/dovecot-uidlist.lock"] {
        tree.write(path, "");
        assert!(!tree.stat(path).unwrap().asks_each_time, "{path}");
    }
}

#[test]
fn the_kernel_keeps_what_it_was_told_of_a_uidlist_while_it_is_locked_alone() {
    let tree = opened_by_dovecot();
    let (list, keywords) = ("u/dovecot-uidlist", "u/dovecot-keywords");
    let is_held = |path| tree.stat(path).unwrap().is_held;
    tree.write(keywords, "0 $Later\n");
    assert!(!is_held(list));
    tree.lock().unwrap();
    let stat = tree.stat(list).unwrap();
    assert!(stat.is_held && stat.asks_each_time);
    assert!(!is_held(keywords) && !is_held("u/dovecot-uidlist.lock"));
    // What comes meanwhile changes nothing in it.
    tree.deliver("3.c");
    assert_eq!(tree.stat(list).unwrap().size, stat.size);
    tree.unlink("u/dovecot-uidlist.lock");
    assert!(!is_held(list));
}

#[test]
fn somebody_may_append_without_a_lock() {
    let tree = opened_by_dovecot();
    let (parent, _) = tree.split("u/x");
    let uidlist = tree.stat("u/dovecot-uidlist").unwrap();
    // In new/ first, then in the uidlist, as a script does that gives UIDs itself.
    tree.fs
        .space
        .lock()
        .mailbox_mut(parent)
        .unwrap()
        .facts
        .uid_next = 3;
    tree.lock().unwrap();
    tree.deliver("3.c");
    tree.fs
        .write(uidlist.ino, uidlist.size, b"7 :3.c\n")
        .unwrap();
    tree.unlink("u/dovecot-uidlist.lock");
    tree.deliver("4.d");
    assert_eq!((tree.uid("u/new/3.c"), tree.uid("u/new/4.d")), (7, 8));
}

#[test]
fn flags_and_expunges_leave_the_uidlist_alone() {
    let tree = opened_by_dovecot();
    let ino = tree.stat("u/dovecot-uidlist").unwrap().ino;
    tree.rename("u/new/1.a", "u/cur/1.a:2,");
    tree.rename("u/cur/1.a:2,", "u/cur/1.a:2,FSa");
    tree.unlink("u/new/2.b");
    assert_eq!(tree.uid("u/cur/1.a:2,FSa"), 1);
    assert_eq!(tree.stat("u/dovecot-uidlist").unwrap().ino, ino);
    tree.deliver("3.c");
    assert_eq!(
        tree.uid("u/new/3.c"),
        3,
        "an expunged UID does not come back"
    );
}

#[test]
fn a_name_that_comes_back_stands_once_in_the_uidlist() {
    let tree = opened_by_dovecot();
    tree.rename("u/new/1.a", "u/tmp/1.a");
    tree.rename("u/tmp/1.a", "u/new/1.a");
    assert_eq!(tree.uid("u/new/1.a"), 3);
    assert_eq!(
        tree.read("u/dovecot-uidlist"),
        format!("3 V9 N4 G{GUID}\n2 :2.b\n3 :1.a\n")
    );
}

#[test]
fn a_renamed_message_keeps_its_uid_and_the_uidlist_is_made_anew() {
    let tree = opened_by_dovecot();
    let ino = tree.stat("u/dovecot-uidlist").unwrap().ino;
    tree.rename("u/new/1.a", "u/cur/1.a,U=5:2,");
    assert_eq!(tree.uid("u/cur/1.a,U=5:2,"), 1);
    assert_ne!(tree.stat("u/dovecot-uidlist").unwrap().ino, ino);
    assert_eq!(
        tree.read("u/dovecot-uidlist"),
        format!("3 V9 N3 G{GUID}\n1 :1.a,U=5\n2 :2.b\n")
    );
}

#[test]
fn a_lost_uidlist_is_made_anew() {
    let tree = opened_by_dovecot();
    let ino = tree.stat("u/dovecot-uidlist").unwrap().ino;
    tree.unlink("u/dovecot-uidlist");
    assert_eq!(
        tree.read("u/dovecot-uidlist"),
        format!("3 V9 N3 G{GUID}\n1 :1.a\n2 :2.b\n")
    );
    assert_ne!(tree.stat("u/dovecot-uidlist").unwrap().ino, ino);
}

#[test]
fn a_bad_uidlist_is_shown_as_it_is_and_the_records_stay() {
    let tree = opened_by_dovecot();
    tree.records();
    for bad in [
        "3 V9 N3\n2 :1.a\n1 :2.b\n",
        "3 V8 N9\n7 :1.a\n",
        "garbage",
        "3 V9 N3\n0 :1.a\n",
        "3 V9 N3\n3 :a/b\n",
    ] {
        tree.rewrite(bad);
        assert_eq!(tree.read("u/dovecot-uidlist"), bad);
        assert_eq!(tree.records(), []);
        assert_eq!((tree.uid("u/new/1.a"), tree.facts("u").uid_next), (1, 3));
    }
    tree.unlink("u/dovecot-uidlist");
    assert!(tree.read("u/dovecot-uidlist").ends_with("1 :1.a\n2 :2.b\n"));
}

#[test]
fn a_copied_maildir_keeps_its_uids_whatever_comes_first() {
    let tree = Tree::new();
    tree.write(
        "u/dovecot-uidlist",
        &format!("3 V9 N30 G{GUID}\n17 :1.a\n20 :2.b\n"),
    );
    let ino = tree.stat("u").unwrap().ino;
    tree.fs
        .fsync(tree.fs.lookup(ino, b"dovecot-uidlist").unwrap().ino)
        .unwrap();
    // A server would have been shown it; a copying program only writes it.
    let tree = Tree::new();
    let (parent, name) = tree.split("u/dovecot-uidlist");
    let file = tree.fs.create(parent, name.as_bytes(), true).unwrap().ino;
    tree.fs
        .write(
            file,
            0,
            format!("3 V9 N30 G{GUID}\n17 :1.a\n20 :2.b\n").as_bytes(),
        )
        .unwrap();
    tree.fs.fsync(file).unwrap();
    for name in ["2.b", "1.a"] {
        tree.write(&format!("u/tmp/{name}"), "x");
        tree.rename(&format!("u/tmp/{name}"), &format!("u/cur/{name}:2,S"));
    }
    assert_eq!(
        tree.read("u/dovecot-uidlist"),
        format!("3 V9 N30 G{GUID}\n17 :1.a\n20 :2.b\n")
    );
    assert_eq!(
        (tree.uid("u/cur/1.a:2,S"), tree.uid("u/cur/2.b:2,S")),
        (17, 20)
    );
    assert_eq!(tree.facts("u").uid_next, 30);
}

#[test]
fn the_greatest_uidvalidity_is_a_fact() {
    let tree = Tree::new();
    tree.write("u/dovecot-uidvalidity.0000000a", "");
    tree.write("u/dovecot-uidvalidity", "0000000a");
    tree.rename(
        "u/dovecot-uidvalidity.0000000a",
        "u/dovecot-uidvalidity.0000000b",
    );
    assert_eq!(tree.facts("u").uid_validity_issued, 11);
    let main = tree.stat("u/dovecot-uidvalidity").unwrap();
    tree.fs.write(main.ino, 0, b"0000000b").unwrap();
    tree.fs.commit_rested(true);
    tree.unlink("u/dovecot-uidvalidity");
    assert_eq!(tree.read("u/dovecot-uidvalidity"), "0000000b");
    assert!(tree.stat("u/dovecot-uidvalidity.0000000b").is_ok());
}

#[test]
fn subscriptions_are_one_for_both_servers() {
    let tree = Tree::new();
    tree.write("u/subscriptions.lock", "V\t2\n\nINBOX\nlists\tgit\n");
    tree.rename("u/subscriptions.lock", "u/subscriptions");
    assert_eq!(
        tree.read("u/courierimapsubscribed"),
        "INBOX\nINBOX.lists.git\n"
    );
    tree.write("u/tmp/sub", "INBOX\nINBOX.lists.git\nINBOX.x\n");
    tree.rename("u/tmp/sub", "u/courierimapsubscribed");
    assert_eq!(
        tree.read("u/subscriptions"),
        "V\t2\n\nINBOX\nlists\tgit\nx\n"
    );
    assert_eq!(
        tree.read("u/courierimapsubscribed"),
        "INBOX\nINBOX.lists.git\nINBOX.x\n"
    );
}

#[test]
fn a_message_copied_by_link_has_a_uid_in_each_folder() {
    let tree = opened_by_dovecot();
    for path in ["w", "w/cur", "w/new", "w/tmp"] {
        let (parent, name) = tree.split(path);
        tree.fs.mkdir(parent, name.as_bytes()).unwrap();
    }
    tree.write("w/dovecot-uidlist", "3 V5 N40\n");
    tree.fs.commit_rested(true);
    tree.link("u/new/1.a", "w/tmp/1.a").unwrap();
    tree.rename("w/tmp/1.a", "w/cur/1.a:2,");
    assert_eq!((tree.uid("u/new/1.a"), tree.uid("w/cur/1.a:2,")), (1, 40));
    // A message moved to another folder is a new one there.
    tree.rename("u/new/2.b", "w/new/2.b");
    assert_eq!(tree.uid("w/new/2.b"), 41);
}

#[test]
fn a_local_file_older_than_the_records_is_made_anew() {
    let tree = opened_by_dovecot();
    let path = tree.memory.local.join("u/dovecot-uidlist");
    let folder = tree.stat("u").unwrap().ino;
    let forget = |content: &str| {
        tree.unlink("u/dovecot-uidlist");
        tree.write("u/dovecot-uidlist", content);
        let mut space = tree.fs.space.lock();
        space
            .mailbox_mut(folder)
            .unwrap()
            .view_mut(super::Index::Uidlist)
            .unwrap()
            .forget();
        space.written.clear();
        drop(space);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    };
    // As after a mount: nothing is known of the file.
    forget("3 V9 N2\n1 :1.a\n");
    assert_eq!(
        tree.read("u/dovecot-uidlist"),
        format!("3 V9 N3 G{GUID}\n1 :1.a\n2 :2.b\n")
    );
    // A UID that a crash took from the records.
    forget(&format!("3 V9 N3 G{GUID}\n1 :1.a\n5 :2.b\n"));
    assert_eq!(
        tree.read("u/dovecot-uidlist"),
        format!("3 V9 N3 G{GUID}\n1 :1.a\n5 :2.b\n")
    );
    assert_eq!((tree.uid("u/new/2.b"), tree.facts("u").uid_next), (5, 6));
    let _ = TreePath::root();
}
