//! `cargo bench --bench braid`: what a braid reads and how long it takes, by the size of the mailbox and the number of changes on each side; and beside it
//! `git merge-tree --write-tree` on the same mailbox as one flat tree.
//!
//! A side's changes are flags (half of them), expunges and deliveries (a quarter each); no message is changed by both sides unless both change more than half of
//! them. The mails are small: a merge
//! never reads them. git is told not to look for renames, which it would take a flag change for; it keeps both names of a message that both sides flag.
//!
//! Arguments: sizes of the mailbox, else 10,000, 100,000 and 1,000,000.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use mailbraid::history::{
    CommitText, Graph, HistoryError, InitOptions, Maintenance, Repo, Writer, hash_blob, maintain,
};
use mailbraid::maildir::{Attrs, Content, HashKind, MailboxFacts, Oid, Op, TreePath};
use mailbraid::merge::{Node, Trees, World, braid};
use mailbraid::store::world::BraidWorld;

const KIND: HashKind = HashKind::Sha1;
const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
const CHANGES: [usize; 3] = [100, 1_000, 10_000];
/// Runs of each case; the shortest time counts.
const RUNS: usize = 3;
const MAIL: &[u8] = b"a mail\n";

/// The repository, and which objects were asked for.
struct Counted<'a> {
    world: BraidWorld<'a>,
    read: RefCell<HashSet<Oid>>,
}

impl Trees for Counted<'_> {
    type Error = HistoryError;

    fn node(&self, tree: Oid) -> Result<Arc<Node>, HistoryError> {
        self.read.borrow_mut().insert(tree);
        self.world.node(tree)
    }

    fn blob(&self, blob: Oid) -> Result<Vec<u8>, HistoryError> {
        self.read.borrow_mut().insert(blob);
        self.world.blob(blob)
    }

    fn hash(&self, content: &[u8]) -> Oid {
        self.world.hash(content)
    }
}

impl World for Counted<'_> {
    fn tree(&self, commit: Oid) -> Result<Oid, HistoryError> {
        self.world.tree(commit)
    }

    fn time(&self, commit: Oid) -> Result<i64, HistoryError> {
        self.world.time(commit)
    }

    fn merge_bases(&self, left: &[Oid], right: &[Oid]) -> Result<Vec<Oid>, HistoryError> {
        self.world.merge_bases(left, right)
    }

    fn uid_next_before(
        &self,
        heads: &[Oid],
        bases: &[Oid],
        validity: u32,
    ) -> Result<Option<u32>, HistoryError> {
        self.world.uid_next_before(heads, bases, validity)
    }

    fn build(&mut self, on: Option<Oid>, ops: &[Op]) -> Result<Oid, HistoryError> {
        self.world.build(on, ops)
    }
}

fn name(number: usize, flags: &str) -> String {
    let time = 1_795_000_000 + number * 7;
    format!(
        "{time}.M{}P{}.vm,S=7:2,{flags}",
        number * 7919 % 1_000_000,
        1000 + number % 977
    )
}

fn path(number: usize, flags: &str) -> TreePath {
    TreePath::new(format!("u/cur/{}", name(number, flags)))
}

fn put(number: usize, uid: usize) -> Op {
    Op::Put {
        path: path(number, ""),
        oid: hash_blob(KIND, MAIL),
        content: Content::Spilled,
        attrs: Attrs {
            uid: Some(uid as u32),
            mtime: 1_795_000_000 + number as i64 * 7,
            size: 7,
            ..Attrs::default()
        },
    }
}

fn facts(uid_next: usize) -> Op {
    Op::SetMailbox {
        folder: TreePath::new("u"),
        facts: MailboxFacts {
            uid_validity: 7,
            uid_next: uid_next as u32,
            guid: Some(b"0123456789abcdef".to_vec()),
            ..MailboxFacts::default()
        },
    }
}

fn text(what: &str) -> CommitText {
    CommitText {
        node: "bench".to_owned(),
        time: 1_795_500_000,
        message: what.as_bytes().to_vec(),
        extra_parents: Vec::new(),
    }
}

/// One change of a side.
enum Edit {
    Flag(usize),
    Expunge(usize),
    Deliver(usize),
}

/// The changes of a side, spread over the mailbox.
fn edits(side: usize, count: usize, size: usize) -> Vec<Edit> {
    let changed = (0..count).map(|at| {
        // Different for each change: the step and the size have no divisor in common. The sides meet where they change more than half of the messages.
        let number = (at + side * size / 2) * 7_368_787 % size;
        match (at + side) % 4 {
            0 | 1 => Edit::Flag(number),
            2 => Edit::Expunge(number),
            _ => Edit::Deliver(size + at * 2 + side),
        }
    });
    changed.collect()
}

fn ops(edits: &[Edit], size: usize) -> Vec<Op> {
    let mut next = size + 1;
    let mut ops: Vec<Op> = edits
        .iter()
        .map(|edit| match *edit {
            Edit::Flag(number) => Op::Rename {
                from: path(number, ""),
                to: path(number, "S"),
            },
            Edit::Expunge(number) => Op::Remove {
                path: path(number, ""),
            },
            Edit::Deliver(number) => {
                let op = put(number, next);
                next += 1;
                match op {
                    Op::Put {
                        path, oid, attrs, ..
                    } => Op::Put {
                        path,
                        oid,
                        content: Content::Existing,
                        attrs,
                    },
                    other => other,
                }
            }
        })
        .collect();
    ops.push(facts(next));
    ops
}

