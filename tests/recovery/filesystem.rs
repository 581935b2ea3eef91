//! The filesystem over a store on a disk that forgets: what a mail program was told is durable is there after a crash at any write.
//!
//! A call that the policy makes durable promises all calls before it too, because records keep the order of changes. So
//! after a crash the tree is that after some call, none before the last promise.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};

use mailbraid::config::Durability;
use mailbraid::fs::{Fs, FsOptions, Ino, ROOT, RenameFlags};
use mailbraid::store::{Backing, LiveView, Store, Switch, Switched};

use super::crash::{Crash, Notes, record};
use super::labels::{files, sequences};
use super::store::{Tree, options};
use crate::support::seed;

/// A note: the tree after so many calls is durable.
type Promise = usize;

/// The filesystem as the store sees it, without keeping it: it keeps the store, and both must end within this process.
struct View(Weak<Fs>);

impl LiveView for View {
    fn committed(&self, seq: u64) {
        if let Some(fs) = self.0.upgrade() {
            fs.committed(seq);
        }
    }

    fn braided(&self, switch: &mut dyn Switch) -> std::io::Result<Switched> {
        match self.0.upgrade() {
            Some(fs) => fs.braided(switch),
            None => Ok(Switched::Overtaken),
        }
    }
}

/// The filesystem under the script, and the trees that it went through.
struct Script<'a> {
    fs: Arc<Fs>,
    store: Arc<Store>,
    policy: Durability,
    notes: &'a Notes<'a, Promise>,
    trees: &'a mut Vec<Tree>,
}

impl<'a> Script<'a> {
    fn mount(
        root: &Path,
        policy: Durability,
        notes: &'a Notes<'a, Promise>,
        trees: &'a mut Vec<Tree>,
    ) -> Self {
        let store = Store::open(&root.join("store"), &options()).expect("opened");
        let fs = Fs::new(
            Arc::clone(&store) as Arc<dyn Backing>,
            FsOptions {
                uid: 0,
                gid: 0,
                umask: 0o077,
                read_only: false,
                durability: policy,
                assign_uids: true,
            },
        )
        .expect("a filesystem over the store");
        store.attach(Arc::new(View(Arc::downgrade(&fs))));
        Self {
            fs,
            store,
            policy,
            notes,
            trees,
        }
    }

    fn find(&self, path: &str) -> Ino {
        path.split('/').fold(ROOT, |parent, name| {
            self.fs
                .lookup(parent, name.as_bytes())
                .expect("it is there")
                .ino
        })
    }

    fn place<'p>(&self, path: &'p str) -> (Ino, &'p [u8]) {
        match path.rsplit_once('/') {
            Some((dir, name)) => (self.find(dir), name.as_bytes()),
            None => (ROOT, path.as_bytes()),
        }
    }

    /// A call has returned: the tree changed so, and the call promises durability always, or under the strict policy alone.
    fn returned(&mut self, change: impl FnOnce(&mut Tree), promises: bool) {
        let mut tree = self.trees.last().cloned().unwrap_or_default();
        change(&mut tree);
        self.trees.push(tree);
        self.promise(promises);
    }

    fn promise(&self, promises: bool) {
        if promises || self.policy == Durability::Strict {
            self.notes.note(self.trees.len() - 1);
        }
    }

    fn mkdir(&mut self, path: &str) {
        let (parent, name) = self.place(path);
        self.fs.mkdir(parent, name).expect("made");
        self.returned(|_| (), false);
    }

    fn create(&mut self, path: &str, content: &[u8]) -> Ino {
        let (parent, name) = self.place(path);
        let ino = self.fs.create(parent, name, true).expect("created").ino;
        for (at, piece) in content.chunks(4096).enumerate() {
            self.fs
                .write(ino, at as u64 * 4096, piece)
                .expect("written");
        }
        self.fs.fsync(ino).expect("synced");
        self.fs.release(ino);
        ino
    }

    /// As every delivery agent does it.
    fn deliver(&mut self, number: usize, len: usize) {
        let tmp = format!("u/tmp/{number}.M1P1.vm");
        let content = mail(number, len);
        self.create(&tmp, &content);
        let new = format!("u/new/{number}.M1P1.vm");
        self.move_file(&tmp, &new);
        self.returned(|tree| drop(tree.insert(new, content)), true);
    }

    fn move_file(&self, from: &str, to: &str) {
        let (parent, name) = self.place(from);
        let (new_parent, new_name) = self.place(to);
        self.fs
            .rename(parent, name, new_parent, new_name, RenameFlags::default())
            .expect("renamed");
    }

    /// A rename of a committed file; into another folder it is a delivery there.
    fn rename(&mut self, from: &str, to: &str, promises: bool) {
        self.move_file(from, to);
        self.returned(
            |tree| {
                let moved = tree.remove(from).expect("it is there");
                tree.insert(to.to_owned(), moved);
            },
            promises,
        );
    }

    /// Dovecot's COPY: a link into the other folder's `tmp/`, then a rename under the same name. No new mail, so no promise but that of the order.
    fn copy(&mut self, from: &str, to_folder: &str, name: &str) {
        let ino = self.find(from);
        let (tmp, _) = self.place(&format!("{to_folder}/tmp/x"));
        self.fs.link(ino, tmp, name.as_bytes()).expect("linked");
        let to = format!("{to_folder}/cur/{name}");
        self.move_file(&format!("{to_folder}/tmp/{name}"), &to);
        self.returned(
            |tree| {
                let content = tree[from].clone();
                tree.insert(to, content);
            },
            false,
        );
    }

    fn unlink(&mut self, path: &str) {
        let (parent, name) = self.place(path);
        self.fs.unlink(parent, name).expect("removed");
        self.returned(|tree| drop(tree.remove(path)), false);
    }

    /// A file that is written where it stands, and synced.
    fn write_other(&mut self, path: &str, content: &[u8]) {
        let (parent, name) = self.place(path);
        let ino = self.fs.create(parent, name, true).expect("created").ino;
        // The empty file is a state of its own.
        self.returned(|tree| drop(tree.insert(path.to_owned(), Vec::new())), false);
        self.fs.write(ino, 0, content).expect("written");
        self.fs.fsync(ino).expect("synced");
        self.returned(
            |tree| drop(tree.insert(path.to_owned(), content.to_vec())),
            true,
        );
        self.fs.release(ino);
    }
}

