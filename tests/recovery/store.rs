//! The whole store on a disk that forgets: deliveries, flag changes, moves and deletions, commits and maintenance, and a crash at every write.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use mailbraid::history::{InitOptions, Maintenance, maintain};
use mailbraid::journal;
use mailbraid::maildir::{Attrs, Content, HashKind, Op, TreePath};
use mailbraid::store::{Backing, OpenOptions, Store};

use super::crash::{Crash, Notes, record, sync_all};
use super::disk::Tear;
use super::labels::{files, sequences};
use crate::support::seed;

pub(super) fn options() -> OpenOptions {
    OpenOptions {
        create: Some(InitOptions {
            kind: HashKind::Sha1,
            node: "a".to_owned(),
        }),
        journal: journal::Options {
            segment_bytes: 16 * 1024,
            ..journal::Options::default()
        },
    }
}

/// The files of a mail tree, by path.
pub(super) type Tree = BTreeMap<String, Vec<u8>>;

/// The tree after each operation; the first is empty.
struct Model(Vec<Tree>);

impl Model {
    fn apply(&mut self, op: &Op, content: &[u8]) {
        let mut tree = self.0.last().cloned().unwrap_or_default();
        match op {
            Op::Put { path, .. } => {
                tree.insert(path.to_string(), content.to_vec());
            }
            Op::Rename { from, to } => {
                let moved = tree.remove(&from.to_string()).expect("it is there");
                tree.insert(to.to_string(), moved);
            }
            Op::Remove { path } => {
                tree.remove(&path.to_string()).expect("it is there");
            }
            Op::Mkdir { .. } => {}
            other => panic!("not in this script: {other:?}"),
        }
        self.0.push(tree);
    }
}

/// The store under the script; a note is the last operation known to be durable.
struct Script<'a> {
    store: Arc<Store>,
    notes: &'a Notes<'a, u64>,
    model: &'a mut Model,
}

impl Script<'_> {
    fn append(&mut self, op: &Op, content: &[u8]) -> u64 {
        let seq = self.store.append(op).expect("appended");
        self.model.apply(op, content);
        assert_eq!(seq, self.model.0.len() as u64 - 1);
        seq
    }

    fn durable(&self, seq: u64) {
        self.store.wait_durable(seq).expect("durable");
        self.notes.note(seq);
    }

    fn mkdir(&mut self, path: &str) {
        let op = Op::Mkdir {
            path: TreePath::new(path),
        };
        self.append(&op, b"");
    }

    fn put(&mut self, path: &str, content: &[u8], how: Content) -> u64 {
        let op = Op::Put {
            path: TreePath::new(path),
            oid: self.store.hash(content),
            content: how,
            attrs: Attrs {
                mtime: 7,
                size: content.len() as u64,
                ..Attrs::default()
            },
        };
        self.append(&op, content)
    }

    fn deliver(&mut self, path: &str, content: &[u8]) {
        let seq = self.put(path, content, Content::Inline(content.to_vec()));
        self.durable(seq);
    }

    /// As the filesystem spills a large message: file and directory are synced before the record is written.
    fn spill(&mut self, path: &str, content: &[u8]) {
        let dir = self.store.spill_dir();
        let mut file =
            File::create(dir.join(self.store.hash(content).to_string())).expect("created");
        file.write_all(content)
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(dir)?.sync_all())
            .expect("spilled");
        let seq = self.put(path, content, Content::Spilled);
        self.durable(seq);
    }

    fn rename(&mut self, from: &str, to: &str) -> u64 {
        let op = Op::Rename {
            from: TreePath::new(from),
            to: TreePath::new(to),
        };
        self.append(&op, b"")
    }

    fn remove(&mut self, path: &str) -> u64 {
        let op = Op::Remove {
            path: TreePath::new(path),
        };
        self.append(&op, b"")
    }
}

fn mail(number: usize) -> Vec<u8> {
    let mut text = format!("Subject: mail {number}\n\n").into_bytes();
    text.extend((0..300 + number * 37).map(|at| b'a' + ((at * at + number) % 26) as u8));
    text
}