/// A mailbox, committed, in one pack.
fn fill(repo: &Repo, size: usize) -> Oid {
    let mut writer = Writer::new(repo, None).unwrap();
    for dir in ["u", "u/cur", "u/new", "u/tmp"] {
        let path = TreePath::new(dir);
        writer.apply(&Op::Mkdir { path }, None).unwrap();
    }
    for number in 0..size {
        writer.apply(&put(number, number + 1), Some(MAIL)).unwrap();
    }
    writer.apply(&facts(size + 1), None).unwrap();
    writer.commit(&text("import\n")).unwrap();
    writer.flush().unwrap();
    let base = writer.tip().unwrap();
    drop(writer);
    maintain(repo, Maintenance::Full).unwrap();
    base
}

/// A head on the base.
fn head(repo: &Repo, base: Oid, ops: &[Op], what: &str) -> Oid {
    let graph = Graph::new(repo);
    let mut world = BraidWorld::new(repo, &graph).unwrap();
    let tree = world.tree(base).unwrap();
    let tree = world.build(Some(tree), ops).unwrap();
    let head = world.weaver.commit(tree, &[base], &text(what));
    world.weaver.install().unwrap();
    head
}

struct Measured {
    seconds: f64,
    processor: f64,
    read: usize,
}

/// Seconds of processor time of this process.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn ours(repo: &Repo, heads: [Oid; 2]) -> Measured {
    let mut best: Option<Measured> = None;
    for _ in 0..RUNS {
        let graph = Graph::new(repo);
        let (since, used) = (Instant::now(), cpu());
        let mut world = Counted {
            world: BraidWorld::new(repo, &graph).unwrap(),
            read: RefCell::default(),
        };
        let merged = braid(&mut world, &heads).unwrap().unwrap();
        let (seconds, processor) = (since.elapsed().as_secs_f64(), cpu() - used);
        assert_eq!(merged.parents.len(), 2);
        let read = world.read.borrow().len();
        if best.as_ref().is_none_or(|best| seconds < best.seconds) {
            best = Some(Measured {
                seconds,
                processor,
                read,
            });
        }
    }
    best.unwrap()
}

fn git(dir: &Path, args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(args)
        .envs([("GIT_AUTHOR_NAME", "b"), ("GIT_AUTHOR_EMAIL", "b")])
        .envs([("GIT_COMMITTER_NAME", "b"), ("GIT_COMMITTER_EMAIL", "b")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git is missing: run tests/run");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    // 1: conflicts are left.
    let is_done = output.status.code().is_some_and(|code| code <= 1);
    assert!(is_done, "git {args:?} failed");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The mailbox as one flat tree, in a repository of its own.
fn flat(dir: &Path, blob: &str, edits: &[Edit], size: usize, parent: Option<&str>) -> String {
    let mut flags = vec![Some(""); size];
    let mut extra = Vec::new();
    for edit in edits {
        match *edit {
            Edit::Flag(number) => flags[number] = Some("S"),
            Edit::Expunge(number) => flags[number] = None,
            Edit::Deliver(number) => extra.push(number),
        }
    }
    let kept = flags.into_iter().enumerate();
    let kept = kept.filter_map(|(number, flags)| Some((number, flags?)));
    let mut list = String::new();
    for (number, flags) in kept.chain(extra.into_iter().map(|number| (number, ""))) {
        list.push_str(&format!("100644 blob {blob}\t{}\n", name(number, flags)));
    }
    let tree = git(dir, &["mktree"], list.as_bytes());
    let mut args = vec!["commit-tree", &tree, "-m", "x"];
    if let Some(parent) = parent {
        args.extend(["-p", parent]);
    }
    git(dir, &args, b"")
}

fn gits(dir: &Path, heads: &[String; 2]) -> f64 {
    let args = [
        "-c",
        "merge.renames=false",
        "merge-tree",
        "--write-tree",
        &heads[0],
        &heads[1],
    ];
    let runs = (0..RUNS).map(|_| {
        let since = Instant::now();
        git(dir, &args, b"");
        since.elapsed().as_secs_f64()
    });
    runs.fold(f64::INFINITY, f64::min)
}

fn main() {
    let wanted: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let sizes = if wanted.is_empty() {
        SIZES.to_vec()
    } else {
        wanted
    };
    println!(
        "{:>9} {:>14} {:>13} {:>10} {:>13} {:>16}",
        "messages", "changes a side", "objects read", "braid", "of processor", "git merge-tree"
    );
    for size in sizes {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions {
            kind: KIND,
            node: "bench".to_owned(),
        };
        let repo = Repo::init(&dir.path().join("repo.git"), &options).unwrap();
        let base = fill(&repo, size);
        let plain = dir.path().join("flat.git");
        std::fs::create_dir(&plain).unwrap();
        git(&plain, &["init", "-q", "--bare"], b"");
        let blob = git(&plain, &["hash-object", "-w", "--stdin"], MAIL);
        let plain_base = flat(&plain, &blob, &[], size, None);
        for count in CHANGES {
            let sides = [0, 1].map(|side| edits(side, count, size));
            let heads = [0, 1].map(|side| {
                let what = format!("side {side}\n");
                head(&repo, base, &ops(&sides[side], size), &what)
            });
            let measured = ours(&repo, heads);
            let plain_heads =
                [0, 1].map(|side| flat(&plain, &blob, &sides[side], size, Some(&plain_base)));
            let seconds = gits(&plain, &plain_heads);
            println!(
                "{size:>9} {count:>14} {:>13} {:>8.3} s {:>11.3} s {seconds:>14.3} s",
                measured.read, measured.seconds, measured.processor
            );
        }
    }
}