fn mail(number: usize, len: usize) -> Vec<u8> {
    format!("Subject: mail {number}\n\n")
        .bytes()
        .cycle()
        .take(len)
        .collect()
}

fn run(root: &Path, policy: Durability, notes: &Notes<'_, Promise>, trees: &mut Vec<Tree>) {
    for mount in 0..2 {
        let mut script = Script::mount(root, policy, notes, trees);
        if mount == 0 {
            for dir in [
                "u",
                "u/tmp",
                "u/new",
                "u/cur",
                "u/.Old",
                "u/.Old/tmp",
                "u/.Old/cur",
                "u/.Old/new",
            ] {
                script.mkdir(dir);
            }
            script.write_other("u/.dovecot.sieve", b"keep;\n");
        }
        let first = 10 * mount;
        for number in first..first + 4 {
            script.deliver(number, 400 + 900 * (number % 4));
            let cur = format!("u/cur/{number}.M1P1.vm:2,");
            script.rename(&format!("u/new/{number}.M1P1.vm"), &cur, false);
            match number - first {
                0 => script.rename(&cur, &format!("{cur}S"), false),
                1 => {
                    script.copy(&cur, "u/.Old", &format!("{number}.M1P1.vm:2,"));
                    script.unlink(&cur);
                }
                2 => script.unlink(&cur),
                _ => drop(script.create("u/dovecot.index.log", b"server-local")),
            }
        }
        // Larger than a record takes: spilled.
        script.deliver(first + 5, 100_000);
        script.store.flush().expect("committed");
        script.deliver(first + 6, 500);
        if mount == 0 {
            let (parent, name) = script.place("u/dovecot.index.log");
            script.fs.unlink(parent, name).expect("removed");
        }
        // Before the filesystem goes, lest the store's own thread be the last to let go of it.
        script.store.stop();
    }
}

fn every_crash(policy: Durability) {
    let mut trees = vec![Tree::new()];
    let recorded = record(|root, notes| run(root, policy, notes, &mut trees));
    let seed = seed();
    let verified = recorded.crash_everywhere(seed..seed + 1, |root, notes, crash| {
        verify(root, notes, crash, &trees);
    });
    println!(
        "{policy:?}: {} calls, {} events, {verified} different crashes",
        trees.len() - 1,
        recorded.events.len()
    );
    assert!(verified > recorded.events.len());
}

fn verify(root: &Path, notes: &[(usize, Promise)], crash: Crash, trees: &[Tree]) {
    let path = root.join("store");
    let promised = notes.iter().map(|(_, calls)| *calls).max().unwrap_or(0);
    let store = Store::open(&path, &options()).unwrap_or_else(|error| panic!("{crash}: {error}"));
    let found: Tree = files(&path).into_iter().collect();
    let names = |tree: &Tree| -> BTreeMap<String, usize> {
        tree.iter()
            .map(|(path, content)| (path.clone(), content.len()))
            .collect()
    };
    assert!(
        trees[promised..].contains(&found),
        "{crash}: {:?} was promised, {:?} is there",
        names(&trees[promised]),
        names(&found)
    );
    let last = store.status().journal.committed;
    drop(store);
    assert_eq!(sequences(&path), last, "{crash}");
}

#[test]
fn every_crash_keeps_what_the_delivery_policy_promised() {
    every_crash(Durability::Delivery);
}

#[test]
fn every_crash_keeps_what_the_strict_policy_promised() {
    every_crash(Durability::Strict);
}