fn run(root: &Path, notes: &Notes<'_, u64>, model: &mut Model) {
    let path = root.join("store");
    for mount in 0..2 {
        let mut script = Script {
            store: Store::open(&path, &options()).expect("opened"),
            notes,
            model,
        };
        if mount == 0 {
            for dir in ["u", "u/new", "u/cur", "u/.Old", "u/.Old/cur"] {
                script.mkdir(dir);
            }
        }
        for step in 0..8 {
            let number = mount * 100 + step;
            let new = format!("u/new/{number}.M1P1.vm");
            let cur = format!("u/cur/{number}.M1P1.vm:2,");
            script.deliver(&new, &mail(number));
            script.rename(&new, &cur);
            match step {
                1 => {
                    let seq = script.rename(&cur, &format!("{cur}S"));
                    script.durable(seq);
                }
                2 => {
                    script.spill(&format!("u/new/{number}.M2P1.vm"), &mail(number + 3000));
                    script.store.flush().expect("committed");
                }
                3 => {
                    let seq = script.rename(&cur, &format!("u/.Old/cur/{number}.M1P1.vm:2,"));
                    script.durable(seq);
                    script.store.flush().expect("committed");
                }
                4 => {
                    let seq = script.remove(&cur);
                    script.durable(seq);
                    script.store.flush().expect("committed");
                }
                5 => {
                    script.store.flush().expect("committed");
                    maintain(script.store.repo(), Maintenance::Full).expect("maintained");
                }
                6 => {
                    script.store.flush().expect("committed");
                    maintain(script.store.repo(), Maintenance::Geometric).expect("maintained");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn every_crash_of_a_store_keeps_what_was_acknowledged() {
    let mut model = Model(vec![Tree::new()]);
    let recorded = record(|root, notes| run(root, notes, &mut model));
    let seed = seed();
    let verified = recorded.crash_everywhere(seed..seed + 1, |root, notes, crash| {
        verify(root, notes, crash, &model);
    });
    println!(
        "{} operations, {} events, {verified} different crashes",
        model.0.len() - 1,
        recorded.events.len()
    );
    assert!(verified > recorded.events.len());
}

/// A remount that commits what the journal holds may itself be cut short at any point.
#[test]
fn every_crash_of_a_remount_is_recovered_from() {
    let mut model = Model(vec![Tree::new()]);
    let first = record(|root, notes| {
        let mut script = Script {
            store: Store::open(&root.join("store"), &options()).expect("opened"),
            notes,
            model: &mut model,
        };
        script.mkdir("u");
        script.mkdir("u/new");
        for number in 0..12 {
            script.deliver(&format!("u/new/{number}.M1P1.vm"), &mail(number));
            script.spill(&format!("u/new/{number}.M2P1.vm"), &mail(number + 3000));
        }
    });
    let seed = seed();
    let mut total = 0;
    // Where an operation was just acknowledged, its commit is seldom made.
    for &(after, acknowledged) in first.notes.iter().skip(2).step_by(7) {
        let mut ahead = 0;
        let again = record(|root, notes| {
            let tear = Tear::Strict;
            first.image(Crash { after, tear }).materialise(root);
            sync_all(root);
            notes.note(acknowledged);
            notes.start();
            let store = Store::open(&root.join("store"), &options()).expect("opened");
            ahead = store.status().journal.committed;
        });
        assert!(ahead >= acknowledged);
        let verified = again.crash_everywhere(seed..seed + 2, |root, notes, crash| {
            verify(root, notes, crash, &model);
        });
        println!(
            "{} events, {verified} different crashes",
            again.events.len()
        );
        total += verified;
    }
    assert!(total > 40, "only {total} crashes");
}

/// A remount, unaided: every acknowledged operation is in the history once and in order, the tree is what they make, git finds no fault.
fn verify(root: &Path, notes: &[(usize, u64)], crash: Crash, model: &Model) {
    let path = root.join("store");
    let acknowledged = notes.iter().map(|(_, seq)| *seq).max().unwrap_or(0);
    let store = Store::open(&path, &options()).unwrap_or_else(|error| panic!("{crash}: {error}"));
    let last = store.status().journal.committed;
    assert!(
        acknowledged <= last && last < model.0.len() as u64,
        "{crash}: {acknowledged} was acknowledged, {last} is the last"
    );
    let found: Tree = files(&path).into_iter().collect();
    assert_eq!(found, model.0[last as usize], "{crash}: after {last}");
    // It goes on.
    let content = b"after the crash";
    let seq = store
        .append(&Op::Put {
            path: TreePath::new("after"),
            oid: store.hash(content),
            content: Content::Inline(content.to_vec()),
            attrs: Attrs::default(),
        })
        .unwrap_or_else(|error| panic!("{crash}: {error}"));
    drop(store);
    assert_eq!(sequences(&path), seq, "{crash}");
    assert_eq!(seq, last + 1, "{crash}");
    let leftovers = fs::read_dir(path.join("local/spill"))
        .expect("listed")
        .count();
    assert_eq!(leftovers, 0, "{crash}");
}
